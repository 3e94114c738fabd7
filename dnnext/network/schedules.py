"""Graphs that change from round to round."""

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from dnnext import _checks
from dnnext.network.graphs import is_connected
from dnnext.network.rules import Cycle, Gossip, LinkFailures, Rule, UserRule, edge_parts, one_peer
from dnnext.network.topology import Topology

__all__ = ["SCHEDULES", "Schedule"]

SEARCH = 1000  # rounds in which the agents must have met, unless a window is given


class Schedule:
    """A mixing matrix C[k] for every global round k = 0, 1, ...: doubly stochastic each time, jointly connected.

    A schedule has no state: round k is the same matrix whenever and wherever it is asked for. At construction the edges
    of the first `window` rounds are put together, and must connect all agents.

    Parameters
    ----------
    source : list of Topology, or callable ``k -> matrix``
        Topologies that take turns, or a function that returns the (A, A) matrix (array, sparse or Topology) of round k;
        what it returns is checked in each round.
    window : int, optional
        Rounds whose edges together must connect all agents. Default: the period of a list; else the first number of
        rounds, at most 1000, that does.
    union : Topology, optional
        For a callable only: the graph its matrices live on; default: any two agents may meet.

    Attributes
    ----------
    n_agents : int
    is_open : bool
        Whether any two agents may meet (a callable without `union`).
    window : int
        The rounds after which joint connectivity was found.
    period : int or None
        After how many rounds the schedule repeats itself.
    name : str

    Raises
    ------
    ValueError
        If the agents are not jointly connected, or a matrix is not square, negative, not doubly stochastic, or outside
        the graph.

    Examples
    --------
    >>> halves = [Topology([[0, 1, 0], [1, 0, 0], [0, 0, 0]]), Topology([[0, 0, 0], [0, 0, 1], [0, 1, 0]])]
    >>> schedule = Schedule(halves)
    >>> schedule.window, schedule(0).is_connected, schedule.union.is_connected
    (2, False, True)
    >>> Schedule(lambda k: [[0.5, 0.5], [0.5, 0.5]])(7).mixing.toarray()
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """

    def __init__(self, source: Any, *, window: int | None = None, union: Topology | None = None) -> None:
        self._rule = _rule_of(source, union)
        self.n_agents, self.period = self._rule.n_agents, self._rule.period
        self.name, self.is_open = self._rule.label, self._rule.is_open
        wanted = None if window is None else _checks.check_count("window", window)
        self.window = self._joint_window(wanted)
        self.hash = self._fingerprint()

    @classmethod
    def link_failures(cls, topology: Topology, p: float, random_state: Any = None) -> Self:
        """Each edge fails with probability `p` in each round, both ways at once.

        Metropolis weights are re-formed on the surviving edges, so every round is doubly stochastic; an agent without a
        neighbour keeps its value.

        Parameters
        ----------
        topology : Topology
            A connected graph.
        p : float
            Probability of failure, 0 <= p < 1.
        random_state : None, int or Generator

        Examples
        --------
        >>> schedule = Schedule.link_failures(Topology.ring(8), p=0.5, random_state=0)
        >>> schedule(3).n_edges <= 8
        True
        """
        return cls(LinkFailures(topology, p, random_state))

    @classmethod
    def gossip(cls, topology: Topology, random_state: Any = None) -> Self:
        """A random maximal matching of the graph in each round; matched pairs take their mean, the others wait.

        Parameters
        ----------
        topology : Topology
            A connected graph.
        random_state : None, int or Generator

        References
        ----------
        S. Boyd et al., Randomized gossip algorithms, IEEE Trans. Inf. Theory 52 (2006); many pairs at once here.

        Examples
        --------
        >>> schedule = Schedule.gossip(Topology.complete(6), random_state=0)
        >>> schedule(0).degree
        array([1, 1, 1, 1, 1, 1])
        """
        return cls(Gossip(topology, random_state))

    @classmethod
    def one_peer_exponential(cls, n_agents: int) -> Self:
        """One message per agent and round; ``ceil(log2 A)`` rounds carry numbers from each agent to all.

        If A is a power of two, agent i and agent ``i XOR 2^(k mod log2 A)`` take their mean (the undirected form):
        log2 A rounds average exactly. Otherwise agent i receives from ``i - 2^(k mod ceil(log2 A))`` modulo A,
        ``C = (I + P) / 2`` with a cyclic permutation P: messages go one way, yet C is doubly stochastic, which is all
        that the method needs.

        Parameters
        ----------
        n_agents : int

        References
        ----------
        B. Ying et al., Exponential graph is provably efficient for decentralized deep training, NeurIPS (2021),
        section 4.

        Examples
        --------
        >>> schedule = Schedule.one_peer_exponential(4)
        >>> (schedule(1).mixing @ schedule(0).mixing).toarray()[0]
        array([0.25, 0.25, 0.25, 0.25])
        """
        return cls(Cycle(one_peer(_checks.check_count("n_agents", n_agents)), "one_peer_exponential"))

    @classmethod
    def alternating(cls, topology: Topology, n_parts: int = 2) -> Self:
        """The edges of a graph dealt out into `n_parts` subgraphs that take turns, Metropolis weights in each.

        Parameters
        ----------
        topology : Topology
            A connected graph.
        n_parts : int
            At most the number of edges.

        Examples
        --------
        >>> schedule = Schedule.alternating(Topology.ring(6), 3)
        >>> [schedule(k).n_edges for k in range(3)], schedule.union.n_edges
        ([2, 2, 2], 6)
        """
        return cls(Cycle(edge_parts(topology, n_parts), f"alternating({n_parts})"))

    @property
    def union(self) -> Topology:
        """Every edge that may ever be active, as a graph."""
        return self._rule.union

    def mixing(self, k: int) -> sp.csr_array:
        """C[k], (A, A) CSR, the matrix of global round k."""
        return self._rule(k)

    def __call__(self, k: int) -> Topology:
        """The graph and matrix of global round k."""
        k = _checks.check_count("k", k, minimum=0)
        return Topology._trusted(self.mixing(k), f"{self.name}, round {k}")

    def __repr__(self) -> str:
        return f"<Schedule {self.name}: {self.n_agents} agents, jointly connected in {self.window} rounds>"

    def _joint_window(self, wanted: int | None) -> int:
        """The window that connects all agents, or a sentence."""
        if wanted is None:
            wanted = self.period
        met = sp.csr_array((self.n_agents, self.n_agents))
        for k in range(SEARCH if wanted is None else wanted):
            met = met + self.mixing(k)
            if wanted is None and is_connected(met):
                return k + 1
        if wanted is not None and is_connected(met):
            return wanted
        parts = sp.csgraph.connected_components(met, directed=False, return_labels=False)
        raise ValueError(
            f"schedule {self.name} must connect all {self.n_agents} agents jointly, got {parts} separate parts in the "
            f"union of rounds 0 to {(wanted or SEARCH) - 1}; add edges, lower the failure probability, or give a "
            "longer window."
        )

    def _fingerprint(self) -> str:
        """Equal on two ranks if they have the same edges and the same first rounds."""
        edges = self.n_agents if self.is_open else self.union.hash
        digest = hashlib.sha256(f"{self.name} {getattr(self._rule, 'entropy', None)} {edges}".encode())
        for k in range(min(self.window, 3)):
            matrix = self.mixing(k)
            digest.update(np.asarray(matrix.indices, dtype=np.int64).tobytes() + matrix.data.tobytes())
        return digest.hexdigest()[:16]


def _rule_of(source: Any, union: Topology | None) -> Rule:
    if isinstance(source, LinkFailures | Gossip | Cycle | UserRule):
        return source
    if isinstance(source, Sequence) and not isinstance(source, str):
        if union is not None:
            raise ValueError("union must be None for a list of topologies: it follows from the list.")
        return Cycle(source)
    if callable(source) and not isinstance(source, type):
        return UserRule(source, union)
    raise ValueError(
        "a schedule must be a list of Topology or a function from the round to its matrix, got "
        f"{type(source).__name__}."
    )


SCHEDULES: dict[str, Any] = {
    "link_failures": Schedule.link_failures,
    "gossip": Schedule.gossip,
    "one_peer_exponential": Schedule.one_peer_exponential,
    "alternating": Schedule.alternating,
}
