"""What y holds, one class per kind: labels, sets of labels, numbers.

# Design:
#   A Targets object is made from y once (`learned`, or `of_ranks` where every rank has its own y) and knows from then
#   on how y becomes codes, codes what the loss wants, raw outputs a prediction and a score. Codes are (n,) or (n, Q).
#   `loss` is the estimator's parameter: a name or a Loss.
"""

from __future__ import annotations

import json

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import r2_score
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from dnnext._checks import check_positive, short
from dnnext.estimators.rows import joined_labels, plain_labels, real_numbers, sorted_labels
from dnnext.preprocessing.columns import some
from dnnext.problem import Huber, Logistic, Loss, Poisson, Softmax, SquaredError, SquaredHinge


class Classes:
    """One label of several per row.

    Parameters
    ----------
    labels : ndarray (K,)
        Sorted.
    loss : str
    """

    has_one_label = True

    def __init__(self, labels, loss="auto"):
        self.labels, self.loss = labels, loss
        self.n_outputs = 1 if len(labels) == 2 else len(labels)

    @property
    def has_probabilities(self):
        """Whether raw outputs are log-odds."""
        return self.loss != "squared_hinge"

    def make_loss(self):
        """The Loss: one raw output for two classes, one per class beyond."""
        if not self.has_probabilities:
            return SquaredHinge()
        return Logistic() if self.n_outputs == 1 else Softmax()

    @property
    def out_activation(self):
        """What scikit-learn's MLP calls the function from raw outputs to predictions."""
        if not self.has_probabilities:
            return "identity"
        return "logistic" if self.n_outputs == 1 else "softmax"

    def codes(self, y, name):
        """The place of each label, (n,)."""
        unknown = np.setdiff1d(y, self.labels)
        if len(unknown):
            raise ValueError(
                f"{name} holds the label {short(unknown.tolist()[0])}, which is not among the classes "
                f"{short(self.labels)}."
            )
        return np.searchsorted(self.labels, y)

    def check(self, codes, weight):
        """ValueError unless rows with a weight above zero hold two classes."""
        present = np.unique(codes[weight > 0])
        if len(present) < 2:
            raise ValueError(
                f"y holds one class only ({short(self.labels[present].tolist()[0])}) in rows with a weight above zero; "
                "a classifier needs at least two classes."
            )

    def wanted(self, codes):
        """What the loss wants, (n, Q): 1 for the class of the row, else 0 (squared hinge: -1)."""
        low = 0.0 if self.has_probabilities else -1.0
        if self.n_outputs == 1:
            return np.where(codes == 1, 1.0, low)[:, None]
        targets = np.full((len(codes), self.n_outputs), low)
        targets[np.arange(len(codes)), codes] = 1.0
        return targets

    def decided(self, raw):
        """The code that the raw outputs (n, Q) stand for, (n,)."""
        return (raw[:, 0] > 0).astype(np.intp) if self.n_outputs == 1 else np.argmax(raw, axis=1)

    def predicted(self, raw):
        """The most likely label of every row, (n,)."""
        return self.labels[self.decided(raw)]

    def probabilities(self, raw, log=False):
        """Probability of every class, (n, K), or its logarithm, computed without leaving the log scale."""
        if self.n_outputs == 1:
            return np.hstack([log_expit(-raw), log_expit(raw)] if log else [expit(-raw), expit(raw)])
        return log_softmax(raw, axis=1) if log else softmax(raw, axis=1)

    def score(self, raw, codes):
        """Share of the rows that are predicted right."""
        return float(np.mean(self._right(raw, codes)))

    def score_columns(self, raw, codes, moments):
        """Numbers of each row (n, 2) whose sums over all rows make the score."""
        right = self._right(raw, codes)
        return np.stack([right, np.ones(len(right))], axis=1)

    @staticmethod
    def score_of(sums):
        """The score that these sums make."""
        return float(sums[0] / sums[1])

    def _right(self, raw, codes):
        return self.decided(raw) == codes

    def balanced(self, codes, weight, runtime=None):
        """Weight of each class, ``sum_l t_l / (K t_k)`` with t the sums (K,) of the rows' weights over the network."""
        return _balanced(np.bincount(codes, weights=weight, minlength=len(self.labels)), runtime)

    def factors(self, balance, codes):
        """What multiplies the weight of every row, (n,), from what `balanced` returned."""
        return balance[codes]

    def given_weights(self, class_weight):
        """Weight of each class (K,), 1 where the dict has none.

        Raises
        ------
        ValueError
            If it is no dict, or names other classes only or beside too few of these, or holds no finite numbers >= 0.
        """
        if not isinstance(class_weight, dict):
            raise ValueError(f"class_weight must be a dict of the classes' weights, got {short(class_weight)}.")
        return _weights_of(class_weight, self.labels.tolist())


