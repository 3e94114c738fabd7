"""Which solver is the cheapest for a subproblem: one model of their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnnext.local.subproblem import CG_STEPS, DESCENT_SWEEPS, FISTA_STEPS

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem


def choose(sub: Subproblem) -> str:
    """The cheapest solver by floating-point operations; those outside of matrix-matrix products count three times.

    With n = rows x R of J, P_b the block sizes and k inner steps: forming B takes n sum P_b^2, Cholesky sum P_b^3 / 3,
    the dual n^2 P + n^3 / 3, a product with J and J' 12 rows P, a descent sweep 2 sum P_b^2. Matrices that would
    take more than 2 GB are not formed. The answer depends on shapes alone, and is found once per problem.
    """
    shapes = ("solver", sub.blocks.tobytes(), sub.root.shape[-1], sub.inner_iter)
    if shapes not in sub.problem.known:
        sub.problem.known[shapes] = _cheapest(sub)
    solver: str = sub.problem.known[shapes]
    return solver


def _cheapest(sub: Subproblem) -> str:
    problem, sizes = sub.problem, np.diff(sub.blocks).astype(float)
    rows = problem.agent_rows.astype(float)  # of all agents: every rank must choose alike
    n = rows * sub.root.shape[-1]
    total = float(sizes.sum())
    form = float(n.sum()) * float(np.sum(sizes**2))
    products = 3 * 12 * float(rows.sum()) * total
    cost: dict[str, float] = {}
    if problem.penalty.quadratic is not None:
        cost["primal"] = form + len(rows) * float(np.sum(sizes**3)) / 3
        cost["dual"] = float(np.sum(n**2 * total + len(sizes) * n**3 / 3))
        cost["cg"] = (sub.inner_iter or CG_STEPS) * products
        if np.max(n, initial=0) ** 2 * 8 > 2e9 or np.max(n, initial=0) * total * 8 > 2e9:
            del cost["dual"]
    else:
        cost["primal"] = form + (sub.inner_iter or DESCENT_SWEEPS) * 3 * 2 * len(rows) * float(np.sum(sizes**2))
        cost["fista"] = (sub.inner_iter or FISTA_STEPS) * products
    if np.sum(sizes**2) * 8 > 2e9:
        del cost["primal"]
    return min(cost, key=lambda name: cost[name])
