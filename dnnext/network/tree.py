"""Sums of rows over all agents along a spanning tree, by messages between neighbours alone.

Design
------
Every agent adds the sums of its children to its own row, in ascending order of their numbers, and hands the result to
its parent; what the root holds then is handed down. That is one round per level and way, and every split of the agents
over ranks adds the same numbers in the same order. The root is a centre of the graph, so no tree is less deep. To find
one takes a search from every agent; of more than `MOST_SEARCHED` agents a few are searched, each where those before
leave the least depth possible. Then the tree may be deeper, at most twice as deep.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext.network.topology import Topology
from dnnext.runtime import ExchangePlan, Runtime

__all__ = ["SpanningTree"]

Array = NDArray[Any]
Ids = NDArray[np.int64]

MOST_SEARCHED = 512  # a search from each takes some 0.1 s
SWEEPS = 16


class Level(NamedTuple):
    """One round: the exchange, and pairs of rows (receiver, sender) in ``local | ghost``, in order."""

    plan: ExchangePlan
    pairs: list[tuple[int, int]]


class SpanningTree:
    """A spanning tree of least depth (of up to 512 agents), and the rounds that add rows up along it.

    Parameters
    ----------
    topology : Topology
        Connected.
    runtime : Runtime
        Where the agents live.
    peers : tuple of int
        Ranks that hold a neighbour of an agent held here.
    key : str
        Names the peers of all ranks.

    Attributes
    ----------
    root, radius : int
        The first of the agents from which the farthest is nearest, and how far that is; of more than 512 agents, the
        first among those of a few searches.
    parent, depth : (A,) int64
        The root is its own parent.
    n_rounds, n_messages : int
        Of one sum: 2 radius, and 2 (A - 1).

    Examples
    --------
    >>> from dnnext.runtime import InProcess
    >>> tree = SpanningTree(Topology.path(5), InProcess(5), (), "")
    >>> tree.root, tree.radius, tree.parent.tolist()
    (2, 2, [1, 2, 2, 2, 3])
    """

    def __init__(self, topology: Topology, runtime: Runtime, peers: tuple[int, ...], key: str) -> None:
        self.runtime, self.peers, self.key = runtime, peers, key
        adjacency = topology.adjacency
        neighbours = [adjacency.indices[a:b].tolist() for a, b in pairwise(adjacency.indptr.tolist())]
        search = _centre if topology.n_agents <= MOST_SEARCHED else _near_centre
        self.root, depth = search(neighbours)
        self.depth: Ids = np.array(depth, dtype=np.int64)
        self.radius = max(depth)
        above = [min([j for j in near if depth[j] < depth[i]], default=i) for i, near in enumerate(neighbours)]
        self.parent: Ids = np.array(above, dtype=np.int64)
        self.n_rounds, self.n_messages = 2 * self.radius, 2 * (topology.n_agents - 1)
        levels = [np.flatnonzero(self.depth == d) for d in range(1, self.radius + 1)]
        self._up = [self._level(children, self.parent[children]) for children in reversed(levels)]
        self._down = [self._level(self.parent[children], children) for children in levels]

    def sum(self, values: Array) -> tuple[Array, list[int]]:
        """``sum_i values_i``, (n_local, k) -> (k,), and the agents whose message was not finite and was left out."""
        if not self.runtime.is_distributed:
            rows = values.copy()
            for level in self._up:
                for receiver, sender in level.pairs:
                    rows[receiver] += rows[sender]
            return rows[self.root].copy(), []
        n_local = len(values)
        n_ghost = max([level.plan.n_ghost for level in [*self._up, *self._down]], default=0)
        rows = np.zeros((n_local + n_ghost, values.shape[1]), dtype=values.dtype)
        rows[:n_local] = values
        bad: list[int] = []
        for level in self._up:
            bad += self._exchange(rows, level.plan)
            for receiver, sender in level.pairs:
                rows[receiver] += rows[sender]
        for level in self._down:
            bad += self._exchange(rows, level.plan)
            for receiver, sender in level.pairs:
                rows[receiver] = rows[sender]
        return rows[0].copy(), bad

    def _exchange(self, rows: Array, plan: ExchangePlan) -> list[int]:
        """Fill the ghost rows; those that are not finite are set to zero and named by their agents."""
        self.runtime.exchange([rows], plan)
        ghosts: Array = rows[plan.n_local : plan.n_local + plan.n_ghost]
        if np.isfinite(ghosts.sum()):
            return []
        bad = np.flatnonzero(~np.isfinite(ghosts).all(axis=1))
        ghosts[bad] = 0
        return [int(agent) for agent in plan.ghosts[bad]]

    def _level(self, senders: Ids, receivers: Ids) -> Level:
        """The round in which every sender's row goes to its receiver."""
        low, high = self.runtime.agents.start, self.runtime.agents.stop
        order = np.lexsort((senders, receivers))
        senders, receivers = senders[order], receivers[order]
        from_here = (senders >= low) & (senders < high)
        to_here = (receivers >= low) & (receivers < high)
        ghosts = np.unique(senders[to_here & ~from_here])
        crossing = from_here & ~to_here
        n, bounds = self.runtime.n_agents, self.runtime.bounds
        wanted = np.unique(_owner(receivers[crossing], bounds) * n + senders[crossing])  # (rank, agent), both ascending
        to_rank, from_rank = wanted // n, _owner(ghosts, bounds)
        plan = ExchangePlan(
            high - low, len(ghosts), ghosts, self.peers, wanted % n - low,
            np.array([np.count_nonzero(to_rank == r) for r in self.peers], dtype=np.int64),
            np.array([np.count_nonzero(from_rank == r) for r in self.peers], dtype=np.int64), self.key,
        )  # fmt: skip
        sent = senders[to_here]
        sent = np.where(from_here[to_here], sent - low, high - low + np.searchsorted(ghosts, sent))
        return Level(plan, list(zip((receivers[to_here] - low).tolist(), sent.tolist(), strict=True)))


