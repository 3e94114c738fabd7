"""Gauss-Newton matrices J'SS'J of one agent and one hidden layer; S diagonal. Limits after BLAS' syrk on J."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import blas

from bench.speed.kernels import formulas
from bench.speed.kernels.clock import Row, total
from bench.speed.kernels.gradient import flat, network
from dnnext import kernels

# name: rows, layers, share of syrk's time that is the limit, reach
SHAPES: dict[str, tuple[int, tuple[int, int, int], float | None, tuple[str, float]]] = {
    "Q = 1, P = 993": (2000, (30, 31, 1), 0.5, ("ratio", 1.5)),
    "Q = 10, P = 2935": (250, (64, 39, 10), 1 / 20, ("ratio", 10.0)),
    "P = 151": (1000, (8, 15, 1), None, ("ratio", 1.0)),
}


def one_agent(n: int, layers: tuple[int, int, int], dtype: Any) -> dict[str, np.ndarray]:
    """The network of one agent without leading axis, and the diagonals of S."""
    t = {k: a[0] for k, a in network(1, n, layers, dtype).items()}
    root = np.random.default_rng(1).random((n, layers[2])) + 0.5
    return {**t, "root": root.astype(dtype)}


def rows(quick: bool) -> Iterator[Row]:
    for name, (n, layers, share, goal) in SHAPES.items():
        for dtype in (np.float64,) if quick else (np.float64, np.float32):
            yield curvature_row(name, n, layers, share, goal, dtype)


def curvature_row(name: str, n: int, layers: Any, share: float | None, goal: Any, dtype: Any) -> Row:
    t, q = one_agent(n, layers, dtype), layers[2]
    w = flat({k: a[None] for k, a in t.items()})
    params, eye = w.shape[1], np.eye(q, dtype=dtype)
    out = np.empty((1, params * params), dtype)
    tail = (np.array([0, n]), layers, kernels.ACTIVATIONS["tanh"], np.array([0, params]))
    syrk = blas.dsyrk if dtype is np.float64 else blas.ssyrk
    j = formulas.jacobian(np, t["w1"], t["b1"], t["w2"], t["x"], t["root"], eye)

    def ours() -> Any:
        kernels.mlp_gauss_newton(out, w, t["x"], t["root"], *tail)
        return (out,)

    def numpy() -> Any:
        made = formulas.jacobian(np, t["w1"], t["b1"], t["w2"], t["x"], t["root"], eye)
        return syrk(1, made.T)

    return Row(
        "Gauss-Newton matrix", f"{name}: ({n}, {layers[0]}, {layers[1]}, {q})", dtype, ours,
        {"NumPy": {"J, syrk": numpy}}, {"kind": "curvature"}, t, lambda r: total(*r),
        (lambda s: s["part: syrk on J alone"] * share) if share else None,
        f"{share:.2g} of syrk's time" if share else "", goal, {"syrk on J alone": lambda: syrk(1, j.T)},
    )  # fmt: skip
