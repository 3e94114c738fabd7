"""The figure of a run: panels of `dnnext.display`, and what the score is to be compared with."""

from __future__ import annotations

import os

from dnnext.cli.places import MARK
from dnnext.display import ConvergenceDisplay
from dnnext.display.frame import STYLE, look

WHERE = {"png": "Software", "pdf": "Creator", "svg": "Creator", "ps": "Creator", "eps": "Creator"}
DASHES = ("--", ":", "-.")


def draw_run(history, path, title="", score_name="validation score", references=()):
    """Write a figure of a run: objective, disagreement, and the score where there is one, against iterations.

    Parameters
    ----------
    history : dict of ndarray
        `history_` of an estimator.
    path : str
        Where to write; the ending chooses the format.
    title : str
    score_name : str
    references : sequence of (str, float)
        Named scores to compare with, drawn as horizontal lines.

    Raises
    ------
    ValueError
        If matplotlib is not installed, or does not know the file's ending.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("the figure needs matplotlib: pip install matplotlib.") from None
    scored = "validation_score" in history
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0 if scored else 3.5, 2.9), layout="constrained")
        known = FigureCanvasAgg(figure).get_supported_filetypes()
        if os.path.splitext(path)[1].removeprefix(".").lower() not in known:
            raise ValueError(f"{path}: the figure's file must end in one of {', '.join(sorted(known))}.")
        grid = figure.add_gridspec(2, 2 if scored else 1, width_ratios=(1, 1.3) if scored else None)
        top = figure.add_subplot(grid[0, 0])
        panels = {"objective": top, "disagreement": figure.add_subplot(grid[1, 0], sharex=top)}
        if scored:
            panels["score"] = figure.add_subplot(grid[:, 1])
        display = ConvergenceDisplay([history], x="iteration", y=list(panels), score_name=score_name)
        display.plot(ax=list(panels.values()))
        panels["disagreement"].set(xlabel="iterations", ylabel="disagreement")
        figure.align_ylabels()
        top.tick_params(labelbottom=False)
        if scored:
            _compare(panels["score"], display.lines_[-1][0], history, references)
        if title:
            figure.suptitle(title, fontsize=9)
        key = WHERE.get(os.path.splitext(path)[1].removeprefix(".").lower())
        figure.savefig(path, **({"metadata": {key: MARK}} if key else {}))


def _compare(ax, line, history, references):
    """Name the run and draw the scores to compare with; the untrained start does not set the scale."""
    line.set(label="dnnext", linewidth=2)
    for k, ((name, value), style) in enumerate(zip(references, DASHES, strict=False)):
        ax.axhline(value, **look(name, k) | {"ls": style, "lw": 1.4}, label=f"{name}: {value:.3f}")
    values = [*history["validation_score"][1:], *(value for _, value in references)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.1 * (high - low) + 1e-3
    ax.set_ylim(low - margin, high + margin)
    if references:
        ax.legend(loc="lower right")
