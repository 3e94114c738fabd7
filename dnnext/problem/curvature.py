"""Curvature of losses of many outputs: applied row by row where its roots, Q^2 numbers a row, would fill the memory."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks

if TYPE_CHECKING:
    from dnnext.problem.losses import Loss
    from dnnext.problem.passes import Passes

__all__ = ["RowCurvature", "curvature_at", "row_shares"]

Array = NDArray[Any]


class RowCurvature:
    """``share_m H_m`` of every row, applied to vectors and never formed: it stands for a root that is too large.

    Parameters
    ----------
    loss : Loss
    f, d : (M, Q) arrays
        Raw outputs and targets.
    share : (M,) array
        Factors >= 0.

    Examples
    --------
    >>> from dnnext.problem import Softmax
    >>> h = RowCurvature(Softmax(), np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.array([2.0]))
    >>> h.times(np.array([[1.0, 0.0]]))
    array([[ 0.5, -0.5]])
    """

    def __init__(self, loss: Loss, f: Array, d: Array, share: Array) -> None:
        self.loss, self.f, self.d, self.share = loss, f, d, share[:, None]
        self.p = loss.curvature_weights(f, d)

    @cached_property
    def weights(self) -> Array | None:
        """``q_m = share_m p_m`` (M, Q) where ``share_m H_m = diag(q_m) - q_m q_m' / sum(q_m)``, else None."""
        return None if self.p is None else np.ascontiguousarray(self.p * self.share, self.f.dtype)

    def times(self, u: Array) -> Array:
        """``share_m H_m u_m``: u (M, Q) -> (M, Q), in its precision."""
        if self.weights is None or self.p is None:
            return np.asarray(self.share * self.loss.curvature_product(self.f, self.d, u), dtype=u.dtype)
        return np.asarray(self.weights * (u - np.einsum("mq,mq->m", self.p, u)[:, None]), dtype=u.dtype)


def curvature_at(problem: Passes, f: Array | None, w: Array, kappa: Array, formed: bool = False) -> Any:
    """``kappa_i c_m/N H_m`` at raw outputs f (M, Q), by default those of w: its root, or a `RowCurvature` if wide.

    Parameters
    ----------
    problem : Problem
    f : (M, Q) array or None
    w : (n_local, P) array
    kappa : (n_local,) array
        Factors of the agents, >= 0.
    formed : bool
        Whether the root is wanted in any case, as solvers that form matrices need it.

    Raises
    ------
    MemoryError
        If the root is wanted in any case and this machine has no memory for it.
    """
    wide = problem.has_wide_root
    if wide and not formed:
        f = problem.raw_output(w) if f is None else f
        return RowCurvature(problem.loss, f, problem.target, _by_row(problem, kappa).astype(problem.dtype))
    if wide:
        rows, n_outputs = problem.target.shape
        what = f"the curvature of {rows} rows of {n_outputs} outputs"
        n_bytes = 2 * rows * n_outputs**2 * problem.dtype.itemsize
        _checks.check_memory(what, n_bytes, "use solver='cg' or 'auto', or surrogate='full'")
    if f is None:
        f = problem.target if problem.loss.is_quadratic else problem.raw_output(w)
    return problem.root_at(f, row_shares(problem, kappa))


def row_shares(problem: Passes, kappa: Array) -> Array:
    """``sqrt(kappa_i c_m / N)`` (M,): what the root of the loss is multiplied by, row by row."""
    return np.asarray(np.sqrt(_by_row(problem, kappa)), dtype=problem.dtype)


def _by_row(problem: Passes, kappa: Array) -> Array:
    return np.asarray(np.repeat(kappa, np.diff(problem.offsets)) * problem.sample_scale())
