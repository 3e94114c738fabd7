"""Rows of data of an agent that is a group of ranks: every number of them on one rank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext.models.model import Rows
from dnnext.models.spread import Spread, Tile

__all__ = ["TiledRows", "outputs_of_rows", "own_rows", "tile_of_rows", "tiled"]

Array = NDArray[Any]


class TiledRows(NamedTuple):
    """What one rank holds of the rows of several agents, each of which is this group of ranks.

    Inputs are held as the first layer takes them, a tile of each agent's; outputs, targets and sample weights as whole
    rows, each on one rank, so that a loss needs no message. A P-th of both is here where the sizes divide.

    Attributes
    ----------
    x : array
        The tiles of the inputs, one agent's below the other's.
    offsets : (n + 1,) int64
        Where each agent's tile begins in x.
    counts : (n,) int64
        Rows of each agent, on all ranks together.
    own : tuple of slice
        The rows of each agent whose outputs are held here.
    n_threads : int

    Examples
    --------
    >>> rows = TiledRows(np.zeros((2, 1)), np.array([0, 2]), np.array([8]), (slice(3, 4),))
    >>> rows.n_agents, rows.own_offsets.tolist(), rows.cut(np.arange(8.0), np.array([0, 8]))
    (1, [0, 1], array([3.]))
    """

    x: Array
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    own: tuple[slice, ...]
    n_threads: int = 1

    @property
    def n_agents(self) -> int:
        """How many agents hold these rows."""
        return len(self.counts)

    @property
    def own_offsets(self) -> NDArray[np.int64]:
        """(n + 1,): where each agent's rows begin among those whose outputs are held here."""
        return np.concatenate([[0], np.cumsum([rows.stop - rows.start for rows in self.own])]).astype(np.int64)

    def cut(self, values: Array, offsets: Array) -> Array:
        """A copy of the rows held here of values (M, ...), where agent i has ``offsets[i] : offsets[i + 1]``."""
        parts = [values[first + s.start : first + s.stop] for first, s in zip(offsets, self.own, strict=False)]
        return np.ascontiguousarray(np.concatenate([values[:0], *parts]))


def tiled(first: Spread, last: Spread, rows: Rows) -> TiledRows:
    """The part held here of rows that every rank has, for a chain from layer `first` to layer `last`."""
    counts = np.diff(rows.offsets).astype(np.int64)
    parts = [
        first.input_tile(int(n)).cut(rows.x[start : start + n])
        for n, start in zip(counts, rows.offsets[:-1], strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    x = np.concatenate([np.empty((0, first.input_tile(0).shape[1]), rows.x.dtype), *parts])
    return TiledRows(x, offsets, counts, tuple(own_rows(last, int(n)) for n in counts), rows.n_threads)


def _share(layer: Spread, n_rows: int) -> tuple[Tile, int]:
    """The tile held here of the output, and how many of its rows fall to each of the ranks that have them, too."""
    tile = layer.output_tile(n_rows)
    return tile, -(-tile.shape[0] // layer.same_rows.size)


def own_rows(layer: Spread, n_rows: int) -> slice:
    """Which rows of the output (n_rows, N) of a layer fall to this rank; each row falls to one rank."""
    tile, share = _share(layer, n_rows)
    top, low = tile.start[0], layer.same_rows.rank * share
    start = min(top + min(low, tile.shape[0]), n_rows)
    return slice(start, max(start, min(top + min(low + share, tile.shape[0]), n_rows)))


def outputs_of_rows(layer: Spread, z: Array, n_rows: int) -> Array:
    """The own rows of the output, all columns of them, from its tiles z: one message to each rank of `same_rows`."""
    tile, share = _share(layer, n_rows)
    own = own_rows(layer, n_rows)
    if layer.row_ranks.size == 1:  # all columns are here
        return z[own.start - tile.start[0] : own.stop - tile.start[0]]
    pieces = np.zeros((layer.same_rows.size, share, z.shape[1]), z.dtype)
    pieces.reshape(-1, z.shape[1])[: len(z)] = z
    columns = np.moveaxis(_traded(layer, pieces), 0, 1).reshape(share, -1)
    return columns[: own.stop - own.start, : layer.n_outputs]


def tile_of_rows(layer: Spread, rows: Array, n_rows: int) -> Array:
    """The tile held here of the output, from the own rows of all ranks, the inverse of `outputs_of_rows`."""
    tile, share = _share(layer, n_rows)
    n_ranks, width = layer.same_rows.size, tile.shape[1]
    pieces = np.zeros((n_ranks, share, width), rows.dtype)
    if layer.row_ranks.size == 1:
        mine = np.zeros((share, width), rows.dtype)
        mine[: len(rows)] = rows
        layer.same_rows.allgather(mine, pieces)
    else:
        padded = np.zeros((share, n_ranks * width), rows.dtype)
        padded[: len(rows), : layer.n_outputs] = rows
        pieces = _traded(layer, np.ascontiguousarray(np.moveaxis(padded.reshape(share, n_ranks, width), 1, 0)))
    return pieces.reshape(-1, width)[: tile.shape[0]]


def _traded(layer: Spread, pieces: Array) -> Array:
    """Piece r to rank r of `same_rows`; what the others sent, in their order."""
    comm, received = layer.same_rows, np.empty_like(pieces)
    others: Sequence[int] = [r for r in range(comm.size) if r != comm.rank]
    comm.exchange([(r, pieces[r]) for r in others], [(r, received[r]) for r in others])
    received[comm.rank] = pieces[comm.rank]
    return received
