"""Mixing: what the agents know is averaged with their neighbours until little disagreement is left.

Design
------
z, y and the scalars of the automatic rule travel as ONE message row ``[z_i | y_i | scalars_i]``; inside a process they
stay separate arrays, and only `Runtime.exchange` packs the rows that cross between ranks. A call of `mix` is one
iteration's worth of rounds. For a fixed graph all decisions are made at construction and a call does no work per agent
in Python; for a schedule the rounds of a call are looked up first, then run.
"""

from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext._needs import check_needs
from dnnext.network.lanes import Message, change_of
from dnnext.network.messages import MessageCheck, Refusal
from dnnext.network.mixer import Mixed, MixerState
from dnnext.network.plan import peers_of
from dnnext.network.rounds import FixedRounds, Rounds, ScheduledRounds
from dnnext.network.schedules import Schedule
from dnnext.network.spectrum import CONTRACTION
from dnnext.network.topology import Topology
from dnnext.network.tree import SpanningTree
from dnnext.runtime import InProcess, Runtime

__all__ = ["FixedMixing", "Network"]

Array = NDArray[Any]


class FixedMixing(NamedTuple):
    """What a kernel needs to do all rounds of a call by itself.

    Attributes
    ----------
    out : list of (n_local, P)
        Where the mixed arrays go; they belong to the caller.
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
    contract_to : float, optional
        What `mixing_rounds="auto"` may leave of a disagreement, in (0, 1). Default: what the algorithm of a run asks
        for (`Algorithm.contract_to`), and 0.25 before the first run.
    runtime : Runtime, optional
        Where the agents live; default: all in this process.
    n_threads : int
        Threads of the mixing kernel; their number never changes a result.

    Attributes
    ----------
    n_agents, n_local : int
        Agents of the network, and those held here.
    topology : Topology
        The graph; for a schedule every edge that may ever be active.
    schedule : Schedule or None
    is_static : bool
    mixing_rounds : "auto" or int
        As given.
    contract_to : float
        As given, or as the last algorithm asked.
    rounds_per_mix : int or None
        Rounds of one call, None where the schedule decides.
    contraction : float or None
        What one call leaves of a disagreement at most; None for a fixed number of rounds of a schedule.
    round : int
        Rounds done so far; set it to resume.
    bytes : int
        Bytes sent by all agents so far, messages (directed active edges) x row bytes x rounds: equal on every engine.
    offers : frozenset of str
        What a recipe may ask of this network, see `dnnext._needs`.
    refused : Refusal or None
        The first message of another rank that was refused since this was last set to None.

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

    in_one_call = True  # see `dnnext.algorithms.one_call`

    def __init__(
        self,
        topology: Topology | Schedule,
        *,
        mixing_rounds: str | int = "auto",
        contract_to: float | None = None,
        runtime: Runtime | None = None,
        n_threads: int = 1,
    ) -> None:
        if not isinstance(topology, Topology | Schedule):
            raise ValueError(f"topology must be a Topology or a Schedule, got {type(topology).__name__}.")
        if not _checks.is_word(mixing_rounds, "auto"):
            mixing_rounds = _checks.check_count("mixing_rounds", mixing_rounds, words=("auto",))
        if contract_to is not None and not 0 < _checks.check_positive("contract_to", contract_to) < 1:
            raise ValueError(f"contract_to must lie in (0, 1), got {contract_to}; 0.25 is the usual choice.")
        self.n_agents, self.mixing_rounds = topology.n_agents, mixing_rounds
        self.contract_to = CONTRACTION if contract_to is None else float(contract_to)
        self._is_asked = contract_to is not None  # the user's own wish
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
        self.round, self.bytes = 0, 0
        self._check, self._message = MessageCheck(), Message(self.runtime)
        is_open = self.schedule is not None and self.schedule.is_open
        peers = peers_of(None if is_open else self.topology.adjacency, self.runtime)
        self._place = place = (self.runtime, peers, f"{topology.hash} {self.runtime.bounds.tolist()}")
        self._fixed_rounds = FixedRounds(self._graph, *place) if self._graph is not None and self.n_agents > 1 else None
        self._scheduled = ScheduledRounds(self.schedule, *place) if self.schedule is not None else None
        self._decide()

    def _decide(self) -> None:
        """The rounds of a call, as far as they are known beforehand."""
        self.runtime.agree("mixing_rounds and contract_to", (self.mixing_rounds, self.contract_to))
        automatic = isinstance(self.mixing_rounds, str)
        self._fixed: Rounds | None = None
        self.rounds_per_mix: int | None = None if automatic else int(self.mixing_rounds)
        self.contraction: float | None = self.contract_to if automatic else None
        if self.n_agents == 1:
            self._fixed, self.rounds_per_mix, self.contraction = (), 0, 0.0
        elif self._fixed_rounds is not None:
            self._fixed_rounds.decide(self.mixing_rounds, self.contract_to)
            self._fixed, self.contraction = self._fixed_rounds.rounds, self._fixed_rounds.contraction
            self.rounds_per_mix = len(self._fixed)
        self._coefficients = np.array([c for _, c in self._fixed or ()], dtype=np.float64).reshape(-1, 3)

    def take_contraction(self, contract_to: float) -> None:
        """Contract as far as an algorithm asks, unless the user gave `contract_to` or a number of rounds.

        Parameters
        ----------
        contract_to : float
            In (0, 1).

        Examples
        --------
        >>> network = Network(Topology.ring(8))
        >>> network.take_contraction(0.01)
        >>> network.rounds_per_mix
        7
        """
        if not self._is_asked and self.mixing_rounds == "auto" and contract_to != self.contract_to:
            self.contract_to = float(contract_to)
            self._decide()

    @classmethod
    def examples(cls, runtime: Runtime | None = None) -> list[Self]:
        """Networks of six agents that the contract tests look at."""
        ring = Topology.ring(6)
        alternating = Schedule.alternating(Topology.complete(6), 3)
        plans: tuple[tuple[Topology | Schedule, dict[str, Any]], ...]
        plans = ((ring, {}), (ring, {"mixing_rounds": 2}), (alternating, {}), (alternating, {"mixing_rounds": 4}))
        return [cls(graph, runtime=runtime, **options) for graph, options in plans]

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

    @property
    def offers(self) -> frozenset[str]:
        """What a recipe may ask of this network."""
        fixed = {"static", "tree", "shrinks"} if self.is_static else set[str]()
        return frozenset({"any_arrays", "scalars", "memoryless"} | fixed)

    @property
    def refused(self) -> Refusal | None:
        """The first message of another rank that was refused since this was last set to None."""
        return self._check.refused

    @refused.setter
    def refused(self, value: Refusal | None) -> None:
        self._check.refused = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.schedule or self._graph!r}, mixing_rounds={self.mixing_rounds!r}>"

    def restart(self) -> None:
        """All agents begin again together, with y = grad: a network that remembers messages forgets them."""

    def snapshot(self) -> MixerState:
        """What `restore` needs: rounds and bytes so far."""
        return MixerState({}, {}, {"round": int(self.round), "bytes": int(self.bytes)})

    def restore(self, state: MixerState) -> None:
        """Go on as the network went on that was saved.

        Parameters
        ----------
        state : MixerState
            What `snapshot` returned, the entries of the agents held here.
        """
        self.round, self.bytes = int(state.numbers["round"]), int(state.numbers["bytes"])

    def _rounds(self, t: int) -> Rounds:
        """The rounds of the next call."""
        if self._fixed is not None:
            return self._fixed
        assert self._scheduled is not None
        if isinstance(self.mixing_rounds, int):
            return self._scheduled.fixed(self.round, self.mixing_rounds)
        return self._scheduled.contracting(self.round, self.contract_to, t)

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """All mixing rounds of one iteration, every row and its scalars in one message.

        Parameters
        ----------
        *arrays : (n_local, P) float64 or float32
            Rows of the local agents, of one dtype; each may have its own P. They are not written to.
        scalars : (n_local,) or (n_local, S), optional
            Numbers that are sent along, in the precision of the arrays; neighbours receive them, they are not mixed.
        t : int
            The iteration, for error messages.

        Returns
        -------
        mixed : Mixed
            Its arrays belong to the caller.

        Raises
        ------
        ValueError
            If an array has another shape or dtype, or the schedule never contracts as far as asked.
        """
        arrays = tuple([np.ascontiguousarray(x) for x in arrays])
        if self.is_at_once:
            return self._mix_at_once(arrays, scalars)
        rounds, message, exchanged = self._rounds(t), self._message, self.runtime.is_distributed
        message.load(arrays, scalars, max([local.plan.n_ghost for local, _ in rounds], default=0) if exchanged else 0)
        lanes = message.lanes
        if exchanged:
            self._check.begin(lanes)
        received: Array | None = None
        disagreement, size = np.zeros(self.n_local), None
        for k, (local, c) in enumerate(rounds):
            if exchanged:
                self.runtime.exchange([*[lane.rows for lane in lanes], message.scalars], local.plan)
                self._check.look(lanes, message.scalars, local.plan, self.round)
            if scalars is not None and (k == 0 or self._fixed is None):
                now = local.neighbour_max(message.scalars)
                received = now if received is None else np.maximum(received, now, out=received)
            data = message.weights(local)
            for lane in lanes:
                lane.mix(k, local, data, c, self.n_threads)
            if k == 0:
                disagreement, size = change_of(arrays[0], lanes[0].local, 1.0 / c.scale, self.n_threads)
            self.bytes += local.n_messages * message.row_bytes
            self.round += 1
        if received is not None and self._fixed is None:
            received[received == -np.inf] = 0.0
        mixed = tuple([lane.finish(len(rounds)) for lane in lanes])
        return Mixed(mixed, message.received(received), disagreement, size)

    def sum(self, values: Array) -> Array:
        """``sum_i values_i`` over all agents, by messages between neighbours along a spanning tree of least depth.

        It takes 2 radius rounds and 2 (A - 1) messages, and adds in an order that is the same for every split of the
        agents over ranks. Only a mixer that offers "tree" has it.

        Parameters
        ----------
        values : (n_local, k) float64 or float32

        Returns
        -------
        (k,)
            In the precision of the values.

        Examples
        --------
        >>> network = Network(Topology.path(5))
        >>> network.sum(np.arange(10.0).reshape(5, 2)), network.round, network.bytes
        (array([20., 25.]), 4, 128)
        """
        check_needs("a sum along a tree", {"tree"}, self.offers, {"network": self})
        values = np.ascontiguousarray(values)
        if self.n_agents == 1:
            return np.array(values[0])
        tree: SpanningTree = self._tree
        total, bad = tree.sum(values)
        if bad and self.refused is None:
            self.refused = Refusal(bad[0], self.round, False)
        self.round += tree.n_rounds
        self.bytes += tree.n_messages * values.shape[1] * values.itemsize
        return total

    @cached_property
    def _tree(self) -> SpanningTree:
        return SpanningTree(self.topology, *self._place)

    @property
    def is_at_once(self) -> bool:
        """Whether all rounds of a call are known beforehand and stay in this process, see `fixed_mixing`."""
        return self._fixed is not None and not self.runtime.is_distributed

    def fixed_mixing(self, *arrays: Array, scalars: Array | None = None) -> FixedMixing:
        """The rounds of one call for a kernel that does them, counted as done; only where `is_at_once`.

        Arguments as for `mix`, contiguous. A caller that does not do them after all calls `undo_fixed_mixing`.
        """
        assert self._fixed is not None
        message = self._message
        message.load(arrays, scalars, 0)
        self._count(len(self._fixed))
        if self._fixed:
            local = self._fixed[0][0]
            csr = (local.indptr, local.indices, message.weights(local))
        else:  # one agent, no rounds
            csr = (np.arange(2), np.zeros(1, np.int64), np.ones(1, arrays[0].dtype))
        return FixedMixing([lane.finish_later() for lane in message.lanes], csr, self._coefficients)

    def undo_fixed_mixing(self) -> None:
        """The rounds that the last `fixed_mixing` counted were not done."""
        self._count(-len(self._fixed or ()))

    def _count(self, rounds: int) -> None:
        self.bytes += rounds * self._fixed[0][0].n_messages * self._message.row_bytes if self._fixed else 0
        self.round += rounds

    def _mix_at_once(self, arrays: tuple[Array, ...], scalars: Array | None) -> Mixed:
        """`mix` with every array taken through all rounds by one kernel call: the same bits."""
        out, csr, rounds = self.fixed_mixing(*arrays, scalars=scalars)
        disagreement, size = np.empty((2, self.n_local))
        for k, x in enumerate(arrays):
            change, norm = (disagreement, size) if k == 0 else (None, None)
            kernels.network_mix(out[k], change, norm, x, *csr, rounds, self.n_threads)
        received: Array | None = None
        if scalars is not None and len(rounds):
            received = np.zeros_like(self._message.scalars)
            kernels.neighbour_max(received, self._message.scalars, *csr)
        return Mixed(tuple(out), self._message.received(received), disagreement, size)
