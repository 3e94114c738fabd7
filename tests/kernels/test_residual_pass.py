"""A whole residual network in one pass: the twins, threads, panels and arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_residual as twin
from dnnext.kernels.residual_formulas import RESIDUAL_ACTIVATIONS

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
TRAINED, FIXED, PADDING = range(3)


def make_case(seed, width, n_layers, rows, inputs, outputs, opening, dtype=np.float64):
    """(weights, K of a fixed opening, x, target, sample weights, derivatives), and the sizes."""
    rng = np.random.default_rng(seed)
    n_params = n_layers * width * (width + 1) + (width + 1) * outputs
    n_params += (inputs + 1) * width if opening == TRAINED else 0
    arrays = [
        rng.standard_normal(n_params) / np.sqrt(width), rng.standard_normal((inputs, width)),
        rng.standard_normal((rows, inputs)), rng.standard_normal((rows, outputs)), rng.random(rows),
    ]  # fmt: skip
    return [a.astype(dtype) for a in arrays], (width, n_layers, 0.5, opening)


def run(module, arrays, sizes, code, loss=0, weighted=True, **threads):
    """Outputs, value and gradient."""
    w, fixed, x, target, weight = arrays
    fixed, weight = fixed if sizes[3] == FIXED else None, weight if weighted else None
    out, value, grad = np.empty_like(target), np.empty(1), np.empty_like(w)
    module.residual_outputs(out, w, fixed, x, *sizes, code, **threads)
    module.residual_loss_grad(
        value, grad, w, fixed, x, target, weight, *sizes, code, loss, 0.0, 0.25, **threads
    )  # fmt: skip
    return out, value, grad


@given(
    seed=st.integers(0, 2**32 - 1), width=st.sampled_from([1, 3, 8, 16, 19, 40, 130]), n_layers=st.integers(1, 4),
    rows=st.sampled_from([0, 1, 7, 24, 50, 100, 221]), inputs=st.integers(1, 9), outputs=st.integers(1, 4),
    opening=st.integers(0, 2), dtype=st.sampled_from([np.float64, np.float32]), weighted=st.booleans(),
    activation=st.sampled_from(sorted(RESIDUAL_ACTIVATIONS)), loss=st.sampled_from([-1, 0]),
)  # fmt: skip
def test_the_pass_is_its_twin(seed, width, n_layers, rows, inputs, outputs, opening, dtype, weighted, activation, loss):
    inputs = min(inputs, width) if opening == PADDING else inputs
    arrays, sizes = make_case(seed, width, n_layers, rows, inputs, outputs, opening, dtype)
    code = RESIDUAL_ACTIVATIONS[activation]
    ours = run(kernels, arrays, sizes, code, loss, weighted)
    theirs = run(twin, [a.astype(np.float64) for a in arrays], sizes, code, loss, weighted)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1, np.abs(other).max(initial=0))
        np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCE[dtype] * scale * (1 + rows / 100))


@pytest.mark.parametrize("width", [1, 8, 33, 150])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_change_no_bit(width, dtype):
    arrays, sizes = make_case(3, width, 40 if width < 30 else 3, 1100, 5, 2, TRAINED, dtype)
    one = run(kernels, arrays, sizes, 1, n_threads=1)
    for n_threads in (2, 3):
        for a, b in zip(one, run(kernels, arrays, sizes, 1, n_threads=n_threads), strict=True):
            np.testing.assert_array_equal(a, b)


def test_outputs_of_a_row_do_not_depend_on_the_others():
    arrays, sizes = make_case(4, 9, 3, 200, 4, 3, TRAINED)
    whole = run(kernels, arrays, sizes, 1)[0]
    cut = [arrays[0], arrays[1], *(np.ascontiguousarray(a[60:131]) for a in arrays[2:])]
    np.testing.assert_array_equal(run(kernels, cut, sizes, 1)[0], whole[60:131])


def test_gradient_of_a_thousand_layers():
    """States are made again on the way back; their rounding must not grow with depth."""
    arrays, sizes = make_case(5, 4, 1000, 30, 2, 2, PADDING)
    sizes = (4, 1000, 0.005, PADDING)
    for mine, other in zip(run(kernels, arrays, sizes, 1), run(twin, arrays, sizes, 1), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12 * np.abs(other).max())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("opening", [TRAINED, PADDING])
@pytest.mark.parametrize("activation", ["relu", "softplus", "identity", "tanh"])
def test_gradient_of_states_that_grow(activation, opening, dtype):
    """By 12 orders and more: no state is made again by a difference from a large one."""
    arrays, sizes = make_case(1, 8, 80, 50, 4, 2, opening, dtype)
    arrays[0] *= 1 if activation != "tanh" else 1e-3
    sizes, code = (8, 80, 1.0 if activation != "tanh" else 1e9, opening), RESIDUAL_ACTIVATIONS[activation]
    mine = run(kernels, arrays, sizes, code, n_threads=1)[2]
    other = run(twin, [a.astype(np.float64) for a in arrays], sizes, code)[2]
    np.testing.assert_array_equal(run(kernels, arrays, sizes, code, n_threads=3)[2], mine)
    np.testing.assert_allclose(mine, other, rtol=0, atol=2e3 * np.finfo(dtype).eps * np.abs(other).max())


def test_a_value_without_gradient_is_the_same():
    (w, _, x, target, weight), sizes = make_case(6, 5, 2, 70, 3, 2, TRAINED)
    values, grad = np.empty((2, 1)), np.empty_like(w)
    for value, out in zip(values, (grad, None), strict=True):
        kernels.residual_loss_grad(value, out, w, None, x, target, weight, *sizes, 1, 0, 0.0, 1.0)
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 0}, "width must be"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"opening": 3}, "opening must be"),
        ({"opening": PADDING, "width": 2}, "x must have at most the 2 columns"),
        ({"x": np.zeros((30, 0))}, "the number of columns of x must be an integer from 1"),
        ({"target": np.zeros((30, 0))}, "the number of outputs must be an integer from 1"),
        ({"activation": 50}, "activation must be"),
        ({"loss": 9}, "loss must be"),
        ({"w": np.zeros(7)}, "w must"),
        ({"target": np.zeros((4, 2))}, "target must have the 30 rows"),
        ({"weight": np.zeros(4)}, "weight must"),
        ({"grad": np.zeros(4)}, "grad must"),
    ],
)
def test_unfit_arguments_are_refused(change, sentence):
    (w, _, x, target, weight), (width, n_layers, h, opening) = make_case(7, 5, 2, 30, 3, 2, TRAINED)
    good = {
        "value": np.empty(1), "grad": np.empty_like(w), "w": w, "fixed": None, "x": x, "target": target,
        "weight": weight, "width": width, "n_layers": n_layers, "h": h, "opening": opening, "activation": 1, "loss": 0,
        "param": 0.0, "scale": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=sentence):
        kernels.residual_loss_grad(**good | change)
