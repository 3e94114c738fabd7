"""What one site knows of another."""

import json
import time
from collections import deque

from dnnext.sites.wire import HEAD_BYTES, Head

__all__ = ["HELD", "Message", "Peer", "read_lost"]

HELD = 512 << 20  # bytes of messages that may wait here for the program to ask for them
BESIDE = 256  # bytes that a waiting message takes beside its own
SENTENCE = 2000  # letters of a sentence of another site that are shown

Label = tuple[int, int]  # group and operation
Message = tuple[Head, bytes, bytes]  # parsed head, its bytes, body


class Peer:
    """What is known of another site."""

    def __init__(self) -> None:
        self.sent = 0  # number of the last message to it
        self.received = 0  # all messages up to this number are here
        self.confirmed = 0  # it has received all messages up to this number
        self.kept: dict[int, bytes] = {}  # messages that it has not confirmed
        self.has_sealed = False  # what it sends from then on is sealed
        self.early: dict[int, Message] = {}  # messages whose predecessors are missing
        self.labels: dict[Label, deque[Message]] = {}
        self.newest: dict[int, int] = {}  # group -> operation of the newest message in order
        self.waits_for: int | None = None
        self.last_sign = time.monotonic()
        self.ended: str | None = None
        self.names: tuple[int, float] | None = None  # whom it names as the site that ended the run first, and when
        self.held = 0  # bytes that wait here
        self.wrong: str | None = None
        self.view: tuple[int, frozenset[int]] | None = None  # agreements before, and whom it takes for lost
        self.has_left = False
        self.state = "here"

    def put(self, head: Head, data: bytes) -> None:
        """A message in order, or one to keep until those before it are here; copies are dropped."""
        if head.number <= self.received or head.number in self.early:
            return
        self.early[head.number] = (head, data[:HEAD_BYTES], data[HEAD_BYTES:])
        self.held += len(data) + BESIDE
        while self.received + 1 in self.early:
            self.received += 1
            message = self.early.pop(self.received)
            group, operation = message[0].group, message[0].operation
            self.labels.setdefault((group, operation), deque()).append(message)
            self.newest[group] = max(self.newest.get(group, 0), operation)

    def confirm(self, number: int) -> None:
        """It has received all messages up to this number, which need not be kept any more."""
        self.confirmed = max(self.confirmed, min(number, self.sent))
        for each in [n for n in self.kept if n <= self.confirmed]:
            del self.kept[each]

    def next(self, label: Label) -> Message | None:
        """The next message under this label, if there is one."""
        queue = self.labels.get(label)
        if not queue:
            return None
        message = queue.popleft()
        if not queue:
            del self.labels[label]
        self.held -= HEAD_BYTES + len(message[2]) + BESIDE
        return message

    def end(self, body: bytes, names: int | None) -> None:
        """It has ended the run, and why; names: the site that it says had done so before, if another one."""
        if self.ended is None:
            self.ended = body.decode(errors="replace")[:SENTENCE]
            self.names = None if names is None else (names, time.monotonic())


def read_lost(body: bytes, n_sites: int) -> frozenset[int]:
    """The sites that a message names as lost.

    Raises
    ------
    ValueError
        If it names anything else.

    Examples
    --------
    >>> sorted(read_lost(b"[2, 0]", 3))
    [0, 2]
    """
    try:
        lost = json.loads(body)
    except (ValueError, RecursionError):
        lost = None
    if not isinstance(lost, list) or not all(type(rank) is int and 0 <= rank < n_sites for rank in lost):
        raise ValueError(f"must list the lost among {n_sites} sites, got {body[:40]!r}")
    return frozenset(lost)
