"""Synthetic inputs: their moments are those of all inputs, whoever holds them."""

import tracemalloc

import numpy as np
import pytest

from dnnext.problem import L2, MLP, Huber, Logistic, Problem, Softmax, SquaredError, SquaredHinge
from dnnext.problem.synthetic import input_kind, input_moments, synthetic_problem, synthetic_rows


def shards(n_agents=4, width=3, weights=False, relay=None):
    rng = np.random.default_rng(0)
    out = []
    for i in range(n_agents):
        n = 0 if i == relay else 9 + i
        x = rng.standard_normal((n, width)) @ rng.standard_normal((width, width)) + i
        out.append((x, np.sin(x[:, 0]), rng.uniform(0.1, 2, n)) if weights else (x, np.sin(x[:, 0])))
    return out


@pytest.mark.parametrize("weights", [False, True])
def test_moments_are_those_of_the_pooled_inputs(weights):
    parts = shards(weights=weights, relay=2)
    mean, covariance = input_moments(Problem(MLP([3, 4, 1]), SquaredError(), None, parts))
    x = np.concatenate([part[0] for part in parts])
    c = np.concatenate([part[2] for part in parts]) if weights else np.ones(len(x))
    wanted = np.average(x, axis=0, weights=c)
    np.testing.assert_allclose(mean, wanted, rtol=1e-12)
    np.testing.assert_allclose(covariance, ((x - wanted) * c[:, None]).T @ (x - wanted) / c.sum(), rtol=1e-12)


@pytest.mark.parametrize("sums", [input_moments, input_kind])
def test_moments_copy_a_few_rows_at_a_time(sums):
    x = np.random.default_rng(0).standard_normal((100_000, 10)).astype(np.float32)
    problem = Problem(MLP([10, 2, 1]), SquaredError(), None, [(x, x[:, 0])])
    tracemalloc.start()
    try:
        sums(problem)
        assert tracemalloc.get_traced_memory()[1] < 0.5 * x.nbytes
    finally:
        tracemalloc.stop()


def test_shared_rows_are_equal_at_every_agent_and_have_the_moments_exactly():
    problem = Problem(MLP([3, 4, 1]), SquaredError(), L2(alpha=0.1), shards(relay=1))
    view = synthetic_problem(problem)
    m = synthetic_rows(problem.n_params, problem.model.n_inputs)
    assert np.diff(view.offsets).tolist() == [m] * 4  # the relay too
    rows = view.x.reshape(4, m, 3)
    for i in range(1, 4):
        np.testing.assert_array_equal(rows[i], rows[0])
    mean, covariance = input_moments(problem)
    np.testing.assert_allclose(rows[0].mean(axis=0), mean, rtol=1e-10)
    np.testing.assert_allclose(np.cov(rows[0].T, bias=True), covariance, rtol=1e-9, atol=1e-10)
    assert synthetic_problem(problem) is view


def test_with_no_hidden_layer_the_shared_curvature_of_squared_error_is_that_of_all_data():
    problem = Problem(MLP([3, 1]), SquaredError(), None, shards(weights=True, relay=0))
    w = np.zeros((4, 4))
    whole = problem.gauss_newton(w, problem.root(w)).sum(axis=0)
    view = synthetic_problem(problem)
    for a in view.gauss_newton(w, view.root(w)):
        np.testing.assert_allclose(a, whole, rtol=1e-9, atol=1e-10)


def test_a_total_that_is_not_the_sum_of_the_weights_scales_the_curvature():
    problem = Problem(MLP([3, 1]), SquaredError(), None, shards(), n_total=1000.0)
    w, view = np.zeros((4, 4)), synthetic_problem(problem)
    whole = problem.gauss_newton(w, problem.root(w)).sum(axis=0)
    np.testing.assert_allclose(view.gauss_newton(w, view.root(w))[0], whole, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", [Huber(), SquaredHinge()])
def test_losses_whose_curvature_needs_the_targets_are_refused(loss):
    parts = [(x, np.sign(d)) for x, d in shards()]
    with pytest.raises(ValueError, match="curvature does not depend on the targets"):
        synthetic_problem(Problem(MLP([3, 4, 1]), loss, None, parts))


def test_a_curvature_said_anew_may_have_labels():
    class Odd(SquaredError):
        def curvature_root(self, f, d):
            return np.ones_like(f) * d

    assert Odd.curvature_has_labels
    assert not any(kind.curvature_has_labels for kind in (SquaredError, Logistic, Softmax))
