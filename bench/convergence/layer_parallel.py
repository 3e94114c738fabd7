"""One-shot training in depth against layer after layer: peaks, L-BFGS on pooled rows, and NEXT on four agents.

``python -m bench.convergence.layer_parallel`` writes bench/results/layer_parallel.md and .png; ``--quick`` runs one
seed of fewer updates and writes nothing. Nothing is timed: on a few cores multigrid in depth cannot be faster; what is
counted is the longest chain of layers that one rank computes one after another.
"""

import argparse

import numpy as np

from bench.machine import software
from bench.study import MUTED, OURS, RESULTS
from dnnext.algorithms import NEXT
from dnnext.datasets import make_peaks
from dnnext.local import FullLinearization, LayerParallel
from dnnext.models import ResNet, Rows
from dnnext.models.layer_parallel import Grid, Propagation
from dnnext.network import Network, Topology
from dnnext.problem import Problem, Softmax

TIKHONOV, SMOOTHNESS = 1e-7, 1e-5
KINDS = {"serial": None, "two cycles": 2, "one cycle": 1}


def depth_penalty(model, w):
    """``TIKHONOV / 2 |w|^2 + SMOOTHNESS / 2 sum_n |(theta_n - theta_n-1) / h|^2`` and its gradient."""
    gradient = TIKHONOV * w
    layers, slope = model.split(w)[1], model.split(gradient)[1]
    steps = np.diff(layers, axis=0) / model.h
    slope[1:] += SMOOTHNESS * steps / model.h
    slope[:-1] -= SMOOTHNESS * steps / model.h
    return TIKHONOV / 2 * w @ w + SMOOTHNESS / 2 * np.sum(steps**2), gradient


