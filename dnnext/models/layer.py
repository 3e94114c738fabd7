"""The contract of a layer ``f(w; x)`` between inner product spaces, and sweeps over several of them.

A layer is forward, tangent and adjoint; `Chain` makes a model of them. With ``D`` the derivative in the state x,
``nabla`` the one in the parameters w and ``*`` the adjoint, the adjoint sweep of ``<h, f> + <t, Df v>`` is

``t <- D*f t``,  ``h <- D*f h + (D^2 f _| v)* t``,  ``gradient = nabla*f h + (nabla D f _| v)* t``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.kernels.activations import FUNCTIONS

__all__ = ["Affine", "Layer", "Linear"]

Array = NDArray[Any]
Shape = tuple[int, ...]
Weights = Sequence[Array]
Keep = dict[str, Any]
Parts = list[tuple[str, Shape, bool, int | None]]


class Layer(Parameters, ABC):
    """One layer ``f(w; x)``; x and its image are (n, ...), one row per sample.

    A new layer is one class with `output_shape`, `forward`, `tangent` and `adjoint`, `parts` and `init` where it has
    parameters, `examples` for the tests, and one line in an ``__all__``. It keeps its constructor's parameters under
    their own names.

    Attributes
    ----------
    shape_in, shape_out : tuple of int or None
        Shapes of one sample before and after; None until `sized`.
    has_kinks : bool
        Whether the derivative jumps at places that training stays at, as that of a maximum does, so that changes of
        the gradient say little of the curvature (`dnnext.algorithms.damping.SecantRule`).

    Examples
    --------
    >>> from dnnext.models import Dense
    >>> layer = Dense(3).sized((2,))
    >>> layer.shape_in, layer.shape_out, [name for name, *_ in layer.parts()]
    ((2,), (3,), ['weight', 'bias'])
    """

    shape_in: Shape | None = None
    shape_out: Shape | None = None
    has_kinks: bool = False

    def sized(self, shape: Sequence[int]) -> Self:
        """A copy for samples of this shape.

        Raises
        ------
        ValueError
            If the layer needs another shape; the sentence says which.
        """
        layer = copy.copy(self)
        layer.shape_in = tuple(int(n) for n in shape)
        layer.shape_out = layer.output_shape(layer.shape_in)
        return layer

    def ended(self, n_outputs: int) -> Layer:
        """The same layer as the last of a chain with that many outputs: an open end is closed."""
        return self

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample of f; a ValueError "needs ..., got ..." where the shape does not fit."""

    def parts(self) -> Parts:
        """(name, shape, penalised, unit axis) of every parameter array, see `dnnext.models.layout.Part`."""
        return []

    def init(self, rng: np.random.Generator) -> list[Array]:
        """A start of every parameter array."""
        return []

    @abstractmethod
    def forward(self, w: Weights, x: Array, keep: Keep) -> Array:
        """f(w; x); what the other two need goes into keep."""

    @abstractmethod
    def tangent(self, w: Weights, keep: Keep, v: Array | None, dw: Weights | None) -> Array | None:
        """``Df v + nabla f dw`` at the point of `forward`; None is zero. What `adjoint` needs goes into keep."""

    @abstractmethod
    def adjoint(self, w: Weights, keep: Keep, h: Array, t: Array | None) -> tuple[Array, Array | None, list[Array]]:
        """(h, t, gradient) before the layer from h and t after it, see the top of this file.

        With t = None this is backpropagation: ``(D*f h, None, nabla*f h)``. With t, `tangent` was called with v alone.
        """

    def describe(self, table: list[list[int]]) -> bool:
        """Append the layer to a table for the compiled kernels (`dnnext.kernels.chain_forward`); False: it has none."""
        return False

    @classmethod
    def examples(cls) -> list[tuple[Layer, Shape]]:
        """Layers and shapes of their inputs, for the tests."""
        return [(cls(), (6,))]


class Linear(Layer):
    """A layer without parameters that is linear in x, or linear where it stands, such as a selection.

    ``image`` and ``transpose`` are all it needs; both may use what `start` keeps.
    """

    def start(self, x: Array, keep: Keep) -> None:
        """Look at x before anything else, for example for the places of the largest numbers."""

    @abstractmethod
    def image(self, x: Array, keep: Keep) -> Array:
        """P x."""

    @abstractmethod
    def transpose(self, h: Array, keep: Keep) -> Array:
        """P* h."""

    def forward(self, w: Weights, x: Array, keep: Keep) -> Array:
        """P x."""
        self.start(x, keep)
        return self.image(x, keep)

    def tangent(self, w: Weights, keep: Keep, v: Array | None, dw: Weights | None) -> Array | None:
        """P v."""
        return None if v is None else self.image(v, keep)

    def adjoint(self, w: Weights, keep: Keep, h: Array, t: Array | None) -> tuple[Array, Array | None, list[Array]]:
        """(P* h, P* t, no parameters)."""
        return self.transpose(h, keep), None if t is None else self.transpose(t, keep), []


