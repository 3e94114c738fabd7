"""Fits along the strength of the penalty, each from the one before."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_array, indexable

from dnnext._checks import short
from dnnext.estimators.notices import warn_user
from dnnext.estimators.rows import Matrix

__all__ = ["RegularizationPath", "regularization_path"]

N_ALPHAS = 12
SPAN = (0.1, 30.0)  # of 5 / N, the default strength
# why a fit may warn: a part of its warning, and the sentence about all fits that did
ENDS = {
    1: ("Increase max_iter", "were cut short while the objective was still falling: increase max_iter."),
    2: (
        "began to diverge",
        "began to diverge; tau was raised, or the best model kept: choose tau='auto' or a larger tau, or leave the "
        "strongest alphas out.",
    ),
    3: ("", "ended above the lowest objective measured, which was kept: choose tau='auto' or a larger tau."),
}


@dataclass(frozen=True, repr=False)
class RegularizationPath:
    """Score and sparsity of every strength in every fold: what `regularization_path` returns.

    Parameters
    ----------
    alphas : ndarray (n_alphas,)
        Strengths per sample, ascending: the order in which they were fitted.
    scores : ndarray (n_alphas, n_folds)
        Score on the held-out rows, larger is better.
    n_active_inputs, n_active_units, n_nonzero : ndarray of int (n_alphas, n_folds)
        Inputs and hidden units in use, and weights (biases aside) that are not exactly zero.
    n_inputs, n_units, n_weights : int
        How many there are.
    n_iter : ndarray of int (n_alphas, n_folds)
        Iterations of each fit.
    score_name : str
        Name of the score in figures.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import DecentralizedMLPClassifier, regularization_path
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier((4,), penalty="group", n_agents=3, tol=1e-2, random_state=0)
    >>> path = regularization_path(clf, X, y, alphas=[1e-2, 1e-1], cv=2)
    >>> path.mean_score.shape, path.best_alpha in path.alphas, path.sparsest_alpha >= path.best_alpha
    ((2,), True, True)
    """

    alphas: np.ndarray
    scores: np.ndarray
    n_active_inputs: np.ndarray
    n_active_units: np.ndarray
    n_nonzero: np.ndarray
    n_inputs: int
    n_units: int
    n_weights: int
    n_iter: np.ndarray
    score_name: str = "score"

    def __repr__(self) -> str:
        best, sparsest = (int(np.searchsorted(self.alphas, a)) for a in (self.best_alpha, self.sparsest_alpha))
        lines = [f"RegularizationPath: {len(self.alphas)} strengths, {self.scores.shape[1]} folds"]
        lines += [
            f"  {name} {self.alphas[k]:.3g}: {self.score_name} {self.mean_score[k]:.4g}, "
            f"{self.n_active_inputs[k].mean():.3g} of {self.n_inputs} inputs, "
            f"{self.n_active_units[k].mean():.3g} of {self.n_units} units"
            for name, k in (("best", best), ("sparsest", sparsest))
        ]
        return "\n".join(lines)

    @property
    def mean_score(self) -> np.ndarray:
        """Mean over folds, (n_alphas,)."""
        return self.scores.mean(axis=1)

    @property
    def score_error(self) -> np.ndarray:
        """Standard error of the mean over folds, (n_alphas,); 0 for a single fold."""
        n_folds = self.scores.shape[1]
        return np.zeros(len(self.alphas)) if n_folds == 1 else self.scores.std(axis=1, ddof=1) / np.sqrt(n_folds)

    @property
    def best_alpha(self) -> float:
        """The strength with the best mean score; the largest of equals."""
        mean = self.mean_score
        return float(self.alphas[len(mean) - 1 - int(np.argmax(mean[::-1]))])

    @property
    def sparsest_alpha(self) -> float:
        """The largest strength whose mean score is within one standard error of the best."""
        mean = self.mean_score
        best = int(np.searchsorted(self.alphas, self.best_alpha))
        return float(self.alphas[np.flatnonzero(mean >= mean[best] - self.score_error[best])[-1]])

    def plot(self, ax: Any = None) -> Any:
        """Draw score and sparsity.

        Parameters
        ----------
        ax : sequence of 2 Axes, optional
            None makes a figure of one column's width.

        Returns
        -------
        RegularizationPathDisplay
        """
        from dnnext.display import RegularizationPathDisplay

        return RegularizationPathDisplay.from_path(self, ax=ax)


def regularization_path(
    estimator: Any, X: Matrix, y: Matrix, alphas: ArrayLike | None = None, *, cv: Any = None, scoring: Any = None,
    sample_weight: ArrayLike | None = None, agent: ArrayLike | None = None, n_jobs: int | None = None, verbose: int = 0,
) -> RegularizationPath:  # fmt: skip
    """Fit along growing strengths of the penalty, each fit starting from the weights of the one before.

    The path goes from dense to sparse: all-zero weights are a stationary point of every network, so a path that came
    from the sparse end would never leave it. Folds run in parallel.

    Parameters
    ----------
    estimator : DecentralizedMLPClassifier or DecentralizedMLPRegressor
        Not changed; its `alpha` and `warm_start` are ignored.
    X, y : array-like (n, d), (n,) or (n, Q)
    alphas : array-like, optional
        Strengths > 0, in any order; None is 12 values from 0.1 to 30 times 5 / N, evenly spaced in the logarithm.
    cv : int, splitter or iterable, optional
        As in scikit-learn; None is 5 folds, stratified for a classifier.
    scoring : str or callable, optional
        As in scikit-learn; None is the estimator's `score`.
    sample_weight, agent : array-like (n,), optional
        As in `fit`; split along with the rows.
    n_jobs : int, optional
        Folds at a time; -1 is all cores. Each then keeps to its share of the cores.
    verbose : int
        Passed to joblib.

    Returns
    -------
    RegularizationPath

    Raises
    ------
    ValueError
        If there is no penalty to vary, or a strength is not above zero.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of fits that `max_iter` cut short, and of those that began to diverge.

    References
    ----------
    I. Lemhadri et al., LassoNet: a neural network with feature sparsity, JMLR 22 (2021), section 3: paths from dense to
    sparse.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import DecentralizedMLPClassifier, regularization_path
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier((5,), penalty="group", n_agents=3, tol=1e-2, random_state=0)
    >>> path = regularization_path(clf, X, y, alphas=[1e-2, 1e-1], cv=2)
    >>> path.scores.shape, int(path.n_active_inputs.max())
    ((2, 2), 4)
    """
    if not hasattr(estimator, "_open_model"):
        raise ValueError(f"estimator must be an estimator of dnnext, got {short(estimator)}.")
    if estimator.penalty is None or not isinstance(estimator.penalty, str):
        raise ValueError(
            f"estimator.penalty must be the name of a penalty, such as 'group' or 'l1', whose alpha can be varied, got "
            f"{short(estimator.penalty)}."
        )
    if "coefs" not in getattr(estimator._open_model(), "offers", ()):
        raise ValueError(
            f"estimator.model must be an MLP, whose inputs and units can be counted, got {short(estimator.model)}."
        )
    X, y, sample_weight, agent = indexable(X, y, sample_weight, agent)
    splits = list(check_cv(5 if cv is None else cv, y, classifier=is_classifier(estimator)).split(X, y))
    alphas = check_alphas(alphas, len(splits[0][0]))
    scorer = check_scoring(estimator, scoring=scoring)
    work = clone(estimator).set_params(warm_start=True, random_state=one_seed(estimator.random_state))
    rows = joblib.Parallel(n_jobs=n_jobs, verbose=verbose)(
        joblib.delayed(fit_fold)(clone(work), X, y, sample_weight, agent, train, test, alphas, scorer)
        for train, test in splits
    )
    table = np.array([fold for fold, *_ in rows])  # (folds, alphas, 6)
    scores, inputs, units, weights, n_iter, end = np.moveaxis(table, 2, 0).transpose(0, 2, 1)
    for message, category in dict.fromkeys(other for *_, others in rows for other in others):
        warn_user(message, category)
    if end.any():
        warn_user(what_ended_badly(end), ConvergenceWarning)
    return RegularizationPath(
        alphas, scores, inputs.astype(int), units.astype(int), weights.astype(int), *rows[0][1],
        n_iter=n_iter.astype(int), score_name=name_of_score(scoring, estimator),
    )  # fmt: skip


def fit_fold(estimator, X, y, sample_weight, agent, train, test, alphas, scorer):
    """([score; inputs, units, weights in use; iterations, 0 or why it warned] per strength, the three in all, others).

    others: (text, category) of the warnings that were none of convergence.
    """
    parts = [None if v is None else _safe_indexing(v, train) for v in (X, y, sample_weight, agent)]
    held_x, held_y = _safe_indexing(X, test), _safe_indexing(y, test)
    rows, others = [], []
    for alpha in alphas:
        estimator.set_params(alpha=float(alpha))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(parts[0], parts[1], sample_weight=parts[2], agent=parts[3])
        text = " ".join(str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning))
        others += [(str(w.message), w.category) for w in caught if not issubclass(w.category, ConvergenceWarning)]
        nonzero = sum(int(np.count_nonzero(weight)) for weight in estimator.coefs_)
        used = int(estimator.active_inputs_.sum()), estimator.n_active_units_, nonzero
        rows.append([scorer(estimator, held_x, held_y), *used, estimator.n_iter_, why(text)])
    sizes = [len(estimator.coefs_[0]), sum(len(w) for w in estimator.coefs_[1:]), sum(w.size for w in estimator.coefs_)]
    return rows, sizes, others


def why(text):
    """The key in ENDS of the text of a fit's ConvergenceWarning, 0 if there was none."""
    if not text:
        return 0
    return next((k for k, (word, _) in ENDS.items() if word in text), len(ENDS))


