"""Objective, stationarity, disagreement or score of runs against rounds, bytes or seconds."""

from __future__ import annotations

import numpy as np

from dnnext._checks import short
from dnnext.display.frame import PALETTE, STYLES, drawing

X_LABELS = {
    "iteration": "iterations",
    "round": "rounds of messages",
    "bytes": "data sent by all agents ({})",
    "seconds": "time ({})",
}
Y_LABELS = {
    "objective": r"objective $U(\bar w)$",
    "gap": "gap to the lowest objective\nof these runs",
    "stationarity": "stationarity",
    "disagreement": "disagreement of the agents",
    "tracking_error": "tracking error",
    "tau": r"proximal weight $\tau$",
    "step": "step size",
    "score": "validation score",
}
LINEAR = ("score", "step")
ROUNDING = 1e-20  # of the largest value: what a measure that is 0 by design may start with
UNITS = {
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")),
    "seconds": ((60 * 60.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")),
}


class ConvergenceDisplay:
    """How runs converged: any measure of their history against rounds, iterations, bytes or seconds.

    Use `from_estimator`, `from_estimators`, `from_result` or `from_results` to make one.

    Parameters
    ----------
    histories : sequence of dict
        `history_` of estimators, or `history` of results.
    names : sequence of str or None
        What the legend calls them; None draws no legend.
    x : {'round', 'iteration', 'bytes', 'seconds'}
        What the runs are measured by. Bytes count what neighbours sent to each other, seconds the iterations alone.
    y : str or sequence of str
        Columns of the history, each in a panel of its own: 'objective', 'stationarity', 'disagreement',
        'tracking_error', 'tau', 'step', 'score' (the validation score), or 'gap', ``(U - U*) / |U*|`` to the lowest
        objective of these runs.
    score_name : str
        What the validation score is.

    Attributes
    ----------
    lines_ : list of list of Line2D
        One list per panel, one line per run.
    ax_, axes_ : Axes, ndarray of Axes
        The first panel, and all of them.
    figure_ : Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier(n_agents=4, max_iter=10, tol=0, random_state=0).fit(X, y)
    >>> display = ConvergenceDisplay.from_estimator(clf, x="bytes")
    >>> display.ax_.get_xlabel()
    'data sent by all agents (MB)'
    """

    def __init__(self, histories, *, names=None, x="round", y="objective", score_name="validation score"):
        self.histories = [dict(history) for history in histories]
        self.names = None if names is None else [str(name) for name in names]
        self.x, self.y, self.score_name = x, y, score_name
        if not self.histories:
            raise ValueError("histories must hold the history of at least one run, got none.")
        if self.names is not None and len(self.names) != len(self.histories):
            raise ValueError(
                f"names must have one entry per run, got {len(self.names)} entries for {len(self.histories)} runs."
            )

    @classmethod
    def from_estimator(cls, estimator, *, x="round", y="objective", name=None, ax=None, **kwargs):
        """Draw the run of one fitted estimator.

        Parameters
        ----------
        estimator : DecentralizedMLPClassifier or DecentralizedMLPRegressor
            Fitted.
        x, y : str
            See `ConvergenceDisplay`.
        name : str, optional
            Name in the legend; None draws no legend.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        ConvergenceDisplay
        """
        return cls.from_estimators([estimator], names=[name] if name else (), x=x, y=y, ax=ax, **kwargs)

    @classmethod
    def from_estimators(cls, estimators, *, x="round", y="objective", names=None, ax=None, **kwargs):
        """Draw the runs of several fitted estimators.

        Parameters
        ----------
        estimators : sequence of estimators, or dict of name to estimator
        x, y : str
            See `ConvergenceDisplay`.
        names : sequence of str, optional
            Names in the legend. None takes the parameters in which the estimators differ; () draws no legend.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If an estimator is not fitted.
        """
        from sklearn.base import is_classifier
        from sklearn.utils.validation import check_is_fitted

        if isinstance(estimators, dict):
            names, estimators = list(estimators), list(estimators.values())
        estimators = list(estimators)
        for estimator in estimators:
            if not hasattr(estimator, "fit"):
                raise ValueError(f"estimators must be fitted estimators of dnnext, got {short(estimator)}.")
            check_is_fitted(estimator)
        if names is None:
            names = differences(estimators)
        kinds = {is_classifier(estimator) for estimator in estimators}
        score = {frozenset([True]): "validation accuracy", frozenset([False]): "validation $R^2$"}
        score_name = score.get(frozenset(kinds), "validation score")
        histories = [estimator.history_ for estimator in estimators]
        return cls(histories, names=names or None, x=x, y=y, score_name=score_name).plot(ax=ax, **kwargs)

    @classmethod
    def from_result(cls, result, *, x="round", y="objective", name=None, ax=None, **kwargs):
        """Draw the run of one result.

        Parameters
        ----------
        result : Result
            What `run` of an algorithm returned.
        x, y : str
            See `ConvergenceDisplay`.
        name : str, optional
            Name in the legend; None draws no legend.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        ConvergenceDisplay
        """
        return cls.from_results([result], names=[name] if name else (), x=x, y=y, ax=ax, **kwargs)

    @classmethod
    def from_results(cls, results, *, x="round", y="objective", names=None, ax=None, **kwargs):
        """Draw the runs of several results.

        Parameters
        ----------
        results : sequence of Result, or dict of name to Result
        x, y : str
            See `ConvergenceDisplay`.
        names : sequence of str, optional
            Names in the legend; None counts the runs.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        ConvergenceDisplay
        """
        if isinstance(results, dict):
            names, results = list(results), list(results.values())
        results = list(results)
        if names is None:
            names = [f"run {k}" for k in range(1, len(results) + 1)] if len(results) > 1 else ()
        return cls([result.history for result in results], names=names or None, x=x, y=y).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, x=None, y=None, xscale="auto", yscale="auto", best=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            One per panel; None makes a figure of one column's width.
        x, y : str, optional
            Other columns than those of the display.
        xscale, yscale : {'auto', 'linear', 'log'}
            'auto' is logarithmic for x if the runs' lengths differ more than 20 times, and for y if a measure is
            positive and spans more than a factor of 4. Values <= 0 are left out of a logarithmic axis.
        best : float, optional
            ``U*`` of 'gap'; None is the smallest objective of these runs.
        **kwargs
            Passed to ``Axes.plot``.

        Returns
        -------
        ConvergenceDisplay
        """
        self.x, self.y = x or self.x, self.y if y is None else y
        measures = [self.y] if isinstance(self.y, str) else list(self.y)
        if self.x not in X_LABELS:
            raise ValueError(f"x must be one of {', '.join(X_LABELS)}, got {short(self.x)}.")
        lengths, label = self._lengths()
        with drawing(ax, len(measures), height=1.1 + 1.4 * len(measures)) as (self.figure_, self.axes_):
            self.lines_ = [
                self._panel(axes, measure, lengths, yscale, best, kwargs)
                for axes, measure in zip(self.axes_, measures, strict=True)
            ]
            ends = [length[-1] for length in lengths if length[-1] > 0]
            if xscale == "log" or (xscale == "auto" and ends and max(ends) > 20 * min(ends)):
                for axes in self.axes_:
                    axes.set_xscale("log")
            self.axes_[-1].set_xlabel(label)
            self.ax_ = self.axes_[0]
            if self.names is not None:
                self.ax_.legend()
        return self

    def _lengths(self):
        """(x values of every run, label with the unit)."""
        lengths = [np.asarray(column(history, self.x), dtype=float) for history in self.histories]
        if self.x not in UNITS:
            return lengths, X_LABELS[self.x]
        largest = max(length.max() for length in lengths)
        scale, unit = next((pair for pair in UNITS[self.x] if largest >= pair[0]), UNITS[self.x][-1])
        return [length / scale for length in lengths], X_LABELS[self.x].format(unit)

    def _panel(self, axes, measure, lengths, yscale, best, kwargs):
        columns = [np.asarray(self._measure(history, measure, best), dtype=float) for history in self.histories]
        logarithmic = yscale == "log" or (yscale == "auto" and wants_log(measure, columns))
        lines = []
        for k, (length, values) in enumerate(zip(lengths, columns, strict=True)):
            shown = np.isfinite(values)
            if logarithmic:
                shown &= values > 0
                shown[:1] &= values[:1] > ROUNDING * np.max(values, where=shown, initial=0)
            look = {"color": PALETTE[k % len(PALETTE)], "linestyle": STYLES[k % len(STYLES)]} | kwargs
            label = None if self.names is None else self.names[k]
            lines += axes.plot(length[shown], values[shown], label=label, **look)
        if logarithmic:
            axes.set_yscale("log")
            plain_numbers(axes)
        label = self.score_name if measure == "score" else Y_LABELS[measure]
        axes.set_ylabel(f"gap to the objective {best:.4g}" if measure == "gap" and best is not None else label)
        axes.margins(x=0.02)
        return lines

    def _measure(self, history, measure, best):
        if measure not in Y_LABELS:
            raise ValueError(f"y must be one of {', '.join(Y_LABELS)}, got {short(measure)}.")
        if measure != "gap":
            return column(history, measure)
        least = min(np.min(other["objective"]) for other in self.histories) if best is None else float(best)
        return (np.asarray(history["objective"]) - least) / abs(least)


def column(history, name):
    """A column of a history."""
    key = "validation_score" if name == "score" else name
    if key not in history or len(history[key]) == 0:
        hint = "; fit with eval_set=(X, y) or early_stopping=True" if name == "score" else ""
        raise ValueError(f"the history has no {key!r}, only {', '.join(history)}{hint}.")
    return history[key]


def wants_log(measure, columns):
    """Whether the positive values span more than a factor of 4."""
    values = np.concatenate(columns)
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if measure in LINEAR or len(positive) == 0 or np.any(values < 0):
        return False
    return bool(positive.max() > 4 * positive.min())


def plain_numbers(axes):
    """0.2 rather than 2 x 10^-1 where a logarithmic axis spans less than two powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_ylim()
    if high < 100 * low and low > 1e-4 and high < 1e5:
        digits = (1, 2, 3, 5) if high > 5 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
        axes.yaxis.set_major_locator(LogLocator(subs=digits))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def differences(estimators):
    """Names made of the parameters in which the estimators differ, or () for one estimator."""
    if len(estimators) < 2:
        return ()
    params = [estimator.get_params(deep=False) for estimator in estimators]
    shared = [key for key in params[0] if all(key in p for p in params)]
    differ = [key for key in shared if any(repr(p[key]) != repr(params[0][key]) for p in params)]
    names = [", ".join(f"{key}={p[key]}" for key in differ if key != "random_state") for p in params]
    numbered = [f"run {k}" for k in range(1, len(names) + 1)]
    return (
        names
        if len(set(names)) == len(names)
        else [f"{n}: {a}" if a else n for n, a in zip(numbered, names, strict=True)]
    )
