"""What is measured along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.problem import row_parts

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]

COLUMNS = (
    "iteration", "round", "objective", "stationarity", "disagreement", "tracking_error", "tau", "step", "bytes",
    "bytes_wire", "seconds",
)  # fmt: skip

MEASURED = "measure."  # names in a state's memory, (n_local,), that become columns of the history

COUNTS = ("iteration", "round", "bytes", "bytes_wire")


class Measures:
    """Rows of measures, in order; `arrays` turns them into a dict of equal-length arrays."""

    def __init__(self, columns: dict[str, Array] | None = None) -> None:
        self.rows: dict[str, list[float]] = {name: column.tolist() for name, column in (columns or {}).items()}

    @property
    def last(self) -> dict[str, float]:
        """The newest row."""
        return {name: column[-1] for name, column in self.rows.items()}

    def __getitem__(self, name: str) -> list[float]:
        return self.rows[name]

    def append(self, row: dict[str, float]) -> None:
        """Add one row; NaN stands where a column was not measured."""
        before = max(map(len, self.rows.values()), default=0)
        for name in {**self.rows, **row}:
            self.rows.setdefault(name, [np.nan] * before).append(row.get(name, np.nan))

    def arrays(self) -> dict[str, Array]:
        """Columns as arrays; counts are integers."""
        return {
            name: np.asarray(column, dtype=np.int64 if name in COUNTS else np.float64)
            for name, column in self.rows.items()
        }


def mean_over_agents(problem: Problem, w: Array) -> Array:
    """w_bar = (1/A) sum_i w_i over all agents, (P,) in the problem's dtype, equal on every rank."""
    total = problem.runtime.sum_agents(w)
    return np.asarray(total / problem.n_agents, dtype=problem.dtype)


def rows_to_gather(problem: Problem, s: State) -> Array | None:
    """What the local agents have to say for a measure, to travel with another message; None where that is too much.

    ``[w_i | y_i | tau_i, step_i, bytes]``: one message then does what sums of the weights and of the deviations took
    one each. Where w_bar is known, the deviations ``[.., .. | tau_i, step_i, bytes]`` themselves.
    """
    runtime, n_params = problem.runtime, s.w.shape[1]
    if runtime.inner.size > 1 or not (runtime.is_distributed and runtime.gathers(2 * n_params)):
        return None
    if s.measured is not None:
        rows = np.zeros((len(s.w), 5))
        rows[:, :2] = deviations(problem, s.w, s.y, s.measured.w_bar, s.measured.slope)
    else:
        rows = np.empty((len(s.w), 2 * n_params + 3))
        rows[:, :n_params], rows[:, n_params : 2 * n_params] = s.w, s.y
    rows[:, -3], rows[:, -2], rows[:, -1] = s.tau, s.step, 0
    rows[0, -1] = runtime.bytes_wire
    return rows


def deviations(problem: Problem, w: Array, y: Array, w_bar: Array, slope: Array) -> Array:
    """``|w_i - w_bar|^2`` and ``|A y_i - slope|^2`` of these agents, (n, 2)."""
    consensus = w.astype(np.float64) - w_bar
    tracking = problem.n_agents * y.astype(np.float64) - slope
    both = row_parts.dots(problem, consensus, consensus), row_parts.dots(problem, tracking, tracking)
    return np.stack(both, axis=1)


def _parts_at_start(problem: Problem, s: State) -> Array:
    """`Problem.smooth_parts` at the mean of the weights if all agents start as the first one here does."""
    every = np.repeat(np.ascontiguousarray(s.w[:1]), problem.n_agents, axis=0)
    return problem.smooth_parts(_mean(problem, every))


def _mean(problem: Problem, w: Array) -> Array:
    """w_bar of the rows of all agents (A, P), as `mean_over_agents` forms it."""
    return np.asarray(np.add.reduce(w, axis=0, dtype=np.float64) / problem.n_agents, dtype=problem.dtype)


def parts_of_rows(problem: Problem, rows: Array) -> Array:
    """What the local agents add to G and its gradient at the mean of the weights in `rows` of all: (n_local, 1 + P)."""
    w = np.ascontiguousarray(rows[:, : problem.n_params], problem.dtype)
    return problem.smooth_parts(_mean(problem, w))


def _added(problem: Problem, parts: Array) -> tuple[float, Array]:
    """G and its gradient from the parts of all agents, as `Problem.smooth_value_grad` adds them."""
    total = np.add.reduce(np.ascontiguousarray(parts), axis=0)
    return float(total[0]), total[1:].astype(problem.dtype)


