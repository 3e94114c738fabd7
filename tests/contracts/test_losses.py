"""Properties of every loss in dnnext.problem.losses.__all__; a new loss brings its tests by standing there."""

import inspect
import pickle

import numpy as np
import pytest

from dnnext import kernels
from dnnext.problem import MLP, losses
from dnnext.problem.losses import Huber, Logistic, Loss, Softmax, SquaredError, SquaredHinge


class LogCosh(Loss):
    """A loss as a user writes it, in Python alone."""

    name = "log_cosh"

    def value(self, f, d):
        r = np.abs(f - d)
        return np.sum(r + np.log1p(np.exp(-2 * r)) - np.log(2), axis=1, dtype=np.float64)

    def grad(self, f, d):
        return np.tanh(f - d)

    def curvature_root(self, f, d):
        return 1 / np.cosh(np.clip(f - d, -80, 80))


def is_kind(thing):
    return inspect.isclass(thing) and issubclass(thing, Loss) and not inspect.isabstract(thing)


KINDS = [kind for kind in (getattr(losses, name) for name in losses.__all__) if is_kind(kind)]
# What every loss must do, with every number of outputs that it takes; what those with a kernel promise besides.
CONTRACT = [
    (loss, q)
    for kind in (*KINDS, LogCosh)
    for loss in kind.examples()
    for q in (1, 3, loss.n_outputs)
    if q is not None and loss.example_targets(4, q) is not None
]
TERMS = [(loss, q) for loss, q in CONTRACT if loss.kernel is not None]
contract = pytest.mark.parametrize(("loss", "q"), CONTRACT, ids=[f"{loss!r}-{q}" for loss, q in CONTRACT])
terms = pytest.mark.parametrize(("loss", "q"), TERMS, ids=[f"{loss!r}-{q}" for loss, q in TERMS])
both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def sample(loss, q, m=200, spread=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=spread, size=(m, q)), loss.example_targets(m, q, rng)


def squared(root):
    """S S' of a diagonal or full root, (M, Q, Q)."""
    full = root if root.ndim == 3 else root[:, :, None] * np.eye(root.shape[1])
    return full @ full.swapaxes(1, 2)


def derivative(function, f, q, h=1e-3):
    """4th-order central difference of a function of f in column q."""
    step = np.zeros(f.shape[1])
    step[q] = h
    near, far = function(f + step) - function(f - step), function(f + 2 * step) - function(f - 2 * step)
    return (8 * near - far) / (12 * h)


def smooth(loss, f, d, q, h=1e-3):
    """Rows where the curvature does not jump within the reach of the finite difference."""
    step = np.zeros(f.shape[1])
    step[q] = 2 * h
    above, below = (squared(loss.curvature_root(f + s, d)) for s in (step, -step))
    return np.abs(above - below).max(axis=(1, 2)) < 0.1 * np.maximum(1, above.max(axis=(1, 2)))


@contract
def test_gradient_is_the_derivative(loss, q):
    f, d = sample(loss, q)
    for k in range(q):
        ok = smooth(loss, f, d, k)
        assert ok.mean() > 0.9
        slope = derivative(lambda f: loss.value(f, d), f, k)
        np.testing.assert_allclose(loss.grad(f, d)[ok, k], slope[ok], atol=2e-10, rtol=1e-9)


@contract
def test_root_squared_is_the_second_derivative(loss, q):
    f, d = sample(loss, q)
    curvature = squared(loss.curvature_root(f, d))
    for k in range(q):
        ok = smooth(loss, f, d, k)
        slope = derivative(lambda f: loss.grad(f, d), f, k)
        np.testing.assert_allclose(curvature[ok, :, k], slope[ok], atol=2e-10, rtol=1e-9)


@contract
@both
def test_product_is_the_root_applied_twice(loss, q, dtype):
    f, d = (array.astype(dtype) for array in sample(loss, q))
    u = np.random.default_rng(3).normal(size=f.shape).astype(dtype)
    product = loss.curvature_product(f, d, u)
    wanted = np.einsum("mqr,mr->mq", squared(loss.curvature_root(f, d).astype(float)), u)
    assert product.dtype == dtype
    np.testing.assert_allclose(product, wanted, atol=20 * np.finfo(dtype).eps, rtol=50 * np.finfo(dtype).eps)


@contract
@both
def test_precision_of_the_outputs_is_kept(loss, q, dtype):
    f, d = (array.astype(dtype) for array in sample(loss, q))
    value, grad, root = loss.value(f, d), loss.grad(f, d), loss.curvature_root(f, d)
    assert value.dtype == np.float64
    assert grad.dtype == root.dtype == dtype
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()
    assert np.isfinite(root).all()
    assert root.shape in {(200, q), (200, q, root.shape[-1])}


@contract
def test_fingerprint_tells_losses_apart_and_survives_pickling(loss, q):
    assert pickle.loads(pickle.dumps(loss)).fingerprint() == loss.fingerprint()
    assert sum(other.fingerprint() == loss.fingerprint() for other, n in CONTRACT if n == q) == 1


