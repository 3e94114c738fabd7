"""Iterations that are done and not yet known to count, while the next ones are computed.

# Design
# What an iteration t is asked for travels with the votes of the iterations after it, so each iteration sends one
# message beside its rounds: its votes and, where it is due to be measured, its weights and trackers; the parts of G and
# of its gradient at the mean of the weights that the message before has brought; the wish of the callbacks of an
# earlier iteration to end. Until all of that is known the numbers of t are put aside, and steps t + 1 and later may be
# in vain: they are thrown away where t ends the run. Callbacks and stopping rules see one iteration after the other,
# each with its own numbers in place, so they decide as they would in one process.
# All ranks have sent their votes on iteration t before any of them takes step t + 1, so all read the same votes and
# decide alike; messages of a step that is thrown away have been received by then. A rank that knows already that the
# step will be thrown away, because an alarm or a refused message of its own is among the votes, takes it from the
# numbers of iteration t - 1: the messages that the others wait for are then finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]


class Stage(IntEnum):
    """What an iteration waits for."""

    VOTES = 0  # to be read
    MEASURE = 1  # the parts of G
    CALLBACKS = 2
    WISH = 3  # whether callbacks of any rank wish to end


class Posted(NamedTuple):
    """A vote that is on its way: what happened at the local agents, and a function that waits for all of them."""

    raised: Array  # (n_local,), alarms
    is_refused: bool  # whether a message was refused here
    is_late: bool
    is_asked: bool
    is_due: bool  # to be measured
    before: Snapshot | None  # the iteration before; None where there is one rank only
    every: Callable[[], Array] | None  # (n_agents, 7 or more), on all ranks the same
    n_rows: int = 0  # columns of `every` behind the votes that are rows to be measured
    parts_of: Waiting | None = None  # the iteration whose parts of G come behind them
    wish_of: Waiting | None = None  # and the one whose callbacks' wish comes last
    is_here: bool = False  # whether the votes of all agents have arrived


class Waiting:
    """One iteration that is done."""

    def __init__(self, posted: Posted) -> None:
        self.posted, self.stage = posted, Stage.VOTES
        self.kept: State | None = None  # its numbers, where they are put aside
        self.votes: Array | None = None  # of all agents
        self.rows: Array | None = None  # of all agents, to be measured
        self.own_parts: Array | None = None  # of the local agents, to travel
        self.parts: Array | None = None  # of all agents
        self.wants_end = self.converged = False  # here
        self.any_wants_end: bool | None = None  # on any rank
        self.is_late = self.is_asked = False  # on any rank

    def put_aside(self, run: Any) -> None:
        """Copy the numbers of a run, before its next step; `trade` changes them for those in place."""
        self.kept, self._network, self._seconds = run.s.copy(), run.network.snapshot(), run.seconds
        self._alarm = run.alarm.counts()
        posted = self.posted
        if posted.is_refused or np.any(posted.raised):
            assert posted.before is not None
            agents = {name: array.copy() for name, array in posted.before.agents.items()}
            scratch = dict(run.s.scratch)
            run.s.undo(Snapshot(agents, {}, {"t": run.s.t}))
            run.s.scratch.update(scratch)  # sums that the others have and do not form again: equally many calls

    def trade(self, run: Any) -> None:
        """Change its numbers for those in place; nothing if they are in place."""
        if self.kept is None:
            return
        run.s.trade(self.kept)
        network, self._network = self._network, run.network.snapshot()
        run.network.restore(network)
        run.seconds, self._seconds = self._seconds, run.seconds
        counts, self._alarm = self._alarm, run.alarm.counts()
        run.alarm.set_counts(counts)

    def take(self, votes: Array, rows: Array, parts: Array, wishes: Array) -> Array:
        """What came from all agents, for this iteration and for those before it; the votes."""
        self.votes = votes
        if rows.size:
            self.rows = rows
        if self.posted.parts_of is not None:
            self.posted.parts_of.parts = parts
        if self.posted.wish_of is not None:
            self.posted.wish_of.any_wants_end = bool(wishes.any())
        return votes

    def state(self, run: Any) -> State:
        """Its numbers, wherever they are."""
        return run.s if self.kept is None else self.kept


def left_to_send(waiting: list[Waiting], n_local: int) -> tuple[list[Array], Waiting | None, Waiting | None]:
    """What travels with the votes on a later iteration: columns, and of which iterations they are."""
    columns = []
    parts_of = next((w for w in waiting if w.own_parts is not None and w.parts is None), None)
    if parts_of is not None and parts_of.own_parts is not None:
        columns.append(parts_of.own_parts)
    wish_of = next((w for w in waiting if w.stage == Stage.WISH), None)
    if wish_of is not None:
        columns.append(np.full((n_local, 1), float(wish_of.wants_end)))
    return columns, parts_of, wish_of


@contextmanager
def only_looking(s: State) -> Iterator[None]:
    """While steps are taken ahead, callbacks may look at a state and not change it.

    Raises
    ------
    ValueError
        If one does.
    """
    before = dict(vars(s))
    arrays = [a for a in (*before.values(), *s.memory.values()) if isinstance(a, np.ndarray) and a.flags.writeable]
    for array in arrays:
        array.flags.writeable = False
    sentence = (
        "a callback must not change the state where the next step is taken before the votes are read, as it is between "
        "sites: what it changed would be lost. Got "
    )
    try:
        yield
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise ValueError(f"{sentence}a callback that writes to an array of it.") from error
    finally:
        for array in arrays:
            array.flags.writeable = True
    changed = [name for name, value in vars(s).items() if before.get(name) is not value]
    if changed:
        raise ValueError(f"{sentence}a callback that replaces {', '.join(changed)}.")
