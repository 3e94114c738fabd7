"""
Group sparsity on breast cancer
===============================

A group penalty takes all weights that leave one input, or one hidden unit, as one group, and sets whole groups to exact
zeros: measurements that need not be taken, units that need not be computed. Seven agents find the same ones together.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from dnnext import DecentralizedMLPClassifier, SparsityDisplay, regularization_path

data = load_breast_cancer()
X, X_test, y, y_test = train_test_split(
    data.data, data.target, test_size=0.3, random_state=0, stratify=data.target
)

# %%
# How strong?
# -----------
# `regularization_path` fits a growing sequence of strengths, each from the weights of the one before, in every fold.

model = DecentralizedMLPClassifier(
    (6,), penalty="group", n_agents=7, topology="ring", tol=1e-2, random_state=0
)
path = regularization_path(model, X, y, alphas=np.geomspace(1e-3, 0.15, 6), cv=3)
path.plot()

# %%
# The dotted line is the sparsest network whose score is within one standard error of the best.

print(f"best score at alpha = {path.best_alpha:.2g}")
print(f"sparsest within one standard error: {path.sparsest_alpha:.2g}")
model.set_params(alpha=path.sparsest_alpha, tol=1e-4).fit(X, y)
print(f"test accuracy {model.score(X_test, y_test):.3f}")
print(f"{model.active_inputs_.sum()} of {X.shape[1]} inputs are used")
print("kept:", ", ".join(data.feature_names[model.active_inputs_]))

# %%
# What is left
# ------------
# Grey is an exact zero. Inputs and units are sorted by strength; names in grey are switched off.

SparsityDisplay.from_estimator(model, feature_names=data.feature_names)

# %%
# Every agent holds the same zeros in its own view, or nearly so; `coefs_` has them too, since scaling back to raw
# inputs keeps a zero a zero.

same = [
    np.array_equal(view.active_inputs_, model.active_inputs_) for view in model.agents_
]
print(f"{sum(same)} of {len(same)} agents keep exactly these inputs")
zeros = sum(int(np.sum(w == 0)) for w in model.coefs_)
print(f"exact zeros in coefs_: {zeros} of {sum(w.size for w in model.coefs_)}")
