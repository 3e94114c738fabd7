"""
Images on ten cameras
=====================

Ten cameras over a ring photograph digits; no image leaves its camera. Together they train a small convolution net, a
chain of layers, each with its derivative and its adjoint.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8) / 16
shards = [
    (x[i:1000:10], np.eye(10)[y[i:1000:10]]) for i in range(10)
]  # camera i holds every tenth image
test = Rows.of(x[1000:])

# %%
# The numbers of inputs and outputs of a chain are set by `sized`, which refuses layers that do not fit by name.

net = Chain([Conv2d(8, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()]).sized(
    (8, 8), 10
)
try:
    Chain([Conv2d(8, 3), Dense(10)]).sized((8, 8), 10)
except ValueError as error:
    print(error)

# %%
# Every camera steps along the tracked gradient and averages with its two neighbours. Nothing is tuned.

problem = Problem(net, Softmax(), L2(1e-3), shards)
run = NEXT(FullLinearization()).run(
    problem, Network(Topology.ring(10)), w0=net.init(0), max_iter=150
)
wrong = np.mean(net.forward(run.w_bar[None], test).argmax(axis=1) != y[1000:])
print(f"{net.n_params} weights, {wrong:.1%} of 797 unseen digits wrong")

# %%
# The objective, and the filters that all cameras agree on.

figure, panels = plt.subplot_mosaic(
    "xx0123;xx4567", figsize=(6, 2.4), layout="constrained"
)
left, others = panels["x"], [panels[str(k)] for k in range(8)]
left.semilogy(run.history["objective"])
left.set(xlabel="iteration", ylabel="objective")
for axis, kernel in zip(
    others, net.layout.unpack(run.w_bar)["layer1.weight"], strict=True
):
    axis.imshow(kernel[0], cmap="gray")
    axis.set_axis_off()
plt.show()