class LabelSets(Classes):
    """Any number of labels per row: y (n, L) of zeros and ones, one logistic output per label."""

    has_one_label = False

    def __init__(self, n_labels, loss="auto"):
        self.labels, self.n_outputs, self.loss = np.arange(n_labels), n_labels, loss

    def make_loss(self):
        """The Loss: one logistic output per label, or one margin."""
        return Logistic() if self.has_probabilities else SquaredHinge()

    @property
    def out_activation(self):
        """As for classes."""
        return "logistic" if self.has_probabilities else "identity"

    def codes(self, y, name):
        """Zeros and ones (n, L)."""
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] != self.n_outputs:
            raise ValueError(f"{name} must have one column per label ({self.n_outputs}), got shape {y.shape}.")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"{name} must hold zeros and ones, one column per label.")
        return y.astype(np.int64)

    def check(self, codes, weight):
        """Any zeros and ones will do."""

    def wanted(self, codes):
        """0 and 1, or -1 and 1 for the squared hinge: (n, L)."""
        return codes.astype(float) if self.has_probabilities else 2.0 * codes - 1.0

    def decided(self, raw):
        """1 where a label is more likely than not, (n, L)."""
        return (raw > 0).astype(np.int64)

    def predicted(self, raw):
        """Zeros and ones (n, L)."""
        return self.decided(raw)

    def probabilities(self, raw, log=False):
        """Probability of every label, (n, L)."""
        return log_expit(raw) if log else expit(raw)

    def _right(self, raw, codes):
        return (self.decided(raw) == codes).all(axis=1)

    def balanced(self, codes, weight, runtime=None):
        """Weights of 0 and 1 for each label, (L, 2), each label balanced by itself."""
        ones = weight @ codes
        totals = np.stack([weight.sum() - ones, ones], axis=1)
        return _balanced(totals, runtime)

    def factors(self, balance, codes):
        """The product over the labels, as in scikit-learn."""
        return np.prod(balance[np.arange(self.n_outputs), codes], axis=1)

    def given_weights(self, class_weight):
        """Weights of 0 and 1 for each label, (L, 2), from a list of one dict per label."""
        if not isinstance(class_weight, list) or len(class_weight) != self.n_outputs:
            raise ValueError(
                f"class_weight must be 'balanced' or a list of {self.n_outputs} dicts of the weights of 0 and 1, one "
                f"per label, where rows have several labels, got {short(class_weight)}."
            )
        return np.array([_weights_of(each, [0, 1]) for each in class_weight])


class Numbers:
    """Real targets, one column or several.

    Parameters
    ----------
    n_outputs : int
    is_flat : bool
        Whether y is (n,), and predictions with it.
    loss : str or Loss
    """

    def __init__(self, n_outputs, is_flat, loss="auto"):
        self.n_outputs, self.is_flat, self.loss = n_outputs, is_flat, loss

    @property
    def is_log(self):
        """Whether raw outputs are logarithms of what is predicted."""
        return (self.loss if isinstance(self.loss, str) else getattr(self.loss, "name", "")) == "poisson"

    @property
    def out_activation(self):
        """The function from raw outputs to predictions."""
        return "exp" if self.is_log else "identity"

    def make_loss(self):
        """The Loss."""
        if isinstance(self.loss, Loss):
            return self.loss
        return {"huber": Huber, "poisson": Poisson}.get(self.loss, SquaredError)()

    def codes(self, y, name):
        """Finite float64 numbers, (n,) or (n, Q)."""
        numbers = finite_numbers(name, y)
        width = 1 if numbers.ndim == 1 else numbers.shape[1]
        if width != self.n_outputs:
            raise ValueError(f"{name} has {width} column(s), but the model has {self.n_outputs}.")
        return numbers

    def check(self, codes, weight):
        """Any finite numbers will do."""

    def wanted(self, codes):
        """(n, Q)."""
        return codes[:, None] if codes.ndim == 1 else codes

    def predicted(self, raw):
        """(n,) or (n, Q), as y was."""
        return self._means(raw)[:, 0] if self.is_flat else self._means(raw)

    def _means(self, raw):
        with np.errstate(over="ignore"):
            return np.exp(raw) if self.is_log else raw

    def score(self, raw, codes):
        """R2."""
        return float(r2_score(self.wanted(codes), self._means(raw)))

    def score_columns(self, raw, codes, moments):
        """Squared residuals, deviations and their squares, and ones: (n, 4, Q)."""
        y = self.wanted(codes)
        deviation = y - moments.y_mean
        return np.stack([(y - self._means(raw)) ** 2, deviation, deviation**2, np.ones(y.shape)], axis=1)

    @staticmethod
    def score_of(sums):
        """R2, the mean over outputs, from the sums of `score_columns`."""
        residual, deviation, square, n = sums
        spread = square - deviation**2 / n
        constant = spread <= 0
        ratio = np.divide(residual, spread, out=(residual > 0).astype(float), where=~constant)
        return float(np.mean(1 - ratio))


