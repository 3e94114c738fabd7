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


def measure(problem: Problem, network: Network, s: State) -> tuple[dict[str, float], Array]:
    """One row of the history (all but seconds) and the w_bar it belongs to.

    objective U(w_bar); stationarity |w_bar - prox_r(w_bar - grad G(w_bar))|; disagreement (1/A) sum |w_i - w_bar|^2;
    tracking_error (1/A) sum |A y_i - grad G(w_bar)|^2; tau, step: means over agents; bytes: directed edges x row
    bytes x rounds; bytes_wire: what all ranks handed over to reach other ranks so far, sums and measures included;
    tangent_term, tangent_share: mu R(w_bar), and its part of the objective, for problems with tangents.
    """
    n_agents = problem.n_agents
    if s.measured is None:
        w_bar = mean_over_agents(problem, s.w)
        smooth, slope = problem.smooth_value_grad(w_bar)
    else:
        w_bar, smooth, slope = s.measured
    response = problem.prox((w_bar - slope)[None].astype(problem.dtype), np.ones(1, problem.dtype))[0]
    consensus = s.w.astype(np.float64) - w_bar
    tracking = n_agents * s.y.astype(np.float64) - slope
    per_agent = np.zeros((len(s.tau), 5))
    per_agent[:, 0], per_agent[:, 1], per_agent[:, 2] = (
        row_parts.dots(problem, consensus, consensus),
        row_parts.dots(problem, tracking, tracking),
        s.tau,
    )
    per_agent[:, 3], per_agent[0, 4] = s.step, problem.runtime.bytes_wire
    total = problem.runtime.sum_agents(per_agent)
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
