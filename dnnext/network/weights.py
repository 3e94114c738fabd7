"""Mixing weights: adjacency -> doubly stochastic CSR matrix C = [c_ij] that fits the graph.

Rows are in ascending global column order, the diagonal is stored, and off-diagonal entries are the messages: agent i
receives from agent j when c_ij is stored. A rule of your own is one function ``adjacency -> CSR``, or just a matrix.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext.network.spectrum import extreme_eigenvalues

__all__ = [
    "WEIGHTS",
    "laplacian",
    "lazy_laplacian",
    "lazy_max_degree",
    "lazy_metropolis",
    "max_degree",
    "metropolis",
]

Index = NDArray[np.integer[Any]]
Rule = Callable[[sp.csr_array], Any]

TOLERANCE = 1e-8


def rows_of(matrix: sp.csr_array) -> NDArray[np.int64]:
    """Row of every stored entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def with_diagonal(rows: Index, cols: Index, values: NDArray[np.float64], n: int) -> sp.csr_array:
    """CSR with the given off-diagonal entries (sorted by row, then column) and the diagonal that makes row sums 1."""
    count = np.bincount(rows, minlength=n)
    before = np.bincount(rows[cols < rows], minlength=n)
    start = np.concatenate([[0], np.cumsum(count)])
    diagonal, place = np.arange(n), np.arange(len(rows)) + rows + (cols > rows)
    data, indices = np.empty(len(rows) + n), np.empty(len(rows) + n, dtype=np.int64)
    own = start[:-1] + diagonal + before
    data[place], indices[place] = values, cols
    # a sum of weights may pass 1 by rounding only
    data[own], indices[own] = np.maximum(1.0 - np.bincount(rows, weights=values, minlength=n), 0.0), diagonal
    mixing = sp.csr_array((data, indices, start + np.arange(n + 1)), shape=(n, n))
    mixing.has_sorted_indices = True
    return mixing


def metropolis_values(rows: Index, cols: Index, n: int) -> NDArray[np.float64]:
    """1 / (1 + max(degree_i, degree_j)) of the given edges (both directions listed)."""
    degree = np.bincount(rows, minlength=n)
    return 1.0 / (1.0 + np.maximum(degree[rows], degree[cols]))


def metropolis(adjacency: sp.csr_array) -> sp.csr_array:
    """``c_ij = 1 / (1 + max(degree_i, degree_j))`` on edges, ``c_ii = 1 - sum_j c_ij``.

    Needs no more than the degrees of the neighbours, and always contracts on a connected graph.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    References
    ----------
    L. Xiao, S. Boyd, S. Lall, Distributed average consensus with time-varying Metropolis weights (2006), section 2.

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> metropolis(Topology.path(3).adjacency).toarray().round(3)
    array([[0.667, 0.333, 0.   ],
           [0.333, 0.333, 0.333],
           [0.   , 0.333, 0.667]])
    """
    n, rows, cols = adjacency.shape[0], rows_of(adjacency), adjacency.indices
    return with_diagonal(rows, cols, metropolis_values(rows, cols, n), n)


def max_degree(adjacency: sp.csr_array) -> sp.csr_array:
    """``C = I - L / (1 + max_i degree_i)``, L the graph Laplacian: one weight for all edges.

    The 1 in the denominator keeps the smallest eigenvalue above -1 on every graph.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    References
    ----------
    L. Xiao, S. Boyd, Fast linear iterations for distributed averaging, Syst. Control Lett. 53 (2004), section 4.2.

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> max_degree(Topology.path(3).adjacency).diagonal().round(3)
    array([0.667, 0.333, 0.667])
    """
    top = int(np.diff(adjacency.indptr).max(initial=0))
    return _constant(adjacency, 1.0 / (1.0 + top))


def laplacian(adjacency: sp.csr_array) -> sp.csr_array:
    """``C = I - eps L`` with the constant that contracts fastest, ``eps = 2 / (mu_1 + mu_(A-1))``.

    mu_1 is the largest and mu_(A-1) the smallest nonzero eigenvalue of the graph Laplacian L. Mixing weights are never
    negative here, so eps is at most ``1 / max_i degree_i`` (a star would have a negative own weight otherwise). eps is
    rounded down to six digits, so that every machine computes the same one.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    References
    ----------
    L. Xiao, S. Boyd, Fast linear iterations for distributed averaging, Syst. Control Lett. 53 (2004), section 4.1.

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> laplacian(Topology.path(3).adjacency).diagonal()
    array([0.5, 0. , 0.5])
    """
    n, degree = adjacency.shape[0], np.diff(adjacency.indptr)
    if len(adjacency.indices) == 0:
        return _constant(adjacency, 0.0)
    graph_laplacian = (sp.diags_array(degree.astype(np.float64)) - adjacency.astype(np.float64)).tocsr()
    low, high = extreme_eigenvalues(graph_laplacian, 0.0)
    if low < 1e-9 * n:  # not connected: zero is a repeated eigenvalue, look for the next one
        spectrum = np.linalg.eigvalsh(graph_laplacian.toarray())
        low = float(spectrum[spectrum > 1e-9 * n].min())
    eps = 2.0 / (low + high) * (1.0 + 1e-12)
    digits = 10.0 ** (5 - np.floor(np.log10(eps)))
    return _constant(adjacency, min(float(np.floor(eps * digits) / digits), 1.0 / float(degree.max())))


def _constant(adjacency: sp.csr_array, weight: float) -> sp.csr_array:
    rows, cols = rows_of(adjacency), adjacency.indices
    return with_diagonal(rows, cols, np.full(len(rows), weight), adjacency.shape[0])


def _lazy(mixing: sp.csr_array) -> sp.csr_array:
    rows, cols = rows_of(mixing), mixing.indices
    other = rows != cols
    return with_diagonal(rows[other], cols[other], 0.5 * mixing.data[other], mixing.shape[0])


def lazy_metropolis(adjacency: sp.csr_array) -> sp.csr_array:
    """``(I + C) / 2`` with C from `metropolis`: no negative eigenvalue.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    References
    ----------
    A. Olshevsky, Linear time average consensus and distributed optimization on fixed graphs, SIAM J. Control Optim. 55
    (2017), section 2.

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> lazy_metropolis(Topology.path(3).adjacency).diagonal().round(3)
    array([0.833, 0.667, 0.833])
    """
    return _lazy(metropolis(adjacency))


def lazy_max_degree(adjacency: sp.csr_array) -> sp.csr_array:
    """``(I + C) / 2`` with C from `max_degree`.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> lazy_max_degree(Topology.complete(2).adjacency).toarray()
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """
    return _lazy(max_degree(adjacency))


def lazy_laplacian(adjacency: sp.csr_array) -> sp.csr_array:
    """``(I + C) / 2`` with C from `laplacian`.

    Parameters
    ----------
    adjacency : (A, A) CSR
        Symmetric pattern without loops.

    Returns
    -------
    mixing : (A, A) CSR, float64

    Examples
    --------
    >>> from dnnext.network import Topology
    >>> lazy_laplacian(Topology.complete(2).adjacency).diagonal()
    array([0.75, 0.75])
    """
    return _lazy(laplacian(adjacency))


WEIGHTS: dict[str, Callable[[sp.csr_array], sp.csr_array]] = {
    "metropolis": metropolis,
    "max_degree": max_degree,
    "laplacian": laplacian,
    "lazy_metropolis": lazy_metropolis,
    "lazy_max_degree": lazy_max_degree,
    "lazy_laplacian": lazy_laplacian,
}
