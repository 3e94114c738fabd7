"""Score and sparsity along the strength of the penalty."""

from __future__ import annotations

from dnnext.display.frame import PALETTE, drawing


class RegularizationPathDisplay:
    """What `dnnext.regularization_path` found: score above, share of inputs, units and weights in use below.

    The line is the mean over folds, the band one standard error of it. The dashed line marks the best mean score, the
    dotted one the sparsest network within one standard error of it.

    Parameters
    ----------
    path : RegularizationPath
    score_name : str
        What the score is; by default that of the path.

    Attributes
    ----------
    axes_, ax_ : ndarray of Axes (2,), Axes
        Both panels, and the one with the score.
    lines_ : list of Line2D
        Score, then the shares.
    figure_ : Figure
        The figure they are in.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import DecentralizedMLPClassifier, regularization_path
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier((4,), penalty="group", n_agents=3, tol=1e-2, random_state=0)
    >>> path = regularization_path(clf, X, y, alphas=[1e-2, 1e-1], cv=2)
    >>> display = path.plot()
    >>> len(display.lines_)
    4
    """

    def __init__(self, path, *, score_name=None):
        self.path = path
        self.score_name = path.score_name if score_name is None else score_name

    @classmethod
    def from_path(cls, path, *, score_name=None, ax=None):
        """Draw a `RegularizationPath`.

        Parameters
        ----------
        path : RegularizationPath
        score_name : str, optional
        ax : sequence of 2 Axes, optional

        Returns
        -------
        RegularizationPathDisplay
        """
        return cls(path, score_name=score_name).plot(ax=ax)

    def plot(self, ax=None):
        """Draw both panels.

        Parameters
        ----------
        ax : sequence of 2 Axes, optional
            None makes a figure of one column's width.

        Returns
        -------
        RegularizationPathDisplay
        """
        path = self.path
        with drawing(ax, 2, height=3.5) as (self.figure_, self.axes_):
            above, below = self.axes_
            self.ax_ = above
            mean, error = path.mean_score, path.score_error
            self.lines_ = above.plot(path.alphas, mean, color=PALETTE[0], marker="o", ms=2.5)
            above.fill_between(path.alphas, mean - error, mean + error, color=PALETTE[0], alpha=0.2, lw=0)
            above.set_ylabel(self.score_name)
            shares = (
                ("inputs", path.n_active_inputs / path.n_inputs, "-", "o"),
                ("hidden units", path.n_active_units / max(path.n_units, 1), "--", "s"),
                ("weights", path.n_nonzero / path.n_weights, "-.", "^"),
            )
            for (name, share, style, marker), color in zip(shares, PALETTE[1:], strict=False):
                if name == "hidden units" and path.n_units == 0:
                    continue
                look = {"color": color, "ls": style, "marker": marker, "ms": 2.5}
                self.lines_ += below.plot(path.alphas, 100 * share.mean(axis=1), label=name, **look)
            below.set(ylabel="in use (%)", ylim=(-4, 104), xlabel=r"penalty per sample $\alpha$")
            below.legend(loc="upper right")
            for axes in self.axes_:
                axes.set_xscale("log")
                look = {"color": "0.3", "lw": 0.9, "zorder": 0}
                marks = [axes.axvline(path.best_alpha, ls="--", label="best", **look)]
                if path.sparsest_alpha != path.best_alpha:
                    marks.append(
                        axes.axvline(path.sparsest_alpha, ls=":", label="sparsest within\none standard error", **look)
                    )
            above.legend(handles=marks, loc="lower left")
        return self