def _owner(agents: Ids, bounds: Ids) -> Ids:
    return np.searchsorted(bounds, agents, side="right") - 1


def _centre(neighbours: list[list[int]]) -> tuple[int, list[int]]:
    """The first agent from which the farthest is nearest, and the edges from it to every agent."""
    found = [_depths(neighbours, agent) for agent in range(len(neighbours))]
    root = min(range(len(found)), key=lambda agent: (max(found[agent]), agent))
    return root, found[root]


def _near_centre(neighbours: list[list[int]]) -> tuple[int, list[int]]:
    """The same among the agents of a few searches.

    The farthest agent is at least as far from j as a searched agent is, so every search bounds the depth of all trees
    from below [1]_. Next are the agent of the smallest bound and the farthest one from there, until no bound is smaller
    than the best depth found, or after `SWEEPS` times.

    References
    ----------
    .. [1] F. W. Takes, W. A. Kosters, Computing the eccentricity distribution of large graphs, Algorithms 6 (2013).
    """
    found: dict[int, list[int]] = {}
    bound, agent = np.zeros(len(neighbours), dtype=np.int64), 0
    for _ in range(SWEEPS):
        found[agent] = _depths(neighbours, agent)
        end = found[agent].index(max(found[agent]))
        far = found.setdefault(end, _depths(neighbours, end))
        bound = np.maximum(np.maximum(bound, found[agent]), far)
        bound[[agent, end]] = max(found[agent]), max(far)
        agent = int(np.argmin(bound))
        if agent in found:
            break
    root = min(found, key=lambda agent: (max(found[agent]), agent))
    return root, found[root]


def _depths(neighbours: list[list[int]], start: int) -> list[int]:
    """Edges from `start` to every agent."""
    depth, at = [-1] * len(neighbours), [start]
    depth[start] = 0
    for agent in at:
        for other in neighbours[agent]:
            if depth[other] < 0:
                depth[other] = depth[agent] + 1
                at.append(other)
    return depth
