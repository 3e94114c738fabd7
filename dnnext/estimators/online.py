"""One iteration at a time, on data that changes between calls: what `partial_fit` stands on."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np

from dnnext import metrics
from dnnext.algorithms import Result, State
from dnnext.algorithms.base import one_blas_thread


@dataclass
class Progress:
    """What one call of partial_fit hands to the next: the part of a State that is not scratch."""

    w: np.ndarray
    y: np.ndarray
    grad: np.ndarray
    tau: np.ndarray
    beta: np.ndarray
    heard: np.ndarray
    disagreement: np.ndarray
    unit: float
    t: int
    seen: float = 0.0
    fresh: bool = False

    @classmethod
    def of(cls, state, seen=0.0):
        """The lasting part of a State, and the sample weight seen so far."""
        kept = {f.name: getattr(state, f.name) for f in fields(cls) if f.name not in ("seen", "fresh")}
        return cls(**{name: np.array(v) if isinstance(v, np.ndarray) else v for name, v in kept.items()}, seen=seen)

    @classmethod
    def start(cls, problem, row):
        """All agents at one row (P,), y = grad."""
        progress = cls.of(State.at(problem, np.tile(row, (problem.n_local, 1))))
        progress.fresh = True
        return progress

    def state_on(self, problem):
        """The State that goes on from here on the rows of `problem`: y += grad_new(w) - grad_old(w)."""
        s = State.at(problem, self.w)
        s.y[...] = self.y + (s.grad - self.grad)
        for name in ("tau", "beta", "heard", "disagreement"):
            getattr(s, name)[...] = getattr(self, name)
        s.unit, s.t = self.unit, self.t
        return s


def one_iteration(algorithm, problem, network, progress, history):
    """Result of one iteration from `progress` on `problem`, its row appended to `history`.

    Raises
    ------
    FloatingPointError
        If the iteration left the finite numbers; the sentence names agent and round.
    """
    last = {name: column[-1] for name, column in history.items()}
    network.round = int(last.get("round", 0))
    seconds_before = float(last.get("seconds", 0.0))
    s = progress.state_on(problem)
    begin = time.perf_counter()
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        if progress.fresh:
            algorithm.start(problem, s)
        moved = not progress.fresh and not np.array_equal(s.grad, progress.grad)
        algorithm.step(problem, network, s)
        if moved and hasattr(algorithm, "damping"):
            # the secant rule compares gradients of one cost; across a change of rows they say nothing of curvature
            s.tau, s.beta, s.heard = progress.tau.copy(), progress.beta.copy(), progress.heard.copy()
        s.t += 1
        seconds = time.perf_counter() - begin
        wrong = np.flatnonzero(~(np.isfinite(s.w.sum(axis=1)) & np.isfinite(s.y.sum(axis=1))))
        if len(wrong):
            raise FloatingPointError(
                f"partial_fit left the finite numbers at agent {wrong[0]} in iteration {s.t} (round {network.round}); "
                "the last model is kept. Choose a larger tau."
            )
        row, w_bar = metrics.measure(problem, network, s)
        if not np.isfinite(row["objective"]):
            raise FloatingPointError(
                f"partial_fit left the finite numbers with an objective of {row['objective']} in iteration {s.t}; the "
                "last model is kept. The rows are too large in scale: rescale them."
            )
    for name in row.keys() & {"bytes", "bytes_wire"}:  # a new Network counts from zero
        row[name] = row[name] + int(last.get(name, 0))
    row["seconds"] = seconds_before + seconds
    joined = {name: np.append(history.get(name, np.empty(0, np.asarray(v).dtype)), v) for name, v in row.items()}
    return Result(w=s.w, y=s.y, w_bar=w_bar, history=joined, n_iter=s.t, converged=False, status="max_iter", state=s)
