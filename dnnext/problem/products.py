"""Curvature from `jvp` and `vjp` alone: of models without kernels for it, and of losses of very many outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext.problem import row_parts
from dnnext.problem.curvature import RowCurvature

if TYPE_CHECKING:
    from dnnext.problem.passes import Passes

Array = NDArray[Any]

TRACE_PROBES = 32  # the trace only sets the unit of tau


def gauss_newton_product(
    problem: Passes, w: Array, root: Array | RowCurvature, v: Array, blocks: Array, out: Array
) -> Array:
    """``J'(root root'(J v))``, block by block: v, out (n_local, P), a pass forward and one back per block."""
    for start, stop in pairwise(blocks):
        part = np.zeros_like(v)
        part[:, start:stop] = v[:, start:stop]
        image = problem.jvp(w, part)
        if isinstance(root, RowCurvature):
            image = root.times(image)
        else:
            image = times_root(root, image)
            image = image * root if root.ndim == 2 else np.sum(root * image[:, None, :], axis=2)
        out[:, start:stop] = problem.vjp(w, image)[:, start:stop]
    return out


def gauss_newton_trace(problem: Passes, w: Array, root: Array | RowCurvature) -> NDArray[np.float64]:
    """``trace A_i = E |root' J_i e|^2`` for random signs e [1]_: a mean of `TRACE_PROBES`, the same at every agent.

    References
    ----------
    .. [1] M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
       splines, Communications in Statistics, Simulation and Computation 19 (1990).
    """
    total, rng = np.zeros(problem.n_local), np.random.default_rng(0)
    for _ in range(TRACE_PROBES):
        signs = rng.integers(0, 2, row_parts.n_params(problem)) * 2.0 - 1.0
        signs = np.tile(row_parts.cut(problem, signs), (problem.n_local, 1))
        image = problem.jvp(w, signs)
        if isinstance(root, RowCurvature):
            square = image * root.times(image)
        else:
            square = np.square(times_root(root, image), dtype=np.float64)
        total += problem.by_agent(square.sum(axis=1, dtype=np.float64))
    return total / TRACE_PROBES


def times_root(root: Array, image: Array) -> Array:
    """``root_m' image_m`` of every row: (M, Q) -> (M, Q) for a diagonal root (M, Q), (M, R) for (M, Q, R)."""
    return image * root if root.ndim == 2 else np.asarray(np.sum(root * image[:, :, None], axis=1))
