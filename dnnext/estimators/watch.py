"""What an estimator looks at while the algorithm runs: prints a line, scores held-out rows, votes to stop.

# Design:
#   One callback, first in the algorithm's list, before the user's own. It copies the best-scoring model, because the
#   arrays of the state are overwritten by the next iteration.
"""

from __future__ import annotations

import time

import numpy as np

from dnnext.metrics import mean_over_agents


class Watch:
    """Callback ``(state, metrics) -> bool`` that looks at measured iterations.

    Parameters
    ----------
    problem : Problem
    score : callable (P,) -> float or None
        Validation score of a weight row, larger is better.
    patience : int or None
        Vote to stop after this many iterations without a score better by more than tol; None never stops.
    tol : float
    total : int or None
        max_iter, to print a line per measured iteration; None is silent.
    """

    def __init__(self, problem, score=None, patience=None, tol=0.0, total=None):
        self.problem, self.score = problem, score
        self.patience, self.tol, self.total = patience, tol, total
        self.scores = {}
        self.best, self.best_score, self.best_iteration = None, -np.inf, 0
        self.mark, self.mark_iteration = -np.inf, 0  # the last score that counted as progress
        self.stopped = False
        self.started = time.perf_counter()

    def start(self, row):
        """Score the common start (P,), so that the history has a score in every row."""
        if self.score is not None:
            self.scores[0] = self.score(row)

    def __call__(self, state, metrics):
        """Look at one iteration; True ends the run."""
        if metrics["iteration"] != state.t:
            return False
        if self.score is not None:
            self._judge(state)
        if self.total is not None:
            print(self.line(state.t, metrics), flush=True)
        return self.stopped

    def _judge(self, state):
        row = mean_over_agents(self.problem, state.w)
        score = self.scores[state.t] = self.score(row)
        if score > self.best_score:
            self.best_score, self.best_iteration = score, state.t
            self.best = row, state.w.copy(), state.y.copy()
        if score > self.mark + self.tol:
            self.mark, self.mark_iteration = score, state.t
        self.stopped = self.patience is not None and state.t - self.mark_iteration >= self.patience

    def line(self, iteration, metrics):
        """One progress line."""
        words = [f"iteration {iteration:4d}/{self.total}"]
        words += [f"{name} {metrics[name]:.4g}" for name in ("objective", "stationarity", "disagreement")]
        if iteration in self.scores:
            words.append(f"score {self.scores[iteration]:.4f}")
        return "  ".join([*words, f"{time.perf_counter() - self.started:.1f} s"])

    def column(self, iterations):
        """The scores of the given iterations, (T,)."""
        return np.array([self.scores.get(int(t), np.nan) for t in iterations])
