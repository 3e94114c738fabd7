"""What the kernels of an MLP cost: operations counted and weighed in nanoseconds of one core.

# Design
# float64 and one x86-64-v4 core with OpenBLAS; only ratios matter. The weights were fitted to 385 subproblems of
# ``python -m bench.speed.solvers``, by least squares of relative errors; they meet two of three times within 11 %
# (products block by block 20 %). Threads, ranks and the agents of this process are left out: what is chosen by these
# numbers changes the bits of a result, so every process must choose alike.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR", "dual_cost", "factoring", "forming", "product_cost", "step_cost"]

Array = NDArray[Any]

# Nanoseconds. Of a product with B in tiles, activations included, and of a step of conjugate gradients, where they are
# kept: per sample and parameter, per sample and hidden unit, per sample and number of S, per sample, per agent, per
# agent and parameter.
PRODUCT = 0.092, 1.96, 0.265, 0.9, 230.0, 2.4
STEP = 0.068, 0.94, 0.24, 3.4, 226.0, 2.4
VECTOR = 8  # samples are taken in whole vectors
# Of a product block by block: per number of csrc/product.c's own model, per sample and hidden unit, per sample.
BLOCK = 0.70, 2.2, 94.0
# Of a matrix B from J or from pair features, as csrc/pairs.c has it.
GEMM = 0.0173  # per number of B and row of J
MADE = 1.41  # per number of J
PAIRS = 0.0226  # per flop in products of features
FEATURE = 0.52  # per feature
ADDED = 2.1  # per number that is added to B
FORMED = 14.0, 51.0, 5000.0  # per sample and hidden unit, per sample, per agent
TOUCH = 0.8, 2.0  # per number of B, near the core or not: zeroed, mirrored, brought into the cache
NEAR = 2**19  # numbers of a B that stays near the core
FACTOR = 0.0122, 2.0  # of Cholesky and two solves: per flop, per number
# Of the dual solve: per flop of its matrix, per number of it and layer, per flop of its factor, per row of J and block,
# per block; per sample and parameter, per sample and hidden unit, per sample, per parameter.
DUAL = 0.022, 1.13, 0.0208, 240.0, 173.0
DUAL_PASSES = 0.178, 1.6, 49.0, 5.4


def factoring(order: Array) -> Array:
    """Cholesky and two triangular solves of matrices of these orders."""
    return np.asarray(order**3 / 3 * FACTOR[0] + FACTOR[1] * order**2)


def _params(layers: Sequence[int]) -> int:
    return sum((d + 1) * h for d, h in pairwise(layers))


def _tiles(weights: tuple[float, ...], layers: Sequence[int], n_rows: Array, columns: int, is_diagonal: bool) -> Array:
    """What is linear in samples and parameters, of agents with so many rows."""
    per_param, per_unit, per_root, per_sample, agent, weight = weights
    root = columns if is_diagonal else 2 * columns * layers[-1]
    each = per_param * _params(layers) + per_unit * sum(layers[1:-1]) + per_root * root + per_sample
    return np.asarray(agent + weight * _params(layers) + np.ceil(n_rows / VECTOR) * VECTOR * each)


def step_cost(layers: Sequence[int], n_rows: Array, columns: int, is_diagonal: bool) -> Array:
    """A step of conjugate gradients among others in one call."""
    return _tiles(STEP, layers, n_rows, columns, is_diagonal)


def product_cost(layers: Sequence[int], n_rows: Array, blocks: Array, columns: int, is_diagonal: bool) -> Array:
    """A product of B, or of its blocks, with a vector."""
    if len(blocks) == 2:
        return _tiles(PRODUCT, layers, n_rows, columns, is_diagonal)
    n_params = _params(layers)
    from_rows, from_pieces = 0.65 * columns * n_params, 0.2 * n_params
    if len(blocks) - 1 > n_params // 8:
        from_pieces = np.inf
    else:
        for width in _pieces(layers, blocks):
            from_pieces += columns * (0.6 * width + 10) + 30
    per_number, per_unit, per_sample = BLOCK
    each = per_number * min(from_rows, from_pieces) + per_unit * sum(layers[1:-1]) + per_sample
    return np.asarray(PRODUCT[4] + n_rows * each)


def _pieces(layers: Sequence[int], blocks: Array) -> Iterator[int]:
    """How many units each of the outer products has that blocks cut the layers into: `cut_pieces` of csrc/pieces.c."""
    starts = np.cumsum([0, *((d + 1) * h for d, h in pairwise(layers))])
    for lo, hi in pairwise(blocks):
        for start, stop, h in zip(starts, starts[1:], layers[1:], strict=False):
            at, end = max(lo, start) - start, min(hi, stop) - start
            while at < end:
                whole = (end - at) // h if at % h == 0 else 0
                width = h if whole else min(h - at % h, end - at)
                yield int(width)
                at += whole * h if whole else width


def forming(layers: Sequence[int], n_rows: Array, blocks: Array, columns: int) -> Array:
    """B of agents with so many rows: from J or from pair features, as csrc/pairs.c has it."""
    units = layers[1:]
    starts = np.cumsum([0, *((d + 1) * h for d, h in pairwise(layers))])
    numbers = float(np.sum(np.diff(blocks).astype(float) ** 2))
    from_rows = columns * (numbers * GEMM + MADE * int(starts[-1]))
    per_sample = per_agent = 0.0
    for lo, hi in pairwise(blocks):
        part = [
            max(0.0, np.ceil((min(hi, starts[u + 1]) - starts[u]) / h) - max(0, lo - starts[u]) // h)
            for u, h in enumerate(units)
        ]
        for u, h in enumerate(units):
            for v in range(u, len(units)):
                left = part[u] * (part[u] + 1) / 2 if u == v else part[u] * part[v]
                per_sample += left * (2 * _right(units, u, v) * PAIRS + FEATURE)
                per_agent += left * h * units[v] * ADDED
    per_sample += FEATURE * columns * sum(_right(units, u, v) for u in range(len(units)) for v in range(u, len(units)))
    per_unit, sample, agent = FORMED
    each = per_unit * sum(units[:-1]) + sample
    made = np.minimum(n_rows * from_rows, n_rows * per_sample + per_agent)
    return np.asarray(agent + TOUCH[numbers > NEAR] * numbers + n_rows * each + made)


def _right(units: Sequence[int], u: int, v: int) -> float:
    """Pairs of deltas of two layers."""
    return units[u] * (units[u] + 1) / 2 if u == v else units[u] * units[v]


def dual_cost(
    layers: Sequence[int], n_rows: Array, n_blocks: int, columns: int, is_diagonal: bool, has_gram: bool
) -> Array:
    """The dual solve of agents with so many rows: products of deltas and inputs, Cholesky of order N, two passes."""
    pairs, order = list(pairwise(layers)), n_rows * columns
    deltas = sum(h for _, h in pairs[: -1 if is_diagonal else None])
    inputs = sum(d for d, _ in pairs[1 if has_gram else 0 :])
    flop, entry, factor, row, block = DUAL
    matrix = flop * (order**2 * deltas + n_rows**2 * inputs) + entry * len(pairs) * order**2
    per_block = matrix + factor * order**3 / 3 + row * order + block
    per_param, per_unit, per_sample, weight = DUAL_PASSES
    each = per_param * _params(layers) + per_unit * sum(layers[1:-1]) + per_sample
    return np.asarray(weight * _params(layers) + n_rows * each + n_blocks * per_block)
