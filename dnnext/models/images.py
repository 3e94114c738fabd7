"""Layers for images (n, channels, height, width): convolution and pools."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short
from dnnext.kernels import layer_formulas as formulas
from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS, NEEDS_Z
from dnnext.models.layer import Affine, Keep, Layer, Linear, Parts, Shape
from dnnext.models.layers import AVERAGE, CONV, MAX

__all__ = ["AvgPool2d", "Conv2d", "MaxPool2d"]

Array = NDArray[Any]
Pair = tuple[int, int]


class Conv2d(Affine):
    """A convolution: every filter looks at all channels of a patch.

    ``psi(z)``,  ``z_o,jk = <W_o, kappa_jk x> + b_o`` with ``kappa_jk`` the patch of x at place (j, k) of the output.
    It is a correlation, as in other libraries: filters are not flipped.

    Parameters
    ----------
    filters : int
        Channels of the output.
    size : int or (int, int)
        Height and width of a filter.
    stride : int or (int, int), default=1
        Distance of the patches.
    padding : int, (int, int) or "same", default=0
        Zeros around the image; "same" keeps height and width at stride 1, for odd sizes.
    dilation : int or (int, int), default=1
        Distance of the pixels within a patch.
    activation : {"identity", "tanh", "logistic", "relu", "softplus", "square"}, default="identity"
        ``psi``.

    Raises
    ------
    ValueError
        If an argument is unfit.

    References
    ----------
    A. L. Caterini, D. E. Chang, Deep neural networks in a mathematical framework, Springer 2018.

    Examples
    --------
    >>> layer = Conv2d(8, 3, padding="same").sized((1, 28, 28))
    >>> layer.shape_out, layer.parts()
    ((8, 28, 28), [('weight', (8, 1, 3, 3), True, 0), ('bias', (8,), False, None)])
    """

    def __init__(
        self,
        filters: int,
        size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        activation: str = "identity",
    ) -> None:
        self.filters = _checks.check_count("filters of Conv2d", filters)
        self.size, self.stride, self.padding, self.dilation = size, stride, padding, dilation
        self.activation = _checks.check_choice("activation", activation, FUNCTIONS)
        size_, dilation_ = _pair("size", size), _pair("dilation", dilation)
        _pair("stride", stride)
        if padding == "same":
            if any(d * (k - 1) % 2 for k, d in zip(size_, dilation_, strict=True)):
                raise ValueError(f"padding must be a number of pixels for filters of even size, got 'same' and {size}.")
        else:
            _pair("padding", padding, 0)

    @property
    def _padding(self) -> Pair:
        if self.padding == "same":
            (p, q), (d, e) = _pair("size", self.size), _pair("dilation", self.dilation)
            return d * (p - 1) // 2, e * (q - 1) // 2
        return _pair("padding", self.padding, 0)

    @property
    def _window(self) -> dict[str, Pair]:
        stride, dilation = _pair("stride", self.stride), _pair("dilation", self.dilation)
        return {"stride": stride, "padding": self._padding, "dilation": dilation}

    def output_shape(self, shape: Shape) -> Shape:
        """(filters, height, width)."""
        _check_image(shape)
        size, dilation = _pair("size", self.size), _pair("dilation", self.dilation)
        counts = formulas.window_counts(shape[1:], size, **self._window)  # type: ignore[arg-type]
        if min(counts) < 1:
            least = tuple(
                max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(size, dilation, self._padding, strict=True)
            )
            raise ValueError(f"needs an image of at least {least[0]} x {least[1]}, got {shape}")
        return self.filters, *counts

    def parts(self) -> Parts:
        """The filters, each of them a group, and the biases."""
        assert self.shape_in is not None
        weight = (self.filters, self.shape_in[0], *_pair("size", self.size))
        return [("weight", weight, True, 0), ("bias", (self.filters,), False, None)]

    def init(self, rng: np.random.Generator) -> list[Array]:
        """Glorot's start, with the inputs and outputs that a weight meets."""
        shape = self.parts()[0][1]
        return self._uniform(rng, shape, (shape[0] + shape[1]) * shape[2] * shape[3])

    def product(self, weight: Array, x: Array) -> Array:
        """<W_o, kappa_jk x>."""
        patches = formulas.windows(x, weight.shape[2:], **self._window)
        return np.moveaxis(np.tensordot(patches, weight, ((1, 4, 5), (1, 2, 3))), 3, 1)

    def weight_adjoint(self, dz: Array, x: Array) -> Array:
        """sum_jk dz_jk kappa_jk x."""
        patches = formulas.windows(x, _pair("size", self.size), **self._window)
        return np.tensordot(dz, patches, ((0, 2, 3), (0, 2, 3)))

    def state_adjoint(self, weight: Array, dz: Array) -> Array:
        """sum_jk kappa_jk* (dz_jk W)."""
        assert self.shape_in is not None
        parts = np.moveaxis(np.tensordot(dz, weight, (1, 0)), 3, 1)
        return formulas.spread(parts, self.shape_in[1:], **self._window)  # type: ignore[arg-type]

    def describe(self, table: list[list[int]]) -> bool:
        """A row for the kernels."""
        assert self.shape_in is not None
        window = [n for pair in (_pair("size", self.size), *self._window.values()) for n in pair]
        table.append([CONV, ACTIVATIONS[self.activation], *self.shape_in, self.filters, *window, 0])
        return self.activation not in NEEDS_Z

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """Strides, paddings, dilations, sizes of one, patches that leave a rest."""
        return [
            (cls(3, 2, activation="tanh"), (2, 5, 4)),
            (cls(9, 3, padding="same", activation="softplus"), (1, 6, 5)),
            (cls(2, (2, 3), stride=(2, 1), padding=(1, 2), activation="logistic"), (3, 5, 4)),
            (cls(2, 2, stride=3, dilation=(1, 2)), (1, 8, 7)),
            (cls(4, 1, stride=2, activation="relu"), (2, 3, 3)),
            (cls(1, 3, padding=3, dilation=2), (1, 4, 4)),
        ]


