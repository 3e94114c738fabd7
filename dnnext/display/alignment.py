"""Angles between direct feedback and backpropagation."""

from __future__ import annotations

import numpy as np

from dnnext.display.frame import PALETTE, STYLES, drawing


class AlignmentDisplay:
    """How well direct feedback points along backpropagation: the angle of every hidden layer.

    The dashed line at 90 degrees is chance: feedback is of use to a layer below it.

    Parameters
    ----------
    x : (T,) array
        Iterations, or sizes of a layer.
    mean : (T, layers) array
        Cosines.
    std : (T, layers) array, optional
        Their standard deviation over rows, drawn as a band.
    score : (T, n) array, optional
        Scores to draw in a second panel, such as accuracies.
    score_labels : sequence of n str, optional
    x_label : str

    Attributes
    ----------
    axes_, ax_ : ndarray of Axes, Axes
        All panels, and the one with the angles.
    lines_ : list of Line2D
        One per layer, then one per score.
    figure_ : Figure

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> display = AlignmentDisplay([0, 10, 20], [[0.0, 0.1], [0.3, 0.2], [0.5, 0.4]]).plot()
    >>> len(display.lines_), display.ax_.get_ylabel()
    (2, 'angle (degrees)')
    """

    def __init__(self, x, mean, std=None, *, score=None, score_labels=None, x_label="iteration"):
        self.x, self.mean = np.asarray(x), np.atleast_2d(np.asarray(mean, dtype=float))
        self.std = None if std is None else np.atleast_2d(np.asarray(std, dtype=float))
        self.score = None if score is None else np.asarray(score, dtype=float).reshape(len(self.x), -1)
        self.score_labels, self.x_label = score_labels, x_label
        if len(self.mean) != len(self.x) or (self.std is not None and self.std.shape != self.mean.shape):
            raise ValueError(
                f"mean and std must have one row for each of the {len(self.x)} values of x, got {self.mean.shape} and "
                f"{None if self.std is None else self.std.shape}."
            )

    @classmethod
    def from_callback(cls, alignment, *, ax=None):
        """Draw what `dnnext.callbacks.Alignment` recorded.

        Parameters
        ----------
        alignment : Alignment
            After a run.
        ax : Axes, optional

        Returns
        -------
        AlignmentDisplay

        Raises
        ------
        ValueError
            If it has not recorded anything.
        """
        history = alignment.history
        if not len(history["iteration"]):
            raise ValueError("alignment must have been among the callbacks of a run, got one without records.")
        return cls(history["iteration"], history["mean"], history["std"]).plot(ax=ax)

    @classmethod
    def from_bottleneck(cls, widths, cosine, score=None, *, score_labels=None, ax=None):
        """Draw the angle of the layer below a bottleneck, and scores if there are any, over the bottleneck's width.

        Parameters
        ----------
        widths : (T,) array
        cosine : (T,) array
        score : (T, n) array, optional
        score_labels : sequence of n str, optional
        ax : Axes, or sequence of 2 Axes with a score, optional

        Returns
        -------
        AlignmentDisplay
        """
        column = np.asarray(cosine, dtype=float)[:, None]
        display = cls(widths, column, score=score, score_labels=score_labels, x_label="width of the bottleneck")
        display.plot(ax=ax)
        display.ax_.set_xscale("log", base=2)
        return display

    def plot(self, ax=None):
        """Draw the angles, and the scores below them.

        Parameters
        ----------
        ax : Axes, or sequence of 2 Axes with a score, optional
            None makes a figure of one column's width.

        Returns
        -------
        AlignmentDisplay
        """
        n_panels = 1 if self.score is None else 2
        with drawing(ax, n_panels, height=2.4 if n_panels == 1 else 3.6) as (self.figure_, self.axes_):
            self.ax_, self.lines_ = self.axes_[0], []
            for k, cosine in enumerate(self.mean.T):
                look = {"color": PALETTE[k % len(PALETTE)], "ls": STYLES[k % len(STYLES)]}
                self.lines_ += self.ax_.plot(self.x, _degrees(cosine), label=f"layer {k + 1}", **look)
                if self.std is not None:
                    low, high = (_degrees(cosine + sign * self.std[:, k]) for sign in (1, -1))
                    self.ax_.fill_between(self.x, low, high, color=look["color"], alpha=0.12, lw=0)
            self.ax_.axhline(90, color="0.3", lw=0.9, ls="--", zorder=0)
            self.ax_.set(ylabel="angle (degrees)", ylim=(0, 120))
            if self.mean.shape[1] > 1:
                self.ax_.legend(loc="lower left", ncols=2)
            for k, score in enumerate(() if self.score is None else self.score.T):
                label = self.score_labels[k] if self.score_labels else None
                look = {
                    "color": PALETTE[(k + 1) % len(PALETTE)],
                    "ls": STYLES[k % len(STYLES)],
                    "marker": "o",
                    "ms": 2.5,
                }
                self.lines_ += self.axes_[1].plot(self.x, score, label=label, **look)
            if n_panels == 2:
                self.axes_[1].set_ylabel("accuracy")
                if self.score_labels:
                    self.axes_[1].legend(loc="lower right")
            self.axes_[-1].set_xlabel(self.x_label)
        return self


def _degrees(cosine):
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
