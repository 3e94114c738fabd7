"""Dense layers over ranks in three layouts: a cube (3-D), a square (2-D, SUMMA), a row of ranks (1-D).

Z. Bian, Q. Xu, B. Wang, Y. You, Maximizing parallelism in distributed training for huge neural networks,
arXiv 2105.14450 (2021); R. A. van de Geijn, J. Watts, SUMMA: scalable universal matrix multiplication algorithm,
Concurrency 9 (1997); M. Shoeybi et al., Megatron-LM, arXiv 1909.08053 (2019).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.models.spread import Pairs, Spread, Tile, check_flag
from dnnext.runtime import Alone, Communicator, Cube, Square

__all__ = ["CubeLinear", "Linear1D", "Linear2D"]

Array = NDArray[Any]


def _parts(n: int, parts: int) -> int:
    """Length of each of so many equal parts that hold n."""
    return -(-n // parts)


def _gathered(comm: Communicator, tile: Array) -> Array:
    """The tiles of all ranks, one below the other."""
    every = np.empty((comm.size, *tile.shape), tile.dtype)
    comm.allgather(np.ascontiguousarray(tile), every)
    return every.reshape(-1, *tile.shape[1:])


def _scattered(comm: Communicator, whole: Array) -> Callable[[], Array]:
    """Begin the sum over ranks of which each keeps its part of the rows; the function returned ends it."""
    parts = whole.reshape(comm.size, -1, *whole.shape[1:])
    into = np.empty(parts.shape[1:], whole.dtype)
    finish = comm.start_reduce_scatter(parts, into)

    def end() -> Array:
        finish()
        return into

    return end


def _gathered_bias(comm: Communicator, bias: Array, n: int) -> Array:
    return _gathered(comm, bias)[:n]


def _scattered_bias(comm: Communicator, sums: Array, length: int) -> Array:
    padded = np.zeros(comm.size * length, sums.dtype)
    padded[: len(sums)] = sums
    return _scattered(comm, padded)()


class CubeLinear(Spread):
    """``psi(x W + b)`` over a cube of p^3 ranks (i, j, l).

    x has row block i, column block l, and of its rows sub-block j; W has row block l, sub-block i of it, and column
    block j; the result has row block i, column block j, sub-block l. So x is gathered along j, W along i, and the
    products are summed and scattered along l. The result lies as the input does with j and l swapped, so every other
    layer is `swapped`. Backward, dz is gathered along l, the gradients of x and W are summed and scattered along j
    and i. Words received per rank are ``(p - 1) / p^3 (MK + KN + MN)`` forward and the same backward, see
    `dnnext.models.volumes.words`.

    Parameters
    ----------
    cube : Cube
    n_inputs, n_outputs : int
    activation : str, default="identity"
        As for `Dense`.
    swapped : bool, default=False
        The roles of j and l are swapped; true for every second layer.
    bias : bool, default=True

    Raises
    ------
    ValueError
        On every rank, if an argument is unfit or differs from rank to rank.

    References
    ----------
    Z. Bian, Q. Xu, B. Wang, Y. You, arXiv 2105.14450 (2021).

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     layer = CubeLinear(Cube(comm, 2), 8, 4)
    ...     x, (weight, bias) = np.ones((4, 8)), layer.spread_weights(np.ones((8, 4)))
    ...     y = layer.forward([weight, bias], layer.spread_input(x), {})
    ...     return weight.shape, y.shape, float(y[0, 0])
    >>> threads.run(8, program)[0]
    ((2, 2), (1, 2), 8.0)
    """

    def __init__(
        self, cube: Cube, n_inputs: int, n_outputs: int, activation: str = "identity", swapped: bool = False,
        bias: bool = True,
    ) -> None:  # fmt: skip
        self.cube = cube
        self._set(cube.comm, n_inputs, n_outputs, activation, bias)
        with cube.comm.together():
            self.swapped = check_flag("swapped", swapped)
        cube.comm.agree_on({"swapped": self.swapped})
        self._a, self._b = ("j", "l") if self.swapped else ("l", "j")
        p = cube.p
        self._k, self._n = _parts(self.n_inputs, p * p), _parts(self.n_outputs, p * p)
        self._c = _parts(self._n, p)
        self.row_ranks = self.same_rows = cube.along[self._b]
        self.value_ranks = cube.comm

    def _place(self, rank: int | None) -> tuple[int, int, int]:
        place = self.cube.place(self.comm.rank if rank is None else rank)
        return place["i"], place[self._a], place[self._b]

    def input_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """Row block i, its sub-block b, column block a."""
        (i, a, b), p, m = self._place(rank), self.cube.p, _parts(n_rows, self.cube.p**2)
        return Tile(((i * p + b) * m, a * p * self._k), (m, p * self._k))

    def output_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """Row block i, its sub-block a, column block b."""
        (i, a, b), p, m = self._place(rank), self.cube.p, _parts(n_rows, self.cube.p**2)
        return Tile(((i * p + a) * m, b * p * self._n), (m, p * self._n))

    def weight_tile(self, rank: int | None = None) -> Tile:
        """Row block a, its sub-block i, column block b."""
        (i, a, b), p = self._place(rank), self.cube.p
        return Tile(((a * p + i) * self._k, b * p * self._n), (self._k, p * self._n))

    def bias_tile(self, rank: int | None = None) -> Tile:
        """Column block b, spread over the plane of the ranks that share it; the last tiles may be padding."""
        (i, a, b), p = self._place(rank), self.cube.p
        low = min((i * p + a) * self._c, p * self._n)
        return Tile((b * p * self._n + low,), (min(self._c, p * self._n - low),))

    def open_input(self, x: Array) -> Array:
        """X_ia, gathered along b."""
        return _gathered(self.cube.along[self._b], x)

    def open_weight(self, weight: Array) -> Array:
        """W_ab, gathered along i."""
        return _gathered(self.cube.along["i"], weight)

    def open_output(self, dz: Array) -> Array:
        """dZ_ib, gathered along a."""
        return _gathered(self.cube.along[self._a], dz)

    def products(self, pairs: Pairs) -> Array:
        """``sum_a X_ia W_ab``, scattered along a."""
        return _scattered(self.cube.along[self._a], _sum([x @ weight for x, weight in pairs]))()

    def start_weight_adjoints(self, pairs: Pairs) -> Callable[[], Array]:
        """``sum_i X_ia' dZ_ib``, scattered along i."""
        return _scattered(self.cube.along["i"], _sum([x.T @ dz for x, dz in pairs]))

    def state_adjoint(self, dz: Array, weight: Array) -> Array:
        """``sum_b dZ_ib W_ab'``, scattered along b."""
        return _scattered(self.cube.along[self._b], dz @ weight.T)()

    def whole_bias(self, bias: Array) -> Array:
        """Gathered over the plane of b."""
        padded = np.zeros(self._c, bias.dtype)
        padded[: len(bias)] = bias
        return _gathered_bias(self.cube.plane[self._b], padded, self.cube.p * self._n)

    def bias_adjoint(self, sums: Array) -> Array:
        """Summed and scattered over the plane of b."""
        return _scattered_bias(self.cube.plane[self._b], sums, self._c)[: self.bias_tile().shape[0]]


