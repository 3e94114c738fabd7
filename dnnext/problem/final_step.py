"""The final step of a run, which reveals exact zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.problem import row_parts
from dnnext.problem.curvature import curvature_at

if TYPE_CHECKING:
    from dnnext.problem.objective import Problem

Array = np.ndarray[Any, np.dtype[Any]]


def smoothness(problem: Problem, w_bar: Array, n_iter: int = 20) -> float:
    """sum_i lambda_max(A_i) at w_bar by power iteration: a curvature bound for steps on the whole objective."""
    w = np.array(np.broadcast_to(w_bar, (problem.n_local, problem.n_params)), dtype=problem.dtype)
    root = curvature_at(problem, None, w, np.ones(problem.n_local))
    blocks = np.array([0, problem.n_params], dtype=np.int64)
    v = row_parts.cut(problem, np.cos(np.arange(row_parts.n_params(problem)) + 1.0)) + np.zeros((problem.n_local, 1))
    size = np.zeros(problem.n_local)
    for _ in range(n_iter):
        norm = row_parts.norms(problem, v)[:, None]
        v = v / np.where(norm > 0, norm, 1)
        v = problem.gauss_newton_product(w, root, np.ascontiguousarray(v, dtype=problem.dtype), blocks).astype(float)
        size = row_parts.norms(problem, v)
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
    before = smooth + row_parts.penalty_value(problem, w_bar)

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