class Affine(Layer):
    """``psi(B(W, x) + b)``, B bilinear, psi elementwise: dense layers and convolutions.

    With ``z = B(W, x) + b``, ``u = B(W, v)`` and ``a = psi'(z)``:  ``dz = a h + psi''(z) u t``,  ``du = a t``,
    ``dW = B_x* dz + B_v* du``,  ``db = dz``,  ``h <- B_W* dz``,  ``t <- B_W* du``.
    """

    activation: str

    @abstractmethod
    def product(self, weight: Array, x: Array) -> Array:
        """B(W, x)."""

    @abstractmethod
    def weight_adjoint(self, dz: Array, x: Array) -> Array:
        """B_x* dz, summed over the samples."""

    @abstractmethod
    def state_adjoint(self, weight: Array, dz: Array) -> Array:
        """B_W* dz."""

    def _biased(self, z: Array, bias: Array) -> Array:
        return z + bias.reshape(-1, *[1] * (z.ndim - 2))

    def forward(self, w: Weights, x: Array, keep: Keep) -> Array:
        """psi(B(W, x) + b)."""
        z = self._biased(self.product(w[0], x), w[1])
        a = FUNCTIONS[self.activation].value(z)
        keep |= {"x": x, "z": z, "a": a}
        return a

    def tangent(self, w: Weights, keep: Keep, v: Array | None, dw: Weights | None) -> Array | None:
        """psi'(z) (B(W, v) + B(dW, x) + db)."""
        if v is None and dw is None:
            return None
        u = np.zeros_like(keep["z"]) if v is None else self.product(w[0], v)
        if dw is not None:
            u = self._biased(u + self.product(dw[0], keep["x"]), dw[1])
        keep |= {"v": v, "u": u}
        return np.asarray(FUNCTIONS[self.activation].slope(keep["z"], keep["a"]) * u)

    def adjoint(self, w: Weights, keep: Keep, h: Array, t: Array | None) -> tuple[Array, Array | None, list[Array]]:
        """The formulas of the class."""
        z, a = keep["z"], keep["a"]
        slope = FUNCTIONS[self.activation].slope(z, a)
        dz, du = slope * h, None
        if t is not None:
            du = slope * t
            dz = dz + FUNCTIONS[self.activation].bend(z, a) * keep["u"] * t
        weight = self.weight_adjoint(dz, keep["x"])
        if du is not None:
            weight = weight + self.weight_adjoint(du, keep["v"])
        bias = dz.sum(axis=(0, *range(2, dz.ndim)))
        return self.state_adjoint(w[0], dz), None if du is None else self.state_adjoint(w[0], du), [weight, bias]

    def _uniform(self, rng: np.random.Generator, shape: Shape, ends: int) -> list[Array]:
        """Glorot's start: uniform within sqrt(6 / ends), for the logistic activation sqrt(2 / ends); zero biases."""
        bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / ends)
        bias = self.parts()[1][1]
        return [rng.uniform(-bound, bound, int(np.prod(shape))).reshape(shape), np.zeros(bias)]


def check_layers(layers: Iterable[Layer]) -> list[Layer]:
    """The layers as a list, one at least."""
    found = list(layers) if np.iterable(layers) else [layers]
    if not found or not all(isinstance(layer, Layer) for layer in found):
        raise ValueError(f"layers must be layers of dnnext.models, one at least, got {short(layers)}.")
    return found


def size_layers(layers: Iterable[Layer], shape: Shape) -> list[Layer]:
    """The layers one after another, each sized by the one before; a refusal names the layer and its input."""
    sized = []
    for number, layer in enumerate(layers, 1):
        try:
            sized.append(layer.sized(shape))
        except ValueError as error:
            raise ValueError(f"layer {number}, {layer!r}, {str(error).removesuffix('.')}.") from None
        shape = sized[-1].shape_out or ()
    return sized


def describe_all(layers: Sequence[Layer], table: list[list[int]]) -> bool:
    """Append all layers to a table for the kernels; False if one of them has no kernel."""
    found = [layer.describe(table) for layer in layers]
    return all(found)


def _shared_out(layers: Sequence[Layer], w: Weights) -> list[Weights]:
    """The arrays of every layer."""
    found, first = [], 0
    for layer in layers:
        n = len(layer.parts())
        found.append(w[first : first + n])
        first += n
    return found


def forward_all(layers: Sequence[Layer], w: Weights, x: Array, keeps: list[Keep]) -> Array:
    """x_i+1 = f_i(w_i; x_i)."""
    for layer, own, keep in zip(layers, _shared_out(layers, w), keeps, strict=True):
        x = layer.forward(own, x, keep)
    return x


def tangent_all(
    layers: Sequence[Layer], w: Weights, keeps: list[Keep], v: Array | None, dw: Weights | None
) -> Array | None:
    """v_i+1 = Df_i v_i + nabla f_i dw_i."""
    moves: Sequence[Weights | None] = [None] * len(layers) if dw is None else _shared_out(layers, dw)
    for layer, own, keep, move in zip(layers, _shared_out(layers, w), keeps, moves, strict=True):
        v = layer.tangent(own, keep, v, move)
    return v


def adjoint_all(
    layers: Sequence[Layer], w: Weights, keeps: list[Keep], h: Array, t: Array | None
) -> tuple[Array, Array | None, list[Array]]:
    """Both adjoints backwards, and the gradient of every array."""
    gradient: list[Array] = []
    for layer, own, keep in reversed(list(zip(layers, _shared_out(layers, w), keeps, strict=True))):
        h, t, part = layer.adjoint(own, keep, h, t)
        gradient = part + gradient
    return h, t, gradient
