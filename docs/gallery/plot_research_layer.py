"""
The layer below: a problem, a network, an algorithm
===================================================

The estimators stand on three nouns and a verb, ``algorithm.run(problem, network)``, which read like the papers. Here a
penalty that the package does not have is written in a few lines and used at once.
"""

import numpy as np
from sklearn.datasets import load_diabetes

from dnnext import ConvergenceDisplay, Topology
from dnnext.algorithms import DGD, NEXT, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network
from dnnext.problem import L2, MLP, Problem, SquaredError

X, y = load_diabetes(return_X_y=True)
X, y = (X - X.mean(axis=0)) / X.std(axis=0), ((y - y.mean()) / y.std())[:, None]
parts = np.array_split(np.random.default_rng(0).permutation(len(X)), 8)
shards = [(X[rows], y[rows]) for rows in parts]
model = MLP([10, 6, 1], activation="tanh")

# %%
# Four algorithms from one start on one graph.

problem = Problem(model, SquaredError(), L2(alpha=1e-2), shards=shards)
w0 = model.init(random_state=0)
algorithms = {
    "NEXT, partial": NEXT(surrogate=PartialLinearization()),
    "NEXT, full": NEXT(surrogate=FullLinearization()),
    "gradient tracking": GradientTracking(step=0.5),
    "DGD": DGD(step=0.5),
}
results = {
    name: algorithm.run(problem, Network(Topology.torus(2, 4)), w0=w0, max_iter=60)
    for name, algorithm in algorithms.items()
}
ConvergenceDisplay.from_results(results, y=["objective", "stationarity"])

# %%
# The tracking invariant: the mean of the trackers is the mean of the local gradients, on every graph.

result = results["NEXT, partial"]
print(np.abs(result.y.mean(axis=0) - problem.grad(result.w).mean(axis=0)).max())

# %%
# What an iteration of NEXT costs on the wire: each row is ``[z | y | beta]``, sent over every link in both directions,
# once per round.

net = Topology.torus(2, 4)
row = (2 * problem.n_params + 1) * 8
print(f"{2 * net.n_edges} messages of {row} bytes in each round")
print(f"{net.mixing_rounds} rounds per iteration")
print(2 * net.n_edges * row * net.mixing_rounds == result.history["bytes"][1])