def _balanced(total, runtime):
    """``sum_l t_l / (K t_k)`` along the last axis of t, summed over the agents of a runtime; 1 where t is zero."""
    total = total if runtime is None else runtime.sum_agents(total[None])
    held = total > 0
    shared = held.sum(axis=-1, keepdims=True) * total
    return np.divide(total.sum(axis=-1, keepdims=True), shared, out=np.ones(total.shape), where=held)


def _weights_of(given, labels):
    """The weights (K,) that a dict gives to labels, 1 for those that it leaves out."""
    strange = [label for label in given if label not in labels]
    if strange and any(label not in given for label in labels):  # more classes than y has are left in peace
        raise ValueError(
            f"class_weight must name classes of y ({some(list(map(str, labels)))}), got {short(strange[0])}."
        )
    return np.array([_checked_weight(given.get(label, 1.0), given) for label in labels])


def _checked_weight(weight, given):
    try:
        return check_positive("class_weight", weight, allow_zero=True)
    except ValueError:
        raise ValueError(f"class_weight must hold finite numbers >= 0, got {short(given)}.") from None


def finite_numbers(name, y):
    """Real numbers, refused if they are not finite."""
    numbers = real_numbers(name, y)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity.")
    return numbers


def is_label_sets(y):
    """Whether y (n, L) marks with zeros and ones which labels a row has."""
    return getattr(y, "ndim", 1) == 2 and y.shape[1] > 1 and type_of_target(y) == "multilabel-indicator"


def learned(kind, y, loss="auto"):
    """The Targets that y (n,) or (n, Q) stands for."""
    if kind == "regressor":
        numbers = finite_numbers("y", y)
        return Numbers(1 if numbers.ndim == 1 else numbers.shape[1], numbers.ndim == 1, loss)
    if is_label_sets(y):
        return LabelSets(y.shape[1], loss)
    labels, _ = sorted_labels("y", y)
    try:
        check_classification_targets(y)
    except ValueError as error:
        if "unknown" not in str(error):
            raise
        kinds = sorted({type(label).__name__ for label in np.asarray(y).flat})
        raise ValueError(
            f"Unknown label type: y must hold text, booleans or whole numbers of 64 bits, got objects of {short(kinds)}"
            f": convert them, to text with y.astype(str), or truths with y.astype(bool)."
        ) from None
    return Classes(labels, loss)


def of_ranks(kind, y, ranks, loss="auto"):
    """The Targets of all ranks, each with its own y; collective."""
    with ranks.together():
        own = learned(kind, y, loss)
        labels = np.empty(0) if kind == "regressor" else plain_labels("y", own.labels)
    has_one_label = getattr(own, "has_one_label", False)
    shape = (type(own).__name__, getattr(own, "is_flat", None), None if has_one_label else own.n_outputs)
    ranks.agree("the number of dimensions of y", 1 if getattr(y, "ndim", 1) == 1 else 2)
    ranks.agree("what y holds", repr(shape))
    if not has_one_label:
        return own
    sent = [json.loads(text) for text in ranks.all_ranks(json.dumps([labels.dtype.str, labels.tolist()]))]
    every = [np.array(values, dtype=dtype) for dtype, values in sent]
    labels = np.unique(joined_labels(every, [f"rank {k}" for k in range(len(every))]))
    if len(labels) < 2:
        raise ValueError(f"y holds one class only ({short(labels.tolist()[0])}) on all ranks; two are needed.")
    return Classes(labels, loss)


def of_classes(classes, y, loss="auto"):
    """The Targets of a stream whose labels are given before they come; y is its first rows."""
    if is_label_sets(y) and len(classes) == y.shape[1]:
        return LabelSets(y.shape[1], loss)
    labels, _ = sorted_labels("classes", classes)
    if any(label is None or label != label for label in labels.tolist()):
        raise ValueError(f"classes must hold labels, none of them NaN, got {short(classes)}.")
    if len(labels) < 2:
        raise ValueError(f"classes holds {len(labels)} label; there must be at least two.")
    return Classes(labels, loss)
