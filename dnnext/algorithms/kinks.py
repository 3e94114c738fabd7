"""The rule for tau where derivatives of the model jump, as those of pools by maxima do.

# Design
# Where the way down leads along a jump, every step crosses it: the gradient changes by as much however short the step
# is, and the secant rule takes that for curvature without bound. tau grows with each step that it makes shorter, until
# nothing moves. Most of a jump points across the step, in as many directions as there are weights, and does not change
# the slope along it. So beta is what the model missed along the step, a Rayleigh quotient, in place of a norm. A model
# with curvature may miss with either sign, which may cancel where it is wrong in both, above all where agents hold
# unlike rows: there it is the geometric mean of the quotient and the norm (as Dai, Al-Baali and Yang take that of two
# step sizes of Barzilai and Borwein, 2015).
# Along a step that crosses the same jump to and fro the quotient has no bound either. So c beta stays below the largest
# eigenvalue of the curvature that there is beside the jumps, which a few products with Gauss-Newton matrices find: one
# in 20 iterations after the first ten. A rule that tests its iterations has the gain ratio to go by instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.unit import power_step
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
    """What the model missed along the step (n_local,), infinite where an agent did not move.

    With ``m_i = A (y_i+ - y_i) - kappa_i A_i s_i`` for ``s_i = w_i+ - w_i``: ``q_i = |s_i'm_i| / |s_i|^2`` for a model
    without curvature, else ``sqrt(q_i |m_i| / |s_i|)``. product is ``kappa_i A_i s_i``, or None.
    """
    problem, step = model.problem, s.w.astype(np.float64) - s.w_old
    missed = problem.n_agents * (y.astype(np.float64) - y_old) - (0 if product is None else product)
    square = row_parts.dots(problem, step, step)
    found = np.full(len(step), np.inf)
    np.divide(np.abs(row_parts.dots(problem, step, missed)), square, out=found, where=square > 0)
    if product is not None:
        moved = square > 0
        found[moved] *= row_parts.norms(problem, missed)[moved] / np.sqrt(square[moved])
        found = np.sqrt(found)
    return found


def limit_beta(s: State, model: LocalModel, along: Array, tau: Array, beta: Array) -> None:
    """Lower s.tau, s.beta, which follow from tau and beta, to ``beta_i <= along_i``, ``c beta_i <= max(lambda_i, b)``.

    along is from `missed_along`; lambda_i the largest eigenvalue of ``kappa_i A_i``, from below; b the unit of tau.
    """
    surrogate, found = model.surrogate, _largest(s, model.problem)
    growth = surrogate.growth
    most = along if found is None else np.minimum(along, np.maximum(found, s.unit) / growth)
    high = s.beta > most
    s.beta[high] = most[high]
    received = np.asarray(s.received, np.float64)
    least = np.maximum.reduce([growth * s.beta, growth * beta, growth * received, tau / surrogate.decay])
    s.tau[high] = np.clip(least, 1e-4 * s.unit, 1e4 * s.unit)[high]


def _largest(s: State, problem: Problem) -> Array | None:
    """lambda_i (n_local,) once it is known; the vectors of the power iteration go on from call to call."""
    memory = s.memory
    if "kinks.steps" not in memory:
        memory["kinks.vector"] = np.cos(np.arange(problem.n_params) + 1.0) + np.zeros((problem.n_local, 1))
        memory["kinks.steps"] = np.zeros(problem.n_local)
    if memory["kinks.steps"][0] < FIRST or s.t % EVERY == 0:
        memory["kinks.largest"], memory["kinks.vector"] = power_step(problem, s.w, memory["kinks.vector"])
        memory["kinks.steps"] = memory["kinks.steps"] + 1
    return memory["kinks.largest"] if memory["kinks.steps"][0] >= FIRST else None