class Linear2D(Spread):
    """``psi(x W + b)`` over a square of p^2 ranks (i, j), each with block (i, j) of every array: SUMMA.

    Forward, in p steps the blocks of column s of x travel along the rows and those of row s of W along the columns.
    Backward, W travels along the columns and x along the rows, and the gradients are summed along rows and columns.
    Words received per rank are ``(p - 1) / p^2 (MK + KN)`` forward and twice that backward.

    Parameters
    ----------
    square : Square
    n_inputs, n_outputs : int
    activation : str, default="identity"
    bias : bool, default=True

    Raises
    ------
    ValueError
        On every rank, if an argument is unfit or differs from rank to rank.

    References
    ----------
    R. A. van de Geijn, J. Watts, Concurrency: Practice and Experience 9 (1997).

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     layer = Linear2D(Square(comm, 2), 4, 4)
    ...     y = layer.forward(layer.spread_weights(np.eye(4)), layer.spread_input(np.eye(4)), {})
    ...     return y.tolist()
    >>> threads.run(4, program)[3]
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self, square: Square, n_inputs: int, n_outputs: int, activation: str = "identity", bias: bool = True
    ) -> None:
        self.square = square
        self._set(square.comm, n_inputs, n_outputs, activation, bias)
        p = square.p
        self._k, self._n = _parts(self.n_inputs, p), _parts(self.n_outputs, p)
        self._c = _parts(self._n, p)
        self.row_ranks = self.same_rows = square.row
        self.value_ranks = square.comm

    def _place(self, rank: int | None) -> tuple[int, int]:
        return divmod(self.comm.rank if rank is None else rank, self.square.p)

    def input_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """Block (i, j)."""
        (i, j), m = self._place(rank), _parts(n_rows, self.square.p)
        return Tile((i * m, j * self._k), (m, self._k))

    def output_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """Block (i, j)."""
        (i, j), m = self._place(rank), _parts(n_rows, self.square.p)
        return Tile((i * m, j * self._n), (m, self._n))

    def weight_tile(self, rank: int | None = None) -> Tile:
        """Block (i, j)."""
        i, j = self._place(rank)
        return Tile((i * self._k, j * self._n), (self._k, self._n))

    def bias_tile(self, rank: int | None = None) -> Tile:
        """Block j, spread over the column; the last tiles may be padding."""
        i, j = self._place(rank)
        low = min(i * self._c, self._n)
        return Tile((j * self._n + low,), (min(self._c, self._n - low),))

    def _from(self, comm: Communicator, block: Array, root: int) -> Array:
        """The block of one rank of a row or a column."""
        block = block.copy() if comm.rank == root else np.empty_like(block)
        comm.broadcast(block, root)
        return block

    def products(self, pairs: Pairs) -> Array:
        """``sum_s X_is W_sj``."""
        row, column = self.square.row, self.square.column
        steps = range(self.square.p)
        return _sum([self._from(row, x, s) @ self._from(column, weight, s) for x, weight in pairs for s in steps])

    def start_weight_adjoints(self, pairs: Pairs) -> Callable[[], Array]:
        """``sum_i X_is' dZ_ij``, kept by rank s of the column."""
        row, column = self.square.row, self.square.column
        parts = [_sum([self._from(row, x, s).T @ dz for x, dz in pairs]) for s in range(self.square.p)]
        return _scattered(column, np.concatenate(parts))

    def state_adjoint(self, dz: Array, weight: Array) -> Array:
        """``sum_j dZ_ij W_sj'``, kept by rank s of the row."""
        row, column = self.square.row, self.square.column
        return _scattered(row, np.concatenate([dz @ self._from(column, weight, s).T for s in range(self.square.p)]))()

    def whole_bias(self, bias: Array) -> Array:
        """Gathered over the column."""
        padded = np.zeros(self._c, bias.dtype)
        padded[: len(bias)] = bias
        return _gathered_bias(self.square.column, padded, self._n)

    def bias_adjoint(self, sums: Array) -> Array:
        """Summed and scattered over the column."""
        return _scattered_bias(self.square.column, sums, self._c)[: self.bias_tile().shape[0]]


