"""Rows, weights and agent labels as they are handed in: checked, joined, dense."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array

from dnnext._checks import short
from dnnext.preprocessing.refusals import check_numbers, column_names, dense_frame, in_order, precise

Matrix: TypeAlias = ArrayLike | scipy.sparse.sparray | scipy.sparse.spmatrix  # data frames are array-like
MOST_WEIGHT = 1e100
FLOATS = (np.float64, np.float32)  # kept as they are; anything else becomes the first
KINDS = {"U": "text", "b": "booleans", "i": "integers", "u": "integers", "f": "floats"}  # of labels, by kind of dtype


def dense(x):
    """A dense array: standardised inputs have no zeros to spare."""
    return x.toarray() if scipy.sparse.issparse(x) else x


def real_numbers(name, values):
    """Values as float64, of any shape.

    Raises
    ------
    ValueError
        If they are text that is no number, complex, dates, or of uneven lengths.
    """
    try:
        array = np.asarray(dense(values))
        if array.dtype.kind not in "biufOUS":
            raise ValueError(f"dtype {array.dtype}")
        if array.dtype.kind in "OU":
            check_numbers(array.reshape(len(array), -1) if array.ndim else array)
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold real numbers, got {type(values).__name__} ({str(error).rstrip('.')})."
        ) from None


def plain_targets(name, y):
    """y without the types of data frames, masks and NumPy's text of any length, in which a gap is no number.

    Raises
    ------
    ValueError
        If a row has none, or y is complex.
    """
    dtype = getattr(y, "dtype", None)
    if np.ma.isMaskedArray(y):
        gone = np.ma.getmaskarray(y).reshape(len(y), -1).any(axis=1)
        if gone.any():
            raise ValueError(f"{name} contains NaN or NA: row {int(np.argmax(gone))} has no target.")
        y = y.data
    if isinstance(dtype, np.dtype):
        if dtype.kind == "c":
            raise ValueError(f"Complex data not supported: {name} holds complex numbers.")
        return y.astype(object) if dtype.kind == "T" else y
    if not hasattr(y, "isna") or getattr(y, "ndim", 1) != 1:
        return y
    gaps = np.asarray(y.isna(), dtype=bool)
    if gaps.any():
        raise ValueError(f"{name} contains NaN or NA: row {int(np.argmax(gaps))} has no target.")
    numbers = getattr(dtype, "numpy_dtype", None)  # of Int64, boolean, Float64
    return y if numbers is None else y.to_numpy(dtype=numbers)


def sorted_labels(name, labels):
    """(distinct labels in ascending order, the place of each label among them).

    Raises
    ------
    ValueError
        If labels are of kinds that cannot be compared.
    """
    try:
        return np.unique(labels, return_inverse=True)
    except TypeError:
        raise ValueError(
            f"{name} mixes labels that cannot be sorted, such as text and numbers; use one kind."
        ) from None


def plain_labels(name, labels):
    """Labels as an array of text, booleans or numbers.

    Raises
    ------
    ValueError
        If they are neither.
    """
    labels = np.asarray(labels)
    if labels.dtype == object and len({type(label) for label in labels.flat}) == 1:
        labels = np.array(labels.tolist())
    if labels.dtype.kind not in KINDS:
        first = labels.flat[0] if labels.size else labels.dtype
        raise ValueError(
            f"{name} must hold text, booleans or numbers where labels leave the process, got {short(first)}."
        )
    return labels


def joined_labels(parts, names):
    """Labels of several agents or ranks, one after another, in one dtype that holds each as it is.

    Parameters
    ----------
    parts : sequence of ndarray
        As `plain_labels` returns them.
    names : sequence of str
        Whose they are, for messages.

    Raises
    ------
    ValueError
        If they are of unlike kinds (text, booleans, integers, floats), or integers that no integer dtype holds.
    """
    kinds = [KINDS[part.dtype.kind] for part in parts]
    for name, kind in zip(names, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"the kind of labels in y must be the same for all, got {kind} of {name} and {kinds[0]} of {names[0]}."
            )
    dtype = np.result_type(*(part.dtype for part in parts))
    if kinds[0] == "integers" and dtype.kind == "f":
        fits = max(int(part.max(initial=0)) for part in parts) < 2**63
        if not fits and min(int(part.min(initial=0)) for part in parts) < 0:
            raise ValueError("y must hold integers that one dtype can hold, got some below 0 and some of 2^63 or more.")
        dtype = np.dtype(np.int64 if fits else np.uint64)
    return np.concatenate([part.astype(dtype) for part in parts])


def check_weight(sample_weight, n_rows):
    """sample_weight as float64 (n,), ones if None.

    Raises
    ------
    ValueError
        If it is not one finite number >= 0 per row, or all are zero.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weight = real_numbers("sample_weight", sample_weight)
    if weight.ndim == 0:
        weight = np.full(n_rows, float(weight))
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}: one weight per row of X.")
    right = np.isfinite(weight) & (weight >= 0)
    if not right.all():
        wrong = int(np.argmin(right))
        raise ValueError(f"sample_weight is {weight[wrong]} in row {wrong}; weights must be finite and >= 0.")
    if not np.any(weight > 0):
        raise ValueError("sample_weight is zero in every row; at least one weight must be above zero.")
    wild = (weight > 0) & ((weight < 1 / MOST_WEIGHT) | (weight > MOST_WEIGHT))
    if wild.any():
        wrong = int(np.argmax(wild))
        raise ValueError(
            f"sample_weight is {weight[wrong]} in row {wrong}; weights must be 0 or between {1 / MOST_WEIGHT:g} and "
            f"{MOST_WEIGHT:g}: their scale does not matter, so rescale them."
        )
    return weight


