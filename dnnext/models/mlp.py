"""The multilayer perceptron, a `Model` with kernels for everything."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext._params import Parameters, fingerprint
from dnnext.models.chain import Chain
from dnnext.models.layers import Dense
from dnnext.models.layout import Layout
from dnnext.models.mlp_curvature import MLPCurvature
from dnnext.models.model import Rows

__all__ = ["MLP"]

Array = NDArray[Any]


class MLP(MLPCurvature, Parameters):
    """A multilayer perceptron with a linear raw output.

    ``a_0 = x``,  ``a_k = phi(a_{k-1} W_k + b_k)`` for the hidden layers, ``f(w; x) = a_{L-1} W_L + b_L``.

    Parameters
    ----------
    layers : sequence of int
        ``(d, h_1, ..., Q)``: inputs, units of every hidden layer, outputs. Two numbers make a linear model. The first
        and the last may be None; `sized` fills them in.
    activation : {"tanh", "logistic", "relu", "softplus", "identity", "square"}, default="tanh"
        ``phi`` of the hidden layers; "square" is ``phi(z) = z^2``.

    Attributes
    ----------
    layers : tuple of int
    activation : str
    activation_code : int
        The code of ``phi`` in the kernels.
    layout : Layout
        Where each parameter lies: ``"layer1.weight"`` (inputs, outputs), ``"layer1.bias"`` (outputs,), and so on. The
        groups are the rows of every weight matrix: the outgoing weights of every unit, inputs included.
    n_inputs, n_outputs, n_layers : int
        ``d``, ``Q`` and the number of weight matrices ``L``.
    offers : frozenset of str
        See `Model`.

    Raises
    ------
    ValueError
        If a layer is not a positive integer, there are fewer than two, or the activation is unknown.

    Examples
    --------
    >>> model = MLP([2, 3, 1])
    >>> model.n_params, [part.name for part in model.layout.parts]
    (13, ['layer1.weight', 'layer1.bias', 'layer2.weight', 'layer2.bias'])
    >>> model.layout.groups.tolist()
    [[0, 3], [3, 6], [9, 10], [10, 11], [11, 12]]
    >>> MLP([None, 3, None]).sized(2, 1) == model
    True
    """

    offers: ClassVar[frozenset[str]] = frozenset(
        {"loss_grad", "gauss_newton", "cg", "dual", "next_step", "tangents", "hidden_layers", "feedback"}
        | {"tangent_kernel", "coefs"}
    )

    def __init__(self, layers: Sequence[int | None], activation: str = "tanh") -> None:
        self.layers: tuple[int, ...] = _check_layers(layers)
        self.activation = _checks.check_choice("activation", activation, kernels.ACTIVATIONS)
        self.activation_code: int = kernels.ACTIVATIONS[activation]
        self.n_inputs, self.n_outputs, self.n_layers = self.layers[0], self.layers[-1], len(self.layers) - 1
        self._layout = None if None in self.layers else _layout(self.layers)

    @classmethod
    def examples(cls) -> list["MLP"]:
        """Small models on which the contract tests run."""
        return [cls([3, 2]), *(cls([3, 4, 2], phi) for phi in kernels.ACTIVATIONS), cls([3, 5, 4, 1], "softplus")]

    @property
    def layout(self) -> Layout:
        """Where each parameter lies; a model with open ends has none yet."""
        if self._layout is None:
            raise ValueError(f"{self!r} has open ends: give it its numbers of inputs and outputs by sized(...).")
        return self._layout

    @property
    def n_params(self) -> int:
        """``P``, biases included."""
        return self.layout.n_params

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """``(inputs, outputs)`` of every weight matrix."""
        return list(pairwise(self.layers))

    @property
    def mask(self) -> NDArray[np.float64]:
        """``(P,)``: 1 on weights, 0 on biases."""
        return self.layout.mask

    @property
    def layer_of(self) -> NDArray[np.int64]:
        """``(P,)``: the layer of each parameter, 0 for the first."""
        return self.layout.layer_of

    @property
    def groups(self) -> NDArray[np.int64]:
        """``(n_groups, 2)``: columns ``start, stop`` of the outgoing weights of every unit, inputs included."""
        return self.layout.groups

    @property
    def layer_slices(self) -> tuple[slice, ...]:
        """The columns of every layer: its weight matrix (inputs x outputs, C order), then its biases."""
        return self.layout.layer_slices

    @property
    def weight_slices(self) -> tuple[slice, ...]:
        """The columns of every weight matrix."""
        return tuple(part.columns for part in self.layout.parts[::2])

    @property
    def bias_slices(self) -> tuple[slice, ...]:
        """The columns of the biases of every layer."""
        return tuple(part.columns for part in self.layout.parts[1::2])

    def sized(self, n_inputs: int, n_outputs: int) -> "MLP":
        """The same network with its open ends closed.

        Raises
        ------
        ValueError
            If an end that is not open has another size.
        """
        for name, own, wanted in (("n_inputs", self.n_inputs, n_inputs), ("n_outputs", self.n_outputs, n_outputs)):
            if own not in (None, wanted):
                raise ValueError(f"{name} must be {own} for {self!r}, got {wanted}; or leave that end open (None).")
        return MLP((n_inputs, *self.layers[1:-1], n_outputs), self.activation)

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

    def forward(self, w: Array, rows: Rows | ArrayLike, out: Array | None = None) -> Array:
        """The raw outputs ``f(w_i; x_m)``.

        Parameters
        ----------
        w : (n, P), (1, P) or (P,) array
            The weights; their precision is the precision of the result.
        rows : Rows or (M, d) array
            An array holds the rows of one agent.
        out : (M, Q) array, optional

        Returns
        -------
        (M, Q) array

        Examples
        --------
        >>> MLP([2, 1]).forward(np.array([1.0, 2.0, 3.0]), [[1.0, 1.0], [0.0, 1.0]])
        array([[6.],
               [5.]])
        """
        if not isinstance(rows, Rows):
            w = np.atleast_2d(np.ascontiguousarray(w, np.float32 if w.dtype == np.float32 else np.float64))
            rows = Rows.of(rows, w.dtype)
        if w.shape[1:] != (self.n_params,) or rows.x.shape[1:] != (self.n_inputs,):
            raise ValueError(
                f"forward takes a row ({self.n_params},) and x (rows, {self.n_inputs}) for {self!r}, "
                f"got {w.shape[1:]} and {rows.x.shape}."
            )
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        kernels.mlp_forward(out, w, rows.x, rows.offsets, self.layers, self.activation_code, rows.n_threads)
        return out

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n, P) -> (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        kernels.mlp_jv(out, w, rows.x, v, rows.offsets, self.layers, self.activation_code, rows.n_threads)
        return out

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u (M, Q) -> (n, P)."""
        out = np.empty((rows.n_agents, self.n_params), rows.x.dtype) if out is None else out
        kernels.mlp_jtu(out, w, rows.x, u, rows.offsets, self.layers, self.activation_code, rows.n_threads)
        return out

    def loss_grad(
        self, w: Array, rows: Rows, target: Array, weight: Array | None, loss: int, param: float, scale: float,
        value: Array, out: Array | None,
    ) -> None:  # fmt: skip
        """Value and gradient of a loss with a kernel in one pass: see `Fused`."""
        kernels.mlp_loss_grad(
            value, out, w, rows.x, target, weight, rows.offsets, self.layers, self.activation_code, loss, param, scale,
            rows.n_threads,
        )  # fmt: skip

    def feedback(
        self, w: Array, rows: Rows, matrices: Array, target: Array, weight: Array | None, loss: int, param: float,
        scale: float, value: Array, out: Array,
    ) -> None:  # fmt: skip
        """Value of a loss, and the direction by feedback, in one pass: `loss_grad` with ``B_k e`` in the hidden layers.

        matrices: all ``B_k``, one after another, (hidden units, Q). Where loss is -1, target (M, Q) holds the errors e.
        """
        kernels.mlp_feedback(
            value, out, w, rows.x, matrices, target, weight, rows.offsets, self.layers, self.activation_code, loss,
            param, scale, rows.n_threads,
        )  # fmt: skip

    def tangent_kernel(self, w: Array, x: Array, y: Array | None, n_threads: int) -> Array:
        """``J(x) J(y)'`` at one row of weights (1, P): (n Q, m Q), without a Jacobian; y None is x itself."""
        shape = len(x) * self.n_outputs, len(x if y is None else y) * self.n_outputs
        out = np.empty(shape, x.dtype)
        kernels.mlp_tangent_kernel(out, w, x, y, self.layers, self.activation_code, n_threads)
        return out

    @property
    def chain(self) -> Chain:
        """The same network as a chain of layers, whose arrays lie where those of the network do."""
        return _as_chain(self.layers, self.activation)

    @property
    def table(self) -> NDArray[np.int64] | None:
        """The layers as the kernels of chains take them, or None: see `Chain.table`."""
        return self.chain.table

    def tangent(self, w: Array, rows: Rows, directions: Array, out: Array | None = None) -> Array:
        """``DF(x_m) v_km``, directions (K, M, d) -> (K, M, Q): see `Chain.tangent`."""
        return self.chain.tangent(w, rows, directions, out)

    def tangent_vjp(
        self, w: Array, rows: Rows, u: Array, directions: Array | None, t: Array | None, out: Array | None = None
    ) -> Array:
        """The gradient of ``sum_m <u_m, F> + sum_km <t_km, DF v_km>``: see `Chain.tangent_vjp`."""
        return self.chain.tangent_vjp(w, rows, u, directions, t, out)

    def tangent_loss_grad(self, *args: Any) -> Array:
        """Loss and tangent term with their gradient in one sweep: see `Chain.tangent_loss_grad`."""
        return self.chain.tangent_loss_grad(*args)

    def fingerprint(self) -> str:
        """Class and parameters: what ranks compare."""
        return f"{type(self).__module__}.{type(self).__qualname__}{fingerprint((self.layers, self.activation))}"

    def __repr__(self) -> str:
        return f"MLP({list(self.layers)}, activation={self.activation!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MLP) and (self.layers, self.activation) == (other.layers, other.activation)

    def __hash__(self) -> int:
        return hash((self.layers, self.activation))


def _layout(layers: Sequence[int]) -> Layout:
    """Weight matrix and biases of every layer, one after another."""
    return Layout(
        [(f"layer{k}.weight", (n_in, n_out), True, 0), (f"layer{k}.bias", (n_out,), False, None)]
        for k, (n_in, n_out) in enumerate(pairwise(layers), 1)
    )


@lru_cache(maxsize=16)
def _as_chain(layers: tuple[int, ...], activation: str) -> Chain:
    """Dense layers, one after another."""
    return Chain([*(Dense(units, activation) for units in layers[1:-1]), Dense(layers[-1])], layers[0])


def _check_layers(layers: Sequence[int | None]) -> tuple[Any, ...]:
    """The layers as a tuple of Python ints; None at open ends."""
    sizes = tuple(layers) if np.iterable(layers) else ()
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in sizes[1:-1])
    ends = [n for n in (sizes[:1] + sizes[-1:]) if n is not None]
    whole = whole and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in ends)
    if len(sizes) < 2 or not whole:
        raise ValueError(
            f"layers must be at least two positive integers (inputs, hidden units, ..., outputs), got {short(layers)}."
        )
    return tuple(None if n is None else int(n) for n in sizes)
