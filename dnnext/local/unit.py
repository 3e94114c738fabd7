"""The unit of tau: how curved the costs are at the common start, from some rows of every agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.problem import row_parts
from dnnext.problem.curvature import curvature_at
from dnnext.problem.samples import sampled_problem

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["UNIT_ROWS", "mean_curvature", "own_shares", "power_step", "some_rows"]

Array = np.ndarray[Any, np.dtype[Any]]

UNIT_ROWS = 256  # of every agent: a unit need not be exact, and with all rows it takes as long as many iterations


def some_rows(problem: Problem) -> Problem:
    """The problem with at most `UNIT_ROWS` rows of every agent."""
    return sampled_problem(problem, np.full(problem.n_agents, UNIT_ROWS))


def own_shares(problem: Problem) -> Array:
    """N / N_i (n_local,): how many times over agent i's data would make everyone's; 0 at relays."""
    own = problem.agent_weight
    return np.divide(problem.n_total, own, out=np.zeros(len(own)), where=own > 0)


def power_step(problem: Problem, w: Array, v: Array) -> tuple[Array, Array]:
    """``|kappa_i A_i u_i|`` (n_local,), and ``kappa_i A_i u_i`` itself, with ``u_i = v_i / |v_i|``; v (n_local, P).

    Repeated, the lengths tend to the largest eigenvalues, from below.
    """
    size = row_parts.norms(problem, v)[:, None]
    unit = np.ascontiguousarray(np.divide(v, size, out=np.zeros_like(v), where=size > 0), problem.dtype)
    root = curvature_at(problem, None, w, own_shares(problem))
    image = problem.gauss_newton_product(w, root, unit).astype(np.float64)
    return row_parts.norms(problem, image), image


def mean_curvature(problem: Problem, w: Array, kappa: Array, added_up: bool = False) -> float:
    """``max_j kappa_j trace(A_j) / P`` at w (n_local, P), or their sum: the unit of tau, equal at every agent.

    The loss may be flat where the run starts (sure of every class, or far from every target) and curved where it goes.
    So H is taken at the raw outputs of w, at 0, where no class is preferred, and at the targets; the largest counts.
    """
    outputs = [problem.loss.best_output(problem.target)]
    if not problem.loss.is_quadratic:
        outputs += [problem.raw_output(w), np.zeros_like(problem.target)]
    trace = np.zeros((problem.n_local, len(outputs)))
    for k, f in enumerate(outputs):
        trace[:, k] = problem.gauss_newton_trace(w, curvature_at(problem, f, w, kappa))
    over_agents = problem.runtime.sum_agents if added_up else problem.runtime.max_agents
    scale = float(np.max(over_agents(trace))) / row_parts.n_params(problem)
    if scale > 0:
        return scale
    # A loss without curvature of its own: the change of w by its own length should be worth the gradient.
    start = problem.runtime.sum_agents(w) / problem.n_agents
    slope = problem.smooth_value_grad(start.astype(w.dtype))[1]
    length = max(row_parts.norms(problem, start[None])[0], np.finfo(float).tiny)
    scale = float(row_parts.norms(problem, slope[None])[0] / length)
    return scale if scale > 0 else 1.0  # gradient zero: nothing will move, whatever the unit
