"""
Hospitals whose patients differ
===============================

Five hospitals diagnose tumours. They may not pool their patients, and they do not see the same mix of them: one is a
referral centre for malignant tumours, another screens healthy people. Each trains on what it has; then they train one
network together, and send each other weights and gradient estimates only.
"""

import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier, TopologyDisplay

X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, random_state=0, stratify=y)

# %%
# The hospitals
# -------------
# The share of malignant tumours (class 0) differs from hospital to hospital. ``site`` names the hospital of each row,
# that is all `fit` needs.

rng = np.random.default_rng(0)
hospitals = np.array(["Albany", "Boston", "Chester", "Dover", "Exeter"])
odds_if_malignant = np.array([0.46, 0.3, 0.16, 0.06, 0.02])
odds_if_benign = np.array([0.02, 0.08, 0.2, 0.3, 0.4])
site = np.where(
    y == 0,
    rng.choice(hospitals, len(y), p=odds_if_malignant),
    rng.choice(hospitals, len(y), p=odds_if_benign),
)
malignant = np.array([np.mean(y[site == name] == 0) for name in hospitals])
for name, share in zip(hospitals, malignant, strict=True):
    print(f"{name:8s} {np.sum(site == name):4d} patients, {share:4.0%} malignant")

# %%
# Together
# --------
# One estimator, five agents on a ring. Inputs are standardised with moments of the whole network.

together = DecentralizedMLPClassifier(topology="ring", random_state=0)
together.fit(X, y, agent=site, eval_set=(X_test, y_test))

display = TopologyDisplay.from_estimator(
    together,
    values=100 * malignant,
    value_name="malignant (%)",
    labels=[name[0] for name in hospitals],
    vmin=0,
    vmax=100,
)

# %%
# Alone
# -----
# The same network, trained by each hospital on its own patients, and on all patients in one place.


def alone(rows):
    model = DecentralizedMLPClassifier(n_agents=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X[rows], y[rows])


print("accuracy on the same test patients")
for name, view in zip(hospitals, together.agents_, strict=True):
    own = alone(site == name)
    one, all_of_them = (model.score(X_test, y_test) for model in (own, view))
    print(f"{name:8s} alone {one:.3f}   together {all_of_them:.3f}")
pooled = alone(np.full(len(y), True))
print(f"all patients in one place {pooled.score(X_test, y_test):.3f}")

# %%
# The skewed mix costs no accuracy here: the gradient of the common objective is tracked, not guessed from one's own
# patients. At the end the agents hardly differ, so it does not matter whose model is used.

ConvergenceDisplay.from_estimator(together, y=["objective", "disagreement", "score"])
