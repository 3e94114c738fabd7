"""Mixing: what the agents know is averaged with their neighbours until little disagreement is left.

Design
------
z, y and the scalars of the automatic rule travel as ONE message row ``[z_i | y_i | scalars_i]``; inside a process they
stay separate arrays, and only `Runtime.exchange` packs the rows that cross between ranks. A call of `mix` is one
iteration's worth of rounds. For a fixed graph all decisions are made at construction and a call does no work per agent
in Python; for a schedule the rounds of a call are looked up first (the schedule is public, every rank finds the same
number), then run.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext.network.lanes import Lane, change_of
from dnnext.network.messages import Watch
from dnnext.network.plan import LocalMixing, localise, peers_of
from dnnext.network.schedules import Schedule
from dnnext.network.spectrum import CONTRACTION, Coefficients, Product, chebyshev
from dnnext.network.topology import Topology
from dnnext.runtime import InProcess, Runtime

__all__ = ["Mixed", "Network"]

Array = NDArray[Any]
Rounds = Sequence[tuple[LocalMixing, Coefficients]]

PLAIN = Coefficients(1.0, 0.0, 0.0)
CAP = 100  # rounds per agent after which a schedule is said not to contract


class Mixed(NamedTuple):
    """What `Network.mix` returns.

    Attributes
    ----------
    arrays : tuple of (n_local, P)
        The mixed arrays, in the order given; valid until the next-but-one call of `mix`.
    heard : (n_local,) or (n_local, S)
        Largest scalar of the direct neighbours over all rounds of this call, own excluded; 0 where there was none.
    disagreement : (n_local,) float64
        ``||z_i - sum_j c_ij z_j|| / ||z_i||`` of the first array in the first round; 0 where z_i is 0, infinite
        where it is not a number.
    size : (n_local,) float64 or None
        ``||z_i||`` of the first array, where it was a by-product.

    Examples
    --------
    >>> from dnnext.network import Network, Topology
    >>> mixed = Network(Topology.complete(2)).mix(np.array([[0.0], [2.0]]), scalars=np.array([3.0, 5.0]))
    >>> mixed.arrays[0].ravel(), mixed.heard
    (array([1., 1.]), array([5., 3.]))
    """

    arrays: tuple[Array, ...]
    heard: Array
    disagreement: NDArray[np.float64]
    size: NDArray[np.float64] | None = None


class FixedMixing(NamedTuple):
    """What a kernel needs to do all rounds of a call by itself.

    Attributes
    ----------
    out : list of (n_local, P)
        Where the mixed arrays go; valid until the next-but-one call.
    csr : (indptr, indices, data)
        The matrix, in the precision of the arrays.
    rounds : (K, 3) float64
        Scale, shift and memory of every round.
    """

    out: list[Array]
    csr: tuple[Array, Array, Array]
    rounds: NDArray[np.float64]


class Network:
    """Agents, their links, and the mixing ``w_i <- sum_j c_ij z_j``.

    Parameters
    ----------
    topology : Topology or Schedule
        A fixed graph, or one that changes from round to round.
    mixing_rounds : "auto" or int
        Rounds per call of `mix`. An int asks for that many plain rounds. "auto" contracts disagreement to
        `contract_to`: by the fewest Chebyshev rounds on a fixed graph (plain ones if C is not symmetric), by plain
        rounds until their product contracts on a schedule.
    contract_to : float
        What `mixing_rounds="auto"` may leave of a disagreement, in (0, 1).
    runtime : Runtime, optional
        Where the agents live; default: all in this process.
    n_threads : int
        Threads of the mixing kernel; they change who computes, never what.

    Attributes
    ----------
    n_agents, n_local : int
        Agents of the network, and those held here.
    topology : Topology
        The graph; for a schedule every edge that may ever be active.
    schedule : Schedule or None
    is_static : bool
    mixing_rounds, contract_to
        As given.
    rounds_per_mix : int or None
        Rounds of one call, None where the schedule decides.
    contraction : float or None
        What one call leaves of a disagreement at most; None for a fixed number of rounds of a schedule.
    round : int
        Rounds done so far; set it to resume.
    bytes : int
        Bytes sent by all agents so far, messages (directed active edges) x row bytes x rounds: equal on every engine.
    watch : Watch
        Looks at what other ranks send; `watch.refused` is the first message that was not believed, or None.

    Raises
    ------
    ValueError
        If the graph is not connected or its matrix does not contract, mixing_rounds is neither "auto" nor at least 1,
        or the runtime has another number of agents.

    Examples
    --------
    >>> network = Network(Topology.ring(8))
    >>> network.rounds_per_mix, network.contraction < 0.25
    (3, True)
    >>> z = np.arange(16.0).reshape(8, 2)
    >>> mixed = network.mix(z)
    >>> np.allclose(mixed.arrays[0].mean(axis=0), z.mean(axis=0)), network.round, network.bytes
    (True, 3, 768)
    """

    def __init__(
        self,
        topology: Topology | Schedule,
        *,
        mixing_rounds: str | int = "auto",
        contract_to: float = CONTRACTION,
        runtime: Runtime | None = None,
        n_threads: int = 1,
    ) -> None:
        if not isinstance(topology, Topology | Schedule):
            raise ValueError(f"topology must be a Topology or a Schedule, got {type(topology).__name__}.")
        if isinstance(mixing_rounds, str):
            _checks.check_choice("mixing_rounds", mixing_rounds, ("auto",))
        else:
            mixing_rounds = _checks.check_count("mixing_rounds", mixing_rounds)
        if not 0 < _checks.check_positive("contract_to", contract_to) < 1:
            raise ValueError(f"contract_to must lie in (0, 1), got {contract_to}; 0.25 is the usual choice.")
        self.n_agents, self.mixing_rounds, self.contract_to = topology.n_agents, mixing_rounds, float(contract_to)
        self.n_threads = _checks.check_count("n_threads", n_threads)
        self.runtime = InProcess(topology.n_agents) if runtime is None else runtime
        if self.runtime.n_agents != topology.n_agents:
            raise ValueError(
                f"runtime must have one agent per node of the topology, got {self.runtime.n_agents} agents for "
                f"{topology.n_agents} nodes."
            )
        self.n_local = len(self.runtime.agents)
        self.schedule = topology if isinstance(topology, Schedule) else None
        self._graph = topology if isinstance(topology, Topology) else None
        self.runtime.agree("topology", topology.hash)
        self.runtime.agree("mixing_rounds and contract_to", (mixing_rounds, self.contract_to))
        self.round, self.bytes = 0, 0
        self.watch = Watch()
        self._signature: tuple[Any, ...] = ()
        self._n_ghost = 0
        self._lanes: list[Lane] = []
        is_open = self.schedule is not None and self.schedule.is_open
        self._peers = peers_of(None if is_open else self.topology.adjacency, self.runtime)
        self._key = f"{topology.hash} {self.runtime.bounds.tolist()}"
        self._known: dict[int, LocalMixing] = {}  # rounds of a schedule that repeats itself
        self._lengths: dict[int, int] = {}
        self.contraction: float | None = None
        self.rounds_per_mix: int | None = None
        self._fixed = self._decide()
        self._coefficients = np.array([c for _, c in self._fixed or ()], dtype=np.float64).reshape(-1, 3)

    @property
    def topology(self) -> Topology:
        """The graph; for a schedule every edge that may ever be active."""
        if self._graph is not None:
            return self._graph
        assert self.schedule is not None
        return self.schedule.union

    @property
    def is_static(self) -> bool:
        """Whether every round has the same matrix."""
        return self.schedule is None

    def __repr__(self) -> str:
        return f"<Network of {self.schedule or self._graph!r}, mixing_rounds={self.mixing_rounds!r}>"

    def restart(self) -> None:
        """All agents begin again together, with y = grad: a network that remembers messages forgets them."""

    def _decide(self) -> Rounds | None:
        """All rounds of a call if they are always the same, else None."""
        automatic = isinstance(self.mixing_rounds, str)
        if self.n_agents == 1:
            self.rounds_per_mix, self.contraction = 0, 0.0
            return ()
        if self._graph is None:
            self.rounds_per_mix = None if automatic else int(self.mixing_rounds)
            self.contraction = self.contract_to if automatic else None
            return None
        graph = self._graph
        graph.check_contracts()
        count = graph.rounds_to(self.contract_to) if automatic else int(self.mixing_rounds)
        rounds, self.contraction = [PLAIN] * count, graph.sigma_2**count
        self.runtime.agree("lambda_2 and lambda_n", (graph.lambda_2, graph.lambda_n))
        if automatic and graph.is_symmetric:
            rounds, self.contraction = chebyshev(graph.lambda_2, graph.lambda_n, self.contract_to)
        self.rounds_per_mix = len(rounds)
        local = localise(graph.mixing, self.runtime, self._peers, self._key)
        return [(local, c) for c in rounds]

    def _scheduled(self, t: int) -> Rounds:
        """The rounds of this call, looked up in the schedule from `round` on."""
        if not isinstance(self.mixing_rounds, str):
            return [(self._local(k), PLAIN) for k in range(self.round, self.round + self.mixing_rounds)]
        assert self.schedule is not None
        period = self.schedule.period
        if period is not None and self.round % period in self._lengths:
            count = self._lengths[self.round % period]
            return [(self._local(k), PLAIN) for k in range(self.round, self.round + count)]
        product, rounds = Product(self.n_agents), list[tuple[LocalMixing, Coefficients]]()
        while not product.contracts(self.contract_to):
            if len(rounds) == CAP * self.n_agents:
                raise ValueError(
                    f"schedule {self.schedule.name} must contract disagreement to {self.contract_to}, got more after "
                    f"{len(rounds)} rounds of iteration {t} (from round {self.round} on); its rounds are not jointly "
                    "connected often enough: add edges, or give mixing_rounds a number."
                )
            k = self.round + len(rounds)
            mixing = self.schedule.mixing(k)
            product.multiply(mixing)
            rounds.append((self._local(k, mixing), PLAIN))
        if period is not None:
            self._lengths[self.round % period] = len(rounds)
        return rounds

    def _local(self, k: int, mixing: Any = None) -> LocalMixing:
        """What this rank does in global round k, remembered if the schedule repeats itself."""
        assert self.schedule is not None
        period = self.schedule.period
        if period is not None and k % period in self._known:
            return self._known[k % period]
        mixing = self.schedule.mixing(k) if mixing is None else mixing
        local = localise(mixing, self.runtime, self._peers, self._key)
        if period is not None:
            self._known[k % period] = local
        return local

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """All mixing rounds of one iteration, every row and its scalars in one message.

        Parameters
        ----------
        *arrays : (n_local, P) float64 or float32
            Rows of the local agents, of one dtype; each may have its own P. They are not written to.
        scalars : (n_local,) or (n_local, S), optional
            Numbers that ride along, in the precision of the arrays; neighbours hear them, they are not mixed.
        t : int
            The iteration, for messages.

        Returns
        -------
        mixed : Mixed

        Raises
        ------
        ValueError
            If an array has another shape or dtype, or the schedule never contracts to 0.25.
        """
        arrays = tuple([np.ascontiguousarray(x) for x in arrays])
        if self.is_at_once:
            return self._mix_at_once(arrays, scalars)
        rounds = self._scheduled(t) if self._fixed is None else self._fixed
        self._load(arrays, scalars, rounds)
        lanes, exchanged = self._lanes, self.runtime.is_distributed
        if exchanged:
            self.watch.begin(lanes)
        heard: Array | None = None
        disagreement = size = None
        for k, (local, c) in enumerate(rounds):
            if exchanged:
                self.runtime.exchange([*[lane.rows for lane in lanes], self._scalars], local.plan)
                self.watch.look(lanes, self._scalars, local.plan, self.round)
            if scalars is not None and (k == 0 or self._fixed is None):
                now = local.heard(self._scalars)
                heard = now if heard is None else np.maximum(heard, now, out=heard)
            data = local.data if self._is_double else local.data32
            for lane in lanes:
                lane.mix(k, local, data, c, self.n_threads)
            if k == 0:
                disagreement, size = change_of(arrays[0], lanes[0].local, 1.0 / c.scale, self.n_threads)
            self.bytes += local.n_messages * self._row_bytes
            self.round += 1
        if heard is None:
            heard = np.zeros((self.n_local, self._scalars.shape[1] or 1), dtype=arrays[0].dtype)
        elif self._fixed is None:
            heard[heard == -np.inf] = 0.0
        if disagreement is None:  # a single agent
            disagreement = np.zeros(self.n_local)
        mixed = tuple([lane.finish(len(rounds)) for lane in lanes])
        return Mixed(mixed, heard[:, 0] if self._one_scalar else heard, disagreement, size)

    @property
    def is_at_once(self) -> bool:
        """Whether all rounds of a call are known beforehand and stay in this process, see `fixed_mixing`."""
        return bool(self._fixed) and not self.runtime.is_distributed

    def fixed_mixing(self, *arrays: Array, scalars: Array | None = None) -> FixedMixing:
        """The rounds of one call, counted as done, for who does them elsewhere, where `is_at_once`.

        Arguments as for `mix`, contiguous. Who does not do them says so by `forgo`.
        """
        assert self._fixed
        self._load(arrays, scalars, self._fixed)
        self._count(len(self._fixed))
        local = self._fixed[0][0]
        csr = (local.indptr, local.indices, local.data if self._is_double else local.data32)
        return FixedMixing([lane.reserve() for lane in self._lanes], csr, self._coefficients)

    def forgo(self) -> None:
        """The rounds that the last `fixed_mixing` counted were not done, and what it lent is free again."""
        self._count(-len(self._fixed or ()))
        for lane in self._lanes:
            lane.reserve()  # it changes places with the one kept before

    def _count(self, rounds: int) -> None:
        self.bytes += rounds * self._fixed[0][0].n_messages * self._row_bytes if self._fixed else 0
        self.round += rounds

    def _mix_at_once(self, arrays: tuple[Array, ...], scalars: Array | None) -> Mixed:
        """`mix` with every array taken through all rounds by one kernel call: the same bits."""
        out, csr, rounds = self.fixed_mixing(*arrays, scalars=scalars)
        disagreement, size = np.empty((2, self.n_local))
        for k, x in enumerate(arrays):
            change, norm = (disagreement, size) if k == 0 else (None, None)
            kernels.network_mix(out[k], change, norm, x, *csr, rounds, self.n_threads)
        heard = np.zeros((self.n_local, self._scalars.shape[1] or 1), dtype=arrays[0].dtype)
        if scalars is not None:
            kernels.neighbour_max(heard, self._scalars, *csr)
        return Mixed(tuple(out), heard[:, 0] if self._one_scalar else heard, disagreement, size)

    def _load(self, arrays: tuple[Array, ...], scalars: Array | None, rounds: Rounds) -> None:
        """Check the message, set up buffers where it is a new kind, and put it at the start of the lanes."""
        n_ghost = max([local.plan.n_ghost for local, _ in rounds], default=0) if self.runtime.is_distributed else 0
        signature = (*[(x.shape, x.dtype) for x in arrays], None if scalars is None else np.shape(scalars))
        if signature != self._signature:
            beside = () if scalars is None else (np.shape(scalars)[1:],)
            widths = (*[(x.shape[1:], str(x.dtype)) for x in arrays], *beside)
            self.runtime.agree("the width and precision of a message", widths)
        if signature != self._signature or n_ghost > self._n_ghost:
            self._bind(signature, n_ghost)
        for lane, x in zip(self._lanes, arrays, strict=True):
            lane.load(x, arrays)
        if scalars is not None:
            own = self._scalars[: self.n_local]
            if self._one_scalar:
                own[:, 0] = scalars
            else:
                own[...] = scalars

    def _bind(self, signature: tuple[Any, ...], n_ghost: int) -> None:
        """Check the shapes and set up buffers for them."""
        *shapes, scalars = signature
        n_local = self.n_local
        if not shapes:
            raise ValueError("mix needs at least one array, got none.")
        for place, (shape, dtype) in enumerate(shapes):
            if len(shape) != 2 or shape[0] != n_local or shape[1] == 0:
                raise ValueError(
                    f"array {place} must have shape (n_local, P) with one row for each of the {n_local} agents held "
                    f"here, got {shape}."
                )
            if dtype != shapes[0][1] or dtype not in (np.float64, np.float32):
                raise ValueError(
                    f"all arrays of one message must be float64 or float32 alike, got {shapes[0][1]} and {dtype}."
                )
        if scalars is not None and (len(scalars) not in (1, 2) or scalars[0] != n_local):
            raise ValueError(
                f"scalars must have shape (n_local,) or (n_local, S) for the {n_local} agents held here, got {scalars}."
            )
        dtype, widths = shapes[0][1], [shape[1] for shape, _ in shapes]
        n_scalars = 0 if scalars is None else math.prod(scalars[1:])
        self._lanes = [Lane(n_local, n_ghost, width, dtype) for width in widths]
        self._scalars = np.zeros((n_local + n_ghost, n_scalars), dtype=dtype)
        self._one_scalar, self._is_double = scalars is None or len(scalars) == 1, dtype == np.float64
        self._row_bytes = (sum(widths) + n_scalars) * dtype.itemsize
        self._signature, self._n_ghost = signature, n_ghost
