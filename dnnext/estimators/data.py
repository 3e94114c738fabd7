"""Who holds which rows, and the moments all agents agree on before the first iteration.

# Design:
#   owner (n,) names the node of the graph that holds each row; everything else follows from it. `Stack.of_owner` then
#   puts the rows of each agent together, so a Problem needs no further bookkeeping. Rows of weight zero are dropped
#   first: they are "not there", for the partition and for the moments alike.
#   Moments need two sums over agents (mean, then centred squares) and are control plane: Runtime.sum_agents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dnnext._checks import check_random_state
from dnnext.estimators.notices import warn_user
from dnnext.problem.shards import Stack

CHUNK = 4096  # rows that are scaled at a time: a constant, so that sums are added in one order
DIRICHLET_CONCENTRATION = 0.5
N_TARGET_BINS = 10


class Seeds:
    """Independent random streams of one fit: `random_state` becomes one entropy, each use a key below it.

    Parameters
    ----------
    random_state : None, int, SeedSequence, numpy RandomState or Generator
        None draws one entropy from the operating system.
    """

    KEYS = ("topology", "partition", "weights", "validation", "algorithm")

    def __init__(self, random_state):
        self.root = check_random_state(random_state)

    def as_text(self):
        """The one source of all streams as text; `from_text` reads it, on another rank or in another year."""
        entropy: Any = self.root.entropy
        plain = int(entropy) if np.ndim(entropy) == 0 else [int(v) for v in entropy]
        return json.dumps([plain, [int(v) for v in self.root.spawn_key]])

    @classmethod
    def from_text(cls, text):
        """The Seeds that `as_text` wrote."""
        entropy, key = json.loads(text)
        return cls(np.random.SeedSequence(entropy, spawn_key=tuple(key)))

    def sequence(self, key, *below):
        """SeedSequence of one use, e.g. ``sequence("validation", agent)``."""
        spawn_key = (*self.root.spawn_key, self.KEYS.index(key), *below)
        return np.random.SeedSequence(self.root.entropy, spawn_key=spawn_key)

    def generator(self, key, *below):
        """Generator of one use."""
        return np.random.default_rng(self.sequence(key, *below))

    def integer(self, key):
        """A 32-bit seed of one use, for what takes an integer."""
        return int(self.sequence(key).generate_state(1)[0])


def held_out(owner, n_agents, fraction, seeds, first=0, runtime=None):
    """Mask (n,) of the rows that are scored instead of trained on: each agent's share, at most all but one of its rows.

    Shares of a row are rounded at random, up or down, so that many agents with few rows hold out `fraction` of all;
    if that leaves nothing to score, all agents round up. The agents are ``first + i``, and `runtime` counts over the
    other ranks, too.

    Raises
    ------
    ValueError
        If no agent has two rows.
    """
    order = np.argsort(owner, kind="stable")
    n_rows = np.bincount(owner, minlength=n_agents)
    ends = np.cumsum(n_rows)
    n_out: Any = 0
    n_all: Any
    for round_up in (False, True):
        held = np.zeros(len(owner), dtype=bool)
        for i, (n, end) in enumerate(zip(n_rows.tolist(), ends.tolist(), strict=True)):
            rng = seeds.generator("validation", first + i)
            shuffled = rng.permutation(n)
            share = np.ceil(fraction * n) if round_up else np.floor(fraction * n + rng.uniform())
            held[order[end - n + shuffled[: min(int(share), max(n - 1, 0))]]] = True
        spared = np.bincount(owner[held], minlength=n_agents)
        n_out = spared.sum() if runtime is None else runtime.sum_agents(spared)
        if n_out > 1:
            break
    n_all = n_rows.sum() if runtime is None else runtime.sum_agents(n_rows)
    if n_out > max(2 * fraction * n_all, fraction * n_all + 1):
        warn_user(
            f"early stopping held out {n_out:.0f} of {n_all:.0f} rows, more than validation_fraction={fraction}, "
            "because the agents have few rows: pass eval_set, or use fewer agents."
        )
    if not n_out:
        raise ValueError(
            "early_stopping=True needs an agent with at least two rows, but every agent holds one "
            f"(n_samples={len(owner)}): use fewer agents, pass eval_set, or set early_stopping=False."
        )
    return held


def spread_rows(how, y, n_agents, seeds):
    """Owner of each row, (n,): how `fit(X, y)` spreads rows over agents when no owners are given.

    ``iid``: a random permutation cut into equal parts. ``label``: rows sorted by label (or target) cut into equal
    parts, the hardest case. ``dirichlet``: for each label, shares of the agents drawn from Dirichlet(0.5); continuous
    targets are first cut at their deciles. Every agent gets a row as long as there are enough.
    """
    n = len(y)
    n_holders = min(n_agents, n)
    rng = seeds.generator("partition")
    shuffled = rng.permutation(n)
    key = y if y.ndim == 1 else y[:, 0]
    if how == "iid":
        order = shuffled
    elif how == "label":
        order = shuffled[np.argsort(key[shuffled], kind="stable")]
    else:
        return _spread_dirichlet(_bins(key), n_holders, shuffled, rng)
    owner = np.empty(n, dtype=np.int64)
    for i, rows in enumerate(np.array_split(order, n_holders)):
        owner[rows] = i
    return owner


def _bins(key):
    """Labels as they are; more than N_TARGET_BINS different numbers are cut at their quantiles."""
    values, codes = np.unique(key, return_inverse=True)
    if np.issubdtype(key.dtype, np.integer) or len(values) <= N_TARGET_BINS:
        return codes
    cuts = np.quantile(key, np.linspace(0, 1, N_TARGET_BINS + 1)[1:-1])
    return np.searchsorted(cuts, key)


def _spread_dirichlet(codes, n_holders, shuffled, rng):
    """Dirichlet shares per label; afterwards a holder without rows takes one from the largest."""
    owner = np.empty(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        rows = shuffled[codes[shuffled] == code]
        shares = rng.dirichlet(np.full(n_holders, DIRICHLET_CONCENTRATION))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(rows) + 0.5).astype(np.int64)
        for i, part in enumerate(np.split(rows, cuts)):
            owner[part] = i
    counts = np.bincount(owner, minlength=n_holders)
    for i in np.flatnonzero(counts == 0).tolist():
        largest = int(np.argmax(counts))
        owner[shuffled[owner[shuffled] == largest][0]] = i
        counts[largest] -= 1
        counts[i] += 1
    return owner


@dataclass(frozen=True)
class Moments:
    """Network-wide mean and scale of inputs (d,) and targets (Q,): x_std = (x - x_mean) / x_scale.

    The mean is weighted, the scale the root of the weighted mean of centred squares; a constant column has scale 1.
    """

    x_mean: np.ndarray
    x_scale: np.ndarray
    y_mean: np.ndarray
    y_scale: np.ndarray

    @classmethod
    def none(cls, n_inputs, n_outputs):
        """Moments that change nothing."""
        shape = n_inputs if isinstance(n_inputs, int) else channel_shape(n_inputs)
        return cls(np.zeros(shape), np.ones(shape), np.zeros(n_outputs), np.ones(n_outputs))

    def inputs(self, x):
        """Standardised inputs."""
        return (x - self.x_mean) / self.x_scale

    def scale_inputs(self, x):
        """Standardise x in place, in float64 and a few rows at a time."""
        for start in range(0, len(x), CHUNK):
            x[start : start + CHUNK] = self.inputs(x[start : start + CHUNK])

    def targets(self, y):
        """Standardised targets."""
        return (y - self.y_mean) / self.y_scale


def network_moments(
    tables: dict[str, Any], rows: Stack, runtime: Any, dtype: Any = np.float64
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(mean, scale) of the columns of every table (n, k), each (k,), from two sums over agents; `rows` is their Stack.

    mean = sum_m c_m v_m / sum_m c_m, scale = sqrt(sum_m c_m (v_m - mean)^2 / sum_m c_m); a column whose mean absolute
    deviation is below what rounding alone can make counts as constant and gets scale 1. The tables are what messages
    call them, and travel together.

    Raises
    ------
    ValueError
        If weights that act on raw values could not be held in `dtype`: 1e-150 to 1e150 is the range of the scale in
        float64, 1e-30 to 1e30 in float32.
    """
    values = list(tables.values())
    get_total, get_n_rows = runtime.later_sum(rows.agent_weight), runtime.later_sum(rows.n_rows)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [_column_sums(v, rows, lambda u: u[:, None])[:, 0] for v in values]
        added = _summed(sums, runtime)
        totals = [float(get_total()) * _pixels(v) for v in values]
        means = [a / total for a, total in zip(added, totals, strict=True)]
        squares = [
            _column_sums(v, rows, lambda u, m=mean: np.stack([(u - m) ** 2, np.abs(u - m)], axis=1))
            for v, mean in zip(values, means, strict=True)
        ]
        spreads = [both / total for both, total in zip(_summed(squares, runtime), totals, strict=True)]
    n_rows = int(get_n_rows())
    every = zip(tables, values, means, spreads, strict=True)
    return [_moments(name, v.shape[1:], mean, spread, n_rows, dtype) for name, v, mean, spread in every]


