"""Sites that only reach out: a communicator over any link."""

import json
import logging
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short
from dnnext._version import __version__
from dnnext.runtime.communicator import Communicator, Messages, RanksLost, Tally, WrongMessage
from dnnext.runtime.machine import machine
from dnnext.sites.delivery import AWAY, CHECK, PATIENCE, Delivery, Notice
from dnnext.sites.links import Link
from dnnext.sites.wire import Head, dtype_name

__all__ = ["DAY", "ON_FAILURE", "OverSites", "Record", "run_sites"]

Array = NDArray[Any]
Record = Callable[..., Any]  # one message that leaves, for the audit

log = logging.getLogger("dnnext.sites")

DAY = 86400.0
ON_FAILURE = ("wait", "stop", "shrink")
SENDS = 1 << 31  # groups with this bit are those of `send`


class OverSites(Communicator):
    """Ranks at sites that are joined by a link.

    Messages are checked against what is expected to the byte before they are copied. A site that is silent is late,
    away and at last lost, which is said in the log ``dnnext.sites``.

    Parameters
    ----------
    link : Link
        What carries the messages.
    timeout : float
        Seconds without an awaited message after which a site counts as lost.
    on_failure : {"wait", "stop", "shrink"}
        Wait `timeout` seconds for a silent site and end then; end as soon as it is away; or go on without sites that
        are lost.
    late, away : float
        Seconds after which an awaited site is asked to send again, and after which it counts as away.
    notice : callable, optional
        ``notice(site, state, sentence)`` whenever a site becomes "here", "late", "away" or "lost".
    record : callable, optional
        ``record(to=, operation=, what=, data=)``, with ``numbers=`` where it holds numbers, for every message that
        leaves.

    Raises
    ------
    ValueError
        If a parameter is unfit.
    RanksLost
        From every method, if a site is lost or has ended the run.
    WrongMessage
        From every method, if a site sent what it must not.

    Examples
    --------
    >>> from dnnext.sites.links import memory_links
    >>> from dnnext.sites.over_sites import run_sites
    >>> run_sites(memory_links(2), lambda comm: comm.texts("ab"[comm.rank]))
    [['a', 'b'], ['a', 'b']]
    """

    is_far = True

    def __init__(
        self, link: Link, *, timeout: float = DAY, on_failure: str = "wait", late: float = CHECK, away: float = AWAY,
        notice: Notice | None = None, record: Record | None = None,
    ) -> None:  # fmt: skip
        for name, value in (("timeout", timeout), ("late", late), ("away", away)):
            _checks.check_positive(name, value)
        _checks.check_choice("on_failure", on_failure, ON_FAILURE)
        self._delivery = Delivery(link, timeout, on_failure, late, away, notice)
        self._record, self._kind = record, "texts"
        self._join(range(link.size), link.rank, ())
        self._introduce()

    def _join(self, ids: Any, rank: int, path: tuple[int, ...]) -> None:
        self.rank, self.size, self.members, self.tally = rank, len(ids), tuple(ids), Tally()
        self.timeout, self._ids, self._path, self._splits = self._delivery.timeout, tuple(ids), path, 0
        self._group = zlib.crc32(repr(path).encode()) & (SENDS - 1)
        self._operation = 0
        self._sends = dict.fromkeys(ids, 0)
        self._receipts = dict.fromkeys(ids, 0)

    def _introduce(self) -> None:
        """Exchange keys and compare versions; sealed from here on."""
        link = self._delivery.link
        mine = {"dnnext": __version__, **machine()}
        try:
            texts = self.texts(json.dumps([link.introduction(), mine]))
            every = [self._introduced(rank, text) for rank, text in enumerate(texts)]
            link.meet([introduction for introduction, _ in every])
        except BaseException as error:  # Ctrl-C too, while others are awaited
            self.end(error)
            raise
        self._delivery.has_met = True
        for rank, (_, other) in enumerate(every):
            different = [name for name in mine if other.get(name) != mine[name]]
            if different:
                log.info(
                    "%s differs from this site in %s: results are equal up to rounding only, and a site that is "
                    "started again must be started on the same kind of machine", link.names[rank], ", ".join(different),
                )  # fmt: skip

    def _introduced(self, rank: int, text: str) -> tuple[str, dict[str, Any]]:
        """What another site says first: how to seal messages to it, and its versions."""
        try:
            introduction, versions = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            introduction, versions = None, None
        if not isinstance(introduction, str) or not isinstance(versions, dict):
            name = self._delivery.link.names[self._ids[rank]]
            raise WrongMessage(f"a message of {name} must hold its introduction, got {short(text)}", rank, 1)
        return introduction, versions

    def _part(self, ids: list[int], path: tuple[int, ...]) -> "OverSites":
        part = OverSites.__new__(OverSites)
        part._delivery, part._record, part._kind = self._delivery, self._record, "texts"
        part._join(ids, ids.index(self._ids[self.rank]), path)
        return part

    def split(self, colour: int) -> "OverSites":
        """The ranks that gave the same colour, in their order."""
        colours = np.empty(self.size, dtype=np.int64)
        self.allgather(np.array(colour), colours)
        self._splits += 1
        same = np.flatnonzero(colours == colour).tolist()
        part = self._part([self._ids[r] for r in same], (*self._path, self._splits, int(colour)))
        part.members = tuple(same)
        return part

    @property
    def has_survivors(self) -> bool:
        """Whether the sites that are left have agreed on who is lost."""
        return bool(self._delivery.agreed)

    def survivors(self) -> "OverSites":
        """The sites that are left."""
        if not self._delivery.agreed:
            raise ValueError("survivors() must be called after a site was lost with on_failure='shrink', got no loss.")
        lost = self._delivery.agreed[-1]
        left = [r for r, site in enumerate(self._ids) if site not in lost]
        rest = self._part([self._ids[r] for r in left], (*self._path, -len(self._delivery.agreed)))
        rest.members = tuple(left)
        return rest

    def end(self, error: BaseException) -> None:
        """Let the others know that this site ends, and why."""
        self._delivery.end(f"{type(error).__name__}: {error}", self._record_end)
        self._delivery.close(is_whole=False)

    def _record_end(self, site: int, data: bytes) -> None:
        if self._record is not None:
            self._record(to=self._delivery.link.names[site], operation=self._operation, what="end", data=data)

    def close(self) -> None:
        """Leave, once the others have all that was sent to them."""
        if not self._path:
            self._delivery.close()

    def _begin(self, out: Messages, into: Messages) -> Callable[[], None]:
        self._operation += 1
        label = (self._group, self._operation)
        for rank, a in out:
            self._post(rank, label, a, self._kind)

        def wait() -> None:
            for rank, a in into:
                self._fill(a, rank, label)

        return wait

    def _send(self, a: Array, to: int) -> None:
        self._sends[self._ids[to]] += 1
        self._post(to, (self._group | SENDS, self._sends[self._ids[to]]), a, "send")

    def _receive(self, a: Array, source: int) -> None:
        self._receipts[self._ids[source]] += 1
        self._fill(a, source, (self._group | SENDS, self._receipts[self._ids[source]]))

    def _texts(self, text: str) -> list[str]:
        """One message each, of any length."""
        mine = np.frombuffer(text.encode(), dtype=np.uint8)
        self._operation += 1
        label, others = (self._group, self._operation), [r for r in range(self.size) if r != self.rank]
        for rank in others:
            self._post(rank, label, mine, "texts")
        every = {rank: self._take(rank, label) for rank in others}
        self._count("texts", sum(len(body) for _, body in every.values()), len(others), len(mine))
        return [text if r == self.rank else self._text_of(r, *every[r]) for r in range(self.size)]

    def _text_of(self, rank: int, head: Head, body: bytes) -> str:
        try:
            if head.dtype == "|u1":
                return body.decode()
            held = head.dtype
        except UnicodeDecodeError:
            held = "bytes that are no UTF-8"
        name = self._delivery.link.names[self._ids[rank]]
        raise WrongMessage(f"a message of {name} holds {held}, expected a text", rank, head.operation)

    def _count(self, kind: str, words: int, messages: int, sent: int) -> None:
        self._kind = kind
        super()._count(kind, words, messages, sent)

    def _post(self, rank: int, label: tuple[int, int], a: Array, what: str) -> None:
        to, a = self._ids[rank], np.ascontiguousarray(a)
        name = self._delivery.link.names[to]

        def record(data: bytes) -> None:
            if self._record is not None:
                self._record(to=name, operation=label[1], what=what, data=data, numbers=a.size)

        self._delivery.send(to, dtype_name(a.dtype), label, a.tobytes(), record)

    def _take(self, rank: int, label: tuple[int, int]) -> tuple[Head, bytes]:
        """The next message of a rank."""
        try:
            return self._delivery.take(self._ids[rank], label)
        except RanksLost as lost:
            inside = [self._ids.index(r) for r in lost.ranks if r in self._ids]
            raise RanksLost(inside, lost.what) from lost
        except WrongMessage as wrong:
            if wrong.rank not in self._ids:
                raise
            raise WrongMessage(str(wrong), self._ids.index(wrong.rank), wrong.operation) from wrong

    def _fill(self, a: Array, rank: int, label: tuple[int, int]) -> None:
        """Copy the next message of a rank, if it is what is expected."""
        head, body = self._take(rank, label)
        expected = dtype_name(a.dtype)
        if head.dtype != expected or len(body) != a.nbytes:
            raise WrongMessage(
                f"a message of {self._delivery.link.names[self._ids[rank]]} holds {len(body)} bytes of {head.dtype}, "
                f"expected {a.nbytes} of {expected}", rank, label[1],
            )  # fmt: skip
        a[...] = np.frombuffer(body, dtype=a.dtype).reshape(a.shape)


def decline(link: Link, record: Record | None, sentence: str) -> None:
    """Let the other sites know that this one does not take part; in the open, as keys have not been exchanged."""

    def note(site: int, data: bytes) -> None:
        if record is not None:
            record(to=link.names[site], operation=0, what="end", data=data)

    delivery = Delivery(link, PATIENCE, "wait")
    delivery.end(sentence, note)
    delivery.close(is_whole=False)


def run_sites(links: Any, program: Callable[[Any], Any], **options: Any) -> list[Any]:
    """``[program(comm) of every site]``, each in a thread of this process; for tests and demonstrations.

    Parameters
    ----------
    links : sequence of Link
        One per site.
    program : callable
        What every site does.
    **options
        Of `OverSites`.

    Returns
    -------
    list
        In rank order.

    Raises
    ------
    Exception
        The first exception of a site.

    Examples
    --------
    >>> from dnnext.sites.links import memory_links
    >>> run_sites(memory_links(3), lambda comm: comm.rank)
    [0, 1, 2]
    """
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def work(link: Link) -> None:
        try:
            with OverSites(link, **options) as comm:
                results[link.rank] = program(comm)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(link,), daemon=True) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(len(links))]
