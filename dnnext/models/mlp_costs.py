"""What the kernels of an MLP cost: operations counted and weighed in nanoseconds of one core.

# Design
# float64 and one x86-64-v4 core with OpenBLAS, as ``python -m bench.speed.solvers`` measures; only ratios matter.
# Threads, ranks and the agents of this process are left out: what is chosen by these numbers changes the bits of a
# result, so every process must choose alike.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AGENT", "GEMM", "ROW", "dual_cost", "factoring", "forming", "pass_cost"]

Array = NDArray[Any]

# Nanoseconds, per flop unless stated otherwise.
GEMM = 1 / 45  # products of large matrices
SMALL = 1 / 30  # products with a short side: pair features, deltas
FACTOR = 4.0  # per number of a matrix that is factored and solved with, beside its n^3 / 3 flops
PASS = 0.17  # per sample and parameter: J v and J'u, forward included
UNIT = 2.0  # per sample and hidden unit
SAMPLE = 45.0  # per sample
ROW = 0.5  # per number of J where it is made for a product, block by block
MADE = 2.0  # per number of J
TOUCH = 0.8, 2.0  # per number of B, near the core or not: zeroed, mirrored, brought into the cache
NEAR = 2**19  # numbers of a B that stays near the core
ENTRY = 0.5  # per element of the dual matrix and layer
AGENT = 3000.0  # per agent and call


def factoring(order: Array) -> Array:
    """Cholesky and two triangular solves of matrices of these orders."""
    return np.asarray(order**3 / 3 * GEMM + FACTOR * order**2)


def pass_cost(layers: Sequence[int], n_rows: Array) -> Array:
    """J v and J'u of agents with so many rows."""
    n_params = sum((d + 1) * h for d, h in pairwise(layers))
    return np.asarray(n_rows * (PASS * n_params + UNIT * sum(layers[1:-1]) + SAMPLE))


def forming(layers: Sequence[int], n_rows: Array, blocks: Array, columns: int) -> Array:
    """B of agents with so many rows: from J or from pair features, as csrc/pairs.c has it."""
    pairs, starts = list(pairwise(layers)), np.cumsum([0, *((d + 1) * h for d, h in pairwise(layers))])
    numbers = float(np.sum(np.diff(blocks).astype(float) ** 2))
    from_rows = columns * (numbers * GEMM + MADE * int(starts[-1]))
    features = 0.0
    for lo, hi in pairwise(blocks):
        part = [
            max(0.0, np.ceil((min(hi, starts[u + 1]) - starts[u]) / h) - max(0, lo - starts[u]) // h)
            for u, (_, h) in enumerate(pairs)
        ]
        for u, (_, h) in enumerate(pairs):
            features += part[u] * (part[u] + 1) / 2 * h * (h + 1) / 2
            features += sum(part[u] * part[v] * h * pairs[v][1] for v in range(u + 1, len(pairs)))
    each = SAMPLE + min(from_rows, 2 * features * SMALL)
    return np.asarray(AGENT + TOUCH[numbers > NEAR] * numbers + n_rows * each)


def dual_cost(
    layers: Sequence[int], n_rows: Array, n_blocks: int, columns: int, is_diagonal: bool, has_gram: bool
) -> Array:
    """The dual solve of agents with so many rows: products of deltas and inputs, Cholesky of order N, two passes."""
    pairs, order = list(pairwise(layers)), n_rows * columns
    deltas = sum(h for _, h in pairs[: -1 if is_diagonal else None])
    inputs = sum(d for d, _ in pairs[1 if has_gram else 0 :])
    matrix = SMALL * (order**2 * deltas + n_rows**2 * inputs) + ENTRY * len(pairs) * order**2
    per_block = matrix + factoring(order) + AGENT
    return np.asarray(AGENT + 2 * pass_cost(layers, n_rows) + n_blocks * per_block)
