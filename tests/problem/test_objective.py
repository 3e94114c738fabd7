from itertools import pairwise

import numpy as np
import pytest

from dnnext.problem import (
    L1,
    L2,
    MLP,
    Huber,
    Logistic,
    Loss,
    Penalty,
    Problem,
    Softmax,
    SquaredError,
    SquaredHinge,
)
from dnnext.problem import objective as module

ACTIVATIONS = ["tanh", "logistic", "relu", "softplus", "identity", "square"]
LOSSES = [SquaredError(), Huber(delta=0.7), Logistic(), Softmax(), SquaredHinge()]


class LogCosh(Loss):
    """A loss without a kernel."""

    name = "log_cosh"

    def value(self, f, d):
        r = np.abs(f - d)
        return np.sum(r + np.log1p(np.exp(-2 * r)) - np.log(2), axis=1)

    def grad(self, f, d):
        return np.tanh(f - d)

    def curvature_root(self, f, d):
        return 1 / np.cosh(f - d)


def rows(loss, q, m, rng):
    """m rows (X, D, c) that fit the loss."""
    x, c = rng.normal(size=(m, 3)), rng.uniform(0.5, 2.0, m)
    if isinstance(loss, Softmax):
        return x, np.eye(q)[rng.integers(0, q, m)], c
    ones = rng.integers(0, 2, (m, q)).astype(float)
    if isinstance(loss, Logistic | SquaredHinge):
        return x, ones if isinstance(loss, Logistic) else 2 * ones - 1, c
    return x, rng.normal(size=(m, q)), c


def problem_of(loss, activation="tanh", hidden=(4,), q=2, sizes=(5, 0, 7, 1), seed=0, penalty=None, **options):
    rng = np.random.default_rng(seed)
    model = MLP([3, *hidden, q], activation=activation)
    shards = [rows(loss, q, m, rng) for m in sizes]
    return Problem(model, loss, L2(1e-2) if penalty is None else penalty, shards, **options)


def weights_of(problem, seed=1):
    """Different weights for every agent."""
    rng = np.random.default_rng(seed)
    return np.stack([problem.model.init(rng) + 0.1 for _ in range(problem.n_local)]).astype(problem.dtype)


def slope(function, h=1e-3):
    """4th-order central difference at 0."""
    return (8 * (function(h) - function(-h)) - function(2 * h) + function(-2 * h)) / (12 * h)


every_loss = pytest.mark.parametrize("loss", [*LOSSES, LogCosh()], ids=lambda loss: loss.name)


@every_loss
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_gradients_are_derivatives(loss, activation, hidden):
    problem = problem_of(loss, activation, hidden)
    w, rng = weights_of(problem), np.random.default_rng(2)
    # kinks of relu, Huber and the hinge: steps that small cross none of them here
    h = 1e-3 if activation != "relu" and not isinstance(loss, Huber | SquaredHinge) else 1e-5
    for _ in range(3):
        v = rng.normal(size=w.shape) / np.sqrt(w.shape[1])
        numeric = slope(lambda t: problem.local_values(w + t * v), h)  # noqa: B023
        exact = np.sum(problem.grad(w) * v, axis=1)
        np.testing.assert_allclose(exact, numeric, atol=1e-10 if h == 1e-3 else 1e-9, rtol=1e-7)
        numeric = slope(lambda t: problem.smooth_value_grad(w[0] + t * v[0])[0], h)  # noqa: B023
        assert problem.smooth_value_grad(w[0])[1] @ v[0] == pytest.approx(numeric, abs=1e-8, rel=1e-7)


@every_loss
def test_values_are_the_formula(loss):
    problem = problem_of(loss)
    w = weights_of(problem)
    n = problem.weight.sum()
    assert problem.n_total == pytest.approx(n)
    assert problem.scale == pytest.approx(1 / n)
    for i, value in enumerate(problem.local_values(w)):
        mine = slice(problem.offsets[i], problem.offsets[i + 1])
        f = problem.model.forward(w[i], problem.x[mine])
        np.testing.assert_allclose(problem.raw_output(w)[mine], f, rtol=1e-12)
        assert value == pytest.approx(np.sum(problem.weight[mine] * loss.value(f, problem.target[mine])) / n)
    values = problem.loss_grad(w, out := np.empty_like(w))
    np.testing.assert_allclose(values, problem.local_values(w), rtol=1e-14)
    np.testing.assert_array_equal(out, problem.grad(w))
    same = np.empty_like(w)
    assert problem.grad(w, out=same) is same


