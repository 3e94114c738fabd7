"""Activations and losses against extended precision; special values; large arguments."""

import numpy as np
import pytest

from dnnext import kernels

DTYPES = [np.float64, np.float32]
WIDE = np.longdouble
EXTENDED = pytest.mark.skipif(np.finfo(WIDE).nmant < 63, reason="no extended precision on this platform")


def phi(name, z):
    """Activation through a network without arithmetic of its own: one hidden unit, weights 1, biases 0."""
    z = np.ascontiguousarray(z).reshape(-1, 1)
    out = np.empty_like(z)
    w = np.array([[1, 0, 1, 0]], z.dtype)
    kernels.mlp_forward(out, w, z, np.array([0, len(z)]), (1, 1, 1), kernels.ACTIVATIONS[name])
    return out[:, 0]


def slope(name, z):
    """phi'(z), the derivative of the same network in its hidden bias."""
    z = np.ascontiguousarray(z).reshape(-1, 1)
    out = np.empty_like(z)
    w = np.array([[1, 0, 1, 0]], z.dtype)
    v = np.array([[0, 1, 0, 0]], z.dtype)
    kernels.mlp_jv(out, w, z, v, np.array([0, len(z)]), (1, 1, 1), kernels.ACTIVATIONS[name])
    return out[:, 0]


def sample(dtype):
    """Arguments of every size, signs both."""
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(-30, np.log10(80), 20000)
    plain = rng.uniform(-25, 25, 20000)
    return np.concatenate([sizes, -sizes, plain]).astype(dtype)


TRUTH = {
    "tanh": np.tanh,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
    "square": lambda z: z * z,
}
ULPS = {"tanh": 3, "logistic": 3, "softplus": 3, "relu": 0, "identity": 0, "square": 0}


@EXTENDED
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(TRUTH))
def test_activation_accuracy(name, dtype):
    z = sample(dtype)
    truth = TRUTH[name](z.astype(WIDE))
    error = np.abs(phi(name, z).astype(WIDE) - truth) / np.spacing(np.abs(truth).astype(dtype))
    assert np.max(error) <= ULPS[name] + 0.5


@EXTENDED
def test_float_tanh_over_its_whole_range():
    """2.5 ulp at most, 1.9 with AVX-512, whose 32 pieces meet at odd multiples of 147 / 1024; 1 from 9.02 on."""
    joints = (np.arange(1, 64, 2) * np.float32(147 / 1024)).astype(np.float32)
    near = [np.nextafter(joints, np.float32(end)) for end in (-np.inf, np.inf)]
    z = np.concatenate([np.linspace(0, 9.5, 200_001).astype(np.float32), joints, *near])
    value, truth = phi("tanh", z), np.tanh(z.astype(WIDE))
    error = np.abs(value.astype(WIDE) - truth) / np.spacing(np.nextafter(truth.astype(np.float32), np.float32(0)))
    assert np.max(error) <= (1.9 if kernels.info()["cpu_path"] == "x86-64-v4" else 2.5)
    far = np.array([9.02, 9.03, 9.05, 10, 88, 1e30, np.inf], np.float32)
    np.testing.assert_array_equal(phi("tanh", np.concatenate([far, -far])), np.repeat(np.float32([1, -1]), 7))


