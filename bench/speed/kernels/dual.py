"""Solves of PL with fewer rows than weights: (J'SS'J + D) out = rhs, J never formed. Limit: Cholesky of the rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lapack

from bench.speed.kernels import formulas
from bench.speed.kernels.clock import Row, total
from bench.speed.kernels.curvature import one_agent
from bench.speed.kernels.gradient import flat
from dnnext import kernels

# rows, layers, reach: P / rows from 2.5 on
SHAPES = {
    "P / rows = 2.9": (120, (20, 15, 1), ("ratio", 3.0)),
    "P / rows = 10": (100, (50, 20, 1), ("ratio", 3.0)),
    "P / rows = 33": (100, (100, 32, 1), ("ratio", 10.0)),
}


def rows(quick: bool) -> Iterator[Row]:
    for name, (n, layers, goal) in SHAPES.items():
        for dtype in (np.float64,) if quick else (np.float64, np.float32):
            yield dual_row(name, n, layers, goal, dtype)


def dual_row(name: str, n: int, layers: tuple[int, int, int], goal: Any, dtype: Any) -> Row:
    t, tau, l2 = one_agent(n, layers, dtype), 0.5, 0.1
    d, h, q = layers
    w = flat({k: a[None] for k, a in t.items()})
    params, eye = w.shape[1], np.eye(q, dtype=dtype)
    rhs = np.random.default_rng(2).standard_normal((1, params)).astype(dtype)
    diagonal = np.full(params, tau, dtype)
    diagonal[: d * h] += l2
    diagonal[d * h + h : d * h + h + h * q] += l2
    offsets, blocks = np.array([0, n]), np.array([0, params])
    gram, out, status = np.empty(n * n, dtype), np.empty_like(rhs), np.empty(1, np.int64)
    kernels.rows_gram(gram, t["x"], offsets)
    tail = (np.full(1, tau, dtype), np.full(2, l2, dtype), rhs, offsets, layers, kernels.ACTIVATIONS["tanh"], blocks)

    def ours() -> Any:
        kernels.mlp_dual_solve(out, status, w, t["x"], t["root"], gram, *tail)
        return (out,)

    def numpy() -> Any:
        j = formulas.jacobian(np, t["w1"], t["b1"], t["w2"], t["x"], t["root"], eye)
        scaled = j / diagonal
        k = scaled @ j.T
        k.flat[:: n * q + 1] += 1
        right = rhs[0] / diagonal
        return right - scaled.T @ cho_solve(cho_factor(k, check_finite=False), j @ right, check_finite=False)

    spd = np.eye(n * q, dtype=dtype) * 2
    potrf = lapack.dpotrf if dtype is np.float64 else lapack.spotrf
    return Row(
        "PL dual solve", f"{name}: ({n}, {d}, {h}, {q})", dtype, ours, {"NumPy": {"J J', Cholesky": numpy}},
        {"kind": "dual"}, {**t, "diagonal": diagonal, "rhs": rhs[0]}, lambda r: total(*r),
        lambda s: s["part: Cholesky of the rows"], "Cholesky of the rows", goal,
        {"Cholesky of the rows": lambda: potrf(spd, overwrite_a=0)},
    )  # fmt: skip
