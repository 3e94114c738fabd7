"""The acceptance test: an iteration that does not lower the objective as its model predicted is taken back everywhere.

# Design
# The signed rule is bold where the models agree, and its objective may rise. Here all agents have one tau and take one
# decision, from numbers that `sum_agents` returned: the objective at the mean of the weights before and after, and the
# mean of the decreases that the models predicted. The loop would gather the weights for its history and for the votes
# on the iteration, and then add up the values at their mean: here both is done before the decision, with what the
# models predicted beside the weights, and left for the loop in `State.measured` and `State.all_votes`. So an iteration
# takes two collective calls, all included. A trial that is refused costs its message; what it measured of the curvature
# is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnnext.algorithms.damping import Damping
from dnnext.algorithms.kinks import has_jumps
from dnnext.algorithms.order import LOST
from dnnext.algorithms.signed import SignedRule
from dnnext.kernels.sums import row_dots, row_norms
from dnnext.local.common import KEEPS
from dnnext.runs.history import deviations
from dnnext.runs.state import Measured

if TYPE_CHECKING:
    from dnnext.local import LocalModel, Surrogate
    from dnnext.problem import Problem
    from dnnext.runs.state import State

__all__ = ["GainTest", "NielsenRule", "RatioRule"]

Array = np.ndarray[Any, np.dtype[Any]]

ACCEPT = 1e-4
FLOOR, CAP = 1e-32, 1e8  # times b; a tau of zero could not rise again
APART = 0.1  # of the mean step
RIGHT, SHORT = 0.25, 0.01  # how far rho may be from 1, and how much of U may be gained, where a matrix is kept
ROOM = 8  # numbers that votes may take
EQUAL = 450  # roundings within which two objectives count as equal


class GainTest(Damping):
    """What rules share that test an iteration by its gain ratio and take it back at every agent, or do not.

    With ``D_i = z_i - w_i``, r the penalty and U the objective at the mean of the weights,

        pred = mean_i [ -A y_i'D_i - D_i'B_i D_i / 2 + r(w_i) - r(z_i) ]
        rho  = (U(w_bar) - U(w_bar+)) / pred

    and the iteration is accepted if rho > 1e-4. Else every agent goes back to w_i, y_i and grad_i. Differences of U
    within rounding count as none. A rule says what tau follows.

    Where the step was short, U fell by 1 % at most, and the model right, |rho - 1| <= 1/4, exact curvature is kept for
    another iteration: no matrix is sent then.

    Agents that disagree may refuse for ever, whatever tau: the sum of their gradients belongs to no common point. So
    after a refusal in which the z_i were apart, ``mean_i |z_i - (C z)_i| > mean_i |D_i| / 10``, an iteration only
    mixes, z_i = w_i, which leaves U; tau is again what it was in front of the refusals, the next time 4 times that.
    """

    needs_pre = True
    needs = frozenset({"memoryless", "alike", "whole_rows"})

    @abstractmethod
    def accepted(self, tau: float, wanted: float, rho: float, problem: Problem) -> float:
        """The tau that follows an accepted iteration with tau, where the agents wanted the mean `wanted`."""

    @abstractmethod
    def refused(self, tau: float, wanted: float, nu: float) -> float:
        """The tau that follows a refused one; nu = 2, 4, 8, ... counts refusals in a row."""

    def only_mixes(self, s: State) -> bool:
        """Whether the last iteration was refused, and the agents were apart."""
        return bool(np.any(s.memory.get("ratio.apart", 0)))

    def test(self, s: State, model: LocalModel, wanted: Array) -> None:
        """Accept the iteration, or take it back at every agent; `wanted` (n_local,) is what each would set tau to."""
        problem, tau, has_mixed = model.problem, float(model.tau[0]), self.only_mixes(s)
        before, nu = self._before(s, problem)
        mean = _means(s, model, np.where(np.isfinite(wanted), wanted, tau))
        after = np.inf
        if mean.measured is not None:
            after = mean.measured.value + problem.penalty.value(mean.measured.w_bar)
        gain, slack = before - after, slack_of(problem, before)
        s.is_tested = True
        s.is_refused = not (abs(gain) <= slack or (gain > 0 and gain > ACCEPT * mean.predicted))
        if s.is_refused:
            _take_back(s, problem)
            following, nu, after = self.refused(tau, mean.wanted, nu), 2 * nu, before
        else:
            rho = gain_ratio(gain, mean.predicted, slack)
            following, nu = self.accepted(tau, mean.wanted, rho, problem), 2.0
            s.memory[KEEPS] = np.full(len(s.w), abs(rho - 1) <= RIGHT and gain <= SHORT * abs(before), dtype=float)
            s.measured = s.scratch["ratio.measured"] = mean.measured
            s.memory["rows.values"] = s.values.copy()
        kept = float(s.memory["ratio.kept"][0]) if "ratio.kept" in s.memory else tau
        if has_mixed:
            following, nu, kept = kept, 2.0, 4 * kept
        elif not s.is_refused:
            kept = following
        s.tau = np.full_like(s.tau, bounded(following, s.unit))
        for name, value in (
            ("rows.objective", after), ("ratio.nu", nu), ("ratio.kept", bounded(kept, s.unit)),
            ("ratio.apart", float(s.is_refused and not has_mixed and mean.apart > APART * mean.moved)),
        ):  # fmt: skip
            s.memory[name] = np.full(len(s.w), value)

    def _before(self, s: State, problem: Problem) -> tuple[float, float]:
        """U at the mean of the weights before the iteration, and nu."""
        nu = float(s.memory["ratio.nu"][0]) if "ratio.nu" in s.memory else 2.0
        if "rows.objective" in s.memory:
            return float(s.memory["rows.objective"][0]), nu
        mean = np.asarray(problem.runtime.sum_agents(s.w_old) / problem.n_agents, dtype=problem.dtype)
        return problem.value(mean), nu


class RatioRule(GainTest, SignedRule):
    """The signed rule with one tau for all agents, and a test by the gain ratio of Levenberg and Marquardt [1]_.

    With t_i what the signed rule would choose, and rho the gain ratio of `GainTest`,

        rho > 1e-4:  tau = mean_i t_i,  nu = 2
        else:        every agent back to w_i, y_i, grad_i;  tau = max(mean_i t_i, 2 nu tau),  nu = 2 nu

    Where derivatives jump (relu units, l1), the gradient changes by as much however short a step is. t_i takes that for
    curvature, and tau would grow with each step that it makes shorter, until nothing moves. There the gain ratio limits
    it: tau = min(mean_i t_i, what `NielsenRule` would choose).

    The first tau and the safeguard of the signed rule are the surrogate's (`Surrogate.first_tau`, `safeguard`): 3 b and
    0.15 with synthetic inputs, b and 0.1 with exact curvature. The pairs of the quasi-Newton correction are learnt from
    refused trials, too; the alarm does not see them. Every iteration then ends with an objective that is no higher. It
    needs models that agree: shared or exact curvature or one agent, on a fixed graph or a schedule without losses.

    References
    ----------
    .. [1] J. J. More, The Levenberg-Marquardt algorithm: implementation and theory, Numerical Analysis, Lecture Notes
       in Mathematics 630 (1978): the gain ratio, section 4.
    """

    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """The surrogate's first tau; b is remembered as s.unit."""
        super().start(problem, surrogate, s)
        s.tau[:] = surrogate.first_tau * s.unit

    def update(self, s: State, model: LocalModel) -> None:
        """The signed rule, then the test."""
        self.test(s, model, self.wanted(s, model, model.surrogate.safeguard))

    def accepted(self, tau: float, wanted: float, rho: float, problem: Problem) -> float:
        """What the agents want, or less where derivatives jump."""
        return min(wanted, nielsen(tau, rho)) if has_jumps(problem) else wanted

    def refused(self, tau: float, wanted: float, nu: float) -> float:
        """Four times tau, then 8, 16, ..."""
        return max(wanted, 2 * nu * tau)


