"""The parts of a problem checked; the data of the agents held here, checked shard by shard and stacked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext.models.model import Model, check_model, input_shape
from dnnext.problem.losses import Loss
from dnnext.problem.penalty import Penalty

__all__ = ["Held", "Stack", "check_dtype", "check_parts", "check_shard", "check_stack", "stack"]

Array = NDArray[Any]
CHUNK = 4096  # rows that are converted at a time


class Held(NamedTuple):
    """What all agents of the network hold, where it is known already."""

    rows: NDArray[np.int64]  # (n_agents,)
    weight: float  # the sum of all sample weights


@dataclass(frozen=True)
class Stack:
    """Rows of neighbouring agents, one agent after another.

    Agent ``first + i`` has the rows ``offsets[i] : offsets[i + 1]``, in their original order; one without rows is a
    relay. `target` holds what the loss wants, or, on the way there, whatever belongs to a row of x.
    """

    x: Array  # (M, ...), each row of the shape that the model takes
    target: Array  # (M, Q)
    weight: Array | None  # (M,), None for ones
    offsets: NDArray[np.int64]  # (n_local + 1,)
    first: int = 0
    held: Held | None = None  # then a problem need not ask

    @classmethod
    def of_owner(
        cls, x: Array, target: Array, weight: Array | None, owner: Array, n_agents: int, first: int = 0,
        dtype: Any = None, keep: Array | None = None, own: bool = False,
    ) -> "Stack":  # fmt: skip
        """Copies of the rows, by owner (n,) in 0 : n_agents; x in `dtype` (None: its own), only the rows in `keep`.

        own: x itself where it lies in order and is to be kept whole.
        """
        order = np.argsort(owner, kind="stable")
        order = order if keep is None else order[keep[order]]
        counts = np.bincount(owner[order], minlength=n_agents)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        as_is = own and dtype in (None, x.dtype) and np.array_equal(order, np.arange(len(x)))
        rows = x if as_is else _gathered(x, order, dtype)
        return cls(rows, target[order], None if weight is None else weight[order], offsets, first)

    def __len__(self) -> int:
        """How many agents hold rows here, relays among them."""
        return len(self.offsets) - 1

    @property
    def n_rows(self) -> NDArray[np.int64]:
        """Rows of every agent, (n_local,)."""
        return np.diff(self.offsets)

    @property
    def agent_weight(self) -> NDArray[np.float64]:
        """``N_i = sum_m c_m`` of every local agent, (n_local,)."""
        return self.n_rows.astype(np.float64) if self.weight is None else self.sums(self.weight)

    def sums(self, values: Array) -> NDArray[np.float64]:
        """Sums of values (M, ...) over the rows of each agent, (n_local, ...), in float64."""
        parts = [values[a:b].sum(axis=0, dtype=np.float64) for a, b in pairwise(self.offsets)]
        return np.array(parts, dtype=np.float64).reshape(len(self), *values.shape[1:])

    def of_agents(self, agents: range) -> "Stack":
        """The rows of some neighbouring agents, such as those that a rank holds; nothing is copied."""
        if len(agents) == len(self):
            return self
        offsets = self.offsets[agents.start : agents.stop + 1]
        rows = slice(offsets[0], offsets[-1])
        weight = None if self.weight is None else self.weight[rows]
        return Stack(self.x[rows], self.target[rows], weight, offsets - offsets[0], agents.start)


def _gathered(x: Array, order: Array, dtype: Any = None) -> Array:
    """``x[order]`` in `dtype`, without a copy of x between."""
    if dtype is None or x.dtype == dtype:
        return np.asarray(x[order])
    out = np.empty((len(order), *x.shape[1:]), dtype)
    for start in range(0, len(order), CHUNK):
        out[start : start + CHUNK] = x[order[start : start + CHUNK]]
    return out


def check_shard(shard: Any, agent: int, model: Model, loss: Loss, dtype: Any) -> tuple[Array, Array, Array | None]:
    """One agent's ``(x (rows, ...), target (rows, Q), weight (rows,) or None)`` in the wanted precision.

    Raises
    ------
    ValueError
        If anything is of the wrong shape, not finite, or refused by the loss; the sentence names agent and argument.
    """
    if not isinstance(shard, (tuple, list)) or len(shard) not in (2, 3):
        raise ValueError(
            f"the shard of agent {agent} must be a pair (X, targets) or a triple (X, targets, sample weights), "
            f"got {type(shard).__name__}{f' of length {len(shard)}' if isinstance(shard, (tuple, list)) else ''}."
        )
    x = _numbers(shard[0], f"X of agent {agent}", dtype)
    shape = input_shape(model)
    if x.shape[1:] != shape or x.ndim == 0:
        wanted = ", ".join(["rows", *map(str, shape)])
        what = "one column per input of" if len(shape) == 1 else "the rows of"
        raise ValueError(f"X of agent {agent} must have shape ({wanted}), {what} {model!r}, got {x.shape}.")
    target = _numbers(shard[1], f"the targets of agent {agent}", dtype)
    if target.ndim == 1 and (model.n_outputs == 1 or target.size == 0):
        target = target.reshape(len(target), model.n_outputs if target.size == 0 else 1)
    if target.shape != (len(x), model.n_outputs):
        one = f"({len(x)},) or " if model.n_outputs == 1 else ""
        raise ValueError(
            f"the targets of agent {agent} must have shape {one}({len(x)}, {model.n_outputs}), one row per row of X, "
            f"got {target.shape}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        complaint = loss.check_target(target)
    if complaint is not None:
        raise ValueError(f"the targets of agent {agent} do not fit: {complaint}.")
    return x, target, _check_weight(shard[2] if len(shard) == 3 else None, agent, len(x), dtype)


def stack(shards: Sequence[tuple[Array, Array, Array | None]], model: Model, dtype: Any) -> Stack:
    """The checked shards one after another; without any sample weights `weight` is None."""
    offsets = np.zeros(len(shards) + 1, dtype=np.int64)
    offsets[1:] = np.cumsum([len(x) for x, _, _ in shards], dtype=np.int64)
    x = np.concatenate([np.empty((0, *input_shape(model)), dtype), *(x for x, _, _ in shards)])
    target = np.concatenate([np.empty((0, model.n_outputs), dtype), *(d for _, d, _ in shards)])
    weight = None
    if any(c is not None for _, _, c in shards):
        parts = [np.ones(len(x), dtype) if c is None else c for x, _, c in shards]
        weight = np.concatenate([np.empty(0, dtype), *parts])
    return Stack(x, target, weight, offsets)


def check_stack(ready: Stack, agents: range, model: Model, loss: Loss, dtype: Any) -> Stack:
    """The stack itself, if each agent's part is what `check_shard` takes as it is: no array is copied.

    Raises
    ------
    ValueError
        As `check_shard`, or if an array is of another precision.
    """
    if len(ready) != len(agents) or not all(
        a is None or a.dtype == dtype for a in (ready.x, ready.target, ready.weight)
    ):
        raise ValueError(
            f"a Stack must hold {len(agents)} agents and arrays of {dtype}, got {len(ready)}, {ready.x.dtype}."
        )
    for agent, (start, stop) in zip(agents, pairwise(ready.offsets), strict=True):
        for first in range(start, max(stop, start + 1), 2**16):
            rows = slice(first, min(first + 2**16, stop))
            weight = None if ready.weight is None else ready.weight[rows]
            check_shard((ready.x[rows], ready.target[rows], weight), agent, model, loss, dtype)
    return ready


def _check_weight(values: Any, agent: int, n_rows: int, dtype: Any) -> Array | None:
    """Sample weights (rows,), finite and >= 0, or None."""
    if values is None:
        return None
    weight = _numbers(values, f"the sample weights of agent {agent}", dtype)
    if weight.shape != (n_rows,):
        raise ValueError(f"the sample weights of agent {agent} must have shape ({n_rows},), got {weight.shape}.")
    if (weight < 0).any():
        raise ValueError(f"the sample weights of agent {agent} must be >= 0, got {float(weight.min()):g}.")
    return weight


def _numbers(values: Any, what: str, dtype: Any) -> Array:
    """The values as a finite array of the wanted precision."""
    try:
        raw = np.asarray(values)
        if raw.dtype.kind not in "biufO":
            raise ValueError(f"dtype {raw.dtype}")
        with np.errstate(over="ignore"):
            array: Array = raw.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be an array of real numbers, got {type(values).__name__} ({error}).") from None
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{what} must be finite in {np.dtype(dtype)}, got {raw[where]} at {where}; remove or impute such rows."
        )
    return array


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """float64 or float32."""
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ValueError(f"dtype must be 'float64' or 'float32', got {short(dtype)}.")
    return kind


def count_shards(shards: Any) -> int:
    """The number of agents that have a shard."""
    if not hasattr(shards, "__len__"):
        raise ValueError(f"shards must be a list with one pair (X, targets) for each agent, got {short(shards)}.")
    return len(shards)


def check_parts(model: Any, loss: Any, penalty: Any) -> None:
    """The objects are what they are taken for."""
    check_model(model)
    for name, given, wanted in (("loss", loss, Loss), ("penalty", penalty, (Penalty, type(None)))):
        if not isinstance(given, wanted):
            raise ValueError(
                f"{name} must be an object of dnnext.problem.{name.capitalize()}, got {short(given)}; "
                "the order is Problem(model, loss, penalty, shards)."
            )
    if loss.n_outputs not in (None, model.n_outputs):
        raise ValueError(f"{loss!r} takes {loss.n_outputs} outputs, but {model!r} has {model.n_outputs}.")