@every_loss
def test_the_whole_is_the_sum_of_its_agents_however_cut(loss):
    problem = problem_of(loss, sizes=(5, 0, 7, 1))
    pooled = Problem(problem.model, loss, L2(1e-2), [(problem.x, problem.target, problem.weight)])
    w = problem.model.init(0)
    value, grad = problem.smooth_value_grad(w)
    np.testing.assert_allclose(value, problem.local_values(w).sum(), rtol=1e-14)
    np.testing.assert_allclose(grad, problem.grad(w).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(value, pooled.smooth_value_grad(w)[0], rtol=1e-13)
    np.testing.assert_allclose(grad, pooled.grad(w)[0], rtol=1e-10, atol=1e-15)
    assert problem.value(w) == pytest.approx(value + 1e-2 / 2 * np.sum((w * problem.model.mask) ** 2), rel=1e-14)
    assert problem.value(w) == pytest.approx(pooled.value(w), rel=1e-13)


@every_loss
def test_one_row_stands_for_all_agents(loss):
    problem = problem_of(loss)
    w = problem.model.init(0)
    each = np.tile(w, (problem.n_local, 1))
    v, u = weights_of(problem, seed=5), np.random.default_rng(0).normal(size=problem.target.shape)
    root = problem.root(w)
    for one in (w, w[None]):
        np.testing.assert_array_equal(problem.local_values(one), problem.local_values(each))
        np.testing.assert_array_equal(problem.grad(one), problem.grad(each))
        np.testing.assert_array_equal(problem.raw_output(one), problem.raw_output(each))
        np.testing.assert_array_equal(problem.root(one), problem.root(each))
        np.testing.assert_array_equal(problem.jvp(one, v), problem.jvp(each, v))
        np.testing.assert_array_equal(problem.vjp(one, u), problem.vjp(each, u))
        np.testing.assert_array_equal(problem.gauss_newton(one, root), problem.gauss_newton(each, root))
        part = slice(2, 4)
        np.testing.assert_array_equal(
            problem.gauss_newton(one, root, agents=part), problem.gauss_newton(each, root, agents=part)
        )


@every_loss
def test_doubling_the_data_changes_nothing(loss):
    problem = problem_of(loss)
    parts = zip(problem.offsets[:-1], problem.offsets[1:], strict=True)
    shards = [(problem.x[a:b], problem.target[a:b], problem.weight[a:b]) for a, b in parts]
    twice = problem.with_shards([tuple(np.concatenate([part, part]) for part in shard) for shard in shards])
    heavy = problem.with_shards([(x, d, 2 * c) for x, d, c in shards])
    w = weights_of(problem)
    for other in (twice, heavy):
        np.testing.assert_allclose(other.grad(w), problem.grad(w), rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(other.local_values(w), problem.local_values(w), rtol=1e-13)
        assert other.value(w[0]) == pytest.approx(problem.value(w[0]), rel=1e-13)
        np.testing.assert_allclose(other.agent_weight, 2 * problem.agent_weight)


@every_loss
def test_sample_weights_equal_repetition_and_zero_equals_absence(loss):
    rng = np.random.default_rng(0)
    x, d, _ = rows(loss, 2, 6, rng)
    count = np.array([1, 2, 0, 3, 1, 0])
    repeated = np.repeat(np.arange(6), count)
    model = MLP([3, 4, 2])
    weighted = Problem(model, loss, L2(0.1), [(x, d, count), (x[:2], d[:2])])
    plain = Problem(model, loss, L2(0.1), [(x[repeated], d[repeated]), (x[:2], d[:2])])
    assert weighted.n_total == plain.n_total == 9
    np.testing.assert_array_equal(weighted.agent_weight, [7, 2])
    w = weights_of(plain)
    np.testing.assert_allclose(weighted.grad(w), plain.grad(w), rtol=1e-12, atol=1e-16)
    assert weighted.value(w[0]) == pytest.approx(plain.value(w[0]), rel=1e-13)
    a = [p.gauss_newton(w, p.root(w)) for p in (weighted, plain)]
    np.testing.assert_allclose(*a, rtol=1e-11, atol=1e-15)


@every_loss
def test_order_of_agents_permutes_the_rows(loss):
    rng = np.random.default_rng(0)
    shards, order = [rows(loss, 2, m, rng) for m in (4, 0, 6)], [2, 0, 1]
    model = MLP([3, 4, 2])
    straight = Problem(model, loss, None, shards)
    turned = Problem(model, loss, None, [shards[k] for k in order])
    w = weights_of(straight)
    np.testing.assert_array_equal(straight.grad(w)[order], turned.grad(w[order]))
    np.testing.assert_array_equal(straight.local_values(w)[order], turned.local_values(w[order]))


@every_loss
def test_relays_know_nothing(loss):
    problem = problem_of(loss, sizes=(0, 5, 0))
    w = weights_of(problem)
    root = problem.root(w)
    for zero in (problem.grad(w), problem.gauss_newton_product(w, root, w), problem.gauss_newton_diagonal(w, root)):
        assert not zero[[0, 2]].any()
        assert zero[1].any()
    assert not problem.gauss_newton(w, root, agents=slice(2, 3)).any()
    np.testing.assert_array_equal(problem.local_values(w)[[0, 2]], 0)
    np.testing.assert_array_equal(problem.agent_weight[[0, 2]], 0)


@every_loss
@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_curvature_is_root_squared_between_jacobians(loss, hidden):
    problem = problem_of(loss, hidden=hidden)
    p, w = problem.n_params, weights_of(problem)
    root = problem.root(w)
    full = root if root.ndim == 3 else root[:, :, None] * np.eye(root.shape[1])
    columns = [problem.jvp(w, np.tile(e, (problem.n_local, 1))) for e in np.eye(p)]
    j = np.stack(columns, axis=-1)  # (M, Q, P)
    h = 1e-4
    v = weights_of(problem, seed=7)
    numeric = slope(lambda t: problem.raw_output(w + t * v), h)
    np.testing.assert_allclose(problem.jvp(w, v), numeric, atol=1e-9)
    sj = np.einsum("mqr,mqp->mrp", full, j)
    cuts = np.array([0, p // 3, p // 2, p])
    for i in range(problem.n_local):
        mine = slice(problem.offsets[i], problem.offsets[i + 1])
        a = np.einsum("mrp,mrs->ps", sj[mine], sj[mine])
        one = problem.gauss_newton(w, root, agents=slice(i, i + 1))
        np.testing.assert_allclose(one.reshape(p, p), a, atol=1e-13)
        np.testing.assert_allclose(problem.gauss_newton_diagonal(w, root)[i], np.diag(a), atol=1e-13)
        np.testing.assert_allclose(problem.gauss_newton_product(w, root, v)[i], a @ v[i], atol=1e-12)
        packed = np.concatenate([a[lo:hi, lo:hi].ravel() for lo, hi in pairwise(cuts)])
        np.testing.assert_allclose(problem.gauss_newton(w, root, cuts)[i], packed, atol=1e-13)
        part = np.concatenate([a[lo:hi, lo:hi] @ v[i, lo:hi] for lo, hi in pairwise(cuts)])
        np.testing.assert_allclose(problem.gauss_newton_product(w, root, v, cuts)[i], part, atol=1e-12)
        u = np.random.default_rng(i).normal(size=problem.target.shape)
        np.testing.assert_allclose(problem.vjp(w, u)[i], np.einsum("mq,mqp->p", u[mine], j[mine]), atol=1e-12)


@pytest.mark.parametrize("kind", [SquaredError, Logistic, Softmax, SquaredHinge, Huber])
def test_a_python_loss_takes_the_same_way(kind):
    class Plain(kind):
        kernel = None

    with_kernel, without = problem_of(kind()), problem_of(Plain())
    w = weights_of(with_kernel)
    np.testing.assert_allclose(without.grad(w), with_kernel.grad(w), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(without.local_values(w), with_kernel.local_values(w), rtol=1e-13)
    assert without.value(w[0]) == pytest.approx(with_kernel.value(w[0]), rel=1e-13)


@every_loss
def test_single_precision_is_kept(loss):
    wide, problem = problem_of(loss), problem_of(loss, dtype="float32")
    w = weights_of(problem)
    root = problem.root(w)
    made = [problem.grad(w), problem.raw_output(w), root, problem.gauss_newton(w, root), problem.x, problem.weight]
    made += [problem.jvp(w, w), problem.vjp(w, problem.target), problem.smooth_value_grad(w[0])[1]]
    assert {array.dtype for array in made} == {np.dtype(np.float32)}
    assert problem.local_values(w).dtype == np.float64
    np.testing.assert_allclose(problem.grad(w), wide.grad(w), atol=1e-6)
    assert problem.value(w[0]) == pytest.approx(wide.value(w[0]), rel=1e-6)
    assert problem.penalty.l2.dtype == np.float32


@every_loss
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_threads_change_nothing(loss, dtype):
    one = problem_of(loss, dtype=dtype)
    w = weights_of(one)
    root = one.root(w)
    for n_threads in (2, 3):
        more = problem_of(loss, dtype=dtype, n_threads=n_threads)
        np.testing.assert_array_equal(more.grad(w), one.grad(w))
        np.testing.assert_array_equal(more.local_values(w), one.local_values(w))
        np.testing.assert_array_equal(more.root(w), root)
        np.testing.assert_array_equal(more.gauss_newton(w, root), one.gauss_newton(w, root))


def test_data_is_copied_and_may_be_read_only():
    x, d = np.ones((3, 3)), np.ones(3)
    x.flags.writeable = d.flags.writeable = False
    problem = Problem(MLP([3, 1]), SquaredError(), None, [(x, d)])
    assert not np.shares_memory(problem.x, x)
    assert problem.weight is None
    assert problem.target.shape == (3, 1)
    w = problem.model.init(0)
    w.flags.writeable = False
    assert problem.grad(w).shape == (1, 4)


def test_agent_groups_fit_the_budget(monkeypatch):
    problem = problem_of(SquaredError(), sizes=(2,) * 10, n_threads=3)
    assert problem.agent_groups(100) == [slice(0, 10)]
    assert problem.agent_groups(0) == [slice(0, 10)]
    four = module.MEMORY_BUDGET // (4 * 8)
    assert problem.agent_groups(four) == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]  # 4, but 3 threads
    assert problem.agent_groups(four // 2 - 1) == [slice(0, 6), slice(6, 10)]
    assert problem.agent_groups(10**12) == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]


def test_with_shards_keeps_everything_but_the_data():
    problem = problem_of(SquaredError(), penalty=L1(0.1), dtype="float32", n_threads=2)
    other = problem.with_shards([(np.ones((2, 3)), np.ones((2, 2)))] * 4, n_total=100)
    assert (other.model, other.loss, other.runtime) == (problem.model, problem.loss, problem.runtime)
    assert repr(other.penalty) == "L1(alpha=0.1)"
    assert (other.dtype, other.n_threads, other.n_total) == (problem.dtype, 2, 100)
    with pytest.raises(ValueError, match=r"one shard per agent held here \(4\), got 1"):
        problem.with_shards([(np.ones((2, 3)), np.ones((2, 2)))])


def test_a_penalty_of_ones_own_is_bound():
    class Ridge(Penalty):
        def value(self, w):
            return float(0.5 * np.sum((w * self.layout.mask) ** 2))

        def prox(self, v, s):
            return v / (1 + s[:, None] * self.layout.mask)

    own, built_in = problem_of(SquaredError(), penalty=Ridge()), problem_of(SquaredError(), penalty=L2(1.0))
    w = weights_of(own)
    assert own.value(w[0]) == pytest.approx(built_in.value(w[0]))
    np.testing.assert_allclose(own.penalty.prox(w, np.ones(4)), built_in.penalty.prox(w, np.ones(4)))


def test_no_penalty_by_none():
    problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [3.0])])
    assert problem.value(np.array([1.0, 1.0])) == 0.5
    assert "NoPenalty()" in repr(problem)


def test_a_wrong_curvature_root_is_refused():
    class Wrong(LogCosh):
        def curvature_root(self, f, d):
            return np.ones(len(f))

    problem = problem_of(Wrong())
    with pytest.raises(ValueError, match=r"curvature_root of Wrong\(\) must return \(13, 2\)"):
        problem.root(weights_of(problem))
