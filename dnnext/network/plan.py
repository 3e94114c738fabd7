"""One round as one rank sees it: its rows of C over ``local | ghost`` rows, and what it sends and receives.

The entries of a row keep ascending *global* order whatever their place in ``local | ghost``, so every split of the
agents into blocks adds the same numbers in the same order.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.network.weights import rows_of
from dnnext.runtime import ExchangePlan, Runtime

__all__ = ["LocalMixing", "localise", "peers_of"]

Array = NDArray[Any]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LocalMixing:
    """The rows of C held here.

    Attributes
    ----------
    plan : ExchangePlan
    indptr, indices : (n_local + 1,), (nnz,) int64
        CSR rows of the local agents; columns are places in ``local | ghost``.
    data : (nnz,) float64
    n_messages : int
        Rows sent in this round in the whole network.
    """

    plan: ExchangePlan
    indptr: Ids
    indices: Ids
    data: NDArray[np.float64]
    n_messages: int

    @cached_property
    def data32(self) -> NDArray[np.float32]:
        """The same weights in single precision."""
        return self.data.astype(np.float32)

    def data_as(self, dtype: np.dtype[Any]) -> Array:
        """The weights in the precision of the message."""
        return self.data if dtype == np.float64 else self.data32

    def neighbour_max(self, scalars: Array) -> Array:
        """Largest scalar of the direct neighbours: (n_local + n_ghost, S) -> (n_local, S); -inf where there is none."""
        largest = np.empty((self.plan.n_local, scalars.shape[1]), dtype=scalars.dtype)
        kernels.neighbour_max(largest, scalars, self.indptr, self.indices, self.data_as(scalars.dtype))
        return largest


def peers_of(adjacency: sp.csr_array | None, runtime: Runtime) -> tuple[int, ...]:
    """Ranks that hold a neighbour of an agent held here; None for the graph means any rank may."""
    if not runtime.is_distributed:
        return ()
    if adjacency is None:
        return tuple(r for r in range(runtime.n_ranks) if r != runtime.rank)
    start, stop = adjacency.indptr[runtime.agents.start], adjacency.indptr[runtime.agents.stop]
    owners = np.unique(_owner(adjacency.indices[start:stop], runtime.bounds))
    return tuple(int(r) for r in owners if r != runtime.rank)


def _owner(agents: Array, bounds: Ids) -> Array:
    return np.searchsorted(bounds, agents, side="right") - 1


def localise(mixing: sp.csr_array, runtime: Runtime, peers: tuple[int, ...], key: str) -> LocalMixing:
    """The part of one round's C that this rank computes, with its exchange plan."""
    n, low, high = runtime.n_agents, runtime.agents.start, runtime.agents.stop
    n_messages = len(mixing.indices) - n
    if not runtime.is_distributed:
        nothing = np.empty(0, dtype=np.int64)
        plan = ExchangePlan(n, 0, nothing, (), nothing, nothing, nothing, key)
        indptr, indices = mixing.indptr.astype(np.int64), mixing.indices.astype(np.int64)
        return LocalMixing(plan, indptr, indices, mixing.data, n_messages)
    rows, cols = rows_of(mixing), mixing.indices.astype(np.int64)
    mine = slice(int(mixing.indptr[low]), int(mixing.indptr[high]))
    ghosts = np.unique(cols[mine][(cols[mine] < low) | (cols[mine] >= high)])
    place = np.full(n, -1, dtype=np.int64)
    place[low:high] = np.arange(high - low)
    place[ghosts] = high - low + np.arange(len(ghosts))
    wanted = (cols >= low) & (cols < high) & ((rows < low) | (rows >= high))
    pairs = np.unique(_owner(rows[wanted], runtime.bounds) * n + cols[wanted])  # (rank, agent), both ascending
    to_rank, from_rank = pairs // n, _owner(ghosts, runtime.bounds)
    plan = ExchangePlan(
        n_local=high - low,
        n_ghost=len(ghosts),
        ghosts=ghosts,
        peers=peers,
        send_rows=pairs % n - low,
        send_counts=np.array([np.count_nonzero(to_rank == r) for r in peers], dtype=np.int64),
        recv_counts=np.array([np.count_nonzero(from_rank == r) for r in peers], dtype=np.int64),
        key=key,
    )
    indptr = (mixing.indptr[low : high + 1] - mixing.indptr[low]).astype(np.int64)
    return LocalMixing(plan, indptr, place[cols[mine]], mixing.data[mine], n_messages)
