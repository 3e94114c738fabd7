"""
Data that keep coming
=====================

Measurements arrive while the network runs. `partial_fit` puts the newest rows in the place of the old ones, moves the
trackers by the difference of the gradients, so that they keep tracking the gradient of all present data, and
makes one iteration.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from dnnext import DecentralizedMLPClassifier

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1300], X[1300:], y[:1300], y[1300:]
clf = DecentralizedMLPClassifier((15,), n_agents=6, topology="ring", random_state=0)

# %%
# A window of 400 rows slides over the stream; each agent sees its sixth of it.

scores = []
for start in range(0, 900, 20):
    rows = slice(start, start + 400)
    agent = np.arange(400) % 6
    clf.partial_fit(X[rows], y[rows], classes=np.arange(10), agent=agent)
    scores.append(clf.score(X_test, y_test))
print(
    f"accuracy on rows to come: {scores[0]:.2f} at first, {scores[-1]:.2f} at the end"
)

# %%
figure, ax = plt.subplots(figsize=(3.5, 2.4), layout="constrained")
ax.plot(scores)
ax.set(xlabel="iterations, 20 new rows each", ylabel="accuracy on rows to come")
figure.show()