class Linear1D(Spread):
    """``psi(x W + b)`` over P ranks in a row; a layer split by columns goes before one split by rows.

    Split by columns, every rank has all of x and P-th parts of the columns of W and of the result; the gradient of x
    is summed over the ranks. Split by rows, every rank has P-th parts of the columns of x and of the rows of W; the
    result is summed over the ranks, and every rank has all of it. Each sum gives every rank ``2 (P - 1) / P`` words per
    number; a pair of layers needs one forward and one backward.

    Parameters
    ----------
    comm : Communicator
    n_inputs, n_outputs : int
    activation : str, default="identity"
    split : {"columns", "rows"}, default="columns"
    bias : bool, default=True

    Raises
    ------
    ValueError
        On every rank, if an argument is unfit or differs from rank to rank.

    References
    ----------
    M. Shoeybi et al., Megatron-LM, arXiv 1909.08053 (2019).

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> def program(comm):
    ...     layer = Linear1D(comm, 4, 2, split="rows")
    ...     return layer.forward(layer.spread_weights(np.ones((4, 2))), layer.spread_input(np.ones((1, 4))), {})
    >>> threads.run(2, program)[1]
    array([[4., 4.]])
    """

    def __init__(
        self, comm: Communicator, n_inputs: int, n_outputs: int, activation: str = "identity", split: str = "columns",
        bias: bool = True,
    ) -> None:  # fmt: skip
        self._set(comm, n_inputs, n_outputs, activation, bias)
        with comm.together():
            self.split = _checks.check_choice("split", split, ("columns", "rows"))
        comm.agree_on({"split": self.split})
        self._k, self._n = self.n_inputs, self.n_outputs
        if self.split == "columns":
            self._n = _parts(self.n_outputs, comm.size)
        else:
            self._k = _parts(self.n_inputs, comm.size)
        self._c = _parts(self.n_outputs, comm.size)
        self.row_ranks = self.value_ranks = comm if self.split == "columns" else Alone()
        self.same_rows = comm

    def _rank(self, rank: int | None) -> int:
        return self.comm.rank if rank is None else rank

    def input_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """All of x, or a P-th of its columns."""
        return Tile((0, self._rank(rank) * self._k if self.split == "rows" else 0), (n_rows, self._k))

    def output_tile(self, n_rows: int, rank: int | None = None) -> Tile:
        """A P-th of the columns, or all of them."""
        return Tile((0, self._rank(rank) * self._n if self.split == "columns" else 0), (n_rows, self._n))

    def weight_tile(self, rank: int | None = None) -> Tile:
        """A P-th of the columns or of the rows."""
        r = self._rank(rank)
        return Tile((0, r * self._n) if self.split == "columns" else (r * self._k, 0), (self._k, self._n))

    def bias_tile(self, rank: int | None = None) -> Tile:
        """A P-th."""
        return Tile((self._rank(rank) * self._c,), (self._c,))

    def products(self, pairs: Pairs) -> Array:
        """x W, summed over the ranks where the rows of W are split."""
        z = _sum([x @ weight for x, weight in pairs])
        return z if self.split == "columns" else self._summed(z)

    def start_weight_adjoints(self, pairs: Pairs) -> Callable[[], Array]:
        """x' dz: nothing travels."""
        gradient = _sum([x.T @ dz for x, dz in pairs])
        return lambda: gradient

    def state_adjoint(self, dz: Array, weight: Array) -> Array:
        """dz W', summed over the ranks where the columns of W are split."""
        h = dz @ weight.T
        return self._summed(h) if self.split == "columns" else h

    def whole_bias(self, bias: Array) -> Array:
        """Where the rows of W are split, gathered from all ranks."""
        return bias if self.split == "columns" else _gathered_bias(self.comm, bias, self.n_outputs)

    def bias_adjoint(self, sums: Array) -> Array:
        """Every rank has all sums that it needs."""
        return sums if self.split == "columns" else self.bias_tile().cut(sums)

    def _summed(self, a: Array) -> Array:
        """The sum over ranks, on every rank: scattered, then gathered, in rank order."""
        length = _parts(a.size, self.comm.size)
        flat = np.zeros(length * self.comm.size, a.dtype)
        flat[: a.size] = a.reshape(-1)
        return _gathered(self.comm, _scattered(self.comm, flat)())[: a.size].reshape(a.shape)


def _sum(arrays: list[Array]) -> Array:
    """Added in the order given, in a new array."""
    total = arrays[0]
    for a in arrays[1:]:
        total = total + a
    return np.ascontiguousarray(total)
