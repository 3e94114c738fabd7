"""Draws docs/figures/agents.png, the picture on the first page: agents with their tables on a graph.

python docs/figures/agents.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from dnnext.display.frame import MUTED, OURS, STYLE

# name, where the agent stands, where its table stands, rows
AGENTS = (
    ("clinic", (0.6, 2.35), (-0.42, 2.2), 3),
    ("hospital", (2.6, 2.75), (2.42, 3.2), 6),
    ("laboratory", (5.0, 2.45), (4.82, 2.9), 4),
    ("practice", (6.9, 2.6), (7.55, 2.5), 3),
    ("registry", (7.3, 0.75), (7.95, 0.7), 5),
    ("site A", (5.3, 0.55), (5.12, -0.5), 4),
    ("site B", (3.0, 0.85), (2.82, -0.25), 5),
    ("archive", (0.9, 0.55), (-0.12, 0.35), 4),
)
LINKS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 0), (1, 6), (2, 5), (2, 4))
SENDER = 1  # whose messages are written out
RADIUS = 0.2


def table(ax, corner, rows):
    """A small table: its header and some rows."""
    width, height = 0.62, 0.115
    for row in range(rows):
        colour = MUTED[0] if row == rows - 1 else "white"
        place = (corner[0] - 0.13, corner[1] + row * height)
        ax.add_patch(Rectangle(place, width, height, facecolor=colour, edgecolor=MUTED[0], lw=0.7))
        for column in (1, 2):
            x = place[0] + column * width / 3
            ax.plot([x, x], [place[1], place[1] + height], color=MUTED[0], lw=0.5)


def main():
    with plt.rc_context(STYLE | {"font.size": 9}):
        figure, ax = plt.subplots(figsize=(7.2, 3.3), layout="constrained")
        for a, b in LINKS:
            ends = np.array([AGENTS[a][1], AGENTS[b][1]])
            active = SENDER in (a, b)
            look = {"color": OURS["color"], "lw": 1.8} if active else {"color": "0.75", "lw": 1.2}
            arrow = {"arrowstyle": "<|-|>" if active else "-", "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0}
            inside = 1.15 * RADIUS * (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
            ax.add_patch(FancyArrowPatch(ends[0] + inside, ends[1] - inside, **arrow, **look))
        for name, where, corner, rows in AGENTS:
            sender = name == AGENTS[SENDER][0]
            colour = OURS["color"] if sender else "white"
            ax.add_patch(Circle(where, RADIUS, facecolor=colour, edgecolor="0.25", lw=1.0, zorder=3))
            table(ax, corner, rows)
            ax.annotate(name, where, xytext=(11, -15), textcoords="offset points", ha="left", fontsize=8.5, color="0.2")
        for text, where in (("$z, y$", (1.5, 2.67)), ("$z, y$", (3.85, 2.72)), ("$z, y$", (3.0, 1.8))):
            ax.text(*where, text, ha="center", va="bottom", color=OURS["color"], fontsize=10)
        ax.set(xlim=(-0.7, 8.7), ylim=(-0.6, 4.05), aspect="equal")
        ax.set_axis_off()
        figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
