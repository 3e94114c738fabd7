"""
Images on ten cameras
=====================

Ten cameras over a ring photograph digits; no image leaves its camera. Each of them stands where mostly one digit is
written, and together they train a small convolution net that reads all ten: a chain of layers, each with its derivative
and its adjoint.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits

from dnnext import DecentralizedClassifier
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten

digits = load_digits()
images, labels = digits.images[:1000], digits.target[:1000]
unseen = digits.images[1000:], digits.target[1000:]
camera = np.empty(1000, dtype=int)
camera[np.argsort(labels, kind="stable")] = np.arange(1000) // 100

# %%
# The first three images of every camera, one column each. Camera 0 knows little but zeros.

figure, axes = plt.subplots(3, 10, figsize=(7, 2.6), layout="constrained")
for i, column in enumerate(axes.T):
    column[0].set_title(f"camera {i}", fontsize=8)
    for axis, image in zip(column, images[camera == i], strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set(xticks=[], yticks=[])

# %%
# The numbers of inputs and outputs follow from the data. A layer that does not fit what comes before it is refused by
# name.

clf = DecentralizedClassifier(
    Chain([Conv2d(8, 3), Dense()]), n_agents=10, topology="ring"
)
try:
    clf.fit(images, labels, agent=camera)
except ValueError as error:
    print(error)

# %%
# Strides halve the images. Every camera steps along the tracked gradient of all and averages with its two neighbours;
# nothing is tuned.

net = Chain(
    [
        Conv2d(8, 3, padding=1, activation="tanh"),
        Conv2d(16, 3, stride=2, padding=1, activation="tanh"),
        Flatten(),
        Dense(),
    ]
)
clf.set_params(
    model=net,
    algorithm=NEXT(FullLinearization()),
    max_iter=150,
    tol=0,
    random_state=0,
)
clf.fit(images, labels, agent=camera, eval_set=unseen)
n_weights = sum(array.size for array in clf.weights_.values())
print(f"{n_weights} weights, {clf.score(*unseen):.1%} of 797 unseen digits right")

# %%
# The same net at one camera that sees nobody else's numbers: it has hardly met the other digits.

alone = clone(clf).set_params(n_agents=1)
alone.fit(images[camera == 3], labels[camera == 3])
print(f"camera 3 alone: {alone.score(*unseen):.1%} right")

# %%
# The share of unseen digits that are right, and the eight filters of the first layer that all cameras agree on: white
# is positive, black negative.

figure, panels = plt.subplot_mosaic(
    "xx0123;xx4567", figsize=(7, 2.6), layout="constrained"
)
panels["x"].plot(clf.history_["iteration"], clf.history_["validation_score"])
panels["x"].axhline(alone.score(*unseen), color="0.5", linestyle="--")
panels["x"].text(40, 0.04 + alone.score(*unseen), "camera 3 alone", color="0.4")
panels["x"].set(xlabel="iteration", ylabel="share right", ylim=(0, 1))
filters = clf.weights_["layer1.weight"]
top = abs(filters).max()
for k, one in enumerate(filters):
    panels[str(k)].imshow(one[0], cmap="gray", vmin=-top, vmax=top)
    panels[str(k)].set(xticks=[], yticks=[])
plt.show()
