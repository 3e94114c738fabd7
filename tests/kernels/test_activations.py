"""The table of activations: slope and bend are the derivatives of the value, by z and by a = phi(z)."""

import numpy as np
import pytest

from dnnext import kernels
from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS

Z = np.concatenate([np.linspace(-3, -0.1, 20), np.linspace(0.1, 3, 20)])  # relu has no derivative at 0


def difference(function, h=1e-3):
    """4th-order central difference at Z."""
    return (8 * (function(Z + h) - function(Z - h)) - function(Z + 2 * h) + function(Z - 2 * h)) / (12 * h)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_and_bend_are_derivatives(name):
    phi = FUNCTIONS[name]
    a = phi.value(Z)
    np.testing.assert_allclose(phi.slope(Z, a), difference(phi.value), atol=1e-10)
    np.testing.assert_allclose(phi.bend(Z, a), difference(lambda z: phi.slope(z, phi.value(z))), atol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_kernels_have_the_same_table(name, dtype):
    z = Z.astype(dtype).reshape(-1, 1)
    w, v = np.array([[1, 0, 1, 0]], dtype), np.array([[0, 1, 0, 0]], dtype)
    f, slope, tail = np.empty_like(z), np.empty_like(z), (np.array([0, len(z)]), (1, 1, 1), ACTIVATIONS[name])
    kernels.mlp_forward(f, w, z, *tail)
    kernels.mlp_jv(slope, w, z, v, *tail)
    a = FUNCTIONS[name].value(z)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(f, a, rtol=4 * eps)
    np.testing.assert_allclose(slope, FUNCTIONS[name].slope(z, a), atol=8 * eps)


def test_the_codes_are_those_of_the_table():
    assert list(FUNCTIONS) == list(ACTIVATIONS)
    assert list(ACTIVATIONS.values()) == list(range(len(ACTIVATIONS)))
    assert kernels.ACTIVATIONS is ACTIVATIONS