class OneShot:
    """Objective and gradient on all rows from so many cycles of kept states; None: exactly."""

    def __init__(self, model, x, labels, n_cycles):
        self.model, self.x, self.n_cycles = model, x, n_cycles
        self.target, self.labels = np.eye(5)[labels], labels
        self.u = self.adjoint = None
        self.n_calls = self.n_layers = 0  # calls, and layers one after another on as many ranks as intervals

    def __call__(self, w):
        net = Propagation(self.model, w, self.x, Grid())
        is_first = self.u is None
        n_cycles = None if self.n_cycles is None else self.n_cycles + is_first
        if is_first:
            self.u = net.start()
        net.states(self.u, n_cycles)
        f = net.outputs(self.u)
        share = np.exp(f - f.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        value = -np.mean(np.log(share[np.arange(len(f)), self.labels]))
        delta = (share - self.target) / len(f)
        if is_first:
            self.adjoint = np.repeat(
                self.model.pull_output(net.output, self.u[-1], delta)[0][None], net.n_points, axis=0
            )
        net.adjoints(self.adjoint, self.u, delta, n_cycles)
        gradient = np.empty_like(w)
        net.gradient(self.u, self.adjoint, delta, gradient)
        self.n_calls += 1
        self.n_layers += 2 * (self.model.n_layers if n_cycles is None else n_cycles * net.down.critical_path(10**6))
        more, slope = depth_penalty(self.model, w)
        return value + more, gradient + slope


def direction(gradient, pairs):
    """``-H gradient`` by the two loops of L-BFGS; pairs of steps and gradient changes, oldest first."""
    p, weights = -gradient, []
    for s, q in reversed(pairs):
        weights.append(s @ p / (s @ q))
        p = p - weights[-1] * q
    if pairs:
        s, q = pairs[-1]
        p = p * (s @ q) / (q @ q)
    for (s, q), weight in zip(pairs, reversed(weights), strict=True):
        p = p + (weight - q @ p / (s @ q)) * s
    return p


def descend(train, w, updates, memory=20):
    """L-BFGS with halved steps that asks for Armijo's decrease of the inexact value alone: SciPy's line search, which
    asks for a slope too, gives up on inexact gradients."""
    value, gradient = train(w)
    pairs = []
    for _ in range(updates):
        p = direction(gradient, pairs)
        if gradient @ p >= 0:
            pairs, p = [], -gradient
        length = 1.0 if pairs else min(1.0, 1 / np.linalg.norm(gradient))
        for _ in range(15):
            trial, slope = train(w + length * p)
            if trial <= value + 1e-4 * length * (gradient @ p):
                break
            length /= 2
        step, change = length * p, slope - gradient
        if step @ change > 1e-12 * np.linalg.norm(step) * np.linalg.norm(change):
            pairs = [*pairs, (step, change)][-memory:]
        w, value, gradient = w + step, trial, slope
    return w


def one_shot(n_layers, updates, seed, n_cycles):
    """(objective by exact propagation, validation accuracy, layers one after another) after L-BFGS updates."""
    (x, labels), (x_new, labels_new) = make_peaks(200, seed), make_peaks(200, 1000 + seed)
    model = ResNet(n_layers, 8, 5.0, n_inputs=2, n_outputs=5)
    train = OneShot(model, x, labels, n_cycles)
    w = descend(train, model.init(seed), updates)
    guess = model.forward(w[None], Rows.of(x_new)).argmax(axis=1)
    return OneShot(model, x, labels, None)(w)[0], float(np.mean(guess == labels_new)), train.n_layers


def decentralised(oracle, max_iter, n_layers=64, seed=0):
    """History of NEXT on a ring of four agents."""
    x, labels = make_peaks(200, seed)
    shards = [(x[i::4], np.eye(5)[labels[i::4]]) for i in range(4)]
    problem = Problem(ResNet(n_layers, 8, 5.0, n_inputs=2, n_outputs=5), Softmax(), None, shards)
    recipe = NEXT(FullLinearization(), oracle=oracle)
    return recipe.run(problem, Network(Topology.ring(4)), max_iter=max_iter, random_state=seed, warn=False).history


def table(n_layers, updates, seeds):
    """Rows of the Markdown table: one for each kind, means over seeds."""
    rows = []
    for name, n_cycles in KINDS.items():
        runs = np.array([one_shot(n_layers, updates, seed, n_cycles) for seed in seeds])
        each = ", ".join(f"{v:.4f}" for v in runs[:, 0])
        mean = runs.mean(axis=0)
        rows.append(f"| {n_layers}, {updates} | {name} | {mean[0]:.4f} ({each}) | {mean[1]:.3f} | {mean[2]:.0f} |")
        print(rows[-1], flush=True)
    return rows


def figure(path, max_iter):
    """Objective and estimated error of NEXT on four agents, with and without the switch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    oracles = {
        "exact gradients": None,
        "one cycle, switch='auto'": LayerParallel(1, 1),
        "one cycle, never switched": LayerParallel(1, 1, switch="never"),
    }
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    ends = {}
    for (name, oracle), colour in zip(oracles.items(), (MUTED[4], OURS["color"], MUTED[0]), strict=True):
        history = decentralised(oracle, max_iter)
        left.semilogy(history["iteration"], history["objective"], color=colour, label=name)
        ends[name] = history["objective"][-1]
        if "gradient_error" in history:
            right.semilogy(history["iteration"], np.maximum(history["gradient_error"], 1e-16), color=colour, label=name)
    left.set(xlabel="iteration", ylabel="objective", title="NEXT on four agents, 64 layers")
    right.axhline(0.1, color="0.8", linewidth=1)
    right.set(xlabel="iteration", ylabel="estimated relative error", title="error of the gradient (worst agent)")
    left.legend(frameon=False)
    right.legend(frameon=False)
    fig.savefig(path, dpi=110)
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed of fewer updates; nothing is written")
    if parser.parse_args().quick:
        table(64, 40, [0])
        return
    rows = table(64, 300, range(3)) + table(128, 100, range(3))
    ends = figure(RESULTS / "layer_parallel.png", 200)
    lines = [
        f"Training residual networks by multigrid in depth, peaks, width 8, T = 5. {software()}.",
        "",
        "L-BFGS on all rows (1000 for training, 1000 others): the objective is taken again by exact propagation;",
        "layers one after another are those of states and adjoints on as many ranks as there are intervals.",
        "",
        "| layers, updates | propagation | objective (each seed) | accuracy on new points | layers one after another |",
        "|---|---|---:|---:|---:|",
        *rows,
        "",
        "NEXT with full linearisation on a ring of four agents, 64 layers, 200 iterations, objective at the end: "
        + "; ".join(f"{name} {value:.4f}" for name, value in ends.items())
        + ".",
        "",
        "![objective and error of the gradient](layer_parallel.png)",
    ]
    (RESULTS / "layer_parallel.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
