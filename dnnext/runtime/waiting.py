"""How to wait for other ranks, which may share the cores with this one and with its threads."""

import os
import time
from collections.abc import Callable
from typing import Any

__all__ = ["wait_until"]

SPINS = 20  # ask at once: the message may be here
YIELDING = 2e-3  # seconds of letting others run between two questions: a nap costs far more than most messages take
NAP, SHARE = 1e-3, 0.05  # then sleep, for a share of the time waited so far: a long wait need not end quickly

give_way: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0))


def wait_until(done: Callable[[], bool], seconds: float, look: Callable[[], None] = lambda: None) -> bool:
    """Ask `done` until it says yes, or no for `seconds`; the last answer. `look` is called before every nap."""
    for _ in range(SPINS):
        if done():
            return True
    begin = time.monotonic()
    while not done():
        waited = time.monotonic() - begin
        if waited > seconds:
            return False
        if waited < YIELDING:
            give_way()
        else:
            look()
            time.sleep(min(NAP, SHARE * waited))
    return True
