"""Which rank holds which agents, and what ranks send each other in one round."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short

__all__ = ["ExchangePlan", "check_bounds", "split_agents"]


def split_agents(n_agents: int, n_ranks: int) -> NDArray[np.int64]:
    """Boundaries (n_ranks + 1,) of contiguous blocks whose sizes differ by at most one, larger blocks first.

    Parameters
    ----------
    n_agents, n_ranks : int
        At least one agent per rank.

    Returns
    -------
    ndarray of int64
        Rank r holds the agents ``bounds[r] : bounds[r + 1]``.

    Raises
    ------
    ValueError
        If a rank would hold no agent.

    Examples
    --------
    >>> split_agents(10, 4)
    array([ 0,  3,  6,  8, 10])
    """
    n_agents, n_ranks = _checks.check_count("n_agents", n_agents), _checks.check_count("n_ranks", n_ranks)
    if n_ranks > n_agents:
        raise ValueError(
            f"n_ranks must be at most n_agents, got {n_ranks} ranks for {n_agents} agents; start fewer ranks, or use "
            "more agents."
        )
    size, rest = divmod(n_agents, n_ranks)
    sizes = np.full(n_ranks, size, dtype=np.int64)
    sizes[:rest] += 1
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])


def check_bounds(bounds: Any, n_agents: int, n_ranks: int) -> NDArray[np.int64]:
    """The boundaries given, or those of `split_agents` for None.

    Raises
    ------
    ValueError
        If they leave agents or ranks out.
    """
    if bounds is None:
        return split_agents(n_agents, n_ranks)
    edges: NDArray[np.int64] = np.asarray(bounds, dtype=np.int64)
    if edges.shape != (n_ranks + 1,) or edges[[0, -1]].tolist() != [0, n_agents] or np.any(np.diff(edges) < 1):
        raise ValueError(
            f"bounds must rise from 0 to {n_agents} with at least one agent on each of {n_ranks} ranks, "
            f"got {short(edges.tolist())}."
        )
    return edges


@dataclass(frozen=True, eq=False)
class ExchangePlan:
    """Which rows one rank sends to and receives from each other rank in one round.

    Attributes
    ----------
    n_local, n_ghost : int
        Rows held here, and rows received from other ranks.
    ghosts : (n_ghost,) int64
        Their global agent ids, ascending; ghost g is row ``n_local + g``.
    peers : tuple of int
        Ranks that may ever exchange with this one, ascending. The same for all rounds of one network, so a round in
        which a peer is silent has a count of zero for it.
    send_rows : (sum of send_counts,) int64
        Local rows to send, peer after peer, ascending within a peer.
    send_counts, recv_counts : (len(peers),) int64
        Rows to each peer and from each peer; what comes from the peers fills the ghost rows in order.
    key : str
        Names the peers of *all* ranks (equal on every rank).

    Examples
    --------
    Rank 0 of two holds the agents 0 and 1; it sends agent 1 to rank 1, and receives agent 2 from there.

    >>> one = np.array([1])
    >>> plan = ExchangePlan(2, 1, ghosts=np.array([2]), peers=(1,), send_rows=one, send_counts=one, recv_counts=one,
    ...                     key="0-1")
    >>> plan.n_local + plan.n_ghost
    3
    """

    n_local: int
    n_ghost: int
    ghosts: NDArray[np.int64]
    peers: tuple[int, ...]
    send_rows: NDArray[np.int64]
    send_counts: NDArray[np.int64]
    recv_counts: NDArray[np.int64]
    key: str
