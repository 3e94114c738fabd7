"""What the kernels promise as mathematics, whatever the twins say."""

from itertools import pairwise, product

import numpy as np
import pytest

from dnnext import kernels

SMOOTH = ["identity", "tanh", "logistic", "softplus"]


def value_at(p, w):
    value = np.empty(p.agents)
    kernels.mlp_loss_grad(
        value, None, w, p.x, p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 1 / p.n
    )  # fmt: skip
    return value


def gradient_at(p, w):
    value, grad = np.empty(p.agents), np.empty((p.agents, p.params), p.dtype)
    kernels.mlp_loss_grad(
        value, grad, w, p.x, p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 1 / p.n
    )  # fmt: skip
    return grad


@pytest.mark.parametrize(("loss", "activation"), list(product(sorted(kernels.LOSSES), SMOOTH)))
def test_gradient_is_the_fourth_order_difference(network, loss, activation):
    p = network(3, (4, 6, 5, 3), (7, 3), loss=loss, activation=activation)
    h = 1e-3
    along = [value_at(p, p.w + k * h * p.v) for k in (-2, -1, 1, 2)]
    difference = (along[0] - 8 * along[1] + 8 * along[2] - along[3]) / (12 * h)
    np.testing.assert_allclose(np.sum(gradient_at(p, p.w) * p.v, axis=1), difference, rtol=2e-8, atol=1e-10)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("layers", [(4, 3), (4, 6, 3), (4, 6, 5, 3), (4, 6, 5, 7, 3)])
