"""Buffers of one array on its way through the mixing rounds.

Design
------
Three buffers take turns, so that a result stays valid until the next-but-one call while nothing is allocated: one holds
the last result (the caller's w or y), two carry the rounds. The Chebyshev recursion needs exactly two, because the
kernel may write v_(k+1) over v_(k-1). Without ghosts the first round reads the caller's array in place, and a fixed
graph needs no turns: one kernel takes the columns through all rounds while they are in the cache (`blend`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.network.plan import LocalMixing
from dnnext.network.spectrum import Coefficients

__all__ = ["Lane", "change_of"]

Array = NDArray[Any]


class _Buffer:
    """``local | ghost`` rows, and a view of the local ones."""

    __slots__ = ("local", "rows")

    def __init__(self, n_local: int, n_ghost: int, width: int, dtype: np.dtype[Any]) -> None:
        self.rows: Array = np.zeros((n_local + n_ghost, width), dtype=dtype)
        self.local: Array = self.rows if n_ghost == 0 else self.rows[:n_local]


class Lane:
    """One of the arrays that travel together.

    Parameters
    ----------
    n_local, n_ghost, width : int
        Rows held here, ghost rows to make room for, and numbers in a row.
    dtype : dtype
    """

    __slots__ = ("_free", "_kept", "_shape", "before", "local", "rows")

    def __init__(self, n_local: int, n_ghost: int, width: int, dtype: np.dtype[Any]) -> None:
        self._shape = (n_local, n_ghost, width, dtype)
        self._free = [_Buffer(*self._shape), _Buffer(*self._shape)]
        self._kept = _Buffer(*self._shape)
        self.rows: Array = self._kept.rows
        self.local: Array = self._kept.local
        self.before: Array = self.local

    def load(self, x: Array, arrays: tuple[Array, ...]) -> None:
        """Begin with v_0 = x (n_local, P); none of the arrays of this call is written to."""
        for place, buffer in enumerate(self._free):
            for given in arrays:
                if given is buffer.rows or given.base is buffer.rows:  # an older result comes back: leave it alone
                    self._free[place] = _Buffer(*self._shape)
        if self._shape[1]:
            self.rows, self.local = self._free[1].rows, self._free[1].local
            self.local[...] = x
        else:
            self.rows = self.local = x

    def mix(self, k: int, local: LocalMixing, data: Array, c: Coefficients, n_threads: int) -> None:
        """Round k of this call, ghosts filled: v_(k+1) = scale C v_k + shift v_k + memory v_(k-1)."""
        scale, shift, memory = c
        target = self._free[k & 1]
        out, rows, previous = target.local, self.rows, None
        if memory != 0.0:
            previous = self.before if k == 1 else out
        kernels.csr_mix(out, rows, local.indptr, local.indices, data, previous, scale, shift, memory, n_threads)
        self.before, self.local, self.rows = self.local, out, target.rows

    def reserve(self) -> Array:
        """The buffer of the next result, kept until the next-but-one call; after `load`, instead of rounds."""
        self._free[0], self._kept = self._kept, self._free[0]
        return self._kept.local

    def finish(self, n_rounds: int) -> Array:
        """The result, kept until the next-but-one call."""
        last = (n_rounds - 1) & 1 if n_rounds else 0
        result = self._free[last]
        if n_rounds == 0:
            result.local[...] = self.local
        self._free[last], self._kept = self._kept, result
        return result.local


def change_of(before: Array, after: Array, factor: float, n_threads: int) -> tuple[NDArray[np.float64], Array]:
    """``factor ||before_i - after_i|| / ||before_i||`` and ``||before_i||`` of every row, see `kernels.row_change`."""
    disagreement, size = np.empty((2, len(before)))
    kernels.row_change(disagreement, size, before, after, factor, n_threads)
    return disagreement, size
