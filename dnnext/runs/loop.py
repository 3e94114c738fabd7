"""The loop around the recipes: measures, alarm, callbacks, the reason to end.

# Design
# Decisions use only numbers that `sum_agents` or `max_agents` returned, so every rank takes the same one: first all
# hear of an alarm, of the clock and of Ctrl-C in one vote; then the quiet ones measure and ask the callbacks, whose
# wish is voted on too. A snapshot taken by a callback holds all that the next iteration depends on.
# A callback may have two more methods: `begin(run)` before the first iteration and `end(run, status)` after the last.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnnext.network import Refusal
from dnnext.runs.alarm import Alarm
from dnnext.runs.history import History, mean_over_agents, measure
from dnnext.runs.interruption import Interruption
from dnnext.runs.state import Callback, Limits, Result, Snapshot, State
from dnnext.runs.survival import go_on_without
from dnnext.runtime import AgentsLost, BadMessage

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


class Run:
    """One run of a recipe: its history, its alarm and the reason it ended."""

    def __init__(
        self, algorithm: Recipe, problem: Problem, network: Network, s: State, limits: Limits,
        callbacks: Sequence[Callback], notes: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.algorithm, self.problem, self.network, self.s = algorithm, problem, network, s
        self.limits, self.callbacks, self.notes = limits, callbacks, notes or {}
        self.alarm = Alarm(problem, s)
        self.history = History()
        self.best: Best | None = None
        self.seconds = 0.0
        self.iteration = s.t  # that is under way
        self.is_whole = True  # the state is that of a finished iteration
        self.is_resumed = False
        self.agents = np.arange(problem.n_agents)  # those that are left, by their first numbers
        self.losses: list[str] = []

    def loop(self) -> Result:
        """Iterate until a limit, a stopping rule, a callback, the third alarm or Ctrl-C ends the run."""
        if not self.history.rows:
            self.measure()
        objective = self.history["objective"][0]
        if not np.isfinite(objective + self.history["stationarity"][0]):
            raise ValueError(
                f"The objective at the start was {objective}: the data or w0 are too large in scale for "
                f"{self.problem.dtype}. Rescale the data."
            )
        self.network.runtime.agree("the number of callbacks", len(self.callbacks))
        with Interruption() as interruption:
            self.tell("begin", self)
            status = self.iterate_until_end(interruption)
            self.tell("end", self, status)
        return self.result(status)

    def tell(self, hook: str, *args: Any) -> None:
        """Call the hook of every callback that has it."""
        for callback in self.callbacks:
            getattr(callback, hook, lambda *_: None)(*args)

    def iterate_until_end(self, interruption: Interruption) -> str:
        """Iterations until there is a reason to end."""
        try:
            while self.s.t < self.limits.max_iter:
                try:
                    status = self.iterate(interruption)
                except AgentsLost as loss:
                    self.lose(loss)
                    continue
                if status:
                    return status
        except KeyboardInterrupt:
            if self.network.runtime.is_distributed:  # the others are still at it
                raise
            return "interrupted"
        return "max_iter"

    def lose(self, loss: AgentsLost) -> None:
        """Go on without the agents that are lost, or say when it was and give up."""
        sentence = f"{loss} in iteration {self.iteration}, round {self.network.round}."
        loss = AgentsLost(sentence, loss.ranks, loss.agents)
        if not self.network.runtime.has_survivors:
            raise loss
        go_on_without(self, loss)

    def iterate(self, interruption: Interruption) -> str:
        """One iteration and what follows it; the reason to end, or ''."""
        s, limits = self.s, self.limits
        begin, self.iteration = time.perf_counter(), s.t + 1
        self.is_whole = False
        self.algorithm.step(self.problem, self.network, s)
        s.t += 1
        self.seconds += time.perf_counter() - begin
        late = limits.max_time is not None and self.seconds > limits.max_time
        agent, is_late, is_asked = self.vote(self.alarm.raised(s), late, interruption.is_asked)
        if agent is not None:
            status = self.tame(agent)
            self.is_whole = True
            return "interrupted" if is_asked else status
        self.alarm.save(s)
        self.is_whole = True
        if s.t % limits.monitor_every == 0 or s.t == limits.max_iter:
            self.measure()
        status = self.ask()
        if is_asked:
            return "interrupted"
        return status or ("max_time" if is_late else "")

    def vote(self, raised: Array, late: bool, asked: bool) -> tuple[int | None, bool, bool]:
        """(first agent with an alarm or None, out of time?, interrupted?): the same answer on every rank."""
        if not self.network.runtime.is_distributed:  # nobody else to ask, no message to refuse
            return (int(raised.argmax()) if raised.any() else None), late, asked
        agents, watch = self.network.runtime.agents, self.network.watch
        votes = np.zeros((len(agents), 6))
        votes[:, 0] = np.where(raised, self.network.n_agents - np.asarray(agents), 0)
        votes[:, 1], votes[:, 2] = late, asked
        if watch.refused is not None:
            votes[0, 3:], watch.refused = (watch.refused.agent + 1, watch.refused.round, watch.refused.wild), None
        every = self.network.runtime.all_agents(votes)
        self.refuse(every)
        alarm, is_late, is_asked = np.maximum.reduce(every[:, :3], axis=0)
        return (self.network.n_agents - int(alarm) if alarm else None), bool(is_late), bool(is_asked)

    def refuse(self, votes: Array) -> None:
        """BadMessage on every rank if one refused a message whose sender has no alarm of its own."""
        for receiver in np.flatnonzero(votes[:, 3]):
            refusal = Refusal(int(votes[receiver, 3]) - 1, int(votes[receiver, 4]), bool(votes[receiver, 5]))
            if not votes[refusal.agent, 0]:
                self.s.undo(self.problem)
                raise BadMessage(f"{refusal.sentence(int(receiver))}.", refusal.agent, refusal.round)

    def ask(self) -> str:
        """The callbacks and the stopping rules: the reason to end, or ''."""
        wants_end = False
        for callback in self.callbacks:
            wants_end = bool(callback(self.s, self.history.last)) or wants_end
        converged = self.has_converged()
        if self.callbacks or (self.limits.tol > 0 and self.history.last["iteration"] == self.s.t):
            votes = np.zeros((self.problem.n_local, 2))
            votes[:, 0], votes[:, 1] = wants_end, converged
            wants_end, converged = map(bool, self.network.runtime.max_agents(votes))
        return "callback" if wants_end else ("converged" if converged else "")

    def tame(self, agent: int) -> str:
        """After an alarm: back to the saved iteration, more carefully; 'diverged' after the third."""
        self.alarm.remember(agent, self.s.t, self.network.round)
        self.alarm.restore(self.problem, self.s, self.algorithm)
        self.network.restart()
        if len(self.alarm.heard) >= self.alarm.most:
            said = self.algorithm.retreat(self.problem, self.s)
            if not said:
                self.measure()
                return "diverged"
            self.alarm.go_on(self.s, said)
        self.measure()
        return ""

    def snapshot(self) -> Snapshot:
        """Where the run stands after this iteration; the arrays are the run's own, copy or write them at once."""
        agents, numbers = self.s.lasting()
        alarm_agents, alarm_numbers = self.alarm.lasting()
        shared = {f"history.{name}": column for name, column in self.history.arrays().items()}
        if self.best is not None:
            shared |= {"best.objective": np.array(self.best.objective), "best.w": self.best.w_bar}
            agents |= {"best.w": self.best.w, "best.y": self.best.y}
        numbers |= {"round": self.network.round, "bytes": self.network.bytes, "seconds": self.seconds}
        saved = Snapshot(agents | alarm_agents, shared, numbers | alarm_numbers)
        for callback in self.callbacks:
            if hasattr(callback, "lasting"):
                saved.add(type(callback).__name__, callback.lasting())
        return saved

    def resume(self, saved: Snapshot) -> None:
        """Go on from a snapshot; its arrays are copied."""
        self.is_resumed = True
        self.s.resume(saved.agents, saved.numbers)
        self.alarm.resume(saved.agents, saved.numbers)
        self.history = History(saved.below("history").shared)
        if "best.w" in saved.shared:
            self.best = Best(
                float(saved.shared["best.objective"]), np.array(saved.shared["best.w"]),
                np.array(saved.agents["best.w"]), np.array(saved.agents["best.y"]),
            )  # fmt: skip
        self.network.round, self.network.bytes = int(saved.numbers["round"]), int(saved.numbers["bytes"])
        self.seconds = float(saved.numbers["seconds"])
        if self.network.runtime.rank == 0:
            self.network.runtime.bytes_wire += int(self.history["bytes_wire"][-1])
        for callback in self.callbacks:
            if hasattr(callback, "resume"):
                callback.resume(saved.below(type(callback).__name__))

    def measure(self) -> None:
        """One row of the history; its cost is not part of `seconds`."""
        row, w_bar = measure(self.problem, self.network, self.s)
        row["seconds"] = self.seconds
        self.history.append(row)
        if self.best is None or row["objective"] < self.best.objective:
            self.best = Best(row["objective"], w_bar, self.s.w.copy(), self.s.y.copy())

    def has_converged(self) -> bool:
        """The stopping rules on tol and on stationarity, judged at measured iterations since the last alarm.

        The objective must have stopped falling, and stand where it was lowest: one that goes up has not converged.
        """
        limits, rows = self.limits, self.history
        if limits.tol <= 0 or rows.last["iteration"] != self.s.t:
            return False
        first = rows["stationarity"][0]
        if rows["stationarity"][-1] <= 1e-6 * first:
            return True
        since = self.alarm.heard[-1][1] if self.alarm.heard else 0
        known = [(t, u) for t, u in zip(rows["iteration"], rows["objective"], strict=True) if t >= since]
        before = [u for t, u in known if t <= self.s.t - limits.n_iter_no_change]
        if not before:
            return False
        lowest, slack = min(u for _, u in known), limits.tol * abs(min(before))
        return bool(min(before) - lowest < slack and known[-1][1] - lowest <= slack)

    def result(self, status: str) -> Result:
        """The last model; the best one measured where the run diverged, was interrupted or ended well above it."""
        s, problem = self.s, self.problem
        if self.history.last["iteration"] != s.t and self.is_whole:
            self.measure()
        w, y, w_bar = s.w.copy(), s.y.copy(), mean_over_agents(problem, s.w)
        if self.best is not None and (status in ("diverged", "interrupted") or self.is_above()):
            _, w_bar, w, y = self.best
        return Result(
            w=w, y=y, w_bar=w_bar, history=self.history.arrays(), n_iter=s.t,
            converged=status == "converged", status=status, warning=self.warning(status) or None, state=s,
            problem=problem, network=self.network, agents=self.agents,
        )  # fmt: skip

    def warning(self, status: str) -> str:
        """What a user should read, or ''."""
        sentences = list(self.losses)
        if self.losses:
            sentences.append(f"The run went on with {len(self.agents)} agents.")
        if status == "interrupted":
            sentences.append(f"The run was interrupted after {self.s.t} iterations; the best model so far is kept.")
        elif self.alarm.heard:
            kept = (
                "; the best model so far is kept. Choose a larger tau or a smaller step."
                if status == "diverged"
                else "."
            )
            sentences.append(self.alarm.sentence(status == "diverged") + kept)
        elif self.is_above():
            sentences.append(
                f"The objective ended at {self.history['objective'][-1]:.4g}, above the lowest one measured; that "
                "model is kept. Choose a larger tau or a smaller step."
            )
        elif status == "max_iter" and self.is_falling():
            sentences.append(
                f"The objective was still falling by more than 1 % per ten iterations after max_iter={self.s.t} "
                "iterations. Increase max_iter."
            )
        return " ".join(sentences)

    def is_above(self) -> bool:
        """Whether the run ended above its lowest objective by more than a twentieth of what it had gained."""
        if self.best is None:
            return False
        objective, lowest = self.history["objective"], self.best.objective
        return bool(objective[-1] - lowest > 0.05 * (objective[0] - lowest) + 1e-6 * abs(lowest))

    def is_falling(self) -> bool:
        """Whether the objective fell by more than 1 % per ten iterations at the end, where tol asks for less."""
        objective, iteration = self.history["objective"], self.history["iteration"]
        if self.limits.tol <= 0 or iteration[-1] < 10:
            return False
        earlier = max(k for k, t in enumerate(iteration) if t <= iteration[-1] - 10)
        tens = (iteration[-1] - iteration[earlier]) / 10
        return bool(objective[earlier] - objective[-1] > 0.01 * tens * abs(objective[earlier]))