def test_jv_is_the_fourth_order_difference(network, layers, activation):
    p, h = network(4, layers, (7, 3), activation=activation), 1e-3
    net = (p.offsets, p.layers, p.activation)
    f = np.empty((4, p.n, p.outputs))
    for out, k in zip(f, (-2, -1, 1, 2), strict=True):
        kernels.mlp_forward(out, p.w + k * h * p.v, p.x, *net)
    jv = np.empty((p.n, p.outputs))
    kernels.mlp_jv(jv, p.w, p.x, p.v, *net)
    np.testing.assert_allclose(jv, (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("activation", sorted(kernels.ACTIVATIONS))
@pytest.mark.parametrize("layers", [(4, 3), (4, 6, 3), (4, 6, 5, 7, 3)])
def test_jv_and_jtu_are_adjoint(network, layers, activation):
    p = network(5, layers, (900, 0, 1), activation=activation)
    net = (p.offsets, p.layers, p.activation)
    jv, jtu = np.empty((p.n, p.outputs)), np.empty((p.agents, p.params))
    kernels.mlp_jv(jv, p.w, p.x, p.v, *net)
    kernels.mlp_jtu(jtu, p.w, p.x, p.u, *net)
    for i in range(p.agents):
        rows = slice(p.offsets[i], p.offsets[i + 1])
        np.testing.assert_allclose(np.sum(jv[rows] * p.u[rows]), jtu[i] @ p.v[i], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layers", [(4, 9, 3), (17, 11, 3), (4, 60, 3), (6, 7, 5, 3), (8, 3)])
def test_jacobian_gauss_newton_and_product_belong_together(network, layers):
    """Shapes of which either way to the Gauss-Newton matrix, from J and from pair features, is the cheaper one."""
    p = network(6, layers, (200,))
    whole = np.array([0, p.params])
    j, b, bv = np.empty((p.n * 3, p.params)), np.empty((1, p.params**2)), np.empty((1, p.params))
    kernels.mlp_jacobian(j, p.w, p.x, p.u, p.layers, p.activation)
    kernels.mlp_gauss_newton(b, p.w, p.x, p.u, p.offsets, p.layers, p.activation, whole)
    kernels.mlp_gauss_newton_product(bv, p.w, p.x, p.u, p.v, p.offsets, p.layers, p.activation, whole)
    np.testing.assert_allclose(b.reshape(p.params, -1), j.T @ j, rtol=1e-11, atol=1e-11)
    blocks = np.array([0, 5, p.params // 2, p.params])
    parts = np.empty((1, int(np.sum(np.diff(blocks) ** 2))))
    kernels.mlp_gauss_newton(parts, p.w, p.x, p.u, p.offsets, p.layers, p.activation, blocks)
    cuts = [slice(start, stop) for start, stop in pairwise(blocks)]
    packed = np.concatenate([(j[:, cut].T @ j[:, cut]).ravel() for cut in cuts])
    np.testing.assert_allclose(parts[0], packed, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(bv[0], j.T @ (j @ p.v[0]), rtol=1e-11, atol=1e-11)
    jtu = np.empty((1, p.params))
    kernels.mlp_jtu(jtu, p.w, p.x, p.u**2, p.offsets, p.layers, p.activation)
    np.testing.assert_allclose(jtu[0], j.T @ p.u.ravel(), rtol=1e-11, atol=1e-11)


def test_prox_minimises(network):
    """prox(v) is better than 200 points around it, by strong convexity."""
    rng = np.random.default_rng(0)
    v, s = rng.standard_normal((3, 20)), np.array([0.2, 1.0, 5.0])
    l1, l2, groups = rng.random(20) * 0.3, np.repeat(rng.random(4), 5), np.arange(0, 20, 5)[:, None] + [0, 5]
    strength = rng.random(4)
    out = np.empty_like(v)
    kernels.penalty_prox(out, v, s, l1, l2, groups, strength)

    def energy(u):
        norms = np.sqrt(np.sum(u.reshape(*u.shape[:-1], 4, 5) ** 2, axis=-1))
        r = np.sum(l1 * np.abs(u) + l2 * u**2 / 2, axis=-1) + norms @ strength
        return 0.5 * np.sum((u - v) ** 2, axis=-1) + s * r

    for size in (1e-4, 1e-2, 1):
        trial = out + size * rng.standard_normal((200, 3, 20))
        gain = energy(trial) - energy(out) - 0.5 * np.sum((trial - out) ** 2, axis=-1)
        assert np.min(gain) > -1e-12


def test_prox_keeps_nan_and_zero_thresholds():
    v, none = np.array([[1.0, -2, np.nan, 0]]), np.empty((0, 2), np.int64)
    out, zero = np.empty_like(v), np.zeros(4)
    kernels.penalty_prox(out, v, np.ones(1), zero, zero, none, np.empty(0))
    np.testing.assert_array_equal(out, v)
    kernels.penalty_prox(out, v, np.ones(1), zero, zero, np.array([[0, 2]]), np.array([10.0]))
    np.testing.assert_array_equal(out, [[0, 0, np.nan, 0]])


def test_solve_names_the_block_that_is_not_positive_definite():
    blocks = np.array([0, 2, 3, 6])
    b = np.tile(np.concatenate([np.eye(2).ravel(), [1.0], np.eye(3).ravel()]), (4, 1))
    rhs, diag, status = np.ones((4, 6)), np.zeros((4, 6)), np.full(4, 9)
    b[1, 4] = -1
    b[2, 5] = -1
    b[3, 0] = np.nan
    out = np.full((4, 6), 9.0)
    kernels.spd_solve(out, status, b, diag, rhs, blocks)
    np.testing.assert_array_equal(status, [0, 2, 3, 1])
    assert out[1].tolist() == [1, 1, 0, 1, 1, 1]
    assert out[2].tolist() == [1, 1, 1, 0, 0, 0]
    assert out[3].tolist() == [0, 0, 1, 1, 1, 1]


def test_descent_reaches_the_minimum():
    """Without penalty: the normal equations; with one: the subdifferential holds zero."""
    rng = np.random.default_rng(0)
    half, blocks = rng.standard_normal((30, 12)), np.array([0, 12])
    b, w, g, tau = (half.T @ half).reshape(1, -1), *rng.standard_normal((2, 1, 12)), np.array([0.5])
    none, zero = np.empty((0, 2), np.int64), np.zeros(12)
    v, done = np.zeros((1, 12)), np.empty(1, np.int64)
    kernels.descent_solve(v, done, b, tau, w, g, zero, zero, none, np.empty(0), blocks, 2000, 1e-15)
    matrix = half.T @ half + 0.5 * np.eye(12)
    np.testing.assert_allclose(v[0], w[0] - np.linalg.solve(matrix, g[0]), rtol=1e-10, atol=1e-12)
    assert 0 < done[0] < 2000
    l1 = np.full(12, 20.0)
    kernels.descent_solve(v, done, b, tau, w, g, l1, zero, none, np.empty(0), blocks, 5000, 1e-15)
    slope = matrix @ (v[0] - w[0]) + g[0]
    at_zero = v[0] == 0
    assert at_zero.any()
    assert np.all(np.abs(slope[at_zero]) <= 20)
    np.testing.assert_allclose(slope[~at_zero], -20 * np.sign(v[0][~at_zero]), rtol=1e-9)


def test_mixing_with_chebyshev_terms(network):
    rng = np.random.default_rng(0)
    c, rows, previous = rng.random((5, 5)), rng.random((5, 9)), rng.random((5, 9))
    out, dense = np.empty((5, 9)), (np.arange(0, 26, 5), np.tile(np.arange(5), 5), c.ravel())
    kernels.csr_mix(out, rows, *dense, previous, 2.0, -0.5, 0.25)
    np.testing.assert_allclose(out, 2 * c @ rows - 0.5 * rows + 0.25 * previous, rtol=1e-14)
