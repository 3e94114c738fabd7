"""What the kernels of chains of layers compute, in NumPy; the tests hold csrc/layers.c and chain.c to it.

`layers` is an int64 table, a row for each layer: kind (0 dense, 1 convolution, 2 mean, 3 maximum, 4 sum with a state),
activation, channels, height, width of its input, filters, then pairs size, stride, padding, dilation, and the state
that kind 4 adds: 0 the input, k what layer k - 1 gives. Weights in w are (inputs, units) or (filters, channels, height,
width), then the biases. K directions of every row of x stand in `directions` (K, M, d).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext.kernels import layer_formulas as formulas
from dnnext.kernels import reference
from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS
from dnnext.kernels.reference import Array, Index, Values

Table = NDArray[Any]
States = list[Array]


class _Layer(NamedTuple):
    kind: int
    activation: str
    image: tuple[int, int, int]
    filters: int
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    source: int

    @property
    def window(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights, () without any."""
        return {0: (self.image[0], self.filters), 1: (self.filters, self.image[0], *self.size)}.get(self.kind, ())


def _read(layers: Table) -> list[_Layer]:
    names = {code: name for name, code in ACTIVATIONS.items()}
    found = []
    for row in np.asarray(layers).tolist():
        kind, activation, c, h, w, filters, *rest = row
        size, stride, padding, dilation = ((rest[k], rest[k + 1]) for k in (0, 2, 4, 6))
        found.append(_Layer(kind, names[activation], (c, h, w), filters, size, stride, padding, dilation, rest[8]))
    return found


def _unpack(row: Array, layers: Sequence[_Layer]) -> list[tuple[Array, Array] | None]:
    """(weights, biases) of every layer, views; None without any."""
    parts, start = list[tuple[Array, Array] | None](), 0
    for layer in layers:
        if not layer.shape:
            parts.append(None)
            continue
        stop = start + int(np.prod(layer.shape))
        parts.append((row[start:stop].reshape(layer.shape), row[stop : stop + layer.filters]))
        start = stop + layer.filters
    return parts


def _product(layer: _Layer, weight: Array, x: Array) -> Array:
    if layer.kind == 0:
        return np.asarray(x.reshape(len(x), layer.image[0]) @ weight)
    patches = formulas.windows(x.reshape(len(x), *layer.image), layer.size, **layer.window)
    return np.moveaxis(np.tensordot(patches, weight, ((1, 4, 5), (1, 2, 3))), 3, 1)


def _map(layer: _Layer, x: Array, places: Array | None) -> Array:
    """Pools."""
    x = x.reshape(len(x), *layer.image)
    if places is not None:
        return formulas.at_places(x, places, layer.size, layer.stride)
    return np.asarray(formulas.windows(x, layer.size, layer.stride).mean(axis=(4, 5)))


def _biased(z: Array, bias: Array) -> Array:
    return np.asarray(z + bias.reshape(-1, *[1] * (z.ndim - 2)))


