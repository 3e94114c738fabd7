"""Ranks in a row, a square or a cube: agents that are groups of ranks, and the groups inside one of them."""

from types import TracebackType
from typing import Any

from dnnext import _checks
from dnnext.runtime.agents import Runtime
from dnnext.runtime.communicator import Communicator, Tally

__all__ = ["Cube", "Grid", "Square"]


class Grid:
    """Agents that are groups of ranks: rank ``a m + r`` is rank r of the m ranks inside agent a.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    agents : int
        How many agents; their number divides that of the ranks.

    Attributes
    ----------
    agents : Runtime
        One agent per rank, on the ranks that have this rank's place inside their agents: what stands here of an agent
        (a shard of its weights) is mixed and summed with the same part of the others, and nothing else travels.
    inner : Communicator
        The ranks inside this rank's agent.

    Raises
    ------
    ValueError
        On every rank, if the number of agents does not divide that of the ranks, or differs from rank to rank.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     grid = Grid(comm, agents=2)
    ...     return grid.agents.agents, grid.inner.rank
    >>> threads.run(4, program)
    [(range(0, 1), 0), (range(0, 1), 1), (range(1, 2), 0), (range(1, 2), 1)]
    """

    def __init__(self, comm: Communicator, agents: int) -> None:
        with comm.together():
            agents = _checks.check_count("agents", agents)
            if comm.size % agents:
                raise ValueError(f"agents must divide the number of ranks, got {agents} agents for {comm.size} ranks.")
        comm.agree_on({"the number of agents": agents})
        self.comm, m = comm, comm.size // agents
        self.inner = comm.split(comm.rank // m)
        self.agents = Runtime(agents, comm.split(comm.rank % m))

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
