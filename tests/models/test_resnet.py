"""Residual networks: derivatives, depth, and propagation by multigrid."""

import numpy as np
import pytest

from dnnext.models import MGRIT, ResNet
from dnnext.models.layer_parallel import Grid, Propagation
from dnnext.models.model import Rows


def make_case(n_layers=20, seed=0, n_rows=9, **options):
    rng = np.random.default_rng(seed)
    model = ResNet(n_layers, 5, 3.0, n_inputs=3, n_outputs=2, **options)
    w, x = rng.normal(size=model.layout.n_params) * 0.4, rng.normal(size=(n_rows, 3))
    return model, w, x, rng.normal(size=(n_rows, 2))


def rows_of(x):
    return Rows(x, np.array([0, len(x)]))


@pytest.mark.parametrize("model", ResNet.examples(), ids=repr)
def test_derivatives_are_those_of_differences_and_adjoint_to_each_other(model):
    rng = np.random.default_rng(3)
    rows = Rows(rng.normal(size=(5, model.n_inputs)), np.array([0, 2, 2, 5]))
    w, v = rng.normal(size=(2, 3, model.layout.n_params)) * 0.4
    u = rng.normal(size=(5, model.n_outputs))
    jv, ju = model.jvp(w, rows, v), model.vjp(w, rows, u)
    assert np.sum(jv * u) == pytest.approx(np.sum(ju * v), rel=1e-12)
    change = (model.forward(w + 1e-6 * v, rows) - model.forward(w - 1e-6 * v, rows)) / 2e-6
    np.testing.assert_allclose(jv, change, atol=1e-7)
    assert not ju[1].any()  # an agent without rows


def test_twice_the_layers_come_closer_to_the_differential_equation():
    model, w, x, _ = make_case(n_layers=10)
    opening, layers, output = model.split(w)
    answers = []
    for times in (1, 2, 4, 64):
        deep = ResNet(10 * times, 5, 3.0, n_inputs=3, n_outputs=2)
        row = np.concatenate([opening, np.repeat(layers, times, axis=0).ravel(), output])
        answers.append(deep.forward(row[None], rows_of(x)))
    errors = [np.abs(f - answers[-1]).max() for f in answers[:-1]]
    assert errors[0] > 1.7 * errors[1] > 1.7 * 1.7 * errors[2]


@pytest.mark.parametrize("opening", ["trained", "fixed", "padding"])
@pytest.mark.parametrize("n_layers", [16, 19])
def test_exact_propagation_gives_the_gradient(opening, n_layers):
    model, w, x, delta = make_case(n_layers, opening=opening)
    w = w[: model.layout.n_params]
    net = Propagation(model, w, x, Grid())
    u = net.start()
    net.states(u, None)
    adjoint = np.zeros_like(u)
    net.adjoints(adjoint, u, delta, None)
    gradient = np.empty_like(w)
    net.gradient(u, adjoint, delta, gradient)
    np.testing.assert_allclose(net.outputs(u), model.forward(w[None], rows_of(x)), rtol=1e-13)
    np.testing.assert_allclose(gradient, model.vjp(w[None], rows_of(x), delta)[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("activation", ["tanh", "smooth_relu"])
def test_cycles_converge_to_the_gradient_with_padded_layers(activation):
    model, w, x, delta = make_case(61, activation=activation)  # padded to 64: smooth_relu(0) is not 0
    net = Propagation(model, w, x, Grid(cf=2, min_coarse=8))
    assert net.n_steps == 64
    u = net.start()
    net.states(u, 32)
    adjoint = np.zeros_like(u)
    net.adjoints(adjoint, u, delta, 32)
    gradient = np.empty_like(w)
    net.gradient(u, adjoint, delta, gradient)
    np.testing.assert_allclose(gradient, model.vjp(w[None], rows_of(x), delta)[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_a_coarse_adjoint_step_is_the_transpose_of_the_coarse_step(stride):
    model, w, x, _ = make_case(32)
    net = Propagation(model, w, x, Grid())
    u = net.start()
    net.states(u, None)
    net._kept = u
    rng = np.random.default_rng(5)
    v, adjoint = rng.normal(size=(2, *u[0].shape))
    for n in range(0, 32, stride):
        here, k = np.array([[n]]), np.array([[32 - n - stride]])
        moved = []
        for e in (1e-6, -1e-6):
            pair = np.stack([u[n] + e * v, u[n]])
            net._sweep(here, pair, 2, stride, None)
            moved.append(pair[1])
        back = np.stack([adjoint, adjoint])
        net._sweep_back(k, back, 2, stride, None)
        assert np.sum((moved[0] - moved[1]) / 2e-6 * adjoint) == pytest.approx(np.sum(v * back[1]), rel=1e-7)


def test_ends_are_closed_once():
    model = ResNet(4, 3).sized(2, 5)
    assert (model.n_inputs, model.n_outputs, model.layout.n_params) == (2, 5, 9 + 4 * 12 + 20)
    assert model.fingerprint() != ResNet(4, 3, T=2.0).sized(2, 5).fingerprint()
    with pytest.raises(ValueError, match="n_outputs must be 5"):
        model.sized(2, 6)
    with pytest.raises(ValueError, match="must be known"):
        _ = ResNet(4, 3).layout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_layers": 0}, "n_layers must be"),
        ({"T": -1.0}, "T must be"),
        ({"activation": "square"}, "activation must be"),
        ({"opening": "padding", "width": 2, "n_inputs": 3}, "width must be at least n_inputs"),
    ],
)
def test_unfit_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ResNet(**arguments)


def test_the_smooth_relu_joins_with_equal_values_and_slopes():
    from dnnext.kernels.residual_formulas import RESIDUAL_ACTIVATIONS, residual_phi, residual_phi_slope

    code = RESIDUAL_ACTIVATIONS["smooth_relu"]
    z = np.array([-0.1, 0.1, -1.0, 1.0, 0.0])
    np.testing.assert_allclose(residual_phi(z, code), [0, 0.1, 0, 1, 0.025], atol=1e-17)
    np.testing.assert_allclose(residual_phi_slope(residual_phi(z, code), code), [0, 1, 0, 1, 0.5], atol=1e-15)


def test_the_default_levels_of_mgrit_are_those_of_the_oracle():
    step = MGRIT(lambda k, v, stride: v, 64)
    assert Propagation(*make_case(64)[:3], Grid()).down.levels == step.levels