@EXTENDED
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(TRUTH))
def test_slope_accuracy(name, dtype):
    z = sample(dtype)
    wide = z.astype(WIDE)
    truth = {
        "tanh": lambda: 1 - np.tanh(wide) ** 2,
        "logistic": lambda: TRUTH["logistic"](wide) * TRUTH["logistic"](-wide),
        "softplus": lambda: TRUTH["logistic"](wide),
        "relu": lambda: (wide > 0) * WIDE(1),
        "identity": lambda: np.ones_like(wide),
        "square": lambda: 2 * wide,
    }[name]()
    # the slope is written with phi(z), so that it is exact to the scale of one, not to its own
    assert np.max(np.abs(slope(name, z) - truth)) <= 8 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    z = np.array([0.0, -0.0, np.inf, -np.inf, tiny, -tiny, huge, -huge, 1e3, -1e3], dtype)
    want = {
        "tanh": [0, 0, 1, -1, tiny, -tiny, 1, -1, 1, -1],
        "logistic": [0.5, 0.5, 1, 0, 0.5, 0.5, 1, 0, 1, 0],
        "softplus": [np.log(2), np.log(2), np.inf, 0, np.log(2), np.log(2), huge, 0, 1e3, 0],
        "relu": [0, 0, np.inf, 0, tiny, 0, huge, 0, 1e3, 0],
    }
    for name, truth in want.items():
        for k in range(len(z)):  # one at a time and all together: vector body and remainder
            np.testing.assert_allclose(
                phi(name, z[k : k + 1])[0], np.array(truth[k], dtype), rtol=4 * np.finfo(dtype).eps
            )
        np.testing.assert_allclose(phi(name, np.tile(z, 5)), np.tile(np.array(truth, dtype), 5), rtol=1e-6)
        assert np.all(np.isfinite(slope(name, z[np.isfinite(z)])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(TRUTH))
def test_nan_stays(name, dtype):
    z = np.full(37, 0.5, dtype)
    z[[0, 20, 36]] = np.nan
    np.testing.assert_array_equal(np.isnan(phi(name, z)), np.isnan(z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_of_far_negative_outputs_is_zero(dtype):
    f = np.array([[0, -60], [0, -80], [0, -1e3], [1e3, 0], [-1e3, 1e3]], dtype)
    target = np.array([[1, 0]] * 5, dtype)
    value, delta = np.empty(5), np.empty_like(f)
    kernels.loss_value_grad(value, delta, f, target, kernels.LOSSES["softmax"], 0.0)
    np.testing.assert_allclose(value, [np.exp(-60), np.exp(-80), 0, 0, 2e3], atol=1e-20)
    np.testing.assert_allclose(delta[4], [-1, 1])
    np.testing.assert_allclose(delta[:2, 1], np.exp([-60.0, -80.0]), rtol=1e-5)


@EXTENDED
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", sorted(kernels.LOSSES))
def test_losses_are_stable(loss, dtype):
    """Value and derivative at raw outputs up to 1e3 either way, against extended precision."""
    rng = np.random.default_rng(0)
    f = np.concatenate([rng.uniform(-1e3, 1e3, (500, 3)), rng.standard_normal((500, 3))]).astype(dtype)
    target = {
        "logistic": rng.integers(0, 2, (1000, 3)),
        "softmax": np.eye(3)[rng.integers(0, 3, 1000)],
        "squared_hinge": rng.choice([-1, 1], (1000, 3)),
    }.get(loss, rng.standard_normal((1000, 3)))
    target, wide = target.astype(dtype), f.astype(WIDE)
    t, huber = target.astype(WIDE), WIDE(1.25)
    r = wide - t
    soft = np.logaddexp(0, wide)
    cut = np.clip(r, -huber, huber)
    total = np.log(np.sum(np.exp(wide - wide.max(axis=1, keepdims=True)), axis=1)) + wide.max(axis=1)
    gap = np.maximum(0, 1 - t * wide)
    want, slope_ = {
        "squared_error": (0.5 * np.sum(r**2, axis=1), r),
        "huber": (np.sum(np.abs(cut) * (np.abs(r) - np.abs(cut) / 2), axis=1), cut),
        "logistic": (np.sum(soft - t * wide, axis=1), TRUTH["logistic"](wide) - t),
        "softmax": (total - np.sum(t * wide, axis=1), np.exp(wide - total[:, None]) - t),
        "squared_hinge": (0.5 * np.sum(gap**2, axis=1), -t * gap),
    }[loss]
    value, delta = np.empty(1000), np.empty_like(f)
    kernels.loss_value_grad(value, delta, f, target, kernels.LOSSES[loss], 1.25)
    eps = np.finfo(dtype).eps
    size = 1 + np.max(np.abs(wide), axis=1)
    assert np.all(np.abs(value - want) <= 8 * eps * np.maximum(size, np.abs(want)))
    np.testing.assert_allclose(delta, slope_.astype(float), rtol=8 * eps, atol=8 * eps)


LOWEST = {np.float64: -708.3964185322641, np.float32: -87.33654}


def logistic_loss(f):
    """Value softplus(f) and derivative logistic(f) of the logistic loss with target 0."""
    value, delta = np.empty(len(f)), np.empty((len(f), 1), f.dtype)
    kernels.loss_value_grad(value, delta, f[:, None], np.zeros_like(delta), kernels.LOSSES["logistic"], 0.0)
    return value, delta[:, 0]


@EXTENDED
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_core_over_its_whole_range(dtype):
    """For f << 0 the logistic function is exp: every power of two down to the smallest normal number."""
    f = np.linspace(LOWEST[dtype] * (1 - 1e-6), 40, 100_001).astype(dtype)
    wide, (value, delta) = f.astype(WIDE), logistic_loss(f)
    for ours, truth in ((delta, 1 / (1 + np.exp(-wide))), (value, TRUTH["softplus"](wide))):
        error = np.abs(ours.astype(WIDE) - truth) / np.spacing(np.abs(truth).astype(dtype))
        assert np.max(error) <= 3.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_zero_where_it_would_be_subnormal(dtype):
    below = np.array([LOWEST[dtype] * (1 + 1e-5), 2 * LOWEST[dtype], -np.finfo(dtype).max], dtype)
    value, delta = logistic_loss(below)
    assert not value.any()
    assert not delta.any()
    assert logistic_loss(np.array([-np.inf], dtype))[1] == 0
    assert np.isnan(logistic_loss(np.array([np.nan], dtype))[1])
    assert logistic_loss(np.array([np.finfo(dtype).max], dtype)) == (np.finfo(dtype).max, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormals_pass_through_tanh_and_nothing_flushes_them(dtype):
    info = np.finfo(dtype)
    z = (info.tiny * np.random.default_rng(0).uniform(-1, 1, 1001)).astype(dtype)
    assert np.count_nonzero(np.abs(z) < info.tiny) > 900
    np.testing.assert_array_equal(phi("tanh", z), z)
    np.testing.assert_array_equal(phi("relu", z), np.maximum(z, 0))
    np.testing.assert_array_equal(slope("tanh", z), 1)
    assert info.smallest_subnormal * dtype(2) > info.smallest_subnormal


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetries_hold_to_the_bit(dtype):
    z = sample(dtype)
    np.testing.assert_array_equal(phi("tanh", -z), -phi("tanh", z))
    assert np.max(np.abs(phi("tanh", z))) <= 1
    s = phi("logistic", z)
    assert np.min(s) >= 0
    assert np.max(s) <= 1
    np.testing.assert_allclose(s + phi("logistic", -z), 1, rtol=0, atol=2 * np.finfo(dtype).eps)
