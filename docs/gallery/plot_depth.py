"""
A thousand layers
=================

A residual layer moves its state a little, ``u + h phi(u W + b)``: a step of an explicit Euler method for a differential
equation. Halving h and doubling the number of layers is then a matter of accuracy, and a thousand layers train like
sixteen. Multigrid in depth [1]_ computes all layers at the same time.
"""

import matplotlib.pyplot as plt

from dnnext import DecentralizedClassifier
from dnnext.algorithms import NEXT
from dnnext.datasets import make_peaks
from dnnext.local import FullLinearization, LayerParallel
from dnnext.models import ResNet

X, y = make_peaks(n_per_class=50, random_state=0)
X_new, y_new = make_peaks(n_per_class=200, random_state=1)


def fit(n_layers, max_iter, oracle=None):
    """A network of final time 5, whatever its depth, trained by four agents."""
    clf = DecentralizedClassifier(
        ResNet(n_layers, width=8, T=5.0),
        n_agents=4,
        topology="ring",
        algorithm=NEXT(FullLinearization(), oracle=oracle),
        max_iter=max_iter,
        monitor_every=5,
        tol=0,
        random_state=0,
    )
    return clf.fit(X, y)


# %%
# The same equation with 16 and with 1000 steps, whose weights have the same scale at the start. A layer more costs time
# in proportion, and nothing else.

fits = {n: fit(n, max_iter=60) for n in (16, 1000)}
for n, clf in fits.items():
    score, n_weights = clf.score(X_new, y_new), clf._network.row.size
    print(f"{n:4d} layers, {n_weights:5d} weights: {score:.3f} of new points right")

# %%
# All layers at once: two multigrid cycles per iteration, each from the states of the iteration before. A cycle is
# inexact; the history has the estimated error of the gradient, relative to its length. The longest chain of layers that
# one of very many ranks computes is 96 for both cycles, in place of 1024.

parallel = fit(1000, max_iter=20, oracle=LayerParallel(2, 2))
print(f"largest estimated error: {parallel.history_['gradient_error'].max():.1e}")

fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for n, clf in fits.items():
    history = clf.history_
    ax.plot(history["iteration"], history["objective"], label=f"{n} layers")
history = parallel.history_
ax.plot(
    history["iteration"], history["objective"], "k:", lw=3, label="1000, all at once"
)
ax.set(xlabel="iteration", ylabel="objective", title="Four agents on a ring, peaks")
ax.legend(frameon=False)
plt.show()

# %%
# On one machine the exact gradient is cheaper: :doc:`/depth` says from how many ranks on multigrid pays.
#
# .. rubric:: References
#
# .. [1] S. Guenther, L. Ruthotto, J. B. Schroder, E. C. Cyr, N. R. Gauger, Layer-parallel training of deep residual
#    neural networks, SIAM J. Math. Data Sci. 2 (2020).
