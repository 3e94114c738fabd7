"""Where each parameter of a model lies in its flat row: all that penalties, blocks, files and exports ask for."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext._checks import short

__all__ = ["Layout", "Part"]

Array = NDArray[Any]


class Part(NamedTuple):
    """One array of a model, as it lies in the flat row.

    Attributes
    ----------
    name : str
        Unique in its layout, such as ``"layer1.weight"``.
    start : int
        Its first column.
    shape : tuple of int
        Its shape; the entries lie in C order.
    penalised : bool
        Whether penalties act on it: true for weights, false for biases.
    unit_axis : int or None
        The groups of group penalties are the slices along this axis; None: the part has no groups. Only axis 0 gives
        groups that are contiguous in the row, so only 0 and None are allowed today.

    Examples
    --------
    >>> Part("weight", 0, (2, 3), True, 0).size
    6
    """

    name: str
    start: int
    shape: tuple[int, ...]
    penalised: bool
    unit_axis: int | None

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def columns(self) -> slice:
        """Its columns in the flat row."""
        return slice(self.start, self.start + self.size)


class Layout:
    """The parts of a flat row, in order and without gaps.

    Parameters
    ----------
    layers : iterable of iterable of (name, shape, penalised, unit_axis)
        The parts of every layer, in order; see `Part`. Names are unique.

    Attributes
    ----------
    parts : tuple of Part
    n_params, n_layers : int
        ``P`` and the number of layers.
    layer_slices : tuple of slice
        The columns of every layer.

    Raises
    ------
    ValueError
        If two parts share a name, a unit axis is not 0 or None, or there are 2^31 parameters or more.

    Examples
    --------
    >>> layout = Layout([[("weight", (2, 1), True, 0), ("bias", (1,), False, None)]])
    >>> layout.n_params, layout.mask.tolist(), layout.groups.tolist()
    (3, [1.0, 1.0, 0.0], [[0, 1], [1, 2]])
    >>> layout.unpack(np.array([1.0, 2.0, 3.0]))["bias"]
    array([3.])
    """

    def __init__(self, layers: Iterable[Iterable[tuple[str, tuple[int, ...], bool, int | None]]]) -> None:
        parts, slices, layer_of_part, start = list[Part](), list[slice](), list[int](), 0
        for number, layer in enumerate(layers):
            first = start
            for name, shape, penalised, unit_axis in layer:
                if unit_axis not in (None, 0):
                    raise ValueError(f"unit_axis of {name!r} must be 0 or None, got {short(unit_axis)}.")
                part = Part(name, start, tuple(int(n) for n in shape), bool(penalised), unit_axis)
                parts.append(part)
                layer_of_part.append(number)
                start += part.size
            slices.append(slice(first, start))
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ValueError(f"names of parts must be unique, got {names}.")
        if start >= 2**31:
            raise ValueError(f"a model must have fewer than 2^31 parameters, got {start}.")
        self.parts, self.n_params, self.layer_slices = tuple(parts), start, tuple(slices)
        self.n_layers, self._layer_of_part = len(slices), layer_of_part

    @cached_property
    def mask(self) -> NDArray[np.float64]:
        """``(P,)``: 1 where penalties act, 0 elsewhere."""
        mask = np.zeros(self.n_params)
        for part in self.parts:
            mask[part.columns] = part.penalised
        return _frozen(mask)

    @cached_property
    def layer_of(self) -> NDArray[np.int64]:
        """``(P,)``: the layer of each parameter, 0 for the first."""
        sizes = [part.size for part in self.parts]
        return _frozen(np.repeat(np.array(self._layer_of_part, dtype=np.int64), sizes))

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """``(n_groups, 2)``: columns ``start, stop`` of every unit, part by part."""
        edges = [np.empty((0, 2), dtype=np.int64)]
        for part in self.parts:
            if part.unit_axis == 0 and part.shape and part.size:
                width = part.size // part.shape[0]
                starts = np.arange(part.start, part.start + part.size, width, dtype=np.int64)
                edges.append(np.stack([starts, starts + width], axis=1))
        return _frozen(np.concatenate(edges))

    def unpack(self, row: Array) -> dict[str, Array]:
        """Views of one flat row (P,), by name; writing into them writes into the row."""
        if row.shape != (self.n_params,):
            raise ValueError(f"row must have shape ({self.n_params},), got {row.shape}.")
        return {part.name: row[part.columns].reshape(part.shape) for part in self.parts}

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """The flat row (P,) of the parts given by name: the inverse of `unpack`."""
        arrays = {name: np.asarray(values) for name, values in parts.items()}
        got = {name: array.shape for name, array in arrays.items()}
        wanted = {part.name: part.shape for part in self.parts}
        if got != wanted:
            raise ValueError(f"parts must have the shapes {wanted}, got {got}.")
        return np.concatenate([arrays[part.name].ravel() for part in self.parts]) if self.parts else np.empty(0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.parts, self.layer_slices) == (other.parts, other.layer_slices)

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"Layout({self.n_params} parameters in {self.n_layers} layers)"


def _frozen(array: Array) -> Array:
    """The same array, read-only: many objects share it."""
    array.flags.writeable = False
    return array
