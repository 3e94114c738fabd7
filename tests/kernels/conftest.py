"""Random networks with data, and what it means for two results to agree."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dnnext import kernels

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread():
    """The kernels' contract: BLAS runs on the calling thread."""
    with threadpool_limits(1, user_api="blas"):
        yield


def make_network(seed, layers, rows, dtype=np.float64, shared_w=False, loss="squared_error", activation="tanh"):
    """Networks of len(rows) agents that hold rows[i] samples each, in float64 values that fit dtype exactly."""
    rng = np.random.default_rng(seed)

    def real(*shape):
        return (rng.standard_normal(shape) * 0.7).astype(dtype)

    offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    n, agents = int(offsets[-1]), len(rows)
    params = sum((n_in + 1) * n_out for n_in, n_out in pairwise(layers))
    outputs = layers[-1]
    target = {
        "logistic": lambda: rng.integers(0, 2, (n, outputs)),
        "softmax": lambda: np.eye(outputs)[rng.integers(0, outputs, n)],
        "squared_hinge": lambda: rng.choice([-1, 1], (n, outputs)),
    }.get(loss, lambda: real(n, outputs))()
    return SimpleNamespace(
        agents=agents, params=params, n=n, outputs=outputs, dtype=np.dtype(dtype), layers=tuple(layers),
        offsets=offsets, activation=kernels.ACTIVATIONS[activation], loss=kernels.LOSSES[loss],
        target=target.astype(dtype),
        w=real(1 if shared_w else agents, params), x=real(n, layers[0]), v=real(agents, params), u=real(n, outputs),
        weight=rng.random(n).astype(dtype), rng=rng, real=real,
    )  # fmt: skip


def assert_agree(ours, twin, tolerance=None):
    """Equal to a relative tolerance of the largest number in the twin's result."""
    tolerance = TOLERANCE[ours.dtype] if tolerance is None else tolerance
    twin = np.asarray(twin, np.float64)
    scale = np.max(np.abs(twin), initial=0.1)
    np.testing.assert_allclose(ours, twin, rtol=0, atol=tolerance * scale)


@pytest.fixture(scope="session")
def network():
    return make_network


@pytest.fixture(scope="session")
def agree():
    return assert_agree
