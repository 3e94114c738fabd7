"""Training while messages are lost: two answers beside the lossless run, four times its rounds.

nice python -m bench.robustness.faults
"""

import json
import sys

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

from bench.robustness.report import RESULTS, write_page
from dnnext.algorithms import NEXT
from dnnext.network import Faults, KnownLoss, Network, RunningSums, Topology
from dnnext.problem import L2, MLP, Logistic, Problem, SquaredError

A, LOSSES = 8, (0.05, 0.2, 0.5)
GRAPHS = {"ring": Topology.ring(A), "Erdos-Renyi": Topology.erdos_renyi(A, random_state=1)}
ANSWERS = {"known loss": (KnownLoss, 4, 1.0), "running sums": (RunningSums, 1, 0.5)}
SETTING = (
    "Eight agents, label-sorted parts, 5 hidden units, l2 1e-2. Known loss: weights re-formed, 4 plain rounds per "
    "iteration, step 1. Running sums: nobody reports a loss, 1 plain round, step 0.5."
)


def problems():
    for name, load, loss in (
        ("diabetes", load_diabetes, SquaredError()),
        ("breast cancer", load_breast_cancer, Logistic()),
    ):
        x, y = load(return_X_y=True)
        x = ((x - x.mean(0)) / x.std(0))[:, :10]
        if name == "diabetes":
            y = (y - y.mean()) / y.std()
        parts = np.array_split(np.argsort(y, kind="stable"), A)
        yield name, Problem(MLP([10, 5, 1]), loss, L2(1e-2), [(x[p], y[p]) for p in parts])


def lost(network, n_rounds):
    """(messages sent, messages lost) in so many rounds."""
    n = network.topology.n_messages
    late = [network.faults.arrivals(k, n)[0] for k in range(n_rounds)]
    return n * n_rounds, int(sum((each < 0).sum() for each in late))


def main():
    rows = []
    for name, problem in problems():
        for graph, net in GRAPHS.items():
            base = NEXT().run(problem, Network(net), max_iter=100, warn=False)
            goal, budget = base.history["objective"][-1], 4 * int(base.history["round"][-1])
            for answer, (kind, rounds, step) in ANSWERS.items():
                for loss in LOSSES:
                    network = kind(net, Faults(loss, random_state=0), mixing_rounds=rounds)
                    run = NEXT(step=step).run(problem, network, max_iter=budget // rounds, monitor_every=10, warn=False)
                    u, at = run.history["objective"], run.history["round"]
                    inside = np.flatnonzero(u <= 1.01 * goal)
                    sent, missing = lost(network, network.round)
                    rows.append({
                        "problem": name, "graph": graph, "answer": answer, "loss": loss, "messages": sent,
                        "missing": missing, "ratio": float(u[-1] / goal), "rounds": network.round, "budget": budget,
                        "reached": int(at[inside[0]]) if len(inside) else None, "status": run.status,
                    })  # fmt: skip
                    print(rows[-1], flush=True)
    (RESULTS / "faults.json").write_text(json.dumps({"setting": SETTING, "rows": rows}, indent=1))
    write_page()


if __name__ == "__main__":
    sys.exit(main())
