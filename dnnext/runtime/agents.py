"""The contract between the recipes and the place where the agents live.

Design
------
Agents sit in contiguous blocks on ranks: rank r holds ``bounds[r] : bounds[r + 1]``. A rank keeps its own rows and,
below them, the rows it hears of others (ghosts) in ascending global order. Because blocks are contiguous, the ghosts
that come from one rank are contiguous too: one message per rank pair and round lands in place. The same mixing kernel
then runs on ``local | ghost`` rows, so one process (no ghosts) and many ranks give the same bits.

Sums over agents are gathered in agent order and added on every rank by the same rule, never reduced by a tree whose
shape depends on the number of ranks.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks

__all__ = ["AgentsLost", "BadMessage", "ExchangePlan", "Runtime", "check_bounds", "split_agents"]

Array = NDArray[Any]

TOLD: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, MemoryError)  # kinds kept from rank to rank


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
            f"got {edges.tolist()}."
        )
    return edges


@dataclass(frozen=True, eq=False)
class ExchangePlan:
    """Who sends which rows to whom in one round, seen from one rank.

    Attributes
    ----------
    n_local, n_ghost : int
        Rows held here, and rows heard from other ranks.
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
        Names the peers of *all* ranks (equal on every rank): a runtime may keep one communicator per key.

    Examples
    --------
    Rank 0 of two holds the agents 0 and 1; it sends agent 1 to rank 1, and hears agent 2 from there.

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


class AgentsLost(RuntimeError):
    """Ranks that died or fell silent, and their agents with them.

    Attributes
    ----------
    ranks : tuple of int
        The ranks that are gone; empty if all answer but wait for different things.
    agents : tuple of int
        Global ids of the agents they held.

    Examples
    --------
    >>> lost = AgentsLost("rank 1 with agents 2 and 3 fell silent", ranks=[1], agents=[2, 3])
    >>> lost.agents
    (2, 3)
    """

    def __init__(self, sentence: str, ranks: Sequence[int] = (), agents: Sequence[int] = ()) -> None:
        super().__init__(sentence)
        self.ranks, self.agents = tuple(ranks), tuple(agents)


class BadMessage(RuntimeError):
    """An agent sent what cannot be true: numbers that are not finite or absurdly large.

    Attributes
    ----------
    agent : int
        Who sent it.
    round : int
        The mixing round, counted from 0.

    Examples
    --------
    >>> BadMessage("agent 3 sent what is not finite in round 12", agent=3, round_=12).round
    12
    """

    def __init__(self, sentence: str, agent: int, round_: int) -> None:
        super().__init__(sentence)
        self.agent, self.round = agent, round_


