"""The closed forms of the risks: against the published limits, against each other and against sampled inputs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from dnnext.datasets import make_centered_mixture, make_quadratic
from dnnext.models.risks import (
    REGIMES,
    mixture_risk,
    mixture_risk_limit,
    quadratic_risk,
    quadratic_risk_limit,
    quadratic_risk_mean,
)

# rho, features, tangent, full: limits for eigenvalues from Exp(1)
LIMITS = [
    (0.10, 0.9545, 0.8550, 0.4046),
    (0.25, 0.9000, 0.6562, 0.1632),
    (0.50, 0.8333, 0.3750, 0.0333),
    (0.75, 0.7857, 0.1562, 0.0032),
    (0.90, 0.7632, 0.0550, 0.0002),
    (1.00, 0.7500, 0.0000, 0.0000),
    (2.00, 0.6667, 0.0000, 0.0000),
]


def first_layer(d, n, seed=0):
    return np.random.default_rng(seed).standard_normal((d, n)) / np.sqrt(d)


@pytest.mark.parametrize("row", LIMITS)
def test_limits_of_the_exponential_spectrum(row):
    assert_allclose([quadratic_risk_limit(regime, row[0]) for regime in REGIMES], row[1:], atol=6e-5)


@pytest.mark.parametrize("rho", [0.25, 0.5, 1.0])
def test_a_spectrum_given_as_quantiles_has_the_same_limits(rho):
    quantiles = -np.log1p(-(np.arange(20000) + 0.5) / 20000)
    for regime in REGIMES:
        assert_allclose(quadratic_risk_limit(regime, rho, quantiles), quadratic_risk_limit(regime, rho), atol=2e-3)


@pytest.mark.parametrize("rho", [0.25, 0.5, 1.0, 2.0])
def test_exact_risks_lie_near_their_means_and_limits(rho):
    d = 120
    _, _, b = make_quadratic(1, d, random_state=1)
    n = int(rho * d)
    draws = [first_layer(d, n, seed) for seed in range(6)]
    for regime, atol in (("features", 0.01), ("tangent", 0.01), ("full", 1e-12)):
        assert abs(np.mean([quadratic_risk(regime, b, w) for w in draws]) - quadratic_risk_mean(regime, b, n)) < atol
    spectrum = np.diag(b)
    for regime, atol in (("features", 0.02), ("tangent", 0.02), ("full", 1e-9)):
        assert_allclose(quadratic_risk(regime, b, draws[0]), quadratic_risk_limit(regime, rho, spectrum), atol=atol)


def test_the_mean_of_the_tangent_risk_is_exact():
    _, _, b = make_quadratic(1, 6, random_state=3)
    draws = [quadratic_risk("tangent", b, first_layer(6, 2, seed)) for seed in range(4000)]
    assert abs(np.mean(draws) - quadratic_risk_mean("tangent", b, 2)) < 4 * np.std(draws) / np.sqrt(len(draws))


def test_first_layers_that_know_the_target_do_better():
    d = 400
    _, _, b = make_quadratic(1, d, random_state=4)
    gamma = b * (d / np.trace(b))
    for rho, published in ((0.5, 0.5027), (1.0, 0.3358), (2.0, 0.2017)):
        w = np.sqrt(np.diag(gamma))[:, None] * first_layer(d, int(rho * d), seed=5)
        limit = quadratic_risk_limit("features", rho, np.diag(b), np.diag(b))
        assert_allclose(limit, quadratic_risk_mean("features", b, int(rho * d), b), rtol=1e-12)
        assert abs(quadratic_risk("features", b, w) - limit) < 0.02
        assert abs(limit - published) < 0.03  # another draw of the eigenvalues


def test_regimes_are_ordered_and_their_gap_has_no_bound():
    d = 200
    b = np.diag(np.r_[np.ones(5), np.zeros(d - 5)])
    found = {n: [quadratic_risk(regime, b, first_layer(d, n, n)) for regime in REGIMES] for n in (5, 100, 180, 200)}
    published = {5: (0.999, 0.950, 0.0), 100: (0.982, 0.243, 0.0), 180: (0.980, 0.0196, 0.0)}  # another first layer
    for n, risks in published.items():
        assert_allclose(found[n], risks, atol=0.02)
        assert_allclose(found[n], [quadratic_risk_mean(regime, b, n) for regime in REGIMES], atol=0.03)
        assert found[n][2] < 1e-12 < found[n][1] < found[n][0]
    assert max(found[200][1:]) < 1e-8 < 0.9 < found[200][0]


def best_on_rows(features, y):
    """Mean squared error of least squares with a constant, in sample units of y."""
    x = np.column_stack([features, np.ones(len(y))])
    return np.mean((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2)


def symmetric_products(q, x):
    """Features of {S W' + W S'}: products of two coordinates, the first within the span of W."""
    full, _ = np.linalg.qr(q, mode="complete")
    z, n = x @ full, q.shape[1]
    return np.column_stack([z[:, i] * z[:, j] for i in range(n) for j in range(i, z.shape[1])])


def test_sampled_inputs_agree_with_the_quadratic_risks():
    x, y, b = make_quadratic(40000, 10, random_state=6)
    w = first_layer(10, 4, seed=7)
    assert abs(best_on_rows((x @ w) ** 2, y) - quadratic_risk("features", b, w)) < 0.03
    assert abs(best_on_rows(symmetric_products(w, x), y) - quadratic_risk("tangent", b, w)) < 0.03


def test_sampled_inputs_agree_with_the_mixture_risks():
    x, y, delta = make_centered_mixture(60000, 12, distance=1.2, random_state=8)
    w = first_layer(12, 4, seed=9)
    assert abs(best_on_rows((x @ w) ** 2, y) - mixture_risk("features", delta, w)) < 0.01
    assert abs(best_on_rows(symmetric_products(w, x), y) - mixture_risk("tangent", delta, w)) < 0.01


def mixture_objective(m, delta):
    return (1 + np.sum(m * delta)) ** 2 + 2 * np.sum(m * m) + 2 * np.trace(m @ delta @ m @ delta)


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_risks_are_what_an_optimiser_finds(seed):
    rng = np.random.default_rng(seed)
    d, n = 9, int(rng.integers(1, 8))
    a = rng.standard_normal((d, d))
    delta = 0.9 * (a + a.T) / np.linalg.norm(a + a.T, 2)
    w = first_layer(d, n, seed)

    def lowest(matrix, start, **how):
        return minimize(lambda v: mixture_objective(matrix(v), delta), start, method="BFGS", **how).fun

    assert abs(lowest(lambda a: (w * a) @ w.T, np.zeros(n)) - mixture_risk("features", delta, w)) < 1e-6

    def tangent(v):
        m = v.reshape(d, n) @ w.T
        return m + m.T

    assert abs(lowest(tangent, np.zeros(d * n)) - mixture_risk("tangent", delta, w)) < 1e-5
    signs = np.sign(sorted(np.linalg.eigvalsh(-delta), key=abs)[::-1][:n])

    def full(v):
        u = v.reshape(d, n)
        return (u * signs) @ u.T

    found = min(lowest(full, rng.standard_normal(d * n) / 2) for _ in range(3))
    assert abs(found - mixture_risk("full", delta, w)) < 1e-3


# ||Delta||_F, rho, features exact (limit), tangent exact (limit), full; d = 80, one draw of Delta for each size. That
# of the last two was cut at eigenvalues of 1, which leaves a norm of 3.575: both limits at rho = 1.5 say so.
MIXTURES = [
    (1, 0.50, 0.8992, 0.9103, 0.7700, 0.7686, 0.6877),
    (2, 0.25, 0.7968, 0.7993, 0.6381, 0.6099, 0.4529),
    (2, 0.50, 0.7102, 0.7050, 0.4849, 0.4574, 0.3818),
    (2, 1.00, 0.6109, 0.6144, 0.3628, 0.3333, 0.3628),
    (3.575, 0.50, 0.4865, 0.4672, 0.2606, 0.2026, 0.1959),
    (3.575, 1.50, 0.3429, 0.3276, 0.1886, 0.1353, 0.1886),
]


@pytest.mark.parametrize("row", MIXTURES)
def test_mixture_risks_of_the_published_sizes(row):
    norm, rho, features, features_limit, _, tangent_limit, _ = row
    d, n = 80, int(80 * rho)
    t = (2 / features_limit - 2) * (1 + rho) / rho / norm**2  # of that draw, from the limit itself
    delta = np.diag(spread(d, t) * norm)
    assert_allclose(mixture_risk_limit("features", delta, n), features_limit, atol=1e-4)
    assert_allclose(mixture_risk_limit("tangent", delta, n), tangent_limit, atol=2e-3)
    w = first_layer(d, n, seed=10)
    assert abs(mixture_risk("features", delta, w) - features) < 0.03
    exact = [mixture_risk(regime, delta, w) for regime in REGIMES]
    assert exact[0] > exact[1] >= exact[2] - 1e-12
    if rho >= 1:
        assert_allclose(exact[1], exact[2], rtol=1e-12)


def spread(d, t):
    """d numbers of norm 1 with ``mean^2 / mean of squares = t``."""
    ramp = np.linspace(-1, 1, d)
    b = np.sqrt(t) + ramp * np.sqrt((1 - t) / np.mean(ramp**2))
    return b / np.linalg.norm(b)


def test_small_mixtures_reach_their_limits():
    delta = np.diag(spread(300, 0.5) * 0.3)
    w = first_layer(300, 150)
    for regime, atol in (("features", 5e-3), ("tangent", 1e-3), ("full", 1e-3)):
        assert_allclose(mixture_risk(regime, delta, w), mixture_risk_limit(regime, delta, 150), atol=atol)


def test_whitening_changes_nothing():
    rng = np.random.default_rng(11)
    delta, w, root = np.diag(spread(6, 0.3)), first_layer(6, 3), rng.standard_normal((6, 6)) + 4 * np.eye(6)
    root = (root + root.T) / 2
    for regime in REGIMES:
        moved = mixture_risk(regime, root @ delta @ root, np.linalg.solve(root, w), root @ root)
        assert_allclose(moved, mixture_risk(regime, delta, w), rtol=1e-8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: quadratic_risk("lazy", np.eye(2), np.ones((2, 1))), "regime must be one of 'features', 'tangent'"),
        (lambda: quadratic_risk("full", np.ones((2, 3)), np.ones((2, 1))), "target must be a finite symmetric"),
        (lambda: quadratic_risk("full", np.array([[0, 1], [0, 0]]), np.ones((2, 1))), "target must be symmetric"),
        (lambda: quadratic_risk("full", np.zeros((2, 2)), np.ones((2, 1))), "other than 0"),
        (lambda: quadratic_risk("full", np.eye(2), np.ones((3, 1))), r"weights must be a finite array \(2, units\)"),
        (lambda: quadratic_risk_mean("tangent", np.eye(2), 1, np.eye(2)), "covariance must be None"),
        (lambda: quadratic_risk_limit("full", 0.0), "rho must be a finite number above 0"),
        (lambda: quadratic_risk_limit("full", 0.5, "gamma"), "spectrum must be one of 'exponential'"),
        (lambda: quadratic_risk_limit("features", 0.5, [1.0], [1.0, 2.0]), r"covariance must be \(1,\) numbers"),
        (lambda: mixture_risk("full", 2 * np.eye(2), np.ones((2, 1))), "delta must leave Sigma"),
        (lambda: mixture_risk("full", np.eye(2), np.ones((2, 1)), -np.eye(2)), "sigma must be positive definite"),
        (lambda: mixture_risk_limit("tangent", np.eye(2), 1, np.eye(2)), "covariance must be None"),
        (lambda: make_quadratic(3, 2, [1.0, 2.0, 3.0]), "at most 2 finite numbers"),
        (lambda: make_centered_mixture(3, 2, distance=2.0), "distance must leave every entry"),
    ],
)
def test_unfit_arguments_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
