"""A model whose passes over the data run on several ranks."""

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
from dnnext.runtime import Cube

__all__ = ["SpreadModel", "cube_mlp"]

Array = NDArray[Any]


class SpreadModel:
    """A chain of layers over ranks, as the model of an agent that is a group of ranks.

    Forward, derivative and adjoint run on tiles: products, activations and what is kept between the sweeps are spread
    over the ranks. Every rank of the agent brings the same rows and has the whole flat row of weights, so that every
    recipe, penalty, solver and rule for tau does the same on each of them; outputs and gradients are gathered, which
    costs ``(P - 1) / P`` words per number. All ranks of the agent call every method, in the same order.

    Parameters
    ----------
    layers : sequence of Spread
        On the same ranks, each where the one before leaves its output.

    Attributes
    ----------
    layers : list of Spread
    layout : Layout
        That of the same layers on one rank.
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
    >>> rows, w = Rows(x, np.array([0, 5])), mlp.init(0)[None]
    >>> def program(comm):
    ...     return cube_mlp(Cube(comm, 2), [2, 3, 1]).forward(w, rows)
    >>> bool(np.allclose(threads.run(8, program)[3], mlp.forward(w, rows), rtol=1e-13))
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
        self.comm = self.layers[0].comm
        self.layout = Layout(
            [(f"layer{k}.weight", (layer.n_inputs, layer.n_outputs), True, 0)]
            + [(f"layer{k}.bias", (layer.n_outputs,), False, None)] * layer.bias
            for k, layer in enumerate(self.layers, 1)
        )
        self._seen: Array | None = None

    def sized(self, n_inputs: Any, n_outputs: int) -> "SpreadModel":
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
        """The start (P,) that the same layers have on one rank."""
        rng = np.random.default_rng(_checks.check_random_state(random_state))
        arrays = [
            array.ravel()
            for layer in self.layers
            for array in Dense(layer.n_outputs, layer.activation).sized((layer.n_inputs,)).init(rng)[: 1 + layer.bias]
        ]
        return np.concatenate(arrays).astype(dtype)

    def fingerprint(self) -> str:
        """Sizes, activations and layouts."""
        own = [(type(a).__name__, a.n_inputs, a.n_outputs, a.activation, a.bias, a.comm.size) for a in self.layers]
        return f"SpreadModel({own})"

    def forward(self, w: Array, rows: Rows, out: Array | None = None) -> Array:
        """``f(w_i; x_m)``, (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for agent, chunk in self._agents(rows):
            z, _ = self._sweep(self._tiles(w[agent % len(w)]), rows.x[chunk])
            out[chunk] = self.layers[-1].whole_output(z, len(rows.x[chunk]))
        return out

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n, P) -> (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for agent, chunk in self._agents(rows):
            own = self._tiles(w[agent % len(w)])
            _, keeps = self._sweep(own, rows.x[chunk])
            moved = tangent_all(self.layers, own, keeps, None, self._tiles(v[agent]))
            assert moved is not None
            out[chunk] = self.layers[-1].whole_output(moved, len(rows.x[chunk]))
        return out

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u (M, Q) -> (n, P)."""
        out = np.empty((rows.n_agents, self.layout.n_params), rows.x.dtype) if out is None else out
        out[...] = 0
        for agent, chunk in self._agents(rows):
            own = self._tiles(w[agent % len(w)])
            _, keeps = self._sweep(own, rows.x[chunk])
            tile = self.layers[-1].output_tile(len(u[chunk])).cut(u[chunk])
            _, _, gradient = adjoint_all(self.layers, own, keeps, tile, None)
            place = iter(self.layout.unpack(out[agent]).values())
            tiles = iter(gradient)
            for layer in self.layers:
                for whole in layer.whole_weights([next(tiles) for _ in layer.parts()]):
                    next(place)[...] = whole
        return out

    def _agents(self, rows: Rows) -> list[tuple[int, slice]]:
        """(agent, its rows) of every agent that has any, the same on all ranks."""
        if rows.x is not self._seen:
            self.comm.agree_on({"the rows of the agent": (rows.x, rows.offsets)})
            self._seen = rows.x
        return [(i, slice(a, b)) for i, (a, b) in enumerate(pairwise(rows.offsets.tolist())) if b > a]

    def _tiles(self, row: Array) -> list[Array]:
        """The tiles of this rank, of every weight and bias in a flat row."""
        arrays, tiles = iter(self.layout.unpack(row).values()), list[Array]()
        for layer in self.layers:
            places = (layer.weight_tile(), layer.bias_tile())[: 1 + layer.bias]
            tiles += [place.cut(next(arrays)) for place in places]
        return tiles

    def _sweep(self, own: list[Array], x: Array) -> tuple[Array, list[Keep]]:
        keeps: list[Keep] = [{} for _ in self.layers]
        return forward_all(self.layers, own, self.layers[0].input_tile(len(x)).cut(x), keeps), keeps


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
    >>> threads.run(8, lambda comm: cube_mlp(Cube(comm, 2), [4, 3, 2]).layout.n_params)[0]
    23
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