class _Sweep:
    """All states of some rows of one agent, and tangents along inputs or weights."""

    def __init__(self, layers: Sequence[_Layer], row: Array, x: Array) -> None:
        self.layers, self.weights = layers, _unpack(row, layers)
        self.states: States = [x]
        self.sums: States = []
        self.places: list[Array | None] = []
        for layer, own in zip(layers, self.weights, strict=True):
            a, top = self.states[-1], None
            if own is not None:
                z = _biased(_product(layer, own[0], a), own[1])
            elif layer.kind == 4:
                z = a + self.states[layer.source].reshape(a.shape)
            else:
                top = formulas.max_places(a.reshape(len(a), *layer.image), layer.size, layer.stride)
                top = top if layer.kind == 3 else None
                z = _map(layer, a, top)
            self.sums.append(z)
            self.places.append(top)
            self.states.append(FUNCTIONS[layer.activation].value(z) if own is not None else z)

    def tangents(self, v: Array | None, move: Array | None) -> tuple[States, States]:
        """(v_k, u_k): the tangents of every state, and of the sums before psi."""
        moves = [None] * len(self.layers) if move is None else _unpack(move, self.layers)
        states: States = [np.zeros_like(self.states[0]) if v is None else v]
        sums: States = []
        for k, (layer, own, dw) in enumerate(zip(self.layers, self.weights, moves, strict=True)):
            t = states[-1]
            if own is not None:
                u = _product(layer, own[0], t)
                u = u if dw is None else _biased(u + _product(layer, dw[0], self.states[k]), dw[1])
                states.append(FUNCTIONS[layer.activation].slope(self.sums[k], self.states[k + 1]) * u)
            elif layer.kind == 4:
                u = t + states[layer.source].reshape(t.shape)
                states.append(u)
            else:
                u = _map(layer, t, self.places[k])
                states.append(u)
            sums.append(u)
        return states, sums

    def add_gradient(self, out: Array, h: Array, pair: tuple[States, States] | None, t: Array | None) -> None:
        """out += the gradient of <h, F> + <t, DF v>."""
        hs: list[Any] = [0.0] * len(self.layers) + [h.reshape(self.states[-1].shape)]
        ts: list[Any] = [0.0] * len(self.layers) + [np.zeros_like(hs[-1]) if t is None else t.reshape(hs[-1].shape)]
        parts = _unpack(out, self.layers)
        for k in range(len(self.layers) - 1, -1, -1):
            layer, own, x = self.layers[k], self.weights[k], self.states[k]
            h, t = np.asarray(hs[k + 1]), np.asarray(ts[k + 1])
            if layer.kind == 4:
                for place in (k, layer.source):
                    hs[place] = hs[place] + h.reshape(self.states[place].shape)
                    ts[place] = ts[place] + t.reshape(self.states[place].shape)
                continue
            if own is None:
                hs[k], ts[k] = (old + _pool_adjoint(layer, d, self.places[k]).reshape(x.shape)
                                for old, d in ((hs[k], h), (ts[k], t)))  # fmt: skip
                continue
            function, z, a = FUNCTIONS[layer.activation], self.sums[k], self.states[k + 1]
            du = function.slope(z, a) * t
            dz = function.slope(z, a) * h
            if pair is not None:
                dz = dz + function.bend(z, a) * pair[1][k] * t
            mine = parts[k]
            assert mine is not None
            mine[0][...] += _weight_adjoint(layer, dz, x)
            if pair is not None:
                mine[0][...] += _weight_adjoint(layer, du, pair[0][k])
            mine[1][...] += dz.sum(axis=(0, *range(2, dz.ndim)))
            hs[k] = hs[k] + _state_adjoint(layer, own[0], dz).reshape(x.shape)
            ts[k] = ts[k] + _state_adjoint(layer, own[0], du).reshape(x.shape)


def _weight_adjoint(layer: _Layer, dz: Array, x: Array) -> Array:
    if layer.kind == 0:
        return np.asarray(x.reshape(len(x), layer.image[0]).T @ dz)
    patches = formulas.windows(x.reshape(len(x), *layer.image), layer.size, **layer.window)
    return np.tensordot(dz, patches, ((0, 2, 3), (0, 2, 3)))


def _state_adjoint(layer: _Layer, weight: Array, dz: Array) -> Array:
    if layer.kind == 0:
        return np.asarray(dz @ weight.T)
    parts = np.moveaxis(np.tensordot(dz, weight, (1, 0)), 3, 1)
    return formulas.spread(parts, layer.image[1:], **layer.window)


def _pool_adjoint(layer: _Layer, h: Array, places: Array | None) -> Array:
    if places is not None:
        return formulas.from_places(h, places, layer.image[1:], layer.size, layer.stride)
    parts = np.broadcast_to((h / (layer.size[0] * layer.size[1]))[..., None, None], (*h.shape, *layer.size))
    return formulas.spread(parts, layer.image[1:], layer.stride)


