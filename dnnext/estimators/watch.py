"""What an estimator looks at while the algorithm runs: prints a line, scores held-out rows, votes to stop.

# Design:
#   One callback, first in the algorithm's list, before the user's own. It copies the best-scoring model, because the
#   arrays of the state are overwritten by the next iteration. Counting patience and showing progress are the callbacks
#   that users have, too.
"""

from __future__ import annotations

import numpy as np

from dnnext.algorithms import Snapshot
from dnnext.estimators.fitted import FittedNetwork
from dnnext.runs.callbacks import EarlyStopping, Progress
from dnnext.runs.history import mean_over_agents
from dnnext.runtime import InProcess


class Watch:
    """Callback ``(state, metrics) -> bool`` that looks at measured iterations.

    Parameters
    ----------
    problem : Problem
    score : callable ((P,), runtime) -> (score, loss), or None
        On held-out rows; a larger score is better.
    patience : int or None
        Vote to stop after this many iterations without a score better by more than tol; None never stops.
    tol : float
    total : int or None
        max_iter, to show progress; None is silent.
    bar : bool or None
        As in `Progress`.
    note : str
        A sentence to show before the progress.
    """

    only_looks = True

    def __init__(self, problem, score=None, patience=None, tol=0.0, total=None, bar=None, note=""):
        self.problem, self.score, self.note = problem, score, note
        self.stopping = None if patience is None else EarlyStopping("score", patience, tol, "max", relative=False)
        self.progress = None if total is None else Progress(total, bar=bar)
        self.scores, self.losses = {}, {}
        self.best, self.best_score, self.best_iteration = None, -np.inf, 0
        self.stopped = False

    def begin(self, run):
        """Look at this run: agents may be lost on the way."""
        self.run = run
        if self.progress is not None:
            self.progress.begin(run)
            if self.note:
                self.progress.say(self.note)

    def end(self, run, status):
        """The last line of a bar."""
        if self.progress is not None:
            self.progress.end(run, status)
        self.run = None  # no cycle that would keep the rows alive

    @property
    def can_end(self):
        """Whether a run that this ended is finished when it is resumed."""
        return self.stopped

    def start(self, row):
        """Score the common start (P,), so that the history has a score in every row."""
        if self.score is not None:
            self.scores[0], self.losses[0] = self.score(row, self.problem.runtime)

    def __call__(self, state, metrics):
        """Look at one iteration; True ends the run."""
        if metrics["iteration"] != state.t:
            return False
        if self.score is not None:
            self._judge(state)
        if self.progress is not None:
            score = self.scores.get(state.t)
            self.progress(state, metrics, *([] if score is None else [f"score {score:.4f}"]))
        return self.stopped

    def _judge(self, state):
        problem = self.run.problem
        row = mean_over_agents(problem, state.w)
        score, loss = self.score(row, problem.runtime)
        self.scores[state.t], self.losses[state.t] = score, loss
        if score > self.best_score:
            self.best_score, self.best_iteration = score, state.t
            self.best = row, state.w.copy(), state.y.copy()
        if self.stopping is not None:
            self.stopped = self.stopping(state, {"iteration": state.t, "score": score})

    def lasting(self):
        """What a checkpoint should hold: the scores so far and the best model."""
        shared = {"iterations": np.array(list(self.scores)), "scores": np.array(list(self.scores.values()))}
        shared["losses"] = np.array(list(self.losses.values()))
        saved = Snapshot(
            {},
            shared | {"best": np.array(self.best_score)},
            {"best_iteration": self.best_iteration, "stopped": self.stopped},
        )
        if self.best is not None:
            saved.shared["row"], saved.agents["w"], saved.agents["y"] = self.best
        if self.stopping is not None:
            saved.add("stopping", self.stopping.lasting())
        return saved

    def resume(self, saved):
        """Go on from `lasting`."""
        if not saved.numbers:
            return
        self.scores = dict(zip(saved.shared["iterations"].tolist(), saved.shared["scores"].tolist(), strict=True))
        losses = saved.shared.get("losses", np.full(len(self.scores), np.nan))
        self.losses = dict(zip(self.scores, losses.tolist(), strict=True))
        self.best_score, self.best_iteration = float(saved.shared["best"]), saved.numbers["best_iteration"]
        if self.stopping is not None:
            self.stopping.resume(saved.below("stopping"))
            self.stopped = bool(saved.numbers.get("stopped"))
        if "row" in saved.shared:
            self.best = saved.shared["row"], saved.agents["w"], saved.agents["y"]

    def column(self, iterations, what="scores"):
        """The scores or losses of the given iterations, (T,)."""
        return np.array([getattr(self, what).get(int(t), np.nan) for t in iterations])


class Scorer:
    """Score and mean loss of a weight row (P,) on rows that are not trained on.

    Parameters
    ----------
    problem : Problem
        Whose model and loss.
    moments : Moments
    targets : Targets
        How raw outputs are scored.
    x, codes : ndarray
        The rows, raw, and the codes of their targets.
    held : Stack, optional
        Whose rows they are: losses are added agent by agent, as over ranks.
    """

    def __init__(self, problem, moments, targets, x, codes, held=None):
        self.model, self.loss, self.moments, self.targets = problem.model, problem.loss, moments, targets
        self.held = held
        self.x, self.codes, self.wanted = x, codes, moments.targets(targets.wanted(codes))

    def __call__(self, row, runtime):
        """(score, loss)."""
        raw, losses = self._both(row)
        score = self.targets.score(raw, self.codes)
        return score, float(np.mean(losses)) if self.held is None else self._mean(losses, InProcess(len(self.held)))

    def _mean(self, losses, runtime):
        total, n = runtime.sum_agents(self.held.sums(np.stack([losses, np.ones(len(losses))], axis=1)))
        return float(total / n)

    def _both(self, row):
        raw = FittedNetwork(self.model, row, self.moments).raw(self.x)
        return raw, self.loss.value(self.moments.targets(raw), self.wanted)


class ScorerOfAll(Scorer):
    """The same on the rows that the agents of all ranks hold back, `held`; only sums travel."""

    def __init__(self, problem, moments, targets, held):
        super().__init__(problem, moments, targets, held.x, held.target, held)

    def __call__(self, row, runtime):
        """(score, loss) over all ranks; collective."""
        raw, losses = self._both(row)
        columns = self.targets.score_columns(raw, self.codes, self.moments)
        score = self.targets.score_of(runtime.sum_agents(self.held.sums(columns)))
        return score, self._mean(losses, runtime)
