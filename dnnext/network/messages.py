"""What arrives from other ranks is checked before it is used.

Design
------
A look is one product of the ghost rows with themselves, which the cache holds anyway; only if that is suspicious are
rows looked at one by one. What is refused is set to zero, so that the round can be finished in step with the other
ranks, and noted; the loop of a run takes the note to the vote of the iteration, where all ranks receive it.
An honest agent that diverges sends infinities too, but it raises its own alarm in the same vote.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext.network.lanes import Lane
from dnnext.runtime import ExchangePlan

__all__ = ["MessageCheck", "Refusal"]

Array = NDArray[Any]

WILD = 1e12  # times the largest row known so far: no step of any recipe is that long


class Refusal(NamedTuple):
    """A message that was refused.

    Attributes
    ----------
    agent : int
        Who sent it.
    round : int
        When, counted from 0.
    wild : bool
        Whether it was absurdly large; else it was not finite.

    Examples
    --------
    >>> Refusal(agent=3, round=12, wild=False).sentence(receiver=4)[:69]
    'agent 3 sent agent 4 a message that is not finite in round 12; it was'
    """

    agent: int
    round: int
    wild: bool

    def sentence(self, receiver: int) -> str:
        """What was wrong with the message."""
        what = f"more than {WILD:.0e} times larger than any before" if self.wild else "not finite"
        return (
            f"agent {self.agent} sent agent {receiver} a message that is {what} in round {self.round}; it was refused, "
            "and the agents keep the numbers they had"
        )


class MessageCheck:
    """Checks the ghost rows of every round.

    Attributes
    ----------
    refused : Refusal or None
        The first message that was refused since this was last set to None.
    """

    def __init__(self) -> None:
        self.refused: Refusal | None = None
        self._largest: list[float] = []

    def begin(self, lanes: list[Lane]) -> None:
        """Own rows count among what is known."""
        if len(self._largest) != len(lanes):
            self._largest = [0.0] * len(lanes)
        for place, lane in enumerate(lanes):
            own = float(np.vdot(lane.local, lane.local))
            if own > self._largest[place] and np.isfinite(own):
                self._largest[place] = own

    def look(self, lanes: list[Lane], scalars: Array, plan: ExchangePlan, round_: int) -> None:
        """Refuse what is not finite or wildly scaled in the ghost rows of this round."""
        ghosts = slice(plan.n_local, plan.n_local + plan.n_ghost)
        for place, lane in enumerate(lanes):
            rows, known = lane.rows[ghosts], self._largest[place]
            size = float(np.vdot(rows, rows))
            if not size <= WILD * known:  # far below the limit, which is on the square
                self._look_closely(rows, known, plan, round_)
                size = float(np.vdot(rows, rows))
            if size > known and np.isfinite(size):
                self._largest[place] = size
        received: Array = scalars[ghosts]
        if received.size and not np.isfinite(received.sum()):
            finite: Array = np.isfinite(received)
            if not finite.all():
                self._note(int(np.argmin(finite.all(axis=1))), False, plan, round_)
                received[~finite] = 0

    def _look_closely(self, rows: Array, known: float, plan: ExchangePlan, round_: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            sizes = np.einsum("ip,ip->i", rows, rows, dtype=np.float64)
        finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
        wild = (known > 0) & ~(sizes <= WILD**2 * known)
        for ghost in np.flatnonzero(wild | ~finite):
            self._note(int(ghost), bool(finite.item(ghost)), plan, round_)
            rows[ghost] = 0

    def _note(self, ghost: int, wild: bool, plan: ExchangePlan, round_: int) -> None:
        if self.refused is None:
            self.refused = Refusal(int(plan.ghosts[ghost]), round_, wild)
