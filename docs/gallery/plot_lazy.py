"""
How lazy is your network?
=========================

A wide network whose weights hardly move is its own linearisation: training is then a convex problem, and it is called
lazy. Two layers with ``phi(u) = u^2`` on a quadratic target show what that costs, because the best risk of every regime
is known in closed form.
"""

import matplotlib.pyplot as plt
import numpy as np

from dnnext import DecentralizedMLPRegressor
from dnnext.datasets import make_quadratic
from dnnext.models.risks import REGIMES, quadratic_risk

d = 12
spectrum = -np.log1p(
    -(np.arange(d) + 0.5) / d
)  # eigenvalues of the target, spread as Exp(1)
X, y, B = make_quadratic(4000, d, spectrum, random_state=0)
X_new, y_new, _ = make_quadratic(20000, d, spectrum, random_state=1)

# %%
# Networks of 3, 6, 12 and 18 units, four agents on a ring. ``regime="features"`` trains the output weights alone,
# ``"tangent"`` the network's linearisation at its start, ``"full"`` everything. The first two are convex problems: what
# the agents agree on is what all rows in one place would give.

risk = {regime: [] for regime in REGIMES}
units = (3, 6, 12, 18)
for regime in REGIMES:
    for n in units:
        reg = DecentralizedMLPRegressor(
            (n,),
            activation="square",
            regime=regime,
            penalty=None,
            standardize=False,
            n_agents=4,
            topology="ring",
            max_iter=50,
            tol=1e-6,
            random_state=0,
        )
        reg.fit(X, y)
        risk[regime].append(np.mean((reg.predict(X_new) - y_new) ** 2))
    print(f"{regime:9s}", np.round(risk[regime], 3))

# %%
# Curves are theory, on average over first layers; dots are the networks above. The tangent needs as many units as there
# are inputs to learn what full training learns with a few; random features never do.

rng = np.random.default_rng(0)
every = np.arange(1, 20)
layers = [rng.standard_normal((d, n)) for n in every for _ in range(40)]
for regime, color in zip(REGIMES, ("C1", "C2", "C0"), strict=True):
    theory = np.reshape(
        [quadratic_risk(regime, B, w) for w in layers], (len(every), 40)
    ).mean(axis=1)
    plt.plot(every / d, theory, color=color, label=regime)
    plt.plot(np.array(units) / d, risk[regime], "o", color=color)
plt.xlabel("units per input")
plt.ylabel("risk, share of the target's variance")
plt.legend()
plt.show()
