"""Losses of many outputs: their curvature is applied in memory linear in rows and outputs."""

import tracemalloc
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.local.solvers import choose
from dnnext.local.surrogates import mean_curvature
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Loss, Problem, Softmax, SquaredError, passes
from dnnext.problem.curvature import RowCurvature, curvature_at
from dnnext.problem.final_step import smoothness
from dnnext.runs.state import State


def many_classes(k, n, agents=3, penalty=None, **options):
    rng = np.random.default_rng(0)
    x, d = rng.normal(size=(n, 5)), np.eye(k)[np.arange(n) % k]
    cuts = [*np.linspace(0, n, agents + 1).astype(int), n]  # the last agent has no rows
    shards = [(x[a:b], d[a:b], rng.uniform(0.5, 2, b - a)) for a, b in pairwise(cuts)]
    return Problem(MLP([5, 4, k]), Softmax(), L2(1e-3) if penalty is None else penalty, shards, **options)


def weights_of(problem, scale=0.5):
    rng = np.random.default_rng(1)
    return (scale * rng.normal(size=(problem.n_local, problem.n_params))).astype(problem.dtype)


def state_at(problem):
    s = State.at(problem, weights_of(problem))
    s.tau = np.ones(problem.n_local)
    return s


@pytest.fixture
def no_room():
    """Every root counts as too large from 3 outputs on."""
    with mock.patch.multiple(passes, FEW_OUTPUTS=2, ROOT_BYTES=0):
        yield


@pytest.fixture
def both(no_room):
    """A problem whose roots are never formed, and the same where they are."""
    wide = many_classes(6, 40)
    assert wide.has_wide_root
    with mock.patch.object(passes, "FEW_OUTPUTS", 32):
        small = many_classes(6, 40)
        assert not small.has_wide_root
    return wide, small


def test_products_and_bounds_are_those_of_the_root(both):
    wide, small = both
    w, kappa = weights_of(wide), np.array([2.0, 0.5, 3.0, 0.0])
    product, root = curvature_at(wide, None, w, kappa), curvature_at(small, None, w, kappa)
    assert isinstance(product, RowCurvature)
    assert root.shape == (40, 6, 6)
    for blocks in (None, np.array([0, 9, wide.n_params])):
        np.testing.assert_allclose(
            wide.gauss_newton_product(w, product, w, blocks), small.gauss_newton_product(w, root, w, blocks), atol=1e-14
        )
    np.testing.assert_allclose(smoothness(wide, w[0]), smoothness(small, w[0]), rtol=1e-10)
    np.testing.assert_allclose(wide.gauss_newton_trace(w, product), small.gauss_newton_trace(w, root), rtol=0.3)
    np.testing.assert_allclose(mean_curvature(wide, w, kappa), mean_curvature(small, w, kappa), rtol=0.3)


@pytest.mark.parametrize("solver", ["auto", "cg", "fista", "primal", "dual"])
def test_every_solver_finds_the_minimum_of_the_same_model(both, solver):
    outs = []
    for problem in both:
        s = state_at(problem)
        model = PartialLinearization(solver=solver, inner_iter=200).at(problem, s)
        out = np.empty_like(s.w)
        model.argmin(out)
        outs.append(out)
    np.testing.assert_allclose(outs[0], outs[1], atol=1e-5)


def test_automatic_solver_needs_no_root(no_room):
    for penalty, solver in ((L2(1e-3), "cg"), (L1(1e-3), "fista")):
        problem = many_classes(6, 40, penalty=penalty)
        assert choose(PartialLinearization().subproblem(problem, state_at(problem))) == solver


def test_small_problems_keep_their_roots():
    assert not many_classes(16, 9000).has_wide_root
    assert not many_classes(26, 100).has_wide_root
    assert many_classes(26, 1500).has_wide_root


def test_an_own_root_is_applied_a_few_rows_at_a_time():
    class Tempered(Softmax):
        def curvature_root(self, f, d):
            return 2 * super().curvature_root(f, d)

    rng = np.random.default_rng(0)
    f, u = rng.normal(size=(2, 700, 60))
    d = np.eye(60)[np.arange(700) % 60]
    assert Tempered.curvature_product is Loss.curvature_product
    np.testing.assert_allclose(
        Tempered().curvature_product(f, d, u), 4 * Softmax().curvature_product(f, d, u), atol=1e-13
    )


@pytest.mark.parametrize("surrogate", [FullLinearization(), PartialLinearization(), PartialLinearization(n_blocks=2)])
def test_an_iteration_takes_memory_linear_in_the_classes(surrogate):
    problem = many_classes(150, 1500)  # roots are 270 MB
    tracemalloc.start()
    try:
        s = state_at(problem)
        assert surrogate.scale(problem, s.w) > 0
        out = np.empty_like(s.w)
        surrogate.at(problem, s).argmin(out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(out).all()
    assert peak < 12 * problem.target.nbytes


@pytest.mark.parametrize("surrogate", [FullLinearization(), PartialLinearization()])
def test_a_fit_of_400_classes_learns_in_little_memory(surrogate):
    x, d = np.random.default_rng(0).normal(size=(400, 10)), np.eye(400)
    shards = [(np.tile(x[i::2], (2, 1)), np.tile(d[i::2], (2, 1))) for i in range(2)]  # roots are 1 GB
    problem = Problem(MLP([10, 8, 400]), Softmax(), L2(1e-6), shards)
    start = 0.1 * np.random.default_rng(1).normal(size=problem.n_params)
    tracemalloc.start()
    try:
        result = NEXT(surrogate).run(problem, Network(Topology.complete(2)), w0=start, max_iter=5, warn=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.value(result.w_bar) < problem.value(start)
    assert peak < 20 * problem.target.nbytes


def test_processes_and_threads_change_no_bit():
    wide, threaded = many_classes(150, 1500), many_classes(150, 1500, n_threads=3)
    w = weights_of(wide)
    kappa = np.ones(wide.n_local)
    products = [p.gauss_newton_product(w, curvature_at(p, None, w, kappa), w) for p in (wide, threaded)]
    np.testing.assert_array_equal(*products)
    np.testing.assert_array_equal(*(mean_curvature(p, w, kappa) for p in (wide, threaded)))


def test_weights_of_the_curvature_are_of_softmax_alone():
    rng = np.random.default_rng(0)
    f, u = rng.normal(size=(2, 5, 3))
    d = np.eye(3)[np.arange(5) % 3]
    p = Softmax().curvature_weights(f, d)
    np.testing.assert_allclose(p * (u - (p * u).sum(1, keepdims=True)), Softmax().curvature_product(f, d, u))
    for name in ("curvature_root", "curvature_product"):
        own = type("Own", (Softmax,), {name: getattr(Loss, name)})
        assert own.curvature_weights is Loss.curvature_weights
    assert SquaredError().curvature_weights(f, d) is None


def test_products_without_weights_and_with_them_agree(both):
    wide, _ = both
    w, kappa = weights_of(wide), np.array([2.0, 0.5, 3.0, 0.0])
    known, plain = (curvature_at(wide, None, w, kappa) for _ in range(2))
    plain.p = None
    assert plain.weights is None
    np.testing.assert_allclose(
        wide.gauss_newton_product(w, known, w), wide.gauss_newton_product(w, plain, w), atol=1e-14
    )
    assert not wide.gauss_newton_product(w, known, w)[3].any()
    with pytest.raises(ValueError, match="conjugate gradients in one call need the weights of Softmax"):
        wide.cg_solve(w, plain, w, w, 3, 0.0, np.empty_like(w))
