"""What a group of ranks can do: MPI, threads, one process alone and sites; agents, layers and cubes stand on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Communicator", "Tally"]

Array = NDArray[Any]


@dataclass
class Tally:
    """Words (numbers) and messages that one rank received, by kind of call.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add("allgather", words=12, messages=3)
    >>> tally.words, tally.messages
    ({'allgather': 12}, {'allgather': 3})
    """

    words: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, words: int, messages: int = 1) -> None:
        """Count so many words in so many messages of a kind."""
        self.words[kind] = self.words.get(kind, 0) + int(words)
        self.messages[kind] = self.messages.get(kind, 0) + int(messages)


class Communicator(Protocol):
    """A group of ranks that run the same program; every method is collective but `send` and `receive`.

    Sums are added in rank order, never by a tree whose shape depends on the number of ranks. Every wait ends with an
    error after `timeout` seconds. Arrays are C-contiguous.

    Attributes
    ----------
    rank, size : int
        This rank, and how many there are.
    tally : Tally
        Words and messages received by this rank.
    """

    rank: int
    size: int
    tally: Tally

    def split(self, colour: int) -> "Communicator":
        """The ranks that gave the same colour, in their order."""

    def exchange(self, out: Sequence[tuple[int, Array]], into: Sequence[tuple[int, Array]]) -> None:
        """One message to and from every peer: pairs of rank and array; `into` is filled."""

    def send(self, a: Array, to: int) -> None:
        """One message; it may return before the other rank has received it."""

    def receive(self, a: Array, source: int) -> None:
        """Fill `a` with the next message of that rank."""

    def allgather(self, mine: Array, into: Array) -> None:
        """``into[r] = mine of rank r``; into (size, ...)."""

    def reduce_scatter(self, parts: Array, into: Array) -> None:
        """``into = sum over ranks of their parts[rank]``, added in rank order; parts (size, ...)."""

    def allreduce(self, a: Array, op: str = "sum") -> None:
        """``a = sum or max over ranks``, in place, added in rank order, equal everywhere."""

    def broadcast(self, a: Array, root: int) -> None:
        """``a = a of rank root``, in place."""

    def texts(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order, equal everywhere."""

    def survivors(self) -> "Communicator":
        """The ranks that are left after some were lost. Collective among them."""
