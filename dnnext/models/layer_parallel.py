"""Values and gradients of a residual network by multigrid in its depth: all layers at once, states kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.models.mgrit import MGRIT
from dnnext.models.resnet import ResNet

__all__ = ["Grid", "Propagation"]

Array = NDArray[Any]


class Grid(NamedTuple):
    """How the depth is coarsened: the arguments of `MGRIT` of these names."""

    cf: int = 4
    nrelax0: int = 0
    nrelax: int = 1
    max_levels: int = 10
    min_coarse: int = 4


class Propagation:
    """States ``u[0 .. N]`` and adjoints of one network on rows x, for weights that change.

    Parameters
    ----------
    model : ResNet
    row : (P,) array
        The weights.
    x : (M, d) array
        The inputs.
    grid : Grid
    comm : Communicator or None
        Ranks that share the layers, in order; every one holds all of `row` and x.

    Attributes
    ----------
    n_steps : int
        Layers, padded by layers of step size zero to what the levels divide.
    n_points : int
        States that this rank holds: of its layers, and one more.
    first : int
        The first layer owned here.
    """

    def __init__(self, model: ResNet, row: Array, x: Array, grid: Grid, comm: Any = None, n_threads: int = 1) -> None:
        self.model, self.x, self.comm, self.n_threads = model, x, comm, n_threads
        self.opening, self.layers, self.output = model.split(row)
        self.n_steps = MGRIT.padded(model.n_layers, grid.cf, grid.max_levels, grid.min_coarse)
        self.down = MGRIT(None, self.n_steps, *grid, comm=comm, sweep=self._sweep)
        self.up = MGRIT(None, self.n_steps, *grid, comm=comm, backwards=True, sweep=self._sweep_back)
        self.first, self.n_points = self.down.own.start, self.down.own.stop - self.down.own.start
        self.is_first = comm is None or comm.rank == 0
        self.is_last = comm is None or comm.rank == comm.size - 1
        self._kept: Array = np.empty(0)

    def start(self) -> Array:
        """A guess of all states: the opening's everywhere, (n_points, width, columns)."""
        u, _ = self.model.open(self.opening, self.x)
        return np.repeat(u[None], self.n_points, axis=0)

    def states(self, u: Array, n_cycles: int | None) -> NDArray[np.float64]:
        """Cycles on the states u (n_points, width, columns), in place; None: exactly. The residuals."""
        opened, _ = self.model.open(self.opening, self.x)
        if self.is_first:
            u[0] = opened
        if n_cycles is None:
            self.down.forward(u)
            return np.zeros(0)
        return self.down.solve(u, None, n_cycles)

    def outputs(self, u: Array) -> Array:
        """``f`` (M, Q) of the last state, equal on every rank."""
        f = (
            self.model.close(self.output, u[-1], len(self.x))
            if self.is_last
            else np.empty((len(self.x), self.model.n_outputs), u.dtype)
        )
        if self.comm is not None:
            self.comm.broadcast(f, self.comm.size - 1)
        return f

    def first_adjoint(self, u: Array, delta: Array) -> Array:
        """The adjoint of the last state, (width, columns), equal on every rank."""
        last = self.model.pull_output(self.output, u[-1], delta)[0] if self.is_last else np.empty_like(u[-1])
        if self.comm is not None:
            self.comm.broadcast(last, self.comm.size - 1)
        return last

    def adjoints(self, adjoint: Array, u: Array, delta: Array, n_cycles: int | None) -> NDArray[np.float64]:
        """Cycles on the adjoints, stored in reversed order: ``adjoint[0]`` belongs to the last point. The residuals."""
        self._kept = u
        if self.is_last:
            adjoint[0], _ = self.model.pull_output(self.output, u[-1], delta)
        if n_cycles is None:
            self.up.forward(adjoint)
            return np.zeros(0)
        return self.up.solve(adjoint, None, n_cycles)

    def gradient(self, u: Array, adjoint: Array, delta: Array, out: Array) -> None:
        """The gradient's columns that this rank knows into out (P,), zeros elsewhere.

        ``dW_n = u[n]' (h adjoint[n + 1] phi'(z_n))``, the biases likewise: all layers at once.
        """
        opening, layers, output = self.model.split(out)
        out[...] = 0
        n_own = min(self.n_points - 1, self.model.n_layers - self.first)
        if n_own > 0:
            here = np.arange(n_own)[:, None]
            pairs, pushed = np.empty((2 * n_own, *u.shape[1:]), u.dtype), np.empty_like(u[:n_own])
            pairs[::2] = adjoint[::-1][1 : n_own + 1]
            sizes, code = np.full((n_own, 1), self.model.h), self.model.code
            kernels.residual_backward(
                pairs, pushed, u, self.layers, self.first + here, sizes, here, 2, code, None, None, self.n_threads
            )
            kernels.residual_gradient(layers[self.first : self.first + n_own], u, pushed, here, self.n_threads)
        if self.is_last:
            _, output[:] = self.model.pull_output(self.output, u[-1], delta)
        if self.is_first:
            _, slope = self.model.open(self.opening, self.x)
            opening[:] = self.model.pull_opening(self.x, slope, adjoint[-1])

    def relative_change(self, new: Array, old: Array) -> float:
        """``|new - old| / |new|`` of two gradients, each rank with its own columns; 0 for a gradient that is zero.

        Layers are added up one by one, so that no bit depends on the ranks; N + 2 numbers travel for each of the two.
        """
        squares = np.stack([self._squares(new), self._squares(new - old)])
        if self.comm is not None:
            self.comm.allreduce(squares)
        size, change = np.sqrt(squares.sum(axis=1))
        return float(change / size) if size > 0 else 0.0

    def _squares(self, row: Array) -> NDArray[np.float64]:
        """Sums of squares of the opening's columns, of every layer's and of the output's."""
        opening, layers, output = (np.square(part, dtype=np.float64) for part in self.model.split(row))
        return np.concatenate([[opening.sum()], layers.sum(axis=1), [output.sum()]])

    def gather(self, out: Array) -> None:
        """What every rank wrote by `gradient`, on all ranks: columns of others are zero, so that sums are exact."""
        if self.comm is not None:
            self.comm.allreduce(out)

    def _sizes(self, layers: NDArray[np.int64], stride: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Existing layers for these numbers, and step sizes that are zero where the number is a padded one."""
        sizes = np.where(layers < self.model.n_layers, stride * self.model.h, 0.0)
        return np.minimum(layers, self.model.n_layers - 1), sizes

    def _sweep(self, k: NDArray[np.int64], u: Array, apart: int, stride: int, g: Array | None) -> None:
        layers, sizes = self._sizes(k, stride)
        kernels.residual_forward(u, self.layers, layers, sizes, apart, self.model.code, g, None, self.n_threads)

    def _sweep_back(self, k: NDArray[np.int64], u: Array, apart: int, stride: int, g: Array | None) -> None:
        """From reversed point k: the transpose of the forward step of layer N - k - stride, the interval's left end."""
        points = self.n_steps - k - stride
        (layers, sizes), code = self._sizes(points, stride), self.model.code
        at = points - self.first
        kernels.residual_backward(
            u, None, self._kept, self.layers, layers, sizes, at, apart, code, g, None, self.n_threads
        )
