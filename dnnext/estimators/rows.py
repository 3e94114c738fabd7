"""Rows, weights and agent labels as they are handed in: checked, joined, dense."""

from __future__ import annotations

import numpy as np
import scipy.sparse


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
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold real numbers, got {type(values).__name__} ({error}).") from None


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


def plain_labels(labels):
    """Labels as an array of text or numbers.

    Raises
    ------
    ValueError
        If they are neither.
    """
    if labels.dtype != object:
        return labels
    if all(isinstance(label, str) for label in labels):
        return labels.astype(str)
    raise ValueError(f"a label is {labels[0]!r}; labels that leave the process must be text or numbers.")


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
    if labels.ndim != 1 or len(labels) != n_rows:
        raise ValueError(f"agent has shape {labels.shape}; it must hold one label per row of X, shape ({n_rows},).")
    missing = [v is None or v != v for v in labels.tolist()]
    if any(missing):
        raise ValueError(f"agent has no label in row {missing.index(True)}; every row must name its agent.")
    sorted_labels("agent", labels)
    return labels


def join_agents(agents):
    """(X, y, sample_weight, agent) of one (X_i, y_i) or (X_i, y_i, sample_weight_i) per agent.

    Raises
    ------
    ValueError
        If there is no agent, one is empty, or shapes differ.
    """
    agents = list(agents)
    if not agents:
        raise ValueError("agents is empty; it must hold one pair (X, y) per agent.")
    blocks, targets, weights = [], [], []
    for i, part in enumerate(agents):
        if not isinstance(part, (tuple, list)) or len(part) not in (2, 3):
            raise ValueError(f"agents[{i}] must be (X, y) or (X, y, sample_weight), got {type(part).__name__}.")
        x = part[0] if scipy.sparse.issparse(part[0]) else np.asarray(part[0])
        y = np.asarray(part[1])
        blocks.append(x)
        targets.append(y)
        if x.ndim != 2 or x.shape[1] != blocks[0].shape[1]:
            raise ValueError(f"X of agents[{i}] has shape {x.shape}; it must be 2-d, as wide as that of agents[0].")
        if x.shape[0] == 0:
            raise ValueError(f"agents[{i}] is empty; every agent must bring at least one row (leave it out).")
        if y.shape != (x.shape[0], *targets[0].shape[1:]):
            raise ValueError(f"y of agents[{i}] has shape {y.shape}; it must hold one target per row ({x.shape[0]}).")
        weights.append(check_weight(part[2], x.shape[0]) if len(part) == 3 else np.ones(x.shape[0]))
    sparse = any(scipy.sparse.issparse(x) for x in blocks)
    agent = np.repeat(np.arange(len(blocks)), [x.shape[0] for x in blocks])
    try:
        X = scipy.sparse.vstack(blocks, format="csr") if sparse else np.concatenate(blocks)
        return X, np.concatenate(targets), np.concatenate(weights), agent
    except TypeError as error:
        raise ValueError(f"the arrays of the agents cannot be joined, their kinds differ: {error}.") from None
