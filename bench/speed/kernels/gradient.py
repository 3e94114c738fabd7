"""Loss and gradient of all agents. Limit: the flops at the rate of NumPy's 1000^3 product, measured beside."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.speed.kernels import formulas
from bench.speed.kernels.clock import Row, total
from dnnext import kernels

# name: agents, rows each, layers, reach in double and single
SHAPES: dict[str, tuple[int, int, tuple[int, int, int], Any, Any]] = {
    "tiny": (10, 100, (10, 10, 1), ("ratio", 2.5), ("ratio", 2.5)),
    "tiny, 100 agents": (100, 100, (10, 10, 1), ("ratio", 2.5), ("ratio", 2.5)),
    "tiny, more rows": (10, 500, (8, 20, 1), ("ratio", 2.5), ("ratio", 2.5)),
    "medium": (1, 1000, (30, 30, 2), ("ratio", 2.0), ("ratio", 2.0)),
    "large": (1, 5000, (64, 100, 10), ("limit", 0.8), ("limit", 0.65)),
    "large, MNIST": (1, 6000, (784, 100, 10), ("limit", 0.8), ("limit", 0.65)),
}


def network(agents: int, rows: int, layers: tuple[int, int, int], dtype: Any) -> dict[str, np.ndarray]:
    """Weights with a leading axis for agents, data; one-hot targets where Q > 1."""
    rng, (d, h, q) = np.random.default_rng(0), layers
    real = lambda *shape: (rng.standard_normal(shape) * 0.3).astype(dtype)  # noqa: E731
    target = np.eye(q, dtype=dtype)[rng.integers(0, q, (agents, rows))] if q > 1 else real(agents, rows, q)
    return {"w1": real(agents, d, h), "b1": real(agents, 1, h), "w2": real(agents, h, q), "b2": real(agents, 1, q),
            "x": real(agents, rows, d), "target": target}  # fmt: skip


def flat(t: dict[str, np.ndarray]) -> np.ndarray:
    """(A, P) rows of the weights."""
    return np.concatenate([t[k].reshape(len(t["x"]), -1) for k in ("w1", "b1", "w2", "b2")], axis=1)


def sklearn_loop(t: dict[str, np.ndarray]) -> Any:
    """scikit-learn's own backpropagation, agent by agent, all its arrays made before."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    agents, rows, d = t["x"].shape
    h, q = t["w2"].shape[1:]
    jobs = []
    for i in range(agents):
        kind = MLPClassifier if q > 1 else MLPRegressor
        model: Any = kind(hidden_layer_sizes=(h,), activation="tanh", alpha=0.0, max_iter=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = t["target"][i].argmax(axis=1) if q > 1 else t["target"][i, :, 0]
            model.fit(t["x"][i, : 20 * q], np.arange(20 * q) % q if q > 1 else y[:20])
        model.coefs_, model.intercepts_ = [t["w1"][i], t["w2"][i]], [t["b1"][i, 0], t["b2"][i, 0]]
        like = t["x"].dtype
        activations = [t["x"][i], np.empty((rows, h), like), np.empty((rows, q), like)]
        deltas = [np.empty((rows, h), like), np.empty((rows, q), like)]
        grads = [np.empty((d, h), like), np.empty((h, q), like)], [np.empty(h, like), np.empty(q, like)]
        jobs.append((model._backprop, (t["x"][i], t["target"][i], None, activations, deltas, *grads)))

    def loop() -> None:
        for backprop, (x, y, weight, activations, deltas, coefs, intercepts) in jobs:
            backprop(x, y, weight, activations, copy.copy(deltas), coefs, intercepts)

    return loop


def rows(quick: bool) -> Iterator[Row]:
    for name, (agents, n, layers, *reach) in SHAPES.items():
        for dtype, goal in zip((np.float64, np.float32), reach, strict=True):
            if quick and (name in ("tiny, 100 agents", "large, MNIST") or (dtype is np.float32 and name != "large")):
                continue
            yield gradient_row(name, agents, n, layers, dtype, goal)


def gradient_row(name: str, agents: int, n: int, layers: Any, dtype: Any, goal: Any) -> Row:
    t, scale = network(agents, n, layers, dtype), 1 / (agents * n)
    net, (d, h, q) = [t[k] for k in ("w1", "b1", "w2", "b2")], layers
    w = flat(t)
    value, grad, offsets = np.empty(agents), np.empty_like(w), np.arange(agents + 1, dtype=np.int64) * n
    x, target = t["x"].reshape(-1, d), t["target"].reshape(-1, q)
    loss = kernels.LOSSES["softmax" if q > 1 else "squared_error"]

    def ours(activation: str = "tanh", out: Any = grad) -> Any:
        code = kernels.ACTIVATIONS[activation]
        kernels.mlp_loss_grad(value, out, w, x, target, None, offsets, layers, code, loss, 1.0, scale)
        return value, grad

    def loop() -> None:
        for i in range(agents):
            formulas.gradient(np, *(a[i] for a in net), t["x"][i], t["target"][i], scale)

    factors = np.random.default_rng(0).random((3, 1000, 1000)).astype(dtype)
    flops = agents * n * (4 * d * h + 6 * h * q)
    tanh = name.startswith("tiny")

    def limit(s: dict[str, float]) -> float:
        activation = max(0.0, s["ours"] - s["part: without tanh"])
        return flops / 2e9 * s["part: 1000^3 product"] + (activation if tanh else 0.0)

    numpy = {"loop": loop, "batched": lambda: formulas.gradient(np, *net, t["x"], t["target"], scale)}
    here = {"NumPy": numpy if agents > 1 else {"one agent": loop}, "scikit-learn": {"_backprop": sklearn_loop(t)}}
    return Row(
        "loss + gradient", f"{name}: {agents} x ({n}, {d}, {h}, {q})", dtype, ours, here,
        {"kind": "gradient", "scale": scale}, t, lambda r: total(*r), limit,
        "flops at the rate of the product" + (" + our tanh" if tanh else ""), goal,
        {"without tanh": lambda: ours("identity"), "value alone": lambda: ours(out=None),
         "1000^3 product": lambda: np.matmul(factors[0], factors[1], out=factors[2])},
    )  # fmt: skip