class NielsenRule(GainTest):
    """The damping of Levenberg and Marquardt by Nielsen's rule [1]_, eq. 2.5: one tau, no curvature measured.

    With rho the gain ratio of `GainTest` ([1]_, eq. 2.2) and ``tau[0] = 1e-3 b``,

        rho > 1e-4:  tau = tau max(1/3, 1 - (2 rho - 1)^3),  nu = 2
        else:        every agent back to w_i, y_i, grad_i;  tau = nu tau,  nu = 2 nu

    which are its constants beta = 2, gamma = 3, p = 3, those of [2]_, Algorithm 3.16. Two things differ there: a step
    is accepted if rho > 0, and tau[0] is a share of the largest diagonal element of the matrix, where b is the mean.

    References
    ----------
    .. [1] H. B. Nielsen, Damping parameter in Marquardt's method, Report IMM-REP-1999-05, Technical University of
       Denmark (1999).
    .. [2] K. Madsen, H. B. Nielsen, O. Tingleff, Methods for non-linear least squares problems, 2nd ed., Technical
       University of Denmark (2004).
    """

    first = 1e-3

    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """tau = 1e-3 b; b is remembered as s.unit."""
        s.unit = surrogate.scale(problem, s.w)
        s.tau[:] = self.first * s.unit

    def update(self, s: State, model: LocalModel) -> None:
        """The test; no agent wants a tau of its own."""
        self.test(s, model, s.tau)

    def accepted(self, tau: float, wanted: float, rho: float, problem: Problem) -> float:
        """Less where the model predicted well: by 3 at most, and at most twice as much where only rounding is left."""
        return nielsen(tau, rho)

    def refused(self, tau: float, wanted: float, nu: float) -> float:
        """Twice tau, then 4, 8, ..."""
        return nu * tau


