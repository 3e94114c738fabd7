"""Draws docs/figures/cube.png: the eight ranks of a cube, and the tiles of three arrays on them.

python docs/figures/cube.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

NAMES = {
    "X: rows i, j; columns l": lambda r, c: 4 * (r // 2) + 2 * (r % 2) + c,
    "W: rows l, i; columns j": lambda r, c: 4 * (r % 2) + 2 * c + r // 2,
    "X W: rows i, l; columns j": lambda r, c: 4 * (r // 2) + 2 * c + r % 2,
}


def cube(axis):
    for i, j, last in np.ndindex(2, 2, 2):
        for other in ((1, j, last), (i, 1, last), (i, j, 1)):
            colour = "C0" if other[0] != i else "C1" if other[1] != j else "C2"
            axis.plot(*zip((i, j, last), other, strict=True), color=colour, lw=2)
        axis.scatter(i, j, last, s=200, color="white", edgecolor="0.3", depthshade=False, zorder=3)
        axis.text(i, j, last, str(4 * i + 2 * j + last), ha="center", va="center", zorder=4)
    for name, colour in (("along i: W", "C0"), ("along j: X", "C1"), ("along l: X W", "C2")):
        axis.plot([], [], [], color=colour, lw=2, label=name)
    axis.set(xticks=[], yticks=[], zticks=[], xlabel="i", ylabel="j", zlabel="l")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), frameon=False, ncols=3, fontsize=8)


def tiles(axis, name, rank):
    """An array of four rows of tiles and two columns, each with the rank that holds it."""
    for r, c in np.ndindex(4, 2):
        axis.add_patch(Rectangle((c, 3 - r), 1, 1, facecolor=f"C{rank(r, c)}", alpha=0.25, edgecolor="0.3"))
        axis.text(c + 0.5, 3.5 - r, str(rank(r, c)), ha="center", va="center")
    axis.set(xlim=(0, 2), ylim=(0, 4), xticks=[], yticks=[], title=name)
    axis.title.set_fontsize(9)


def main():
    fig = plt.figure(figsize=(9, 3.6), layout="constrained")
    grid = fig.add_gridspec(1, 5)
    cube(fig.add_subplot(grid[:2], projection="3d", computed_zorder=False))
    for place, (name, rank) in enumerate(NAMES.items(), 2):
        tiles(fig.add_subplot(grid[place]), name, rank)
    fig.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