class Runtime(ABC):
    """Where the agents live.

    Every rank runs the same program on its block of agents. All methods are collective: every rank calls them, in the
    same order. A decision that ends a loop may use only what `sum_agents`, `max_agents` or `all_agents` returned.

    Attributes
    ----------
    n_agents : int
        Agents of the whole network.
    bounds : (n_ranks + 1,) int64
        Rank r holds the agents ``bounds[r] : bounds[r + 1]``.
    rank, n_ranks : int
        This rank, and how many there are.
    n_here : int
        Ranks on this machine, this one included.
    bytes_wire : int
        Bytes that this rank has handed over to reach other ranks: messages and sums alike.

    Examples
    --------
    >>> from dnnext.runtime import InProcess
    >>> runtime = InProcess(3)
    >>> isinstance(runtime, Runtime), runtime.n_ranks, int(runtime.max_agents(np.array([4, 9, 2])))
    (True, 1, 9)
    """

    n_agents: int
    bounds: NDArray[np.int64]
    rank: int
    n_ranks: int
    n_here: int = 1
    bytes_wire: int = 0

    @property
    def agents(self) -> range:
        """Global ids of the agents held here, a contiguous block."""
        return range(int(self.bounds[self.rank]), int(self.bounds[self.rank + 1]))

    @property
    def is_distributed(self) -> bool:
        """Whether other ranks hold some of the agents."""
        return self.n_ranks > 1

    @abstractmethod
    def exchange(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """Fill ``array[n_local : n_local + n_ghost]`` of every array with the rows of the ranks that own them.

        Parameters
        ----------
        rows : sequence of (at least n_local + n_ghost, ...) C-contiguous arrays of one dtype
            Row i of all arrays together is ONE message row, ``[z_i | y_i | scalars_i]``. An array may end at n_local if
            n_ghost is 0.
        plan : ExchangePlan
            Who sends which rows to whom.
        """

    @abstractmethod
    def all_agents(self, values: Array) -> Array:
        """Values (n_local, ...) of all ranks in agent order, (n_agents, ...), equal everywhere; do not write to it."""

    @abstractmethod
    def all_ranks(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order, equal everywhere."""

    def agree(self, name: str, value: Any) -> None:
        """Compare a str, number, bool, None or tuple of those over the ranks.

        Raises
        ------
        ValueError
            On every rank, naming the field and a rank that differs.
        """
        self.agree_on({name: value})

    def agree_on(self, fields: dict[str, Any]) -> None:
        """`agree` on several named values at once.

        Raises
        ------
        ValueError
            On every rank, naming the first field that differs and a rank where it does.
        """
        told = [json.loads(text) for text in self.all_ranks(json.dumps({k: repr(v) for k, v in fields.items()}))]
        for rank, other in enumerate(told):
            for name in {**told[0], **other}:
                first, here = told[0].get(name, "nothing"), other.get(name, "nothing")
                if first != here:
                    raise ValueError(
                        f"{name} must be equal on all ranks, got {here} on rank {rank} and {first} on rank 0."
                    )

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block of work without messages that may fail on some ranks only: its error is then raised on all.

        Raises
        ------
        ValueError, TypeError, OSError, MemoryError, or else RuntimeError
            On every rank, what the first rank that failed said, and which it was.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        if not self.is_distributed:
            if failure is not None:
                raise failure
            return
        kinds = [kind for kind in TOLD if isinstance(failure, kind)]
        mine = "" if failure is None else f"{kinds[0].__name__ if kinds else type(failure).__name__} {failure}"
        for rank, text in enumerate(self.all_ranks(mine)):
            if text:
                name, _, sentence = text.partition(" ")
                known = {kind.__name__: kind for kind in TOLD}
                sentence = sentence if name in known else f"{name}: {sentence}"
                raise known.get(name, RuntimeError)(f"rank {rank}: {sentence}") from failure

    @property
    def has_survivors(self) -> bool:
        """Whether agents were lost and the others may go on, on `survivors`."""
        return False

    def survivors(self) -> "Runtime":
        """The runtime of the agents that are left, in their order, after `AgentsLost`. Collective among them."""
        raise NotImplementedError(f"{type(self).__name__} cannot go on without its lost agents.")

    def lost(self, ranks: Sequence[int], what: str) -> AgentsLost:
        """The error that names the agents of these ranks and what became of them."""
        if not ranks:
            return AgentsLost(
                f"rank {self.rank} waited in vain although every rank answers: they wait for different things. Every "
                "rank must make the same calls in the same order"
            )
        names = [f"agents {self.bounds[r]} to {self.bounds[r + 1] - 1} (rank {r})" for r in ranks]
        agents = [int(i) for r in ranks for i in range(self.bounds[r], self.bounds[r + 1])]
        return AgentsLost(f"{', '.join(names)} {what}", ranks, agents)

    def close(self) -> None:
        """Give back what the runtime holds; it cannot be used afterwards. Collective."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:  # else the others may be waiting elsewhere
            self.close()

    def sum_agents(self, values: Array) -> Any:
        """``sum_i values_i`` over all agents; values (n_local, ...) -> (...).

        The values are gathered in agent order and added the same way everywhere. Floats are added and
        returned in float64, counts and flags in int64.
        """
        gathered = np.ascontiguousarray(self.all_agents(values))
        return np.add.reduce(gathered, axis=0, dtype=np.float64 if gathered.dtype.kind == "f" else np.int64)

    def max_agents(self, values: Array) -> Any:
        """``max_i values_i`` over all agents; values (n_local, ...) -> (...). NaN wins over every number."""
        return np.maximum.reduce(self.all_agents(values), axis=0)

    def _check_local(self, values: Array) -> Array:
        values = np.asarray(values)
        if values.ndim == 0 or len(values) != len(self.agents):
            raise ValueError(
                f"values must have one entry for each of the {len(self.agents)} agents held here, "
                f"got shape {values.shape}."
            )
        return values
