"""Ranks in a row, a square or a cube: agents that are groups of ranks, and the groups inside one of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext.runtime.agents import AgentsLost, Runtime
from dnnext.runtime.communicator import Communicator, RanksLost, Tally

__all__ = ["Cube", "Grid", "Square"]

Array = NDArray[Any]


class GroupedAgents(Runtime):
    """Agents whose ranks are groups: what is mixed and summed stays at one place, what is decided all ranks decide.

    Parameters
    ----------
    n_agents : int
    comm : Communicator
        The ranks that have this rank's place inside their groups.
    inner : Communicator
        The ranks of this rank's group.
    whole : Communicator
        All ranks, group after group.
    bounds : (n_groups + 1,) ints, optional
        As for `Runtime`.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> threads.run(4, lambda comm: Grid(comm, agents=2).agents.everyone(str(comm.rank)))[0]
    ['0', '1', '2', '3']
    """

    def __init__(
        self, n_agents: int, comm: Communicator, inner: Communicator, whole: Communicator,
        bounds: ArrayLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n_agents, comm, bounds)
        self.inner, self.whole = inner, whole

    def with_agents(self, n_agents: int, bounds: ArrayLike | None = None) -> "GroupedAgents":
        """The runtime of other agents on the same groups."""
        return GroupedAgents(n_agents, self.comm, self.inner, self.whole, bounds)

    def max_agents(self, values: Array) -> Any:
        """As of `Runtime`, over all ranks inside the agents, too."""
        values = values.copy()
        self.inner.allreduce(values, "max")
        return super().max_agents(values)

    def all_ranks(self, text: str) -> list[str]:
        """The texts of the first rank of every group, equal on all ranks."""
        return list(json.loads(self.inner.texts(json.dumps(super().all_ranks(text)))[0]))

    def later(self, text: str) -> Callable[[], list[str]]:
        """As `all_ranks`; it does not wait."""
        every = self.all_ranks(text)
        return lambda: every

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Nothing waits: an error at one place must be raised at all of them at once."""
        yield

    def everyone(self, text: str) -> list[str]:
        """The texts of all ranks, group after group."""
        return self.whole.texts(text)

    def agree_on(self, fields: dict[str, Any]) -> None:
        """As of `Runtime`, over the ranks at one place; a difference is an error on all ranks."""
        with self.together():
            super().agree_on(fields)

    @contextmanager
    def together(self) -> Iterator[None]:
        """As of `Runtime`, over all ranks."""
        try:
            with self.whole.together():
                yield
        except RanksLost as lost:
            raise self.lost(lost.ranks, lost.what) from lost

    def lost(self, ranks: Sequence[int], what: str) -> AgentsLost:
        """As of `Runtime`, of ranks among all; a run cannot go on without a rank of a group."""
        found = super().lost(sorted({rank // self.inner.size for rank in ranks}), what)
        self.has_survivors = False
        return found

    def close(self) -> None:
        """Close the communicator of all ranks."""
        self.whole.close()


class Grid:
    """Agents that are groups of ranks: rank ``g m + r`` is rank r of the m ranks of group g.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    agents : int
        How many agents; without `inner` their number divides that of the ranks.
    inner : int or None
        m, the ranks of a group, which divides the number of ranks; the agents are dealt out in blocks. None: as many
        groups as agents.

    Attributes
    ----------
    agents : Runtime
        The agents on the ranks that have this rank's place inside their groups: what stands here of an agent (a shard
        of its weights) is mixed and summed with the same part of the others, and nothing else travels. What a run
        decides (to end, to go back) all ranks decide together.
    inner : Communicator
        The ranks of this rank's group.

    Raises
    ------
    ValueError
        On every rank, if a number does not divide that of the ranks, there are more groups than agents, or a number
        differs from rank to rank.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     grid = Grid(comm, agents=2)
    ...     return grid.agents.agents, grid.inner.rank
    >>> threads.run(4, program)
    [(range(0, 1), 0), (range(0, 1), 1), (range(1, 2), 0), (range(1, 2), 1)]
    """

    def __init__(self, comm: Communicator, agents: int, inner: int | None = None) -> None:
        with comm.together():
            agents = _checks.check_count("agents", agents)
            if inner is None and comm.size % agents:
                raise ValueError(f"agents must divide the number of ranks, got {agents} agents for {comm.size} ranks.")
            m = comm.size // agents if inner is None else _checks.check_count("inner", inner)
            if comm.size % m:
                raise ValueError(f"inner must divide the number of ranks, got {m} for {comm.size} ranks.")
            if comm.size // m > agents:
                raise ValueError(f"agents must be at least {comm.size // m}, one for each group, got {agents}.")
        comm.agree_on({"the number of agents": agents, "the ranks of a group": m})
        self.comm = comm
        self.inner = comm.split(comm.rank // m)
        self.agents: Runtime = GroupedAgents(agents, comm.split(comm.rank % m), self.inner, comm)

    def close(self) -> None:
        """Close the communicator of all ranks."""
        self.comm.close()

    def __enter__(self) -> "Grid":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()


class _Figure:
    """Ranks whose groups exchange the parts of one array."""

    name: str
    dimension: int

    def __init__(self, comm: Communicator, p: int) -> None:
        with comm.together():
            p = _checks.check_count("p", p)
            if p**self.dimension != comm.size:
                raise ValueError(
                    f"p must give as many ranks as there are, p^{self.dimension}, got p={p} for {comm.size} ranks."
                )
        comm.agree_on({f"p of the {self.name}": p})
        self.comm, self.p = comm, p
        self._groups: list[Communicator] = []

    def _split(self, colour: int) -> Communicator:
        self._groups.append(self.comm.split(colour))
        return self._groups[-1]

    @property
    def tally(self) -> Tally:
        """What this rank received from all groups together."""
        total = Tally()
        for group in self._groups:
            for kind, words in group.tally.words.items():
                total.add(kind, words, group.tally.messages[kind])
                total.calls[kind] += group.tally.calls[kind] - 1
            total.sent += group.tally.sent
        return total

    def fingerprint(self) -> str:
        """Equal on all ranks."""
        return f"{type(self).__name__}({self.p})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.comm.size} ranks, p={self.p})"


class Cube(_Figure):
    """p^3 ranks with places (i, j, l), rank ``(i p + j) p + l``.

    Parameters
    ----------
    comm : Communicator
        p^3 ranks.
    p : int

    Attributes
    ----------
    i, j, l : int
        The place of this rank.
    along : dict of str to Communicator
        The p ranks of this rank's line along "i", "j" or "l", in the order of that index.
    plane : dict of str to Communicator
        The p^2 ranks with the same "j" or the same "l", in rank order.
    tally : Tally
        What this rank received from all of these groups.

    Raises
    ------
    ValueError
        On every rank, if there are not p^3 ranks, or p differs from rank to rank.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     cube = Cube(comm, 2)
    ...     return cube.i, cube.j, cube.l
    >>> threads.run(8, program)[5]
    (1, 0, 1)
    """

    name, dimension = "cube", 3

    def __init__(self, comm: Communicator, p: int) -> None:
        super().__init__(comm, p)
        p = self.p
        i, j, last = self.i, self.j, self.l = comm.rank // p**2, comm.rank // p % p, comm.rank % p
        self.along = {"i": self._split(j * p + last), "j": self._split(i * p + last), "l": self._split(i * p + j)}
        self.plane = {"j": self._split(j), "l": self._split(last)}

    def place(self, rank: int) -> dict[str, Any]:
        """The place of any rank, by the names of the indices."""
        return {"i": rank // self.p**2, "j": rank // self.p % self.p, "l": rank % self.p}


class Square(_Figure):
    """p^2 ranks with places (i, j), rank ``i p + j``.

    Parameters
    ----------
    comm : Communicator
        p^2 ranks.
    p : int

    Attributes
    ----------
    i, j : int
        The place of this rank.
    row, column : Communicator
        The p ranks of this rank's row (same i, in the order of j) and column (same j, in the order of i).
    tally : Tally
        What this rank received from both.

    Raises
    ------
    ValueError
        On every rank, if there are not p^2 ranks, or p differs from rank to rank.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> threads.run(4, lambda comm: Square(comm, 2).column.members)
    [(0, 2), (1, 3), (0, 2), (1, 3)]
    """

    name, dimension = "square", 2

    def __init__(self, comm: Communicator, p: int) -> None:
        super().__init__(comm, p)
        self.i, self.j = comm.rank // self.p, comm.rank % self.p
        self.row, self.column = self._split(self.i), self._split(self.j)
