"""Full linearisation in a metric of the weights: steps along Riesz gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.local_model import At, LocalModel, Surrogate
from dnnext.models.inner_products import InnerProduct

if TYPE_CHECKING:
    from dnnext.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]


class RieszModel(LocalModel):
    """``(G_i + dr(w_i))'(v - w_i) + tau_i/2 |v - w_i|_M^2``, r a square."""

    def __init__(self, surrogate: Surrogate, metric: InnerProduct, problem: Problem, s: At) -> None:
        super().__init__(surrogate, problem, s)
        self.metric, self.quadratic = metric, bound_quadratic(metric, problem)

    def argmin(self, out: Array) -> None:
        """w_i - M^-1 (A y_i + dr(w_i)) / tau_i."""
        slope = self.problem.n_agents * self.y + self.quadratic * self.w
        out[...] = self.w - self.metric.riesz(slope) / self.tau.astype(self.w.dtype)[:, None]

    def coordinates(self, w: Array, y: Array) -> tuple[Array, Array]:
        """L' w and L^-1 (y + dr(w) / A), with M = L L': what the Euclidean rule would see where M is I."""
        slope = y + self.quadratic * w / self.problem.n_agents
        return np.ascontiguousarray(self.metric.root(w)), np.ascontiguousarray(self.metric.coroot(slope), w.dtype)


def bound_quadratic(metric: InnerProduct, problem: Problem) -> Array:
    """l2 (P,) of a penalty that is a square, once the metric fits the model."""
    assert problem.penalty.quadratic is not None, "its prox in another metric has no closed form"
    metric.bind(problem.model.layout)
    return np.asarray(problem.penalty.quadratic)


def metric_scale(metric: InnerProduct, problem: Problem, w: Array) -> float:
    """``b = |grad U(w + e) - grad U(w)|_(M^-1) / |e|_M``, e along the mean of the agents' Riesz gradients.

    The largest of all agents, whose metrics may differ; 1 where the gradient is zero.
    """
    quadratic = bound_quadratic(metric, problem)
    start = (problem.runtime.sum_agents(w) / problem.n_agents).astype(w.dtype)

    def rows(one: Array) -> Array:
        return np.tile(np.asarray(one, np.float64), (problem.n_local, 1))

    def largest(values: Array) -> float:
        return float(np.max(problem.runtime.max_agents(values[:, None])))

    slope = problem.smooth_value_grad(start)[1] + quadratic * start
    way = problem.runtime.sum_agents(metric.riesz(rows(slope))) / problem.n_agents
    size = largest(metric.norm(rows(way)))
    if not size > 0:
        return 1.0
    length = max(1e-3, float(np.sqrt(np.finfo(start.dtype).eps)) * largest(metric.norm(rows(start))))
    moved = (start + (length / size) * way).astype(start.dtype)
    change = problem.smooth_value_grad(moved)[1] + quadratic * moved - slope
    e = moved.astype(np.float64) - start
    found = largest(np.linalg.norm(metric.coroot(rows(change)), axis=1) / metric.norm(rows(e)))
    return found if found > 0 else 1.0
