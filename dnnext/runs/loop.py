"""The loop around the recipes: measures, alarm, callbacks, the reason to end.

# Design
# Decisions use only numbers that `sum_agents` or `max_agents` returned, so every rank takes the same one: first one
# vote on alarm, clock and Ctrl-C; then, without an alarm, measures and callbacks, whose wish to end is voted on too. A
# snapshot taken by a callback holds all that the next iteration depends on; callbacks that take one come last.
# `Run.once` is one iteration with its vote; `partial_fit` of the estimators calls it, too.
# Between ranks an iteration sends one message beside its rounds: its measures and the wish of callbacks travel with the
# votes of the next ones, which are computed meanwhile (see `ahead`). Between sites, where a message takes longer than a
# step, the votes themselves do so, too. All is read with the numbers of its own iteration in place.
# A callback may have three more methods: `begin(run)` before the first iteration, `end(run, status)` after the last,
# and `measures(run)`, numbers by name that join each row of the history, the same names in each.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from dnnext._checks import short
from dnnext.network import Refusal
from dnnext.network.mixer import MixerState
from dnnext.runs.ahead import Posted, Stage, Waiting, left_to_send, only_looking
from dnnext.runs.history import Measures, mean_over_agents, measure, parts_of_rows, rows_to_gather
from dnnext.runs.interruption import Interruption, is_asked
from dnnext.runs.result import Result, wish
from dnnext.runs.snapshot import Snapshot
from dnnext.runs.standing import Best, Standing
from dnnext.runs.stopping import has_converged, is_above, warning
from dnnext.runs.survival import go_on_without
from dnnext.runtime import AgentsLost, BadMessage

Array = np.ndarray[Any, np.dtype[Any]]
N_VOTES = 7  # columns


class Vote(NamedTuple):
    """What all ranks agreed on after a step: the first agent with an alarm or None, and whether to end."""

    agent: int | None
    is_late: bool
    is_asked: bool


class Run(Standing):
    """One run of a recipe: `loop` iterates, measures and ends it."""

    def loop(self) -> Result:
        """Iterate until a limit, a stopping rule, a callback, the third alarm or Ctrl-C ends the run."""
        limits = self.limits
        may_end = any(getattr(c, "can_end", True) for c in self.callbacks)
        rules = limits.max_iter, limits.tol, limits.n_iter_no_change, limits.monitor_every
        self.network.runtime.agree_on(
            {"the number of callbacks": len(self.callbacks), "whether a callback may end the run": may_end,
             "whether all callbacks have only_looks = True": self.may_go_ahead,
             "max_iter, tol, n_iter_no_change and monitor_every": rules}
        )  # fmt: skip
        if not self.history.rows:
            self.measure()
        self.network.runtime.stop_gathering()
        objective, stationarity = self.history["objective"][0], self.history["stationarity"][0]
        if not np.isfinite(objective + stationarity):
            raise ValueError(
                f"The objective at the start was {objective}, the stationarity {stationarity}: the data or w0 are too "
                f"large in scale for {self.problem.dtype}, or a loss or penalty of your own is not finite there. "
                "Rescale the data."
            )
        with Interruption() as interruption:
            self.call_hooks("begin", self)
            status = self.finished() if self.is_resumed else ""
            self.was_finished = bool(status)
            status = status or self.iterate_until_end(interruption)
            self.call_hooks("end", self, status)
        return self.result(status)

    def call_hooks(self, hook: str, *args: Any) -> None:
        """Call the method `hook` of every callback that has it."""
        for _, callback in self.named:
            getattr(callback, hook, lambda *_: None)(*args)

    def finished(self) -> str:
        """Why a resumed run has nothing left to do, or '': what had ended it does so still."""
        late = self.limits.max_time is not None and self.seconds > self.limits.max_time
        wished = [c for name, c in self.named if name in self.ended_by and getattr(c, "can_end", True)]
        votes = np.zeros((self.problem.n_local, 3))
        votes[:] = bool(wished), has_converged(self), late
        reasons = zip(("callback", "converged", "max_time"), self.network.runtime.max_agents(votes), strict=True)
        return next((reason for reason, holds in reasons if holds), "")

    def iterate_until_end(self, interruption: Interruption) -> str:
        """Iterations until there is a reason to end."""
        try:
            while self.waiting or self.s.t < self.limits.max_iter:
                try:
                    status = self.iterate(interruption)
                except AgentsLost as loss:
                    self.waiting.clear()
                    self.drop_agents(loss)
                    continue
                if status:
                    return status
        except KeyboardInterrupt:
            if not self.network.runtime.is_alone:  # the others are still at it
                raise
            return "interrupted"
        return "max_iter"

    def drop_agents(self, loss: AgentsLost) -> None:
        """Go on without the agents that are lost, or say when it was and give up."""
        sentence = f"{loss} in iteration {self.iteration}, round {self.network.round}."
        loss = AgentsLost(sentence, loss.ranks, loss.agents)
        if not self.network.runtime.has_survivors:
            raise loss
        go_on_without(self, loss)

    def iterate(self, interruption: Interruption) -> str:
        """One iteration and what follows it; the reason to end, or ''.

        Where that saves the time of a message, the next step is taken while it travels or before all is known, and
        thrown away if there is a reason not to go on.
        """
        is_far = self.network.runtime.comm.is_far
        if not self.waiting:
            self.step(interruption)
            self.waiting.append(Waiting(self.post(interruption)))
        last = self.waiting[-1]
        goes_ahead = self.may_go_ahead and not last.posted.is_here and self.s.t < self.limits.max_iter
        if goes_ahead and is_far:
            last.put_aside(self)
            self.step(interruption)
        is_quiet = self.receive(last, goes_ahead)
        status, goes_on = self.settle(now=not (goes_ahead and is_quiet))
        if not goes_on:
            self.waiting.clear()
            self.network.refused = None
            return status
        if self.waiting and not is_far:
            last.put_aside(self)
            self.step(interruption)
        if goes_ahead and (self.waiting or is_far):
            self.waiting.append(Waiting(self.post(interruption)))
        return ""

    @property
    def may_go_ahead(self) -> bool:
        """Whether a step is worth less than the time that a message takes, and can be taken back."""
        runtime, network = self.network.runtime, self.network
        if runtime.inner.size > 1 or not runtime.is_distributed or "memoryless" not in network.offers:
            return False
        looks = all(getattr(callback, "only_looks", False) for callback in self.callbacks)
        return runtime.comm.is_far or (looks and runtime.gathers(2 * self.problem.n_params))  # a copy is quick

    def settle(self, now: bool) -> tuple[str, bool]:
        """Finish what can be, oldest first: the reason to end or '', and whether to go on.

        now : ask the other ranks for what is missing, instead of waiting for the next message.
        """
        while self.waiting:
            first = self.waiting[0]
            first.trade(self)
            is_done, status, goes_on = self.finish(first, now)
            if not goes_on:
                return status, False
            first.trade(self)
            if not is_done:
                break
            self.waiting.pop(0)
        return "", True

    def finish(self, first: Waiting, now: bool) -> tuple[bool, str, bool]:
        """Votes, measures, callbacks of an iteration: whether that is all, the reason to end, and whether to go on."""
        posted = first.posted
        if first.stage == Stage.VOTES:
            vote = self.count(first)
            if vote.agent is not None:
                self.measure()
                status = "diverged" if len(self.alarm.raised) >= self.alarm.most else ""
                return True, "interrupted" if vote.is_asked else status, False
            first.stage = Stage.MEASURE
        self.is_whole = True  # whatever is under way beyond it
        if first.stage == Stage.MEASURE:
            if posted.is_due:
                if first.own_parts is not None and first.parts is None and not now:
                    return False, "", True
                self.measure(first.rows, first.parts)
            first.stage = Stage.CALLBACKS
        if first.stage == Stage.CALLBACKS:
            self.call_callbacks(first)
            first.stage = Stage.WISH
        if any(getattr(callback, "can_end", True) for callback in self.callbacks) and first.any_wants_end is None:
            if not now:
                return False, "", True
            wishes = np.full(self.problem.n_local, first.wants_end)
            first.any_wants_end = bool(self.network.runtime.max_agents(wishes))
        status = "callback" if first.any_wants_end else ("converged" if first.converged else "")
        if first.is_asked:
            status = "interrupted"
        status = status or ("max_time" if first.is_late else "")
        return True, status, not status

    def once(self) -> Vote:
        """One iteration and the vote on it; after an alarm the state is back at a saved iteration."""
        self.step()
        one = Waiting(self.post())
        self.receive(one, False)
        return self.count(one)

    def step(self, interruption: Interruption | None = None) -> None:
        """One iteration of the recipe, which may send the votes on it along with numbers of its own."""
        s, recipe, runtime = self.s, self.recipe, self.network.runtime
        begin, self.iteration = time.perf_counter(), s.t + 1
        self.before = None if runtime.is_alone else s.keep()
        self.is_whole, s.size, s.squares, s.measured, s.is_tested = False, None, None, None, False
        s.is_due, s.votes, s.all_votes = self.is_due(s.t + 1, interruption), None, None
        if runtime.is_distributed and runtime.inner.size == 1:
            s.votes = lambda: self.votes(None, self.seconds + time.perf_counter() - begin, is_asked(interruption))
        if not recipe.fast_step(self.problem, self.network, s):
            shape = s.w.shape
            recipe.step(self.problem, self.network, s)
            if np.shape(s.w) != shape:
                raise ValueError(f"a step of {short(recipe)} must leave s.w of shape {shape}, got {np.shape(s.w)}.")
        s.t, s.votes = s.t + 1, None
        self.seconds += time.perf_counter() - begin

    def is_due(self, t: int, interruption: Interruption | None) -> bool:
        """Whether iteration t of a run is measured; `partial_fit` measures by itself."""
        return interruption is not None and (t % self.limits.monitor_every == 0 or t == self.limits.max_iter)

    def is_late(self, seconds: float) -> bool:
        """Whether the run is to end after so many seconds."""
        return self.limits.max_time is not None and seconds > self.limits.max_time

    def votes(self, raised: Array | None, seconds: float, asked: bool) -> Array:
        """Of the local agents, (n_local, N_VOTES): alarm, clock, Ctrl-C, a message that was refused (3), and bytes."""
        network = self.network
        agents, refused, network.refused = network.runtime.agents, network.refused, None
        votes = np.zeros((len(agents), N_VOTES))
        if raised is not None:
            votes[:, 0] = np.where(raised, network.n_agents - np.asarray(agents), 0)
        votes[:, 1] = self.is_late(seconds)
        votes[:, 2] = asked
        if refused is not None:
            votes[0, 3:6] = refused.agent + 1, refused.round, refused.wild
        votes[0, 6] = network.runtime.bytes_wire
        return votes

    def post(self, interruption: Interruption | None = None) -> Posted:
        """Send what happened to the local agents in the last step, unless the step has done so.

        Where the iteration is due to be measured, the rows for that travel with the votes.
        """
        s, network, refused = self.s, self.network, self.network.refused
        raised, is_due = self.alarm.check(s), self.is_due(s.t, interruption)
        asked = is_asked(interruption)
        posted = Posted(raised, refused is not None, self.is_late(self.seconds), asked, is_due, self.before, None)
        if self.before is None:  # one rank: no vote, no message to refuse
            return posted
        every = s.all_votes
        if every is not None:
            return posted._replace(every=lambda: every, is_here=True)
        votes = self.votes(raised, self.seconds, asked)
        if network.runtime.inner.size > 1:
            network.runtime.inner.allreduce(votes, "max")
        blocks, mine = [votes], rows_to_gather(self.problem, s) if is_due else None
        if mine is not None:
            blocks.append(mine)
        more, parts_of, wish_of = left_to_send(self.waiting, len(votes))
        wait = network.runtime.start_all_agents(np.hstack([*blocks, *more]))
        n_rows = 0 if mine is None else mine.shape[1]
        return posted._replace(every=wait, n_rows=n_rows, parts_of=parts_of, wish_of=wish_of)

    def receive(self, last: Waiting, goes_ahead: bool) -> bool:
        """Read what came with the votes on the newest iteration; whether it is a reason neither to end nor to go back.

        goes_ahead : what is left to measure may travel with the next votes.
        """
        posted = last.posted
        if posted.every is None:
            return not (posted.raised.any() or posted.is_late or posted.is_asked)
        n_parts = 0 if posted.parts_of is None else 1 + self.problem.n_params
        votes = last.take(*np.split(posted.every(), np.cumsum([N_VOTES, posted.n_rows, n_parts]), axis=1))
        is_quiet = not votes[:, :4].any()
        if last.rows is not None and goes_ahead and is_quiet and last.state(self).measured is None:
            last.own_parts = parts_of_rows(self.problem, last.rows)
        return is_quiet

    def count(self, one: Waiting) -> Vote:
        """What happened to any agent, the same answer on every rank; an alarm takes the state back."""
        posted, votes = one.posted, one.votes
        if votes is None or posted.before is None:
            raised = posted.raised
            vote = Vote(int(raised.argmax()) if raised.any() else None, posted.is_late, posted.is_asked)
        else:
            self.refuse(votes, posted.before)
            alarm, is_late, is_asked = np.maximum.reduce(votes[:, :3], axis=0)
            vote = Vote(self.network.n_agents - int(alarm) if alarm else None, bool(is_late), bool(is_asked))
        if vote.agent is None:
            self.alarm.save(self.s)
        else:
            self.go_back(vote.agent)
        self.is_whole, one.is_late, one.is_asked = True, vote.is_late, vote.is_asked
        return vote

    def refuse(self, votes: Array, before: Snapshot) -> None:
        """BadMessage on every rank if one refused a message whose sender has no alarm of its own."""
        for receiver in np.flatnonzero(votes[:, 3]):
            refusal = Refusal(int(votes[receiver, 3]) - 1, int(votes[receiver, 4]), bool(votes[receiver, 5]))
            if not votes[refusal.agent, 0]:
                self.s.undo(before)
                raise BadMessage(f"{refusal.sentence(int(receiver))}.", refusal.agent, refusal.round)

    def call_callbacks(self, one: Waiting) -> None:
        """The callbacks and the stopping rules look at an iteration."""
        with only_looking(self.s) if self.may_go_ahead else nullcontext():
            self.ended_by = [name for name, callback in self.named if wish(name, callback(self.s, self.history.last))]
        one.wants_end, one.converged = bool(self.ended_by), has_converged(self)  # the second from what all ranks have

    def go_back(self, agent: int) -> None:
        """After an alarm: to the saved iteration, more carefully; after the third with a safer recipe, if any."""
        self.alarm.remember(agent, self.s.t, self.network.round)
        self.alarm.restore(self.problem, self.s, self.recipe)
        self.network.restart()
        safer = self.recipe.retreat() if len(self.alarm.raised) >= self.alarm.most else None
        if safer is not None:
            self.recipe, self.retreats = safer, self.retreats + 1
            safer.start(self.problem, self.s)
            self.alarm.go_on(self.s, f"it went on with {safer.title}")

    def snapshot(self) -> Snapshot:
        """Where the run stands after this iteration; the arrays are the run's own, copy or write them at once."""
        saved = self.s.snapshot()
        saved.add("alarm", self.alarm.snapshot())
        saved.add("history", Snapshot({}, self.history.arrays()))
        if self.best is not None:
            model = {"objective": np.array(self.best.objective), "w": self.best.w_bar}
            saved.add("best", Snapshot({"w": self.best.w, "y": self.best.y}, model))
        saved.add("network", Snapshot(*self.network.snapshot()))
        saved.numbers |= {"seconds": self.seconds, "retreats": self.retreats, "ended_by": list(self.ended_by)}
        for name, callback in self.named:
            if hasattr(callback, "lasting"):
                saved.add(name, callback.lasting())
        return saved

    def resume(self, saved: Snapshot) -> None:
        """Go on from a snapshot; its arrays are copied."""
        self.is_resumed = True
        self.s.resume(saved)
        self.alarm.resume(saved.below("alarm"))
        self.retreats, self.ended_by = int(saved.numbers["retreats"]), list(saved.numbers["ended_by"])
        for _ in range(self.retreats):
            safer = self.recipe.retreat()
            if safer is None:
                raise ValueError(f"the run had gone on with a safer recipe, which {self.recipe!r} does not have.")
            self.recipe = safer
        self.history = Measures(saved.below("history").shared)
        if "best.w" in saved.shared:
            self.best = Best(
                float(saved.shared["best.objective"]), np.array(saved.shared["best.w"]),
                np.array(saved.agents["best.w"]), np.array(saved.agents["best.y"]),
            )  # fmt: skip
        before = saved.below("network")
        numbers = before.numbers or saved.numbers  # of an older file
        self.network.restore(MixerState(before.agents, before.shared, numbers))
        self.seconds = float(saved.numbers["seconds"])
        if self.network.runtime.rank == 0:
            self.network.runtime.bytes_wire += int(self.history["bytes_wire"][-1])
        for name, callback in self.named:
            if hasattr(callback, "resume"):
                callback.resume(saved.below(name))

    def measure(self, rows: Array | None = None, parts: Array | None = None) -> None:
        """One row of the history; its cost is not part of `seconds`."""
        row, w_bar = measure(self.problem, self.network, self.s, rows, parts)
        row |= {"seconds": self.seconds, **self.recipe.columns}
        for _, callback in self.named:
            row |= getattr(callback, "measures", lambda _: {})(self)
        self.history.append(row)
        if self.best is None or row["objective"] < self.best.objective:
            self.best = Best(row["objective"], w_bar, self.s.w.copy(), self.s.y.copy())

    def result(self, status: str) -> Result:
        """The last model; the best one measured where the run diverged, was interrupted or ended well above it."""
        s, problem = self.s, self.problem
        if self.history.last["iteration"] != s.t and self.is_whole:
            self.measure()
        w, y, w_bar = s.w.copy(), s.y.copy(), mean_over_agents(problem, s.w)
        if self.best is not None and (status in ("diverged", "interrupted") or is_above(self)):
            _, w_bar, w, y = self.best
        return Result(
            w=w, y=y, w_bar=w_bar, history=self.history.arrays(), n_iter=s.t,
            converged=status == "converged", status=status, warning=warning(self, status) or None, state=s,
            problem=problem, network=self.network, agents=self.agents, retreats=self.retreats,
        )  # fmt: skip
