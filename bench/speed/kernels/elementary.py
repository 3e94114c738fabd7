"""Elementary functions through a layer that does little else: z -> phi(z), one input, 64 units, one output.

There is no function for phi alone; peers get z itself, made before, and an output array, so that the row flatters them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import expit

from bench.speed.kernels.clock import Row
from dnnext import kernels

ROWS, UNITS = 2000, 64


def rows(quick: bool) -> Iterator[Row]:
    for name in ("tanh", "logistic", "softplus"):
        for dtype in (np.float64,) if quick else (np.float64, np.float32):
            yield elementary_row(name, dtype)


def elementary_row(name: str, dtype: Any) -> Row:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 1)).astype(dtype)
    first = rng.standard_normal(UNITS) * 2
    w = np.concatenate([first, np.zeros(UNITS), np.ones(UNITS + 1)]).astype(dtype)[None]
    z = x * w[:, :UNITS]
    out, value, spare = np.empty((ROWS, 1), dtype), np.empty_like(z), np.empty_like(z)
    net = (np.array([0, ROWS]), (1, UNITS, 1))

    def through(activation: str) -> Any:
        kernels.mlp_forward(out, w, x, *net, kernels.ACTIVATIONS[activation])
        return (out,)

    def softplus() -> None:
        np.log1p(np.exp(np.negative(np.abs(z, out=spare), out=spare), out=spare), out=value)
        np.add(value, np.maximum(z, 0, out=spare), out=value)

    numpy = {"tanh": lambda: np.tanh(z, out=value), "logistic": lambda: expit(z, out=value), "softplus": softplus}
    return Row(
        "elementary, with the layer around", f"{name}, {ROWS * UNITS} numbers", dtype, lambda: through(name),
        {"NumPy": {"scipy.special.expit" if name == "logistic" else "NumPy": numpy[name]}},
        {"kind": "elementary", "name": name}, {"z": z}, None,
        lambda s: max(1e-12, s["ours"] - s["part: layer without it"]), "the call less the same with the identity", None,
        {"layer without it": lambda: through("identity")},
    )  # fmt: skip
