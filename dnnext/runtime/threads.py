"""Ranks as threads of one process, which share nothing but the messages they send: for tests, layers and cubes."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.runtime.communicator import Communicator, Messages, RanksLost, Tally

__all__ = ["Threads", "run"]

Array = NDArray[Any]
T = TypeVar("T")


class Board:
    """The messages under way between the ranks of one run, and the ranks that wait.

    One lock guards everything; each rank sleeps on a condition of its own.
    """

    def __init__(self, n_ranks: int) -> None:
        self.lock = threading.Lock()
        self.changed = [threading.Condition(self.lock) for _ in range(n_ranks)]
        self.mail: list[dict[Any, deque[Array]]] = [{} for _ in range(n_ranks)]
        self.waiting: set[int] = set()
        self.ended: dict[int, str] = {}  # rank -> what became of it

    def put(self, rank: int, key: Any, message: Array) -> None:
        """Leave a copy of the message for a rank."""
        message = message.copy()
        with self.lock:
            self.mail[rank].setdefault(key, deque()).append(message)
            self.changed[rank].notify()

    def take(self, rank: int, source: int, key: Any, timeout: float) -> Array | None:
        """The next message for this rank under this key; None after `timeout` seconds without one."""
        mail = self.mail[rank]
        with self.lock:
            self.waiting.add(rank)
            self.changed[rank].wait_for(lambda: key in mail or source in self.ended, timeout)
            if key not in mail:
                return None  # and still counts as waiting, for the others that give up at the same moment
            self.waiting.discard(rank)
            message = mail[key].popleft()
            if not mail[key]:
                del mail[key]
            return message

    def end(self, rank: int, what: str) -> None:
        """Note that a rank runs no longer, for all ranks that wait for it."""
        with self.lock:
            self.ended[rank] = what
            for condition in self.changed:
                condition.notify_all()


class Threads(Communicator):
    """One rank of several that are threads of this process; `run` makes them.

    Parameters
    ----------
    board : Board
        Where the messages lie.
    ids : sequence of int
        The threads of this group, by their ranks in `run`.
    rank : int
        This rank in the group.
    timeout : float
        Seconds.
    group : tuple of int
        Names the group; equal on all its ranks.

    Examples
    --------
    >>> def program(comm):
    ...     a = np.array([1.0 + comm.rank])
    ...     comm.allreduce(a)
    ...     return float(a[0])
    >>> run(3, program)
    [6.0, 6.0, 6.0]
    """

    def __init__(
        self, board: Board, ids: Sequence[int], rank: int, timeout: float = 60.0, group: tuple[int, ...] = ()
    ) -> None:
        self.rank, self.size, self.members, self.tally = rank, len(ids), tuple(ids), Tally()
        self.timeout, self.n_here = timeout, len(board.mail)
        self._board, self._ids, self._group, self._splits, self._operation = board, tuple(ids), group, 0, 0

    def split(self, colour: int) -> "Threads":
        """The ranks that gave the same colour, in their order."""
        colours = np.empty(self.size, dtype=np.int64)
        self.allgather(np.array(colour), colours)
        self._splits += 1
        same = np.flatnonzero(colours == colour).tolist()
        group = (*self._group, self._splits, int(colour))
        part = Threads(self._board, [self._ids[r] for r in same], same.index(self.rank), self.timeout, group)
        part.members = tuple(same)
        return part

    def _begin(self, out: Messages, into: Messages) -> Callable[[], None]:
        self._operation += 1
        operation = self._operation
        for r, a in out:
            self._board.put(self._ids[r], (self._group, operation, self._ids[self.rank]), a)

        def wait() -> None:
            for r, a in into:
                self._take(a, r, operation)

        return wait

    def _send(self, a: Array, to: int) -> None:
        self._board.put(self._ids[to], (self._group, 0, self._ids[self.rank]), a)

    def _receive(self, a: Array, source: int) -> None:
        self._take(a, source, 0)

    def _take(self, a: Array, source: int, operation: int) -> None:
        board, me, other = self._board, self._ids[self.rank], self._ids[source]
        message = board.take(me, other, (self._group, operation, other), self.timeout)
        if message is None:
            raise self._lost(other)
        if message.size != a.size or message.dtype != a.dtype:
            raise self._different()
        a[...] = message.reshape(a.shape)

    def _lost(self, awaited: int) -> RanksLost:
        board = self._board
        with board.lock:
            if awaited in board.ended:
                return RanksLost([awaited], board.ended[awaited])
            silent = [i for i in range(len(board.mail)) if i not in {*board.waiting, self._ids[self.rank]}]
        return RanksLost(silent, f"gave no sign of life for {self.timeout:g} s") if silent else self._different()


def run(n_ranks: int, program: Callable[[Any], T], timeout: float = 60.0) -> list[T]:
    """``[program(comm) of every rank]``, where comm is a `Threads` communicator.

    Parameters
    ----------
    n_ranks : int
        How many threads, at least 1.
    program : callable
        What every rank does.
    timeout : float
        Seconds after which a rank that is awaited counts as lost.

    Returns
    -------
    list
        In rank order.

    Raises
    ------
    Exception
        The first exception of a rank. The others do not wait for it any longer and end, too.

    Examples
    --------
    >>> run(2, lambda comm: comm.texts("ab"[comm.rank]))
    [['a', 'b'], ['a', 'b']]
    """
    n_ranks = _checks.check_count("n_ranks", n_ranks)
    board, errors = Board(n_ranks), list[BaseException]()
    results: dict[int, T] = {}

    def work(rank: int) -> None:
        what = "has ended"
        try:
            results[rank] = program(Threads(board, range(n_ranks), rank, timeout))
        except BaseException as error:
            errors.append(error)  # before the others are woken
            what = f"ended with {type(error).__name__}: {error}"
        board.end(rank, what)

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(n_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(n_ranks)]
