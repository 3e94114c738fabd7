"""What a group of ranks can do: MPI, threads, one process alone and sites; agents, layers and cubes stand on it.

Design
------
An engine provides one operation, `_begin`: a message to and from every peer. All collective operations follow from it;
an engine that has faster ones of its own overrides them. What is counted is the same on every engine, because the
counting is done here, by what an operation must receive and not by how it is carried.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext.runtime.gathering import Checks

__all__ = ["Communicator", "RanksLost", "Tally", "WrongMessage"]

Array = NDArray[Any]
Messages = Sequence[tuple[int, Array]]  # pairs of rank and array

SLOT = 4096  # bytes of a text that travel in the first message; the rest needs a second one
SMALL = 1 << 16  # bytes up to which an allreduce gathers everything: one latency instead of two


@dataclass
class Tally:
    """Words (numbers) and messages that one rank received, and the calls that it made, by kind of call.

    Attributes
    ----------
    words, messages, calls : dict of str to int
        By the name of the method. A message of no words is not sent and does not count.
    sent : int
        Bytes that this rank handed over to reach others; what goes to all of them counts once.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add("allgather", words=12, messages=3)
    >>> tally.words, tally.messages, tally.calls
    ({'allgather': 12}, {'allgather': 3}, {'allgather': 1})
    """

    words: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    def add(self, kind: str, words: int, messages: int = 1, sent: int = 0) -> None:
        """Count one call of a kind, with so many words in so many messages received and so many bytes sent."""
        self.words[kind] = self.words.get(kind, 0) + words
        self.messages[kind] = self.messages.get(kind, 0) + messages
        self.calls[kind] = self.calls.get(kind, 0) + 1
        self.sent += sent


class RanksLost(RuntimeError):
    """Ranks that died or fell silent.

    Attributes
    ----------
    ranks : tuple of int
        The ranks that are gone; empty if all answer but wait for different things.
    what : str
        What became of them.

    Examples
    --------
    >>> str(RanksLost([1, 2], "died")), RanksLost([1, 2], "died").ranks
    ('ranks 1, 2 died', (1, 2))
    """

    def __init__(self, ranks: Sequence[int], what: str) -> None:
        names = f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} " if ranks else ""
        super().__init__(names + what)
        self.ranks, self.what = tuple(ranks), what


class WrongMessage(RuntimeError):
    """A rank sent what is not what it should be.

    Attributes
    ----------
    rank : int
        The sender.
    operation : int
        The collective operation, counted from 1.

    Examples
    --------
    >>> WrongMessage("a message of site-b is 3 bytes long", rank=1, operation=7).rank
    1
    """

    def __init__(self, sentence: str, rank: int, operation: int) -> None:
        super().__init__(sentence)
        self.rank, self.operation = rank, operation


class Communicator(Checks):
    """A group of ranks that run the same program; every method is collective but `send` and `receive`.

    Sums are added in rank order, never by a tree whose shape depends on the number of ranks. Every wait ends with
    `RanksLost` after `timeout` seconds. Arrays are C-contiguous; every rank gives the same dtype and the same shapes.
    An array without entries is fine everywhere and is not sent.

    Attributes
    ----------
    rank, size : int
        This rank, and how many there are.
    members : tuple of int
        Ranks of the group in the communicator that this one was made from by `split` or `survivors`.
    n_here : int
        Ranks that share this one's cores, itself included: those on this machine, unless they are bound to others.
    timeout : float
        Seconds.
    is_far : bool
        Whether messages take long: sums then travel in one message to all, never from rank to rank.
    tally : Tally
        Words and messages received by this rank.

    Examples
    --------
    >>> from dnnext.runtime import Alone
    >>> a = np.array([1.0, 2.0])
    >>> Alone().allreduce(a)
    >>> a
    array([1., 2.])
    """

    rank: int
    size: int
    members: tuple[int, ...]
    n_here: int = 1
    timeout: float = math.inf
    is_far: bool = False
    tally: Tally

    # What an engine provides

    @abstractmethod
    def _begin(self, out: Messages, into: Messages) -> Callable[[], None]:
        """Begin one message to and from every peer; the function returned waits until `into` is filled."""

    @abstractmethod
    def _send(self, a: Array, to: int) -> None: ...

    @abstractmethod
    def _receive(self, a: Array, source: int) -> None: ...

    @abstractmethod
    def split(self, colour: int) -> "Communicator":
        """The ranks that gave the same colour, in their order."""

    def survivors(self) -> "Communicator":
        """The ranks that are left after some were lost. Collective among them."""
        raise NotImplementedError(f"{type(self).__name__} cannot go on without its lost ranks.")

    @property
    def has_survivors(self) -> bool:
        """Whether ranks were lost and the others may go on, on `survivors`."""
        return False

    def end(self, error: BaseException) -> None:
        """Let the others know that this rank ends with an error, where no launcher does. Not collective."""
        return

    def close(self) -> None:
        """Give back what the communicator holds; it cannot be used afterwards. Collective."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is None:  # else the others may be waiting elsewhere
            self.close()
        else:
            self.end(error)

    # What all may call

    def exchange(self, out: Messages, into: Messages) -> None:
        """One message to and from every peer: pairs of rank and array; `into` is filled."""
        self.settle()
        out, into = [m for m in out if m[1].size], [m for m in into if m[1].size]
        self._count("exchange", sum([a.size for _, a in into]), len(into), sum([a.nbytes for _, a in out]))
        self._begin(out, into)()

    def send(self, a: Array, to: int) -> None:
        """One message; `a` may be changed afterwards. It may return before the other rank has received it."""
        self.settle()
        self.tally.add("send", 0, 0, a.nbytes)
        if a.size:
            self._send(a, to)

    def receive(self, a: Array, source: int) -> None:
        """Fill `a` with the next message of that rank."""
        self.settle()
        self.tally.add("receive", a.size, bool(a.size))
        if a.size:
            self._receive(a, source)

    def allgather(self, mine: Array, into: Array, counts: ArrayLike | None = None) -> None:
        """``into[r] = mine of rank r``; into (size, ...). With `counts`, rank r fills the next counts[r] rows.

        With counts, ``mine`` is (counts[rank], ...) and ``into`` (sum of counts, ...).
        """
        edges = self._edges(mine, into, counts)
        if into.nbytes <= SMALL and self._rides(mine, into, edges if counts is not None else np.arange(self.size + 1)):
            return
        self.settle()
        self._count("allgather", into.size - mine.size, self._others(edges), mine.nbytes)
        if into.size:
            self._allgather(np.ascontiguousarray(mine), into, edges)

    def start_allgather(self, mine: Array, into: Array, counts: ArrayLike | None = None) -> Callable[[], None]:
        """Begin `allgather`; the function returned waits for it. Nothing may touch the arrays in between.

        Only where messages take long (`is_far`) it returns at once.
        """
        edges = self._edges(mine, into, counts)
        self.settle()
        self._count("allgather", into.size - mine.size, self._others(edges), mine.nbytes)
        if self.is_far:
            return self._start_allgather(np.ascontiguousarray(mine), into, edges)
        self._allgather(np.ascontiguousarray(mine), into, edges)
        return lambda: None

    def start_reduce_scatter(self, parts: Array, into: Array) -> Callable[[], None]:
        """Begin `reduce_scatter`; the function returned waits for it. Nothing may touch the arrays in between."""
        if parts.shape != (self.size, *into.shape):
            raise ValueError(f"parts must have the shape {(self.size, *into.shape)}, got {parts.shape}.")
        self.settle()
        others = [r for r in range(self.size) if r != self.rank and into.size]
        self._count("reduce_scatter", len(others) * into.size, len(others), len(others) * into.nbytes)
        received = np.empty((self.size, *into.shape), dtype=parts.dtype)
        wait = self._begin([(r, parts[r]) for r in others], [(r, received[r]) for r in others])

        def finish() -> None:
            wait()
            received[self.rank] = parts[self.rank]
            into[...] = received[0]
            for part in received[1:]:
                into[...] += part

        return finish

    def reduce_scatter(self, parts: Array, into: Array) -> None:
        """``into = sum over ranks of their parts[rank]``, added in rank order; parts (size, ...)."""
        self.start_reduce_scatter(parts, into)()

    def allreduce(self, a: Array, op: str = "sum") -> None:
        """``a = sum or max over ranks``, in place, added in rank order, equal everywhere."""
        _checks.check_choice("op", op, ("sum", "max"))
        self.settle()
        if op == "sum" and a.nbytes > SMALL and self.size > 2:
            part = -(-a.size // self.size)
            parts = np.zeros((self.size, part), dtype=a.dtype)
            parts.reshape(-1)[: a.size] = a.reshape(-1)
            total = np.empty(part, dtype=a.dtype)
            self.reduce_scatter(parts, total)
            self.allgather(total, parts)
            a[...] = parts.reshape(-1)[: a.size].reshape(a.shape)
            return
        every = np.empty((self.size, *a.shape), dtype=a.dtype)
        self._count("allreduce", every.size - a.size, (self.size - 1) * bool(a.size), a.nbytes)
        if a.size:
            self._allgather(a, every, np.arange(self.size + 1))
        a[...] = every[0]
        for other in every[1:]:
            if op == "sum":
                a[...] += other
            else:
                np.maximum(a, other, out=a)

    def broadcast(self, a: Array, root: int) -> None:
        """``a = a of rank root``, in place."""
        self.settle()
        own = self.rank == root or not a.size
        self._count("broadcast", 0 if own else a.size, not own, a.nbytes * (self.rank == root))
        if a.size:
            self._broadcast(a, root)

    def _texts(self, text: str) -> list[str]:
        """One message each, two if one of the texts is long."""
        letters = np.frombuffer(text.encode(), dtype=np.uint8)
        mine, every = np.zeros(SLOT, dtype=np.uint8), np.empty((self.size, SLOT), dtype=np.uint8)
        mine[:8] = np.frombuffer(len(letters).to_bytes(8, "little"), dtype=np.uint8)
        head = letters[: SLOT - 8]
        mine[8 : 8 + len(head)] = head
        self._count("texts", SLOT * (self.size - 1), self.size - 1, SLOT)
        self._allgather(mine, every, np.arange(self.size + 1))
        lengths = [int.from_bytes(row[:8].tobytes(), "little") for row in every]
        rests = [max(length - len(row[8:]), 0) for length, row in zip(lengths, every, strict=True)]
        parts = [row[8 : 8 + n].tobytes() for n, row in zip(lengths, every, strict=True)]
        if any(rests):
            rest, edges = np.empty(sum(rests), dtype=np.uint8), np.concatenate([[0], np.cumsum(rests)])
            self._count("texts", len(rest) - rests[self.rank], self._others(edges), rests[self.rank])
            self._allgather(letters[len(head) :].copy(), rest, edges)
            parts = [part + more.tobytes() for part, more in zip(parts, np.split(rest, edges[1:-1]), strict=True)]
        return [part.decode() for part in parts]

    # How engines without faster ways do it

    def _edges(self, mine: Array, into: Array, counts: ArrayLike | None) -> Array:
        """Rank r fills the rows edges[r] : edges[r + 1] of `into`."""
        edges = np.arange(self.size + 1) if counts is None else np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        own = into[edges[self.rank]] if counts is None else into[edges[self.rank] : edges[self.rank + 1]]
        if mine.shape != own.shape or len(into) != edges[-1]:
            raise ValueError(f"mine must have the shape {own.shape} of its part of into, got {mine.shape}.")
        return edges

    def _allgather(self, mine: Array, into: Array, edges: Array) -> None:
        self._start_allgather(mine, into, edges)()

    def _start_allgather(self, mine: Array, into: Array, edges: Array) -> Callable[[], None]:
        rows = [into[low:high] for low, high in pairwise(edges.tolist())]
        rows[self.rank][...] = mine
        others = [r for r in range(self.size) if r != self.rank]
        out = [(r, mine) for r in others if mine.size]
        return self._begin(out, [(r, rows[r]) for r in others if rows[r].size])

    def _broadcast(self, a: Array, root: int) -> None:
        others = [r for r in range(self.size) if r != root]
        mine = self.rank == root
        self._begin([(r, a) for r in others] if mine else [], [] if mine else [(root, a)])()

    def _count(self, kind: str, words: int, messages: int, sent: int) -> None:
        self.tally.add(kind, int(words), int(messages) if words else 0, sent if self.size > 1 else 0)

    def _others(self, edges: Array) -> int:
        """Other ranks that send anything, where rank r has the rows edges[r] : edges[r + 1]."""
        sizes = np.diff(edges)
        return int(np.count_nonzero(sizes) - bool(sizes[self.rank]))

    @staticmethod
    def _different() -> RanksLost:
        return RanksLost(
            [],
            "waited in vain although every rank answers: they wait for different things. Every rank must make the same "
            "calls in the same order",
        )
