"""What every layer in dnnext.models.__all__ must do; a new layer brings its tests by standing there."""

import copy
import pickle

import numpy as np
import pytest

from dnnext import models
from dnnext.models.layer import Layer, adjoint_all, forward_all, tangent_all

KINDS = [kind for kind in (getattr(models, name) for name in models.__all__) if issubclass(kind, Layer)]
CASES = [(layer, shape) for kind in KINDS for layer, shape in kind.examples()]
every_layer = pytest.mark.parametrize(("layer", "shape"), CASES, ids=[f"{layer!r}-{shape}" for layer, shape in CASES])
both = pytest.mark.parametrize("dtype", [np.float64, np.float32])
H = 1e-5


def point(layer, shape, n=3, dtype=np.float64, seed=0):
    """(sized layer, weights, x, random array like another) at a random point."""
    rng = np.random.default_rng(seed)
    layer = layer.sized(shape)
    w = [(array + 0.1 * rng.standard_normal(array.shape)).astype(dtype) for array in layer.init(rng)]

    def like(*arrays):
        made = [rng.standard_normal(np.shape(array)).astype(dtype) for array in arrays]
        return made[0] if len(made) == 1 else made

    return layer, w, rng.standard_normal((n, *shape)).astype(dtype), like


def inner(u, v):
    """<u, v>, and how large its terms are together."""
    return float(np.vdot(np.float64(u), np.float64(v))), float(np.linalg.norm(u) * np.linalg.norm(v))


def moved(arrays, step, directions):
    return [array + step * direction for array, direction in zip(arrays, directions, strict=True)]


@every_layer
def test_shapes_and_parts(layer, shape):
    layer, w, x, _ = point(layer, shape)
    assert layer.forward(w, x, {}).shape == (len(x), *layer.shape_out)
    assert [array.shape for array in w] == [part[1] for part in layer.parts()]
    assert len({part[0] for part in layer.parts()}) == len(w)
    assert all(part[3] in (0, None) for part in layer.parts())
    again = pickle.loads(pickle.dumps(layer))
    assert again.fingerprint() == layer.fingerprint() == copy.deepcopy(layer).fingerprint()
    np.testing.assert_array_equal(again.forward(w, x, {}), layer.forward(w, x, {}))


@every_layer
@both
def test_adjoint_identity(layer, shape, dtype):
    """<Df v + nabla f dw, u> = <v, D*f u> + <dw, nabla*f u>."""
    layer, w, x, like = point(layer, shape, dtype=dtype)
    keep = {}
    f = layer.forward(w, x, keep)
    v, u, dw = like(x), like(f), [like(array) for array in w]
    moves = layer.tangent(w, keep, v, dw)
    h, t, gradient = layer.adjoint(w, keep, u, None)
    assert t is None
    assert f.dtype == moves.dtype == h.dtype == dtype
    pairs = [(v, h), *zip(dw, gradient, strict=True)]
    left, size = inner(moves, u)
    right = sum(inner(a, b)[0] for a, b in pairs)
    assert abs(left - right) <= (1e-12 if dtype == np.float64 else 1e-4) * (
        size + sum(inner(a, b)[1] for a, b in pairs)
    )


@every_layer
def test_tangent_is_the_directional_difference(layer, shape):
    layer, w, x, like = point(layer, shape)
    keep = {}
    layer.forward(w, x, keep)
    v, dw = like(x), [like(array) for array in w]
    for dx, dv in ((v, dw), (v, None), (None, dw)):
        weights = [w if dv is None else moved(w, step, dv) for step in (H, -H)]
        inputs = [x if dx is None else x + step * dx for step in (H, -H)]
        ends = [layer.forward(*pair, {}) for pair in zip(weights, inputs, strict=True)]
        found = layer.tangent(w, keep, dx, dv)
        found = np.zeros_like(ends[0]) if found is None else found
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * H), rtol=1e-6, atol=1e-7)


@every_layer
def test_both_adjoints_are_the_gradient_of_the_second_order_loss(layer, shape):
    """h, t and the gradient against differences of <h, f> + <t, Df v> in x, v and w."""
    layer, w, x, like = point(layer, shape)
    v, keep = like(x), {}
    f = layer.forward(w, x, keep)
    h_out, t_out = like(f), like(f)
    layer.tangent(w, keep, v, None)
    h, t, gradient = layer.adjoint(w, keep, h_out, t_out)

    def loss(w, x, v):
        keep = {}
        f = layer.forward(w, x, keep)
        return np.vdot(h_out, f) + np.vdot(t_out, layer.tangent(w, keep, v, None))

    for _ in range(3):
        dx, dv, dw = like(x), like(v), [like(array) for array in w]
        ends = [loss(moved(w, s, dw), x + s * dx, v + s * dv) for s in (H, -H)]
        found = np.vdot(h, dx) + np.vdot(t, dv) + sum(np.vdot(a, b) for a, b in zip(gradient, dw, strict=True))
        size = np.linalg.norm(h) * np.linalg.norm(dx) + np.linalg.norm(t) * np.linalg.norm(dv) + 1
        assert abs(found - (ends[0] - ends[1]) / (2 * H)) <= 1e-6 * size


@every_layer
@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_and_one(layer, shape, n):
    layer, w, x, like = point(layer, shape, n)
    keep = {}
    f = layer.forward(w, x, keep)
    assert layer.tangent(w, keep, like(x), None).shape == f.shape
    h, t, gradient = layer.adjoint(w, keep, like(f), like(f))
    assert h.shape == t.shape == x.shape
    assert [array.shape for array in gradient] == [array.shape for array in w]
    assert n or not any(np.any(array) for array in gradient)


@every_layer
def test_rows_do_not_meet(layer, shape):
    layer, w, x, _ = point(layer, shape, 4)
    whole = layer.forward(w, x, {})
    for m in range(4):
        np.testing.assert_allclose(layer.forward(w, x[m : m + 1], {})[0], whole[m], rtol=1e-13, atol=1e-13)


def test_three_layers_in_a_row():
    """The sweeps compose: the adjoint of a chain is the chain of the adjoints."""
    layers, shape, w, rng = [], (1, 6, 6), [], np.random.default_rng(0)
    kinds = [models.Conv2d(2, 3, activation="tanh"), models.AvgPool2d(2), models.Flatten(), models.Dense(3, "softplus")]
    for layer in kinds:
        layers.append(layer.sized(shape))
        w += layers[-1].init(rng)
        shape = layers[-1].shape_out
    x, v = rng.standard_normal((2, 5, 1, 6, 6))
    keeps = [{} for _ in layers]
    f = forward_all(layers, w, x, keeps)
    u = rng.standard_normal(f.shape)
    left = np.vdot(tangent_all(layers, w, keeps, v, None), u)
    assert left == pytest.approx(np.vdot(adjoint_all(layers, w, keeps, u, None)[0], v), rel=1e-12)
