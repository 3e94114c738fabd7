"""Which solver is the cheapest for a subproblem: one model of cost, measured by ``python -m bench.speed.solvers``.

# Design
# Operations are counted and weighed in nanoseconds of one core (float64; only ratios matter), by `Curved.costs` of the
# model and here. Threads, ranks and the agents of this process do not count: what is chosen changes the bits of a
# result, so every process must choose alike. Sums run over the agents of the whole network.
# Conjugate gradients end after a few steps, the others are exact. Under the secant rule, whose tau stays above the
# curvature that a model misses, runs with ten steps take 1 to 2 % more iterations (bench/results/choice.md). A tau that
# the user gave, or that a gain ratio makes small, asks for the minimiser itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnnext.local.subproblem import CG_STEPS, DESCENT_SWEEPS, FISTA_STEPS, TOLERANCE
from dnnext.models.mlp_costs import NEAR, factoring
from dnnext.models.model import Curved
from dnnext.problem.curvature import RowCurvature
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem

Array = np.ndarray[Any, np.dtype[Any]]

# Nanoseconds, fitted as those of dnnext.models.mlp_costs are.
STEP = {"cg": 24_000.0, "fista": 47_000.0}  # per step that is no part of a larger call, all agents together
VECTORS = {"cg": 2.2, "fista": 13.4}  # per parameter and agent of such a step
SWEEP = 0.36, 0.6  # per number of B in a sweep of descent: B near the core, or not

SWEEPS = 18  # until the tolerance, as seen where tau is at its unit
POWERS = 11  # products of FISTA beside one for each step
# Times as dear conjugate gradients count, where the minimiser itself is asked for and where a point near it does: equal
# problems in other rows, such as rows twice or of weight 2, then agree to more digits if little is to be saved.
EARLY = {False: 3.0, True: 1.3}
EXACT = 10  # times as many steps and sweeps to the last digits
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
    asked = sub.inner_iter, sub.cg_steps, sub.takes_inexact, sub.tol >= TOLERANCE
    shape = sub.blocks.tobytes(), sub.root.shape[1:], *asked
    return CHEAPEST.once(sub.problem, shape, lambda: _cheapest(sub))


def _cheapest(sub: Subproblem) -> str:
    cost = costs(sub)
    return min(cost, key=lambda name: cost[name])


def costs(sub: Subproblem) -> dict[str, float]:
    """Nanoseconds of each solver that can solve the subproblem within memory, all agents of the network together.

    With n rows, R columns of S, N = n R, blocks of P_b parameters: primal forms B and factors it, n^3 / 3 flops and
    some passes for a matrix of order n, or descends on it; dual makes and factors matrices of order N; cg and fista
    take products with J and J'. `Curved.costs` states what products, forming and dual cost.
    """
    sizes = np.diff(sub.blocks).astype(float)
    rows, columns = sub.problem.agent_rows.astype(float), sub.root.shape[-1]
    agents, numbers, offers = len(rows), float(np.sum(sizes**2)), sub.problem.model.offers
    more = 1 if sub.tol >= TOLERANCE else EXACT
    model = cast(Curved, sub.problem.model).costs(rows, sub.blocks, columns, sub.root.ndim == 2, sub.problem.keeps_gram)
    vectors = {name: STEP[name] + VECTORS[name] * agents * float(sizes.sum()) for name in STEP}
    product, formed = float(np.sum(model.product)), float(np.sum(model.formed))
    cost: dict[str, float] = {}
    if sub.problem.penalty.quadratic is not None:
        together = "cg" in offers and len(sizes) == 1  # all steps in one call
        step = float(np.sum(model.step)) if together else product + vectors["cg"]
        cost["cg"] = EARLY[sub.takes_inexact] * (sub.inner_iter or more * sub.cg_steps) * step
        cost["dual"] = float(np.sum(model.dual))
        cost["primal"] = formed + agents * float(np.sum(factoring(sizes)))
    else:
        steps = POWERS + (sub.inner_iter or more * FISTA_STEPS)
        cost["fista"] = steps * (product + vectors["fista"])
        sweeps = min(more * SWEEPS, sub.inner_iter or more * DESCENT_SWEEPS)
        cost["primal"] = formed + sweeps * SWEEP[numbers > NEAR] * agents * numbers
    if 8 * max(np.max(rows, initial=0) * columns, 1) ** 2 > LARGEST or "dual" not in offers:
        cost.pop("dual", None)
    if 8 * numbers > LARGEST:
        del cost["primal"]
    return cost
