"""The rule for tau where derivatives of the model jump, as those of pools by maxima do.

# Design
# Where the way down leads along a jump, every step crosses it: the gradient changes by as much however short the step
# is, and the secant rule takes that for curvature without bound. tau grows with each step that it makes shorter, until
# nothing moves. So tau is kept at the largest eigenvalue of the curvature that there is beside the jumps, which a few
# products with Gauss-Newton matrices find: one in 20 iterations after the first ten. Steps of this length decrease the
# smooth pieces, and go along the jumps. A rule that tests its iterations has the gain ratio to go by instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.unit import power_step

if TYPE_CHECKING:
    from dnnext.local import LocalModel
    from dnnext.problem import Problem
    from dnnext.runs.state import State

__all__ = ["has_jumps", "has_kinks", "limit_by_curvature"]

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


def limit_by_curvature(s: State, model: LocalModel, tau: Array, beta: Array) -> None:
    """Lower s.tau, s.beta, which follow from tau and beta, where ``c beta_i`` is above ``max(lambda_i, b)``.

    lambda_i is the largest eigenvalue of ``kappa_i A_i``, from below; b the unit of tau.
    """
    found, surrogate = _largest(s, model.problem), model.surrogate
    if found is None:
        return
    growth, top = surrogate.growth, np.maximum(found, s.unit)
    least = np.maximum.reduce([top, growth * beta, growth * np.asarray(s.received, np.float64), tau / surrogate.decay])
    high = growth * s.beta > top
    s.tau[high] = np.clip(least, 1e-4 * s.unit, 1e4 * s.unit)[high]
    s.beta[high] = top[high] / growth


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
