"""A model whose weights, products and passes over the data are spread over several ranks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.models.cube import CubeLinear
from dnnext.models.layer import Keep, adjoint_all, forward_all, tangent_all
from dnnext.models.layers import Dense
from dnnext.models.layout import Layout
from dnnext.models.model import Rows
from dnnext.models.spread import Spread, connected
from dnnext.models.tiled_rows import TiledRows, outputs_of_rows, tile_of_rows, tiled
from dnnext.runtime import Communicator, Cube

__all__ = ["SpreadModel", "cube_mlp"]

Array = NDArray[Any]


class SpreadModel:
    """A chain of layers over ranks, as the model of an agent that is a group of ranks.

    A row of weights on one rank is that rank's tiles of all layers: each weight is stored once, ``1 / P`` of them per
    rank where the sizes divide. Steps, mixing, tracking and penalties that act number by number need no message inside
    the agent; lengths and products of rows take one small sum over its ranks (`dnnext.problem.row_parts`). Rows of data
    are given whole and equal on every rank, as `Rows`, and the outputs (M, Q) are then whole on every rank; or `tiled`
    once, as a `Problem` does: each rank keeps a P-th of the inputs and has the outputs of a P-th of the rows. All ranks
    of the agent call every method, in the same order.

    Parameters
    ----------
    layers : sequence of Spread
        On the same ranks, each where the one before leaves its output.

    Attributes
    ----------
    layers : list of Spread
    layout : Layout
        Of this rank's tiles.
    whole_layout : Layout
        Of the same layers on one rank.
    n_whole : int
        Parameters of a whole row.
    shards : Communicator
        The ranks that together hold a row.
    n_inputs, n_outputs : int

    Raises
    ------
    ValueError
        If there is no layer, or one does not fit the layer before it.

    Examples
    --------
    >>> from dnnext.models import MLP, Rows
    >>> from dnnext.runtime import threads
    >>> x, mlp = np.linspace(-1, 1, 10).reshape(5, 2), MLP([2, 3, 1])
    >>> rows, w = Rows(x, np.array([0, 5])), mlp.init(0)
    >>> def program(comm):
    ...     model = cube_mlp(Cube(comm, 2), [2, 3, 1])
    ...     return model.forward(model.cut(w)[None], rows)
    >>> bool(np.allclose(threads.run(8, program)[3], mlp.forward(w[None], rows), rtol=1e-13))
    True
    """

    offers: frozenset[str] = frozenset()

    def __init__(self, layers: Iterable[Spread]) -> None:
        self.layers = connected(list(layers))
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none.")
        for number, (before, layer) in enumerate(pairwise(self.layers), 2):
            if before.n_outputs != layer.n_inputs:
                raise ValueError(
                    f"layer {number} must have {before.n_outputs} inputs, the outputs of the one before, "
                    f"got {layer.n_inputs}."
                )
        self.n_inputs, self.n_outputs = self.layers[0].n_inputs, self.layers[-1].n_outputs
        self.shards: Communicator = self.layers[0].comm
        self.whole_layout = Layout(
            [(f"layer{k}.weight", (layer.n_inputs, layer.n_outputs), True, 0)]
            + [(f"layer{k}.bias", (layer.n_outputs,), False, None)] * layer.bias
            for k, layer in enumerate(self.layers, 1)
        )
        self.layout = Layout(
            [(f"layer{k}.{name}", shape, penalised, None) for name, shape, penalised, _ in layer.parts()]
            for k, layer in enumerate(self.layers, 1)
        )
        self.n_whole = self.whole_layout.n_params
        self._seen: Array | None = None

    def sized(self, n_inputs: Any, n_outputs: int) -> SpreadModel:
        """The model itself.

        Raises
        ------
        ValueError
            If it has other inputs or outputs.
        """
        if (n_inputs, n_outputs) != (self.n_inputs, self.n_outputs):
            raise ValueError(
                f"the model has {self.n_inputs} inputs and {self.n_outputs} outputs, got {n_inputs} and {n_outputs}."
            )
        return self

    def init(self, random_state: Any = None, dtype: Any = np.float64) -> Array:
        """The part held here of the start that the same layers have on one rank; drawn layer by layer."""
        rng, parts = np.random.default_rng(_checks.check_random_state(random_state)), list[Array]()
        for layer in self.layers:
            drawn = Dense(layer.n_outputs, layer.activation).sized((layer.n_inputs,)).init(rng)
            parts += _tiles(layer, drawn)
        return np.concatenate([part.ravel() for part in parts]).astype(dtype)

    def cut(self, row: Array) -> Array:
        """The part held here of a whole row (n_whole,)."""
        arrays, parts = iter(self.whole_layout.unpack(row).values()), list[Array]()
        for layer in self.layers:
            parts += _tiles(layer, [next(arrays) for _ in layer.parts()])
        return np.concatenate([part.ravel() for part in parts])

    def whole(self, row: Array) -> Array:
        """The whole row (n_whole,) on every rank, from the parts. Collective."""
        tiles, arrays = iter(self._tiles(row)), list[Array]()
        for layer in self.layers:
            arrays += layer.whole_weights([next(tiles) for _ in layer.parts()])
        return np.concatenate([array.ravel() for array in arrays])

    def fingerprint(self) -> str:
        """Sizes, activations and layouts."""
        own = [(type(a).__name__, a.n_inputs, a.n_outputs, a.activation, a.bias, a.comm.size) for a in self.layers]
        return f"SpreadModel({own})"

    def tiled(self, rows: Rows) -> TiledRows:
        """The part held here of rows that are whole and equal on every rank of the agent. Collective.

        Raises
        ------
        ValueError
            On every rank, if the rows differ from rank to rank.
        """
        self.shards.agree_on({"the rows of the agent": (rows.x, rows.offsets)})
        return tiled(self.layers[0], self.layers[-1], rows)

    def forward(self, w: Array, rows: Rows | TiledRows, out: Array | None = None) -> Array:
        """``f(w_i; x_m)``, (M, Q), equal on every rank; of `TiledRows` the rows held here."""
        out = self._outputs(rows) if out is None else out
        for agent, places, x, n_rows in self._agents(rows):
            z, _ = self._sweep(self._tiles(w[agent % len(w)]), x)
            out[places] = self._read(rows, z, n_rows)
        return out

    def jvp(self, w: Array, rows: Rows | TiledRows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n, P) -> (M, Q), as `forward`."""
        out = self._outputs(rows) if out is None else out
        for agent, places, x, n_rows in self._agents(rows):
            own = self._tiles(w[agent % len(w)])
            _, keeps = self._sweep(own, x)
            moved = tangent_all(self.layers, own, keeps, None, self._tiles(v[agent]))
            assert moved is not None
            out[places] = self._read(rows, moved, n_rows)
        return out

    def vjp(self, w: Array, rows: Rows | TiledRows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u as what `forward` returns -> (n, P)."""
        out = np.empty((rows.n_agents, self.layout.n_params), rows.x.dtype) if out is None else out
        out[...] = 0
        for agent, places, x, n_rows in self._agents(rows):
            own = self._tiles(w[agent % len(w)])
            _, keeps = self._sweep(own, x)
            _, _, gradient = adjoint_all(self.layers, own, keeps, self._seed(rows, u[places], n_rows), None)
            for place, part in zip(self._tiles(out[agent]), gradient, strict=True):
                place[...] = part
        return out

    def _agents(self, rows: Rows | TiledRows) -> list[tuple[int, slice, Array, int]]:
        """(agent, places of its outputs, its tile of x, its rows) of every agent that has rows, alike on all ranks."""
        if isinstance(rows, TiledRows):
            places, tiles = pairwise(rows.own_offsets.tolist()), pairwise(rows.offsets.tolist())
            parts = [rows.x[a:b] for a, b in tiles]
            found = zip(places, parts, rows.counts.tolist(), strict=True)
        else:
            if rows.x is not self._seen:
                self.shards.agree_on({"the rows of the agent": (rows.x, rows.offsets)})
                self._seen = rows.x
            cuts = list(pairwise(rows.offsets.tolist()))
            parts = [self.layers[0].input_tile(b - a).cut(rows.x[a:b]) for a, b in cuts]
            found = zip(cuts, parts, [b - a for a, b in cuts], strict=True)
        return [(i, slice(a, b), x, n) for i, ((a, b), x, n) in enumerate(found) if n]

    def _outputs(self, rows: Rows | TiledRows) -> Array:
        n_rows = rows.own_offsets[-1] if isinstance(rows, TiledRows) else len(rows.x)
        return np.empty((n_rows, self.n_outputs), rows.x.dtype)

    def _read(self, rows: Rows | TiledRows, z: Array, n_rows: int) -> Array:
        """The outputs of one agent, from the tiles of all ranks."""
        last = self.layers[-1]
        return outputs_of_rows(last, z, n_rows) if isinstance(rows, TiledRows) else last.whole_output(z, n_rows)

    def _seed(self, rows: Rows | TiledRows, u: Array, n_rows: int) -> Array:
        """The tile held here of derivatives in the outputs of one agent."""
        last = self.layers[-1]
        return tile_of_rows(last, u, n_rows) if isinstance(rows, TiledRows) else last.output_tile(n_rows).cut(u)

    def _tiles(self, row: Array) -> list[Array]:
        """Views of one row (P,): the tiles of every weight and bias."""
        return list(self.layout.unpack(row).values())

    def _sweep(self, own: list[Array], x: Array) -> tuple[Array, list[Keep]]:
        keeps: list[Keep] = [{} for _ in self.layers]
        return forward_all(self.layers, own, x, keeps), keeps

    def __repr__(self) -> str:
        sizes = [self.n_inputs, *(layer.n_outputs for layer in self.layers)]
        return f"SpreadModel({type(self.layers[0]).__name__}, {sizes}, {self.shards.size} ranks)"


def _tiles(layer: Spread, arrays: list[Array]) -> list[Array]:
    """The tiles of this rank of the weight and, if there is one, the bias."""
    places = (layer.weight_tile(), layer.bias_tile())[: 1 + layer.bias]
    return [place.cut(array) for place, array in zip(places, arrays[: len(places)], strict=True)]


def cube_mlp(cube: Cube, layer_sizes: Iterable[int], activation: str = "tanh") -> SpreadModel:
    """The network of `MLP` over a cube of ranks.

    Parameters
    ----------
    cube : Cube
    layer_sizes : sequence of int
        Inputs, hidden units, outputs.
    activation : str, default="tanh"
        Of the hidden units; the outputs have none.

    Returns
    -------
    SpreadModel

    Raises
    ------
    ValueError
        On every rank, if there are fewer than two sizes, or they differ from rank to rank.

    Examples
    --------
    >>> from dnnext.runtime import threads
    >>> threads.run(8, lambda comm: cube_mlp(Cube(comm, 2), [4, 3, 2]).layout.n_params)  # padded to even sizes
    [6, 6, 6, 6, 4, 4, 4, 4]
    """
    sizes = list(layer_sizes)
    with cube.comm.together():
        if len(sizes) < 2:
            raise ValueError(f"layer_sizes must hold inputs and outputs at least, got {sizes}.")
    cube.comm.agree_on({"layer_sizes": sizes})
    last = len(sizes) - 2
    return SpreadModel(
        CubeLinear(cube, k, n, "identity" if i == last else activation, swapped=bool(i % 2))
        for i, (k, n) in enumerate(pairwise(sizes))
    )
