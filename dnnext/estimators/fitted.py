"""The fitted network: weights on standardised inputs, moments, and the same weights folded onto raw inputs.

# Design:
#   Predictions standardise first and then use the flat row: folding loses digits where a column's mean is far above
#   its spread. coefs_ / intercepts_ are the folded copy people read, compare and export; 0 / scale keeps exact zeros.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dnnext._checks import short
from dnnext.estimators.data import Moments
from dnnext.models import Frozen, Rows

ROWS_AT_ONCE = 16384


@contextlib.contextmanager
def as_before_if_it_fails(estimator):
    """If the block raises, the estimator is what it was before: a failed fit leaves the old model whole."""
    before = dict(vars(estimator))
    try:
        yield
    except ConvergenceWarning:  # turned into an error by the caller's filters; it comes after everything is set
        raise
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_warm_classes(estimator, labels):
    """ValueError if warm_start would go on from a model of other classes."""
    if estimator.warm_start and hasattr(estimator, "_network") and not np.array_equal(labels, estimator.classes_):
        raise ValueError(
            f"warm_start=True continues from a model of the classes {short(estimator.classes_)}, but y now "
            f"holds {short(labels)}: keep the classes, or set warm_start=False."
        )


@dataclass(frozen=True)
class FittedNetwork:
    """One weight row and the moments it was trained with.

    Parameters
    ----------
    model : Model
        The network's shape.
    row : ndarray (P,)
        Weights on standardised inputs.
    moments : Moments
        Scaling of inputs and outputs.
    """

    model: Any
    row: np.ndarray
    moments: Moments

    def __post_init__(self):
        """What was trained with frozen parts is the whole network."""
        if isinstance(self.model, Frozen):
            object.__setattr__(self, "row", self.model.full(self.row))
            object.__setattr__(self, "model", self.model.model)

    @np.errstate(over="ignore", invalid="ignore")
    def raw(self, x):
        """Raw outputs (n, Q) for raw inputs (n, d), in units of the target and in the precision of the weights.

        Raises
        ------
        ValueError
            If an output is not a finite number.
        """
        out = np.empty((len(x), self.model.n_outputs))
        for start in range(0, len(x), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            inputs = np.ascontiguousarray(self.moments.inputs(x[rows]), dtype=self.row.dtype)
            offsets = np.array([0, len(inputs)], dtype=np.int64)
            out[rows] = self.model.forward(self.row[None], Rows(inputs, offsets))
        out = (out * self.moments.y_scale + self.moments.y_mean).astype(self.row.dtype, copy=False)
        if not np.isfinite(out).all():
            row = int(np.argmin(np.isfinite(out).all(axis=1)))
            raise ValueError(
                f"X holds values in row {row} so far from those the model was trained on that its output is not a "
                "finite number; check their units."
            )
        return out

    @property
    def can_fold(self):
        """Whether there are coefficients that act on raw inputs: those of an MLP."""
        return "coefs" in self.model.offers

    def fold(self):
        """(coefs, intercepts): lists of (n_in, n_out) and (n_out,) arrays that act on raw inputs.

        First layer: W / x_scale, b - (x_mean / x_scale)' W. Last layer: W y_scale, b y_scale + y_mean.
        """
        layers = self.model.unpack(self.row)
        coefs = [np.array(weight) for weight, _ in layers]
        intercepts = [np.array(bias) for _, bias in layers]
        m = self.moments
        coefs[0] = (coefs[0] / m.x_scale[:, None]).astype(self.row.dtype)
        intercepts[0] = (intercepts[0] - m.x_mean @ coefs[0]).astype(self.row.dtype)
        coefs[-1] = (coefs[-1] * m.y_scale).astype(self.row.dtype)
        intercepts[-1] = (intercepts[-1] * m.y_scale + m.y_mean).astype(self.row.dtype)
        return coefs, intercepts


def unfold(model, coefs, intercepts, moments, dtype):
    """The flat row (P,) on standardised inputs of a network given on raw inputs: the inverse of `fold`.

    It lets a warm start keep its weights although new data brought new moments.
    """
    weights = [np.array(weight, dtype=np.float64) for weight in coefs]
    biases = [np.array(bias, dtype=np.float64) for bias in intercepts]
    weights[-1] = weights[-1] / moments.y_scale
    biases[-1] = (biases[-1] - moments.y_mean) / moments.y_scale
    biases[0] = biases[0] + moments.x_mean @ weights[0]
    weights[0] = weights[0] * moments.x_scale[:, None]
    return model.pack(list(zip(weights, biases, strict=True))).astype(dtype)


def active_inputs(model, row):
    """Boolean (d,): inputs with at least one weight that is not exactly zero."""
    return np.any(model.unpack(row)[0][0] != 0, axis=1)


def n_active_units(model, row):
    """Hidden units, over all hidden layers, with at least one outgoing weight that is not exactly zero."""
    return int(sum(np.count_nonzero(np.any(weight != 0, axis=1)) for weight, _ in model.unpack(row)[1:]))
