"""One-shot training in depth against layer after layer: peaks, SciPy's L-BFGS on all rows, and NEXT on four agents.

``python -m bench.convergence.layer_parallel`` writes bench/results/layer_parallel.md and .png, and ends with exit code
1 if a claim is missed. Finished runs are kept in bench/results/cache, so that an interrupted study goes on where it
stopped; ``--fresh`` runs them anew, ``--quick`` runs one seed of fewer updates and writes nothing. Nothing is timed: on
a few cores multigrid in depth cannot be faster; what is counted is the longest chain of layers that one rank computes
one after another.
"""

import argparse
from functools import partial

import numpy as np
from scipy.optimize import minimize

from bench.machine import software
from bench.study import RESULTS, Claim, kept, markdown, plots, save_figure
from dnnext.algorithms import NEXT
from dnnext.datasets import make_peaks
from dnnext.display.frame import MUTED, OURS
from dnnext.local import FullLinearization, LayerParallel
from dnnext.local.layer_parallel import SHARE
from dnnext.models import MGRIT, ResNet, Rows
from dnnext.network import Network, Topology
from dnnext.problem import Problem, Softmax
from dnnext.problem.depth import DepthPenalty

TIKHONOV, SMOOTHNESS = 1e-7, 1e-5
KINDS = {
    "serial": LayerParallel(switch="serial"),
    "two cycles": LayerParallel(2, 2, switch="never"),
    "one cycle": LayerParallel(1, 1, switch="never"),
    "one cycle, switch='auto'": LayerParallel(1, 1),
}
SEEDS, LONG, RING_SEEDS = 10, 1000, 3  # of the table; updates of the figure; of the ring
NEAR, NEAR_STARTS = 0.01, 6  # relative change of a start, and how many such starts show what chance does
EXACT_FROM = 5, 10, 190  # iterations after which a run that began with cycles goes on with exact gradients
EXPERIMENT = "layer_parallel"


def start(model, seed):
    """N(0, 1 / inputs) at both ends, a tenth of that between, zero biases."""
    rng, row = np.random.default_rng(seed), np.zeros(model.layout.n_params)
    for part in model.layout.parts:
        if part.name.endswith("weight"):
            scale = (0.1 if part.name.startswith("layer") else 1.0) / np.sqrt(part.shape[0])
            row[part.columns] = scale * rng.standard_normal(part.size)
    return row


def depth_slope(model, w):
    """The gradient of `DepthPenalty`."""
    gradient = TIKHONOV * w
    layers, slope = model.split(w)[1], model.split(gradient)[1]
    steps = np.diff(layers, axis=0) / model.h
    slope[1:] += SMOOTHNESS * steps / model.h
    slope[:-1] -= SMOOTHNESS * steps / model.h
    return gradient


class OneShot:
    """Objective and gradient on all rows by an oracle that keeps its states."""

    def __init__(self, model, x, labels, oracle):
        penalty = DepthPenalty(TIKHONOV, SMOOTHNESS, h=model.h)
        self.problem = Problem(model, Softmax(), penalty, [(x, np.eye(5)[labels])])
        self.oracle, self.memory = oracle, {}
        self.n_calls = self.n_layers = 0  # calls, and layers one after another on as many ranks as intervals
        self.chain = MGRIT(None, model.n_layers, sweep=lambda *_: None).critical_path(10**6)

    def __call__(self, w):
        """(objective, gradient), as SciPy takes them."""
        is_first, extra = not self.memory, int(self.memory.get("layers.extra", [0])[0])
        out = np.empty((1, len(w)))
        value = self.oracle(self.problem, w[None], out, self.memory)[0]
        serial = self.oracle.switch == "serial" or extra < 0
        cycles = self.oracle.forward_cycles + self.oracle.adjoint_cycles + 2 * (extra + is_first)
        self.n_calls += 1
        self.n_layers += 2 * self.problem.model.n_layers if serial else cycles * self.chain
        return value + self.problem.penalty.value(w), out[0] + depth_slope(self.problem.model, w)


def descend(train, w, updates, callback=None):
    """SciPy's L-BFGS; where its line search gives up, as it may on inexact gradients, it begins anew. (w, times)"""
    left, begun = updates, 0
    while left > 0 and begun < 50:
        options = {"maxiter": left, "maxcor": 20, "ftol": 0.0, "gtol": 1e-9, "maxfun": 10**6}
        found = minimize(train, w, jac=True, method="L-BFGS-B", options=options, callback=callback)
        w, left, begun = found.x, left - max(found.nit, 1), begun + 1
    return w, begun


def one_shot(n_layers, updates, seed, oracle, callback=None):
    """(objective by exact propagation, validation accuracy, layers one after another, calls, starts) of L-BFGS."""
    (x, labels), (x_new, labels_new) = make_peaks(200, seed), make_peaks(200, 1000 + seed)
    model = ResNet(n_layers, 8, 5.0, n_inputs=2, n_outputs=5)
    train, exact = OneShot(model, x, labels, oracle), OneShot(model, x, labels, KINDS["serial"])
    watch = None if callback is None else (lambda w: callback(exact(w)[0], train.memory["measure.gradient_error"][0]))
    w, begun = descend(train, start(model, seed), updates, watch)
    guess = model.forward(w[None], Rows.of(x_new)).argmax(axis=1)
    return exact(w)[0], float(np.mean(guess == labels_new)), train.n_layers, train.n_calls, begun


