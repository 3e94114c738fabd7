"""Which solver is the cheapest for a subproblem: one model of cost, measured by ``python -m bench.speed.solvers``.

# Design
# Operations are counted and weighed in nanoseconds of one core (float64; only ratios matter), by `Curved.costs` of the
# model and here. Threads, ranks and the agents of this process do not count: what is chosen changes the bits of a
# result, so every process must choose alike. Sums run over the agents of the whole network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnnext.local.subproblem import CG_STEPS, TOLERANCE
from dnnext.models.mlp_costs import AGENT, NEAR, ROW, factoring
from dnnext.models.model import Curved
from dnnext.problem.curvature import RowCurvature
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem

Array = np.ndarray[Any, np.dtype[Any]]

# Nanoseconds, from bench.speed.solvers as those of dnnext.models.mlp_costs are.
SWEEP = 0.22, 0.6  # per number of B in a sweep of descent: B near the core, or not
STEP = 13_000.0, 25_000.0  # per step of conjugate gradients and of FISTA, all agents together

# Inner steps until the tolerance, as seen; the user's inner_iter bounds them.
SWEEPS, FISTA = 8, 30
EXACT = 10  # times as many to the last digits
CHEAPEST = Kept[tuple[Any, ...], str]()  # by the shape of a subproblem
LARGEST = 2e9  # bytes of one matrix; what would be larger is not formed


def choose(sub: Subproblem) -> str:
    """The cheapest solver of the subproblem by the model of `costs`, which is asked once per problem and shape.

    Of some rows, and all weights together, the few steps of conjugate gradients that such a model is worth.
    """
    is_quadratic = sub.problem.penalty.quadratic is not None
    if "gauss_newton" not in sub.problem.model.offers or isinstance(sub.root, RowCurvature):
        return "cg" if is_quadratic else "fista"  # products with J are all there is
    if sub.cg_steps < CG_STEPS and is_quadratic and len(sub.blocks) == 2:
        return "cg"
    shape = sub.blocks.tobytes(), sub.root.shape[1:], sub.inner_iter, sub.tol >= TOLERANCE
    return CHEAPEST.once(sub.problem, shape, lambda: _cheapest(sub))


def _cheapest(sub: Subproblem) -> str:
    cost = costs(sub)
    return min(cost, key=lambda name: cost[name])


def costs(sub: Subproblem) -> dict[str, float]:
    """Nanoseconds of each solver that can solve the subproblem within memory, all agents of the network together.

    With n rows, R columns of S, N = n R, blocks of P_b parameters: primal forms B and factors it, n^3 / 3 flops and
    some passes for a matrix of order n, or descends on it; dual makes and factors matrices of order N; cg and fista
    take products with J and J'. The model states what forming, dual and products cost.
    """
    sizes = np.diff(sub.blocks).astype(float)
    rows, columns = sub.problem.agent_rows.astype(float), sub.root.shape[-1]
    agents, numbers = len(rows), float(np.sum(sizes**2))
    more = 1 if sub.tol >= TOLERANCE else EXACT
    model = cast(Curved, sub.problem.model)
    each = model.costs(rows, sub.blocks, columns, sub.root.ndim == 2, sub.problem.keeps_gram)
    a_pass, formed, dual = (float(np.sum(cost)) for cost in each)
    passes = a_pass if len(sizes) == 1 else ROW * columns * float(rows.sum() * sizes.sum())
    cost: dict[str, float] = {}
    if sub.problem.penalty.quadratic is not None:
        steps = sub.inner_iter or more * CG_STEPS
        cost["cg"] = steps * (passes + AGENT / 2 * agents + STEP[0])
        cost["dual"] = dual
        cost["primal"] = formed + agents * float(np.sum(factoring(sizes)))
    else:
        cost["fista"] = min(more * FISTA, 10 + (sub.inner_iter or more * FISTA)) * (
            passes + AGENT / 2 * agents + STEP[1]
        )
        cost["primal"] = (
            formed + min(more * SWEEPS, sub.inner_iter or more * SWEEPS) * SWEEP[numbers > NEAR] * agents * numbers
        )
    if 8 * max(np.max(rows, initial=0) * columns, 1) ** 2 > LARGEST or "dual" not in model.offers:
        cost.pop("dual", None)
    if 8 * numbers > LARGEST:
        del cost["primal"]
    return cost
