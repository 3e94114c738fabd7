"""Numbers that are probably not meant, or that make training slow: noted, never changed.

# Design:
#   Gaps are often written as -999 or 9999, and then count as numbers; a column's largest and smallest number show it.
#   Columns that reach very far decide the scale and the curvature, so that a run needs many iterations. Each process
#   looks at its own rows, once per fit, and sends nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.estimators.inputs import input_names
from dnnext.estimators.notices import warn_user

Array = NDArray[Any]

FAR = 2  # times the range of the other numbers that a number must be away from them
MOST = 10  # digits of a number of nines
REACH, TIMES = 50.0, 4.0  # deviations, and how many times those of the quantiles below
QUANTILES = 0.005, 0.995
SHOWN = 3
CHUNK = 4096  # rows that are looked at together


def stand_in(values: Array) -> float | None:
    """The number of nines, such as -999 or 9999, that is far outside of all others; None if there is none.

    values (K,): the numbers of a column, or its distinct ones.

    >>> stand_in(np.array([3.0, -999.0, 12.0])), stand_in(np.array([3.0, 99.0, 80.0]))
    (-999.0, None)
    """
    low, high = float(np.min(values)), float(np.max(values))
    for found in (low, high):
        if not _is_nines(found):
            continue
        others = values[values != found]
        if len(others) and np.min(np.abs(others - found)) > FAR * np.ptp(others):
            return found
    return None


def _is_nines(value: float) -> bool:
    digits = str(int(abs(value))) if value.is_integer() and abs(value) < 10**MOST else ""
    return len(digits) > 1 and set(digits) == {"9"}


def note_unusual(estimator: Any, x: Array, is_private: bool = False) -> None:
    """Warn of stand-ins in the rows of a fit, and keep the sentence about columns that reach far."""
    names = input_names(estimator)
    note_stand_ins(x, names, is_private)
    estimator._far_columns = far_columns(x, names)


def note_stand_ins(x: Array, names: Any, is_private: bool = False) -> None:
    """A warning for every column of x (n, d) that holds such a number in two rows or more."""
    if x.ndim != 2 or not len(x):
        return
    low, high = x.min(axis=0), x.max(axis=0)
    for k in range(x.shape[1]):
        if not (_is_nines(float(low[k])) or _is_nines(float(high[k]))):
            continue
        value = stand_in(x[:, k])
        count = int(np.sum(x[:, k] == value))
        if value is None or count < 2:
            continue
        what = "a number of nines" if is_private else f"{value:.0f} in {count} rows"
        warn_user(
            f"column {_name(names, k)} holds {what}, far outside of its other numbers: if it stands for a gap, write "
            "NaN, which preprocess='auto' fills."
        )


def far_columns(x: Array, names: Any) -> str:
    """A sentence about columns of x (n, d) with a few numbers very far from the others; '' if there are none.

    Far is 50 deviations from the mean, and four times as far as the quantiles 0.5 % and 99.5 %, which must differ.
    """
    if x.ndim != 2 or len(x) <= REACH**2:  # no number of n is further than sqrt(n - 1) deviations
        return ""
    mean, spread = _moments(x)
    reach = np.maximum(x.max(axis=0) - mean, mean - x.min(axis=0)) / spread
    found = []
    for k in np.flatnonzero(reach > REACH).tolist():
        low, high = np.quantile(x[:, k].astype(np.float64), QUANTILES)
        if low < high and reach[k] > TIMES * max(mean[k] - low, high - mean[k]) / spread[k]:
            found.append(k)
    if not found:
        return ""
    found.sort(key=lambda k: -reach[k])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    shown = ", ".join(f"{_name(names, k)} ({reach[k]:.0f})" for k in found[:SHOWN]) + more
    return (
        f"Some inputs reach many standard deviations from their mean, which makes training slow: {shown}. "
        "preprocess=NetworkPreprocessor(clip=0.005) moves such numbers to the quantiles of their column."
    )


def _moments(x: Array) -> tuple[Array, Array]:
    """Means and standard deviations of the columns, 1 of constant ones, without a copy of x."""
    mean, squares = x.mean(axis=0, dtype=np.float64), np.zeros(x.shape[1])
    for start in range(0, len(x), CHUNK):
        squares += np.square(x[start : start + CHUNK] - mean).sum(axis=0)
    spread = np.sqrt(squares / len(x))
    return mean, np.where(spread > 0, spread, 1.0)


def _name(names: Any, k: int) -> str:
    return str(k) if names is None else repr(str(names[k]))
