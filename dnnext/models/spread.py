"""Dense layers whose weights, inputs and outputs are spread over ranks, and losses of such outputs.

Every array is stored once: each rank has a tile of it, of the same shape on all ranks; sizes that do not divide are
padded with zeros. A layer says which tile of which array a rank has and how the products of tiles are formed; all else
is here. ``x W + b`` is added in an order that depends on the layout, so layouts agree up to rounding; on one layout,
threads and MPI give the same bits.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short
from dnnext.kernels.activations import FUNCTIONS
from dnnext.models.layer import Keep, Layer, Parts, Shape, Weights
from dnnext.runtime import Communicator

__all__ = ["Spread", "Tile", "connected", "softmax_loss", "squared_loss"]

Array = NDArray[Any]
Pairs = Sequence[tuple[Array, Array]]


class Tile(NamedTuple):
    """Where a tile begins in its array, and its shape; parts beyond the end of the array are padding.

    Examples
    --------
    >>> Tile((2, 0), (2, 2)).cut(np.arange(6.0).reshape(3, 2))
    array([[4., 5.],
           [0., 0.]])
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    def cut(self, array: Array) -> Array:
        """The tile of an array, padded with zeros."""
        tile = np.zeros(self.shape, dtype=array.dtype)
        part = array[tuple(slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))]
        tile[tuple(map(slice, part.shape))] = part
        return tile

    def paste(self, tile: Array, into: Array) -> None:
        """Put the tile in its place, without the padding."""
        place = into[tuple(slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))]
        place[...] = tile[tuple(map(slice, place.shape))]


