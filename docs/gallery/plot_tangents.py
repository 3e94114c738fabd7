"""
Derivatives that should be zero
===============================

A digit that moves by a fraction of a pixel is the same digit. The tangent term ``mu R`` penalises the
derivative of the outputs along directions of the inputs, here shifts. With few rows per agent that is worth many rows.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import Chain, Dense, Flatten
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, ImageShifts, Problem, SquaredError, Tangents

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8) / 16
shards = [
    (x[i:100:4], np.eye(10)[y[i:100:4]]) for i in range(4)
]  # 25 digits at each of four agents
test, shifts = Rows.of(x[1000:]), ImageShifts()
model = Chain([Flatten(), Dense(40, "tanh"), Dense()]).sized((8, 8), 10)

# %%
# An image, and the directions along which the outputs should not change.

figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
for axis, image, title in zip(
    axes, [x[0], *shifts(x[:1])[:, 0]], ["a digit", "down", "to the right"], strict=True
):
    axis.imshow(image, cmap="gray")
    axis.set(title=title, xticks=[], yticks=[])

# %%
# The term is part of every agent's cost, and of the objective; its share is a column of the history.

right, moved, strengths = [], [], [0.0, 0.01, 0.1, 0.3]
for mu in strengths:
    tangents = Tangents(mu, shifts) if mu else None
    problem = Problem(model, SquaredError(), L2(1e-4), shards, tangents=tangents)
    run = NEXT(FullLinearization()).run(
        problem, Network(Topology.ring(4)), w0=model.init(0), max_iter=300
    )
    w = run.w_bar[None]
    right.append(np.mean(model.forward(w, test).argmax(axis=1) == y[1000:]))
    moved.append(
        np.mean(np.sum(model.tangent(w, test, shifts(test.x)) ** 2, axis=(0, 2)))
    )
    print(f"mu = {mu}: {right[-1]:.1%} of 797 unseen digits right")
    print(f"    mean |DF v|^2 = {moved[-1]:.3f}")

# %%
# The outputs move less, and more digits are right.

figure, (left, other) = plt.subplots(1, 2, figsize=(6, 2.6), layout="constrained")
left.plot(range(len(strengths)), moved, "o-")
left.set(
    xlabel="mu",
    ylabel="mean |DF v|^2",
    xticks=range(len(strengths)),
    xticklabels=strengths,
)
other.plot(range(len(strengths)), right, "o-")
other.set(
    xlabel="mu",
    ylabel="share right",
    xticks=range(len(strengths)),
    xticklabels=strengths,
)
plt.show()