def check_agent(agent, n_rows):
    """`agent` as an array (n,) of labels, or None.

    Raises
    ------
    ValueError
        If it is not one label per row, or a label is missing.
    """
    if agent is None:
        return None
    labels = np.asarray(agent)
    if np.ma.isMaskedArray(agent):
        labels = np.where(np.ma.getmaskarray(agent), np.array(None), labels.astype(object))
    if labels.ndim != 1 or len(labels) != n_rows:
        raise ValueError(f"agent has shape {labels.shape}; it must hold one label per row of X, shape ({n_rows},).")
    missing = [_is_missing(v) for v in labels.tolist()]
    if any(missing):
        raise ValueError(f"agent has no label in row {missing.index(True)}; every row must name its agent.")
    sorted_labels("agent", labels)
    return labels


def whose_row(X, agent):
    """'row 7, of agent 'north'' of the first row that is not finite; "" without agents or such a row."""
    try:
        wrong = ~np.isfinite(np.asarray(dense(X), dtype=np.float64)).reshape(len(agent), -1).all(axis=1)
    except (TypeError, ValueError):
        return ""
    row = int(np.argmax(wrong))
    label = np.asarray(agent).tolist()[row]
    return f"row {row}, of agent {short(label)}" if wrong.any() else ""


def _is_missing(value):
    """Whether a label is None, NaN, or pandas' NA, which answers no question."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True


def check_pairs(agents):
    """The list of (X_i, y_i) or (X_i, y_i, sample_weight_i), at least one.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(agents, dict) or not np.iterable(agents):
        hint = ": pass list(agents.values())" if isinstance(agents, dict) else ""
        raise ValueError(f"agents must be a sequence of pairs (X, y), got a {type(agents).__name__}{hint}.")
    agents = list(agents)
    if not agents:
        raise ValueError("agents is empty; it must hold one pair (X, y) per agent.")
    for i, part in enumerate(agents):
        if not isinstance(part, (tuple, list)) or len(part) not in (2, 3):
            raise ValueError(f"agents[{i}] must be (X, y) or (X, y, sample_weight), got {type(part).__name__}.")
    return agents


