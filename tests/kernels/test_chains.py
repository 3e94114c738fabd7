"""Kernels of chains of layers: against their NumPy twins, against the compiled MLP, equal over threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_layers
from dnnext.kernels.activations import NEEDS_Z
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten, MaxPool2d, Residual

ACTIVATIONS = st.sampled_from(sorted(set(kernels.ACTIVATIONS) - NEEDS_Z))
DTYPES = st.sampled_from([np.float64, np.float32])
SMALL = st.integers(1, 3)


@st.composite
def image_layers(draw, shape):
    """A few layers that fit images of this shape."""
    layers = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["conv", "mean", "max", "residual"]))
        size, stride = (draw(SMALL), draw(SMALL)), (draw(SMALL), draw(SMALL))
        padding, dilation = (draw(st.integers(0, 2)), draw(st.integers(0, 2))), (draw(st.integers(1, 2)), 1)
        layer = {
            "conv": lambda: Conv2d(draw(st.integers(1, 9)), size, stride, padding, dilation, draw(ACTIVATIONS)),  # noqa: B023
            "mean": lambda: AvgPool2d(size, stride),  # noqa: B023
            "max": lambda: MaxPool2d(size, stride),  # noqa: B023
            "residual": lambda: Residual(
                [Conv2d(2, 3, padding="same", activation="tanh"), Residual([Conv2d(2, 1)]), Conv2d(shape[0], 1)]  # noqa: B023
            ),
        }[kind]()
        try:
            shape = layer.sized(shape).shape_out
        except ValueError:
            continue
        layers.append(layer)
    return layers


@st.composite
def chains(draw):
    """(chain, rows of every agent, directions, dtype, seed)."""
    shape = (draw(SMALL), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    layers = [*draw(image_layers(shape)), Flatten()]
    for units in draw(st.lists(st.integers(1, 20), max_size=2)):
        layers += [Dense(units, draw(ACTIVATIONS)), Residual([Dense(3, draw(ACTIVATIONS)), Dense(units)])]
    rows = draw(st.lists(st.sampled_from([0, 1, 2, 7, 300]), min_size=1, max_size=3))
    return Chain([*layers, Dense(2)], shape), rows, draw(st.integers(0, 3)), draw(DTYPES), draw(st.integers(0, 99))


def arrays(chain, rows, directions, dtype, seed, shared=False):
    """Arguments by name."""
    rng = np.random.default_rng(seed)

    def real(*shape):
        return rng.standard_normal(shape).astype(dtype)

    offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    m, inputs, outputs = int(offsets[-1]), int(np.prod(chain.n_inputs)), chain.n_outputs
    w = np.repeat(chain.init(seed, dtype)[None], 1 if shared else len(rows), axis=0)
    return {
        "w": (w + 0.1 * real(*w.shape)).astype(dtype), "x": real(m, inputs), "v": real(len(rows), chain.n_params),
        "directions": real(directions, m, inputs) if directions else None, "u": real(m, outputs),
        "t": real(directions, m, outputs), "target": real(m, outputs), "weight": np.abs(real(m)),
        "beta": real(directions, m, outputs) if directions else None, "offsets": offsets, "layers": chain.table,
    }  # fmt: skip


def calls(p):
    """(kernel, shapes of its outputs, arguments)."""
    dtype, agents, net = p["x"].dtype, len(p["offsets"]) - 1, (p["offsets"], p["layers"])
    out, grad = (p["u"].shape, dtype), (p["v"].shape, dtype)
    number = ((agents,), np.float64)
    both = None if p["directions"] is None else p["t"]
    loss = (p["target"], p["weight"], p["beta"], *net, 0, 0.0, 0.5, 0.3)
    return [
        ("chain_forward", [out, (p["t"].shape, dtype)], (p["w"], p["x"], p["directions"], *net)),
        ("chain_jv", [out], (p["w"], p["x"], p["v"], *net)),
        ("chain_jtu", [grad], (p["w"], p["x"], p["directions"], p["u"], both, *net)),
        ("chain_loss_grad", [number, number, grad], (p["w"], p["x"], p["directions"], *loss)),
    ]


def wide(a):
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


@given(case=chains(), shared=st.booleans())
def test_kernels_are_their_twins_over_threads(agree, case, shared):
    p = arrays(*case, shared=shared)
    for name, outputs, arguments in calls(p):
        for a in arguments:
            if isinstance(a, np.ndarray):
                a.flags.writeable = False
        found = []
        for n_threads in (1, 2, 3):
            found.append([np.full(shape, 7, dtype) for shape, dtype in outputs])
            getattr(kernels, name)(*found[-1], *arguments, n_threads=n_threads)
        twin = [np.full(shape, 7, np.float64) for shape, _ in outputs]
        getattr(reference_layers, name)(*twin, *map(wide, arguments))
        for mine, its, second, third in zip(found[0], twin, *found[1:], strict=True):
            agree(mine, its, 1e-11 if case[3] == np.float64 else 1e-4)
            np.testing.assert_array_equal(mine, second)
            np.testing.assert_array_equal(mine, third)


@pytest.mark.parametrize("rows", [(3000,), (900, 1200), (40,) * 30, (700, 3, 0, 5)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_bit_depends_on_threads(rows, dtype):
    layers = [Conv2d(5, 3, activation="tanh"), MaxPool2d(2), Flatten(), Dense(7, "tanh"), Dense(2)]
    p = arrays(Chain(layers, (8, 8)), rows, 1, dtype, 0)
    for name, outputs, arguments in calls(p):
        found = []
        for n_threads in (1, 2, 5):
            found.append([np.full(shape, 7, kind) for shape, kind in outputs])
            getattr(kernels, name)(*found[-1], *arguments, n_threads=n_threads)
        for mine, *others in zip(*found, strict=True):
            for other in others:
                np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_agent_computes_the_same_alone(dtype):
    p = arrays(Chain([Conv2d(3, 2, activation="tanh"), Flatten(), Dense(2)], (5, 5)), (9, 0, 400), 2, dtype, 0)
    grad = np.empty_like(p["v"])
    kernels.chain_jtu(grad, p["w"], p["x"], p["directions"], p["u"], p["t"], p["offsets"], p["layers"])
    for i in range(3):
        part, alone = slice(p["offsets"][i], p["offsets"][i + 1]), np.empty_like(grad[:1])
        cut = [np.ascontiguousarray(a) for a in (p["x"][part], p["directions"][:, part], p["u"][part], p["t"][:, part])]
        kernels.chain_jtu(alone, p["w"][i : i + 1], *cut, np.array([0, part.stop - part.start]), p["layers"])
        np.testing.assert_array_equal(alone[0], grad[i])


@given(
    layers=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    rows=st.lists(st.sampled_from([0, 1, 7, 600]), min_size=1, max_size=3),
    activation=ACTIVATIONS,
    dtype=DTYPES,
    loss=st.sampled_from(["squared_error", "huber"]),
)
def test_dense_chains_are_the_compiled_mlp(network, agree, layers, rows, activation, dtype, loss):
    p = network(0, layers, rows, dtype, loss=loss, activation=activation)
    hidden = [Dense(units, activation) for units in layers[1:-1]]
    table = Chain([*hidden, Dense(layers[-1])], layers[0]).table
    value, grad, term = np.empty(p.agents), np.empty((p.agents, p.params), dtype), np.empty(p.agents)
    kernels.mlp_loss_grad(
        value, grad, p.w, p.x, p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 0.5
    )
    mine, own = np.empty_like(value), np.empty_like(grad)
    rest = (p.target, p.weight, None, p.offsets, table, p.loss, 1.0, 0.5, 0.0)
    kernels.chain_loss_grad(mine, term, own, p.w, p.x, None, *rest)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    agree(mine, value, tolerance)
    agree(own, grad, tolerance)
    assert not term.any()


def test_not_a_number_stays_not_a_number():
    chain = Chain([MaxPool2d(2), Flatten(), Dense(1)], (4, 4))
    x = np.zeros((3, 16))
    x[1, 5], x[2, 0] = np.nan, np.nan
    out = np.empty((3, 1))
    kernels.chain_forward(out, None, np.ones((1, chain.n_params)), x, None, np.array([0, 3]), chain.table)
    assert np.isnan(out.ravel()).tolist() == [False, True, True]
