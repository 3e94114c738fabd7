"""How tau, the strength of the proximal term, is chosen: a number, or the secant rule that needs no tuning.

# Design
# The rule compares the change of the tracked gradient over one iteration with the change that the model predicted.
# Their distance per unit of movement, beta, is the curvature that the model misses; tau must dominate it. An agent
# receives its neighbours' betas in the message that carries w and y anyway: the rule costs one number per message.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks, kernels
from dnnext._params import Parameters
from dnnext.algorithms.kinks import has_kinks, limit_beta, missed_along
from dnnext.local.unit import own_shares
from dnnext.problem import row_parts

if TYPE_CHECKING:
    from dnnext.local import LocalModel, Surrogate
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]


class Damping(Parameters, ABC):
    """Chooses tau_i: `start` before the first iteration, `update` after each."""

    needs_pre = False  # whether it looks at z before mixing, or mixes `numbers`: as order "pre" does alone
    needs: frozenset[str] = frozenset()  # what the other parts of a run must offer, see `dnnext._needs`
    takes_inexact = False  # whether a point near the minimiser of step S.1 does as well
    knows_new_rows = False  # whether it measures curvature in the first iteration on other rows, see `State`

    @abstractmethod
    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """Set s.tau at the common start."""

    def numbers(self, s: State, model: LocalModel) -> Array | None:
        """Numbers (n_local, k) to be mixed with z and y into s.mixed, or None; s.z and s.grad are the new ones."""
        return None

    @abstractmethod
    def update(self, s: State, model: LocalModel) -> None:
        """Set s.tau after an iteration from s.w_old, s.y_old to s.w, s.y, whose model of S.1 was `model`.

        It comes last, and may take the iteration back at every agent.
        """

    def in_one_call(self, surrogate: Surrogate) -> float | None:
        """The growth that the kernel `next_step` is given for this rule, 0 for none; None where it has no such rule."""
        return None

    def only_mixes(self, s: State) -> bool:
        """Whether the next iteration moves nothing and only mixes, z = w."""
        return False


class FixedTau(Damping):
    """The same tau at every agent and iteration, on the scale of the objective's curvature."""

    def __init__(self, tau: float) -> None:
        _checks.check_positive("tau", tau)
        self.tau = tau

    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """tau_i = tau."""
        s.tau[:] = float(self.tau)

    def update(self, s: State, model: LocalModel) -> None:
        """Nothing: tau stays."""

    def in_one_call(self, surrogate: Surrogate) -> float | None:
        """The kernel leaves tau as it is."""
        return 0.0


class SecantRule(Damping):
    """tau_i = clip(max(c m_i, tau_i / d), 1e-4 b, 1e4 b), tau_i[0] = 10 b.

    With s = w_i+ - w_i,  beta_i = |A (y_i+ - y_i) - kappa_i A_i s| / |s|  is the curvature that agent i's model missed
    in this iteration, and m_i the largest of its beta now, its previous beta and the direct neighbours' previous betas.
    c and d are the surrogate's `growth` and `decay`, b its curvature at the common start, the unit of tau: multiplying
    the objective by a number multiplies tau by it and changes no iterate. Where derivatives of the model jump (pools by
    maxima), beta_i is what was missed along s, and at most the largest eigenvalue of kappa_i A_i, or b, over c
    (`dnnext.algorithms.kinks`).

    In the first iteration on other rows (`State.has_new_rows`) the trackers change because the rows do. Agent i then
    goes by its own rows: N/N_i grad_i in place of A y_i.
    """

    knows_new_rows = takes_inexact = True

    def start(self, problem: Problem, surrogate: Surrogate, s: State) -> None:
        """tau_i = 10 b; b is remembered as s.unit."""
        who = type(surrogate).__name__
        _checks.check_positive(f"{who}.growth", getattr(surrogate, "growth", None))
        _checks.check_between(f"{who}.decay", getattr(surrogate, "decay", None), 1, math.inf, open_high=True)
        s.unit = surrogate.scale(problem, s.w)
        s.tau[:] = 10 * s.unit

    def update(self, s: State, model: LocalModel) -> None:
        """The rule above; an agent that did not move keeps its tau and beta."""
        problem, surrogate, product = model.problem, model.surrogate, model.product(s.w - s.w_old)
        tau, beta = s.tau, s.beta
        s.tau, s.beta = tau.copy(), beta.copy()
        y, y_old = s.y, s.y_old
        if s.has_new_rows:
            share = own_shares(problem)[:, None] / problem.n_agents
            y, y_old = (share * s.grad).astype(y.dtype), (share * s.spare).astype(y.dtype)
        along = missed_along(s, model, y, y_old, product) if has_kinks(model) else None
        (w, y), (w_old, y_old) = model.coordinates(s.w, y), model.coordinates(s.w_old, y_old)
        if s.shards is not None:
            w, w_old, y, y_old, product = _lengths(problem, w, w_old, y, y_old, product)
        kernels.secant_rule(
            s.tau, s.beta, np.asarray(s.received, np.float64), w, w_old, y, y_old,
            None if product is None else np.ascontiguousarray(product, s.w.dtype), problem.n_agents, surrogate.growth,
            surrogate.decay, 1e-4 * s.unit, 1e4 * s.unit, problem.n_threads,
        )  # fmt: skip
        if along is not None:
            limit_beta(s, model, along, tau, beta)

    def in_one_call(self, surrogate: Surrogate) -> float | None:
        """The kernel does the same with the surrogate's growth."""
        return surrogate.growth


def _lengths(problem: Problem, w: Array, w_old: Array, y: Array, y_old: Array, product: Array | None) -> list[Array]:
    """Rows of two numbers with the lengths that the rule asks for, of rows that are spread over ranks."""
    missed = problem.n_agents * (y.astype(np.float64) - y_old) - (0 if product is None else product)
    old, moved, missed = (row_parts.norms(problem, row) for row in (w_old, w.astype(np.float64) - w_old, missed))
    zero = np.zeros_like(old)
    rows = (old, moved), (old, zero), (zero, zero), (zero, zero), (missed, zero)
    return [np.stack(row, axis=1).astype(w.dtype) for row in rows]
