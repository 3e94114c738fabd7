"""The rule for tau where derivatives of the model jump, as those of pools by maxima do.

# Design
# Where the way down leads along a jump, every step crosses it: the gradient changes by as much however short the step
# is, and the secant rule takes that for curvature without bound. tau grows with each step that it makes shorter, until
# nothing moves. Most of a jump points across the step, in as many directions as there are weights, and does not change
# the slope along it. So beta is what the model missed along the step, a Rayleigh quotient, in place of a norm. A model
# with curvature may miss with either sign, which may cancel where it is wrong in both, above all where agents hold
# unlike rows: there it is the geometric mean of the quotient and the norm (as Dai, Al-Baali and Yang take that of two
# step sizes of Barzilai and Borwein, 2015).
# Along a step that crosses the same jump forth and back the quotient has no bound either. So c beta stays below the
# largest eigenvalue of the curvature that there is beside the jumps, which a few products with Gauss-Newton matrices
# find: one in 20 iterations after the first ten. A rule that tests its iterations has the gain ratio to go by instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.unit import own_shares, power_step
from dnnext.problem import row_parts

if TYPE_CHECKING:
    from dnnext.local import LocalModel
    from dnnext.problem import Problem
    from dnnext.runs.state import State

__all__ = ["has_jumps", "has_kinks", "limit_beta", "missed_along"]

Array = np.ndarray[Any, np.dtype[Any]]

FIRST, EVERY = 10, 20  # products one after another at the start, then one in so many iterations


def has_kinks(model: LocalModel) -> bool:
    """Whether derivatives of the problem's model jump, and tau is in units of the weights as they are."""
    return getattr(model.problem.model, "has_kinks", False) and getattr(model.surrogate, "metric", None) is None


def has_jumps(problem: Problem) -> bool:
    """Whether derivatives of the objective jump on the way: units like relu, pools by maxima, a penalty like l1."""
    model, r = problem.model, problem.penalty
    if getattr(model, "activation", None) == "relu" or getattr(model, "has_kinks", False):
        return True
    return bool(np.any(r.l1)) if "terms" in r.offers else r.quadratic is None


def missed_along(s: State, model: LocalModel, y: Array, y_old: Array, product: Array | None) -> Array:
    """What the model missed along the step (n_local,), infinite where an agent did not move, as for the secant rule.

    With ``m_i = A (y_i+ - y_i) - kappa_i A_i s_i`` for ``s_i = w_i+ - w_i``: ``q_i = |s_i'm_i| / |s_i|^2`` for a model
    without curvature, else ``sqrt(q_i |m_i| / |s_i|)``. product is ``kappa_i A_i s_i``, or None.
    """
    problem, step = model.problem, s.w.astype(np.float64) - s.w_old
    missed = problem.n_agents * (y.astype(np.float64) - y_old) - (0 if product is None else product)
    length = row_parts.norms(problem, step)
    moved = length > 1e-12 * row_parts.norms(problem, s.w_old)
    found = np.full(len(step), np.inf)
    found[moved] = np.abs(row_parts.dots(problem, step, missed))[moved] / length[moved] ** 2
    if product is not None:
        found[moved] *= row_parts.norms(problem, missed)[moved] / length[moved]
        found = np.sqrt(found)
    return found


def limit_beta(s: State, model: LocalModel, along: Array, tau: Array, beta: Array) -> None:
    """Lower s.tau, s.beta, which follow from tau and beta, to ``beta_i <= along_i``, ``c beta_i <= max(lambda_i, b)``.

    along is from `missed_along`; lambda_i the largest eigenvalue of ``kappa_i A_i``, from below; b the unit of tau. An
    agent that did not move keeps both.
    """
    growth, top = model.surrogate.growth, np.maximum(_largest(s, model.problem), s.unit)
    most = np.minimum(along, top / growth)
    high = (s.beta > most) & np.isfinite(along)
    s.beta[high] = most[high]
    received = np.asarray(s.received, np.float64)
    least = np.maximum.reduce([growth * s.beta, growth * beta, growth * received, tau / model.surrogate.decay])
    s.tau[high] = np.clip(least, 1e-4 * s.unit, 1e4 * s.unit)[high]


def _largest(s: State, problem: Problem) -> Array:
    """lambda_i (n_local,), infinite until it is known; the vectors of the power iteration go on from call to call."""
    names = "kinks.vector", "kinks.largest", "kinks.steps"
    if names[0] not in s.memory:
        s.memory |= dict(zip(names, (np.zeros(s.w.shape), *np.zeros((2, problem.n_local))), strict=True))
    vector, largest, steps = (s.memory[name] for name in names)
    # anew where there is no vector: at the start, and at relays that were given rows
    begins = (row_parts.norms(problem, vector) == 0) & (own_shares(problem) > 0)
    steps = np.where(begins, 0, steps)
    due = (steps < FIRST) | (s.t % EVERY == 0)
    if due.any():
        start = np.cos(np.arange(vector.shape[1]) + 1.0)
        found, image = power_step(problem, s.w, np.where(begins[:, None], start, vector))
        largest, vector = np.where(due, found, largest), np.where(due[:, None], image, vector)
        s.memory |= dict(zip(names, (vector, largest, steps + due), strict=True))
    return np.where(steps + due >= FIRST, largest, np.inf)
