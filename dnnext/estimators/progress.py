"""What one call of `partial_fit` hands to the next: a State as a Snapshot, and what is known of the calls so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnext.algorithms import State
from dnnext.problem import Problem
from dnnext.runs.alarm import MEAN_LOSS, mean_losses
from dnnext.runs.snapshot import Snapshot


def progress_of(state: State, seen: float = 0.0, ceiling: float = 0.0, retreats: int = 0, data: Any = None) -> Snapshot:
    """Snapshot of what one call of partial_fit hands to the next: a state, and what is known of the calls so far.

    seen: the sample weight so far; ceiling: mean loss of an agent above which it may have diverged; retreats: how often
    a safer recipe took over; fresh: whether the recipe has yet to start; alike: calls in a row that left a network with
    one answer to all rows; data: marks of the rows that y and grad belong to.
    """
    saved = state.snapshot().copy()
    saved.numbers |= {"seen": seen, "ceiling": ceiling, "retreats": retreats, "fresh": False, "alike": 0}
    if data is not None:
        saved.agents["data"] = data
    return saved


def progress_at_start(problem: Problem, row: Any, t: int = 0, seen: float = 0.0) -> Snapshot:
    """All agents at one row (P,), y = grad."""
    state = State.at(problem, np.tile(row, (problem.n_local, 1)))
    height = float(np.max(mean_losses(problem, state))) + float(problem.penalty.value(state.w[0]))
    progress = progress_of(state, seen, MEAN_LOSS * height if np.isfinite(height) else 0.0)
    progress.numbers |= {"t": t, "fresh": True}
    return progress


def progress_moved(progress: Snapshot, problem: Problem, w: Any) -> Snapshot:
    """The same at other weights (n_local, P), with y = grad; itself if they are the same."""
    if not np.array_equal(w, progress.agents["w"]):
        state = State.at(problem, w)
        fresh = {name: getattr(state, name) for name in ("w", "y", "grad", "values", "beta", "received")}
        kept = {name: value for name, value in progress.agents.items() if not name.startswith("memory.")}
        progress.agents, progress.numbers["is_fresh"] = kept | fresh, True
    return progress


def state_on(problem: Problem, recipe: Any, progress: Snapshot, data: Any) -> tuple[State, bool]:
    """(state that goes on from `progress` on the rows of `problem`, whether these rows are other ones).

    On other rows y += grad_new(w) - grad_old, so that the mean of y stays that of the gradients.
    """
    s = State.at(problem, progress.agents["w"])
    s.resume(progress)
    known = progress.agents.get("data")
    if known is not None and np.array_equal(known, data):
        return s, False
    s.forget_rows()
    before = s.grad.copy()
    s.values = recipe.oracle(problem, s.w, s.grad, s.memory)
    s.y = s.y + (s.grad - before)
    return s, known is not None or not np.array_equal(s.grad, before)
