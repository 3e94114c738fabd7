"""Ctrl-C and the batch system's request to end, obeyed after the iteration that is under way."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PAUSE = 1.0  # seconds: a launcher may hand on the same Ctrl-C twice


class Interruption:
    """While it is open, SIGINT and SIGTERM set `is_asked`; a second Ctrl-C ends the iteration itself.

    All ranks can then end after the same iteration, with a state that a checkpoint can hold, and return their best
    model. An MPI launcher hands Ctrl-C on as SIGTERM, and batch systems send it before they kill. Where the program has
    a handler of its own for SIGTERM, that is called once the run has ended. Outside of the main thread nothing is
    caught.

    Examples
    --------
    >>> with Interruption() as interruption:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interruption.is_asked
    True
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._terminate, self._last = False, 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._terminate and callable(self._before.get(signal.SIGTERM)):
            signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._terminate |= number == signal.SIGTERM
        now = time.monotonic()
        if self.is_asked and number == signal.SIGINT and now > self._last + PAUSE:
            raise KeyboardInterrupt
        self.is_asked, self._last = True, now


def is_asked(interruption: Interruption | None) -> bool:
    """Whether Ctrl-C asks a run to end; outside of a run nothing does."""
    return interruption is not None and interruption.is_asked
