"""The tangent term ``mu R``: what the network should do along given directions of its inputs.

``R(w) = 1/(2N) sum_i sum_(m in S_i) c_m sum_k |DF(x_m) v_mk - beta_mk|^2``, with beta = 0 for what should not matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext._checks import short
from dnnext._params import Parameters

__all__ = ["FeatureDirections", "ImageRotations", "ImageShifts", "Tangents"]

Array = NDArray[Any]


class Tangents(Parameters):
    """The term ``mu R`` of a `Problem`: derivatives of the raw outputs along directions of the inputs.

    ``R(w) = 1/(2N) sum_m c_m sum_k |DF(x_m) v_mk - beta_mk|^2`` [1]_, [2]_, with F the raw outputs (logits, not
    probabilities). Full linearisation takes its gradient like any other; partial linearisation linearises it, for its
    own curvature would need derivatives along weights and inputs at once.

    Parameters
    ----------
    mu : float
        Strength, per squared length of the directions: doubling every v is mu times four.
    directions : array or function
        An array (K, ...) of K directions in the shape of an input, the same for every row, or a function of x (n, ...)
        that returns (K, n, ...): `ImageShifts`, `ImageRotations`, `FeatureDirections` or another one.
    targets : float, array or function, default=0
        ``beta``: a number, an array (K, Q), or a function of x that returns (K, n, Q). 0 asks for invariance.

    Raises
    ------
    ValueError
        For a value outside of what is stated here.

    References
    ----------
    .. [1] P. Simard, B. Victorri, Y. LeCun, J. Denker, Tangent prop, NeurIPS 4 (1991).
    .. [2] A. L. Caterini, D. E. Chang, A geometric framework for convolutional neural networks, arXiv 1608.04374
       (2016).

    Examples
    --------
    >>> tangents = Tangents(0.1, np.array([[1.0, 0.0]]))
    >>> tangents.at(np.zeros((3, 2))).shape
    (1, 3, 2)
    """

    def __init__(
        self,
        mu: float,
        directions: ArrayLike | Callable[[Array], Array],
        targets: float | ArrayLike | Callable[[Array], Array] = 0,
    ) -> None:
        _checks.check_positive("mu", mu)
        self.mu, self.directions, self.targets = mu, directions, targets

    def at(self, x: Array) -> Array:
        """The directions of every row of x (n, ...): (K, n, ...), in its precision.

        Raises
        ------
        ValueError
            If they do not have the shape of the inputs, or are not finite.
        """
        v = _numbers("directions", self.directions(x) if callable(self.directions) else self.directions)
        if not callable(self.directions):
            if v.ndim != x.ndim or v.shape[1:] != x.shape[1:]:
                raise ValueError(
                    f"directions must have shape (K, {', '.join(map(str, x.shape[1:]))}), as an input has it, "
                    f"got {v.shape}."
                )
            v = np.broadcast_to(v[:, None], (len(v), *x.shape))
        if v.ndim != x.ndim + 1 or v.shape[1:] != x.shape:
            raise ValueError(f"directions must return an array of shape (K, *{x.shape}), got {v.shape}.")
        if not np.all(np.isfinite(v)):
            raise ValueError("directions must be finite, got NaN or infinite numbers.")
        return np.ascontiguousarray(v, dtype=x.dtype)

    def beta(self, x: Array, shape: tuple[int, int, int]) -> Array | None:
        """The target derivatives (K, n, Q), or None for zeros.

        Raises
        ------
        ValueError
            If they have another shape, or are not finite.
        """
        beta = _numbers("targets", self.targets(x) if callable(self.targets) else self.targets).astype(x.dtype)
        if not callable(self.targets) and not np.any(beta):
            return None
        wide = beta[:, None] if beta.ndim == 2 and beta.shape == (shape[0], shape[2]) else beta
        if wide.ndim and wide.shape not in (shape, (shape[0], 1, shape[2])):
            raise ValueError(
                f"targets must be a number, (K, Q) = {(shape[0], shape[2])}, or return (K, rows, Q) = {shape}, got "
                f"{beta.shape}."
            )
        if not np.all(np.isfinite(wide)):
            raise ValueError("targets must be finite, got NaN or infinite numbers.")
        return np.ascontiguousarray(np.broadcast_to(wide, shape))


def _numbers(name: str, value: Any) -> Array:
    """The value as an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # of uneven lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, in lists of one length, got {short(value)}.")
    return array


