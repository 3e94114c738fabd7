"""A model that is a chain of layers, ``F = f_L o ... o f_1``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.models.images import AvgPool2d, Conv2d, MaxPool2d
from dnnext.models.layer import (
    Keep,
    Layer,
    Shape,
    adjoint_all,
    check_layers,
    describe_all,
    forward_all,
    size_layers,
    tangent_all,
)
from dnnext.models.layers import Dense, Flatten, Residual
from dnnext.models.layout import Layout
from dnnext.models.model import Rows

__all__ = ["Chain"]

Array = NDArray[Any]
CHUNK = 256  # rows that Python layers see at a time: a constant, so that sums are added in one order


class Chain(Parameters):
    """Any layers one after another, ``F(w; x) = f_L(w_L; f_(L-1)(...))``.

    Standard backpropagation, the derivative along a direction of the weights, and the gradient of a loss of
    ``DF(x) v``, the derivative along a direction of the inputs, all come from the layers' own derivatives and adjoints.

    Parameters
    ----------
    layers : sequence of Layer
        The last one may leave its units open.
    n_inputs : int, (height, width) or (channels, height, width), optional
        The shape of one input; None leaves it open, for `sized` or an estimator.
    n_outputs : int, optional
        Units of an open last layer.

    Attributes
    ----------
    layers : list of Layer
        As given, or sized where n_inputs is known.
    layout : Layout
        The weights of every layer, then its biases; dense layers lie as in `MLP`.
    n_inputs, n_outputs, n_params : shape of one input, ``Q``, ``P``
    table : (n, 15) int64 or None
        The layers as the compiled kernels take them; None where one of them has no kernel and Python runs them all.
    offers : frozenset of str
        ``"tangents"``: derivatives along directions of the inputs; ``"loss_grad"`` where there is a table.

    Raises
    ------
    ValueError
        If a layer does not fit what the layer before it gives; the sentence names the layer, its input and its need.

    References
    ----------
    A. L. Caterini, D. E. Chang, A geometric framework for convolutional neural networks, arXiv 1608.04374 (2016).

    Examples
    --------
    >>> from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
    >>> net = Chain([Conv2d(4, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()])
    >>> net = net.sized((8, 8), 10)
    >>> net.n_params, net.layers[1].shape_out, net.layout.parts[0].name
    (410, (4, 3, 3), 'layer1.weight')
    """

    def __init__(self, layers: Iterable[Layer], n_inputs: Any = None, n_outputs: int | None = None) -> None:
        self.layers = check_layers(layers)
        self.n_inputs = None if n_inputs is None else _check_inputs(n_inputs)
        self.n_outputs: Any = None if n_outputs is None else _checks.check_count("n_outputs", n_outputs)
        if self.n_inputs is not None:
            self._size()

    def _size(self) -> None:
        *before, last = self.layers
        if self.n_outputs is not None:
            last = last.ended(self.n_outputs)
        elif last.ended(1) is not last:
            return  # the last layer is open: `sized` closes it
        self.layers = size_layers([*before, last], _layer_shape(self.n_inputs))
        shape = self.layers[-1].shape_out or ()
        if len(shape) != 1:
            raise ValueError(
                f"the last layer must give flat outputs (Q,): end with Flatten() or Dense(), got {shape} from {last!r}."
            )
        if self.n_outputs not in (None, shape[0]):
            raise ValueError(f"layer {len(self.layers)}, {last!r}, must give {self.n_outputs} outputs, got {shape[0]}.")
        self.n_outputs = shape[0]

    def sized(self, n_inputs: Any, n_outputs: int) -> Chain:
        """The same chain with its open ends closed.

        Parameters
        ----------
        n_inputs : int, (height, width) or (channels, height, width)
        n_outputs : int

        Raises
        ------
        ValueError
            If a layer does not fit, or an end was closed before, with another size.

        Examples
        --------
        >>> from dnnext.models import Chain, Dense
        >>> Chain([Dense(3, "tanh"), Dense()]).sized(2, 1).n_params
        13
        """
        if self.n_inputs is not None and _layer_shape(self.n_inputs) != _layer_shape(_check_inputs(n_inputs)):
            raise ValueError(
                f"n_inputs must be {self.n_inputs} for {short(self)}, got {short(n_inputs)}; or leave it open (None)."
            )
        return Chain(self.layers, n_inputs, n_outputs)

    @cached_property
    def table(self) -> NDArray[np.int64] | None:
        """The layers as the kernels take them, or None."""
        if self.layers[0].shape_in is None:
            return None
        rows: list[list[int]] = []
        compiled = describe_all(self.layers, rows) and 1 <= len(rows) <= 64
        return np.array(rows, dtype=np.int64) if compiled else None

    @classmethod
    def examples(cls) -> list[Chain]:
        """Small models on which the contract tests run."""
        block = Residual([Conv2d(2, 3, padding=1, activation="tanh")])
        return [
            cls([Dense(4, "tanh"), Dense(2)], 3),
            cls([Conv2d(2, 3, activation="softplus"), AvgPool2d(2), Flatten(), Dense(2)], (6, 6)),
            cls([Conv2d(2, 2, activation="tanh"), block, MaxPool2d(2), Flatten(), Dense(1)], (2, 5, 5)),
        ]

    @property
    def offers(self) -> frozenset[str]:
        """What a chain can do besides."""
        return frozenset({"tangents", "hidden_layers"} | ({"loss_grad"} if self.table is not None else set()))

    @property
    def chain(self) -> Chain:
        """Itself: what models made of layers have, whose arrays lie where those of this chain do."""
        return self

    @property
    def has_kinks(self) -> bool:
        """Whether a layer has, see `dnnext.models.layer.Layer`."""
        return any(layer.has_kinks for layer in self.layers)

    @cached_property
    def layout(self) -> Layout:
        """Where each array lies."""
        if self.layers[0].shape_in is None:
            raise ValueError(
                "n_inputs and n_outputs must be known before a chain has a layout: call sized(n_inputs, n_outputs)."
            )
        found = []
        for name, layer in _leaves(self.layers, "layer"):
            parts = [(f"{name}.{part}", *rest) for part, *rest in layer.parts()]
            found += [parts] if parts else []
        return Layout(found)  # type: ignore[arg-type]

    @property
    def n_params(self) -> int:
        """``P``."""
        return self.layout.n_params

    def init(self, random_state: Any = None, dtype: Any = np.float64) -> Array:
        """A start (P,): the layers' own, from one stream of random numbers.

        Parameters
        ----------
        random_state : None, int, SeedSequence or Generator
        dtype : dtype, default=float64

        Examples
        --------
        >>> from dnnext.models import MLP, Chain, Dense
        >>> chain = Chain([Dense(3, "tanh"), Dense(1)], 2)
        >>> bool((chain.init(0) == MLP([2, 3, 1]).init(0)).all())
        True
        """
        rng = np.random.default_rng(_checks.check_random_state(random_state))
        arrays = [array.ravel() for layer in self.layers for array in layer.init(rng)]
        return np.concatenate([np.empty(0), *arrays]).astype(dtype)

    def forward(self, w: Array, rows: Rows, out: Array | None = None) -> Array:
        """``F(w_i; x_m)``: (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        if self.table is not None:
            kernels.chain_forward(out, None, w, _flat(rows.x), None, rows.offsets, self.table, rows.n_threads)
            return out
        for _, own, chunk, x in self._chunks(w, rows):
            out[chunk] = forward_all(self.layers, own, x, self._keeps())
        return out

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``nabla F(w_i; x_m) v_i``: v (n, P) -> (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        if self.table is not None:
            kernels.chain_jv(out, w, _flat(rows.x), v, rows.offsets, self.table, rows.n_threads)
            return out
        for agent, own, chunk, x in self._chunks(w, rows):
            keeps = self._keeps()
            forward_all(self.layers, own, x, keeps)
            moved = tangent_all(self.layers, own, keeps, None, self._unpack(v[agent]))
            out[chunk] = 0 if moved is None else moved
        return out

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m nabla F(w_i; x_m)* u_m`` over the rows of each agent: u (M, Q) -> (n, P)."""
        return self.tangent_vjp(w, rows, u, None, None, out)

    def tangent(self, w: Array, rows: Rows, directions: Array, out: Array | None = None) -> Array:
        """``DF(x_m) v_km``, the derivatives along directions of the inputs.

        Parameters
        ----------
        w : (n, P) or (1, P)
        rows : Rows
        directions : (K, M, ...)
            K directions v of every row, in the shape of x.
        out : (K, M, Q), optional
        """
        if out is None:
            out = np.empty((len(directions), len(rows.x), self.n_outputs), rows.x.dtype)
        if self.table is not None:
            f = np.empty(out.shape[1:], out.dtype)
            x, v = _flat(rows.x), _flat(directions, 2)
            kernels.chain_forward(f, out, w, x, v, rows.offsets, self.table, rows.n_threads)
            return out
        for _, own, chunk, x in self._chunks(w, rows):
            keeps = self._keeps()
            forward_all(self.layers, own, x, keeps)
            for k, v in enumerate(directions):
                moved = tangent_all(self.layers, own, keeps, v[chunk].reshape(x.shape), None)
                out[k, chunk] = 0 if moved is None else moved
        return out

    def tangent_vjp(
        self, w: Array, rows: Rows, u: Array, directions: Array | None, t: Array | None, out: Array | None = None
    ) -> Array:
        """The gradient of ``sum_m <u_m, F(w_i; x_m)> + sum_km <t_km, DF(x_m) v_km>`` in w_i, in one sweep.

        Parameters
        ----------
        w : (n, P) or (1, P)
        rows : Rows
        u : (M, Q)
        directions : (K, M, ...) or None
        t : (K, M, Q) or None
        out : (n, P), optional

        Returns
        -------
        (n, P)
        """
        out = np.empty((rows.n_agents, self.n_params), rows.x.dtype) if out is None else out
        pairs = [] if directions is None or t is None else list(zip(directions, t, strict=True))
        if self.table is not None:
            v, t = (None, None) if not pairs else (_flat(directions, 2), np.ascontiguousarray(t))
            kernels.chain_jtu(out, w, _flat(rows.x), v, u, t, rows.offsets, self.table, rows.n_threads)
            return out
        out[...] = 0
        for agent, own, chunk, x in self._chunks(w, rows):
            keeps = self._keeps()
            forward_all(self.layers, own, x, keeps)
            gradient = adjoint_all(self.layers, own, keeps, u[chunk], None)[2]
            for v, seed in pairs:
                tangent_all(self.layers, own, keeps, v[chunk].reshape(x.shape), None)
                more = adjoint_all(self.layers, own, keeps, np.zeros_like(u[chunk]), seed[chunk])[2]
                gradient = [one + other for one, other in zip(gradient, more, strict=True)]
            for place, part in zip(self._unpack(out[agent]), gradient, strict=True):
                place += part
        return out

    def loss_grad(
        self, w: Array, rows: Rows, target: Array, weight: Array | None, loss: int, param: float, scale: float,
        value: Array, out: Array | None,
    ) -> None:  # fmt: skip
        """value_i = scale sum_m c_m loss(d_m, F(w_i; x_m)), (n,) float64, and its gradient into out (n, P) or None."""
        self.tangent_loss_grad(w, rows, None, None, 0.0, target, weight, loss, param, scale, value, out)

    def tangent_loss_grad(
        self, w: Array, rows: Rows, directions: Array | None, beta: Array | None, mu: float, target: Array,
        weight: Array | None, loss: int, param: float, scale: float, value: Array, out: Array | None,
    ) -> Array:  # fmt: skip
        """`loss_grad` with the term ``scale mu/2 sum_mk c_m |DF(x_m) v_mk - beta_mk|^2`` in the gradient, not in value.

        directions (K, M, ...); beta (K, M, Q) or None for zeros. Returned (n,) float64: the term.
        """
        assert self.table is not None
        term, v = np.empty_like(value), None if directions is None else _flat(directions, 2)
        kernels.chain_loss_grad(
            value, term, out, w, _flat(rows.x), v, target, weight, beta, rows.offsets, self.table, loss, param, scale,
            mu, rows.n_threads,
        )  # fmt: skip
        return term

    def _keeps(self) -> list[Keep]:
        return [{} for _ in self.layers]

    def _unpack(self, row: Array) -> list[Array]:
        """Views of a flat row."""
        return list(self.layout.unpack(row).values())

    def _chunks(self, w: Array, rows: Rows) -> Iterator[tuple[int, list[Array], slice, Array]]:
        """(agent, its arrays, places of some of its rows, these rows in the shape of the first layer)."""
        shape = _layer_shape(self.n_inputs)
        for agent in range(rows.n_agents):
            own = self._unpack(w[0 if len(w) == 1 else agent])
            first, stop = int(rows.offsets[agent]), int(rows.offsets[agent + 1])
            for start in range(first, stop, CHUNK):
                chunk = slice(start, min(start + CHUNK, stop))
                yield agent, own, chunk, rows.x[chunk].reshape(chunk.stop - start, *shape)


def _flat(x: Any, leading: int = 1) -> Array:
    """Images as rows of numbers, in C order."""
    if x.ndim == leading + 1 and x.flags.c_contiguous:
        return np.asarray(x)
    x = np.ascontiguousarray(x)
    return np.reshape(x, (*x.shape[:leading], int(np.prod(x.shape[leading:]))))


def _leaves(layers: Iterable[Layer], name: str) -> Iterator[tuple[str, Layer]]:
    """(name, layer) of every layer that holds no others."""
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, Residual):
            yield from _leaves(layer.layers, f"{name}{number}.")
        else:
            yield f"{name}{number}", layer


def _check_inputs(n_inputs: Any) -> int | Shape:
    """One number of columns, or the shape of an image."""
    if isinstance(n_inputs, tuple | list):
        if not 1 <= len(n_inputs) <= 3:
            raise ValueError(
                f"n_inputs must be a number, (height, width) or (channels, height, width), got {short(n_inputs)}."
            )
        shape = tuple(_checks.check_count("every length in n_inputs", n) for n in n_inputs)
        return shape[0] if len(shape) == 1 else shape
    return _checks.check_count("n_inputs", n_inputs)


def _layer_shape(n_inputs: Any) -> Shape:
    """The shape that the first layer sees: images have channels, one where none are given."""
    shape = (n_inputs,) if isinstance(n_inputs, int) else tuple(n_inputs)
    return (1, *shape) if len(shape) == 2 else shape
