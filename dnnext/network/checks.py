"""What a graph and a mixing matrix must be; errors are sentences."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from dnnext.network.weights import TOLERANCE, rows_of

__all__ = ["check_adjacency", "check_mixing"]


def _square(name: str, matrix: Any) -> sp.csr_array:
    """A copy in sorted CSR, finite and square."""
    try:
        given = matrix if sp.issparse(matrix) else np.asarray(matrix)
        if given.dtype.kind not in "biufO":
            raise TypeError
        matrix = matrix if sp.issparse(matrix) else given.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a square matrix of numbers, got {type(matrix).__name__}.") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix with one row per agent, got shape {matrix.shape}.")
    square = sp.csr_array(matrix, dtype=np.float64, copy=True)
    square.sum_duplicates()
    if not np.isfinite(square.data).all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity.")
    if (square.data < 0).any():
        where = int(np.argmin(square.data))
        i, j = int(rows_of(square)[where]), int(square.indices[where])
        raise ValueError(f"{name} must hold no negative number, got {square.data[where]:.3g} at ({i}, {j}).")
    return square


def check_adjacency(adjacency: Any) -> sp.csr_array:
    """Symmetric CSR pattern (bool, sorted, no loops); nonzero means an edge, the diagonal is ignored.

    Raises
    ------
    ValueError
        If the matrix is not square, not symmetric, or holds NaN or negative numbers.
    """
    square = _square("adjacency", adjacency)
    rows, cols = rows_of(square), square.indices
    keep = (square.data != 0) & (rows != cols)
    n = square.shape[0]
    key, mirror = rows[keep] * n + cols[keep], cols[keep].astype(np.int64) * n + rows[keep]
    alone = np.setdiff1d(key, mirror)
    if len(alone):
        i, j = int(alone[0] // n), int(alone[0] % n)
        raise ValueError(
            f"adjacency must be symmetric, got an edge from {i} to {j} and none back; directed graphs are not "
            "supported."
        )
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[keep], minlength=n))])
    pattern = sp.csr_array((np.ones(len(key), dtype=bool), cols[keep], indptr), shape=(n, n))
    pattern.has_sorted_indices = True
    return pattern


def check_mixing(mixing: Any, adjacency: sp.csr_array | None = None, name: str = "weights") -> sp.csr_array:
    """A user's mixing matrix as CSR with stored diagonal, otherwise as it is.

    Raises
    ------
    ValueError
        If it is not square, of another size than the graph, holds NaN or negative numbers, has row or column sums that
        differ from 1 by more than 1e-8, or joins agents that are not neighbours.
    """
    square = _square(name, mixing)
    n = square.shape[0]
    if adjacency is not None and adjacency.shape[0] != n:
        raise ValueError(
            f"{name} must have one row per agent, got {n} rows for a graph of {adjacency.shape[0]} agents."
        )
    for axis, line in ((1, "row"), (0, "column")):
        gap = np.abs(square.sum(axis=axis) - 1.0)
        if gap.max() > TOLERANCE:
            worst = int(np.argmax(gap))
            total = float(square.sum(axis=axis)[worst])
            raise ValueError(
                f"{name} must be doubly stochastic (rows and columns sum to 1 within {TOLERANCE:g}), got {total:.9g} "
                f"for {line} {worst}."
            )
    rows, cols = rows_of(square), square.indices
    keep = (square.data != 0) & (rows != cols)
    if adjacency is not None:
        edges = rows_of(adjacency) * n + adjacency.indices
        strange = np.setdiff1d(rows[keep] * n + cols[keep], edges)
        if len(strange):
            i, j = int(strange[0] // n), int(strange[0] % n)
            raise ValueError(f"{name} must fit the graph, got a weight at ({i}, {j}) where there is no edge.")
    return _keep_diagonal(square, keep)


def _keep_diagonal(square: sp.csr_array, keep: Any) -> sp.csr_array:
    """The kept off-diagonal entries and the whole diagonal, in ascending column order."""
    n, diagonal, own = square.shape[0], square.diagonal(), np.arange(square.shape[0])
    rows = np.concatenate([rows_of(square)[keep], own])
    cols = np.concatenate([square.indices[keep], own])
    order = np.lexsort((cols, rows))
    data = np.concatenate([square.data[keep], diagonal])[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    mixing = sp.csr_array((data, cols[order], indptr), shape=(n, n))
    mixing.has_sorted_indices = True
    return mixing