def _pixels(values):
    return int(np.prod(values.shape[1:], dtype=np.int64)) // by_column(values[:1]).shape[1] if len(values) else 1


def _summed(parts, runtime):
    """Sums over agents of several arrays (n_local, ..., k) in one message."""
    widths = np.cumsum([part.shape[-1] for part in parts])[:-1]
    return np.split(runtime.sum_agents(np.concatenate(parts, axis=-1)), widths, axis=-1)


def _moments(name, shape, mean, spread, n_rows, dtype):
    """(mean, scale) in the shape that acts on rows of this shape, or a refusal; spread: variance, mean deviation."""
    variance, deviation = spread
    constant = deviation <= n_rows * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))
    most = 1e30 if dtype == np.float32 else 1e150
    wrong = np.flatnonzero(~((np.abs(mean) <= most) & (scale >= 1 / most) & (scale <= most)))
    if len(wrong):
        small = scale[wrong[0]] < 1
        raise ValueError(
            f"{name} has values in column {wrong[0]} that are too {'small' if small else 'large'} to standardise in "
            f"{np.dtype(dtype)} (mean and spread must be at most {most:.0e}, the spread at least {1 / most:.0e}): "
            f"rescale that column{'.' if small else ', or pass standardize=False.'}"
        )
    shape = channel_shape(shape)
    return mean.reshape(shape), scale.reshape(shape)


def channel_shape(shape):
    """Shape of the moments of rows of this shape: one per column (d,) or channel (c, h, w), one for an image (h, w)."""
    if len(shape) == 1:
        return tuple(shape)
    return (1, 1) if len(shape) == 2 else (shape[0], *[1] * (len(shape) - 1))


def by_column(values):
    """Rows (n, ...) as (n x pixels, channels), in float64; a table is as it is."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 2:
        return values
    return values.reshape(-1, 1) if values.ndim == 3 else np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


def _column_sums(values, rows, of):
    """Sums over the rows of each agent of ``c_m of(v_m)``, (A, k, columns), a few rows at a time."""
    sums = []
    for start, stop in pairwise(rows.offsets):
        total = 0.0
        for first in range(start, max(stop, start + 1), CHUNK):
            some = slice(first, min(first + CHUNK, stop))
            table = by_column(values[some])
            weight = np.repeat(rows.weight[some], len(table) // max(1, some.stop - some.start))
            total = total + (weight[:, None, None] * of(table)).sum(axis=0)
        sums.append(total)
    return np.array(sums)
