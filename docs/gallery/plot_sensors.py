"""
Sensors on a geometric graph
============================

Thirty stations stand in a landscape. A radio reaches the neighbours, not a centre, and each station sees mostly what
grows around it. scikit-learn ships no sensor recordings, so the rows are its wine set, thirteen chemical measurements
of wines from three cultivars, handed to stations in such a way that each cultivar has its own region.
"""

import warnings

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import qmc
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from dnnext import DecentralizedMLPClassifier, Topology, TopologyDisplay

X, y = load_wine(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)

# %%
# Stations in radio range
# -----------------------
# Two stations are linked if they stand close. `Topology` takes any symmetric adjacency matrix; Metropolis weights make
# the averages doubly stochastic.

place = 2 * qmc.PoissonDisk(2, radius=0.13, rng=7).random(30) - 1
net = Topology((cdist(place, place) < 0.6) & ~np.eye(30, dtype=bool), name="stations")
print(f"connected: {net.is_connected}, {net.diameter} hops across")
print(f"{net.mixing_rounds} rounds per iteration")

# %%
# Each wine goes to a station near the heart of its cultivar's region. A station without a wine is a relay: it passes
# messages on and has no data of its own.

rng = np.random.default_rng(0)
hearts = np.array([[-0.6, 0.6], [0.7, 0.3], [0.0, -0.7]])
station = cdist(hearts[y] + rng.normal(0, 0.45, (len(y), 2)), place).argmin(axis=1)
mostly = [
    str(np.bincount(y[station == i]).argmax()) if np.any(station == i) else "relay"
    for i in range(30)
]
TopologyDisplay.from_topology(
    net, values=mostly, value_name="cultivar", positions=place
)

# %%
# Alone
# -----
# What each station could do by itself, judged on wines from everywhere. A station that has seen a single cultivar
# always answers with it.


def alone(i):
    rows = station == i
    kinds = np.unique(y[rows])
    if len(kinds) < 2:
        return np.mean(y_test == kinds[0]) if len(kinds) else np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DecentralizedMLPClassifier(
            (10,), n_agents=1, max_iter=60, random_state=0
        ).fit(X[rows], y[rows])
    return model.score(X_test, y_test)


scores = np.array([alone(i) for i in range(30)])
TopologyDisplay.from_topology(
    net,
    values=scores,
    value_name="accuracy, alone",
    positions=place,
    vmin=0.25,
    vmax=1.0,
    title=False,
)

# %%
# Together
# --------
# Station numbers are the nodes of the graph. Every station ends up with the network of all wines, relays included,
# since they take part in the averaging.

clf = DecentralizedMLPClassifier((10,), topology=net, random_state=0).fit(
    X, y, agent=station
)
views = np.array([view.score(X_test, y_test) for view in clf.agents_])
print(f"{clf.n_iter_} iterations, {clf.history_['round'][-1]} rounds")
print(f"alone {np.nanmin(scores):.2f} to {np.nanmax(scores):.2f}")
print(f"together {views.min():.2f} to {views.max():.2f}")
TopologyDisplay.from_estimator(
    clf,
    values=views,
    value_name="accuracy, together",
    positions=place,
    vmin=0.25,
    vmax=1.0,
    title=False,
)
