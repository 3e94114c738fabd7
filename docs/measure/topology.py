"""The same data on eight graphs of 16 agents: writes figures/topology.{png,csv}.

Run as ``python -m docs.measure.topology`` in the checkout; about a minute.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from dnnext import DecentralizedMLPClassifier, Schedule, Topology
from dnnext.display.frame import GAP, PALETTE, STYLE, STYLES

FIGURES = Path(__file__).parents[1] / "figures"
N = 16
TARGET = 0.05  # gap to the best objective of all graphs


def graphs():
    for name in ("path", "ring", "star", "torus", "erdos_renyi", "hypercube", "complete"):
        yield name.replace("_", " "), Topology.from_name(name, N, random_state=0)
    yield "ring, links fail (30 %)", Schedule.link_failures(Topology.ring(N), p=0.3, random_state=0)
    yield "one-peer exponential", Schedule.one_peer_exponential(N)


def main():
    X, y = load_breast_cancer(return_X_y=True)
    runs = {}
    for name, net in graphs():
        model = DecentralizedMLPClassifier((10,), topology=net, partition="label", max_iter=80, tol=0.0, random_state=0)
        runs[name] = net, model.fit(X, y)
    best = min(model.history_["objective"].min() for _, model in runs.values())
    rows = []
    for name, (net, model) in runs.items():
        history = model.history_
        hit = np.flatnonzero(history["objective"] <= (1 + TARGET) * best)
        at = hit[0] if len(hit) else -1
        fixed = isinstance(net, Topology)
        rows.append(
            {
                "graph": name,
                "links": net.n_edges if fixed else f"up to {net.union.n_edges}",
                "spectral gap": f"{net.spectral_gap:.3f}" if fixed else "",
                "rounds per iteration": f"{history['round'][-1] / history['iteration'][-1]:.1f}".removesuffix(".0"),
                "iterations": history["iteration"][at] if len(hit) else "> 80",
                "rounds": history["round"][at] if len(hit) else f"> {history['round'][-1]}",
                "MB sent": f"{history['bytes'][at] / 1e6:.1f}" if len(hit) else f"> {history['bytes'][-1] / 1e6:.1f}",
            }
        )
    shown = ("path", "ring", "torus", "complete", "ring, links fail (30 %)", "one-peer exponential")
    with plt.rc_context(STYLE | {"figure.dpi": 100}):
        figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained", sharey=True)
        for k, name in enumerate(shown):
            history = runs[name][1].history_
            gap = history["objective"] / best - 1
            for ax, unit, scale in zip(axes, ("iteration", "round", "bytes"), (1, 1, 1e6), strict=True):
                ok = (history[unit] > 0) & (gap > 1e-3)
                ax.plot(history[unit][ok] / scale, gap[ok], color=PALETTE[k], ls=STYLES[k], label=name)
        for ax, label in zip(axes, ("iterations", "rounds of messages", "MB sent by all agents"), strict=True):
            ax.set(xscale="log", yscale="log", xlabel=label)
        axes[0].set_ylabel(GAP)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        FIGURES.mkdir(exist_ok=True)
        figure.savefig(FIGURES / "topology.png")
    with open(FIGURES / "topology.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
