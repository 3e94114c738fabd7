"""Quadratic subproblems in the space of rows, for agents with fewer rows than weights.

# Design
# With K = S'J and D = tau I + l2 (Woodbury): (D + K'K)^-1 q = D^-1 q - D^-1 K'(I + K D^-1 K')^-1 K D^-1 q. Where l2 is
# one number per layer, as all built-in penalties have it, K D^-1 K' follows from activations and deltas without J
# (csrc/dual.c); the inputs' own part of it, X X', is made once per problem if it is no larger than the state of a run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from dnnext import kernels
from dnnext.local.subproblem import damped, quadratic

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem
    from dnnext.problem import MLP

Array = np.ndarray[Any, np.dtype[Any]]


def dual(sub: Subproblem, out: Array) -> None:
    """out = c - (B + tau I + l2)^-1 (slope + l2 c) block by block, B never formed; tau is doubled as in `primal`.

    Raises
    ------
    ValueError
        If the penalty is not quadratic.
    """
    assert sub.centre is not None
    problem, l2 = sub.problem, quadratic(sub, "dual")
    q, layers = -(sub.slope + l2 * sub.centre), problem.model.layers
    by_layer = _by_layer(l2, problem.model)
    status = np.zeros(len(q), np.int64)

    def attempt(tau: Array) -> Array:
        if by_layer is None:
            _from_jacobian(sub, tau, l2, q, out, status)
        else:
            kernels.mlp_dual_solve(
                out, status, np.ascontiguousarray(sub.w), problem.x, sub.root, problem.gram, tau, by_layer, q,
                problem.offsets, layers, problem.model.activation_code, sub.blocks, problem.n_threads,
            )  # fmt: skip
        return status

    def largest() -> Array:
        return np.asarray(problem.gauss_newton_diagonal(sub.w, sub.root).max(axis=1))

    if damped(sub, sub.tau.astype(q.dtype), attempt, largest):
        out += sub.centre
    else:
        out[...] = np.nan  # diverged: the alarm of the recipe speaks next


def _by_layer(l2: Array, model: MLP) -> Array | None:
    """l2 of each layer's weights (n_layers,), or None if it is not that: varying within a layer, or on biases."""
    starts = np.cumsum([0, *((d + 1) * h for d, h in pairwise(model.layers))])[:-1]
    values = l2[starts]
    return values if np.array_equal(values[model.layer_of] * model.mask, l2) else None


def _from_jacobian(sub: Subproblem, tau: Array, l2: Array, q: Array, out: Array, status: Array) -> None:
    """(D + K'K) out = q for any diagonal D, agent by agent, with K formed; status as in mlp_dual_solve."""
    status[:] = 0
    for i in range(len(q)):
        j, d = _jacobian(sub, i), tau[i] + l2
        for k, (start, stop) in enumerate(pairwise(sub.blocks)):
            cut = slice(start, stop)
            try:
                with np.errstate(all="ignore"):
                    scaled, solution = j[:, cut] / d[cut], q[i, cut] / d[cut]
                    inner = np.eye(len(j), dtype=j.dtype) + scaled @ j[:, cut].T
                    if len(j):
                        inside = cho_solve(cho_factor(inner, lower=True), j[:, cut] @ solution)
                        solution -= scaled.T @ inside
                if not np.isfinite(solution).all():
                    raise np.linalg.LinAlgError
            except (np.linalg.LinAlgError, ValueError):  # tau so small that inner is singular, or not finite
                solution, status[i] = np.zeros(stop - start, q.dtype), status[i] or k + 1
            out[i, cut] = solution


def _jacobian(sub: Subproblem, i: int) -> Array:
    """S'J of local agent i, (rows R, P)."""
    problem = sub.problem
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    x, root = problem.x[rows], sub.root[rows]
    out = np.empty((len(x) * root.shape[-1], problem.n_params), problem.dtype)
    layers, code = problem.model.layers, problem.model.activation_code
    kernels.mlp_jacobian(out, sub.w[i : i + 1], x, root, layers, code, problem.n_threads)
    return out
