"""Layers of the geometric framework in NumPy: windows of images and their adjoints.

Images are (n, channels, height, width). Everything here is linear in its arrays but `max_places`.
"""

from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = [
    "at_places",
    "from_places",
    "max_places",
    "padded",
    "spread",
    "window_counts",
    "windows",
]

Array = NDArray[Any]
Pair = tuple[int, int]


def window_counts(shape: Pair, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many windows stand below and beside each other: (n + 2 padding - dilation (size - 1) - 1) // stride + 1."""
    each = zip(shape, size, stride, padding, dilation, strict=True)
    down, beside = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)
    return down, beside


def padded(x: Array, padding: Pair) -> Array:
    """Images with a border of zeros."""
    (down, beside) = padding
    return np.pad(x, ((0, 0), (0, 0), (down, down), (beside, beside))) if down or beside else x


def windows(x: Array, size: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Array:
    """kappa_jk x, the cropped patches: (n, channels, rows, columns, height, width of a window), mostly a view."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True))
    every = sliding_window_view(padded(x, padding), reach, axis=(2, 3))
    return every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def spread(parts: Array, shape: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Array:
    """sum_jk kappa_jk* parts_jk, the adjoint of `windows`: images of the given shape (height, width)."""
    n, channels, down, beside, height, width = parts.shape
    whole = np.zeros((n, channels, shape[0] + 2 * padding[0], shape[1] + 2 * padding[1]), parts.dtype)
    for p, q in product(range(height), range(width)):
        top, left = p * dilation[0], q * dilation[1]
        rows = slice(top, top + stride[0] * (down - 1) + 1, stride[0])
        columns = slice(left, left + stride[1] * (beside - 1) + 1, stride[1])
        whole[:, :, rows, columns] += parts[..., p, q]
    return whole[:, :, padding[0] : padding[0] + shape[0], padding[1] : padding[1] + shape[1]]


def _flat(seen: Array) -> Array:
    """Windows as rows of numbers; also where there are none."""
    return seen.reshape(*seen.shape[:4], seen.shape[4] * seen.shape[5])


def max_places(x: Array, size: Pair, stride: Pair) -> Array:
    """The place of the largest number in every window, the first of equal ones: (n, channels, rows, columns)."""
    seen = windows(x, size, stride)
    places: Array = np.argmax(_flat(seen), axis=-1)
    return places


def at_places(x: Array, places: Array, size: Pair, stride: Pair) -> Array:
    """The numbers that stand at these places of their windows."""
    seen = windows(x, size, stride)
    taken: Array = np.take_along_axis(_flat(seen), places[..., None], axis=-1)
    return taken[..., 0]


def from_places(u: Array, places: Array, shape: Pair, size: Pair, stride: Pair) -> Array:
    """The adjoint of `at_places`."""
    parts = np.zeros((*u.shape, size[0] * size[1]), u.dtype)
    np.put_along_axis(parts, places[..., None], u[..., None], axis=-1)
    return spread(parts.reshape(*u.shape, *size), shape, stride)
