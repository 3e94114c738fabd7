"""Activations: the codes of the kernels, and a table of each function with two derivatives, in NumPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "FUNCTIONS", "NEEDS_Z", "Activation"]

Array = NDArray[Any]

ACTIVATIONS = {"identity": 0, "tanh": 1, "logistic": 2, "relu": 3, "softplus": 4, "square": 5}


NEEDS_Z = frozenset({"square"})  # their slope does not follow from a alone; the kernels of chains keep only a


class Activation(NamedTuple):
    """``phi`` and its derivatives, each written with z and a = phi(z)."""

    value: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    bend: Callable[[Array, Array], Array]


def _logistic(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    value: Array = np.where(z >= 0, 1, e) / (1 + e)
    return value


FUNCTIONS: dict[str, Activation] = {
    "identity": Activation(lambda z: z, lambda z, a: np.ones_like(a), lambda z, a: np.zeros_like(a)),
    "tanh": Activation(np.tanh, lambda z, a: 1 - a * a, lambda z, a: -2 * a * (1 - a * a)),
    "logistic": Activation(_logistic, lambda z, a: a * (1 - a), lambda z, a: a * (1 - a) * (1 - 2 * a)),
    "relu": Activation(
        lambda z: np.where(z > 0, z, 0) + np.where(np.isnan(z), z, 0),
        lambda z, a: (a > 0).astype(a.dtype),
        lambda z, a: np.zeros_like(a),
    ),
    "softplus": Activation(
        lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
        lambda z, a: -np.expm1(-a),
        lambda z, a: -np.expm1(-a) * np.exp(-a),
    ),
    "square": Activation(lambda z: z * z, lambda z, a: 2 * z, lambda z, a: np.full_like(a, 2)),
}
