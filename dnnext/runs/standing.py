"""Where a run stands: what the loop, the stopping rules and the way on without lost agents look at and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnnext.runs.ahead import Waiting
from dnnext.runs.alarm import Alarm
from dnnext.runs.history import Measures
from dnnext.runs.result import Callback, Limits
from dnnext.runs.state import State

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]


class Best(NamedTuple):
    """The model of the lowest objective measured: w_bar (P,), and the local agents' w and y (n_local, P)."""

    objective: float
    w_bar: Array
    w: Array
    y: Array


class Standing:
    """A run's history, its alarm and the reason it ended.

    `recipe` is the one it goes on with: `retreats` times a safer one than that it began with.
    """

    def __init__(
        self, recipe: Recipe, problem: Problem, network: Network, s: State, limits: Limits,
        callbacks: Sequence[Callback], notes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.problem, self.network, self.s = recipe, problem, network, s
        self.retreats = 0
        self.limits, self.callbacks, self.notes = limits, callbacks, notes or {}
        self.named = name_callbacks(callbacks)
        self.alarm = Alarm(problem, s)
        self.history = Measures()
        self.best: Best | None = None
        self.seconds = 0.0
        self.iteration = s.t  # that is under way
        self.is_whole = True  # the state is that of a finished iteration
        self.is_resumed = self.was_finished = False
        self.ended_by: list[str] = []  # names of the callbacks that wished to end
        self.agents = np.arange(problem.n_agents)  # those that are left, by their first numbers
        self.losses: list[str] = []
        self.waiting: list[Waiting] = []  # iterations that are done and not yet known to count, oldest first


def name_callbacks(callbacks: Sequence[Callback]) -> list[tuple[str, Callback]]:
    """(name, callback), in the order they are called: a class name, counted where there are several of a class."""
    named, seen = list[tuple[str, Callback]](), dict[str, int]()
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        named.append((kind if seen[kind] == 1 else f"{kind}#{seen[kind]}", callback))
    return sorted(named, key=lambda pair: getattr(pair[1], "comes_last", False))
