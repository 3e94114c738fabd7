"""Tangent models, frozen models and the tangent kernel: their derivatives, and training that equals a closed form."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import MLP, Chain, Conv2d, Dense, Flatten, Frozen, Linearised, NeuralTangentKernel, Rows
from dnnext.models.layout import Layout
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import L1, L2, GroupLasso, Huber, Logistic, Problem, Softmax, SquaredError
from dnnext.runs.state import State

MODELS = [*Linearised.examples(), *Frozen.examples()]


def rows_for(model, dtype=np.float64, seed=0):
    x = np.random.default_rng(seed).standard_normal((12, model.n_inputs)).astype(dtype)
    return Rows(x, np.array([0, 5, 5, 12]))


def weights_for(model, n=3, dtype=np.float64, seed=1):
    away = 0.3 * np.random.default_rng(seed).standard_normal((n, model.n_params))
    return (model.init(0) + away).astype(dtype)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("n", [1, 3])
def test_derivatives_are_those_of_forward(model, n):
    rows, w = rows_for(model), weights_for(model, n)
    rng = np.random.default_rng(2)
    v, u = rng.standard_normal((3, model.n_params)), rng.standard_normal((12, model.n_outputs))
    near = [model.forward(np.broadcast_to(w, v.shape) + h * v, rows) for h in (1e-6, -1e-6)]
    jv = model.jvp(w, rows, v)
    assert_allclose(jv, (near[0] - near[1]) / 2e-6, atol=1e-7)
    for i, (a, b) in enumerate(((0, 5), (5, 5), (5, 12))):
        assert np.sum(jv[a:b] * u[a:b]) == pytest.approx(model.vjp(w, rows, u)[i] @ v[i], abs=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("columns", [None, 3])
@pytest.mark.parametrize("cut", [False, True])
def test_curvature_is_that_of_the_jacobian(model, columns, cut):
    rows, w, rng = rows_for(model), weights_for(model), np.random.default_rng(3)
    p, q = model.n_params, model.n_outputs
    root = rng.standard_normal((12, q) if columns is None else (12, q, columns))
    blocks = np.array([0, p // 3, p]) if cut else np.array([0, p])
    if "gauss_newton" not in model.offers:
        assert model.parts == ("layer1.bias",)
        return
    sizes = np.diff(blocks)
    out = model.gauss_newton(w, rows, root, blocks, np.empty((3, int(np.sum(sizes**2)))))
    v = rng.standard_normal((3, p))
    image = model.gauss_newton_product(w, rows, root, v, blocks, np.empty((3, p)))
    full = root if root.ndim == 3 else root[:, :, None] * np.eye(q)
    singles = Rows(rows.x, np.arange(13))
    every = np.repeat(w, np.diff(rows.offsets), axis=0)
    j = np.stack([model.vjp(every, singles, np.eye(q)[[k] * 12]) for k in range(q)], axis=1)
    s = np.einsum("mqr,mqp->mrp", full, j)
    for i, (a, b) in enumerate(((0, 5), (5, 5), (5, 12))):
        k = s[a:b].reshape(-1, p)
        start = 0
        for lo, hi in pairwise(blocks):
            block = out[i, start : start + (hi - lo) ** 2].reshape(hi - lo, hi - lo)
            assert_allclose(block, k[:, lo:hi].T @ k[:, lo:hi], atol=1e-11)
            assert_allclose(image[i, lo:hi], block @ v[i, lo:hi], atol=1e-11)
            start += (hi - lo) ** 2


def test_a_tangent_touches_its_model_and_is_affine():
    base = MLP([3, 6, 2])
    w0 = base.init(0)
    model, rows = Linearised(base, w0), rows_for(base)
    assert_array_equal(model.forward(w0[None], rows), base.forward(w0[None], rows))
    v = np.random.default_rng(1).standard_normal((3, model.n_params))
    steps = [model.forward(w0 + t * v, rows) for t in (0.0, 1.0, 2.0)]
    assert_allclose(steps[2] - steps[1], steps[1] - steps[0], atol=1e-12)
    small = base.forward(w0 + 1e-5 * v, rows) - model.forward(w0 + 1e-5 * v, rows)
    assert np.max(np.abs(small)) < 1e-8
    single = model.forward(w0[None].astype(np.float32), rows_for(base, np.float32))
    assert single.dtype == np.float32


def test_frozen_parts_stay_and_the_others_move():
    base = MLP([3, 6, 4, 2])
    w0 = base.init(0)
    features = Frozen(base, w0)
    assert features.trained == ("layer3.weight", "layer3.bias")
    assert_array_equal(features.full(features.init()), w0)
    v = np.arange(10.0)
    full = features.full(v)
    assert_array_equal(full[-10:], v)
    assert_array_equal(full[:-10], w0[:-10])
    rows = rows_for(base)
    assert_array_equal(features.forward(v[None], rows), base.forward(full[None], rows))
    assert features.layout.groups.tolist() == [[0, 2], [2, 4], [4, 6], [6, 8]]
    assert isinstance(features.layout, Layout)
    biases = Frozen(base, w0, [f"layer{k}.bias" for k in (1, 2, 3)])
    assert biases.n_params == 3 * 6 + 6 * 4 + 4 * 2
    assert "gauss_newton" not in biases.offers


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m, w: Linearised(m, w[:-1]), r"w0 must be one finite row of weights \(17,\)"),
        (lambda m, w: Linearised(m, w + np.inf), "w0 must be one finite row"),
        (lambda m, w: Linearised(3, w), "model must be an object with"),
        (lambda m, w: Frozen(m, w, ["layer9.weight"]), "parts must be among layer1.weight, .*got layer9.weight"),
        (lambda m, w: Frozen(m, w, m.layout.unpack(w)), "parts must leave something"),
        (lambda m, w: Linearised(m, w).sized(5, 1), "n_inputs must be 3"),
        (lambda m, w: NeuralTangentKernel(m, w[:-1]), r"w0 must be one row of weights \(17,\)"),
        (lambda m, w: NeuralTangentKernel(m, w)(np.ones((2, 5))), r"X must have the shape \(rows, 3\)"),
        (lambda m, w: NeuralTangentKernel(m, w, 0), "n_threads must be a whole number"),
    ],
)
def test_unfit_arguments_are_refused(make, says):
    model = MLP([3, 2, 2, 1])
    assert model.n_params == 17
    with pytest.raises(ValueError, match=says):
        make(model, model.init(0))


def test_fingerprints_know_the_weights():
    base = MLP([3, 4, 2])
    first, again, other = (Linearised(base, base.init(seed)) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    frozen = Frozen(base, base.init(0))
    before = frozen.fingerprint()
    assert frozen.layout.n_params == 10
    assert frozen.fingerprint() == before


def explicit_jacobian(model, w, x):
    rows, q = Rows(x, np.arange(len(x) + 1)), model.n_outputs
    j = [model.vjp(w[None], rows, np.eye(q)[[k] * len(x)]) for k in range(q)]
    return np.stack(j, axis=1).reshape(len(x) * q, -1)


@given(
    seed=st.integers(0, 99), layers=st.lists(st.integers(1, 30), min_size=2, max_size=5), n=st.integers(1, 60),
    m=st.integers(1, 60),
)  # fmt: skip
def test_the_tangent_kernel_is_the_product_of_jacobians(seed, layers, n, m):
    model, rng = MLP(layers), np.random.default_rng(seed)
    w, x, y = model.init(seed), rng.standard_normal((n, layers[0])), rng.standard_normal((m, layers[0]))
    kernel, (j, k) = NeuralTangentKernel(model, w), (explicit_jacobian(model, w, a) for a in (x, y))
    for found, wanted in ((kernel(x, y), j @ k.T), (kernel(x), j @ j.T)):
        assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.max(np.abs(wanted)))
    assert_array_equal(kernel(x), kernel(x).T)


def test_the_tangent_kernel_of_any_model():
    model = Chain([Conv2d(2, 3, activation="tanh"), Flatten(), Dense(2)], (5, 5))
    w, x = model.init(0), np.random.default_rng(0).standard_normal((4, 1, 5, 5))
    k = NeuralTangentKernel(model, w)(x.reshape(4, 5, 5))
    assert k.shape == (8, 8)
    assert np.linalg.eigvalsh(k).min() > -1e-10
    mlp = MLP([3, 4, 2])
    chain = Chain([Dense(4, "tanh"), Dense(2)], 3)
    x = np.random.default_rng(1).standard_normal((6, 3))
    pair = [NeuralTangentKernel(m, mlp.init(0))(x) for m in (mlp, chain)]
    assert_allclose(pair[0], pair[1], rtol=1e-12, atol=1e-12)


def data(n_agents=4, rows=12, q=2, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((rows, 3)), rng.standard_normal((rows, q))) for _ in range(n_agents)]


def pooled_ridge(model, shards, alpha):
    """argmin (1/N) sum 1/2 |f_lin - d|^2 + alpha/2 |weights|^2 on explicit tangent features."""
    x, d = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    start = model.init(0)
    j = explicit_jacobian(model, start, x)
    offset = model.forward(start[None], Rows(x, np.array([0, len(x)]))).ravel() - j @ start
    n = len(x)
    curvature = j.T @ j / n + alpha * np.diag(model.layout.mask)
    return np.linalg.lstsq(curvature, j.T @ (d.ravel() - offset) / n, rcond=None)[0], j, offset


NETWORKS = {
    "ring": lambda: Network(Topology.ring(4)),
    "failing links": lambda: Network(Schedule.link_failures(Topology.ring(4), 0.3, 0)),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", [Linearised, Frozen])
def test_decentralised_training_is_the_pooled_closed_form(network, kind):
    base = MLP([3, 5, 2])
    model, shards, alpha = kind(base, base.init(3)), data(), 1e-2
    best, j, offset = pooled_ridge(model, shards, alpha)
    penalty = L2(alpha)
    problem = Problem(model, SquaredError(), penalty, shards)
    result = NEXT(PartialLinearization(exact=True)).run(problem, NETWORKS[network](), max_iter=600, tol=0, warn=False)
    for w in (result.w_bar, *result.w):
        assert_allclose(j @ w, j @ best, rtol=0, atol=1e-8 * np.max(np.abs(j @ best + offset)))
    assert problem.value(result.w_bar) - problem.value(best) < 1e-12


def test_threads_and_ranks_change_no_bit(lockstep):
    base = MLP([3, 5, 2])
    model, shards = Linearised(base, base.init(3)), data()

    def program(runtime, n_threads=1):
        problem = Problem(
            model, SquaredError(), L2(1e-2), [shards[i] for i in runtime.agents], runtime=runtime, n_threads=n_threads
        )
        result = NEXT().run(problem, Network(Topology.ring(4), runtime=runtime), max_iter=20, warn=False)
        return result.w_bar

    problem = Problem(model, SquaredError(), L2(1e-2), shards)
    alone = NEXT().run(problem, Network(Topology.ring(4)), max_iter=20, warn=False).w_bar
    for w_bar in lockstep(4, 3, program):
        assert_array_equal(w_bar, alone)


@pytest.mark.parametrize("kind", [Linearised, Frozen])
@pytest.mark.parametrize("loss", [SquaredError(), Huber(), Logistic(), Softmax()])
@pytest.mark.parametrize("penalty", [L2(1e-2), L1(1e-2), GroupLasso(1e-2)])
@pytest.mark.parametrize("surrogate", [PartialLinearization(), PartialLinearization(n_blocks=2), FullLinearization()])
def test_every_loss_penalty_and_surrogate_lowers_the_objective(kind, loss, penalty, surrogate):
    base = MLP([3, 5, 2])
    rng = np.random.default_rng(5)
    targets = {Logistic: rng.integers(0, 2, (24, 2)) * 1.0, Softmax: np.eye(2)[rng.integers(0, 2, 24)]}
    d = targets.get(type(loss), rng.standard_normal((24, 2)))
    x = rng.standard_normal((24, 3))
    problem = Problem(kind(base, base.init(0)), loss, penalty, [(x[k::3], d[k::3]) for k in range(3)])
    result = NEXT(surrogate).run(problem, Network(Topology.ring(3)), max_iter=25, warn=False)
    assert problem.value(result.w_bar) < result.history["objective"][0]


def test_one_exact_step_from_the_start_is_tangent_training():
    base = MLP([3, 5, 2])
    w0, shards = base.init(3), data(1, 40)
    tangent = Linearised(base, w0)
    best, j, offset = pooled_ridge(tangent, shards, 1e-3)
    for model in (tangent, base):
        problem = Problem(model, SquaredError(), L2(1e-3), shards)
        state = State.at(problem, w0[None].copy())
        state.tau[:] = 1e-11
        PartialLinearization(exact=True).at(problem, state).argmin(state.w_hat)
        assert_allclose(j @ state.w_hat[0], j @ best, rtol=0, atol=1e-6 * np.max(np.abs(j @ best + offset)))


def test_frozen_training_is_random_feature_ridge():
    base = MLP([3, 6, 1])
    w0, ((x, d),) = base.init(1), data(1, 30, 1)
    (w1, b1), _ = base.unpack(w0)
    features = np.column_stack([np.tanh(x @ w1 + b1), np.ones(len(x))])
    ridge = np.diag([1e-2] * 6 + [0.0])
    best = np.linalg.solve(features.T @ features / len(x) + ridge, features.T @ d.ravel() / len(x))
    problem = Problem(Frozen(base, w0), SquaredError(), L2(1e-2), [(x, d)])
    result = NEXT().run(problem, Network(Topology.complete(1)), max_iter=200, tol=0, warn=False)
    assert_allclose(result.w_bar, best, atol=1e-8)
