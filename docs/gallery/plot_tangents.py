"""
Tell the network what should not matter
=======================================

A digit that moves by a fraction of a pixel is the same digit. The tangent term ``mu R`` penalises the derivative of the
outputs along directions of the inputs, here shifts. That helps most
where agents have few rows.
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
# An image, the directions along which the outputs should not change (red is more ink, blue is less), and the image
# moved by half of the second one: the digit has gone half a pixel to the right.

down, right = shifts(x[:1])[:, 0]
figure, axes = plt.subplots(1, 4, figsize=(7, 2.1), layout="constrained")
for axis, image, title in zip(
    axes,
    [x[0], down, right, x[0] + right / 2],
    ["a digit x", "v: down", "v: to the right", "x + v / 2"],
    strict=True,
):
    if title.startswith("v"):
        axis.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1)
    else:
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])

# %%
# The term is part of every agent's cost and of the objective; `tangent_share` of the history is its part of that.

strengths, starts = [0.0, 0.01, 0.1, 0.3], range(3)
share_right, moved = np.empty((2, len(strengths), len(starts)))
for k, mu in enumerate(strengths):
    tangents = Tangents(mu, shifts) if mu else None
    problem = Problem(model, SquaredError(), L2(1e-4), shards, tangents=tangents)
    for seed in starts:
        run = NEXT(FullLinearization()).run(
            problem, Network(Topology.ring(4)), w0=model.init(seed), max_iter=200
        )
        w = run.w_bar[None]
        outputs = model.forward(w, test)
        share_right[k, seed] = np.mean(outputs.argmax(axis=1) == y[1000:])
        along = model.tangent(w, test, shifts(test.x))
        moved[k, seed] = np.mean(np.sum(along**2, axis=(0, 2)))
    share = run.history["tangent_share"][-1] if mu else 0.0
    print(f"mu = {mu}: {share_right[k].mean():.1%} of 797 unseen digits right,")
    print(f"    |DF v|^2 = {moved[k].mean():.3f}, {share:.0%} of the objective")

# %%
# The outputs move less, and more digits are right: means of three starts (blue), and each of
# them (grey).

figure, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
for axis, values, name in zip(
    axes,
    (moved, share_right),
    ("mean of |DF v|^2", "share of unseen digits right"),
    strict=True,
):
    axis.plot(values, color="0.7", linewidth=1)
    axis.plot(values.mean(axis=1), "o-")
    axis.set(xlabel="strength mu", ylabel=name)
    axis.set_xticks(range(len(strengths)), strengths)
plt.show()