class Spread(Layer):
    """``psi(x W + b)`` with tiles of x, W, b and the result on the ranks of `comm`.

    Attributes
    ----------
    comm : Communicator
        All ranks of the layer.
    n_inputs, n_outputs : int
        ``K`` and ``N``: W is (K, N).
    row_ranks : Communicator
        The ranks that together hold all columns of the output's rows that are here.
    same_rows : Communicator
        The ranks whose tiles of the output have the same rows.
    value_ranks : Communicator
        The ranks that together hold every number of the output once.
    """

    comm: Communicator
    row_ranks: Communicator
    same_rows: Communicator
    value_ranks: Communicator
    n_inputs: int
    n_outputs: int
    activation: str
    bias: bool

    def _set(self, comm: Communicator, n_inputs: int, n_outputs: int, activation: str, bias: bool) -> None:
        """Check what all layers take, on every rank together."""
        self.comm = comm
        with comm.together():
            self.n_inputs = _checks.check_count("n_inputs", n_inputs)
            self.n_outputs = _checks.check_count("n_outputs", n_outputs)
            self.activation = _checks.check_choice("activation", activation, FUNCTIONS)
            self.bias = check_flag("bias", bias)
        comm.agree_on({"n_inputs, n_outputs, activation, bias": (n_inputs, n_outputs, activation, self.bias)})

    # What a layout provides

    @abstractmethod
    def input_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """The tile of x (n_rows, K) on a rank; default: this one."""

    @abstractmethod
    def output_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """The tile of the output (n_rows, N)."""

    @abstractmethod
    def weight_tile(self, rank: int | None = None) -> Tile:
        """The tile of W (K, N)."""

    @abstractmethod
    def bias_tile(self, rank: int | None = None) -> Tile:
        """The tile of b (N,)."""

    @abstractmethod
    def products(self, pairs: Pairs) -> Array:
        """The tile of this rank of the sum of ``x W`` over pairs of opened tiles."""

    @abstractmethod
    def start_weight_adjoints(self, pairs: Pairs) -> Callable[[], Array]:
        """Begin the tile of the sum of ``x' dz`` over pairs of opened tiles (x, dz); the function returned ends it."""

    @abstractmethod
    def state_adjoint(self, dz: Array, weight: Array) -> Array:
        """The tile of ``dz W'``."""

    @abstractmethod
    def whole_bias(self, bias: Array) -> Array:
        """The biases of this rank's output columns, from the tiles."""

    @abstractmethod
    def bias_adjoint(self, sums: Array) -> Array:
        """The tile of the sum over ranks of column sums of dz."""

    def open_input(self, x: Array) -> Array:
        """What `products` and `start_weight_adjoints` take, from a tile of x."""
        return x

    def open_weight(self, weight: Array) -> Array:
        """What `products` and `state_adjoint` take, from a tile of W."""
        return weight

    def open_output(self, dz: Array) -> Array:
        """What the two adjoints take, from a tile of dz."""
        return dz

    # What follows

    def sized(self, shape: Sequence[int]) -> Self:
        """The layer itself: its shapes are those of tiles.

        Raises
        ------
        ValueError
            If the layer before gives tiles of another width.
        """
        wanted = self.input_tile(1).shape[1:]
        if tuple(shape) != wanted:
            raise ValueError(f"needs tiles of width {wanted[0]}, got {tuple(shape)}")
        self.shape_in, self.shape_out = wanted, self.output_shape(wanted)
        return self

    def output_shape(self, shape: Shape) -> Shape:
        """Width of a tile of the output."""
        return self.output_tile(1).shape[1:]

    def parts(self) -> Parts:
        """The tiles of the weights and, where there are any, of the biases."""
        weight, bias = self.weight_tile().shape, self.bias_tile().shape
        parts: Parts = [("weight", weight, True, None), ("bias", bias, False, None)]
        return parts[: 1 + self.bias]

    def init(self, rng: np.random.Generator) -> list[Array]:
        """The tiles of this rank of the start that a dense layer on one rank has."""
        bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (self.n_inputs + self.n_outputs))
        whole = rng.uniform(-bound, bound, self.n_inputs * self.n_outputs).reshape(self.n_inputs, self.n_outputs)
        return self.spread_weights(whole, np.zeros(self.n_outputs))

    def spread_weights(self, weight: Array, bias: Array | None = None) -> list[Array]:
        """The tiles of this rank of W (K, N) and b (N,), which every rank has. Collective.

        Raises
        ------
        ValueError
            On every rank, if a shape is another one on one of them.
        """
        arrays = [np.asarray(weight), *([np.zeros(self.n_outputs) if bias is None else np.asarray(bias)] * self.bias)]
        wanted = [(self.n_inputs, self.n_outputs), (self.n_outputs,)]
        with self.comm.together():
            for name, array, shape in zip(("weight", "bias"), arrays, wanted, strict=False):
                if array.shape != shape:
                    raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")
        return [tile.cut(a) for tile, a in zip((self.weight_tile(), self.bias_tile()), arrays, strict=False)]

    def spread_input(self, x: Array) -> Array:
        """The tile of this rank of x (M, K), which every rank has. Collective: all compare the shape first."""
        return self._spread("x", x, self.n_inputs, self.input_tile)

    def spread_output(self, y: Array) -> Array:
        """The tile of this rank of y (M, N), in the layout of the output, which every rank has. Collective."""
        return self._spread("y", y, self.n_outputs, self.output_tile)

    def whole_output(self, tile: Array, n_rows: int) -> Array:
        """(M, N) on every rank, from the tiles of the output. Collective."""
        tiles = [self.output_tile(n_rows, r) for r in range(self.comm.size)]
        return self._whole(tile, tiles, (n_rows, self.n_outputs))

    def whole_input(self, tile: Array, n_rows: int) -> Array:
        """(M, K) on every rank, from the tiles of the input. Collective."""
        tiles = [self.input_tile(n_rows, r) for r in range(self.comm.size)]
        return self._whole(tile, tiles, (n_rows, self.n_inputs))

    def whole_weights(self, w: Weights) -> list[Array]:
        """W (K, N) and b (N,) on every rank, from their tiles. Collective."""
        ranks = range(self.comm.size)
        weight = self._whole(w[0], [self.weight_tile(r) for r in ranks], (self.n_inputs, self.n_outputs))
        bias = [self._whole(b, [self.bias_tile(r) for r in ranks], (self.n_outputs,)) for b in w[1:]]
        return [weight, *bias]

    def _spread(self, name: str, a: Array, width: int, tile: Callable[[int], Tile]) -> Array:
        with self.comm.together():
            if np.ndim(a) != 2 or np.shape(a)[1] != width:
                raise ValueError(f"{name} must have {width} columns, got shape {np.shape(a)}.")
        self.comm.agree_on({f"the shape and the precision of {name}": (np.shape(a), str(np.asarray(a).dtype))})
        return tile(len(a)).cut(np.asarray(a))

    def _whole(self, tile: Array, tiles: Sequence[Tile], shape: Shape) -> Array:
        sizes = [math.prod(place.shape) for place in tiles]
        every, whole = np.empty(sum(sizes), tile.dtype), np.empty(shape, tile.dtype)
        self.comm.allgather(np.ascontiguousarray(tile).reshape(-1), every, sizes)
        for place, part in zip(tiles, np.split(every, np.cumsum(sizes)[:-1]), strict=True):
            place.paste(part.reshape(place.shape), whole)
        return whole

    def forward(self, w: Weights, x: Array, keep: Keep) -> Array:
        """psi(x W + b)."""
        opened, weight = self.open_input(x), self.open_weight(w[0])
        z = self.products([(opened, weight)])
        if self.bias:
            z += self.whole_bias(w[1])
        a = FUNCTIONS[self.activation].value(z)
        keep |= {"x": opened, "weight": weight, "z": z, "a": a}
        return a

    def tangent(self, w: Weights, keep: Keep, v: Array | None, dw: Weights | None) -> Array | None:
        """psi'(z) (v W + x dW + db)."""
        if v is None and dw is None:
            return None
        keep["v"] = None if v is None else self.open_input(v)
        pairs = [] if v is None else [(keep["v"], keep["weight"])]
        pairs += [] if dw is None else [(keep["x"], self.open_weight(dw[0]))]
        u = self.products(pairs)
        if dw is not None and self.bias:
            u += self.whole_bias(dw[1])
        keep["u"] = u
        return np.asarray(FUNCTIONS[self.activation].slope(keep["z"], keep["a"]) * u)

    def adjoint(self, w: Weights, keep: Keep, h: Array, t: Array | None) -> tuple[Array, Array | None, list[Array]]:
        """As `Affine.adjoint`; the sum of the weights' gradient travels while the state's is computed."""
        function, z, a = FUNCTIONS[self.activation], keep["z"], keep["a"]
        slope = function.slope(z, a)
        dz, du = np.ascontiguousarray(slope * h), None
        if t is not None:
            du = np.ascontiguousarray(slope * t)
            dz = dz + function.bend(z, a) * keep["u"] * t
        opened = self.open_output(dz)
        pairs = [(keep["x"], opened)]
        if du is not None:
            opened_du = self.open_output(du)
            pairs.append((keep["v"], opened_du))
        finish = self.start_weight_adjoints(pairs)
        before = self.state_adjoint(opened, keep["weight"])
        t_before = None if du is None else self.state_adjoint(opened_du, keep["weight"])
        gradient = [_without_padding(finish(), self.weight_tile(), (self.n_inputs, self.n_outputs))]
        if self.bias:
            gradient.append(_without_padding(self.bias_adjoint(dz.sum(axis=0)), self.bias_tile(), (self.n_outputs,)))
        return before, t_before, gradient

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """None: layers over ranks have tests of their own."""
        return []