def join_agents(agents, are_labels, allow_nd=False):
    """(X, y, sample_weight, agent) of one (X_i, y_i) or (X_i, y_i, sample_weight_i) per agent.

    Columns of data frames are matched by name; X is then a `Named`. With are_labels y holds labels of one kind.

    Raises
    ------
    ValueError
        If there is no agent, one is empty or holds NaN or infinity, or shapes, columns or kinds of labels differ; the
        sentence names the agent.
    """
    agents = check_pairs(agents)
    blocks: list[Any] = []
    targets: list[Any] = []
    weights: list[Any] = []
    names = None
    for i, part in enumerate(agents):
        x = part[0]
        if i == 0:
            names = column_names(x)
        x = in_order(x, names, f"agents[{i}]")
        x, y = _checked_agent(x, part[1], i, are_labels, allow_nd)
        if x.shape[1:] != (blocks or [x])[0].shape[1:]:
            wanted = (blocks or [x])[0].shape[1:]
            raise ValueError(
                f"X of agents[{i}] has shape {x.shape}; its rows must have the shape of those of agents[0], {wanted}."
            )
        if y.shape != (x.shape[0], *(targets or [y])[0].shape[1:]):
            raise ValueError(f"y of agents[{i}] has shape {y.shape}; it must hold one target per row ({x.shape[0]}).")
        blocks.append(x)
        targets.append(y)
        weights.append(check_weight(part[2], x.shape[0]) if len(part) == 3 else np.ones(x.shape[0]))
    agent = np.repeat(np.arange(len(blocks)), [x.shape[0] for x in blocks])
    sparse = any(scipy.sparse.issparse(x) for x in blocks)
    X = scipy.sparse.vstack(blocks, format="csr") if sparse else np.concatenate(blocks)
    every = [f"agents[{i}]" for i in range(len(agents))]
    y = joined_labels(targets, every) if are_labels else np.concatenate(targets)
    return (X if names is None else Named(X, names)), y, np.concatenate(weights), agent


@contextlib.contextmanager
def own_rows(estimator, X):
    """While the block runs, a fit on X may write into it in place of a copy: nobody else holds it."""
    estimator._own_rows = X.x if isinstance(X, Named) else X
    try:
        yield
    finally:
        estimator.__dict__.pop("_own_rows", None)


class Named(NamedTuple):
    """An array with the names of its columns."""

    x: np.ndarray
    names: list[Any]


def _checked_agent(x, y, i, are_labels, allow_nd):
    """(X, y) of one agent as arrays; NaN and infinity are refused by the agent's number."""
    shape = getattr(x, "shape", None) or np.shape(x)
    if len(shape) < 2 or (len(shape) > 2 and not allow_nd):
        wide = ", as wide as that of agents[0]" if i else ", with one row for each of y"
        raise ValueError(f"X of agents[{i}] has shape {tuple(shape)}; it must be 2-d{wide}.")
    if shape[0] == 0:
        raise ValueError(f"agents[{i}] is empty; every agent must bring at least one row (leave it out).")
    options = {"accept_sparse": ("csr", "csc", "coo"), "dtype": FLOATS, "allow_nd": allow_nd}
    y = plain_targets(f"Input y of agents[{i}]", y)
    try:
        x = dense_frame(x)
        check_numbers(x)
    except ValueError as error:
        text, start = str(error), "X must hold numbers"
        end = text.removeprefix(start) if text.startswith(start) else f": {text}"
        raise ValueError(f"X of agents[{i}] must hold numbers{end}") from None
    try:
        with np.errstate(over="ignore", invalid="ignore"), precise(x):
            x = check_array(x, input_name=f"X of agents[{i}]", **options)
            y = check_array(y, input_name=f"y of agents[{i}]", dtype=None, ensure_2d=False, ensure_min_samples=0)
    except TypeError as error:
        raise ValueError(f"the rows of agents[{i}] must hold numbers, got {error}.") from None
    except ValueError as error:
        named = f"agents[{i}]" in str(error)
        raise ValueError(str(error) if named else f"the rows of agents[{i}] must hold numbers: {error}") from None
    return x, plain_labels(f"y of agents[{i}]", y) if are_labels else real_numbers(f"y of agents[{i}]", y)