def _agents(w: Array, offsets: Index) -> list[tuple[int, Array, slice]]:
    return [(i, w[0] if len(w) == 1 else w[i], slice(offsets[i], offsets[i + 1])) for i in range(len(offsets) - 1)]


def chain_forward(
    out: Array,
    tangent: Array | None,
    w: Array,
    x: Array,
    directions: Array | None,
    offsets: Index,
    layers: Table,
    n_threads: int = 1,
) -> None:
    """out (M, Q) = F(w_i; x_m) and, unless None, tangent (K, M, Q) = DF(x_m) v_km for directions (K, M, d)."""
    table = _read(layers)
    for _, row, rows in _agents(w, offsets):
        sweep = _Sweep(table, row, x[rows])
        out[rows] = sweep.states[-1].reshape(-1, out.shape[1])
        if tangent is None or directions is None:
            continue
        for k in range(len(directions)):
            tangent[k, rows] = sweep.tangents(directions[k, rows], None)[0][-1].reshape(-1, out.shape[1])


def chain_jv(out: Array, w: Array, x: Array, v: Array, offsets: Index, layers: Table, n_threads: int = 1) -> None:
    """out (M, Q) = nabla F(w_i; x_m) v_i, the derivative along a direction v (A, P) of the weights."""
    table = _read(layers)
    for i, row, rows in _agents(w, offsets):
        out[rows] = _Sweep(table, row, x[rows]).tangents(None, v[i])[0][-1].reshape(-1, out.shape[1])


def chain_jtu(
    out: Array,
    w: Array,
    x: Array,
    directions: Array | None,
    u: Array,
    t: Array | None,
    offsets: Index,
    layers: Table,
    n_threads: int = 1,
) -> None:
    """out (A, P) = the gradient of sum_m <u_m, F(w_i; x_m)> + sum_km <t_km, DF(x_m) v_km>; t None: the first alone."""
    table = _read(layers)
    out[...] = 0
    for i, row, rows in _agents(w, offsets):
        sweep = _Sweep(table, row, x[rows])
        sweep.add_gradient(out[i], u[rows], None, None)
        if t is None or directions is None:
            continue
        for k in range(len(directions)):
            sweep.add_gradient(out[i], np.zeros_like(u[rows]), sweep.tangents(directions[k, rows], None), t[k, rows])


def chain_loss_grad(
    value: Values,
    term: Values,
    grad: Array | None,
    w: Array,
    x: Array,
    directions: Array | None,
    target: Array,
    weight: Array | None,
    beta: Array | None,
    offsets: Index,
    layers: Table,
    loss: int,
    param: float,
    scale: float,
    mu: float,
    n_threads: int = 1,
) -> None:
    """value_i = scale sum_m c_m loss(d_m, F(w_i; x_m)), term_i = scale mu / 2 sum_km c_m |DF(x_m) v_km - beta_km|^2.

    grad (A, P) or None is the gradient of their sum; beta (K, M, Q) or None for zeros; weight c (M,) or None for ones.
    """
    n_directions = 0 if directions is None else len(directions)
    f, tangent = np.empty(target.shape, x.dtype), np.empty((n_directions, *target.shape), x.dtype)
    chain_forward(f, tangent, w, x, directions, offsets, layers)
    each, u = np.empty(len(x)), np.empty_like(f)
    reference.loss_value_grad(each, u, f, target, loss, param)
    c = np.ones(len(x), x.dtype) if weight is None else weight
    r = tangent if beta is None else tangent - beta
    for i, _, rows in _agents(w, offsets):
        value[i] = scale * np.sum(c[rows] * each[rows])
        term[i] = scale * mu / 2 * np.sum(c[rows, None] * np.square(r[:, rows]))
    if grad is not None:
        share = (scale * c)[:, None]
        chain_jtu(grad, w, x, directions, share * u, mu * share * r, offsets, layers)
