"""What is printed after training: how the run ended, scores beside what is reached without any inputs."""

from __future__ import annotations

import contextlib
import sys
import warnings

import numpy as np

ENDS = {
    "converged": "converged",
    "early_stopping": "stopped by the validation score",
    "interrupted": "interrupted: the best model so far is kept",
}
MOST_ROWS = 30  # classes whose numbers are shown


def report(model, X, y, learn, test, seconds, names, local=False, ranks=None):
    """Print how the run ended, and the scores on the rows that it has not seen."""
    end = ENDS.get(model.status_, f"ended ({model.status_})")
    rounds = model.history_["round"][-1]
    print(f"{end} after {model.n_iter_} iterations in {seconds:.1f} s, {model.n_agents_} agents, {rounds} rounds")
    is_classifier = hasattr(model, "classes_")
    what = "accuracy" if is_classifier else "R2"
    if local:
        if ranks.sum_agents(np.array([len(test) == 0])) == 0:
            score = model.score_local(X[test], y[test])
            print(f"test {what} {score:.4f} over the rows of all ranks{_baseline_of_ranks(model, y, test, ranks)}")
        else:
            print("no test score: a rank has no rows to spare")
        return
    if len(test) > 1 or (len(test) and is_classifier):  # R2 needs two rows
        worst, score = min(view.score(X[test], y[test]) for view in model.agents_), model.score(X[test], y[test])
        base = _baseline(y, learn, test, is_classifier)
        print(f"test {what} {score:.4f} (the worst agent's own view: {worst:.4f}; {base})")
        if y.ndim == 2:
            _per_target(model.predict(X[test]), y, learn, test, names, is_classifier)
        elif is_classifier:
            _per_class(model, X[test], y[test])
        else:
            error = np.abs(np.asarray(model.predict(X[test])) - y[test]).mean()
            base = np.abs(y[test] - y[learn].mean()).mean()
            print(f"mean absolute error {error:.4g}; always the mean would be {base:.4g} off")


def _baseline(y, learn, test, is_classifier):
    """What a guess without inputs scores."""
    if not is_classifier:
        return "always the mean: 0.0000 or less"
    labels, counts = np.unique(y[learn], axis=0, return_counts=True)
    most = labels[np.argmax(counts)]
    if y.ndim == 2:
        return f"always the commonest labels: {np.mean((y[test] == most).all(axis=1)):.4f}"
    return f"always {str(most)!r}: {np.mean(y[test] == most):.4f}"


def _baseline_of_ranks(model, y, test, ranks):
    if not hasattr(model, "classes_"):
        return " (always the mean: 0 or less)"
    if y.ndim == 2:
        return " (all labels of a row right)"
    counts = ranks.sum_agents(np.array([[np.sum(y[test] == label) for label in model.classes_]]))
    return f" (always {str(model.classes_[np.argmax(counts)])!r}: {counts.max() / counts.sum():.4f})"


def _per_class(model, X, y):
    """Rows, recall and precision of every class."""
    predicted, classes = model.predict(X), model.classes_
    width = max(len("class"), *(len(str(label)) for label in classes))
    print(f"  {'class':{width}s}  rows  found  right when predicted")
    for label in classes[:MOST_ROWS]:
        true, guess = y == label, predicted == label
        hit = np.sum(true & guess)
        print(f"  {label!s:{width}s}  {true.sum():4d}  {_share(hit, true.sum())}  {_share(hit, guess.sum())}")
    if len(classes) > MOST_ROWS:
        print(f"  ... {len(classes) - MOST_ROWS} more classes")


def _per_target(predicted, y, learn, test, names, is_classifier):
    """Rows, recall and precision of every label, or how far every number is off."""
    width = max(len("target"), *map(len, names))
    head = "rows  found  right when predicted" if is_classifier else "mean absolute error  always the mean"
    print(f"  {'target':{width}s}  {head}")
    for k, name in enumerate(names[:MOST_ROWS]):
        true, guess = y[test, k], predicted[:, k]
        if is_classifier:
            hit = np.sum((true == 1) & (guess == 1))
            print(f"  {name:{width}s}  {true.sum():4d}  {_share(hit, true.sum())}  {_share(hit, guess.sum())}")
        else:
            base = np.abs(true - y[learn, k].mean()).mean()
            print(f"  {name:{width}s}  {np.abs(true - guess).mean():19.4g}  {base:.4g}")
    if len(names) > MOST_ROWS:
        print(f"  ... {len(names) - MOST_ROWS} more targets")


def _share(part, whole):
    return f"{part / whole:5.3f}" if whole else "    -"


@contextlib.contextmanager
def notes_on_stderr(but=None):
    """Warnings as one line each on standard error, but not those that begin with a regular expression."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if but is not None:
            warnings.filterwarnings("ignore", message=but)
        try:
            yield
        finally:
            for warning in caught:
                note(warning.message)


def note(sentence):
    """One line on standard error."""
    print(f"dnnext: note: {sentence}", file=sys.stderr)
