"""Which solver is the cheapest for a subproblem: one model of their cost, which ``python -m bench.choice`` measures.

# Design
# The model counts operations and weighs them in nanoseconds of one core (float64; only ratios matter). It knows nothing
# of threads, ranks or how many agents live here: what is chosen changes the bits of a result, so every process, however
# the agents are spread, must choose alike. Sums run over the agents of the whole network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.local.subproblem import CG_STEPS, TOLERANCE

if TYPE_CHECKING:
    from dnnext.local.subproblem import Subproblem

Array = np.ndarray[Any, np.dtype[Any]]

# Nanoseconds, from bench.choice on an x86-64-v4 core with OpenBLAS; per flop unless said otherwise.
GEMM = 1 / 45  # products of large matrices
SMALL = 1 / 30  # products with a short side: pair features, deltas
FACTOR = 4.0  # per number of a matrix that is factored and solved with, beside its n^3 / 3 flops
PASS = 0.17  # per sample and parameter: J v and J'u, forward included
UNIT = 2.0  # per sample and hidden unit
SAMPLE = 45.0  # per sample
ROW = 0.5  # per number of J where it is made for a product, block by block
MADE = 2.0  # per number of J
TOUCH = 0.8, 2.0  # per number of B, near the core or not: zeroed, mirrored, brought into the cache
SWEEP = 0.22, 0.6  # per number of B in a sweep of descent, likewise
NEAR = 2**19  # numbers of a B that stays near the core
ENTRY = 0.5  # per element of the dual matrix and layer
AGENT = 3000.0  # per agent and call
STEP = 13_000.0, 25_000.0  # per step of conjugate gradients and of FISTA, all agents together

# Inner steps until the tolerance, as seen; the user's inner_iter bounds them.
SWEEPS, FISTA = 8, 30
EXACT = 10  # times as many to the last digits
LARGEST = 2e9  # bytes of one matrix; what would be larger is not formed


def choose(sub: Subproblem) -> str:
    """The cheapest solver of the subproblem by the model of `costs`, which is asked once per problem and shape."""
    known = sub.problem.known
    shape = ("solver", sub.blocks.tobytes(), sub.root.shape[1:], sub.inner_iter, sub.tol >= TOLERANCE)
    if shape not in known:
        cost = costs(sub)
        known[shape] = min(cost, key=lambda name: cost[name])
    solver: str = known[shape]
    return solver


def costs(sub: Subproblem) -> dict[str, float]:
    """Nanoseconds of each solver that can solve the subproblem within memory, all agents of the network together.

    With n rows, R columns of S, N = n R, blocks of P_b parameters: primal forms B (`forming`) and factors it, n^3 / 3
    flops and some passes for a matrix of order n, or descends on it; dual makes and factors matrices of order N
    (`dual_cost`); cg and fista take products with J and J'.
    """
    sizes = np.diff(sub.blocks).astype(float)
    rows, columns = sub.problem.agent_rows.astype(float), sub.root.shape[-1]
    agents, numbers = len(rows), float(np.sum(sizes**2))
    more = 1 if sub.tol >= TOLERANCE else EXACT
    passes = float(np.sum(pass_cost(sub, rows))) if len(sizes) == 1 else ROW * columns * float(rows.sum() * sizes.sum())
    cost: dict[str, float] = {}
    formed = float(np.sum(forming(sub, rows)))
    if sub.problem.penalty.quadratic is not None:
        steps = sub.inner_iter or more * CG_STEPS
        cost["cg"] = steps * (passes + AGENT / 2 * agents + STEP[0])
        cost["dual"] = float(np.sum(dual_cost(sub, rows)))
        cost["primal"] = formed + agents * float(np.sum(factoring(sizes)))
    else:
        cost["fista"] = min(more * FISTA, 10 + (sub.inner_iter or more * FISTA)) * (
            passes + AGENT / 2 * agents + STEP[1]
        )
        cost["primal"] = (
            formed + min(more * SWEEPS, sub.inner_iter or more * SWEEPS) * SWEEP[numbers > NEAR] * agents * numbers
        )
    if 8 * max(np.max(rows, initial=0) * columns, 1) ** 2 > LARGEST:
        cost.pop("dual", None)
    if 8 * numbers > LARGEST:
        del cost["primal"]
    return cost


def factoring(order: Array) -> Array:
    """Cholesky and two triangular solves."""
    return np.asarray(order**3 / 3 * GEMM + FACTOR * order**2)


def pass_cost(sub: Subproblem, rows: Array) -> Array:
    """J v and J'u of one agent with so many rows."""
    layers = sub.problem.model.layers
    return np.asarray(rows * (PASS * sub.problem.n_params + UNIT * sum(layers[1:-1]) + SAMPLE))


def forming(sub: Subproblem, rows: Array) -> Array:
    """B of one agent with so many rows: from J or from pair features, as csrc/pairs.c has it."""
    layers, columns, cuts = list(pairwise(sub.problem.model.layers)), sub.root.shape[-1], sub.blocks
    numbers = float(np.sum(np.diff(cuts).astype(float) ** 2))
    from_rows = columns * (numbers * GEMM + MADE * sub.problem.n_params)
    pairs = 0.0
    starts = np.cumsum([0, *((d + 1) * h for d, h in layers)])
    for lo, hi in pairwise(cuts):
        part = [
            max(0.0, np.ceil((min(hi, starts[u + 1]) - starts[u]) / h) - max(0, lo - starts[u]) // h)
            for u, (_, h) in enumerate(layers)
        ]
        for u, (_, h) in enumerate(layers):
            pairs += part[u] * (part[u] + 1) / 2 * h * (h + 1) / 2
            pairs += sum(part[u] * part[v] * h * layers[v][1] for v in range(u + 1, len(layers)))
    return np.asarray(AGENT + TOUCH[numbers > NEAR] * numbers + rows * (SAMPLE + min(from_rows, 2 * pairs * SMALL)))


def dual_cost(sub: Subproblem, rows: Array) -> Array:
    """The dual solve of one agent with so many rows: products of deltas and inputs, Cholesky of order N, two passes."""
    layers, columns = list(pairwise(sub.problem.model.layers)), sub.root.shape[-1]
    order, diagonal = rows * columns, sub.root.ndim == 2
    deltas = sum(h for _, h in layers[: -1 if diagonal else None])
    inputs = sum(d for d, _ in layers[1 if sub.problem.keeps_gram else 0 :])
    matrix = SMALL * (order**2 * deltas + rows**2 * inputs) + ENTRY * len(layers) * order**2
    per_block = matrix + factoring(order) + AGENT
    return np.asarray(AGENT + 2 * pass_cost(sub, rows) + (len(sub.blocks) - 1) * per_block)
