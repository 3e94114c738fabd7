"""The message between two sites: a fixed head, then the raw little-endian numbers."""

import struct
import sys
from typing import Any, NamedTuple

import numpy as np

__all__ = ["HEAD_BYTES", "Head", "dtype_name", "pack_head", "read_head"]

MAGIC = b"dnx1"  # the format's version
HEAD = struct.Struct("<4sB3sIQQQQ")
HEAD_BYTES = HEAD.size
KINDS = DATA, AGAIN, ALIVE, ENDED, LOST, LEAVING = range(6)


class Head(NamedTuple):
    """What precedes the numbers of every message.

    Attributes
    ----------
    kind : int
        DATA: part of a collective operation. AGAIN: the sender waits for messages from `number` on. ALIVE: its answer,
        with the site that the sender itself waits for. ENDED: the sender ends, and why. LOST: whom it takes for lost.
        LEAVING: it has all it needs.
    dtype : str
        NumPy's name of the numbers, such as "<f8".
    group, operation : int
        The communicator that sent it, and which of its operations this is part of.
    number : int
        Counts the messages from one site to another, from 1 on: run, sender, receiver and number name a message.
    received : int
        The sender has received all messages of the receiver up to this number.
    size : int
        Bytes of the numbers.

    Examples
    --------
    >>> head = Head(DATA, "<f8", group=0, operation=7, number=9, received=8, size=16)
    >>> read_head(pack_head(head)) == head
    True
    """

    kind: int
    dtype: str
    group: int
    operation: int
    number: int
    received: int
    size: int


def dtype_name(dtype: Any) -> str:
    """The name of a dtype on the wire, little-endian.

    Examples
    --------
    >>> dtype_name(np.float64), dtype_name(bool)
    ('<f8', '|b1')
    """
    if sys.byteorder != "little":
        raise ValueError("sites must run on little-endian machines, got a big-endian one.")
    return str(np.dtype(dtype).str)


def pack_head(head: Head) -> bytes:
    """The head's bytes.

    Examples
    --------
    >>> len(pack_head(Head(DATA, "<f8", 0, 1, 1, 0, 16))) == HEAD_BYTES
    True
    """
    return HEAD.pack(MAGIC, head.kind, head.dtype.encode(), *head[2:])


def read_head(data: bytes) -> Head:
    """The head of a message.

    Raises
    ------
    ValueError
        Saying what is wrong with it.

    Examples
    --------
    >>> read_head(b"abc")
    Traceback (most recent call last):
    ValueError: is 3 bytes long, shorter than its head of 44
    """
    if len(data) < HEAD_BYTES:
        raise ValueError(f"is {len(data)} bytes long, shorter than its head of {HEAD_BYTES}")
    magic, kind, dtype, *rest = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"begins with {magic!r} instead of {MAGIC!r}")
    if kind not in KINDS:
        raise ValueError(f"is of the unknown kind {kind}")
    if not dtype.isascii():
        raise ValueError(f"has the dtype {dtype!r}")
    return Head(kind, dtype.decode(), *rest)
