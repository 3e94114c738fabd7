"""The network: one flat row of numbers per agent, layers are views of it."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks, kernels

__all__ = ["MLP"]

Array = NDArray[Any]


class MLP:
    """A multilayer perceptron with a linear raw output.

    ``a_0 = x``,  ``a_k = phi(a_{k-1} W_k + b_k)`` for the hidden layers, ``f(w; x) = a_{L-1} W_L + b_L``.

    Parameters
    ----------
    layers : sequence of int
        ``(d, h_1, ..., Q)``: inputs, units of every hidden layer, outputs. Two numbers make a linear model.
    activation : {"tanh", "logistic", "relu", "softplus", "identity"}, default="tanh"
        ``phi`` of the hidden layers.

    Attributes
    ----------
    layers : tuple of int
    activation : str
    activation_code : int
        The code of ``phi`` in the kernels.
    n_params : int
        ``P``, biases included.
    n_inputs, n_outputs, n_layers : int
        ``d``, ``Q`` and the number of weight matrices ``L``.
    layer_slices : tuple of slice
        The columns of every layer: its weight matrix (inputs x outputs, C order), then its biases.
    weight_slices, bias_slices : tuple of slice
        The two parts of every layer.
    layer_of : (P,) int64
        The layer each parameter belongs to, 0 for the first.
    mask : (P,) float64
        1 on weights, 0 on biases.
    groups : (n_groups, 2) int64
        Columns ``start, stop`` of the outgoing weights of every unit, inputs included: the rows of every weight matrix.

    Raises
    ------
    ValueError
        If a layer is not a positive integer, there are fewer than two, or the activation is unknown.

    Examples
    --------
    >>> model = MLP([2, 3, 1])
    >>> model.n_params, model.layer_slices
    (13, (slice(0, 9, None), slice(9, 13, None)))
    >>> model.groups.tolist()
    [[0, 3], [3, 6], [9, 10], [10, 11], [11, 12]]
    """

    def __init__(self, layers: Sequence[int], activation: str = "tanh") -> None:
        self.layers = _check_layers(layers)
        self.activation = _checks.check_choice("activation", activation, kernels.ACTIVATIONS)
        self.activation_code: int = kernels.ACTIVATIONS[activation]
        self.n_inputs, self.n_outputs, self.n_layers = self.layers[0], self.layers[-1], len(self.layers) - 1
        weights, biases, start = [], [], 0
        for n_in, n_out in self.shapes:
            middle, stop = start + n_in * n_out, start + n_in * n_out + n_out
            weights.append(slice(start, middle))
            biases.append(slice(middle, stop))
            start = stop
        if start >= 2**31:
            raise ValueError(f"layers must give fewer than 2^31 parameters, got {start} for {self.layers}.")
        self.n_params = start
        self.weight_slices, self.bias_slices = tuple(weights), tuple(biases)
        self.layer_slices = tuple(slice(w.start, b.stop) for w, b in zip(weights, biases, strict=True))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """``(inputs, outputs)`` of every weight matrix."""
        return list(zip(self.layers[:-1], self.layers[1:], strict=True))

    @cached_property
    def mask(self) -> NDArray[np.float64]:
        """``(P,)``: 1 on weights, 0 on biases."""
        mask = np.zeros(self.n_params)
        for part in self.weight_slices:
            mask[part] = 1
        return _frozen(mask)

    @cached_property
    def layer_of(self) -> NDArray[np.int64]:
        """``(P,)``: the layer of each parameter, 0 for the first."""
        sizes = [part.stop - part.start for part in self.layer_slices]
        return _frozen(np.repeat(np.arange(self.n_layers, dtype=np.int64), sizes))

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """``(n_groups, 2)``: columns ``start, stop`` of the outgoing weights of every unit, inputs included."""
        parts = zip(self.weight_slices, self.shapes, strict=True)
        starts = [(np.arange(part.start, part.stop, n_out, dtype=np.int64), n_out) for part, (_, n_out) in parts]
        return _frozen(np.concatenate([np.stack([start, start + n_out], axis=1) for start, n_out in starts]))

    def unpack(self, row: Array) -> list[tuple[Array, Array]]:
        """Views ``(W_1, b_1), (W_2, b_2), ...`` of one flat row.

        Parameters
        ----------
        row : (P,) array

        Returns
        -------
        list of (weights (inputs, outputs), biases (outputs,))
            Writing into them writes into the row.

        Examples
        --------
        >>> model = MLP([2, 1])
        >>> model.unpack(np.array([1.0, 2.0, 3.0]))
        [(array([[1.],
               [2.]]), array([3.]))]
        """
        if row.shape != (self.n_params,):
            raise ValueError(f"row must have shape ({self.n_params},) for {self!r}, got {row.shape}.")
        parts = zip(self.weight_slices, self.bias_slices, self.shapes, strict=True)
        return [(row[w].reshape(shape), row[b]) for w, b, shape in parts]

    def pack(self, parts: Iterable[tuple[ArrayLike, ArrayLike]]) -> Array:
        """The flat row of ``[(W_1, b_1), (W_2, b_2), ...]``: the inverse of `unpack`.

        Parameters
        ----------
        parts : iterable of (weights (inputs, outputs), biases (outputs,))

        Returns
        -------
        (P,) array

        Examples
        --------
        >>> MLP([2, 1]).pack([([[1.0], [2.0]], [3.0])])
        array([1., 2., 3.])
        """
        arrays = [(np.asarray(weight), np.asarray(bias)) for weight, bias in parts]
        got = [(weight.shape, bias.shape) for weight, bias in arrays]
        wanted = [(shape, shape[1:]) for shape in self.shapes]
        if got != wanted:
            raise ValueError(f"parts must have the shapes {wanted} for {self!r}, got {got}.")
        return np.concatenate([part.ravel() for pair in arrays for part in pair])

    def init(self, random_state: Any = None, scale: float = 1.0, dtype: Any = np.float64) -> Array:
        """A Glorot-uniform start with zero biases; one seed gives every agent the same start.

        Each weight is uniform in ``[-u, u]``, ``u = scale sqrt(6 / (n_in + n_out))``, for the logistic activation
        ``scale sqrt(2 / (n_in + n_out))``.

        Parameters
        ----------
        random_state : None, int, SeedSequence or Generator
            None draws fresh entropy; give every agent the same start.
        scale : float, default=1.0
            A factor on the bound.
        dtype : dtype, default=float64

        Returns
        -------
        (P,) array

        References
        ----------
        X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010,
        eq. 16; the logistic bound is the one of scikit-learn's MLPClassifier.

        Examples
        --------
        >>> w = MLP([2, 3, 1]).init(0)
        >>> w.shape, w[6:9].tolist(), bool(abs(w).max() <= 1.5**0.5)
        ((13,), [0.0, 0.0, 0.0], True)
        """
        rng = np.random.default_rng(_checks.check_random_state(random_state))
        row = np.zeros(self.n_params)
        factor = 2.0 if self.activation == "logistic" else 6.0
        for part, (n_in, n_out) in zip(self.weight_slices, self.shapes, strict=True):
            bound = scale * np.sqrt(factor / (n_in + n_out))
            row[part] = rng.uniform(-bound, bound, n_in * n_out)
        return row.astype(dtype, copy=False)

    def forward(self, row: Array, x: ArrayLike, n_threads: int = 1) -> Array:
        """The raw outputs ``f(w; x_m)``.

        Parameters
        ----------
        row : (P,) array
            The weights; their precision is the precision of the result.
        x : (M, d) array
        n_threads : int, default=1

        Returns
        -------
        (M, Q) array

        Examples
        --------
        >>> MLP([2, 1]).forward(np.array([1.0, 2.0, 3.0]), [[1.0, 1.0], [0.0, 1.0]])
        array([[6.],
               [5.]])
        """
        w = np.ascontiguousarray(row, dtype=np.float32 if row.dtype == np.float32 else np.float64)
        x = np.ascontiguousarray(x, dtype=w.dtype)
        if w.shape != (self.n_params,) or x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(
                f"forward takes a row ({self.n_params},) and x (rows, {self.n_inputs}) for {self!r}, "
                f"got {w.shape} and {x.shape}."
            )
        out = np.empty((len(x), self.n_outputs), w.dtype)
        offsets = np.array([0, len(x)], dtype=np.int64)
        kernels.mlp_forward(out, w[None], x, offsets, self.layers, self.activation_code, n_threads)
        return out

    def __repr__(self) -> str:
        return f"MLP({list(self.layers)}, activation={self.activation!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MLP) and (self.layers, self.activation) == (other.layers, other.activation)

    def __hash__(self) -> int:
        return hash((self.layers, self.activation))


def _check_layers(layers: Sequence[int]) -> tuple[int, ...]:
    """The layers as a tuple of Python ints."""
    sizes = tuple(layers) if np.iterable(layers) else ()
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in sizes)
    if len(sizes) < 2 or not whole:
        raise ValueError(
            f"layers must be at least two positive integers (inputs, hidden units, ..., outputs), got {layers!r}."
        )
    return tuple(int(n) for n in sizes)


def _frozen(array: Array) -> Array:
    """The same array, read-only: it is shared by everybody who asks."""
    array.flags.writeable = False
    return array
