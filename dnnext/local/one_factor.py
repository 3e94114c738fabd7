"""When step S.1 of partial linearisation is one Cholesky factor per agent, which the kernel `next_step` makes, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnnext.local import solvers
from dnnext.local.local_model import OneFactor
from dnnext.problem.objective import MEMORY_BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.problem import Problem


def one_factor(problem: Problem, solver: str, subproblem: Callable[[], solvers.Subproblem]) -> OneFactor | None:
    """Root and group of agents for the kernel; None where a model is solved otherwise, or too large for calls to count.

    The loss is quadratic, so that the root is the same at all weights.
    """
    small = problem.n_params**2 * problem.dtype.itemsize <= MEMORY_BUDGET
    if not (small and problem.loss.is_quadratic and problem.penalty.quadratic is not None):
        return None
    sub = subproblem()
    if (solvers.choose(sub) if solver == "auto" else solver) != "primal":
        return None
    return OneFactor(sub.root, problem.agent_groups(sub.block_numbers)[0].stop)
