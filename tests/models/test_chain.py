"""Chains of layers: sizes, refusals, derivatives, files, and training over a ring."""

import pickle

import numpy as np
import pytest

from dnnext.models import MLP, AvgPool2d, Chain, Conv2d, Dense, Flatten, MaxPool2d, Residual
from dnnext.models.model import Rows
from dnnext.problem import GroupLasso, Problem, SquaredError

NETS = {
    "mlp": ([Dense(5, "tanh"), Dense(4, "softplus"), Dense()], 7),
    "conv": ([Conv2d(3, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense(5, "tanh"), Dense()], (8, 7)),
    "max": ([Conv2d(2, 2, stride=2, padding=1, activation="tanh"), MaxPool2d(2, 1), Flatten(), Dense()], (2, 6, 6)),
    "residual": ([Dense(5, "tanh"), Residual([Dense(3, "tanh"), Dense(5)]), Dense(4, "tanh"), Dense()], 6),
}
every_net = pytest.mark.parametrize("name", NETS)
both_ways = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "python"])


def setting(name, rows=(4, 0, 1, 300), directions=2, shared=False, compiled=True):
    """(chain, w, rows, directions, random array of a shape)."""
    rng = np.random.default_rng(0)
    layers, n_inputs = NETS[name]
    chain = Chain(layers).sized(n_inputs, 2)
    assert chain.table is not None
    if not compiled:
        chain.table = None
    shape = (n_inputs,) if isinstance(n_inputs, int) else n_inputs
    offsets = np.concatenate([[0], np.cumsum(rows)])
    x = rng.standard_normal((offsets[-1], *shape))
    v = rng.standard_normal((directions, *x.shape))
    start = np.stack([chain.init(seed) for seed in range(1 if shared else len(rows))])
    w = start + 0.1 * rng.standard_normal(start.shape)
    return chain, w, Rows(x, offsets), v, lambda *shape: rng.standard_normal(shape)


@every_net
@both_ways
def test_derivatives_are_differences(name, compiled):
    chain, w, rows, directions, normal = setting(name, compiled=compiled)
    h, dw = 1e-5, normal(*w.shape)
    ends = [chain.forward(w + s * dw, rows) for s in (h, -h)]
    np.testing.assert_allclose(chain.jvp(w, rows, dw), (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)
    for k, v in enumerate(directions):
        ends = [chain.forward(w, rows._replace(x=rows.x + s * v)) for s in (h, -h)]
        found = chain.tangent(w, rows, directions)[k]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)


@every_net
@both_ways
@pytest.mark.parametrize("shared", [False, True])
def test_vjp_is_the_adjoint_of_jvp(name, shared, compiled):
    chain, w, rows, _, normal = setting(name, shared=shared, compiled=compiled)
    v, u = normal(rows.n_agents, chain.n_params), normal(len(rows.x), 2)
    left, right = np.vdot(chain.jvp(w, rows, v), u), np.vdot(v, chain.vjp(w, rows, u))
    assert left == pytest.approx(right, rel=1e-12)


@every_net
@both_ways
@pytest.mark.parametrize("n_directions", [1, 2])
def test_the_two_adjoint_sweep_is_the_gradient(name, n_directions, compiled):
    chain, w, rows, directions, normal = setting(name, directions=n_directions, compiled=compiled)
    u, t = normal(len(rows.x), 2), normal(n_directions, len(rows.x), 2)
    found = chain.tangent_vjp(w, rows, u, directions, t)

    def value(w):
        terms = u * chain.forward(w, rows) + (t * chain.tangent(w, rows, directions)).sum(axis=0)
        return np.array([terms[a:b].sum() for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)])

    for _ in range(3):
        dw, h = normal(*w.shape), 1e-5
        slope = (value(w + h * dw) - value(w - h * dw)) / (2 * h)
        size = np.linalg.norm(found, axis=1) * np.linalg.norm(dw, axis=1) + 1
        assert (np.abs((found * dw).sum(axis=1) - slope) <= 1e-7 * size).all()


@every_net
@both_ways
def test_without_rows_the_gradient_is_zero_and_agents_compute_the_same_alone(name, compiled):
    chain, w, rows, directions, normal = setting(name, compiled=compiled)
    u, t = normal(len(rows.x), 2), normal(2, len(rows.x), 2)
    found = chain.tangent_vjp(w, rows, u, directions, t)
    assert not found[1].any()
    for i in (0, 2, 3):
        part = slice(rows.offsets[i], rows.offsets[i + 1])
        alone = Rows(rows.x[part], np.array([0, part.stop - part.start]))
        again = chain.tangent_vjp(w[i : i + 1], alone, u[part], directions[:, part], t[:, part])
        np.testing.assert_array_equal(again[0], found[i])


@every_net
def test_kernels_and_python_layers_compute_the_same(name):
    (fast, w, rows, directions, normal), slow = setting(name), setting(name, compiled=False)[0]
    u, t, v = normal(len(rows.x), 2), normal(2, len(rows.x), 2), normal(*w.shape)
    pairs = [
        (fast.forward(w, rows), slow.forward(w, rows)),
        (fast.jvp(w, rows, v), slow.jvp(w, rows, v)),
        (fast.vjp(w, rows, u), slow.vjp(w, rows, u)),
        (fast.tangent(w, rows, directions), slow.tangent(w, rows, directions)),
        (fast.tangent_vjp(w, rows, u, directions, t), slow.tangent_vjp(w, rows, u, directions, t)),
    ]
    for mine, its in pairs:
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-12 * np.abs(its).max())


