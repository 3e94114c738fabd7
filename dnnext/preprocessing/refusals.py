"""Tables as they are handed in: what is refused before scikit-learn looks, and its own refusals made precise.

# Design:
#   scikit-learn's sentences stay in front, since other tools look for them; behind them stands where the value is and
#   what to do. Text names of columns are scikit-learn's business (`feature_names_in_`); other labels of a data frame,
#   such as whole numbers, are kept beside it as `_labels`, so that columns in another order are refused, too.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from dnnext._checks import short

__all__ = ["check_numbers", "checked_table", "column_names", "dense_frame", "in_order", "precise", "remember_labels"]

DATES = "holds dates or times; turn them into numbers, or leave the column out"


def column_names(X: Any) -> list[Any] | None:
    """The names of a data frame's columns, None for anything else."""
    names = getattr(X, "column_names", None)  # of an Arrow table, whose `columns` are the columns themselves
    names = getattr(X, "columns", None) if names is None else names
    return None if names is None or callable(names) or not hasattr(X, "shape") else list(names)


def in_order(X: Any, names: list[Any] | None, whose: str) -> Any:
    """A data frame with its columns in the order of `names`; anything else as it is if there are no names.

    Raises
    ------
    ValueError
        If the columns are others, or stand in it twice.
    """
    own = column_names(X)
    if own == names:
        return X
    if own is None or names is None:
        wanted = "have no column names" if names is None else f"be a data frame with the columns {short(names)}"
        raise ValueError(f"X of {whose} must {wanted}, as that of agents[0]; got {type(X).__name__}.")
    missing, more = [n for n in names if n not in own], [n for n in own if n not in names]
    if missing or more or len(set(own)) < len(own):
        raise ValueError(
            f"X of {whose} must have the columns of agents[0], {short(names)}, in any order; got {short(own)}."
        )
    return X.select(names) if hasattr(X, "column_names") else X[names]


def dense_frame(X: Any) -> Any:
    """The table without sparse columns and masks: a masked value is a gap.

    Raises
    ------
    ValueError
        If a name comes twice, or X holds dates, or text that only Python's float takes for a number, such as 1_0.
    """
    if isinstance(X, np.ma.MaskedArray):
        mask: Any = np.ma.getmaskarray(X)
        X = np.where(mask, np.nan, X.data) if mask.any() else X.data
    if hasattr(X, "collect") and not hasattr(X, "shape"):
        raise ValueError(f"X must be an array or a data frame, got a {type(X).__name__}: call collect() first.")
    names = column_names(X)
    if names is None:
        if getattr(getattr(X, "dtype", None), "kind", None) in ("m", "M"):
            raise ValueError("X must hold numbers, got dates or spans of time: turn them into numbers.")
        return X
    twice = [name for name in names if names.count(name) > 1] if len(set(map(str, names))) < len(names) else []
    if twice:
        raise ValueError(f"column names must differ, got {short(twice[0])} {names.count(twice[0])} times.")
    if hasattr(X, "sparse") and all(hasattr(kind, "fill_value") for kind in X.dtypes):
        return X.sparse.to_dense()
    return X


def checked_table(fitted: Any, X: Any, reset: bool) -> Any:
    """A data frame as it is, anything else as an array of numbers or objects; names and width as in the fit."""
    X = dense_frame(X)
    with precise(X, getattr(fitted, "feature_names_in_", None)):
        if column_names(X) is None:
            return validate_data(fitted, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        validate_data(fitted, X, reset=reset, skip_check_array=True)
        if 0 in X.shape:
            what = "feature" if len(X) else "sample"
            raise ValueError(f"Found array with 0 {what}(s) (shape={X.shape}), a minimum of 1 is required.")
    remember_labels(fitted, X, reset)
    return X


def table_of(fitted: Any, X: Any, names: list[Any] | None, k: int) -> Any:
    """`checked_table` of agent k with its columns in the order of `names`; the sentence names the agent."""
    try:
        return checked_table(fitted, in_order(X, names, f"agents[{k}]"), reset=k == 0)
    except ValueError as error:
        named = f"agents[{k}]" in str(error)
        raise ValueError(str(error) if named else f"X of agents[{k}] must be a table: {error}") from None


def checked_weight(sample_weight: Any, n_rows: int) -> NDArray[Any]:
    """Weights of the rows as float64 (n,), ones if None."""
    weight = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,) or not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError(
            f"sample_weight must hold one finite number >= 0 per row ({n_rows}), not all zero, got {short(weight)}."
        )
    return weight


