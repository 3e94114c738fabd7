"""
Block-parallel on all cores
===========================

One agent's convex problem has as many unknowns as the network has weights, and its matrix grows with their square. Cut
into blocks that are solved side by side with the others held fixed, only the diagonal blocks of the matrix are formed:
less work in all, and each block can have a core of its own.
"""

import os
import time

from sklearn.datasets import load_digits

from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization

X, y = load_digits(return_X_y=True)
print(f"{os.cpu_count()} cores")

# %%
# 985 weights, two agents with 898 rows each. ``solver="primal"`` keeps to the matrix of the weights, which is what is
# cut into blocks.

runs = {}
for n_blocks in (1, 4, 16):
    algorithm = NEXT(PartialLinearization(n_blocks=n_blocks, solver="primal"))
    model = DecentralizedMLPClassifier(
        (13,), n_agents=2, algorithm=algorithm, max_iter=8, tol=0, random_state=0
    )
    begin = time.perf_counter()
    model.fit(X, y)
    runs[f"{n_blocks} block{'s' * (n_blocks > 1)}"] = model
    each = (time.perf_counter() - begin) / model.n_iter_
    print(f"{n_blocks:2d} blocks: {1e3 * each:6.0f} ms per iteration")

# %%
# The blocks know nothing of each other within an iteration, so an iteration achieves less; by the clock they win where
# the single matrix is large.

ConvergenceDisplay.from_estimators(runs, x="iteration")

# %%
ConvergenceDisplay.from_estimators(runs, x="seconds")

# %%
# Threads change which core computes, never the result: the numbers are equal bit for bit.

four = NEXT(PartialLinearization(n_blocks=4, solver="primal"))
one, all_cores = (
    DecentralizedMLPClassifier(
        (13,), n_agents=2, algorithm=four, max_iter=3, tol=0, random_state=0, n_jobs=n
    )
    .fit(X, y)
    .history_["objective"]
    for n in (1, None)
)
print("equal bits:", bool((one == all_cores).all()))
