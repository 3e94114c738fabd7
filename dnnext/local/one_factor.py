"""When step S.1 of partial linearisation is one solve per agent that the kernel `next_step` makes, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local import solvers
from dnnext.local.local_model import OneFactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.problem import Problem


Array = np.ndarray[Any, np.dtype[Any]]

MOST_BYTES = 2**26  # of the matrices that are formed together: beyond, calls do not count


def one_factor(
    problem: Problem,
    solver: str,
    subproblem: Callable[[], solvers.Subproblem],
    shares: Callable[[], Array],
) -> OneFactor | None:
    """What the kernel is given; None where a model is solved otherwise, or too large for calls to count.

    Either conjugate gradients, or one Cholesky factor per block. shares(): of the rows in the root, see `row_shares`.
    """
    loss = problem.loss
    if problem.penalty.quadratic is None or "next_step" not in problem.model.offers or solver in ("dual", "fista"):
        return None
    if problem.has_wide_root or not (loss.is_quadratic or loss.has_root_kernel):
        return None
    sub = subproblem()
    root, share = (sub.root, None) if loss.is_quadratic else (None, shares())
    chosen = solvers.choose(sub) if solver == "auto" else solver
    if chosen == "cg" and solvers.in_one_call(sub):
        return OneFactor(root, 1, share, solvers.most_steps(sub), sub.tol)
    group = problem.agent_groups(sub.block_numbers)[0].stop
    if chosen != "primal" or group * sub.block_numbers * problem.dtype.itemsize > MOST_BYTES:
        return None
    return OneFactor(root, group, share, blocks=np.ascontiguousarray(sub.blocks))
