"""The common style: one column wide, eight-point type, colours that colour-blind readers can distinguish."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

COLUMN = 3.5  # inches

# One look for all figures of the package, its documentation and its benchmarks: dnnext is drawn in one emphasised
# colour, whatever it is compared with is muted, and several runs of dnnext itself take the palette, its colour first.
# Okabe and Ito's palette without its yellow, which is too pale on white; line styles distinguish runs in grey print
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
OURS = {"color": PALETTE[0], "lw": 2.0, "zorder": 3}
MUTED = ("#4d6d8a", "#7f9c7a", "#9a86a4", "#a08c6c", "#6f6f6f", "#86a3a8", "#b39a9a", "#55606e")
FAINT = "0.85"

# How titles name a partition, and axes what a gap is measured from.
TITLES = {"iid": "rows spread evenly", "label": "rows sorted by label", "dirichlet": "labels in uneven shares"}
GAP = "gap to the lowest objective\nof all runs"

STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.4,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.prop_cycle": "cycler('color', [" + ", ".join(f"'{colour[1:]}'" for colour in PALETTE) + "])",
    "figure.dpi": 150,
    "savefig.dpi": 200,
}


def pyplot():
    """matplotlib.pyplot.

    Raises
    ------
    ImportError
        A sentence, if matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("the displays need matplotlib: pip install matplotlib.") from None
    return plt


@contextmanager
def drawing(ax=None, n_panels=1, height=2.5, width=COLUMN, ratios=None):
    """(figure, axes (n_panels,)) to draw on: the caller's axes, or a new figure in the common style.

    Parameters
    ----------
    ax : Axes, sequence of n_panels Axes, or None
    n_panels : int
        Panels, one below the other, with a common x axis.
    height, width : float
        Inches of a new figure.
    ratios : sequence of float or None
        Relative heights of the panels.

    Raises
    ------
    ValueError
        If the number of axes is not the number of panels.
    """
    plt = pyplot()
    if ax is not None:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n_panels:
            raise ValueError(f"ax must be {n_panels} matplotlib Axes, one per panel, got {len(axes)}.")
        yield axes[0].figure, axes
        return
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            n_panels, 1, sharex=True, squeeze=False, figsize=(width, height), layout="constrained", height_ratios=ratios
        )
        is_interactive = plt.isinteractive()  # the first figure loads the backend, which in a notebook turns it on
        yield figure, axes[:, 0]
    if is_interactive:
        plt.ion()


def look(name, place):
    """Line style of a method: dnnext is emphasised, all others are muted, in the order of their places.

    Parameters
    ----------
    name : str
        "dnnext", or a name that begins with it or with "NEXT".
    place : int
        Number of the method among those shown.
    """
    if name.startswith(("dnnext", "NEXT")):
        return dict(OURS)
    return {"color": MUTED[place % len(MUTED)], "lw": 1.1, "ls": STYLES[place // len(MUTED) % len(STYLES)]}


def shade_of(color):
    """Black or white, whichever reads better on a colour (r, g, b, ...)."""
    red, green, blue = color[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def count(n, one, many=None):
    """'1 agent', '2 agents'."""
    return f"{n} {one if n == 1 else many or one + 's'}"