def decentralised(oracle, max_iter, n_layers=64, seed=0, near=0, exact_from=None):
    """(last objective, validation accuracy) of NEXT on a ring of four agents.

    near > 0: from another start near by; exact_from: the iteration after which gradients are exact.
    """
    (x, labels), (x_new, labels_new) = make_peaks(200, seed), make_peaks(200, 1000 + seed)
    shards = [(x[i::4], np.eye(5)[labels[i::4]]) for i in range(4)]
    model = ResNet(n_layers, 8, 5.0, n_inputs=2, n_outputs=5)
    w0 = start(model, seed)
    if near:
        w0 *= 1 + NEAR * np.random.default_rng(near).standard_normal(len(w0))
    problem = Problem(model, Softmax(), DepthPenalty(TIKHONOV, SMOOTHNESS, h=model.h), shards)

    def go_serial(state, measures):
        if state.t == exact_from:
            state.memory["layers.extra"][:] = -1

    options = {"max_iter": max_iter, "w0": w0, "monitor_every": 10, "warn": False, "callbacks": [go_serial]}
    result = NEXT(FullLinearization(), oracle=oracle).run(problem, Network(Topology.ring(4)), **options)
    if result.status == "interrupted":  # half a run is not kept
        raise KeyboardInterrupt
    guess = model.forward(result.w_bar[None], Rows.of(x_new)).argmax(axis=1)
    return result.history["objective"][-1], float(np.mean(guess == labels_new))


HEADER = (
    "layers, updates", "propagation", "objective", "ratio to serial", "standard error", "accuracy on new points",
    "layers one after another", "starts", "objective of each seed",
)  # fmt: skip
RING_HEADER = ("propagation", "objective", "accuracy on new points", "objective of each run")


def finished(settings, run, fresh):
    """What a run returned, from the kept ones if it was done before."""
    return kept(EXPERIMENT, settings, lambda: {"numbers": run()}, fresh)["numbers"]


def of_switch(oracle):
    """The oracle by name, and what its switch accepts, if it has one."""
    return repr(oracle) + (f", share {SHARE}" if oracle.switch == "auto" else "")


def table(n_layers, updates, seeds, kinds=("serial", "two cycles", "one cycle"), fresh=False, means=None):
    """Rows of the table: one for each kind, means over seeds (into `means`, too) and ratios to the first kind."""
    rows, first = [], None
    for name in kinds:
        settings = {"method": "L-BFGS", "layers": n_layers, "updates": updates, "propagation": name}
        runs = np.array(
            [
                finished(settings | {"seed": seed}, partial(one_shot, n_layers, updates, seed, KINDS[name]), fresh)
                for seed in seeds
            ]
        )
        first = runs if first is None else first
        each = " ".join(f"{v:.3f}" for v in runs[:, 0])
        objective, accuracy, layers, _, begun = runs.mean(axis=0)
        if means is not None:
            means[n_layers, name] = objective, accuracy, layers
        ratio, spread = objective / first[:, 0].mean(), np.std(np.log(runs[:, 0] / first[:, 0])) / len(runs) ** 0.5
        few = runs[:3, 0].mean() / first[:3, 0].mean()
        numbers = f"{objective:.4f}", f"{ratio:.2f} ({few:.2f})", f"{spread:.2f}", f"{accuracy:.3f}"
        sweeps = f"{layers:.0f} ({layers / first[:, 2].mean():.2f})"
        rows.append([f"{n_layers}, {updates}", name, *numbers, sweeps, f"{begun:.1f}", each])
        print(rows[-1], flush=True)
    return rows


def claims(means, ends):
    """What layer-parallel training must reach: with few cycles, and with the switch."""
    serial, two, one = (means[64, name] for name in ("serial", "two cycles", "one cycle"))
    ratio, worse, apart = two[0] / serial[0], one[0] / serial[0], abs(two[1] - serial[1])
    chains = [means[n, "two cycles"][2] / means[n, "serial"][2] for n in (128, 256)]
    stalled, mended = (ends[name] / ends["serial"] for name in ("one cycle", "one cycle, switch='auto'"))
    return [
        Claim("64 layers: accuracy with two cycles within .02 of serial", f"{apart:.3f}", apart <= 0.02),
        Claim("64 layers: objective with two cycles at most 1.15 times serial", f"{ratio:.2f}", ratio <= 1.15),
        Claim("64 layers: objective with one cycle at least 1.3 times serial", f"{worse:.2f}", worse >= 1.3),
        Claim(
            "128 and 256 layers: a chain at most half as long", f"{chains[0]:.2f} {chains[1]:.2f}", max(chains) <= 0.5
        ),
        Claim("without the switch one cycle stalls, at least 1.3 times serial", f"{stalled:.2f}", stalled >= 1.3),
        Claim("with the switch it comes as low as serial, or lower", f"{mended:.2f}", mended <= 1.05),
    ]