def test_dense_layers_lie_as_in_the_mlp():
    chain, mlp = Chain([Dense(5, "tanh"), Dense()]).sized(7, 2), MLP([7, 5, 2])
    np.testing.assert_array_equal(chain.init(3), mlp.init(3))
    np.testing.assert_array_equal(chain.layout.mask, mlp.mask)
    np.testing.assert_array_equal(chain.layout.layer_of, mlp.layer_of)
    np.testing.assert_array_equal(chain.layout.groups, mlp.groups)
    x, w = np.random.default_rng(0).standard_normal((9, 7)), mlp.init(0)
    rows = Rows(x, np.array([0, 9]))
    np.testing.assert_allclose(chain.forward(w[None], rows), mlp.forward(w, x), rtol=1e-13, atol=1e-13)


def test_groups_are_filters():
    layout = Chain(NETS["conv"][0]).sized((8, 7), 2).layout
    assert layout.groups[:4].tolist() == [[0, 9], [9, 18], [18, 27], [30, 35]]
    assert [part.name for part in layout.parts[:3]] == ["layer1.weight", "layer1.bias", "layer4.weight"]


def test_a_group_penalty_switches_filters_off():
    """Its prox leaves a filter whole, or makes all of its weights exactly zero; biases are not penalised."""
    chain = Chain(NETS["conv"][0]).sized((8, 7), 2)
    problem = Problem(chain, SquaredError(), GroupLasso(0.05), [(np.ones((2, 8, 7)), np.ones((2, 2)))])
    w = chain.init(0)[None] * np.where(np.arange(chain.n_params) < 9, 0.1, 1.0)
    found, before = (chain.layout.unpack(row[0]) for row in (problem.prox(w, np.ones(1)), w))
    filters = found["layer1.weight"].reshape(3, 9)
    assert not filters[0].any()
    assert filters[1:].all()
    np.testing.assert_array_equal(found["layer1.bias"], before["layer1.bias"])


def test_files_parameters_and_fingerprints():
    chain = Chain(NETS["residual"][0]).sized(6, 2)
    again = pickle.loads(pickle.dumps(chain))
    assert again.fingerprint() == chain.fingerprint()
    assert again.layout == chain.layout
    assert Chain(NETS["residual"][0]).sized(6, 3).fingerprint() != chain.fingerprint()
    assert [part.name for part in chain.layout.parts][2:4] == ["layer2.1.weight", "layer2.1.bias"]
    assert chain.set_params(n_inputs=7).n_inputs == 7


@pytest.mark.parametrize(
    ("layers", "n_inputs", "sentence"),
    [
        ([Conv2d(8, 3), Dense(2)], (8, 8), r"layer 2, Dense\(units=2\), needs flat inputs .*Flatten\(\).*\(8, 6, 6\)"),
        ([Conv2d(8, 3), Conv2d(2, 9)], (1, 8, 8), r"layer 2, Conv2d\(.*\), needs an image of at least 9 x 9, got"),
        ([MaxPool2d(4), Flatten()], (3, 3), r"layer 1, MaxPool2d\(size=4\), needs an image of at least 4 x 4, got"),
        ([Conv2d(8, 3)], 64, r"layer 1, Conv2d\(.*\), needs images \(channels, height, width\), got \(64,\)"),
        ([Dense(), Dense(2)], 3, r"layer 1, Dense\(\), needs its units"),
        ([Dense(3)], 3, r"layer 1, Dense\(units=3\), must give 2 outputs, got 3"),
        ([Conv2d(2, 3)], (8, 8), r"the last layer must give flat outputs"),
        ([Residual([Dense(3, "tanh")]), Dense()], 4, r"layer 1, Residual.* needs layers that keep the shape .*\(4,\)"),
        ([Residual([Conv2d(2, 1)]), Dense()], 4, r"layer 1, Residual.*layer 1, Conv2d.* needs images"),
        ([Dense()], (1, 2, 3, 4), "n_inputs must be a number"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(layers, n_inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        Chain(layers).sized(n_inputs, 2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Conv2d(0, 3), "filters of Conv2d must be a whole number"),
        (lambda: Conv2d(2, (3, 3, 3)), "size must be a number or a pair"),
        (lambda: Conv2d(2, 3, stride=0), "stride must be"),
        (lambda: Conv2d(2, 2, padding="same"), "padding must be a number of pixels for filters of even size"),
        (lambda: Conv2d(2, 3, activation="sin"), "activation must be one of"),
        (lambda: MaxPool2d(0), "size must be"),
        (lambda: Dense(0), "units of Dense must be"),
        (lambda: Chain([]), "layers must be layers"),
        (lambda: Chain([Dense(2)]).layout, "n_inputs and n_outputs must be known"),
        (lambda: Chain([Dense()], 3).layout, "n_inputs and n_outputs must be known"),
        (lambda: Chain([Dense()], 3).sized(4, 1), "n_inputs must be 3 for Chain"),
        (lambda: Chain([Dense(2)], 3).sized(3, 1), "must give 1 outputs, got 2"),
    ],
)
def test_bad_arguments(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