def nielsen(tau: float, rho: float) -> float:
    """tau after an accepted iteration with gain ratio rho, by `NielsenRule`."""
    return tau * max(1 / 3, 1 - (2 * min(max(rho, 0.0), 1.0) - 1) ** 3)


def bounded(tau: float, unit: float) -> float:
    """tau within 1e-32 b and 1e8 b."""
    return min(max(tau, FLOOR * unit), CAP * unit)


def gain_ratio(gain: float, predicted: float, slack: float) -> float:
    """rho; 1/2, which leaves Nielsen's tau as it is, where the gain is within rounding and says nothing."""
    if predicted <= 0:
        return 0.0
    return 0.5 if abs(gain) <= slack else gain / predicted


def slack_of(problem: Problem, value: float) -> float:
    """Half the width within which two objectives near `value` count as equal."""
    share = 0.01 if problem.dtype == np.float32 else 1.0  # values are added up in float64
    return share * EQUAL * float(np.finfo(problem.dtype).eps) * abs(value)


def _take_back(s: State, problem: Problem) -> None:
    """Every agent to where it was before the iteration."""
    s.w, s.y = s.w_old.copy(), s.y_old.copy()
    s.values = s.memory["rows.values"].copy() if "rows.values" in s.memory else problem.local_values(s.w)
    s.grad, s.spare = s.spare, s.grad
    s.disagreement, s.size, s.squares = np.zeros(len(s.w)), row_norms(s.w), None
    s.measured = s.scratch.get("ratio.measured")


class _Means(NamedTuple):
    """Means over agents: of what the models predicted, of the wanted tau, of |z_i - (C z)_i| and |z_i - w_i|.

    measured: at the mean of the weights, if it is finite and no agent's trial overflowed.
    """

    predicted: float
    wanted: float
    apart: float
    moved: float
    measured: Measured | None


def _means(s: State, model: LocalModel, wanted: Array) -> _Means:
    problem, size, p = model.problem, row_norms(s.z) if s.size is None else s.size, s.w.shape[1]
    lost = s.scratch.pop(LOST, np.zeros(len(s.w), bool)) | ~np.isfinite(row_norms(s.w) + row_norms(s.y))
    beside = np.stack([_predicted(s, model), wanted, s.disagreement * size, row_norms(s.z - s.w_old), lost], axis=1)
    sums, y = _sums(s, problem, beside)
    sums /= problem.n_agents
    w_bar, (predicted, wished, apart, moved, n_lost) = sums[:p].astype(problem.dtype), sums[p:].tolist()
    if n_lost or not np.isfinite(w_bar).all():
        return _Means(predicted, wished, apart, moved, None)
    smooth, slope = problem.smooth_value_grad(w_bar)
    measured = Measured(w_bar, smooth, slope, None if y is None else deviations(problem, *y, w_bar, slope))
    return _Means(predicted, wished, apart, moved, measured if np.isfinite(smooth) else None)


def _sums(s: State, problem: Problem, beside: Array) -> tuple[Array, tuple[Array, Array] | None]:
    """The sums over agents of w and of what stands beside it, (P + k,); w and y of all agents where they are wanted.

    What is gathered at every rank takes the votes along, and y where the iteration is measured.
    """
    p, k, runtime = s.w.shape[1], beside.shape[1], problem.runtime
    mine: Any = [s.w, beside]
    if not runtime.gathers(2 * (p + k + ROOM)):
        return runtime.sum_agents(np.concatenate(mine, axis=1, dtype=np.float64)), None
    mine += [s.y] if s.is_due else []
    mine += [s.votes()] if s.votes is not None else []
    every = runtime.all_agents(np.concatenate(mine, axis=1, dtype=np.float64))
    sums = np.add.reduce(np.ascontiguousarray(every[:, : p + k]), axis=0)
    if s.votes is not None:
        s.all_votes = every[:, -mine[-1].shape[1] :]
    if not s.is_due:
        return sums, None
    w, y = (np.ascontiguousarray(part, problem.dtype) for part in (every[:, :p], every[:, p + k : 2 * p + k]))
    return sums, (w, y)


def _predicted(s: State, model: LocalModel) -> Array:
    """What every agent's model predicted of z_i against w_i, (n_local,)."""
    problem, r = model.problem, model.problem.penalty
    step = s.z.astype(np.float64) - s.w_old
    curved = model.product(step)
    decrease = -problem.n_agents * row_dots(step, s.y_old)
    if curved is not None:
        decrease -= 0.5 * row_dots(step, np.asarray(curved))
    if r.quadratic is not None:
        return np.asarray(decrease - row_dots(np.asarray(r.quadratic) * step, s.w_old + s.z.astype(np.float64)) / 2)
    return np.asarray(decrease + [r.value(old) - r.value(new) for old, new in zip(s.w_old, s.z, strict=True)])
