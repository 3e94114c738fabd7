"""Checks over ranks: compared values, errors that all raise, texts; and how many of them share one message."""

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _params
from dnnext._checks import short

__all__ = ["Checks"]

Array = NDArray[Any]

KINDS: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, MemoryError)  # kept from rank to rank
SHOWN = 100  # letters of a value in a message


class Pending:
    """What waits for the next message: fields to compare, texts, and whether a block of work has to be confirmed."""

    def __init__(self) -> None:
        self.fields: list[dict[str, Any]] = []
        self.texts: list[tuple[str, list[str]]] = []  # text, and where those of all ranks go
        self.is_owed = False


class Checks(ABC):
    """Comparisons and errors of several ranks.

    Within `gathering`, `agree_on` and `together` send nothing by themselves: what they have to say travels with the
    next text or array that all ranks send, and an error of another rank is raised there. One message then does what
    took one each.
    """

    rank: int
    size: int
    _pending: Pending | None = None

    @abstractmethod
    def _texts(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order."""

    @abstractmethod
    def allgather(self, mine: Array, into: Array, counts: Any = None) -> None:
        """Gather the arrays of all ranks."""

    def texts(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order, equal everywhere."""
        return [text] if self.size == 1 else self.later(text)()

    def later(self, text: str) -> Callable[[], list[str]]:
        """As `texts`, but within `gathering` the text may wait for the next message; call what is returned."""
        if self._pending is None or self.size == 1:
            every = [text] if self.size == 1 else self._texts(text)
            return lambda: every
        place: list[str] = []
        self._pending.texts.append((text, place))
        self._pending.is_owed = True

        def get() -> list[str]:
            if not place:
                self.settle()
            return place

        return get

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Checks and texts wait for the next message, until `stop_gathering` or the end of the block; collective.

        Use it around work without lasting effects: an error of another rank is raised later than without.
        """
        if self._pending is None:
            self._pending = Pending()
        try:
            yield
            self.stop_gathering()
        finally:
            self._pending = None

    def stop_gathering(self) -> None:
        """From here on every check is a message of its own again."""
        self.settle()
        self._pending = None

    def settle(self) -> None:
        """Send what waits, if anything does; collective."""
        if self._pending is not None and self._pending.is_owed:
            self._flush(None)

    def _flush(self, failure: Exception | None) -> None:
        """One message: the error of this rank, the values to compare and the texts."""
        waiting, self._pending = self._pending, Pending()
        assert waiting is not None
        mine = [_sentence(failure), waiting.fields, [text for text, _ in waiting.texts]]
        every = _loaded(self._texts(json.dumps(mine)))
        _raise_first([error for error, _, _ in every], failure)
        for k in range(len(waiting.fields)):
            _compare([fields[k] for _, fields, _ in every])
        for k, (_, place) in enumerate(waiting.texts):
            place[:] = [texts[k] for _, _, texts in every]

    def later_array(self, mine: Array, into: Array, counts: Any) -> Callable[[], Array]:
        """As `Communicator.allgather` with counts, but within `gathering` it may wait; call what is returned."""
        if self._pending is None or self.size == 1:
            self.allgather(mine, into, counts)
            return lambda: into
        get = self.later(_as_text(mine))
        return lambda: _fill(into, get(), np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))

    def _rides(self, mine: Array, into: Array, edges: Array) -> bool:
        """Gather an array with what waits, if anything does."""
        if self._pending is None or not self._pending.is_owed:
            return False
        _fill(into, self.later(_as_text(mine))(), edges)
        return True

    def agree_on(self, fields: dict[str, Any]) -> None:
        """Compare named values over the ranks, by their fingerprints.

        Raises
        ------
        ValueError
            On every rank, naming the first field that differs and a rank where it does.
        """
        if self.size == 1:
            return
        shown = {name: _shown(value) for name, value in fields.items()}
        if self._pending is None:
            _compare(_loaded(self._texts(json.dumps(shown))))
        else:
            self._pending.fields.append(shown)
            self._pending.is_owed = True

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block of work without messages that may fail on some ranks only: its error is then raised on all.

        Raises
        ------
        ValueError, TypeError, OSError, MemoryError, or else RuntimeError
            On every rank, the sentence of the first rank that failed, and which it was.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        if self.size == 1:
            if failure is not None:
                raise failure
        elif self._pending is None:
            _raise_first(self._texts(_sentence(failure)), failure)
        elif failure is None:
            self._pending.is_owed = True
        else:
            self._flush(failure)


def _loaded(texts: list[str]) -> list[Any]:
    """What the ranks have sent as JSON."""
    every = []
    for rank, text in enumerate(texts):
        try:
            every.append(json.loads(text))
        except (ValueError, RecursionError):
            raise ValueError(f"the text of rank {rank} must be JSON, got {text[:40]!r}.") from None
    return every


def _as_text(a: Array) -> str:
    return base64.b64encode(a.tobytes()).decode()


def _fill(into: Array, texts: list[str], edges: Any) -> Array:
    """Rows edges[r] to edges[r + 1] from the text of rank r."""
    for rank, text in enumerate(texts):
        part = into[edges[rank] : edges[rank + 1]]
        part[...] = np.frombuffer(base64.b64decode(text), dtype=into.dtype).reshape(part.shape)
    return into


def _sentence(failure: Exception | None) -> str:
    kinds = [kind for kind in KINDS if isinstance(failure, kind)]
    return "" if failure is None else f"{kinds[0].__name__ if kinds else type(failure).__name__} {failure}"


def _raise_first(sentences: list[str], failure: Exception | None) -> None:
    """The error of the first rank that has one."""
    known = {kind.__name__: kind for kind in KINDS}
    for rank, text in enumerate(sentences):
        if text:
            name, _, sentence = text.partition(" ")
            sentence = sentence if name in known else f"{name}: {sentence}"
            raise known.get(name, RuntimeError)(f"rank {rank}: {sentence}") from failure


def _compare(every: list[dict[str, Any]]) -> None:
    """ValueError for the first field in which a rank differs from rank 0."""
    for rank, other in enumerate(every):
        for name in {**every[0], **other}:
            first, here = every[0].get(name, ["nothing"] * 2), other.get(name, ["nothing"] * 2)
            if first[1] != here[1]:  # texts for the eye may name addresses
                place = 0 if first[0] != here[0] else 1  # what is shown may hide the difference
                raise ValueError(
                    f"{name} must be equal on all ranks, got {_cut(here[place])} on rank {rank} and "
                    f"{_cut(first[place])} on rank 0."
                )


def _shown(value: Any) -> list[str]:
    """A short text for the eye, and one that is equal for equal values only."""
    mark = _params.fingerprint(value)
    text = mark if len(mark) <= SHOWN else short(value)  # never a whole array
    return [text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...", mark if len(mark) <= SHOWN else _hash(mark)]


def _cut(text: Any) -> str:
    """What another rank shows, at most as long as it should be."""
    return str(text)[:SHOWN]


def _hash(mark: str) -> str:
    return f"a value with the fingerprint {hashlib.sha256(mark.encode()).hexdigest()[:16]}"
