"""A Kronecker metric from layer statistics beside other models: ``python -m bench.convergence.metrics [--quick]``.

Ten agents over a ring hold 1347 of scikit-learn's digits and train a perceptron and a convolution net with NEXT: full
linearisation (FL) in the Euclidean metric and in a Kronecker one, partial linearisation (PL). The factors are those of
K-FAC: of a weight matrix between states x and z = x W, the mean of x x' and the mean of delta delta', delta the
derivatives of the outputs in z times the root of the loss' curvature; of a convolution sums over the patches of an
image and means over its places. Both get an identity, so that the metric is at least .01 of the identity where they are
small. The statistics are taken once at the start (a mean over all agents), or anew every 25 iterations. Biases are
Euclidean. All else is at its default; iterations and CPU seconds, statistics included, to objectives so many per cent
above the lowest that any of them reached. Writes bench/results/metrics.md and .csv.

J. Martens, R. Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, ICML 2015; R. Grosse,
J. Martens, A Kronecker-factored approximate Fisher matrix for convolution layers, ICML 2016.
"""

import argparse
import time
from typing import Any

import numpy as np

from bench.convergence.images import images
from bench.machine import software
from bench.study import write_table
from dnnext.algorithms import NEXT
from dnnext.kernels import layer_formulas as formulas
from dnnext.kernels.activations import FUNCTIONS
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten
from dnnext.models.inner_products import Kronecker
from dnnext.models.layer import adjoint_all, forward_all
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax

DAMPING, AGENTS, ANEW = 0.01, 10, 25
NETS: dict[str, list[Any]] = {
    "perceptron": [Flatten(), Dense(40, "tanh"), Dense()],
    "convolutions": [
        Conv2d(8, 3, padding=1, activation="tanh"), Conv2d(16, 3, stride=2, padding=1, activation="tanh"), Flatten(),
        Dense(),
    ],
}  # fmt: skip
GAPS = (0.3, 0.1, 0.03, 0.01)
Array = np.ndarray[Any, Any]


def statistics(model: Chain, w: Array, x: Array, loss: Any, target: Array) -> dict[str, tuple[Array, Array]]:
    """Factors of every weight at w (P,), from the rows x of all agents: rows and columns as `Kronecker` reads them."""
    layers, parts = model.layers, model.layout.unpack(w)
    owned = [[parts[f"layer{k}.{part[0]}"] for part in layer.parts()] for k, layer in enumerate(layers, 1)]
    keeps: list[dict[str, Any]] = [{} for _ in layers]
    f = forward_all(layers, [a for own in owned for a in own], x.reshape(len(x), *(layers[0].shape_in or ())), keeps)
    root = loss.curvature_root(f, target)
    columns = root[:, :, None] * np.eye(root.shape[1]) if root.ndim == 2 else root
    found: dict[str, tuple[Array, Array]] = {}
    for q in range(columns.shape[2]):
        h = columns[:, :, q]
        for k in range(len(layers) - 1, -1, -1):
            layer, keep = layers[k], keeps[k]
            if isinstance(layer, Dense | Conv2d):
                delta = FUNCTIONS[layer.activation].slope(keep["z"], keep["a"]) * h
                add(found, f"layer{k + 1}.weight", layer, keep["x"], delta, q == 0)
            h = adjoint_all([layer], owned[k], [keep], h, None)[0]
    return {name: damped(*pair) for name, pair in found.items()}


def add(found: dict[str, Any], name: str, layer: Any, x: Array, delta: Array, first: bool) -> None:
    """The share of one column of the root."""
    if isinstance(layer, Dense):
        inputs, outputs = x, delta
    else:
        size = layer.parts()[0][1][2:]
        inputs = np.moveaxis(formulas.windows(x, size, **layer._window), 1, 3).reshape(-1, x.shape[1] * np.prod(size))
        outputs = np.moveaxis(delta, 1, 3).reshape(-1, delta.shape[1])
    share = outputs.T @ outputs / len(outputs)
    found[name] = (inputs.T @ inputs / len(x), share) if first else (found[name][0], found[name][1] + share)


