"""The alarm: notice divergence early, go back together, and never return a diverged model silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.kernels.sums import row_dots, row_norms

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
    agent alone would break ``mean y = mean grad``.
    """

    often = 3

    def __init__(self, problem: Problem, s: State) -> None:
        own = problem.agent_weight
        self.share = np.divide(problem.n_total, own, out=np.zeros(len(own)), where=own > 0)
        penalty = np.array([problem.penalty.value(row) for row in s.w])
        penalty[~np.isfinite(penalty)] = 0  # an indicator function says where, not how much
        self.ceiling = MEAN_LOSS * float(problem.runtime.max_agents(s.values * self.share + penalty))
        self.size = row_norms(s.w)
        self.armed = np.zeros(len(s.w), bool)
        self.above = np.zeros(len(s.w), int)
        self.saved = [(s.w.copy(), s.tau.copy())]
        self.heard: list[tuple[int, int, int]] = []
        self.most, self.said = self.often, ""

    def raised(self, s: State) -> Array:
        """Which local agents raise the alarm after this iteration, (n_local,) bool."""
        size = row_norms(s.z) if s.size is None else s.size
        near = s.disagreement * size <= DISAGREEMENT * np.maximum(size, self.size)
        if near.all():
            self.armed[:], self.above[:] = True, 0
        else:
            self.above = np.where(self.armed & ~near, self.above + 1, 0)
            self.armed |= near
        squares = s.squares
        if squares is None:
            with np.errstate(over="ignore", invalid="ignore"):
                squares = row_dots(s.w, s.w) + row_dots(s.y, s.y)
        # weights whose squares overflow cannot be measured either
        quiet = np.isfinite(squares + s.values) & (self.above < 2) & (s.values * self.share <= self.ceiling)
        return np.logical_not(quiet)

    def save(self, s: State) -> None:
        """Keep this iteration if it is due; the older of two is the one to go back to."""
        if s.t % SAVE_EVERY == 0:
            self.saved = [*self.saved[-1:], (s.w.copy(), s.tau.copy())]

    def remember(self, agent: int, iteration: int, round_: int) -> None:
        """Who raised the alarm, and when."""
        self.heard.append((agent, iteration, round_))

    def restore(self, problem: Problem, s: State, algorithm: Recipe) -> None:
        """All agents back to the older saved iteration, y = grad, ten times more careful than then."""
        w, tau = self.saved[0]
        s.restart(problem, w, tau, algorithm.oracle)
        algorithm.soften(s)
        self.saved = [(w, s.tau.copy())]
        self.armed[:] = False
        self.above[:] = 0

    def go_on(self, s: State, said: str) -> None:
        """As many alarms again for a recipe in its safer form; said: what that is."""
        self.most, self.said = len(self.heard) + self.often, said
        self.saved = [(s.w.copy(), s.tau.copy())]

    def lasting(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What later alarms depend on: arrays of the local agents, and plain numbers."""
        agents = {"alarm.size": self.size, "alarm.armed": self.armed, "alarm.above": self.above}
        for k, (w, tau) in enumerate(self.saved):
            agents |= {f"alarm.{k}.w": w, f"alarm.{k}.tau": tau}
        heard = [list(each) for each in self.heard]
        limits = {"alarm.ceiling": self.ceiling, "alarm.most": self.most, "alarm.said": self.said}
        return agents, limits | {"alarm.heard": heard}

    def resume(self, agents: dict[str, Array], numbers: dict[str, Any]) -> None:
        """Go on from what `lasting` returned."""
        self.size, self.armed = np.array(agents["alarm.size"]), np.array(agents["alarm.armed"])
        self.above, self.ceiling = np.array(agents["alarm.above"]), float(numbers["alarm.ceiling"])
        kept = [k for k in range(2) if f"alarm.{k}.w" in agents]
        self.saved = [(np.array(agents[f"alarm.{k}.w"]), np.array(agents[f"alarm.{k}.tau"])) for k in kept]
        self.most, self.said = int(numbers.get("alarm.most", self.often)), str(numbers.get("alarm.said", ""))
        self.heard = [(int(agent), int(t), int(round_)) for agent, t, round_ in numbers["alarm.heard"]]

    def sentence(self, ended: bool) -> str:
        """What happened, for a warning."""
        agent, iteration, round_ = self.heard[-1]
        times = "once" if len(self.heard) == 1 else f"{len(self.heard)} times"
        end = "the run was stopped" if ended else self.said or "tau was raised tenfold each time and the run went on"
        return (
            f"The run began to diverge {times}, last at agent {agent} in iteration {iteration} (round {round_}); {end}"
        )


def mean_losses(problem: Problem, s: State) -> Array:
    """Mean loss of every local agent's own rows, g_i(w_i) N / N_i, (n_local,); 0 for relays."""
    own = problem.agent_weight
    return np.divide(s.values * problem.n_total, own, out=np.zeros(len(own)), where=own > 0)
