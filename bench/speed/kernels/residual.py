"""Loss and gradient of a residual network. Limit: its products alone, u W forward, both products of the way back."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.speed.kernels.clock import Row, total
from dnnext import kernels
from dnnext.models import ResNet, Rows

# width: layers, rows, reach; wide layers are bound by products, of which the pass takes 1.2 times the time at most
SHAPES: dict[int, tuple[int, int, Any]] = {
    8: (16, 500, ("ratio", 2.0)),
    16: (16, 500, ("ratio", 2.0)),
    32: (16, 500, ("ratio", 2.0)),
    64: (16, 500, ("ratio", 2.0)),
    128: (16, 500, ("limit", 1 / 1.2)),
    256: (8, 500, ("limit", 1 / 1.2)),
}
INPUTS, CLASSES, T = 4, 5, 2.0


def rows(quick: bool) -> Iterator[Row]:
    for width, (layers, n, goal) in SHAPES.items():
        for dtype in (np.float64, np.float32):
            if quick and (width not in (8, 128) or dtype is np.float32):
                continue
            yield residual_row(width, layers, n, dtype, goal)
    for width in (8, 64):
        if not quick:
            yield product_row(width, 16, 500, np.float64)
    for width in (8, 64, 256):
        if not quick:
            yield sweeps_row(width, *SHAPES[width][:2], np.float64)


def case(width: int, layers: int, n: int, dtype: Any) -> tuple[ResNet, np.ndarray, Rows, np.ndarray]:
    """Model, weights (1, P), rows and targets."""
    rng, model = np.random.default_rng(0), ResNet(layers, width, T, n_inputs=INPUTS, n_outputs=CLASSES)
    x = rng.standard_normal((n, INPUTS)).astype(dtype)
    target = np.eye(CLASSES, dtype=dtype)[rng.integers(0, CLASSES, n)]
    return model, (3 * model.init(0)).astype(dtype)[None], Rows(x, np.array([0, n])), target


def cut(row: np.ndarray, a: int, b: int) -> list[np.ndarray]:
    """The matrix (a, b) at the beginning of a row, and the rest."""
    return [row[: a * b].reshape(a, b), row[a * b :]]


def arrays_of(model: ResNet, row: np.ndarray, data: Rows, target: np.ndarray) -> dict[str, np.ndarray]:
    """What the peers take: the parts of one row of weights, and the data."""
    width, (opening, middle, output) = model.width, model.split(row)
    (k, kb), (c, cb) = cut(opening, INPUTS, width), cut(output, width, CLASSES)
    arrays = {
        "k": k, "kb": kb, "w": middle[:, : width**2].reshape(-1, width, width), "b": middle[:, width**2 :], "c": c,
        "cb": cb, "x": data.x, "target": target,
    }  # fmt: skip
    return {name: np.ascontiguousarray(a) for name, a in arrays.items()}


def product_row(width: int, layers: int, n: int, dtype: Any) -> Row:
    """``J'(J v)``, what conjugate gradients ask for, v the weights themselves."""
    model, w, data, target = case(width, layers, n, dtype)
    out = np.empty_like(w)

    def ours() -> Any:
        return (model.vjp(w, data, model.jvp(w, data, w), out),)

    return Row(
        "residual J'(J v)", f"{layers} layers of width {width}, {n} rows", dtype, ours, {},
        {"kind": "residual_product", "h": T / layers}, arrays_of(model, w[0], data, target), lambda r: total(*r),
        None, "", ("ratio", 2.0),
    )  # fmt: skip


def sweeps_row(width: int, layers: int, n: int, dtype: Any) -> Row:
    """The kernels of multigrid, layer after layer as one chain with all states kept, beside the pass over panels."""
    model, w, data, target = case(width, layers, n, dtype)
    value, grad = np.empty(1), np.empty_like(w)
    u, adjoint = np.random.default_rng(1).standard_normal((2, layers + 1, width, n + -n % 16)).astype(dtype)
    middle, chain = model.split(w[0])[1], (np.arange(layers)[None], np.full((1, layers), T / layers))
    back, pushed, slope = np.arange(layers)[None, ::-1].copy(), np.empty_like(u[:-1]), np.empty_like(middle)

    def ours() -> Any:
        kernels.residual_forward(u, middle, *chain, layers + 1, model.code)
        kernels.residual_backward(adjoint, pushed, u, middle, back, chain[1], back, layers + 1, model.code)
        kernels.residual_gradient(slope, u, pushed, back.T)
        return (slope,)

    def whole() -> None:
        model.loss_grad(w, data, target, None, kernels.LOSSES["softmax"], 0.0, 1 / n, value, grad)

    return Row(
        "residual sweeps of multigrid", f"{layers} layers of width {width}, {n} rows", dtype, ours, {}, {}, {}, None,
        lambda s: s["part: pass"], "the pass over panels", None, {"pass": whole},
    )  # fmt: skip


def residual_row(width: int, layers: int, n: int, dtype: Any, goal: Any) -> Row:
    model, w, data, target = case(width, layers, n, dtype)
    value, grad, rng = np.empty(1), np.empty_like(w), np.random.default_rng(1)
    rest = (target, None, kernels.LOSSES["softmax"], 0.0, 1 / n, value, grad)

    def ours() -> Any:
        model.loss_grad(w, data, *rest)
        return value, grad

    u, weight = rng.standard_normal((2, width, n)).astype(dtype), np.ones((width, width), dtype)
    out, small = np.empty((width, n), dtype), np.empty((width, width), dtype)

    def products() -> None:
        for _ in range(layers):
            np.matmul(weight, u[0], out=out)
            np.matmul(weight.T, u[1], out=out)
            np.matmul(u[0], u[1].T, out=small)

    task, arrays = {"kind": "residual", "h": T / layers, "scale": 1 / n}, arrays_of(model, w[0], data, target)
    return Row(
        "residual loss + gradient", f"{layers} layers of width {width}, {n} rows", dtype, ours, {},
        task, arrays, lambda r: total(*r),
        lambda s: s["part: products"], "the products of all layers alone", goal, {"products": products},
    )  # fmt: skip
