"""Activations of residual layers, and the shape of their states: what csrc/residual.c and its callers share."""

import numpy as np

from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS, NEEDS_Z
from dnnext.kernels.reference import Array

NAMES = [name for name in ACTIVATIONS if name not in NEEDS_Z]
RESIDUAL_ACTIVATIONS = {**{name: ACTIVATIONS[name] for name in NAMES}, "smooth_relu": 100}

BLEND = 0.1  # half the width of the parabola that joins both lines of smooth_relu
WHOLE = 16  # columns of a state come in multiples of this


def residual_phi(z: Array, code: int) -> Array:
    """phi(z), elementwise; smooth_relu is (z + e)^2 / (4 e) on [-e, e], e = 0.1, and relu elsewhere."""
    if code != RESIDUAL_ACTIVATIONS["smooth_relu"]:
        return FUNCTIONS[NAMES[code]].value(z)
    blend: Array = (z + BLEND) ** 2 / (4 * BLEND)
    return np.where(z >= BLEND, z, np.where(z <= -BLEND, 0, blend)).astype(z.dtype)


def residual_phi_slope(a: Array, code: int) -> Array:
    """phi'(z) written with a = phi(z)."""
    if code != RESIDUAL_ACTIVATIONS["smooth_relu"]:
        return FUNCTIONS[NAMES[code]].slope(a, a)  # none of those that need z
    return np.sqrt(np.minimum(a, BLEND) / BLEND).astype(a.dtype)
