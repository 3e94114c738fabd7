"""Who holds which rows, and the moments all agents agree on before the first iteration.

# Design:
#   owner (n,) says which node of the graph holds each row; everything else follows from it. Rows are then stacked by
#   agent, in their original order within an agent, so a Problem needs no further bookkeeping. A node without rows is
#   a relay. Rows of weight zero are dropped first: they are "not there", for the partition and for the moments alike.
#   Moments need two sums over agents (mean, then centred squares) and are control plane: Runtime.sum_agents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from dnnext._checks import check_random_state
from dnnext.estimators.notices import warn_user

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

    def told(self):
        """The one source of all streams as text; `from_told` reads it, on another rank or in another year."""
        entropy = self.root.entropy
        plain = int(entropy) if np.ndim(entropy) == 0 else [int(v) for v in entropy]
        return json.dumps([plain, [int(v) for v in self.root.spawn_key]])

    @classmethod
    def from_told(cls, text):
        """The Seeds that told this."""
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


@dataclass(frozen=True)
class Parts:
    """Rows stacked by agent: those of agent ``first + i`` are ``offsets[i]:offsets[i + 1]``.

    x (n, d) and y (n,) or (n, Q) as checked, weight (n,), offsets (A + 1,).
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    offsets: np.ndarray
    first: int = 0

    @classmethod
    def from_owner(cls, x, y, weight, owner, n_agents, first=0, dtype=None):
        """Stack copies of the rows by owner, keeping their order within an agent; x in `dtype`, as it is for None."""
        order = np.argsort(owner, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_agents))]).astype(np.int64)
        return cls(gathered(x, order, dtype), y[order], weight[order], offsets, first)

    @property
    def n_agents(self):
        """Number of agents, relays included."""
        return len(self.offsets) - 1

    @property
    def n_rows(self):
        """Rows of every agent, (A,)."""
        return np.diff(self.offsets)

    @property
    def owner(self):
        """The agent of every row, (n,)."""
        return np.repeat(np.arange(self.n_agents), self.n_rows)

    def agent_sums(self, values):
        """Sum of values (n, ...) over the rows of each agent, (A, ...), in float64."""
        sums = np.zeros((self.n_agents, *values.shape[1:]))
        for i, (start, stop) in enumerate(zip(self.offsets[:-1], self.offsets[1:], strict=True)):
            sums[i] = values[start:stop].sum(axis=0)
        return sums

    def take(self, keep):
        """The parts that hold the rows where keep (n,) is true; agents stay, with fewer rows."""
        rows = (self.x[keep], self.y[keep], self.weight[keep], self.owner[keep])
        return Parts.from_owner(*rows, self.n_agents, self.first)

    def of_agents(self, agents):
        """The parts of a range of agents, those that a rank holds."""
        if len(agents) == self.n_agents:
            return self
        offsets = self.offsets[agents.start : agents.stop + 1]
        rows = slice(offsets[0], offsets[-1])
        return Parts(self.x[rows], self.y[rows], self.weight[rows], offsets - offsets[0], agents.start)

    def hold_out(self, fraction, seeds, runtime=None):
        """(Parts to train on, Parts to score): each agent puts `fraction` of its rows aside, at most all but one.

        Shares of a row are rounded at random, up or down, so that many agents with few rows hold out `fraction` of all;
        if that leaves nothing to score, all agents round up. `runtime` counts over the other ranks, too.
        """
        for round_up in (False, True):
            train = np.ones(len(self.x), dtype=bool)
            for i, n in enumerate(self.n_rows):
                rng = seeds.generator("validation", self.first + i)
                order = rng.permutation(int(n))
                n_out = np.ceil(fraction * n) if round_up else np.floor(fraction * n + rng.uniform())
                train[self.offsets[i] + order[: min(int(n_out), max(int(n) - 1, 0))]] = False
            spared = np.bincount(self.owner[~train], minlength=self.n_agents)
            n_out = spared.sum() if runtime is None else runtime.sum_agents(spared)
            if n_out > 1:
                break
        n_rows = self.n_rows.sum() if runtime is None else runtime.sum_agents(self.n_rows)
        if n_out > max(2 * fraction * n_rows, fraction * n_rows + 1):
            warn_user(
                f"early stopping held out {n_out:.0f} of {n_rows:.0f} rows, more than validation_fraction={fraction}, "
                "because the agents have few rows: pass eval_set, or use fewer agents."
            )
        if not n_out:
            raise ValueError(
                "early_stopping=True needs an agent with at least two rows, but every agent holds one: "
                "use fewer agents, pass eval_set, or set early_stopping=False."
            )
        return self.take(train), self.take(~train)


def spread_rows(how, y, n_agents, seeds):
    """Owner of each row, (n,): how `fit(X, y)` spreads rows over agents when it is not told who owns what.

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
    for i in np.flatnonzero(counts == 0):
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


def network_moments(values, parts, runtime, name, dtype=np.float64):
    """(mean, scale) of the columns of values (n, k), each (k,), from two sums over agents.

    mean = sum_m c_m v_m / sum_m c_m, scale = sqrt(sum_m c_m (v_m - mean)^2 / sum_m c_m); a column whose mean absolute
    deviation is below what rounding alone can make counts as constant and gets scale 1.

    Raises
    ------
    ValueError
        If weights that act on raw values could not be held in `dtype`: 1e-150 to 1e150 is the range of the scale in
        float64, 1e-30 to 1e30 in float32.
    """
    pixels = int(np.prod(values.shape[1:], dtype=np.int64)) // by_column(values[:1]).shape[1] if len(values) else 1
    total = float(runtime.sum_agents(parts.agent_sums(parts.weight))) * pixels
    with np.errstate(over="ignore", invalid="ignore"):
        mean = runtime.sum_agents(_column_sums(values, parts, lambda v: v[:, None])[:, 0]) / total
        sums = _column_sums(values, parts, lambda v: np.stack([(v - mean) ** 2, np.abs(v - mean)], axis=1))
        variance, deviation = runtime.sum_agents(sums) / total
    n_rows = int(runtime.sum_agents(parts.n_rows))
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
    shape = channel_shape(values.shape[1:])
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


def _column_sums(values, parts, of):
    """Sums over the rows of each agent of ``c_m of(v_m)``, (A, k, columns), a few rows at a time."""
    sums = []
    for start, stop in zip(parts.offsets[:-1], parts.offsets[1:], strict=True):
        total = 0.0
        for first in range(start, max(stop, start + 1), CHUNK):
            rows = slice(first, min(first + CHUNK, stop))
            table = by_column(values[rows])
            weight = np.repeat(parts.weight[rows], len(table) // max(1, rows.stop - rows.start))
            total = total + (weight[:, None, None] * of(table)).sum(axis=0)
        sums.append(total)
    return np.array(sums)


def gathered(x, order, dtype=None):
    """``x[order]`` in `dtype`, without a copy of x between."""
    if dtype is None or x.dtype == dtype:
        return x[order]
    out = np.empty((len(order), *x.shape[1:]), dtype)
    for start in range(0, len(order), CHUNK):
        out[start : start + CHUNK] = x[order[start : start + CHUNK]]
    return out