class _Directions(Parameters, ABC):
    """A function of x, compared over ranks by its parameters."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """x (n, ...) -> (K, n, ...)."""

    def times(self, mu: float) -> Tangents:
        """``Tangents(mu, self)``."""
        return Tangents(mu, self)


class ImageShifts(_Directions):
    """Shifts of images by a pixel, down and to the right: the derivatives of an image along its rows and columns.

    Parameters
    ----------
    shape : (height, width) or None
        Of images that come as rows of numbers; None for images (n, height, width) or (n, channels, height, width).

    Raises
    ------
    ValueError
        If shape is no pair of sizes; in the call, if x does not hold images.

    Examples
    --------
    >>> v = ImageShifts()(np.arange(12.0).reshape(1, 3, 4))
    >>> v.shape, v[0, 0, 1].tolist(), v[1, 0, 1].tolist()
    ((2, 1, 3, 4), [-4.0, -4.0, -4.0, -4.0], [-1.0, -1.0, -1.0, -1.0])
    """

    def __init__(self, shape: tuple[int, int] | None = None) -> None:
        self.shape = _check_shape(shape)

    def __call__(self, x: Array) -> Array:
        """(2, n, ...): minus the central differences along height and width, one-sided at the edges."""
        images = _images(x, self.shape)
        down, right = (-np.gradient(images, axis=axis) for axis in (-2, -1))
        return np.stack([down, right]).reshape(2, *x.shape).astype(x.dtype, copy=False)


class ImageRotations(_Directions):
    """Rotations of images about their centre: the derivative of an image along the angle, per degree.

    Parameters
    ----------
    shape : (height, width) or None
        As for `ImageShifts`.

    Raises
    ------
    ValueError
        If shape is no pair of sizes; in the call, if x does not hold images.

    Examples
    --------
    >>> ImageRotations((8, 8))(np.zeros((5, 64))).shape
    (1, 5, 64)
    """

    def __init__(self, shape: tuple[int, int] | None = None) -> None:
        self.shape = _check_shape(shape)

    def __call__(self, x: Array) -> Array:
        """(1, n, ...): the derivatives along height and width, times the way that a pixel moves in a degree."""
        images = _images(x, self.shape)
        height, width = images.shape[-2:]
        rows = (np.arange(height) - (height - 1) / 2)[:, None]
        columns = (np.arange(width) - (width - 1) / 2)[None]
        down, right = np.gradient(images, axis=-2), np.gradient(images, axis=-1)
        turned = (columns * down - rows * right) * (np.pi / 180)
        return np.asarray(turned.reshape(1, *x.shape), dtype=x.dtype)


class FeatureDirections(_Directions):
    """Some columns of the inputs, one at a time: F should not depend on them.

    Parameters
    ----------
    columns : sequence of int
    scale : float, default=1
        Length of the directions.

    Raises
    ------
    ValueError
        If there is no such column, in the call.

    Examples
    --------
    >>> FeatureDirections([1])(np.zeros((2, 3))).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]
    """

    def __init__(self, columns: Any, scale: float = 1.0) -> None:
        self.columns = columns
        self.scale = _checks.check_positive("scale", scale)

    def __call__(self, x: Array) -> Array:
        """(K, n, d)."""
        columns = np.atleast_1d(np.asarray(self.columns))
        if x.ndim != 2 or columns.dtype.kind != "i" or np.any((columns < 0) | (columns >= x.shape[-1])):
            raise ValueError(f"columns must be columns of inputs (rows, d), got {short(self.columns)} for {x.shape}.")
        v = np.zeros((len(columns), *x.shape), x.dtype)
        for k, column in enumerate(columns):
            v[k, :, column] = self.scale
        return v


def _check_shape(shape: Any) -> Any:
    """None, or (height, width)."""
    sizes = shape if isinstance(shape, tuple | list) else ()
    if shape is not None and not (len(sizes) == 2 and all(isinstance(n, int | np.integer) and n >= 2 for n in sizes)):
        raise ValueError(f"shape must be None or (height, width), whole numbers >= 2, got {short(shape)}.")
    return shape


def _images(x: Array, shape: tuple[int, int] | None) -> Array:
    """x as images, the last two axes height and width."""
    if shape is not None:
        if x.ndim != 2:
            raise ValueError(f"shape must be None for inputs that are images, {x.shape[1:]} each, got {shape}.")
        if x.shape[1] % (shape[0] * shape[1]):
            raise ValueError(f"shape must be that of images in rows of {x.shape[1]} numbers, got {shape}.")
        x = x.reshape(len(x), -1, *shape) if len(x) else x.reshape(0, x.shape[1] // (shape[0] * shape[1]), *shape)
    if x.ndim not in (3, 4) or min(x.shape[-2:]) < 2:
        raise ValueError(
            f"inputs must be images (rows, height, width) or (rows, channels, height, width), got {x.shape}: name the "
            "shape of images that come as rows of numbers."
        )
    return x