@terms
@both
def test_stable_at_huge_outputs(loss, q, dtype):
    f = np.array(np.meshgrid(*[[-1e3, -30.0, 0.0, 30.0, 1e3]] * q)).reshape(q, -1).T.astype(dtype)
    d = loss.example_targets(len(f), q).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        value, grad, root = loss.value(f, d), loss.grad(f, d), loss.curvature_root(f, d)
    assert np.isfinite(value).all()
    assert (value >= 0).all()
    assert np.isfinite(grad).all()
    assert np.isfinite(root).all()
    assert value.dtype == np.float64
    assert grad.dtype == root.dtype == dtype
    if loss.kernel is not None:  # a loss in Python may grow faster than its outputs
        assert np.abs(grad).max() <= 1.1e3
    exact = loss.grad(f.astype(np.float64), d.astype(np.float64))
    np.testing.assert_allclose(grad, exact, atol=1e-6, rtol=1e-6)


@contract
def test_convex_in_the_raw_output(loss, q):
    a, d = sample(loss, q, spread=5.0)
    b, _ = sample(loss, q, spread=5.0, seed=1)
    gap = loss.value(b, d) - loss.value(a, d) - np.sum(loss.grad(a, d) * (b - a), axis=1)
    assert gap.min() >= -1e-12 * np.abs(loss.value(a, d)).max()
    for t in (0.25, 0.5, 0.75):
        between = t * loss.value(a, d) + (1 - t) * loss.value(b, d)
        assert (loss.value(t * a + (1 - t) * b, d) <= between + 1e-12 * np.abs(between)).all()


@terms
@both
def test_kernel_computes_the_same(loss, q, dtype):
    f, d = (array.astype(dtype) for array in sample(loss, q, m=50))
    f[0], f[1] = 1e3, -1e3
    model, offsets = MLP([1, q]), np.arange(51)
    w = np.zeros((50, model.n_params), dtype)
    w[:, model.bias_slices[0]] = f
    value, grad = np.empty(50), np.empty_like(w)
    kernels.mlp_loss_grad(
        value, grad, w, np.zeros((50, 1), dtype), d, None, offsets, model.layers, model.activation_code, loss.kernel,
        loss.param, 1.0,
    )  # fmt: skip
    eps = np.finfo(dtype).eps
    reach = np.maximum(1, np.abs(f).max(axis=1))  # log-sum-exp cannot be closer than the last digit of f
    assert (np.abs(value - loss.value(f, d)) <= 50 * eps * np.maximum(reach, loss.value(f, d))).all()
    np.testing.assert_allclose(grad[:, model.bias_slices[0]], loss.grad(f, d), rtol=50 * eps, atol=50 * eps)


@contract
def test_rows_are_independent_and_may_be_absent(loss, q):
    f, d = sample(loss, q, m=7)
    for function in (loss.value, loss.grad, loss.curvature_root):
        whole = function(f, d)
        np.testing.assert_array_equal(function(f[2:5], d[2:5]), whole[2:5])
        assert function(f[:0], d[:0]).shape == (0, *whole.shape[1:])
    assert loss.value(f, d).shape == (7,)
    assert loss.grad(f, d).shape == (7, q)


@contract
def test_is_quadratic_is_true_to_the_curvature(loss, q):
    f, d = sample(loss, q)
    constant = np.array_equal(loss.curvature_root(f, d), loss.curvature_root(f + 5, d))
    assert constant or not loss.is_quadratic
    assert constant == loss.is_quadratic or loss.kernel is None


@contract
def test_refuses_foreign_targets(loss, q):
    d = loss.example_targets(4, q)
    assert loss.check_target(d) is None
    if isinstance(loss, Logistic | Softmax | SquaredHinge):
        assert f"the {loss.name} loss takes" in loss.check_target(d + 0.5)


def test_conventions_pinned():
    two = np.array([[3.0, 1.0]])
    assert SquaredError().value(two, np.array([[1.0, 0.0]]))[0] == 2.5  # 1/2 (2^2 + 1^2)
    assert Huber(delta=1.0).value(two, np.zeros((1, 2)))[0] == 2.5 + 0.5  # 1 (3 - 1/2) + 1^2 / 2
    assert Logistic().value(np.zeros((1, 1)), np.ones((1, 1)))[0] == np.log(2)
    assert Softmax().value(np.zeros((1, 4)), np.eye(4)[:1])[0] == pytest.approx(np.log(4))
    assert SquaredHinge().value(np.array([[-1.0]]), np.array([[1.0]]))[0] == 2.0  # 1/2 (1 + 1)^2
    assert SquaredHinge().value(np.array([[0.0, 0.0]]), np.array([[1.0, -1.0]]))[0] == 1.0  # one versus all: added


def test_softmax_of_two_classes_is_logistic():
    f = np.random.default_rng(0).normal(size=(20, 2))
    d = np.eye(2)[np.arange(20) % 2]
    np.testing.assert_allclose(Softmax().value(f, d), Logistic().value(f[:, 1:] - f[:, :1], d[:, 1:]))


@pytest.mark.parametrize("delta", [0, -1.0, np.nan, np.inf, "1", None, True])
def test_huber_refuses_a_delta_that_is_not_positive(delta):
    with pytest.raises(ValueError, match=r"delta of the Huber loss must be .* got"):
        Huber(delta=delta)


def test_a_changed_subclass_loses_the_kernel_of_its_parent():
    class Halved(SquaredError):
        def value(self, f, d):
            return 0.5 * super().value(f, d)

    assert Halved().kernel is None
    assert not Halved().is_quadratic
    assert SquaredError().kernel is not None
