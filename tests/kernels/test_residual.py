"""Chains of residual layers: the twins, threads, tiles and arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_residual as twin
from dnnext.kernels.residual_formulas import RESIDUAL_ACTIVATIONS

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def make_case(seed, width, chains, steps, columns, dtype=np.float64, gap=1):
    rng = np.random.default_rng(seed)

    def real(*shape):
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    n_layers, apart = 4, steps + gap
    return {
        "u": real((chains - 1) * apart + steps + 1, width, columns),
        "layers": real(n_layers, width * (width + 1)),
        "direction": real(n_layers, width * (width + 1)),
        "layer": rng.integers(0, n_layers, (chains, steps)),
        "size": rng.choice([0.0, 0.25, 1.0], (chains, steps)),
        "apart": apart,
        "g": real((chains - 1) * apart + steps + 1, width, columns),
        "state": rng.integers(0, (chains - 1) * apart + steps + 1, (chains, steps)),
        "du": real((chains - 1) * apart + steps + 1, width, columns),
        "chains": (chains * steps, width, columns),
    }


def wide(value):
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def run(room, case, code, with_g=True, **threads):
    """Everything that the four kernels write, from copies of the case."""
    c = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.items()}
    shape = layer, size, apart = c["layer"], c["size"], c["apart"]
    g = c["g"] if with_g else None
    forward, phi = c["u"].copy(), np.zeros_like(c["u"])
    room.residual_forward(forward, c["layers"], *shape, code, g, phi, **threads)
    u, du = c["u"].copy(), c["du"]
    room.residual_tangent(u, du, c["layers"], c["direction"], *shape, code, **threads)
    adjoint, pushed = c["g"].copy(), np.empty(c["chains"], c["u"].dtype)
    room.residual_backward(
        adjoint,
        pushed,
        c["u"],
        c["layers"],
        layer,
        size,
        c["state"],
        apart,
        code,
        c["du"] if with_g else None,
        **threads,
    )
    grad = np.empty((len(pushed), c["layers"].shape[1]), c["u"].dtype)
    room.residual_gradient(grad, c["u"], pushed, c["state"].reshape(-1, 1), **threads)
    known, given = c["g"].copy(), np.empty_like(pushed)
    room.residual_backward(
        known, given, c["u"], c["layers"], layer, size, c["state"], apart, code, None, phi, **threads
    )
    return forward, u, du, adjoint, pushed, grad, phi, known, given


@given(
    seed=st.integers(0, 2**32 - 1), width=st.integers(1, 19), chains=st.integers(1, 3), steps=st.integers(1, 4),
    columns=st.sampled_from([0, 16, 48, 640]), dtype=st.sampled_from([np.float64, np.float32]),
    activation=st.sampled_from(sorted(RESIDUAL_ACTIVATIONS)), with_g=st.booleans(),
)  # fmt: skip
def test_kernels_are_their_twins(seed, width, chains, steps, columns, dtype, activation, with_g):
    case, code = make_case(seed, width, chains, steps, columns, dtype), RESIDUAL_ACTIVATIONS[activation]
    ours = run(kernels, case, code, with_g)
    theirs = run(twin, {name: wide(value) for name, value in case.items()}, code, with_g)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1, np.abs(other).max(initial=0))
        np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCE[dtype] * scale * (1 + columns / 100))


@pytest.mark.parametrize("width", [1, 8, 33, 300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_change_no_bit(width, dtype):
    case = make_case(3, width, 3, 3, 1040, dtype)
    one = run(kernels, case, kernels.ACTIVATIONS["tanh"], n_threads=1)
    for n_threads in (2, 3):
        for a, b in zip(one, run(kernels, case, kernels.ACTIVATIONS["tanh"], n_threads=n_threads), strict=True):
            np.testing.assert_array_equal(a, b)


def test_columns_and_chains_do_not_depend_on_each_other():
    case = make_case(4, 7, 3, 2, 480)
    whole = run(kernels, case, 1)[0]
    for s in range(3):
        rows = slice(s * case["apart"], s * case["apart"] + 3)
        part = case["u"][rows, :, 160:320].copy()
        g = case["g"][rows, :, 160:320].copy()
        kernels.residual_forward(part, case["layers"], case["layer"][s : s + 1], case["size"][s : s + 1], 3, 1, g)
        np.testing.assert_array_equal(part, whole[rows, :, 160:320])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer": np.full((2, 3), 4)}, "layer must lie in 0"),
        ({"layer": np.full((2, 3), -1)}, "layer must lie in 0"),
        ({"state": np.full((2, 3), 8)}, "state must lie in 0"),
        ({"apart": 3}, "apart must be more than the 3 steps"),
        ({"apart": 5}, "the chains must end within the 8 states"),
        ({"u": np.zeros((8, 2, 15)), "g": np.zeros((8, 2, 15))}, "multiple of 16 columns"),
        ({"size": np.zeros((2, 2))}, "size"),
        ({"layers": np.zeros((4, 5))}, "layers"),
        ({"code": 50}, "activation must be"),
    ],
)
def test_unfit_arguments_are_refused(change, sentence):
    case = make_case(5, 2, 2, 3, 16) | {"code": 1} | change
    with pytest.raises(ValueError, match=sentence):
        run(kernels, case, case["code"])


def test_shared_memory_is_refused():
    case = make_case(6, 2, 1, 1, 16)
    u = case["u"]
    with pytest.raises(ValueError, match="must not share memory"):
        kernels.residual_forward(u, case["layers"], case["layer"], case["size"], 2, 1, u)
    with pytest.raises(ValueError, match="must not share memory"):
        kernels.residual_backward(u, None, u, case["layers"], case["layer"], case["size"], case["state"], 2, 1)