def networks(max_iter, fresh=False):
    """Rows of the table of NEXT on four agents: every kind over seeds, then what becomes of the first seed."""
    rows, last = [], "one cycle, switch='auto'"
    runs = [(name, KINDS[name], [{"seed": seed, "near": 0} for seed in range(RING_SEEDS)]) for name in KINDS]
    near = [{"seed": 0, "near": near} for near in range(1, NEAR_STARTS + 1)]
    runs.append(("serial, starts near that of the first seed", KINDS["serial"], near))
    exact = [{"seed": 0, "near": 0, "exact_from": t} for t in EXACT_FROM]
    runs.append((f"{last}, first seed, exact after {EXACT_FROM} iterations", KINDS[last], exact))
    for name, oracle, how in runs:
        settings = {"method": "NEXT", "iterations": max_iter, "propagation": of_switch(oracle)}
        ends = [finished(settings | own, partial(decentralised, oracle, max_iter, **own), fresh) for own in how]
        objective, accuracy = np.mean(ends, axis=0)
        each = " ".join(f"{value:.4f}" for value, _ in ends)
        rows.append([name, f"{objective:.4f}", f"{accuracy:.3f}", each])
        print(rows[-1], flush=True)
    return rows


def curve(name, updates):
    """Objective and estimated error along L-BFGS, and the objective at its end."""
    rows = []
    end = one_shot(64, updates, 0, KINDS[name], lambda value, error: rows.append((value, error)))[0]
    return [[float(value), float(error)] for value, error in rows], end


def figure(updates, fresh=False):
    """Objective and estimated error along L-BFGS, with and without the switch; the objectives at the end."""
    fig, ((left, right),) = plots(1, 2)
    ends, names = {}, ("serial", "one cycle", "one cycle, switch='auto'")
    for name, colour in zip(names, (MUTED[4], MUTED[0], OURS["color"]), strict=True):
        settings = {"method": "L-BFGS, curve", "updates": updates, "propagation": of_switch(KINDS[name])}
        rows, ends[name] = finished(settings, partial(curve, name, updates), fresh)
        values, errors = np.array(rows).T
        left.semilogy(values, color=colour, label=name)
        left.plot(len(values) - 1, values[-1], "o", color=colour)
        if name != "serial":
            right.semilogy(np.maximum(errors, 1e-6), color=colour, label=name)
    left.set(xlabel="update", ylabel="objective (exact propagation)", title="L-BFGS, 64 layers")
    right.axhline(SHARE, color="0.8", linewidth=1)
    right.set(xlabel="update", ylabel="estimated relative error", title="error of the gradient")
    left.legend(frameon=False)
    right.legend(frameon=False)
    save_figure(fig, "layer_parallel", f"Peaks, 64 layers of width 8, {updates} updates of L-BFGS, one seed")
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed of fewer updates; nothing is written")
    parser.add_argument("--fresh", action="store_true", help="no run of before is used")
    asked = parser.parse_args()
    if asked.quick:
        table(64, 40, [0], fresh=True)
        return
    fresh = asked.fresh
    ends, over_ring, means = figure(LONG, fresh), networks(400, fresh), {}
    rows = table(64, 300, range(SEEDS), fresh=fresh, means=means) + table(128, 100, range(3), fresh=fresh, means=means)
    rows += table(256, 60, range(3), ("serial", "two cycles"), fresh, means)
    found = claims(means, ends)
    lines = [
        f"Training residual networks by multigrid in depth, peaks, width 8, T = 5. {software()}.",
        "",
        "SciPy's L-BFGS (memory 20) on all rows, 1000 for training and 1000 others, both ends begun with variance",
        "1 / inputs, layers with a hundredth of it. The objective is taken again by exact propagation; in brackets: of",
        "the first three seeds. The standard error is that of the mean logarithm of paired ratios. Layers one after",
        "another are those of states and adjoints on as many ranks as there are intervals. Where SciPy's line search",
        "gave up on inexact values, it began anew: starts.",
        "",
        markdown(HEADER, rows),
        "",
        f"One seed, {LONG} updates (the figure), objective at the end: "
        + "; ".join(f"{name} {value:.4f}" for name, value in ends.items())
        + ".",
        "",
        "![objective and error of the gradient](layer_parallel.png)",
        "",
        f"NEXT on a ring of four agents, 64 layers, 400 iterations without a line search, means of {RING_SEEDS} seeds;",
        f"below: {NEAR_STARTS} starts whose weights differ from the first seed's by {NEAR:.0%}, and runs that",
        "begin with cycles and go on with exact gradients.",
        "",
        markdown(RING_HEADER, over_ring),
        "",
        *(f"- {claim}" for claim in found),
    ]
    (RESULTS / "layer_parallel.md").write_text("\n".join(lines) + "\n")
    print(*found, sep="\n")
    raise SystemExit(not all(claim.holds for claim in found))


if __name__ == "__main__":
    main()
