"""
A layer over eight ranks
========================

A dense layer may be too large for one process. Here its weights, inputs and outputs lie on a cube of 2 x 2 x 2 ranks,
every number once: each rank holds an eighth of everything [1]_. The ranks are threads of this process; with
``dnnext.runtime.mpi.MPICommunicator()`` in place of ``threads.run`` they are the ranks of an MPI job, and the numbers
are the same to the last bit.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from dnnext.models import MLP, Rows, volumes
from dnnext.models.spread_model import cube_mlp
from dnnext.runtime import Cube, threads

# %%
# Rank (i, j, l) holds sub-block j of the rows in block i and the columns in block l of the input X. Before the product
# X is gathered along j and the weights along i; the products are summed along l, and each rank keeps a part of the
# rows. The output lies as the input does with j and l swapped, so the next layer swaps them back.

SIZES, M = [64, 128, 10], 256
x = np.random.default_rng(0).standard_normal((M, SIZES[0]))
rows, w = Rows(x, np.array([0, M])), MLP(SIZES).init(0)


def program(comm):
    cube = Cube(comm, 2)
    net = cube_mlp(cube, SIZES)
    outputs = net.forward(net.cut(w)[None], rows)  # each weight lies on one rank
    return outputs, sum(cube.tally.words.values()), net.layers[0].weight_tile().shape


results = threads.run(8, program)
whole = MLP(SIZES).forward(w[None], rows)
words = sum(
    volumes.words("3d", M, k, n, 8, bias=True).forward for k, n in pairwise(SIZES)
)
print("largest difference to one rank:", f"{np.abs(results[5][0] - whole).max():.1e}")
print("weights of the first layer on each rank:", results[5][2], "of", tuple(SIZES[:2]))
print(
    "words that each rank received:",
    {counted for _, counted, _ in results},
    "by the formula",
    words,
)

# %%
# The cube, and the words that a rank receives in a step of a large layer as ranks are added. On P ranks three
# dimensions need of the order of P^(-2/3) of the words, two P^(-1/2); one dimension gains nothing. On few ranks, and
# where the input has few rows, one dimension is as good: the table of ``python -m bench.tensor_parallel`` shows where.

fig = plt.figure(figsize=(9, 3.8), layout="constrained")
axis = fig.add_subplot(1, 2, 1, projection="3d", computed_zorder=False)
for i, j, last in np.ndindex(2, 2, 2):
    for other in ((1, j, last), (i, 1, last), (i, j, 1)):
        colour = "C0" if other[0] != i else "C1" if other[1] != j else "C2"
        axis.plot(*zip((i, j, last), other, strict=True), color=colour, lw=2)
    axis.scatter(
        i, j, last, s=220, color="white", edgecolor="0.3", depthshade=False, zorder=3
    )
    axis.text(i, j, last, str(4 * i + 2 * j + last), ha="center", va="center", zorder=4)
for name, colour in (
    ("along i: the weights", "C0"),
    ("along j: the inputs", "C1"),
    ("along l: the outputs", "C2"),
):
    axis.plot([], [], [], color=colour, lw=2, label=name)
axis.set(
    xticks=[],
    yticks=[],
    zticks=[],
    xlabel="i",
    ylabel="j",
    zlabel="l",
    title="Eight ranks",
)
axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), frameon=False, fontsize=8)

axis, size = fig.add_subplot(1, 2, 2), (4096, 1024, 1024)
lines = {
    "1-D": ("1d-rows", [8, 64, 512, 4096]),
    "2-D": ("2d", [16, 64, 256, 1024, 4096]),
}
lines["3-D"] = ("3d", [8, 64, 512, 4096])
for (name, (kind, ranks)), style in zip(
    lines.items(), ("s:", "^--", "o-"), strict=True
):
    million = [volumes.words(kind, *size, P).both / 1e6 for P in ranks]
    axis.loglog(
        ranks, million, style, color="C0" if name == "3-D" else "0.5", label=name
    )
axis.set(
    xlabel="ranks P",
    ylabel="million words received per rank",
    title="One layer, forward and backward",
)
axis.legend(frameon=False)
plt.show()

# %%
# .. rubric:: References
#
# .. [1] Z. Bian, Q. Xu, B. Wang, Y. You, Maximizing parallelism in distributed training for huge neural networks,
#    arXiv 2105.14450 (2021).
