"""The alarm: notice divergence early, go back together, and never return a diverged model silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.kernels.sums import row_dots
from dnnext.problem import row_parts
from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from dnnext.problem import Problem
    from dnnext.runs.recipe import Recipe
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]

DISAGREEMENT = 0.25  # distance to the neighbours' mean relative to |z|, twice running
MEAN_LOSS = 3.0  # times the largest mean loss of any agent at the start
SAVE_EVERY = 10


class Alarm:
    """Watches every agent, keeps two saved iterations to go back to.

    An agent raises its alarm when ``|z_i - sum_j c_ij z_j| / max(|z_i|, |w_i at the start|)`` of the first mixing round
    exceeds 0.25 twice running (armed once it has been below; the start's norm is there because a strong penalty may
    shrink all weights, which is no divergence), when its mean loss exceeds three times the largest sum of mean loss and
    penalty at the start (a warm start under a stronger penalty trades one for the other), or when a number is not
    finite. All agents then return to the same saved iteration with ``y = grad`` and ten times their tau: a reset of one
    agent alone would break ``mean y = mean grad``. An iteration that was tested by the objective of all needs finite
    numbers alone: what raises the objective was taken back, and to go further back would raise it.
    """

    often = 3

    def __init__(self, problem: Problem, s: State) -> None:
        own = problem.agent_weight
        self.share = np.divide(problem.n_total, own, out=np.zeros(len(own)), where=own > 0)
        first = row_parts.penalty_value(problem, s.w[0]) if len(s.w) else 0.0
        is_common = not row_parts.largest(problem, s.w - s.w[:1]).any()  # as a rule all agents start alike
        penalty = np.array([first if is_common else row_parts.penalty_value(problem, row) for row in s.w])
        penalty[~np.isfinite(penalty)] = 0  # an indicator function says where, not how much
        self._ceiling: float | Array | None = None
        self._get_tops = problem.runtime.later_agents(s.values * self.share + penalty)
        self.problem, self.size = problem, row_parts.norms(problem, s.w)
        self.armed = np.zeros(len(s.w), bool)
        self.above = np.zeros(len(s.w), int)
        self.is_calm = False  # all armed, none above
        self.saved = [_point(s)]
        self.raised: list[tuple[int, int, int]] = []  # agent, iteration and round of every alarm
        self.most, self.outcome = self.often, ""

    @property
    def ceiling(self) -> float | Array:
        """The mean loss above which an agent raises its alarm."""
        if self._ceiling is None:
            self._ceiling = MEAN_LOSS * float(np.maximum.reduce(self._get_tops(), axis=0))
        return self._ceiling

    @ceiling.setter
    def ceiling(self, value: float | Array) -> None:
        self._ceiling = value

    def check(self, s: State) -> Array:
        """Which local agents raise the alarm after this iteration, (n_local,) bool."""
        size = row_parts.norms(self.problem, s.w) if s.size is None else s.size
        near = s.disagreement * size <= DISAGREEMENT * np.maximum(size, self.size)
        if not near.all():
            self.above = np.where(self.armed & ~near, self.above + 1, 0)
            self.armed |= near
            self.is_calm = False
        elif not self.is_calm:
            self.armed[:], self.above[:] = True, 0
            self.is_calm = True
        squares = s.squares
        if squares is None:
            with np.errstate(over="ignore", invalid="ignore"):
                squares = row_dots(s.w, s.w) + row_dots(s.y, s.y)
        # weights whose squares overflow cannot be measured either
        quiet = s.values * self.share <= self.ceiling
        if s.is_tested:
            quiet[:] = True  # a few rows may lose where all together gain; agents that are apart are made to mix
        elif not self.is_calm:
            quiet &= self.above < 2
        quiet &= np.isfinite(squares + s.values)
        return np.logical_not(quiet)

    def save(self, s: State) -> None:
        """Keep this iteration if it is due; the older of two is the one to go back to."""
        if s.t % SAVE_EVERY == 0:
            self.saved = [*self.saved[-1:], _point(s)]

    def remember(self, agent: int, iteration: int, round_: int) -> None:
        """Who raised the alarm, and when."""
        self.raised.append((agent, iteration, round_))

    def restore(self, problem: Problem, s: State, recipe: Recipe) -> None:
        """All agents back to the older saved iteration, y = grad, ten times more careful than then."""
        point = self.saved[0].agents
        s.restart(problem, point["w"], point["tau"], recipe.oracle)
        recipe.soften(s)
        self.saved = [_point(s)]
        self.armed[:], self.above[:], self.is_calm = False, 0, False

    def go_on(self, s: State, outcome: str) -> None:
        """As many alarms again for a safer recipe; outcome: a sentence about it."""
        self.most, self.outcome = len(self.raised) + self.often, outcome
        self.saved = [_point(s)]

    def counts(self) -> tuple[Array, Array, bool]:
        """What one check changes, copied."""
        return self.armed.copy(), self.above.copy(), self.is_calm

    def set_counts(self, counts: tuple[Array, Array, bool]) -> None:
        """Go on from `counts` of another iteration."""
        self.armed, self.above, self.is_calm = counts

    def snapshot(self) -> Snapshot:
        """What later alarms depend on."""
        agents = {"size": self.size, "armed": self.armed, "above": self.above}
        numbers = {"ceiling": self.ceiling, "most": self.most, "outcome": self.outcome}
        saved = Snapshot(agents, {}, numbers | {"raised": [list(each) for each in self.raised]})
        for k, point in enumerate(self.saved):
            saved.add(str(k), point)
        return saved

    def resume(self, saved: Snapshot) -> None:
        """Go on from `snapshot`."""
        agents, numbers = saved.agents, saved.numbers
        self.size, self.armed, self.above = (np.array(agents[name]) for name in ("size", "armed", "above"))
        self._ceiling, self.is_calm = float(numbers["ceiling"]), False
        kept = [k for k in range(2) if f"{k}.w" in agents]
        self.saved = [Snapshot({name: np.array(agents[f"{k}.{name}"]) for name in ("w", "tau")}) for k in kept]
        self.most, self.outcome = int(numbers.get("most", self.often)), str(numbers.get("outcome", ""))
        self.raised = [(int(agent), int(t), int(round_)) for agent, t, round_ in numbers["raised"]]

    def sentence(self, ended: bool) -> str:
        """What happened, for a warning."""
        agent, iteration, round_ = self.raised[-1]
        n = len(self.raised)
        times, each = ("once,", "") if n == 1 else (f"{n} times, last", " each time")
        end = "the run was stopped" if ended else self.outcome or f"tau was raised tenfold{each} and the run went on"
        return f"The run began to diverge {times} at agent {agent} in iteration {iteration} (round {round_}); {end}"


def _point(s: State) -> Snapshot:
    """Where a run may go back to: weights and tau; the trackers begin anew there."""
    return Snapshot({"w": s.w.copy(), "tau": s.tau.copy()})


def mean_losses(problem: Problem, s: State) -> Array:
    """Mean loss of every local agent's own rows, g_i(w_i) N / N_i, (n_local,); 0 for relays."""
    own = problem.agent_weight
    return np.divide(s.values * problem.n_total, own, out=np.zeros(len(own)), where=own > 0)
