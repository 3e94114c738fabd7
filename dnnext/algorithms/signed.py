"""The signed rule for tau: where all agents share one curvature, the misfit has a sign, and less damping is needed.

# Design
# The secant rule takes the norm of what a model missed, which is large however right the model is along its own step.
# With shared curvature the models agree, and only the misfit along the step matters. Two numbers per agent, mixed with
# the message, give every agent the network's mean of it; a part of the norm rule remains as a safeguard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.algorithms.damping import Damping
from dnnext.kernels.sums import row_dots, row_norms

if TYPE_CHECKING:
    from dnnext.local import LocalModel, Surrogate
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]

FIRST, LOWEST, HIGHEST = 10.0, 1e-4, 1e4  # times b
SAFEGUARD = 0.6


class SignedRule(Damping):
    """tau_i = clip(max(beta_i, 0.6 |A (y_i+ - y_i) - B_i s_i| / sqrt(den_i+), tau_i / 2), 1e-4 b, 1e4 b).

    tau_i[0] = 10 b with b the curvature at the common start, the unit of tau.
    With s_i = z_i - w_i, and num, den mixed with the message (order "pre"),

        num_i = A s_i'(grad_i(z_i) - grad_i(old)) - s_i' B_i s_i,   den_i = s_i's_i,   beta_i = |num_i+ / den_i+|

    or, where the penalty is quadratic and the step is 1, so that the model's own condition at z is known,

        num_i = A s_i' grad_i(z_i) + s_i' grad r(z_i),   beta_i = |tau_i + num_i+ / den_i+|.
    """

    needs_pre = True
    needs = frozenset({"whole_rows"})

    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """tau_i = 10 b; b is remembered as s.unit."""
        s.unit = surrogate.scale(problem, s.w)
        s.tau[:] = FIRST * s.unit

    def numbers(self, s: State, model: LocalModel) -> Array:
        """num_i, den_i (n_local, 2)."""
        problem, step, numbers = model.problem, s.z.astype(np.float64) - s.w, np.empty((len(s.w), 2))
        if self._knows_condition(problem, s):
            l2 = np.asarray(problem.penalty.quadratic)
            numbers[:, 0] = row_dots(step, problem.n_agents * s.grad + l2 * s.z)
        else:
            numbers[:, 0] = problem.n_agents * row_dots(step, s.grad - s.spare)
            numbers[:, 0] -= row_dots(step, np.asarray(_product(model, step) + np.zeros_like(step)))
        numbers[:, 1] = row_dots(step, step)
        return numbers

    def update(self, s: State, model: LocalModel) -> None:
        """The rule above."""
        s.tau = self.wanted(s, model, SAFEGUARD)

    def wanted(self, s: State, model: LocalModel, safeguard: float) -> Array:
        """The tau (n_local,) of the rule above with this safeguard; an agent that did not move keeps its own."""
        problem, step = model.problem, s.z.astype(np.float64) - s.w_old
        num, den = np.asarray(s.mixed, dtype=np.float64).T
        moved = den > (1e-12 * row_norms(s.w_old)) ** 2
        den = np.where(moved, den, 1)
        beta = np.abs(num / den + (s.tau if self._knows_condition(problem, s) else 0))
        missed = problem.n_agents * (s.y.astype(np.float64) - s.y_old)
        missed -= _product(model, step)
        missed = safeguard * row_norms(missed) / np.sqrt(den)
        tau = np.clip(np.maximum(np.maximum(beta, missed), s.tau / 2), LOWEST * s.unit, HIGHEST * s.unit)
        s.beta = np.where(moved, beta, s.beta)
        return np.where(moved, tau, s.tau)

    def _knows_condition(self, problem: Problem, s: State) -> bool:
        return problem.penalty.quadratic is not None and s.step == 1.0


def _product(model: LocalModel, step: Array) -> Array | float:
    """B_i s_i; 0 where a model has no curvature."""
    product = model.product(step)
    return 0.0 if product is None else product