def connected(layers: Sequence[Spread]) -> list[Spread]:
    """The layers, if each takes its input where the one before leaves its output.

    Parameters
    ----------
    layers : sequence of Spread

    Returns
    -------
    list of Spread

    Raises
    ------
    ValueError
        If a layer expects its tiles on other ranks: with square layers only the numbers would be wrong, not the shapes.
    """
    for number, (before, after) in enumerate(pairwise(layers), 2):
        n_rows, ranks = before.comm.size**2, range(before.comm.size)  # rows that every layout divides
        left = [before.output_tile(n_rows, r) for r in ranks]
        if after.comm.size != len(ranks) or left != [after.input_tile(n_rows, r) for r in ranks]:
            raise ValueError(
                f"layer {number} must take its input where layer {number - 1} leaves its output: swapped=True for "
                "every second layer of a cube, split='rows' after split='columns' in a row of ranks."
            )
    return list(layers)


def check_flag(name: str, value: Any) -> bool:
    """True or False as a bool, or a ValueError."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {short(value)}.")
    return bool(value)


def _without_padding(tile: Array, place: Tile, shape: Shape) -> Array:
    """Zero where the tile lies beyond the end of its array: what is padded stays zero."""
    for axis, (start, n, end) in enumerate(zip(place.start, place.shape, shape, strict=True)):
        if start + n > end:
            tile[(slice(None),) * axis + (slice(max(end - start, 0), None),)] = 0
    return tile


def _columns_and_rows(layer: Spread, n_rows: int) -> tuple[Array, Array]:
    """Which columns (1, n) and rows (m, 1) of this rank's tile of the output are no padding."""
    (top, left), (m, n) = layer.output_tile(n_rows)
    return np.arange(left, left + n)[None] < layer.n_outputs, (np.arange(top, top + m) < n_rows)[:, None]


def squared_loss(layer: Spread, z: Array, target: Array, n_rows: int) -> tuple[float, Array]:
    """``sum |z - d|^2 / 2`` over all rows, equal on every rank, and this rank's tile of its gradient.

    Parameters
    ----------
    layer : Spread
        The layer whose output z is.
    z, target : tiles of the output
    n_rows : int
        ``M``, without padding.
    """
    columns, rows = _columns_and_rows(layer, n_rows)
    gradient = np.where(columns & rows, z - target, 0)
    return _total(layer, 0.5 * np.sum(gradient * gradient, dtype=np.float64)), gradient


def softmax_loss(layer: Spread, z: Array, target: Array, n_rows: int) -> tuple[float, Array]:
    """``-sum d log softmax(z)`` over all rows, equal on every rank, and this rank's tile of its gradient.

    The largest number of each row and the sum of its exponentials are formed over the ranks that hold its columns.

    Parameters
    ----------
    layer : Spread
        The layer whose output z is.
    z, target : tiles of the output
        Rows of the target sum to 1.
    n_rows : int
        ``M``, without padding.
    """
    columns, rows = _columns_and_rows(layer, n_rows)
    top = np.where(columns, z, -np.inf).max(axis=1)
    layer.row_ranks.allreduce(top, op="max")
    e = np.where(columns, np.exp(z - top[:, None]), 0)
    total = e.sum(axis=1)
    layer.row_ranks.allreduce(total)
    logs = np.where(columns & rows, z - top[:, None] - np.log(total)[:, None], 0)
    gradient = np.where(columns & rows, e / total[:, None] - target, 0)
    return _total(layer, -np.sum(target * logs, dtype=np.float64)), gradient


def _total(layer: Spread, own: Any) -> float:
    total = np.array(own, dtype=np.float64)
    layer.value_ranks.allreduce(total)
    return float(total)
