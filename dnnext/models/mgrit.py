"""Multigrid in time for one-step recursions: all steps at once, by cycles over coarser grids.

# Design
# Level l holds every c^l-th point. A rank owns a contiguous block of steps on every level, and its array of states has
# one entry more than it owns steps: entry 0 is its first point, the last entry is the first point of the next rank.
# Messages are one state to the next rank for each relaxation of coarse points, and one on the coarsest level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short

__all__ = ["MGRIT"]

Array = NDArray[Any]
Step = Callable[[NDArray[np.int64], Array, int], Array]
Sweep = Callable[[NDArray[np.int64], Array, int, int, "Array | None"], None]


class _Level(NamedTuple):
    """One grid: its stride on the finest grid, the steps owned here, and relaxations of its coarse points."""

    stride: int
    first: int  # global number of the first step owned here
    n_steps: int  # owned here
    n_all: int  # of all ranks
    relaxations: int


class MGRIT:
    """Solves ``u[k + 1] = step(k, u[k]) + g[k + 1]``, ``0 <= k < N``, by multigrid cycles over k (FAS).

    On level l, ``u[k + 1] = step_l(k, u[k]) + g_l[k + 1]`` with the parameters of fine step ``k c^l`` and a step size
    c^l times as long. A cycle relaxes the points between coarse points (F), then coarse points and those between
    (C, F), as often as asked, corrects the coarse points by the next level, and relaxes once more.

    Parameters
    ----------
    step : callable or None
        ``step(k, v, stride) -> (m, ...)``: for fine steps k (m,) int64, states v (m, ...) and a stride, one step of
        size ``stride`` from each state. Items must not depend on each other.
    n_steps : int
        N on the finest level, a multiple of the largest stride: pad by steps that change nothing.
    cf : int
        c, the coarsening factor, at least 2.
    nrelax0, nrelax : int
        C and F relaxations after the first F relaxation, on the finest level and on the others.
    max_levels, min_coarse : int
        Most levels, and fewest steps of the coarsest one.
    comm : Communicator or None
        The ranks that share the steps, in order; None is one process. Every rank must own at least one step of the
        coarsest level.
    backwards : bool
        Whether the recursion runs from the last rank to the first, each owning what it owns forwards: for adjoints.
    sweep : callable or None
        Several steps at once, in place of `step`: ``sweep(k, u, apart, stride, g)`` with k (chains, steps) fills
        ``u[s apart + i + 1]`` from ``u[s apart + i]`` by step ``k[s, i]``, and adds g there unless it is None.

    Attributes
    ----------
    levels : list
        The grids, finest first.
    own : slice
        Points of the finest level that this rank holds: ``u`` of `solve` has ``own.stop - own.start`` entries.
    n_evaluations : int
        Calls of `step`, counted by item, on this rank.

    Raises
    ------
    ValueError
        If a number is unfit, or there are more ranks than coarsest steps.

    References
    ----------
    S. Guenther, L. Ruthotto, J. B. Schroder, E. C. Cyr, N. R. Gauger, Layer-parallel training of deep residual neural
    networks, SIAM J. Math. Data Sci. 2 (2020), section 3; R. D. Falgout et al., Parallel time integration with
    multigrid, SIAM J. Sci. Comput. 36 (2014).

    Examples
    --------
    The recursion ``u[k + 1] = 0.9 u[k]``; four coarse intervals, so that four cycles of F relaxation are exact.

    >>> solver = MGRIT(lambda k, v, stride: (1 - 0.1 * stride) * v, n_steps=16, cf=4)
    >>> u = np.ones((17, 1))
    >>> residuals = solver.solve(u, n_cycles=4)
    >>> bool(abs(u[16, 0] - 0.9**16) < 1e-15), len(residuals)
    (True, 4)
    """

    def __init__(
        self,
        step: Step | None,
        n_steps: int,
        cf: int = 4,
        nrelax0: int = 0,
        nrelax: int = 1,
        max_levels: int = 10,
        min_coarse: int = 4,
        comm: Any = None,
        backwards: bool = False,
        sweep: Sweep | None = None,
    ) -> None:
        self.step, self.n_steps = step, _checks.check_count("n_steps", n_steps)
        if not callable(step) and not callable(sweep):
            raise ValueError(f"step must be a callable, or sweep in its place, got {short(step)}.")
        self.sweep = self._by_steps if sweep is None else sweep
        self.cf = _checks.check_count("cf", cf, 2)
        self.nrelax0 = _checks.check_count("nrelax0", nrelax0, 0)
        self.nrelax = _checks.check_count("nrelax", nrelax, 0)
        self.max_levels = _checks.check_count("max_levels", max_levels)
        self.min_coarse = _checks.check_count("min_coarse", min_coarse)
        self.comm, self.backwards, self.n_evaluations = comm, backwards, 0
        self.size: int = 1 if comm is None else comm.size
        own: int = 0 if comm is None else comm.rank
        self.place = self.size - 1 - own if backwards else own  # in the order of the recursion
        self.levels = self._levels()
        first = self.levels[0].first
        self.own = slice(first, first + self.levels[0].n_steps + 1)

    @staticmethod
    def strides(n_steps: int, cf: int = 4, max_levels: int = 10, min_coarse: int = 4) -> list[int]:
        """Strides of the levels; the last is what `n_steps` must be a multiple of (see `padded`).

        Examples
        --------
        >>> MGRIT.strides(256), MGRIT.strides(250), MGRIT.strides(3)
        ([1, 4, 16, 64], [1, 4, 16, 64], [1])
        """
        strides = [1]
        while len(strides) < max_levels and -(-n_steps // (strides[-1] * cf)) >= min_coarse:
            strides.append(strides[-1] * cf)
        return strides

    @classmethod
    def padded(cls, n_steps: int, cf: int = 4, max_levels: int = 10, min_coarse: int = 4) -> int:
        """The least number of steps from n_steps on that all levels divide.

        Examples
        --------
        >>> MGRIT.padded(250), MGRIT.padded(256)
        (256, 256)
        """
        largest = cls.strides(n_steps, cf, max_levels, min_coarse)[-1]
        return -(-n_steps // largest) * largest

    def _levels(self) -> list[_Level]:
        strides = self.strides(self.n_steps, self.cf, self.max_levels, self.min_coarse)
        coarsest = self.n_steps // strides[-1]
        if self.n_steps % strides[-1]:
            raise ValueError(
                f"n_steps must be a multiple of {strides[-1]}, the largest stride of {len(strides)} levels, got "
                f"{self.n_steps}; add {self.padded(*self._grid()) - self.n_steps} steps of size zero."
            )
        if self.size > coarsest:
            raise ValueError(
                f"comm must have at most {coarsest} ranks, one for each step of the coarsest level, got {self.size}; "
                "choose fewer ranks, a smaller max_levels or a larger min_coarse."
            )
        edges = [coarsest * r // self.size for r in self._ranks(self.place, self.place + 1)]
        if self.backwards:
            edges = [coarsest - edge for edge in edges]
        levels = []
        for number, stride in enumerate(strides):
            ratio = strides[-1] // stride
            relaxations = self.nrelax if number else self.nrelax0
            first, last = (edge * ratio for edge in edges)
            levels.append(_Level(stride, first, last - first, self.n_steps // stride, relaxations))
        return levels

    def _grid(self) -> tuple[int, int, int, int]:
        return self.n_steps, self.cf, self.max_levels, self.min_coarse

    def solve(
        self, u: Array, g: Array | None = None, n_cycles: int = 2, tol: float | None = None
    ) -> NDArray[np.float64]:
        """Cycles on the states u, which hold the guess, and the right-hand sides g.

        Parameters
        ----------
        u : (n_own + 1, ...) array, changed in place
            The states of the points that this rank holds (`own`); ``u[0]`` of the first rank is the initial value and
            stays. The last point of one rank and the first of the next must agree at the start.
        g : array like u, or None for zeros
        n_cycles : int
            Most cycles.
        tol : float or None
            Stop after a cycle whose residual, the 2-norm over the coarse points, is at most tol.

        Returns
        -------
        (cycles done,) float64
            The residual of every cycle, equal on every rank: of the coarse points, before the correction.
        """
        _checks.check_count("n_cycles", n_cycles)
        if len(u) != self.own.stop - self.own.start:
            raise ValueError(f"u must hold the {self.own.stop - self.own.start} points of this rank, got {len(u)}.")
        residuals = list[float]()
        for _ in range(n_cycles):
            residuals.append(self._cycle(0, u, g))
            if tol is not None and residuals[-1] <= tol:
                break
        return np.array(residuals)

    def forward(self, u: Array, g: Array | None = None) -> None:
        """The exact solution, one step after the other: u as in `solve`."""
        self._march(self.levels[0], u, g)

    def critical_path(self, n_ranks: int) -> int:
        """Evaluations of `step` one after another in a cycle on so many ranks.

        ``D(P) = sum_l ceil(N_l / (c P)) ((c - 1) (2 + nu_l) + nu_l + 2) + N_coarsest``, l but the coarsest.

        Examples
        --------
        >>> solver = MGRIT(lambda k, v, stride: v, n_steps=256)
        >>> solver.critical_path(64), solver.critical_path(1)
        (36, 756)
        """
        _checks.check_count("n_ranks", n_ranks)
        total, c = self.levels[-1].n_all, self.cf
        for level in self.levels[:-1]:
            intervals = -(-level.n_all // (c * n_ranks))
            total += intervals * ((c - 1) * (2 + level.relaxations) + level.relaxations + 2)
        return total

    # Inside.

    def _cycle(self, number: int, u: Array, g: Array | None) -> float:
        """One cycle on a level and those below it; the residual of its coarse points."""
        level, c = self.levels[number], self.cf
        if number == len(self.levels) - 1:
            before = u.copy() if number == 0 else None
            self._march(level, u, g)
            return 0.0 if before is None else self._norm(u[1:] - before[1:])
        self._between(level, u, g)
        for _ in range(level.relaxations):
            u[c::c] = self._onto_coarse(level, u, g)
            self._shift(u)
            self._between(level, u, g)
        coarse = u[::c].copy()
        reached = self._onto_coarse(level, u, g)
        residual = self._norm(reached - u[c::c]) if number == 0 else 0.0
        below = self.levels[number + 1]
        right = np.zeros_like(coarse)
        right[1:] = reached - self._single(below, 0, 1, coarse[:-1])
        self._cycle(number + 1, coarse, right)
        u[::c] = coarse
        self._between(level, u, g)
        return residual

    def _ranks(self, *edges: int) -> list[int]:
        """Boundaries between ranks, counted by the communicator."""
        return [self.size - edge for edge in edges] if self.backwards else list(edges)

    def _send(self, u: Array) -> None:
        """The last point to the next rank, if there is one."""
        if self.place < self.size - 1:
            self.comm.send(u[-1], self.comm.rank + (-1 if self.backwards else 1))

    def _receive(self, u: Array) -> None:
        """The first point from the rank before, if there is one."""
        if self.place > 0:
            self.comm.receive(u[0], self.comm.rank - (-1 if self.backwards else 1))

    def _by_steps(self, k: NDArray[np.int64], u: Array, apart: int, stride: int, g: Array | None) -> None:
        """A sweep made of `step`: all chains at once, one step after the other."""
        assert self.step is not None
        starts = np.arange(len(k)) * apart
        for i in range(k.shape[1]):
            u[starts + i + 1] = self.step(k[:, i], u[starts + i], stride)
            if g is not None:
                u[starts + i + 1] += g[starts + i + 1]

    def _run(self, level: _Level, chains: int, steps: int, u: Array, g: Array | None) -> None:
        """Steps of a level from every c-th point on, chains in parallel; or one chain from the first point."""
        apart = self.cf if chains > 1 else steps + 1
        numbers = level.first + self.cf * np.arange(chains)[:, None] + np.arange(steps)
        self.n_evaluations += numbers.size
        self.sweep(numbers * level.stride, u, apart, level.stride, g)

    def _single(self, level: _Level, first: int, apart: int, states: Array) -> Array:
        """One step of a level from each state: of points first, first + apart, ..."""
        pairs = np.empty((2 * len(states), *states.shape[1:]), states.dtype)
        pairs[::2] = states
        numbers = level.first + first + apart * np.arange(len(states))[:, None]
        self.n_evaluations += len(states)
        self.sweep(numbers * level.stride, pairs, 2, level.stride, None)
        return pairs[1::2]

    def _between(self, level: _Level, u: Array, g: Array | None) -> None:
        """F relaxation: the points between coarse points, in order from each coarse point; intervals in parallel."""
        self._run(level, level.n_steps // self.cf, self.cf - 1, u, g)

    def _onto_coarse(self, level: _Level, u: Array, g: Array | None) -> Array:
        """The coarse points but the first, each from the point before it."""
        c = self.cf
        reached = self._single(level, c - 1, c, u[c - 1 : -1 : c])
        return reached if g is None else reached + g[c::c]

    def _march(self, level: _Level, u: Array, g: Array | None) -> None:
        """All points of a level one after another, rank after rank."""
        self._receive(u)
        self._run(level, 1, level.n_steps, u, g)
        self._send(u)

    def _shift(self, u: Array) -> None:
        """The last point of every rank becomes the first of the next."""
        self._send(u)
        self._receive(u)

    def _norm(self, differences: Array) -> float:
        """2-norm over the coarse points of all ranks, added in their order."""
        squares = np.array([np.sum(np.square(d, dtype=np.float64)) for d in differences])
        if self.size > 1:
            most = -(-self.n_steps // self.size) + self.levels[-1].stride  # no rank holds more points
            mine, every = np.full(most, -1.0), np.empty((self.size, most))
            mine[: len(squares)] = squares
            self.comm.allgather(mine, every)
            every = every[::-1] if self.backwards else every
            squares = every[every >= 0]
        return float(np.sqrt(np.cumsum(squares)[-1]))
