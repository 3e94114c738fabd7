"""A case: a problem over agents with its start and test rows, and a run of it that is looked at on the way."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from bench import data
from bench.machine import Clock
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Logistic, Penalty, Problem, Softmax, SquaredError

LOSSES = {"regression": SquaredError, "binary": Logistic, "multiclass": Softmax}


@dataclass(frozen=True)
class Case:
    """A problem over agents, and test rows on the same scale; error = 1 - accuracy, or 1 - R2 (mean over outputs)."""

    data: data.Dataset
    problem: Problem
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(
        cls, found: data.Dataset, n_agents: int, *, hidden: tuple[int, ...] = (20,), penalty: Penalty | None = None,
        how: str = "iid", seed: int = 0,
    ) -> "Case":  # fmt: skip
        """Three quarters of the rows over the agents, a quarter to test; moments of the training rows for both."""
        train, test = data.split(found, seed)
        mean, scale = _moments(found.x[train])
        x = (found.x - mean) / scale
        y = found.y
        if found.task == "regression":
            mean, scale = _moments(y[train])
            y = (y - mean) / scale
        parts = data.shards(x[train], y[train], n_agents, how, seed)
        if found.task == "multiclass":
            parts = [(a, np.eye(found.n_outputs)[b]) for a, b in parts]
        model = MLP([x.shape[1], *hidden, found.n_outputs], activation="tanh")
        penalty = L2(alpha=5 / len(train)) if penalty is None else penalty
        return cls(found, Problem(model, LOSSES[found.task](), penalty, parts), x[test], y[test])

    def raw(self, w: np.ndarray) -> np.ndarray:
        return self.problem.model.forward(w, self.x)

    def error(self, w: np.ndarray) -> float:
        """Test error of the weights w (P,)."""
        return self.error_of(self.raw(w))

    def error_of(self, raw: np.ndarray) -> float:
        """Test error of raw outputs."""
        if self.data.task == "regression":
            y = self.y.reshape(len(raw), -1)
            return float(np.mean(np.sum((y - raw) ** 2, axis=0) / np.sum((y - y.mean(axis=0)) ** 2, axis=0)))
        predicted = raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] > 0).astype(int)
        return float(np.mean(predicted != self.y))

    def alone(self, i: int, penalty: Penalty | None = None) -> "Case":
        """The case of one agent: its rows, everything else the same (but for a penalty, if one is given)."""
        return self._of_rows(slice(self.problem.offsets[i], self.problem.offsets[i + 1]), penalty)

    def pooled(self) -> "Case":
        """The case of one agent that holds all rows."""
        return self._of_rows(slice(None))

    def predicted(self, w: np.ndarray) -> np.ndarray:
        """Outputs that may be averaged over models: predictions, log-odds or probabilities."""
        raw = self.raw(w)
        return softmax(raw, axis=1) if self.data.task == "multiclass" else raw

    def _of_rows(self, rows: slice, penalty: Penalty | None = None) -> "Case":
        p = self.problem
        shard = (p.x[rows], p.target[rows])
        return replace(self, problem=Problem(p.model, p.loss, penalty or p.penalty, [shard]))


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = values.std(axis=0)
    return values.mean(axis=0), np.where(scale > 1e-12 * np.abs(values).max(axis=0), scale, 1.0)


def marks(n_iter: int, n_marks: int = 120) -> set[int]:
    """Iterations at which to look: all of the first, then ever fewer."""
    return {int(k) for k in np.unique(np.round(np.geomspace(1, max(n_iter, 2), n_marks)))} | {n_iter}


def run(
    case: Case, algorithm: Any, network: Network, n_iter: int, seed: int, most_rounds: int | None = None
) -> dict[str, list[float]]:
    """Objective, error, rounds, bytes, iterations, seconds (of the wall and of CPU) at growing distances along a run.

    The start is included; the run ends after n_iter iterations, or where it has taken `most_rounds` rounds.
    """
    looked, wanted = dict[str, list[float]](), marks(n_iter)

    def look(iteration: int, w: np.ndarray, seconds: float, cpu: float) -> None:
        w_bar = w.mean(axis=0)
        row = {
            "iteration": iteration, "round": network.round, "bytes": network.bytes, "seconds": seconds, "cpu": cpu,
            "objective": case.problem.value(w_bar), "error": case.error(w_bar),
        }  # fmt: skip
        for name, value in row.items():
            looked.setdefault(name, []).append(float(value))

    start = case.problem.model.init(seed)
    look(0, start[None], 0.0, 0.0)
    clock = Clock()

    def callback(state: Any, metrics: dict[str, float]) -> bool:
        is_over = most_rounds is not None and network.round >= most_rounds
        if is_over or state.t in wanted:
            seconds, cpu = clock.seconds, clock.cpu
            with clock.stopped():
                look(state.t, state.w, seconds, cpu)
        return is_over

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rival's step that is too long is corrected by the alarm, which warns
        clock.start()
        algorithm.run(case.problem, network, w0=start, max_iter=n_iter, monitor_every=n_iter, callbacks=[callback])
    return looked


def erdos_renyi(n_agents: int, seed: int, mixing_rounds: str | int = "auto") -> Network:
    return Network(Topology.erdos_renyi(n_agents, random_state=seed), mixing_rounds=mixing_rounds)


def first(curve: dict[str, list[float]], what: str, goal: float, of: str = "objective") -> float | None:
    """The value of column `what` where column `of` first is at or below the goal."""
    reached = np.flatnonzero(np.asarray(curve[of]) <= goal)
    return float(curve[what][reached[0]]) if len(reached) else None
