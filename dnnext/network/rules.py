"""What happens in round k: small picklable rules ``k -> mixing matrix`` that schedules are made of.

Rules keep no state: the draws of round k come from ``SeedSequence([entropy, k])``, so any rank and any resumed run sees
the same round k. A rule has ``n_agents``, ``union`` (every edge that may ever be active), ``period`` (None if it never
repeats), ``label``, and ``is_open`` (nothing is known of the edges, any two agents may meet).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.network.checks import check_mixing
from dnnext.network.topology import Topology
from dnnext.network.weights import metropolis_values, rows_of, with_diagonal

__all__ = ["Cycle", "Gossip", "LinkFailures", "Rule", "UserRule", "edge_parts", "one_peer"]


class Rule(Protocol):
    """What a schedule asks of its rule."""

    @property
    def n_agents(self) -> int:
        """A."""

    @property
    def union(self) -> Topology:
        """Every edge that may ever be active."""

    @property
    def period(self) -> int | None:
        """After how many rounds it repeats itself."""

    @property
    def label(self) -> str:
        """What it is called in reports."""

    @property
    def is_open(self) -> bool:
        """Whether any two agents may meet."""

    def __call__(self, k: int) -> sp.csr_array:
        """The mixing matrix of round k."""


def _entropy(random_state: Any) -> int:
    return int(_checks.check_random_state(random_state).generate_state(1, np.uint64)[0])


class _Edges:
    """Edges of a connected graph, once as pairs and once in both directions as CSR lists them."""

    def __init__(self, topology: Topology, random_state: Any) -> None:
        if not isinstance(topology, Topology):
            raise ValueError(f"topology must be a Topology, got {type(topology).__name__}.")
        topology.check_connected()
        self.union, self.n_agents = topology, topology.n_agents
        self.period, self.is_open = None, False
        self.entropy = _entropy(random_state)
        pattern = topology.adjacency
        self.rows, self.cols = rows_of(pattern), np.asarray(pattern.indices, dtype=np.int64)
        upper = self.rows < self.cols
        self.low, self.high = self.rows[upper], self.cols[upper]
        key = np.minimum(self.rows, self.cols) * self.n_agents + np.maximum(self.rows, self.cols)
        self.edge = np.searchsorted(self.low * self.n_agents + self.high, key)  # which pair an entry belongs to

    def rng(self, k: int) -> np.random.Generator:
        """The draws of round k."""
        return np.random.default_rng(np.random.SeedSequence([self.entropy, k]))


class LinkFailures(_Edges):
    """Each edge fails with probability p in each round; Metropolis weights are re-formed on the surviving ones."""

    def __init__(self, topology: Topology, p: float, random_state: Any) -> None:
        self.p = _checks.check_between("p", p, 0, 1, open_high=True)
        super().__init__(topology, random_state)
        self.label = f"link_failures(p={self.p:g})"

    def __call__(self, k: int) -> sp.csr_array:
        """Metropolis weights of the edges alive in round k."""
        alive = (self.rng(k).random(len(self.low)) >= self.p)[self.edge]
        rows, cols = self.rows[alive], self.cols[alive]
        return with_diagonal(rows, cols, metropolis_values(rows, cols, self.n_agents), self.n_agents)


class Gossip(_Edges):
    """A random maximal matching in each round; matched pairs average, the others keep their values."""

    label = "gossip"

    def __init__(self, topology: Topology, random_state: Any) -> None:
        super().__init__(topology, random_state)

    def __call__(self, k: int) -> sp.csr_array:
        """Means of the pairs matched in round k."""
        active = self._matching(k)[self.edge]
        rows, cols = self.rows[active], self.cols[active]
        return with_diagonal(rows, cols, np.full(len(rows), 0.5), self.n_agents)

    def _matching(self, k: int) -> NDArray[np.bool_]:
        """Edges in a random order, each taken if both ends are still free (in bulk: the first of both its ends)."""
        turn = self.rng(k).permutation(len(self.low))
        chosen = np.zeros(len(self.low), dtype=bool)
        left = np.arange(len(self.low))
        while len(left):
            low, high, mine = self.low[left], self.high[left], turn[left]
            first = np.full(self.n_agents, len(turn))
            np.minimum.at(first, low, mine)
            np.minimum.at(first, high, mine)
            take = (first[low] == mine) & (first[high] == mine)
            chosen[left[take]] = True
            busy = np.zeros(self.n_agents, dtype=bool)
            busy[low[take]] = busy[high[take]] = True
            left = left[~(busy[low] | busy[high])]
        return chosen


class Cycle:
    """Given topologies in turn."""

    def __init__(self, topologies: Sequence[Topology], label: str = "cycle") -> None:
        if len(topologies) == 0:
            raise ValueError("a schedule must have at least one topology, got an empty list.")
        for k, topology in enumerate(topologies):
            if not isinstance(topology, Topology):
                raise ValueError(f"a schedule must be a list of Topology, got {type(topology).__name__} at {k}.")
            if topology.n_agents != topologies[0].n_agents:
                raise ValueError(
                    "all topologies of a schedule must have the same number of agents, got "
                    f"{topologies[0].n_agents} at 0 and {topology.n_agents} at {k}."
                )
        self.topologies, self.label = tuple(topologies), label
        self.n_agents, self.period, self.is_open = topologies[0].n_agents, len(topologies), False
        pattern = sum((t.adjacency.astype(np.int64) for t in topologies), sp.csr_array((self.n_agents, self.n_agents)))
        self.union = Topology(pattern, name=f"union of {label}")

    def __call__(self, k: int) -> sp.csr_array:
        """The matrix whose turn it is in round k."""
        return self.topologies[k % self.period].mixing


class UserRule:
    """A user's function ``k -> matrix``, checked in each round; without a graph any two agents may meet."""

    period, label = None, "callable"

    def __init__(self, function: Callable[[int], Any], union: Topology | None) -> None:
        self.function = function
        first = self._matrix(0, None)
        self.n_agents = int(first.shape[0])
        if union is not None and not isinstance(union, Topology):
            raise ValueError(f"union must be a Topology or None, got {type(union).__name__}.")
        self._given, self._within = union, None if union is None else union.adjacency
        self.is_open = union is None

    @cached_property
    def union(self) -> Topology:
        """The given graph, or the complete one (built only when asked for)."""
        return Topology.complete(self.n_agents) if self._given is None else self._given

    def _matrix(self, k: int, within: sp.csr_array | None) -> sp.csr_array:
        matrix = self.function(k)
        if isinstance(matrix, Topology):
            matrix = matrix.mixing
        return check_mixing(matrix, within, name=f"the matrix of round {k}")

    def __call__(self, k: int) -> sp.csr_array:
        """What the function gives for round k, checked."""
        matrix = self._matrix(k, self._within)
        if matrix.shape[0] != self.n_agents:
            raise ValueError(
                f"the matrix of round {k} must have one row per agent, got {matrix.shape[0]} rows for {self.n_agents} "
                "agents."
            )
        return matrix