def _totals(problem: Problem, s: State, rows: Array | None, parts: Array | None) -> tuple[Array, float, Array, Array]:
    """w_bar, G and its gradient there, and the sums over agents of deviations, tau, steps and bytes."""
    runtime, n_params, ahead = problem.runtime, s.w.shape[1], parts
    if rows is None and s.measured is None and (mine := rows_to_gather(problem, s)) is not None:
        if s.t == 0:  # what the second message would bring, for the w_bar that is most likely
            both = np.hstack([mine, _parts_at_start(problem, s)])
            rows, ahead = np.split(runtime.all_agents(both), [mine.shape[1]], axis=1)
        else:
            rows = runtime.all_agents(mine)
    if s.measured is not None:
        w_bar, smooth, slope, spread = s.measured
        if spread is not None and rows is None:
            n_bytes = runtime.bytes_wire if s.all_votes is None else s.all_votes[:, -1].sum()
            return w_bar, smooth, slope, np.add.reduce(_columns(spread, s.tau[0], s.step, n_bytes), axis=0)
    elif rows is None:
        w_bar = mean_over_agents(problem, s.w)
        smooth, slope = problem.smooth_value_grad(w_bar)
    else:
        w, y = (np.ascontiguousarray(part, problem.dtype) for part in np.split(rows[:, :-3], [n_params], axis=1))
        w_bar = _mean(problem, w)
        if ahead is not None and (parts is not None or np.all(w == w[0])):  # or a common start: the same w_bar
            smooth, slope = _added(problem, ahead)
        else:
            smooth, slope = problem.smooth_value_grad(w_bar)
        rows = np.hstack([deviations(problem, w, y, w_bar, slope), rows[:, -3:]])
    if rows is not None:
        return w_bar, smooth, slope, np.add.reduce(np.ascontiguousarray(rows), axis=0)
    columns = _columns(deviations(problem, s.w, s.y, w_bar, slope), s.tau, s.step, runtime.bytes_wire)
    return w_bar, smooth, slope, runtime.sum_agents(columns)


def _columns(spread: Array, tau: Any, step: Any, n_bytes: float) -> Array:
    """spread, tau, step and bytes of the agents side by side, (n, 5)."""
    columns = np.zeros((len(spread), 5))
    columns[:, :2], columns[:, 2], columns[:, 3], columns[0, 4] = spread, tau, step, n_bytes
    return columns


def measure(
    problem: Problem, network: Network, s: State, rows: Array | None = None, parts: Array | None = None
) -> tuple[dict[str, float], Array]:
    """One row of the history (all but seconds) and the w_bar it belongs to.

    objective U(w_bar); stationarity |w_bar - prox_r(w_bar - grad G(w_bar))|; disagreement (1/A) sum |w_i - w_bar|^2;
    tracking_error (1/A) sum |A y_i - grad G(w_bar)|^2; tau, step: means over agents; bytes: directed edges x row
    bytes x rounds; bytes_wire: what all ranks handed over to reach other ranks before this measure, sums included;
    tangent_term, tangent_share: mu R(w_bar), and its part of the objective, for problems with tangents.
    rows, parts : what all agents gathered of `rows_to_gather`, and of `parts_of_rows`, if they did.
    """
    n_agents = problem.n_agents
    w_bar, smooth, slope, total = _totals(problem, s, rows, parts)
    response = problem.prox((w_bar - slope)[None].astype(problem.dtype), np.ones(1, problem.dtype))[0]
    disagreement, tracking_error, tau, mean_step, _ = total / n_agents
    row = {
        "iteration": s.t,
        "round": network.round,
        "objective": smooth + row_parts.penalty_value(problem, w_bar),
        "stationarity": float(row_parts.norms(problem, (w_bar.astype(np.float64) - response)[None])[0]),
        "disagreement": float(disagreement),
        "tracking_error": float(tracking_error),
        "tau": float(tau),
        "step": float(mean_step if np.ndim(s.step) else s.step),
        "bytes": network.bytes,
        "bytes_wire": int(total[-1]),
    }
    for name in sorted(name for name in s.memory if name.startswith(MEASURED)):  # what an oracle measures: the worst
        row[name.removeprefix(MEASURED)] = float(problem.runtime.max_agents(s.memory[name]))
    if problem.tangents is not None:
        term = float(problem.runtime.sum_agents(problem.tangent_terms(w_bar)))
        row["tangent_term"], row["tangent_share"] = term, term / row["objective"] if row["objective"] else 0.0
    return row, w_bar
