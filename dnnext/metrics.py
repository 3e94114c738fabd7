"""What is measured along a run, and the final step that reveals exact zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext._sums import row_dots

if TYPE_CHECKING:
    from dnnext.algorithms.base import State
    from dnnext.network import Network
    from dnnext.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]

COLUMNS = (
    "iteration", "round", "objective", "stationarity", "disagreement", "tracking_error", "tau", "step", "bytes",
    "bytes_wire", "seconds",
)  # fmt: skip

COUNTS = ("iteration", "round", "bytes", "bytes_wire")


class History:
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
        """Add one row."""
        for name, value in row.items():
            self.rows.setdefault(name, []).append(value)

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
    bytes x rounds; bytes_wire: what all ranks handed over to reach other ranks so far, sums and measures included.
    """
    n_agents = problem.n_agents
    w_bar = mean_over_agents(problem, s.w)
    smooth, slope = problem.smooth_value_grad(w_bar)
    response = problem.prox((w_bar - slope)[None].astype(problem.dtype), np.ones(1, problem.dtype))[0]
    apart = s.w.astype(np.float64) - w_bar
    astray = n_agents * s.y.astype(np.float64) - slope
    per_agent = np.zeros((len(s.tau), 5))
    per_agent[:, 0], per_agent[:, 1], per_agent[:, 2] = row_dots(apart, apart), row_dots(astray, astray), s.tau
    per_agent[:, 3], per_agent[0, 4] = s.step, problem.runtime.bytes_wire
    total = problem.runtime.sum_agents(per_agent)
    disagreement, tracking_error, tau, mean_step, _ = total / n_agents
    row = {
        "iteration": s.t,
        "round": network.round,
        "objective": smooth + problem.penalty.value(w_bar),
        "stationarity": float(np.linalg.norm(w_bar.astype(np.float64) - response)),
        "disagreement": float(disagreement),
        "tracking_error": float(tracking_error),
        "tau": float(tau),
        "step": float(mean_step if np.ndim(s.step) else s.step),
        "bytes": network.bytes,
        "bytes_wire": int(total[-1]),
    }
    return row, w_bar


def smoothness(problem: Problem, w_bar: Array, n_iter: int = 20) -> float:
    """sum_i lambda_max(A_i) at w_bar by power iteration: a curvature bound for steps on the whole objective."""
    w = np.array(np.broadcast_to(w_bar, (problem.n_local, problem.n_params)), dtype=problem.dtype)
    root = problem.root(w)
    blocks = np.array([0, problem.n_params], dtype=np.int64)
    v = np.cos(np.arange(problem.n_params) + 1.0) + np.zeros((problem.n_local, 1))
    size = np.zeros(problem.n_local)
    for _ in range(n_iter):
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        v = v / np.where(norm > 0, norm, 1)
        v = problem.gauss_newton_product(w, root, np.ascontiguousarray(v, dtype=problem.dtype), blocks).astype(float)
        size = np.linalg.norm(v, axis=1)
    return float(problem.runtime.sum_agents(size))


@np.errstate(over="ignore", invalid="ignore")
def final_prox(
    problem: Problem, w_bar: Array, w: Array | None = None, y: Array | None = None
) -> tuple[Array, Array | None]:
    """One proximal gradient step from w_bar, which turns small weights into exact zeros.

    ``prox_{s r}(w_bar - s grad G(w_bar))`` with ``s = 1 / sum_i lambda_max(A_i)``, halved until U does not rise; the
    agents' own views are ``prox_{s r}(w_i - s A y_i)``. Smooth penalties have no zeros to reveal: nothing changes.

    Parameters
    ----------
    problem : Problem
    w_bar : (P,) array
    w, y : (n_local, P) arrays or None
        The agents' weights and trackers, for their views.

    Returns
    -------
    w_bar : (P,) array
    views : (n_local, P) array or None

    Raises
    ------
    ValueError
        If w_bar has the wrong shape.

    References
    ----------
    .. [1] A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems, SIAM J.
       Imaging Sci. 2 (2009): the proximal gradient step, eq. 2.2.

    Examples
    --------
    >>> from dnnext.problem import L1, MLP, Problem, SquaredError
    >>> problem = Problem(MLP([2, 1]), SquaredError(), L1(alpha=0.1), [([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0])])
    >>> final_prox(problem, np.array([0.9, 0.01, 0.0]))[0][1]
    np.float64(0.0)
    """
    if problem.penalty.quadratic is not None:
        return w_bar, w
    bound = smoothness(problem, w_bar)
    step = 1 / bound if bound > 0 else 1.0
    smooth, slope = problem.smooth_value_grad(w_bar)
    before = smooth + problem.penalty.value(w_bar)

    def proximal(rows: Array, slopes: Array) -> Array:
        lengths = np.full(len(rows), step, problem.dtype)
        return problem.prox(np.ascontiguousarray(rows - step * slopes, dtype=problem.dtype), lengths)

    for _ in range(60):
        moved = proximal(w_bar[None], slope[None])[0]
        if problem.value(moved) <= before:
            break
        step /= 2
    else:
        moved = w_bar
    views = None if w is None or y is None else proximal(w, problem.n_agents * y)
    return moved, views