def edge_parts(topology: Topology, n_parts: int) -> list[Topology]:
    """Edge-disjoint subgraphs that make up the graph: its sorted edges dealt out in turn, Metropolis weights each."""
    if not isinstance(topology, Topology):
        raise ValueError(f"topology must be a Topology, got {type(topology).__name__}.")
    n_parts = _checks.check_count("n_parts", n_parts)
    if n_parts > max(1, topology.n_edges):
        raise ValueError(
            f"n_parts must be at most the number of edges, got {n_parts} parts of {topology.n_edges} edges."
        )
    n, pattern = topology.n_agents, topology.adjacency
    rows, cols = rows_of(pattern), pattern.indices
    upper = rows < cols
    low, high = rows[upper], cols[upper]
    parts = []
    for part in range(n_parts):
        i, j = low[part::n_parts], high[part::n_parts]
        one_way = sp.coo_array((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
        parts.append(Topology(one_way + one_way.T, name=f"{topology.name}, part {part + 1} of {n_parts}"))
    return parts


def one_peer(n: int) -> list[Topology]:
    """Round k of ceil(log2 n): partner ``i XOR 2^k`` if n is a power of two, else agent i receives from ``i - 2^k``."""
    if n == 1:
        return [Topology.complete(1)]
    i, exact = np.arange(n), n & (n - 1) == 0
    rounds = []
    for b in range((n - 1).bit_length()):
        sender = i ^ (1 << b) if exact else (i - (1 << b)) % n
        half = sp.coo_array((np.full(2 * n, 0.5), (np.r_[i, i], np.r_[i, sender])), shape=(n, n))
        rounds.append(Topology.from_mixing(half, name=f"one-peer exponential, hop {1 << b}"))
    return rounds