def columns(X: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """(name, values) of each column; of an array the number of the column."""
    names = column_names(X)
    if names is None:
        array = np.asarray(X)
        yield from ((k, array[:, k]) for k in range(array.shape[1]))
    else:
        yield from ((name, np.asarray(X[name])) for name in names)


def check_numbers(X: Any, hint: str = "") -> None:
    """ValueError for the first column that holds dates, or text that is no plain number."""
    if scipy.sparse.issparse(X):
        return
    if column_names(X) is None:
        try:
            X = np.asarray(X)
        except ValueError:  # of uneven lengths: scikit-learn's business
            return
        if X.ndim != 2:
            return
    if {getattr(kind, "kind", "O") for kind in getattr(X, "dtypes", [getattr(X, "dtype", None)])} <= set("iufb"):
        return
    for name, values in columns(X):
        if values.dtype.kind in "mM":
            raise ValueError(f"column {name!r} {DATES}.")
        if values.dtype.kind not in "OUT":
            continue
        for row, cell in enumerate(values.tolist()):
            if isinstance(cell, str) and not _is_number(cell):
                raise ValueError(
                    f"could not convert string to float: column {name!r} holds the text {short(cell)} in row {row}; "
                    f"inputs must be numbers{hint}."
                )
            if isinstance(cell, datetime.date | datetime.time | datetime.timedelta | np.datetime64):
                raise ValueError(f"column {name!r} {DATES}.")


def _is_number(cell: str) -> bool:
    """Whether text is a number as everybody writes it: float() takes 1_0 and other scripts' digits, too."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def remember_labels(fitted: Any, X: Any, reset: bool) -> None:
    """Keep the labels of columns that are no text, or compare them with those of the fit.

    Raises
    ------
    ValueError
        If a data frame has them in another order, or has others.
    """
    own = column_names(X)
    texts = own is None or all(isinstance(name, str) for name in own)
    if reset:
        fitted._labels = None if texts else [str(name) for name in own or ()]
    known = getattr(fitted, "_labels", None)
    if texts or known is None or own is None:
        return
    names = [str(name) for name in own]
    plain = [str(k) for k in range(len(names))]  # how a data frame without names counts its columns
    if names != known and (sorted(names) == sorted(known) or plain not in (names, known)):
        raise ValueError(
            f"the columns of X must be those of the fit, {short(known)}, in that order, got {short(names)}."
        )


@contextlib.contextmanager
def precise(X: Any, known: Any = None, fills: str = "") -> Iterator[None]:
    """Around scikit-learn's check of X: its refusals with the place of the value, and without whole arrays.

    Parameters
    ----------
    X : array-like
        What is checked.
    known : ndarray of str, optional
        The names of the fit.
    fills : str
        What to do about gaps.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        text = str(error)
        first = text.split("\n")[0]
        if text.startswith("Expected 2D array, got"):
            raise ValueError(
                f"{first.split(' instead')[0]} instead: X has shape {np.asarray(X).shape}. Reshape your data: "
                "X[:, None] if it is one column, X[None] if it is one row."
            ) from None
        if first.startswith("Found array with dim"):
            raise ValueError(
                f"X must be a table (n, d) here, got shape {np.shape(X)} ({first.split(',')[0].lower()}): images are "
                "for models such as a Chain of Conv2d, without preprocess; X.reshape(len(X), -1) makes rows of them."
            ) from None
        if first == "Complex data not supported":
            raise ValueError(f"{first}: X must hold real numbers, got {np.asarray(X).dtype}.") from None
        if first.startswith("Input X") and " contains " in first:
            raise ValueError(f"{first} {_first_gap(X)}{fills if 'NaN' in first else ''}") from None
        if "Feature names must be in the same order" in text and known is not None:
            raise ValueError(
                f"{text.rstrip()}\nThe fit had {short(list(known))}, X has {short(column_names(X))}: take "
                "X[model.feature_names_in_]."
            ) from None
        raise


def _first_gap(X: Any) -> str:
    """Where the first value is that is no finite number."""
    try:
        array = np.asarray(X.toarray() if scipy.sparse.issparse(X) else X, dtype=np.float64)
    except (TypeError, ValueError):
        return ""
    with np.errstate(over="ignore"):
        wrong = np.argwhere(~np.isfinite(array))
    if not len(wrong):
        return ""
    at = tuple(int(k) for k in wrong[0])
    names = column_names(X)
    where = f"row {at[0]}, column {at[1] if names is None else repr(names[at[1]])}" if len(at) == 2 else f"row {at[0]}"
    return f"The first of {len(wrong)} stands in {where}." if len(wrong) > 1 else f"It stands in {where}."