def data_marks(problem: Problem) -> Array:
    """A fingerprint of every local agent's rows, (n_local, 2) uint64: a run goes on with its own data only."""
    marks = np.zeros((problem.n_local, 2), dtype=np.uint64)
    for i, rows in enumerate(map(slice, problem.offsets[:-1], problem.offsets[1:])):
        digest = hashlib.sha256()
        for array in (problem.x, problem.target, problem.weight):
            digest.update(b"-" if array is None else np.ascontiguousarray(array[rows]).tobytes())
        marks[i] = np.frombuffer(digest.digest()[:16], dtype=np.uint64)
    return marks


def check_snapshot(problem: Problem, saved: Snapshot) -> None:
    """The snapshot is of this problem, or a sentence on every rank."""
    with problem.runtime.together():
        w, wanted = saved.agents["w"], (problem.n_local, problem.n_params)
        if w.shape != wanted or w.dtype != problem.dtype:
            raise ValueError(
                f"the checkpoint holds weights {w.shape} {w.dtype}, but the problem has {wanted} {problem.dtype}; "
                "resume with the layers and the dtype it was written with."
            )
        if "data" in saved.agents:
            other = np.flatnonzero((saved.agents["data"] != data_marks(problem)).any(axis=1))
            if len(other):
                raise ValueError(
                    f"the rows of agent {problem.runtime.agents[other[0]]} are not those the checkpoint was "
                    "written with; resume with the same data in the same order."
                )
