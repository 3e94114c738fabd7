"""The convergence figure of a run."""

from __future__ import annotations

import os

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito: safe for colour-blind readers


def draw_run(history, path, title="", score_name="validation score", references=()):
    """Write a figure of a run: objective and disagreement, and the score where there is one, against iterations.

    Parameters
    ----------
    history : dict of ndarray
        `history_` of an estimator.
    path : str
        Where to write; the ending says the format.
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
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("the figure needs matplotlib: pip install 'dnnext[plot]'.") from None
    scored = "validation_score" in history
    figure = Figure(figsize=(8.4 if scored else 4.6, 3.3), layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if os.path.splitext(path)[1].removeprefix(".").lower() not in known:
        raise ValueError(f"{path}: the figure's file must end in one of {', '.join(sorted(known))}.")
    axes = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    _draw_objective(axes[0], history)
    if scored:
        _draw_score(axes[1], history, score_name, references)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def _draw_objective(ax, history):
    iteration = history["iteration"]
    ax.plot(iteration, history["objective"], color=BLUE, label="objective U")
    apart = (history["disagreement"] > 0) & (iteration > 0)  # all agents start at one point
    ax.plot(iteration[apart], history["disagreement"][apart], color=ORANGE, ls="--", label="disagreement")
    ax.set(yscale="log", xlabel="iteration")
    ax.legend(frameon=False, fontsize=9)
    _clean(ax)


def _draw_score(ax, history, score_name, references):
    ax.plot(history["iteration"], history["validation_score"], color=BLUE, lw=2, label="the network")
    for (name, value), color, style in zip(references, (GREEN, ORANGE, GREY), ("--", ":", "-."), strict=False):
        ax.axhline(value, color=color, ls=style, label=f"{name}: {value:.3f}")
    values = [*history["validation_score"][1:], *(value for _, value in references)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.1 * (high - low) + 1e-3
    ax.set(xlabel="iteration", ylabel=score_name, ylim=(low - room, high + room))  # the untrained start is left out
    ax.legend(frameon=False, fontsize=9, loc="lower right")
    _clean(ax)


def _clean(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.02)
