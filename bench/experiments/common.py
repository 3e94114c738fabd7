"""What the experiments share: a case (data, start, test rows), a recorder of test errors, tuned rivals, small plots."""

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from bench import data
from bench.provenance import RESULTS, NotRun, save_figure, write_table
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Logistic, Penalty, Problem, Softmax, SquaredError

LOSSES = {"regression": SquaredError, "binary": Logistic, "multiclass": Softmax}


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured, and whether it holds."""

    text: str
    measured: str
    holds: bool

    def __str__(self) -> str:
        return f"[{'ok' if self.holds else 'MISSED'}] {self.text}: {self.measured}"


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
        said = raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] > 0).astype(int)
        return float(np.mean(said != self.y))

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


def run(case: Case, algorithm: Any, network: Network, n_iter: int, seed: int) -> dict[str, list[float]]:
    """objective, error, round, bytes, iteration, seconds at growing distances along a run; the start included."""
    looked, wanted = dict[str, list[float]](), marks(n_iter)
    names = ("iteration", "round", "bytes", "seconds", "objective", "error")

    def look(state: Any, w: np.ndarray, seconds: float) -> None:
        w_bar = w.mean(axis=0)
        row = (state, network.round, network.bytes, seconds, case.problem.value(w_bar), case.error(w_bar))
        for name, value in zip(names, row, strict=True):
            looked.setdefault(name, []).append(float(value))

    start = case.problem.model.init(seed)
    look(0, start[None], 0.0)
    clock = Clock()

    def callback(state: Any, metrics: dict[str, float]) -> None:
        if state.t in wanted:
            with clock.stopped():
                look(state.t, state.w, clock.seconds)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rival's step that is too long is tamed, and says so
        clock.start()
        algorithm.run(case.problem, network, w0=start, max_iter=n_iter, monitor_every=n_iter, callbacks=[callback])
    return looked


class Clock:
    """Seconds that pass, without those in which it was stopped."""

    def __init__(self) -> None:
        self._pause, self._begin = 0.0, 0.0

    def start(self) -> None:
        import time

        self._now: Callable[[], float] = time.perf_counter
        self._begin, self._pause = self._now(), 0.0

    @property
    def seconds(self) -> float:
        return self._now() - self._begin - self._pause

    def stopped(self) -> "Clock":
        return self

    def __enter__(self) -> None:
        self._halt = self._now()

    def __exit__(self, *error: object) -> None:
        self._pause += self._now() - self._halt


def erdos_renyi(n_agents: int, seed: int, mixing_rounds: str | int = "auto") -> Network:
    return Network(Topology.erdos_renyi(n_agents, random_state=seed), mixing_rounds=mixing_rounds)


def first(curve: dict[str, list[float]], what: str, goal: float, of: str = "objective") -> float | None:
    """The value of column `what` where column `of` first is at or below the goal."""
    reached = np.flatnonzero(np.asarray(curve[of]) <= goal)
    return float(curve[what][reached[0]]) if len(reached) else None


def finished(what: str, run: Callable[[], Any], missing: list[str]) -> Any:
    """What run() returns; None, and `what` added to missing, where only kept runs are wanted and one is not."""
    try:
        return run()
    except NotRun:
        missing.append(what)
        return None


def not_finished(missing: Sequence[str]) -> str:
    """A sentence for the notes, empty if all was run."""
    return f" NOT RUN YET: {'; '.join(missing)}." if missing else ""


def mean_sd(values: Sequence[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})"


def plots(rows: int, columns: int, width: float = 4.2, height: float = 3.2, **options: Any) -> tuple[Any, Any]:
    """Figure and axes, drawn off screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def publish(
    name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], facts: str, fig: Any, quick: bool,
    notes: str = "",
) -> None:  # fmt: skip
    """Table and figure under one name; those of a quick run go to results/quick, which is not kept."""
    from bench.provenance import software

    if quick:
        (RESULTS / "quick").mkdir(parents=True, exist_ok=True)
    name = f"quick/{name}" if quick else name
    write_table(name, title, header, rows, f"{notes}\n\n{facts}. {software()}".strip())
    if fig is not None:
        fig.suptitle(title)
        save_figure(fig, name, facts)


def keep_claims(letter: str, claims: Sequence[Claim]) -> None:
    """Put the claims of one study into the table of all, bench/results/claims."""
    path = RESULTS / "claims.csv"
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if row[0] != letter]
    rows += [[letter, claim.text, claim.measured, "yes" if claim.holds else "NO"] for claim in claims]
    rows.sort(key=lambda row: row[0])
    held = sum(row[3] == "yes" for row in rows)
    header = ["experiment", "claim", "measured", "holds"]
    write_table("claims", "Claims", header, rows, f"{held} of {len(rows)} claims hold.")
