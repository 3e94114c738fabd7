"""
Lost, late and doubled messages
===============================

Radios lose messages, one direction at a time, deliver some late and others twice, and a station may be off for a
while. `Faults` draws all of this from a seed. Two networks train on it all the same: `KnownLoss`, where both ends know
that a message was lost, and `RunningSums`, where neither does and the next message repairs the loss.
"""

import numpy as np
from sklearn.datasets import load_diabetes

from dnnext import ConvergenceDisplay, Topology
from dnnext.algorithms import NEXT
from dnnext.network import Faults, KnownLoss, Network, RunningSums
from dnnext.problem import L2, MLP, Problem, SquaredError

X, y = load_diabetes(return_X_y=True)
X, y = (X - X.mean(axis=0)) / X.std(axis=0), ((y - y.mean()) / y.std())[:, None]
order = np.argsort(y[:, 0])  # sorted by target: every agent sees another part of it
shards = [(X[rows], y[rows]) for rows in np.array_split(order, 8)]
model = MLP([10, 5, 1])
problem = Problem(model, SquaredError(), L2(alpha=1e-2), shards=shards)
net = Topology.grid(2, 4)

# %%
# One message in five is lost, the others arrive up to two rounds late, every tenth twice, and agent 3 is off from round
# 20 to round 60.

faults = Faults(loss=0.2, delay=2, duplicate=0.1, away={3: (20, 60)}, random_state=0)
networks = {
    "nothing lost": Network(net, mixing_rounds=4),
    "loss is known": KnownLoss(net, faults, mixing_rounds=8),
    "loss is not known": RunningSums(net, faults, mixing_rounds=8),
}
results = {
    name: NEXT().run(problem, network, w0=model.init(random_state=0), max_iter=80)
    for name, network in networks.items()
}

# %%
for name, result in results.items():
    end, rounds = result.history["objective"][-1], result.history["round"][-1]
    print(f"{name:14s} objective {end:.4f} after {rounds} rounds")

ConvergenceDisplay.from_results(results, y=["objective", "disagreement"])

# %%
# The same seed gives the same faults, so that a run which went wrong can be run again. An agent that never comes back
# takes its share of the tracked sum with it, which no weights can repair: the run then ends with an error
# that names it.
