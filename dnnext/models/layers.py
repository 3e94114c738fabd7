"""Layers ``f(w; x)`` without images: dense, flatten, residual; `dnnext.models.layer` has their contract."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS, NEEDS_Z
from dnnext.models.layer import (
    Affine,
    Keep,
    Layer,
    Linear,
    Parts,
    Shape,
    Weights,
    adjoint_all,
    check_layers,
    describe_all,
    forward_all,
    size_layers,
    tangent_all,
)

__all__ = ["Affine", "Dense", "Flatten", "Layer", "Linear", "Residual"]

Array = NDArray[Any]

# Codes of the kernels, see dnnext/kernels/reference_layers.py.
DENSE, CONV, AVERAGE, MAX, ADD = range(5)
WINDOW = (1, 1, 1, 1, 0, 0, 1, 1)  # size, stride, padding, dilation of a layer without windows


class Dense(Affine):
    """Every output sees every input: ``psi(x W + b)``, W (inputs, units).

    Parameters
    ----------
    units : int or None
        Outputs; None, for the last layer only, are as many as the targets ask for.
    activation : {"identity", "tanh", "logistic", "relu", "softplus", "square"}, default="identity"
        ``psi``.

    Raises
    ------
    ValueError
        If an argument is unfit.

    Examples
    --------
    >>> layer = Dense(2, activation="tanh").sized((3,))
    >>> layer.parts()
    [('weight', (3, 2), True, 0), ('bias', (2,), False, None)]
    """

    def __init__(self, units: int | None = None, activation: str = "identity") -> None:
        self.units = None if units is None else _checks.check_count("units of Dense", units)
        self.activation = _checks.check_choice("activation", activation, FUNCTIONS)

    def ended(self, n_outputs: int) -> Layer:
        """With n_outputs units where they were left open."""
        return Dense(n_outputs, self.activation) if self.units is None else self

    def output_shape(self, shape: Shape) -> Shape:
        """(units,)."""
        if len(shape) != 1:
            raise ValueError(f"needs flat inputs (d,): put Flatten() before it, got {shape}")
        if self.units is None:
            raise ValueError("needs its units: only the last layer of a chain may leave them open")
        return (self.units,)

    @property
    def _sizes(self) -> tuple[int, int]:
        assert self.shape_in is not None
        assert self.units is not None
        return self.shape_in[0], self.units

    def parts(self) -> Parts:
        """The weights (inputs, units), whose groups are the outgoing weights of an input, and the biases."""
        return [("weight", self._sizes, True, 0), ("bias", self._sizes[1:], False, None)]

    def init(self, rng: np.random.Generator) -> list[Array]:
        """Glorot's start."""
        return self._uniform(rng, self._sizes, sum(self._sizes))

    def describe(self, table: list[list[int]]) -> bool:
        """A row for the kernels, which keep no z."""
        inputs, units = self._sizes
        table.append([DENSE, ACTIVATIONS[self.activation], inputs, 1, 1, units, *WINDOW, 0])
        return self.activation not in NEEDS_Z

    def product(self, weight: Array, x: Array) -> Array:
        """x W."""
        return np.asarray(x @ weight)

    def weight_adjoint(self, dz: Array, x: Array) -> Array:
        """x' dz."""
        return np.asarray(x.T @ dz)

    def state_adjoint(self, weight: Array, dz: Array) -> Array:
        """dz W'."""
        return np.asarray(dz @ weight.T)

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """One of every activation."""
        return [(cls(4, name), (6,)) for name in FUNCTIONS]


class Flatten(Linear):
    """Images as rows of numbers: an isometry.

    Examples
    --------
    >>> Flatten().sized((2, 3, 4)).shape_out
    (24,)
    """

    def output_shape(self, shape: Shape) -> Shape:
        """(size,)."""
        return (int(np.prod(shape)),)

    def image(self, x: Array, keep: Keep) -> Array:
        """Every sample as one row."""
        return x.reshape(len(x), int(np.prod(x.shape[1:])))

    def transpose(self, h: Array, keep: Keep) -> Array:
        """Every row in the shape of the input."""
        assert self.shape_in is not None
        return h.reshape(len(h), *self.shape_in)

    def describe(self, table: list[list[int]]) -> bool:
        """Nothing to do."""
        return True

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """An image and a row."""
        return [(cls(), (2, 3, 4)), (cls(), (5,))]


class Residual(Layer):
    """``x + f(w; x)`` with f a few layers that keep the shape.

    Parameters
    ----------
    layers : sequence of Layer

    Raises
    ------
    ValueError
        If there is no layer in it, or the layers change the shape.

    Examples
    --------
    >>> Residual([Dense(4, "tanh"), Dense(4)]).sized((4,)).shape_out
    (4,)
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = check_layers(layers)

    def sized(self, shape: Sequence[int]) -> Self:
        """With every inner layer sized."""
        layer = copy.copy(self)
        layer.layers = size_layers(self.layers, tuple(shape))
        layer.shape_in = tuple(shape)
        layer.shape_out = layer.output_shape(layer.shape_in)
        return layer

    @property
    def has_kinks(self) -> bool:  # type: ignore[override]
        """Whether an inner layer has."""
        return any(layer.has_kinks for layer in self.layers)

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the input."""
        last = self.layers[-1].shape_out
        if last != shape:
            raise ValueError(f"needs layers that keep the shape of their input, {shape}, got {last}")
        return shape

    def parts(self) -> Parts:
        """Those of the inner layers."""
        named = [(number, part) for number, layer in enumerate(self.layers, 1) for part in layer.parts()]
        return [(f"{number}.{name}", *rest) for number, (name, *rest) in named]  # type: ignore[misc]

    def init(self, rng: np.random.Generator) -> list[Array]:
        """Those of the inner layers."""
        return [array for layer in self.layers for array in layer.init(rng)]

    def forward(self, w: Weights, x: Array, keep: Keep) -> Array:
        """x + f(w; x)."""
        keep["inner"] = [{} for _ in self.layers]
        return x + forward_all(self.layers, w, x, keep["inner"])

    def tangent(self, w: Weights, keep: Keep, v: Array | None, dw: Weights | None) -> Array | None:
        """v + Df v + nabla f dw."""
        inner = tangent_all(self.layers, w, keep["inner"], v, dw)
        return inner if v is None else v if inner is None else v + inner

    def adjoint(self, w: Weights, keep: Keep, h: Array, t: Array | None) -> tuple[Array, Array | None, list[Array]]:
        """h and t of the inner layers, plus those that pass by them."""
        h_in, t_in, gradient = adjoint_all(self.layers, w, keep["inner"], h, t)
        return h + h_in, None if t is None or t_in is None else t + t_in, gradient

    def describe(self, table: list[list[int]]) -> bool:
        """The inner layers, then the sum with the state before them."""
        assert self.shape_in is not None
        source = len(table)
        inner = describe_all(self.layers, table)
        channels, height, width = (*self.shape_in, 1, 1)[:3]
        table.append([ADD, 0, channels, height, width, channels, *WINDOW, source])
        return inner

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """Dense layers, and one residual inside another."""
        inner = cls([Dense(5, "tanh")])
        return [(cls([Dense(3, "tanh"), Dense(4)]), (4,)), (cls([inner, Dense(5)]), (5,))]
