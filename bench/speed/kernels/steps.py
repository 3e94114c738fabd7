"""Best response of FL under l1 and the step towards it, one pass: w + a (prox(w - A y / tau) - w). Limit: a triad."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.speed.kernels import formulas
from bench.speed.kernels.clock import Row, total
from dnnext import kernels

SHAPES = {"small": (10, 2000), "in the cache": (10, 20_000), "beyond caches": (100, 100_000)}
TAU, STEP, L1 = 2.0, 0.7, 0.05


def rows(quick: bool) -> Iterator[Row]:
    for name, (agents, params) in SHAPES.items():
        for dtype in (np.float64,) if quick else (np.float64, np.float32):
            if not (quick and name == "beyond caches"):
                yield step_row(name, agents, params, dtype)


def step_row(name: str, agents: int, params: int, dtype: Any) -> Row:
    rng = np.random.default_rng(0)
    w, y = (rng.standard_normal((agents, params)).astype(dtype) * 0.1 for _ in range(2))
    z, w_hat, v, spare = (np.empty_like(w) for _ in range(4))
    l1, l2, none, nothing = np.full(params, L1, dtype), np.zeros(params, dtype), np.empty((0, 2), np.int64), np.empty(0)
    tau, threshold, push = np.full(agents, TAU), np.full(params, L1 / TAU, dtype), agents / TAU
    groups = (l1, l2, none, nothing.astype(dtype))

    def ours() -> Any:
        kernels.proximal_step(z, w_hat, w, y, tau, STEP, float(agents), *groups)
        return (z,)

    def numpy() -> None:
        np.multiply(y, -push, out=v)
        np.add(v, w, out=v)
        np.abs(v, out=spare)
        np.subtract(spare, threshold, out=spare)
        np.maximum(spare, 0, out=spare)
        np.copysign(spare, v, out=v)
        np.subtract(v, w, out=v)
        np.multiply(v, STEP, out=v)
        np.add(v, w, out=v)

    plain = lambda: formulas.respond(np, w, y, threshold, 1.0, STEP, push)  # noqa: E731
    return Row(
        "prox fused with the step", f"{name}: A = {agents}, P = {params}", dtype, ours,
        {"NumPy": {"in place": numpy, "formula": plain}},
        {"kind": "step", "shrink": 1.0, "step": STEP, "agents": push}, {"w": w, "y": y, "threshold": threshold},
        lambda r: total(*r), lambda s: s["part: triad"] * 4 / 3, "4/3 of a NumPy triad: it moves w, y, w_hat, z",
        ("ratio", 1.5),
        {"triad": lambda: np.add(w, y, out=v), "w_hat alone": lambda: kernels.proximal_step(
            None, w_hat, w, y, tau, STEP, float(agents), *groups)},
    )  # fmt: skip
