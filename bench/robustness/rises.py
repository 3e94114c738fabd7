"""How often the objective rises under the automatic rule: at the setting of the tests, and at the estimators' defaults.

``python -m bench.robustness.rises`` runs wine, breast cancer and diabetes over a ring and an Erdos-Renyi graph
of ten agents, iid and label-sorted parts, seeds 0-2, 60 iterations, and writes bench/results/rises.md. A rise is
max(U[t+1] - U[t]) / U[0].
"""

import itertools
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning

from bench.machine import software
from bench.study import write_table
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

SETS = {"wine": load_wine, "breast cancer": load_breast_cancer, "diabetes": load_diabetes}
HEADER = ("setting", "runs", "rose by more than 1e-6", "largest rise")
SETTINGS = {
    "hidden (10,), alpha 1e-3": {"hidden_layer_sizes": (10,), "alpha": 1e-3},
    "the defaults: hidden (20,), alpha 5 / N": {},
}


def rise(name, graph, partition, seed, options):
    """The largest rise of one run, relative to U[0]."""
    x, y = SETS[name](return_X_y=True)
    kind = DecentralizedMLPRegressor if name == "diabetes" else DecentralizedMLPClassifier
    model = kind(
        n_agents=10, topology=graph, partition=partition, random_state=seed, max_iter=60, tol=0.0, n_jobs=1, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        objective = model.fit(x, y).history_["objective"]
    return max(np.diff(objective).max(), 0) / objective[0]


def main():
    rows = []
    for words, options in SETTINGS.items():
        cases = itertools.product(SETS, ("ring", "erdos_renyi"), ("iid", "label"), range(3))
        rises = np.array([rise(*case, options) for case in cases])
        rows.append([words, len(rises), int(np.sum(rises > 1e-6)), f"{rises.max():.1e}"])
    about = f"Relative to the start of the objective, 10 agents, 60 iterations, tau='auto'. {software()}."
    write_table("rises", "Rises of the objective", HEADER, rows, about)


if __name__ == "__main__":
    main()
