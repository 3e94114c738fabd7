"""The agents of a network on the ranks of a communicator.

Design
------
Agents sit in contiguous blocks on ranks: rank r holds ``bounds[r] : bounds[r + 1]``. A rank keeps its own rows and,
below them, the rows that it receives from others (ghosts) in ascending global order. Because blocks are contiguous, the
ghosts that come from one rank are contiguous too: one message per rank pair and round lands in place. The same mixing
kernel then runs on ``local | ghost`` rows, so one process (no ghosts) and many ranks give the same bits.

Sums over agents are formed in agent order and by the same rule on every rank, never by a tree whose shape depends on
the number of ranks: small ones are gathered, large ones run down the ranks as a pipeline that adds one agent after the
other. Both add the same numbers in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext.runtime.alone import Alone
from dnnext.runtime.blocks import ExchangePlan, check_bounds
from dnnext.runtime.communicator import Communicator, RanksLost, WrongMessage
from dnnext.runtime.failures import AgentsLost, BadMessage, lost_agents
from dnnext.runtime.parcel import Parcel

__all__ = ["AgentsLost", "BadMessage", "InProcess", "Runtime"]

Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")

GATHER = 1 << 20  # bytes of all agents up to which a sum is gathered
CHUNK = 1 << 15  # numbers that travel at once down the pipeline


def _names_agents(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Say which agents are lost where the communicator says which ranks are."""

    @wraps(method)
    def call(self: "Runtime", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except RanksLost as lost:
            raise self.lost(lost.ranks, lost.what) from lost
        except WrongMessage as wrong:
            raise self.wrong(wrong) from wrong

    return call


class Runtime:
    """Agents in contiguous blocks on the ranks of a communicator.

    Every rank runs the same program on its block of agents. All methods are collective: every rank calls them, in the
    same order. A decision that ends a loop may use only what `sum_agents`, `max_agents` or `all_agents` returned.

    Parameters
    ----------
    n_agents : int
        Agents of the whole network, at least one per rank.
    comm : Communicator, optional
        The ranks; default: this process alone. `close` closes it.
    bounds : (n_ranks + 1,) ints, optional
        Rank r holds the agents ``bounds[r] : bounds[r + 1]``; default: `split_agents`.
    first_numbers : (n_agents,) ints, optional
        What the agents are called in messages, where some of those with which a run began are lost; default: 0 to
        n_agents - 1.

    Attributes
    ----------
    n_agents : int
    comm : Communicator
    bounds : (n_ranks + 1,) int64
    first_numbers : (n_agents,) int64
    rank, n_ranks : int
        This rank, and how many there are.
    n_here : int
        Ranks on this machine, this one included.
    inner : Communicator
        The ranks that together are one agent, see `Grid`; this rank alone by default.

    Raises
    ------
    ValueError
        If there are more ranks than agents, or bounds do not fit.
    AgentsLost
        From every method, when a rank died or fell silent.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     runtime = Runtime(3, comm)
    ...     return runtime.agents, int(runtime.max_agents(np.array(runtime.agents)))
    >>> threads.run(2, program)
    [(range(0, 2), 2), (range(2, 3), 2)]
    """

    def __init__(
        self,
        n_agents: int,
        comm: Communicator | None = None,
        bounds: ArrayLike | None = None,
        first_numbers: ArrayLike | None = None,
    ) -> None:
        self.n_agents = _checks.check_count("n_agents", n_agents)
        self.comm = comm = Alone() if comm is None else comm
        self.rank, self.n_ranks, self.n_here = comm.rank, comm.size, comm.n_here
        self.bounds = check_bounds(bounds, self.n_agents, comm.size)
        numbers: Any = np.arange(self.n_agents) if first_numbers is None else first_numbers
        self.first_numbers: NDArray[np.int64] = np.asarray(numbers, dtype=np.int64)
        self.has_survivors = False
        self.inner: Communicator = Alone()
        self._parcel, self._counts, self._resumed = Parcel(), np.diff(self.bounds), 0

    def with_agents(self, n_agents: int, bounds: ArrayLike | None = None) -> "Runtime":
        """The runtime of other agents on the same ranks."""
        return Runtime(n_agents, self.comm, bounds)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.n_agents}): rank {self.rank} of {self.n_ranks} holds agents {self.agents[0]} "
            f"to {self.agents[-1]}"
        )

    @property
    def agents(self) -> range:
        """Global ids of the agents held here, a contiguous block."""
        return range(int(self.bounds[self.rank]), int(self.bounds[self.rank + 1]))

    @property
    def is_distributed(self) -> bool:
        """Whether other ranks hold some of the agents."""
        return self.n_ranks > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first of all ranks, which alone prints."""
        return self.rank == 0 and self.inner.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no other rank takes part, neither with other agents nor inside the same one."""
        return self.n_ranks == 1 and self.inner.size == 1

    @property
    def bytes_wire(self) -> int:
        """Bytes that this rank has handed over to reach other ranks: messages and sums alike. Set it to resume."""
        return self._resumed + self.comm.tally.sent

    @bytes_wire.setter
    def bytes_wire(self, count: int) -> None:
        self._resumed = count - self.comm.tally.sent

    @_names_agents
    def exchange(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """Fill ``array[n_local : n_local + n_ghost]`` of every array with the rows of the ranks that own them.

        Parameters
        ----------
        rows : sequence of (at least n_local + n_ghost, ...) C-contiguous arrays of one dtype
            Row i of all arrays together is ONE message row, ``[z_i | y_i | scalars_i]``. An array may end at n_local if
            n_ghost is 0.
        plan : ExchangePlan
            Which rows go to and come from each rank.
        """
        if not self.is_distributed:
            return
        parcel = self._parcel
        parcel.pack(rows, plan)
        self.comm.exchange(parcel.to_peers, parcel.from_peers)
        parcel.unpack(rows)

    @_names_agents
    def all_agents(self, values: Array) -> Array:
        """Values (n_local, ...) of all ranks in agent order, (n_agents, ...), equal everywhere; do not write to it."""
        mine = self._check_local(values)
        if not self.is_distributed:
            return mine
        every = np.empty((self.n_agents, *mine.shape[1:]), dtype=mine.dtype)
        self.comm.allgather(mine, every, self._counts)
        return every

    @_names_agents
    def start_all_agents(self, values: Array) -> Callable[[], Array]:
        """Begin `all_agents`; the function returned waits for it."""
        mine = np.ascontiguousarray(self._check_local(values))
        every = np.empty((self.n_agents, *mine.shape[1:]), dtype=mine.dtype)
        wait = self.comm.start_allgather(mine, every, self._counts)

        def finish() -> Array:
            _names_agents(lambda runtime: wait())(self)
            return every

        return finish

    @_names_agents
    def all_ranks(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order, equal everywhere."""
        return self.comm.texts(text) if self.is_distributed else [text]

    def everyone(self, text: str) -> list[str]:
        """As `all_ranks`, of every rank of every agent."""
        return self.all_ranks(text)

    @_names_agents
    def later(self, text: str) -> Callable[[], list[str]]:
        """As `all_ranks`, but within `gathering` the text may wait for the next message; call what is returned."""
        get = self.comm.later(text)
        return lambda: _names_agents(lambda runtime: get())(self)

    @_names_agents
    def later_agents(self, values: Array) -> Callable[[], Array]:
        """As `all_agents`, but within `gathering` the values may wait for the next message; call what is returned."""
        mine = self._check_local(values)
        if not self.is_distributed:
            return lambda: mine
        every = np.empty((self.n_agents, *mine.shape[1:]), dtype=mine.dtype)
        get = self.comm.later_array(np.ascontiguousarray(mine), every, self._counts)
        return lambda: _names_agents(lambda runtime: get())(self)

    def later_sum(self, values: Array) -> Callable[[], Any]:
        """As `sum_agents` of few numbers, but within `gathering` they may wait for the next message."""
        get = self.later_agents(values)
        return lambda: _added(get())

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Checks and texts wait for the next message, see `Communicator.gathering`."""
        try:
            with self.comm.gathering():
                yield
        except RanksLost as lost:
            raise self.lost(lost.ranks, lost.what) from lost

    @_names_agents
    def stop_gathering(self) -> None:
        """From here on every check is a message of its own again."""
        self.comm.stop_gathering()

    @_names_agents
    def sum_agents(self, values: Array) -> Any:
        """``sum_i values_i`` over all agents; values (n_local, ...) -> (...).

        The values are added in agent order and the same way everywhere. Floats are added and returned in float64,
        counts and flags in int64.
        """
        values = self._check_local(values)
        row, is_float = values[0].size, values.dtype.kind == "f"
        if self.is_distributed and is_float and not self.gathers(row):
            return self._sum_down_the_ranks(values)
        return _added(self.all_agents(values))

    def gathers(self, row: int) -> bool:
        """Whether a sum of so many numbers is formed from those of all agents, gathered on every rank."""
        return self.comm.is_far or row * self.n_agents * 8 <= GATHER or row < CHUNK // 8

    def max_agents(self, values: Array) -> Any:
        """``max_i values_i`` over all agents; values (n_local, ...) -> (...). NaN wins over every number."""
        return np.maximum.reduce(self.all_agents(values), axis=0)

    def agree(self, name: str, value: Any) -> None:
        """Compare a value over the ranks, by its fingerprint.

        Raises
        ------
        ValueError
            On every rank, naming the field and a rank that differs.
        """
        self.agree_on({name: value})

    @_names_agents
    def agree_on(self, fields: dict[str, Any]) -> None:
        """`agree` on several named values at once.

        Raises
        ------
        ValueError
            On every rank, naming the first field that differs and a rank where it does.
        """
        self.comm.agree_on(fields)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block of work without messages that may fail on some ranks only: its error is then raised on all.

        Raises
        ------
        ValueError, TypeError, OSError, MemoryError, or else RuntimeError
            On every rank, the sentence of the first rank that failed, and which it was.
        """
        try:
            with self.comm.together():
                yield
        except RanksLost as lost:
            raise self.lost(lost.ranks, lost.what) from lost
        except WrongMessage as wrong:
            raise self.wrong(wrong) from wrong

    @_names_agents
    def survivors(self) -> "Runtime":
        """The runtime of the agents that are left, in their order, after `AgentsLost`. Collective among them."""
        comm = self.comm.survivors()
        blocks = [np.arange(self.bounds[r], self.bounds[r + 1]) for r in comm.members]
        bounds = np.concatenate([[0], np.cumsum([len(block) for block in blocks])])
        comm.tally = self.comm.tally
        rest = Runtime(int(bounds[-1]), comm, bounds, self.first_numbers[np.concatenate(blocks)])
        rest._resumed = self._resumed
        return rest

    def lost(self, ranks: Sequence[int], what: str) -> AgentsLost:
        """The error that names the agents of these ranks and what became of them."""
        self.has_survivors = self.comm.has_survivors
        return lost_agents(self.rank, RanksLost(ranks, what), self.bounds, self.first_numbers)

    def wrong(self, message: WrongMessage) -> BadMessage:
        """The error that names the first agent of the rank that sent it."""
        agent = int(self.first_numbers[self.bounds[message.rank]])
        return BadMessage(f"{message}, in operation {message.operation}.", agent, message.operation)

    def close(self) -> None:
        """Give back what the communicator holds; it cannot be used afterwards. Collective."""
        self.comm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self.comm.__exit__(kind, error)

    def _sum_down_the_ranks(self, values: Array) -> Array:
        """Rank r adds its agents to what the ranks before have added, chunk by chunk; the last one hands it to all."""
        comm, last = self.comm, self.n_ranks - 1
        total, parts = np.empty(values.shape[1:]), values.reshape(len(values), -1)
        flat = total.reshape(-1)
        for low in range(0, flat.size, CHUNK):
            piece = flat[low : low + CHUNK]
            if self.rank:
                comm.receive(piece, self.rank - 1)
            else:
                piece[...] = parts[0, low : low + CHUNK]
            for agent in parts[0 if self.rank else 1 :, low : low + CHUNK]:
                piece += agent
            if self.rank != last:
                comm.send(piece, self.rank + 1)
        comm.broadcast(total, last)
        return total

    def _check_local(self, values: Array) -> Array:
        values = np.asarray(values)
        if values.ndim == 0 or len(values) != len(self.agents):
            raise ValueError(
                f"values must have one entry for each of the {len(self.agents)} agents held here, "
                f"got shape {values.shape}."
            )
        return values


def _added(every: Array) -> Any:
    """The sum over agents, in agent order."""
    dtype = np.float64 if every.dtype.kind == "f" else np.int64
    return np.add.reduce(np.ascontiguousarray(every), axis=0, dtype=dtype)


class InProcess(Runtime):
    """All agents in one process; every row is local.

    Parameters
    ----------
    n_agents : int
        How many agents, at least 1.

    Examples
    --------
    >>> runtime = InProcess(3)
    >>> runtime.agents, runtime.is_distributed
    (range(0, 3), False)
    >>> float(runtime.sum_agents(np.array([1.0, 2.0, 4.0])))
    7.0
    """

    def __init__(self, n_agents: int) -> None:
        super().__init__(n_agents, Alone())

    def __repr__(self) -> str:
        return f"InProcess({self.n_agents})"
