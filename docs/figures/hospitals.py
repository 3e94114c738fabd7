"""Draws docs/figures/hospitals.png: sites behind firewalls, and the relay that they connect to.

python docs/figures/hospitals.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from dnnext.display.frame import MUTED, OURS, STYLE

WIDTH, HEIGHT = 2.3, 1.5
SITES = (("hospital A", (0.0, 2.3)), ("hospital B", (6.3, 2.3)), ("hospital C", (3.15, -0.9)))
RELAY = (3.55, 2.45, 1.5, 1.2)  # left, bottom, width, height
# where the connection leaves the wall, where it reaches the relay, where the words stand
OUTWARDS = (((2.3, 3.05), (3.5, 3.05)), ((6.3, 3.05), (5.1, 3.05)), ((4.3, 0.6), (4.3, 2.4)))


def site(ax, name, corner):
    """A wall, inside it a table of rows and the process."""
    x, y = corner
    ax.add_patch(Rectangle(corner, WIDTH, HEIGHT, facecolor="white", edgecolor="0.25", lw=2.2, ls=(0, (4, 1))))
    for row in range(4):
        ax.add_patch(Rectangle((x + 0.2, y + 0.3 + 0.17 * row), 0.7, 0.17, facecolor="white", ec=MUTED[0], lw=0.7))
    ax.text(x + 0.55, y + 0.13, "rows stay", ha="center", va="center", fontsize=8, color="0.3")
    box = FancyBboxPatch((x + 1.2, y + 0.42), 0.85, 0.5, boxstyle="round,pad=0.04", facecolor=OURS["color"], ec="none")
    ax.add_patch(box)
    ax.text(x + 1.625, y + 0.67, "dnnext", ha="center", va="center", fontsize=8.5, color="white")
    ax.text(x + WIDTH / 2, y + HEIGHT - 0.22, name, ha="center", va="center", fontsize=9)


def main():
    with plt.rc_context(STYLE | {"font.size": 9}):
        figure, ax = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
        for name, corner in SITES:
            site(ax, name, corner)
        x, y, width, height = RELAY
        ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.05", fc="0.95", ec="0.25"))
        ax.text(x + width / 2, y + height / 2 + 0.15, "relay", ha="center", va="center", fontsize=10)
        ax.text(x + width / 2, y + height / 2 - 0.2, "keeps sealed\nmessages", ha="center", va="center", fontsize=8)
        for start, end in OUTWARDS:
            arrow = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
            ax.add_patch(FancyArrowPatch(start, end, color=OURS["color"], lw=1.8, **arrow))
        ax.text(4.45, 1.5, "one outbound connection,\nmutual TLS: weights $z$, trackers $y$", fontsize=8.5, va="center")
        ax.text(5.6, -0.1, "dashed: a firewall\nthat lets nothing in", fontsize=8.5, va="center", color="0.3")
        ax.set(xlim=(-0.1, 8.7), ylim=(-1.0, 3.9), aspect="equal")
        ax.set_axis_off()
        figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
