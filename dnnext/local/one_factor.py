"""When step S.1 of partial linearisation is one solve per agent that the kernel `next_step` makes, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local import solvers
from dnnext.local.local_model import OneFactor
from dnnext.problem.objective import MEMORY_BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.problem import Problem


Array = np.ndarray[Any, np.dtype[Any]]


def one_factor(
    problem: Problem,
    solver: str,
    subproblem: Callable[[], solvers.Subproblem],
    root_at: Callable[[Array], Any],
) -> OneFactor | None:
    """Root and group of agents for the kernel; None where a model is solved otherwise, or too large for calls to count.

    Either conjugate gradients, or one Cholesky factor where the loss is quadratic: the root is the same at all weights.
    """
    if problem.penalty.quadratic is None or "next_step" not in problem.model.offers or solver in ("dual", "fista"):
        return None
    sub = subproblem()
    chosen = solvers.choose(sub) if solver == "auto" else solver
    if chosen == "cg" and solvers.in_one_call(sub):
        same = problem.loss.is_quadratic
        return OneFactor(sub.root, 1, None if same else root_at, solvers.most_steps(sub), sub.tol)
    small = problem.n_params**2 * problem.dtype.itemsize <= MEMORY_BUDGET
    if chosen != "primal" or not (small and problem.loss.is_quadratic):
        return None
    return OneFactor(sub.root, problem.agent_groups(sub.block_numbers)[0].stop)
