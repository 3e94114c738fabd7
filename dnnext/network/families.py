"""The built-in graphs by name, as constructors of `Topology`."""

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dnnext import _checks
from dnnext.network import graphs

__all__ = ["RANDOM", "Families"]

RANDOM = ("erdos_renyi", "random_geometric", "watts_strogatz", "barabasi_albert")


def _rng(random_state: Any) -> np.random.Generator:
    return np.random.default_rng(_checks.check_random_state(random_state))


class Families:
    """Constructors; `weights` is the name of a rule, a function or a matrix, as in `Topology`."""

    if TYPE_CHECKING:

        def __init__(self, adjacency: Any, *, weights: Any = "metropolis", name: str = "custom") -> None: ...

    @classmethod
    def _build(cls, n: int, edges: graphs.Edges, name: str, weights: Any) -> Self:
        return cls(graphs.adjacency_of(n, edges), weights=weights, name=name)

    @classmethod
    def path(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """A line: agent i receives from i - 1 and i + 1.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.path(4).degree
        array([1, 2, 2, 1])
        """
        n = _checks.check_count("n_agents", n_agents)
        return cls._build(n, graphs.path(n), "path", weights)

    @classmethod
    def ring(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """A circle: agent i receives from i - 1 and i + 1 modulo A.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.ring(4).neighbours(0)
        array([1, 3])
        """
        n = _checks.check_count("n_agents", n_agents)
        return cls._build(n, graphs.ring(n), "ring", weights)

    @classmethod
    def grid(cls, rows: int, cols: int | None = None, *, periodic: bool = False, weights: Any = "metropolis") -> Self:
        """rows x cols agents, each linked to those beside, above and below; with one number, the most square grid.

        A prime number of agents gives a single line. `periodic` joins opposite borders (a torus).

        Parameters
        ----------
        rows : int
            Rows, or the number of agents if `cols` is not given.
        cols : int, optional
        periodic : bool
            Whether opposite borders are joined.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.grid(3, 4).n_edges, Topology.grid(12).n_edges
        (17, 17)
        """
        rows = _checks.check_count("rows", rows)
        shape = graphs.grid_shape(rows) if cols is None else (rows, _checks.check_count("cols", cols))
        edges = graphs.grid(*shape, periodic=periodic)
        return cls._build(math.prod(shape), edges, "torus" if periodic else "grid", weights)

    @classmethod
    def torus(cls, rows: int, cols: int | None = None, *, weights: Any = "metropolis") -> Self:
        """A grid whose opposite borders meet.

        Parameters
        ----------
        rows : int
            Rows, or the number of agents if `cols` is not given.
        cols : int, optional
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.torus(3, 4).degree.max()
        np.int64(4)
        """
        return cls.grid(rows, cols, periodic=True, weights=weights)

    @classmethod
    def star(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """Agent 0 receives from all others, the others from agent 0.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.star(4).degree
        array([3, 1, 1, 1])
        """
        n = _checks.check_count("n_agents", n_agents)
        return cls._build(n, graphs.star(n), "star", weights)

    @classmethod
    def complete(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """Every agent receives from all others; Metropolis weights then average exactly in one round.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.complete(4).sigma_2
        0.0
        """
        n = _checks.check_count("n_agents", n_agents)
        return cls._build(n, graphs.complete(n), "complete", weights)

    @classmethod
    def hypercube(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """Agents whose numbers differ in one bit are linked; n_agents is a power of two.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Raises
        ------
        ValueError
            If n_agents is not a power of two.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.hypercube(8).degree.max(), Topology.hypercube(8).diameter
        (np.int64(3), 3)
        """
        n = _checks.check_count("n_agents", n_agents)
        if n & (n - 1):
            lower = 1 << (n.bit_length() - 1)
            raise ValueError(
                f"n_agents of a hypercube must be a power of two, got {n}; take {lower} or {2 * lower} agents, or "
                "the exponential graph."
            )
        return cls._build(n, graphs.hypercube(n), "hypercube", weights)

    @classmethod
    def exponential(cls, n_agents: int, *, weights: Any = "metropolis") -> Self:
        """Agent i receives from i - 2^k and i + 2^k modulo A for every k: few hops at degree about 2 log2 A.

        Parameters
        ----------
        n_agents : int
            At least 1.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        References
        ----------
        B. Ying et al., Exponential graph is provably efficient for decentralized deep training, NeurIPS (2021),
        section 3; undirected here.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.exponential(10).neighbours(0)
        array([1, 2, 4, 6, 8, 9])
        """
        n = _checks.check_count("n_agents", n_agents)
        return cls._build(n, graphs.exponential(n), "exponential", weights)

    @classmethod
    def erdos_renyi(
        cls, n_agents: int, p: float | None = None, *, random_state: Any = None, weights: Any = "metropolis"
    ) -> Self:
        """Every pair is an edge with probability ``p`` (default ``max(0.3, 2 ln A / A)``, at most 1); connected.

        Parameters
        ----------
        n_agents : int
            At least 1.
        p : float, optional
            Probability of an edge.
        random_state : None, int or Generator
            The same int gives the same graph everywhere.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Raises
        ------
        ValueError
            If 100 draws give no connected graph.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.erdos_renyi(20, random_state=0).is_connected
        True
        """
        n, rng = _checks.check_count("n_agents", n_agents), _rng(random_state)
        if p is None:
            p = min(1.0, max(0.3, 2 * math.log(n) / n))
        chance = _checks.check_between("p", p, 0, 1)
        advice = f"p = {chance:g} is too small, ln(A) / A = {math.log(n) / n:.3g} is where graphs become connected"
        edges = graphs.connected(n, lambda: graphs.erdos_renyi(n, rng, chance), "erdos_renyi", advice)
        return cls._build(n, edges, "erdos_renyi", weights)

    @classmethod
    def random_geometric(
        cls, n_agents: int, radius: float | None = None, *, random_state: Any = None, weights: Any = "metropolis"
    ) -> Self:
        """Uniform points in the unit square, joined when at most `radius` apart; connected.

        The default radius is 1.5 times the one where such graphs become connected, ``sqrt(ln A / (pi A))``.

        Parameters
        ----------
        n_agents : int
            At least 1.
        radius : float, optional
            The side of the square is 1.
        random_state : None, int or Generator
            The same int gives the same graph everywhere.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Raises
        ------
        ValueError
            If 100 draws give no connected graph.

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.random_geometric(30, random_state=0).is_connected
        True
        """
        n, rng = _checks.check_count("n_agents", n_agents), _rng(random_state)
        threshold = math.sqrt(math.log(n) / (math.pi * n))
        reach = 1.5 * threshold if radius is None else _checks.check_positive("radius", radius)
        advice = f"radius = {reach:g} is too small, {threshold:.3g} is where graphs become connected"
        edges = graphs.connected(n, lambda: graphs.random_geometric(n, rng, reach), "random_geometric", advice)
        return cls._build(n, edges, "random_geometric", weights)

    @classmethod
    def watts_strogatz(
        cls, n_agents: int, k: int = 4, p: float = 0.2, *, random_state: Any = None, weights: Any = "metropolis"
    ) -> Self:
        """A small world: a ring of the `k` nearest neighbours (k even), each edge rewired with probability `p`.

        Parameters
        ----------
        n_agents : int
            At least 1.
        k : int
            Neighbours on the ring, even.
        p : float
            Probability that an edge is rewired.
        random_state : None, int or Generator
            The same int gives the same graph everywhere.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Raises
        ------
        ValueError
            If k is odd, or 100 draws give no connected graph.

        References
        ----------
        D. Watts, S. Strogatz, Collective dynamics of small-world networks, Nature 393 (1998).

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.watts_strogatz(20, random_state=0).n_edges
        40
        """
        n, rng = _checks.check_count("n_agents", n_agents), _rng(random_state)
        if _checks.check_count("k", k, minimum=2) % 2:
            raise ValueError(f"k must be even (k / 2 neighbours on either side), got {k}.")
        chance = _checks.check_between("p", p, 0, 1)
        edges = graphs.connected(
            n, lambda: graphs.watts_strogatz(n, rng, k, chance), "watts_strogatz", "take a larger k or a smaller p"
        )
        return cls._build(n, edges, "watts_strogatz", weights)

    @classmethod
    def barabasi_albert(
        cls, n_agents: int, m: int = 2, *, random_state: Any = None, weights: Any = "metropolis"
    ) -> Self:
        """Hubs: each newcomer joins `m` agents, drawn in proportion to their degree. Connected by construction.

        Parameters
        ----------
        n_agents : int
            At least 1.
        m : int
            Edges of a newcomer.
        random_state : None, int or Generator
            The same int gives the same graph everywhere.
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        References
        ----------
        A.-L. Barabási, R. Albert, Emergence of scaling in random networks, Science 286 (1999).

        Examples
        --------
        >>> from dnnext.network import Topology
        >>> Topology.barabasi_albert(20, random_state=0).n_edges
        36
        """
        n, rng = _checks.check_count("n_agents", n_agents), _rng(random_state)
        edges = graphs.barabasi_albert(n, rng, _checks.check_count("m", m))
        return cls._build(n, edges, "barabasi_albert", weights)

    @classmethod
    def from_networkx(cls, graph: Any, *, weights: Any = "metropolis") -> Self:
        """Any undirected networkx graph; agent i is the i-th of ``graph.nodes``, edge attributes are ignored.

        Parameters
        ----------
        graph : networkx graph
        weights : str, callable or (A, A) matrix
            As in `Topology`.

        Raises
        ------
        ValueError
            If it is not a networkx graph, has no node, or is directed.

        Examples
        --------
        >>> import networkx
        >>> from dnnext.network import Topology
        >>> Topology.from_networkx(networkx.petersen_graph()).degree.max()
        np.int64(3)
        """
        if not (hasattr(graph, "nodes") and hasattr(graph, "edges") and hasattr(graph, "is_directed")):
            raise ValueError(f"graph must be a networkx graph, got {type(graph).__name__}.")
        if graph.is_directed():
            raise ValueError("graph must be undirected, got a directed one; use graph.to_undirected().")
        place = {node: i for i, node in enumerate(graph.nodes)}
        if not place:
            raise ValueError("graph must have at least one node, got none.")
        pairs = [(place[edge[0]], place[edge[1]]) for edge in graph.edges]
        edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls._build(len(place), edges, str(getattr(graph, "name", "") or "networkx"), weights)