def what_ended_badly(end):
    """One sentence per reason, from the reasons of all fits (0 for none)."""
    counts = {k: int(np.sum(end == k)) for k in ENDS}
    return " ".join(f"{n} of the {end.size} fits {ENDS[k][1]}" for k, n in counts.items() if n)


def check_alphas(alphas, n_rows):
    """Ascending strengths, (n_alphas,)."""
    if alphas is None:
        return np.geomspace(*SPAN, N_ALPHAS) * 5 / n_rows
    if isinstance(alphas, str):
        raise ValueError(f"alphas must be None or a list of numbers above zero, got {short(alphas)}: None takes 12.")
    alphas = np.unique(check_array(alphas, ensure_2d=False, dtype=np.float64, input_name="alphas"))
    if alphas.ndim != 1 or not np.all(alphas > 0):
        raise ValueError(
            f"alphas must hold numbers above zero, got {alphas.min()}; a path without penalty has no zeros."
        )
    return alphas


def one_seed(random_state):
    """An integer, so that every fit of a fold draws the same graph, partition and start."""
    from dnnext.estimators.data import Seeds

    return Seeds(random_state).integer("algorithm")


def name_of_score(scoring, estimator):
    """Name of the score in figures."""
    if isinstance(scoring, str):
        return scoring.replace("_", " ")
    if scoring is not None:
        return "score"
    return "accuracy" if is_classifier(estimator) else "$R^2$"
