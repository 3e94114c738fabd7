"""The graph of agents and its mixing matrix."""

import hashlib
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.network import graphs
from dnnext.network.checks import check_adjacency, check_mixing
from dnnext.network.families import RANDOM, Families
from dnnext.network.graphs import is_connected
from dnnext.network.spectrum import CONTRACTION, chebyshev, extreme_eigenvalues, round_outward, spectral_norm
from dnnext.network.weights import WEIGHTS, rows_of

__all__ = ["TOPOLOGIES", "Topology", "drawn_by"]


class Topology(Families):
    """An undirected graph of agents with a doubly stochastic mixing matrix C that fits it.

    Parameters
    ----------
    adjacency : (A, A) array or sparse matrix
        Symmetric; nonzero means an edge, the diagonal is ignored.
    weights : str, callable or (A, A) matrix
        A name of `WEIGHTS`, a function ``adjacency -> matrix``, or the matrix itself: doubly stochastic to 1e-8, not
        negative, within the graph. It need not be symmetric; then mixing takes plain rounds instead of Chebyshev's.
    name : str
        What the graph is called in reports.

    Attributes
    ----------
    adjacency : (A, A) CSR, bool
        Symmetric pattern without loops.
    mixing : (A, A) CSR, float64
        C, rows in ascending column order, diagonal stored.
    name : str

    Raises
    ------
    ValueError
        If the graph is directed, or the matrix is not doubly stochastic, negative, or outside the graph.

    Examples
    --------
    >>> net = Topology.ring(16)
    >>> net.n_edges, net.diameter, round(net.spectral_gap, 4), net.mixing_rounds
    (16, 8, 0.0507, 6)
    >>> Topology([[0, 1], [1, 0]], weights=[[0.75, 0.25], [0.25, 0.75]]).sigma_2
    0.5
    """

    name: str
    mixing: sp.csr_array

    def __init__(self, adjacency: Any, *, weights: Any = "metropolis", name: str = "custom") -> None:
        pattern = check_adjacency(adjacency)
        if isinstance(weights, str):
            mixing = WEIGHTS[_checks.check_choice("weights", weights, WEIGHTS)](pattern)
        else:
            mixing = check_mixing(weights(pattern) if callable(weights) else weights, pattern)
        self._fill(adjacency=pattern, mixing=mixing, name=name)

    @classmethod
    def from_mixing(cls, mixing: Any, *, name: str = "custom") -> Self:
        """The graph on which a doubly stochastic matrix lives: an edge wherever c_ij or c_ji is not zero.

        Parameters
        ----------
        mixing : (A, A) array or sparse matrix
        name : str

        Raises
        ------
        ValueError
            If the matrix is not doubly stochastic or holds a negative number.

        Examples
        --------
        >>> Topology.from_mixing([[0.5, 0.5], [0.5, 0.5]]).n_edges
        1
        """
        return cls._trusted(check_mixing(mixing, name="mixing"), name)

    @classmethod
    def from_adjacency(cls, adjacency: Any, *, weights: Any = "metropolis") -> Self:
        """A graph given by a symmetric matrix; nonzero means an edge, the diagonal is ignored.

        Parameters
        ----------
        adjacency : (A, A) array or sparse matrix
        weights : str, callable or (A, A) matrix

        Examples
        --------
        >>> Topology.from_adjacency([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).degree
        array([1, 2, 1])
        """
        return cls(adjacency, weights=weights)

    @classmethod
    def from_name(
        cls, name: str, n_agents: int, *, random_state: Any = None, weights: Any = "metropolis"
    ) -> "Topology":
        """A built-in graph by its name, with default parameters.

        Parameters
        ----------
        name : str
            One of `TOPOLOGIES`.
        n_agents : int
        random_state : None, int or Generator
            Used by random graphs only; the same int gives the same graph everywhere.
        weights : str, callable or (A, A) matrix

        Examples
        --------
        >>> Topology.from_name("star", 5).degree
        array([4, 1, 1, 1, 1])
        """
        build = TOPOLOGIES[_checks.check_choice("topology", name, TOPOLOGIES)]
        options = {"random_state": random_state} if name in RANDOM else {}
        topology: Topology = build(n_agents, weights=weights, **options)
        return topology

    @classmethod
    def _trusted(cls, mixing: sp.csr_array, name: str) -> Self:
        """Without checks: for matrices this package made or checked."""
        topology = object.__new__(cls)
        topology._fill(mixing=mixing, name=name)
        return topology

    def _fill(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        for matrix in (value for value in fields.values() if sp.issparse(value)):
            for part in (matrix.data, matrix.indices, matrix.indptr):
                part.setflags(write=False)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Topology cannot be changed, got a new {name}; build another one.")

    def __repr__(self) -> str:
        return f"<Topology {self.name}: {self.n_agents} agents, {self.n_edges} edges>"

    @cached_property
    def adjacency(self) -> sp.csr_array:
        """Symmetric pattern (A, A) without loops."""
        return check_adjacency(self.mixing + self.mixing.T)

    @property
    def n_agents(self) -> int:
        """A, the number of agents."""
        return int(self.mixing.shape[0])

    @property
    def n_edges(self) -> int:
        """Undirected edges."""
        return len(self.adjacency.indices) // 2

    @property
    def n_messages(self) -> int:
        """Rows sent in one round: directed pairs (i receives from j), that is stored c_ij besides the diagonal."""
        return len(self.mixing.indices) - self.n_agents

    @property
    def degree(self) -> NDArray[np.int64]:
        """Neighbours of every agent, (A,)."""
        return np.asarray(np.diff(self.adjacency.indptr), dtype=np.int64)

    def neighbours(self, i: int) -> NDArray[np.int64]:
        """Neighbours of agent i, ascending."""
        if not 0 <= _checks.check_count("i", i, minimum=0) < self.n_agents:
            raise ValueError(f"i must be the number of an agent, 0 to {self.n_agents - 1}, got {i}.")
        start, stop = self.adjacency.indptr[i : i + 2]
        return np.asarray(self.adjacency.indices[start:stop], dtype=np.int64)

    @cached_property
    def is_connected(self) -> bool:
        """Whether every agent reaches every other one."""
        return is_connected(self.adjacency)

    @cached_property
    def diameter(self) -> float:
        """Edges between the two agents that are farthest apart; infinite if the graph is not connected."""
        if not self.is_connected:
            return math.inf
        hops = sp.csgraph.shortest_path(self.adjacency.astype(np.float64), directed=False, unweighted=True)
        return int(hops.max())

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether C equals its transpose up to rounding."""
        gap = abs(self.mixing - self.mixing.T)
        return bool(gap.nnz == 0 or gap.max() <= 1e-12)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """(lambda_n, lambda_2), rounded outward."""
        if self.is_symmetric:
            low, high = extreme_eigenvalues(self.mixing, 1.0)
        else:
            high = spectral_norm(self.mixing)
            low = -high
        return round_outward(low, up=False), round_outward(high, up=True)

    @property
    def lambda_2(self) -> float:
        """Largest eigenvalue of C besides the 1, rounded outward to 1e-6 (sigma_2 if C is not symmetric)."""
        return self._ends[1]

    @property
    def lambda_n(self) -> float:
        """Smallest eigenvalue of C besides the 1, rounded outward to 1e-6 (-sigma_2 if C is not symmetric)."""
        return self._ends[0]

    @property
    def sigma_2(self) -> float:
        """``||C - 11'/A||_2 = max(|lambda_2|, |lambda_n|)``: what one plain round leaves of a disagreement."""
        return max(abs(self.lambda_2), abs(self.lambda_n))

    @property
    def spectral_gap(self) -> float:
        """``1 - sigma_2``."""
        return 1.0 - self.sigma_2

    @cached_property
    def mixing_rounds(self) -> int:
        """Fewest rounds of one iteration that contract disagreement to 0.25: Chebyshev rounds if C is symmetric.

        Raises
        ------
        ValueError
            If the graph is not connected, or C never contracts.
        """
        return self.rounds_to(CONTRACTION)

    def rounds_to(self, bound: float) -> int:
        """Fewest rounds that contract disagreement to a bound in (0, 1), see `mixing_rounds`."""
        self.check_contracts()
        if self.n_agents == 1:
            return 0
        if self.is_symmetric:
            return len(chebyshev(self.lambda_2, self.lambda_n, bound)[0])
        return max(1, math.ceil(math.log(bound) / math.log(self.sigma_2))) if self.sigma_2 > 0 else 1

    def check_connected(self) -> None:
        """Refuse a graph in several parts.

        Raises
        ------
        ValueError
            If the graph is not connected.
        """
        if not self.is_connected:
            parts = sp.csgraph.connected_components(self.adjacency, directed=False, return_labels=False)
            raise ValueError(
                f"topology must be connected, got {self.name} with {self.n_agents} agents in {parts} parts; add edges, "
                "or combine it with others in a Schedule."
            )

    def check_contracts(self) -> None:
        """Refuse a matrix under which the agents never agree.

        Raises
        ------
        ValueError
            If the graph is not connected, or sigma_2 is 1.
        """
        self.check_connected()
        if self.sigma_2 >= 1.0:
            raise ValueError(
                f"the mixing matrix of topology {self.name} must contract, got sigma_2 = 1; give every agent a "
                "positive own weight, as the lazy rules do."
            )

    @cached_property
    def hash(self) -> str:
        """Fingerprint of C: equal on two ranks only if they built the same matrix."""
        digest = hashlib.sha256(str(self.n_agents).encode())
        for part in (rows_of(self.mixing), self.mixing.indices):
            digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
        digest.update(np.ascontiguousarray(self.mixing.data, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]


def drawn_by(edges: Callable[[int], graphs.Edges]) -> Callable[..., Topology]:
    """The constructor of a graph whose pairs of agents a function gives, for the table `TOPOLOGIES`.

    Parameters
    ----------
    edges : callable
        ``n_agents -> (E, 2)``; its name and docstring are those of the graph.

    Examples
    --------
    >>> drawn_by(graphs.ring)(4).degree
    array([2, 2, 2, 2])
    """

    def build(n_agents: int, *, weights: Any = "metropolis") -> Topology:
        n = _checks.check_count("n_agents", n_agents)
        return Topology._build(n, edges(n), edges.__name__, weights)

    build.__name__, build.__doc__ = edges.__name__, edges.__doc__
    return build


TOPOLOGIES: dict[str, Any] = {
    "path": Topology.path,
    "ring": Topology.ring,
    "grid": Topology.grid,
    "torus": Topology.torus,
    "star": Topology.star,
    "complete": Topology.complete,
    "hypercube": Topology.hypercube,
    "exponential": Topology.exponential,
    "erdos_renyi": Topology.erdos_renyi,
    "random_geometric": Topology.random_geometric,
    "watts_strogatz": Topology.watts_strogatz,
    "barabasi_albert": Topology.barabasi_albert,
}
