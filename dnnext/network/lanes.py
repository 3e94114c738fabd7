"""Buffers of the arrays of one message on their way through the mixing rounds.

Design
------
A result belongs to the caller: its buffer is used again only when nothing else refers to it any more, which the
interpreter counts anyway. So nothing is allocated in a run that keeps a few results, and nothing that is still
in use is overwritten. The Chebyshev recursion needs two buffers, because the kernel may write v_(k+1) over v_(k-1).
Without ghosts the first round reads the caller's array in place.
"""

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.network.plan import LocalMixing
from dnnext.network.spectrum import Coefficients
from dnnext.runtime import Runtime

__all__ = ["Lane", "Message", "change_of"]

Array = NDArray[Any]
MOST = 6  # buffers that a lane remembers: a run holds w, y and those before, two are on their way
NONE: Array = np.empty((0, 0))


def _holders(pool: list[Array], k: int) -> int:
    """References to one array of the pool."""
    return sys.getrefcount(pool[k])


# Counts say nothing without the global interpreter lock: then buffers are never used again.
ALONE = _holders([np.empty(0)], 0) if getattr(sys, "_is_gil_enabled", lambda: True)() else -1


class Lane:
    """One of the arrays that travel together.

    Parameters
    ----------
    n_local, n_ghost, width : int
        Local rows, ghost rows, and numbers in a row.
    dtype : dtype
    """

    __slots__ = ("_n_local", "_pool", "_shape", "_turns", "before", "local", "rows")

    def __init__(self, n_local: int, n_ghost: int, width: int, dtype: np.dtype[Any]) -> None:
        self._n_local, self._shape = n_local, ((n_local + n_ghost, width), dtype)
        self._pool: list[Array] = []
        self._turns: list[Array] = []
        self.rows = self.local = self.before = NONE

    def take(self) -> Array:
        """A buffer (n_local + n_ghost, width) without other references."""
        for k in range(len(self._pool)):
            if _holders(self._pool, k) == ALONE:
                return self._pool[k]
        rows: Array = np.zeros(self._shape[0], dtype=self._shape[1])
        del self._pool[: len(self._pool) - MOST + 1]  # their holders keep them
        self._pool.append(rows)
        return rows

    def load(self, x: Array) -> None:
        """Begin with v_0 = x (n_local, P), which is not written to."""
        self._turns = [self.take()]
        if self._shape[0][0] > self._n_local:
            self._turns.append(self.take())
            self.rows = self._turns[1]
            self.local = self.rows[: self._n_local]
            self.local[...] = x
        else:
            self.rows = self.local = x

    def mix(self, k: int, local: LocalMixing, data: Array, c: Coefficients, n_threads: int) -> None:
        """Round k of this call, ghosts filled: v_(k+1) = scale C v_k + shift v_k + memory v_(k-1)."""
        scale, shift, memory = c
        if k == len(self._turns):
            self._turns.append(self.take())
        target = self._turns[k & 1]
        out, rows, previous = target[: self._n_local], self.rows, None
        if memory != 0.0:
            previous = self.before if k == 1 else out
        kernels.csr_mix(out, rows, local.indptr, local.indices, data, previous, scale, shift, memory, n_threads)
        self.before, self.local, self.rows = self.local, out, target

    def finish(self, n_rounds: int) -> Array:
        """The result (n_local, P); the lane refers to it no more."""
        result = self._turns[(n_rounds - 1) & 1 if n_rounds else 0][: self._n_local]
        if n_rounds == 0:
            result[...] = self.local
        self.release()
        return result

    def finish_later(self) -> Array:
        """The buffer (n_local, P) of a result that the caller computes from x, without ghosts."""
        result = self._turns[0]
        self.release()
        return result

    def release(self) -> None:
        """Let go of the arrays of this call."""
        self._turns = []
        self.rows = self.local = self.before = NONE


