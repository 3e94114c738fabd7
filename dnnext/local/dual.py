"""Quadratic subproblems in the space of rows, for agents with fewer rows than weights.

# Design
# With K = S'J and D = tau I + l2 (Woodbury): (D + K'K)^-1 q = D^-1 q - D^-1 K'(I + K D^-1 K')^-1 K D^-1 q. Where l2 is
# one number per layer, as all built-in penalties have it, K D^-1 K' follows from activations and deltas without J
# (csrc/dual.c); the inputs' own part of it, X X', is made once per problem if it is no larger than the state of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.subproblem import damped, quadratic

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem

Array = np.ndarray[Any, np.dtype[Any]]


def dual(sub: Subproblem, out: Array) -> None:
    """out = c - (B + tau I + l2)^-1 (slope + l2 c) block by block, B never formed; tau is doubled as in `primal`.

    Raises
    ------
    ValueError
        If the penalty is not quadratic.
    """
    assert sub.centre is not None
    problem, l2 = sub.problem, quadratic(sub, "dual")
    q = -(sub.slope + l2 * sub.centre)

    def attempt(tau: Array) -> Array:
        return problem.dual_solve(sub.w, sub.root, tau, l2, q, sub.blocks, out)

    def largest() -> Array:
        return np.asarray(problem.gauss_newton_diagonal(sub.w, sub.root).max(axis=1))

    if damped(sub, sub.tau.astype(q.dtype), attempt, largest):
        out += sub.centre
    else:
        out[...] = np.nan  # diverged: the alarm of the recipe speaks next
