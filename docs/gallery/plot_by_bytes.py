"""
Comparing algorithms by bytes
=============================

Between machines, messages cost more than arithmetic. Algorithms should then be compared by what they send. All of them
run on the same data, graph and start here, and differ in one parameter. The rows are sorted by label before they are
spread, so that most agents see one class only.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier
from dnnext.algorithms import NEXT, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization

X, y = load_breast_cancer(return_X_y=True)


def run(max_iter, **choice):
    model = DecentralizedMLPClassifier(
        (10,),
        n_agents=8,
        partition="label",
        max_iter=max_iter,
        tol=0,
        random_state=0,
        **choice,
    )
    return model.fit(X, y)


runs = {
    "NEXT, partial": run(60, algorithm=NEXT(PartialLinearization())),
    "NEXT, full": run(250, algorithm=NEXT(FullLinearization())),
    "gradient tracking": run(250, algorithm=GradientTracking(step=1.0)),
    "DGD": run(500, algorithm="dgd"),
}

# %%
# ``bytes`` counts what neighbours send each other: directed links, times the row, times the rounds. It is the same on
# every engine.

best = min(model.history_["objective"].min() for model in runs.values())
for name, model in runs.items():
    history = model.history_
    hit = np.flatnonzero(history["objective"] <= 1.05 * best)
    cost = (
        f"{history['bytes'][hit[0]] / 1e6:6.1f} MB"
        if len(hit)
        else f"more than {history['bytes'][-1] / 1e6:.1f} MB"
    )
    print(f"{name:18s} {cost} to within 5 % of the best objective")

# %%
ConvergenceDisplay.from_estimators(runs, x="bytes", y="gap", xscale="log")

# %%
# Partial linearisation keeps each agent's curvature and needs the fewest rounds. Full linearisation and gradient
# tracking use first derivatives only. DGD sends half as much per round, because it tracks no gradient, and the
# diminishing step that it needs for that leaves it behind. By the clock of one machine, where a message costs nothing,
# cheap iterations count for more:

ConvergenceDisplay.from_estimators(runs, x="seconds", y="gap", xscale="log")