class Message:
    """The arrays and scalars that travel together, checked and laid out once per kind.

    Attributes
    ----------
    lanes : list of Lane
        One per array.
    scalars : (n_local + n_ghost, S)
        In the precision of the arrays.
    row_bytes : int
        Bytes of one agent's row ``[z_i | y_i | scalars_i]``.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.n_local = runtime, len(runtime.agents)
        self.lanes: list[Lane] = []
        self.scalars: Array = NONE
        self.row_bytes = 0
        self._signature: tuple[Any, ...] = ()
        self._n_ghost = 0

    def load(self, arrays: tuple[Array, ...], scalars: Array | None, n_ghost: int) -> None:
        """Check the message, set up buffers where it is a new kind, and put it at the start of the lanes."""
        signature = (*[(x.shape, x.dtype) for x in arrays], None if scalars is None else np.shape(scalars))
        if signature != self._signature:
            beside = () if scalars is None else (np.shape(scalars)[1:],)
            widths = (*[(x.shape[1:], str(x.dtype)) for x in arrays], *beside)
            if not self.runtime.comm.is_far:  # there every message is compared with what is expected
                self.runtime.agree("the width and precision of a message", widths)
        if signature != self._signature or n_ghost > self._n_ghost:
            self._bind(signature, n_ghost)
        for lane, x in zip(self.lanes, arrays, strict=True):
            lane.load(x)
        if scalars is not None:
            own = self.scalars[: self.n_local]
            if self.is_one_scalar:
                own[:, 0] = scalars
            else:
                own[...] = scalars

    def _bind(self, signature: tuple[Any, ...], n_ghost: int) -> None:
        """Check the shapes and set up buffers for them."""
        *shapes, scalars = signature
        n_local = self.n_local
        if not shapes:
            raise ValueError("mix needs at least one array, got none.")
        for place, (shape, dtype) in enumerate(shapes):
            if len(shape) != 2 or shape[0] != n_local or shape[1] == 0:
                raise ValueError(
                    f"array {place} must have shape (n_local, P) with one row for each of the {n_local} agents held "
                    f"here, got {shape}."
                )
            if dtype != shapes[0][1] or dtype not in (np.float64, np.float32):
                raise ValueError(
                    f"all arrays of one message must be float64 or float32 alike, got {shapes[0][1]} and {dtype}."
                )
        if scalars is not None and (len(scalars) not in (1, 2) or scalars[0] != n_local):
            raise ValueError(
                f"scalars must have shape (n_local,) or (n_local, S) for the {n_local} agents held here, got {scalars}."
            )
        dtype, widths = shapes[0][1], [shape[1] for shape, _ in shapes]
        n_scalars = 0 if scalars is None else math.prod(scalars[1:])
        self.lanes = [Lane(n_local, n_ghost, width, dtype) for width in widths]
        self.scalars = np.zeros((n_local + n_ghost, n_scalars), dtype=dtype)
        self.row_bytes = (sum(widths) + n_scalars) * dtype.itemsize
        self.is_one_scalar, self.is_double = scalars is None or len(scalars) == 1, dtype == np.float64
        self._signature, self._n_ghost = signature, n_ghost

    def weights(self, local: LocalMixing) -> Array:
        """The mixing weights in the precision of the arrays."""
        return local.data if self.is_double else local.data32

    def received(self, found: Array | None) -> Array:
        """What the neighbours' scalars came to, in the shape they were given in; 0 where there were none."""
        if found is None:
            found = np.zeros((self.n_local, self.scalars.shape[1] or 1), dtype=self.scalars.dtype)
        return found[:, 0] if self.is_one_scalar else found


def change_of(before: Array, after: Array, factor: float, n_threads: int) -> tuple[NDArray[np.float64], Array]:
    """``factor ||before_i - after_i|| / ||before_i||`` and ``||before_i||`` of every row, see `kernels.row_change`."""
    disagreement, size = np.empty((2, len(before)))
    kernels.row_change(disagreement, size, before, after, factor, n_threads)
    return disagreement, size
