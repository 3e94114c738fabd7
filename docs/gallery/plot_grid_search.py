"""
Grid search that respects the agents
====================================

The estimators are scikit-learn estimators: they work in pipelines and searches. The owner of a row is metadata, and
with routing switched on scikit-learn splits it along with the rows, so that every fold trains over the real owners.
"""

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from dnnext import DecentralizedMLPClassifier

X, y = load_breast_cancer(return_X_y=True)
owner = np.array(["clinic", "hospital", "practice"])[
    np.searchsorted([100, 400], np.arange(len(X)), side="right")
]

# %%
# ``set_fit_request(agent=True)`` passes the column to `fit`. With ``n_jobs=2`` two folds would be fitted at a time:
# joblib limits the number of cores of its workers, and the kernels keep to it.

sklearn.set_config(enable_metadata_routing=True)
model = DecentralizedMLPClassifier(
    (5,), max_iter=150, tol=1e-2, random_state=0
).set_fit_request(agent=True)
pipeline = make_pipeline(PowerTransformer(), model)
grid = {
    "decentralizedmlpclassifier__penalty": ["l2", "group"],
    "decentralizedmlpclassifier__alpha": [1e-3, 3e-2],
}
search = GridSearchCV(pipeline, grid, cv=StratifiedKFold(3)).fit(X, y, agent=owner)

# %%
# Scores over the folds: mean, and one standard deviation.

results = search.cv_results_
names = [
    "\n".join(f"{name.split('__')[1]} {value}" for name, value in params.items())
    for params in results["params"]
]
figure, ax = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
ax.errorbar(names, results["mean_test_score"], results["std_test_score"], fmt="o")
ax.set(ylabel="accuracy over the folds")
plt.show()

# %%
best = search.best_estimator_[-1]
print(
    "\nchosen:",
    {name.split("__")[1]: value for name, value in search.best_params_.items()},
)
print("its agents:", {view.label: view.n_samples for view in best.agents_})
sklearn.set_config(enable_metadata_routing=False)
