"""The acceptance test: an iteration that does not lower the objective as its model predicted is taken back everywhere.

# Design
# The signed rule is bold where the models agree, and its objective may rise. Here all agents have one tau and take one
# decision, from numbers that `sum_agents` returned: the objective at the mean of the weights before and after, and the
# mean of the decreases that the models predicted. A trial that is refused costs its message; what it measured of the
# curvature is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.algorithms.signed import SignedRule
from dnnext.kernels.sums import row_dots, row_norms
from dnnext.network.network import Network as FixedNetwork

if TYPE_CHECKING:
    from dnnext.local import LocalModel, Surrogate
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

__all__ = ["RatioRule"]

Array = np.ndarray[Any, np.dtype[Any]]

ACCEPT = 1e-4
CAP = 1e8  # times b
EQUAL = 450  # roundings within which two objectives count as equal


class RatioRule(SignedRule):
    """The signed rule with one tau for all agents, and a test by the gain ratio of Levenberg and Marquardt [1]_.

    With ``D_i = z_i - w_i``, r the penalty, U the objective at the mean of the weights and t_i what the signed rule
    (safeguard 0.15, first tau 3 b) would choose,

        pred = mean_i [ -A y_i'D_i - D_i'B_i D_i / 2 + r(w_i) - r(z_i) ]
        rho  = (U(w_bar) - U(w_bar+)) / pred
        rho > 1e-4:  tau = mean_i t_i,  nu = 2
        else:        every agent back to w_i, y_i, grad_i;  tau = max(mean_i t_i, 2 nu tau),  nu = 2 nu

    Differences of U within rounding count as none. The pairs of the quasi-Newton correction are learnt from refused
    trials, too; the alarm does not see them. Every iteration then ends with an objective that is no higher. It needs
    models that agree: shared curvature or one agent, on a fixed graph or a schedule without losses.

    References
    ----------
    .. [1] J. J. More, The Levenberg-Marquardt algorithm: implementation and theory, Numerical Analysis, Lecture Notes
       in Mathematics 630 (1978): the gain ratio, section 4.
    """

    first, safeguard = 3.0, 0.15

    def check(self, problem: Problem, network: Network, surrogate: Surrogate) -> None:
        """ValueError for curvature that differs between agents, or messages that may be lost.

        Raises
        ------
        ValueError
            A sentence that says what to use.
        """
        if problem.n_agents > 1 and not surrogate.is_shared:
            raise ValueError(
                f"tau='ratio' needs models that agree at all agents, got surrogate={surrogate!r}: use "
                "PartialLinearization(curvature='shared'), or tau='auto'."
            )
        if type(network) is not FixedNetwork:
            raise ValueError(
                f"tau='ratio' takes iterations back, which {type(network).__name__} cannot: use a Network, or "
                "tau='auto'."
            )

    def update(self, s: State, model: LocalModel) -> None:
        """t_i into s.tau; the tau of this trial is kept for `settle`."""
        if "ratio.objective" not in s.memory:
            n = len(s.w)
            s.memory["ratio.objective"] = np.full(n, _objective(model.problem, s.w_old)[0])
            s.memory["ratio.nu"] = np.full(n, 2.0)
        super().update(s, model)

    def settle(self, s: State, model: LocalModel) -> None:
        """Accept, or take the trial back at every agent."""
        problem, tau = model.problem, float(model.tau[0])
        mine = np.stack([_predicted(s, model), np.where(np.isfinite(s.tau), s.tau, tau)], axis=1)
        predicted, wanted = problem.runtime.sum_agents(mine) / problem.n_agents
        objective, is_finite = _objective(problem, s.w)
        before, nu = float(s.memory["ratio.objective"][0]), float(s.memory["ratio.nu"][0])
        gain, slack = before - objective, EQUAL * np.finfo(problem.dtype).eps * abs(before)
        if problem.dtype == np.float32:
            slack /= 100  # values are added up in float64
        if is_finite and (abs(gain) <= slack or (gain > 0 and gain > ACCEPT * predicted)):
            s.memory["ratio.objective"][:], s.memory["ratio.nu"][:] = objective, 2.0
            s.memory["ratio.values"] = s.values.copy()
            s.tau = np.full_like(s.tau, wanted)
            return
        s.w, s.y = s.w_old.copy(), s.y_old.copy()
        s.values = s.memory["ratio.values"].copy() if "ratio.values" in s.memory else problem.local_values(s.w)
        s.grad, s.spare = s.spare, s.grad
        s.disagreement, s.size, s.squares = np.zeros(len(s.w)), row_norms(s.w), None
        s.tau = np.full_like(s.tau, min(max(wanted, 2 * nu * tau), CAP * s.unit))
        s.memory["ratio.nu"][:] = 2 * nu


def _objective(problem: Problem, w: Array) -> tuple[float, bool]:
    """U at the mean of the weights, and whether it is a number."""
    mean = np.asarray(problem.runtime.sum_agents(w) / problem.n_agents, dtype=problem.dtype)
    value = problem.value(mean) if np.all(np.isfinite(mean)) else np.inf
    return value, bool(np.isfinite(value))


def _predicted(s: State, model: LocalModel) -> Array:
    """What every agent's model promised of z_i against w_i, (n_local,)."""
    problem, r = model.problem, model.problem.penalty
    step = s.z.astype(np.float64) - s.w_old
    curved = model.product(step)
    decrease = -problem.n_agents * row_dots(step, s.y_old)
    if curved is not None:
        decrease -= 0.5 * row_dots(step, np.asarray(curved))
    return np.asarray(decrease + [r.value(old) - r.value(new) for old, new in zip(s.w_old, s.z, strict=True)])