def damped(inputs: Array, outputs: Array) -> tuple[Array, Array]:
    """Both with an identity, shared out by their sizes."""
    sizes = [np.trace(m) / len(m) + 1e-12 for m in (inputs, outputs)]
    ratio = np.sqrt(sizes[0] / sizes[1])
    return (
        inputs + ratio * np.sqrt(DAMPING) * np.eye(len(inputs)),
        outputs + np.sqrt(DAMPING) / ratio * np.eye(len(outputs)),
    )


def metric_of(model: Chain, w: Array, x: Array, loss: Any, target: Array) -> Kronecker:
    """Dense weights are (inputs, units); filters are (filters, patch)."""
    pairs = statistics(model, w, x, loss, target)
    kinds = {f"layer{k}.weight": isinstance(layer, Conv2d) for k, layer in enumerate(model.layers, 1)}
    return Kronecker({name: pair[::-1] if kinds[name] else pair for name, pair in pairs.items()})


def run(kind: str, method: str, n_iter: int) -> tuple[list[tuple[float, float, float]], float]:
    """(iteration, seconds, objective) along the way, and the test error."""
    x, y, x_test, y_test = images("digits")
    x, target = x.astype(np.float32), np.eye(10, dtype=np.float32)[y]
    model, loss = Chain(NETS[kind]).sized(x.shape[1:], 10), Softmax()
    shards = [(x[i::AGENTS], target[i::AGENTS]) for i in range(AGENTS)]
    problem = Problem(model, loss, L2(5 / len(x)), shards, n_threads=1, dtype="float32")
    w, looked, left = model.init(0, np.float32), list[tuple[float, float, float]](), n_iter
    start, paused = time.process_time(), 0.0

    def look(state: Any, metrics: Any) -> None:
        nonlocal paused
        begin = time.process_time()
        value = problem.value((state.w.sum(axis=0) / AGENTS).astype(np.float32))
        paused += time.process_time() - begin
        looked.append((n_iter - left + state.t, time.process_time() - start - paused, float(value)))

    while left:
        surrogate: Any = PartialLinearization() if method == "PL" else FullLinearization()
        if method.startswith("FL, Kronecker"):
            surrogate = FullLinearization(metric_of(model, w, x, loss, target))
        now = min(left, ANEW) if method.endswith("anew") else left
        options = {"max_iter": now, "monitor_every": now, "callbacks": [look], "warn": False}
        w = NEXT(surrogate).run(problem, Network(Topology.ring(AGENTS)), w0=w, **options).w_bar
        left -= now
    f = model.forward(w[None], Rows(x_test.astype(np.float32), np.array([0, len(x_test)])))
    return looked, float(np.mean(f.argmax(axis=1) != y_test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few iterations, nothing written")
    quick, rows = parser.parse_args().quick, []
    lengths = {"FL": 600, "FL, Kronecker": 300, "FL, Kronecker, anew": 300, "PL": 100}
    for kind in NETS:
        found = {method: run(kind, method, n // 10 if quick else n) for method, n in lengths.items()}
        lowest = min(value for looked, _ in found.values() for *_, value in looked)
        for method, (looked, error) in found.items():
            cells = []
            for gap in GAPS:
                first = next(((t, s) for t, s, value in looked if value <= (1 + gap) * lowest), None)
                cells.append("never" if first is None else f"{first[0]} ({first[1]:.1f} s)")
            rows.append([kind, method, *cells, f"{looked[-1][2]:.4f}", f"{error:.4f}"])
            print(" | ".join(rows[-1]), flush=True)
    if not quick:
        header = ("net", "method", *(f"within {gap:.0%}" for gap in GAPS), "objective at the end", "test error")
        notes = f"{(__doc__ or '').split(chr(10), 2)[2].strip()}\n\n{software()}"
        write_table("metrics", "A Kronecker metric from layer statistics", header, rows, notes)


if __name__ == "__main__":
    main()
