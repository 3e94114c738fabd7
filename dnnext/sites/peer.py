"""What one site knows of another."""

import json
import time
from collections import deque

from dnnext.sites.wire import Head

__all__ = ["Message", "Peer", "read_lost"]

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
        self.wrong: str | None = None
        self.view: tuple[int, frozenset[int]] | None = None  # agreements before, and whom it takes for lost
        self.has_left = False
        self.state = "here"


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