class _Pool(Linear):
    """Windows of every channel, each made into one number."""

    code: int

    def __init__(self, size: int | Pair, stride: int | Pair | None = None) -> None:
        self.size, self.stride = size, stride
        _pair("size", size)
        if stride is not None:
            _pair("stride", stride)

    @property
    def _size(self) -> Pair:
        return _pair("size", self.size)

    @property
    def _stride(self) -> Pair:
        return self._size if self.stride is None else _pair("stride", self.stride)

    def output_shape(self, shape: Shape) -> Shape:
        """(channels, height, width); windows that do not fit are left out."""
        _check_image(shape)
        counts = formulas.window_counts(shape[1:], self._size, self._stride, (0, 0), (1, 1))  # type: ignore[arg-type]
        if min(counts) < 1:
            raise ValueError(f"needs an image of at least {self._size[0]} x {self._size[1]}, got {shape}")
        return shape[0], *counts

    def describe(self, table: list[list[int]]) -> bool:
        """A row for the kernels."""
        assert self.shape_in is not None
        table.append([self.code, 0, *self.shape_in, self.shape_in[0], *self._size, *self._stride, 0, 0, 1, 1, 0])
        return True

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """Windows side by side, with a rest, overlapping, and with gaps."""
        return [(cls(2), (2, 4, 4)), (cls(2), (1, 5, 3)), (cls((3, 2), stride=1), (2, 4, 4)), (cls(1, 2), (3, 3, 5))]


class AvgPool2d(_Pool):
    """The mean of every window.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of a window.
    stride : int, (int, int) or None, default=None
        Distance of the windows; None is their size.

    Raises
    ------
    ValueError
        If an argument is unfit.

    Examples
    --------
    >>> AvgPool2d(2).sized((8, 13, 13)).shape_out
    (8, 6, 6)
    """

    code = AVERAGE

    def image(self, x: Array, keep: Keep) -> Array:
        """Means over the windows."""
        return np.asarray(formulas.windows(x, self._size, self._stride).mean(axis=(4, 5), dtype=x.dtype))

    def transpose(self, h: Array, keep: Keep) -> Array:
        """Every number shared out over its window."""
        assert self.shape_in is not None
        parts = np.broadcast_to(
            (h / h.dtype.type(self._size[0] * self._size[1]))[..., None, None], (*h.shape, *self._size)
        )
        return formulas.spread(parts, self.shape_in[1:], self._stride)  # type: ignore[arg-type]


class MaxPool2d(_Pool):
    """The largest number of every window, the first of equal ones; its second derivative is zero almost everywhere.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of a window.
    stride : int, (int, int) or None, default=None
        Distance of the windows; None is their size.

    Raises
    ------
    ValueError
        If an argument is unfit.

    Examples
    --------
    >>> MaxPool2d(2).sized((8, 12, 12)).shape_out
    (8, 6, 6)
    """

    code, has_kinks = MAX, True

    def start(self, x: Array, keep: Keep) -> None:
        """The places of the largest numbers."""
        keep["places"] = formulas.max_places(x, self._size, self._stride)

    def image(self, x: Array, keep: Keep) -> Array:
        """What stands at these places."""
        return formulas.at_places(x, keep["places"], self._size, self._stride)

    def transpose(self, h: Array, keep: Keep) -> Array:
        """Every number at its place."""
        assert self.shape_in is not None
        return formulas.from_places(h, keep["places"], self.shape_in[1:], self._size, self._stride)  # type: ignore[arg-type]


def _pair(name: str, value: Any, least: int = 1) -> Pair:
    """One number for height and width, or two."""
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{name} must be a number or a pair of numbers, got {short(value)}.")
    return _checks.check_count(name, both[0], least), _checks.check_count(name, both[1], least)


def _check_image(shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"needs images (channels, height, width), got {shape}")
