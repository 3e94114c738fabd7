"""What every peer's script stands on: the problem file, a NumPy gradient, the clock and the answer. NumPy alone."""

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np


class Task:
    """Problem, graph, start and step from an npz file.

    x (A, n, d), y (A, n): the rows of every agent; mixing (A, A); w0 (P,); step: a of the update w - a A y;
    hidden: units of the one hidden layer; n_iter; g_i(w) = (1/N) sum 1/2 (f - y)^2; alpha of an l2 penalty, 0 if none.
    """

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.x, self.y, self.mixing, self.w0 = (file[k] for k in ("x", "y", "mixing", "w0"))
            self.step, self.hidden, self.n_iter = float(file["step"]), int(file["hidden"]), int(file["n_iter"])
            self.alpha = float(file["alpha"]) if "alpha" in file else 0.0
        self.n_agents, self.n_rows, self.n_inputs = self.x.shape
        self.n_total = self.n_agents * self.n_rows

    def cuts(self) -> tuple[int, int, int]:
        """Ends of the first weights, the first biases and the second weights in a flat row."""
        first = self.n_inputs * self.hidden
        return first, first + self.hidden, first + 2 * self.hidden

    def gradient(self, i: int, w: np.ndarray) -> np.ndarray:
        """grad g_i(w), NumPy."""
        a, b, c = self.cuts()
        w1, b1, w2, b2 = w[:a].reshape(self.n_inputs, self.hidden), w[a:b], w[b:c], w[c:]
        h = np.tanh(self.x[i] @ w1 + b1)
        back = (h @ w2 + b2 - self.y[i]) / self.n_total
        inner = np.outer(back, w2) * (1 - h * h)
        return np.concatenate([(self.x[i].T @ inner).ravel(), inner.sum(axis=0), h.T @ back, [back.sum()]])


def timed(step: Any, n_iter: int) -> tuple[list[float], float]:
    """Run step(k) n_iter times: (median milliseconds of one, seconds of all)."""
    marks = [time.perf_counter()]
    for k in range(n_iter):
        step(k)
        marks.append(time.perf_counter())
    each = [b - a for a, b in pairwise(marks)]
    return 1e3 * statistics.median(each), marks[-1] - marks[0]


def answer(ms: float, seconds: float, w: Any, version: str, **more: Any) -> None:
    """What the parent reads: the last line of the output."""
    print(json.dumps({"ms": ms, "seconds": seconds, "w": np.asarray(w).tolist(), "version": version, **more}))


def task() -> Task:
    return Task(sys.argv[1])
