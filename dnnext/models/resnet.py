"""Deep residual networks as discretised ordinary differential equations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.kernels.residual_formulas import RESIDUAL_ACTIVATIONS, WHOLE, residual_phi, residual_phi_slope
from dnnext.models.layout import Layout
from dnnext.models.model import Rows

__all__ = ["ResNet"]

Array = NDArray[Any]

ACTIVATIONS = {name: RESIDUAL_ACTIVATIONS[name] for name in ("tanh", "relu", "smooth_relu", "softplus", "logistic")}
OPENINGS = ("trained", "fixed", "padding")  # in the order of the kernels
CHUNK = 1024  # rows whose states and tangents are held at a time


class ResNet(Parameters):
    """A residual network: ``u[n + 1] = u[n] + h phi(u[n] W_n + b_n)``, ``0 <= n < N``, ``h = T / N``.

    The opening makes ``u[0]`` (width) from the inputs, the last layer ``f = u[N] C + c`` is linear. In memory a state
    stands in columns, (width, rows). One explicit Euler step of ``u' = phi(u W(t) + b(t))`` on ``[0, T]`` is one layer,
    so depth is a matter of accuracy [1]_.

    Parameters
    ----------
    n_layers : int
        N, the residual layers.
    width : int
        Numbers of a state.
    T : float
        Final time; ``h = T / N``.
    activation : {"tanh", "relu", "smooth_relu", "softplus", "logistic"}
        ``phi``; "smooth_relu" joins both lines of relu by a parabola on [-0.1, 0.1].
    opening : {"trained", "fixed", "padding"}
        ``u[0] = phi(x K + k)`` with K, k among the weights; the same with K drawn from `seed` and k = 0; or x followed
        by zeros.
    n_inputs, n_outputs : int or None
        The ends; None leaves one open for `sized`.
    seed : int
        Of the fixed opening.

    Attributes
    ----------
    layout : Layout
        Parts "opening.weight", "opening.bias" if trained; "layer0.weight", "layer0.bias", ...; "output.weight",
        "output.bias". Weights are (inputs, outputs).

    Raises
    ------
    ValueError
        If a number is unfit, or padding cannot hold the inputs.

    References
    ----------
    .. [1] S. Guenther, L. Ruthotto, J. B. Schroder, E. C. Cyr, N. R. Gauger, Layer-parallel training of deep residual
       neural networks, SIAM J. Math. Data Sci. 2 (2020), section 2.

    Examples
    --------
    >>> model = ResNet(n_layers=3, width=4, n_inputs=2, n_outputs=1)
    >>> model.layout.n_params, model.layout.n_layers
    (77, 5)
    """

    # its steps one by one, which `LayerParallel` asks for; loss and gradient in one pass
    offers: frozenset[str] = frozenset({"layers", "loss_grad"})
    n_inputs: Any  # int, or None while open
    n_outputs: Any

    def __init__(
        self,
        n_layers: int = 16,
        width: int = 8,
        T: float = 1.0,
        activation: str = "tanh",
        opening: str = "trained",
        n_inputs: int | None = None,
        n_outputs: int | None = None,
        seed: int = 0,
    ) -> None:
        self.n_layers = _checks.check_count("n_layers", n_layers)
        self.width = _checks.check_count("width", width)
        self.T = _checks.check_positive("T", T)
        self.activation = _checks.check_choice("activation", activation, tuple(ACTIVATIONS))
        self.opening = _checks.check_choice("opening", opening, OPENINGS)
        self.n_inputs = None if n_inputs is None else _checks.check_count("n_inputs", n_inputs)
        self.n_outputs = None if n_outputs is None else _checks.check_count("n_outputs", n_outputs)
        self.seed = _checks.check_count("seed", seed, 0)
        if opening == "padding" and self.n_inputs is not None and self.n_inputs > width:
            raise ValueError(
                f"width must be at least n_inputs for opening='padding', got {width} for {n_inputs} inputs; choose "
                "opening='trained' or a larger width."
            )

    @classmethod
    def examples(cls) -> list[ResNet]:
        """One of each kind, small."""
        return [
            cls(3, 4, 2.0, "tanh", n_inputs=2, n_outputs=3),
            cls(2, 3, 1.0, "smooth_relu", "fixed", n_inputs=4, n_outputs=1),
            cls(4, 5, 1.0, "relu", "padding", n_inputs=3, n_outputs=2),
        ]

    def sized(self, n_inputs: int, n_outputs: int) -> ResNet:
        """The same network with its ends closed.

        Raises
        ------
        ValueError
            If an end was closed before, with another size, or inputs are images.
        """
        if not isinstance(n_inputs, int | np.integer):
            raise ValueError(f"X must be a table (n, d) for {self!r}, got rows of shape {n_inputs}: reshape it.")
        for name, own, wanted in (("n_inputs", self.n_inputs, n_inputs), ("n_outputs", self.n_outputs, n_outputs)):
            if own is not None and own != wanted:
                raise ValueError(f"{name} must be {own}, as {self!r} has it, got {wanted} from the data.")
        return type(self)(**(self.get_params(deep=False) | {"n_inputs": n_inputs, "n_outputs": n_outputs}))

    @property
    def h(self) -> float:
        """The step size ``T / N``."""
        return self.T / self.n_layers

    @cached_property
    def layout(self) -> Layout:
        """Where each parameter lies."""
        if self.n_inputs is None or self.n_outputs is None:
            raise ValueError(f"n_inputs and n_outputs must be known, got {short(self)}; close the ends by `sized`.")
        width, layers = self.width, list[list[tuple[str, tuple[int, ...], bool, int | None]]]()
        if self.opening == "trained":
            layers.append(_dense("opening", self.n_inputs, width))
        layers += [_dense(f"layer{n}", width, width) for n in range(self.n_layers)]
        layers.append(_dense("output", width, self.n_outputs))
        return Layout(layers)

    def init(self, random_state: Any = None) -> Array:
        """A start (P,): uniform in ``+-sqrt(6 / (inputs + outputs))`` at both ends, a tenth of it between; zero biases.

        Small residual layers keep the first network near the identity, at any depth.
        """
        rng = np.random.default_rng(_checks.check_random_state(random_state))
        row = np.zeros(self.layout.n_params)
        for part in self.layout.parts:
            if part.name.endswith("weight"):
                bound = np.sqrt(6 / sum(part.shape)) * (0.1 if part.name.startswith("layer") else 1.0)
                row[part.columns] = rng.uniform(-bound, bound, part.size)
        return row

    # The pieces: opening, residual layers, output.

    def split(self, row: Array) -> tuple[Array, Array, Array]:
        """Views of one row (P,): the opening's columns, the residual layers (N, width^2 + width), the output's."""
        middle = self.n_layers * self.width * (self.width + 1)
        last = self.width * self.n_outputs + self.n_outputs
        first = len(row) - middle - last
        return row[:first], row[first : first + middle].reshape(self.n_layers, -1), row[first + middle :]

    def open(self, opening: Array, x: Array) -> tuple[Array, Array]:
        """``(u[0], phi'(z))`` of rows x (M, d): (width, columns), columns past M are zero."""
        n_rows, columns = len(x), -(-len(x) // WHOLE) * WHOLE
        u, slope = np.zeros((2, self.width, columns), x.dtype)
        if self.opening == "padding":
            u[: x.shape[1], :n_rows] = x.T
            return u, slope
        if self.opening == "fixed":
            z = self._fixed.astype(x.dtype).T @ x.T
        else:
            weight, bias = self._opening(opening)
            z = weight.T @ x.T + bias[:, None]
        u[:, :n_rows] = residual_phi(z, self.code)
        slope[:, :n_rows] = residual_phi_slope(u[:, :n_rows], self.code)
        return u, slope

    def _opening(self, opening: Array) -> tuple[Array, Array]:
        """K and k of the trained opening's columns."""
        n = self.n_inputs * self.width
        return opening[:n].reshape(-1, self.width), opening[n:]

    @property
    def code(self) -> int:
        """The kernels' number of ``phi``."""
        return ACTIVATIONS[self.activation]

    @property
    def _fixed(self) -> NDArray[np.float64]:
        """K of a fixed opening."""
        bound = np.sqrt(6 / (self.n_inputs + self.width))
        return np.random.default_rng(self.seed).uniform(-bound, bound, (self.n_inputs, self.width))

    def close(self, output: Array, u: Array, n_rows: int) -> Array:
        """``u' C + c``: (width, columns) -> (M, Q)."""
        n = self.width * self.n_outputs
        return np.asarray(u[:, :n_rows].T @ output[:n].reshape(self.width, -1) + output[n:])

    def pull_output(self, output: Array, u: Array, delta: Array) -> tuple[Array, Array]:
        """``(adjoint of u[N], gradient of the output layer)`` from delta (M, Q); columns past M are zero."""
        weight = output[: self.width * self.n_outputs].reshape(self.width, -1)
        adjoint = np.zeros_like(u)
        adjoint[:, : len(delta)] = weight @ delta.T
        return adjoint, np.concatenate([(u[:, : len(delta)] @ delta).ravel(), delta.sum(axis=0)])

    def pull_opening(self, x: Array, slope: Array, adjoint: Array) -> Array:
        """The gradient of the opening's columns from the adjoint of u[0]; empty where nothing is trained."""
        if self.opening != "trained":
            return np.empty(0, x.dtype)
        pushed = (adjoint * slope)[:, : len(x)]
        return np.concatenate([(x.T @ pushed.T).ravel(), pushed.sum(axis=1)])

    @property
    def _chain(self) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
        """One chain of all layers, as the kernels take it: numbers, sizes, and no other chain behind it."""
        return np.arange(self.n_layers)[None], np.full((1, self.n_layers), self.h), self.n_layers + 1

    # The contract of a model.

    def forward(self, w: Array, rows: Rows, out: Array | None = None) -> Array:
        """``f(w_i; x_m)``, (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for i, own in self._agents(rows):
            kernels.residual_outputs(out[own], **self._network(w, rows, i, own))
        return out

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n, P) -> (M, Q)."""
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for i, cut in self._chunks(rows):
            (opening, layers, output), (v_open, v_layers, v_out) = (
                self.split(w[i if len(w) > 1 else 0]),
                self.split(v[i]),
            )
            x, n_rows = rows.x[cut], cut.stop - cut.start
            u, slope = self.open(opening, x)
            states, tangents = np.empty((2, self.n_layers + 1, *u.shape), u.dtype)
            states[0], tangents[0] = u, 0
            if self.opening == "trained":
                weight, bias = self._opening(v_open)
                tangents[0, :, :n_rows] = slope[:, :n_rows] * (weight.T @ x.T + bias[:, None])
            kernels.residual_tangent(states, tangents, layers, v_layers, *self._chain, self.code, rows.n_threads)
            n_weights = self.width * self.n_outputs
            out[cut] = self.close(v_out, states[-1], n_rows)
            out[cut] += tangents[-1, :, :n_rows].T @ output[:n_weights].reshape(self.width, -1)
        return out

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u (M, Q) -> (n, P)."""
        out = np.empty((rows.n_agents, self.layout.n_params), rows.x.dtype) if out is None else out
        value, u = np.empty(1), np.ascontiguousarray(u, rows.x.dtype)
        for i, own in self._agents(rows):
            net = self._network(w, rows, i, own)
            kernels.residual_loss_grad(value, out[i], target=u[own], weight=None, loss=-1, param=0.0, scale=1.0, **net)
        return out

    def loss_grad(
        self, w: Array, rows: Rows, target: Array, weight: Array | None, loss: int, param: float, scale: float,
        value: Array, out: Array | None,
    ) -> None:  # fmt: skip
        """value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)), (n,) float64, and its gradient into out (n, P) or None.

        The states are computed once for both.
        """
        target = np.ascontiguousarray(target, rows.x.dtype)
        weight = None if weight is None else np.ascontiguousarray(weight, rows.x.dtype)
        for i, own in self._agents(rows):
            data = {"target": target[own], "weight": None if weight is None else weight[own]}
            rest = {"loss": loss, "param": param, "scale": scale} | data | self._network(w, rows, i, own)
            kernels.residual_loss_grad(value[i : i + 1], None if out is None else out[i], **rest)

    def _network(self, w: Array, rows: Rows, i: int, own: slice) -> dict[str, Any]:
        """Agent i, its weights and rows, as the kernels take them."""
        return {
            "w": w[i if len(w) > 1 else 0], "x": rows.x[own], "width": self.width, "n_layers": self.n_layers,
            "fixed": self._fixed.astype(rows.x.dtype) if self.opening == "fixed" else None,
            "opening": OPENINGS.index(self.opening), "h": self.h, "activation": self.code, "n_threads": rows.n_threads,
        }  # fmt: skip

    def _agents(self, rows: Rows) -> Iterator[tuple[int, slice]]:
        """Agent after agent, and its rows."""
        for i, (first, last) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
            yield i, slice(int(first), int(last))

    def _chunks(self, rows: Rows) -> Iterator[tuple[int, slice]]:
        """Agent after agent, and its rows in pieces of `CHUNK`."""
        for i, (first, last) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
            for start in range(int(first), int(last), CHUNK):
                yield i, slice(start, min(start + CHUNK, int(last)))


def _dense(name: str, n_in: int, n_out: int) -> list[tuple[str, tuple[int, ...], bool, int | None]]:
    return [(f"{name}.weight", (n_in, n_out), True, 0), (f"{name}.bias", (n_out,), False, None)]
