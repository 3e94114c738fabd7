"""Values and gradients of the local costs, with the tangent term where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext.problem.tangents import Tangents

if TYPE_CHECKING:
    from dnnext.problem.passes import Passes

Array = NDArray[Any]


def check_tangents(tangents: Any, model: Any) -> Tangents | None:
    """Tangents, and a model that has derivatives along its inputs."""
    if tangents is None:
        return None
    if not isinstance(tangents, Tangents):
        raise ValueError(f"tangents must be an object of dnnext.problem.Tangents or None, got {short(tangents)}.")
    check_needs("tangents", {"tangents"}, model.offers, {"model": model})
    return tangents


def look_along(problem: Passes) -> tuple[Array | None, Array | None]:
    """Directions (K, M, ...) of the local rows and the derivatives wanted along them, (K, M, Q) or None."""
    if problem.tangents is None:
        return None, None
    v = problem.tangents.at(problem.x)
    return v, problem.tangents.beta(problem.x, (len(v), *problem.target.shape))


def terms(problem: Passes, w: Array) -> NDArray[np.float64]:
    """``mu R`` of every local agent, (n_local,) float64."""
    if problem.tangents is None:
        return np.zeros(problem.n_local)
    return _term(problem, _misses(problem, w))


def loss_grad(problem: Passes, w: Array, out: Array | None) -> NDArray[np.float64]:
    """Values of all local agents, gradients into out unless None; one pass where both parts have a kernel."""
    loss, model, tangents = problem.loss, cast(Any, problem.model), problem.tangents
    has_kernel = loss.kernel is not None and problem.fused is not None
    if has_kernel and (tangents is None or model.table is not None):
        value = np.empty(problem.n_local)
        rest = (problem.target, problem.weight, loss.kernel, loss.param, problem.scale, value, out)
        if tangents is None:
            model.loss_grad(w, problem.rows, *rest)
            return value
        seen = (problem.directions, problem.beta, float(tangents.mu))
        return np.asarray(value + model.tangent_loss_grad(w, problem.rows, *seen, *rest))
    f, share = problem.raw_output(w), problem.sample_scale()
    value = problem.by_agent(share * loss.value(f, problem.target))
    u = np.ascontiguousarray(loss.grad(f, problem.target) * share[:, None], problem.dtype)
    if tangents is None:
        if out is not None:
            problem.vjp(w, u, out)
        return value
    r = _misses(problem, w)
    if out is not None:
        t = np.ascontiguousarray(float(tangents.mu) * share[:, None] * r, problem.dtype)
        model.tangent_vjp(w, problem.rows, u, problem.directions, t, out)
    return np.asarray(value + _term(problem, r))


def _misses(problem: Passes, w: Array) -> Array:
    """``DF(x_m) v_mk - beta_mk``: (K, M, Q)."""
    moved: Array = cast(Any, problem.model).tangent(w, problem.rows, problem.directions)
    return moved if problem.beta is None else moved - problem.beta


def _term(problem: Passes, r: Array) -> NDArray[np.float64]:
    """``(mu / 2N) sum_mk c_m |r_mk|^2`` of every local agent."""
    assert problem.tangents is not None
    square = np.square(r, dtype=np.float64).sum(axis=(0, 2))
    return problem.by_agent(0.5 * float(problem.tangents.mu) * problem.sample_scale() * square)
