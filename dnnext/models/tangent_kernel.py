"""The neural tangent kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext._params import Parameters
from dnnext.models.model import Model, Rows, check_model

__all__ = ["NeuralTangentKernel"]

Array = NDArray[Any]


class NeuralTangentKernel(Parameters):
    """The empirical neural tangent kernel of a model, ``K(x, y) = J(w0; x) J(w0; y)'``.

    For an `MLP` it follows from activations and backpropagated outputs, layer by layer, and no Jacobian is made
    (csrc/tangent.c): with a the input of a layer and ``delta_q`` the derivative of output q in what the layer gives,
    ``K[q, r] = sum_layers (a(x)' a(y) + 1) delta_q(x)' delta_r(y)``. Any other model gives rows of J by its `vjp`.

    Parameters
    ----------
    model : Model
    w0 : (P,) array
        One row of its weights; its precision is the precision of the kernel.
    n_threads : int, default=1
        Their number never changes a result.

    Raises
    ------
    ValueError
        If the model is none, w0 is not one row of its weights, or, in a call, the inputs do not fit the model.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, Neural tangent kernel: convergence and generalization in neural networks, NeurIPS
    2018.

    Examples
    --------
    >>> from dnnext.models import MLP, NeuralTangentKernel
    >>> model = MLP([2, 1])  # a linear model: x' y + 1
    >>> NeuralTangentKernel(model, np.zeros(3))([[1.0, 0.0], [0.0, 2.0]], [[1.0, 3.0]])
    array([[2.],
           [7.]])
    """

    def __init__(self, model: Model, w0: ArrayLike, n_threads: int = 1) -> None:
        self.model: Any = check_model(model)
        row = np.asarray(w0)
        self.w0: Array = np.array(row, dtype=row.dtype if row.dtype == np.float32 else np.float64)
        self.n_threads = _checks.check_count("n_threads", n_threads)
        if self.w0.shape != (model.layout.n_params,):
            raise ValueError(
                f"w0 must be one row of weights ({model.layout.n_params},) for {model!r}, got shape {self.w0.shape}."
            )

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> Array:
        """``J(X) J(Y)'``.

        Parameters
        ----------
        X : (n, ...) array
            Inputs of the model.
        Y : (m, ...) array, optional
            X itself by default; the result is then symmetric bit for bit.

        Returns
        -------
        (n Q, m Q) array
            Row (i, q) and column (j, r), in this order, for the outputs q at ``x_i`` and r at ``y_j``.
        """
        x, y = self._inputs("X", X), None if Y is None else self._inputs("Y", Y)
        outputs = int(self.model.n_outputs)
        shape = len(x) * outputs, (len(x) if y is None else len(y)) * outputs
        n_bytes = shape[0] * shape[1] * self.w0.itemsize
        _checks.check_memory(f"a kernel matrix of shape {shape}", n_bytes, "take fewer rows, or float32")
        if "tangent_kernel" in self.model.offers:
            return np.asarray(self.model.tangent_kernel(self.w0[None], x, y, self.n_threads))
        left = self._jacobian(x)
        return np.asarray(left @ (left if y is None else self._jacobian(y)).T)

    def _inputs(self, name: str, given: ArrayLike) -> Array:
        x = np.ascontiguousarray(given, dtype=self.w0.dtype)
        n_inputs = self.model.n_inputs
        shape = tuple(n_inputs) if isinstance(n_inputs, tuple) else (n_inputs,)
        if x.shape[1:] != shape:
            raise ValueError(f"{name} must have the shape (rows, {', '.join(map(str, shape))}), got {x.shape}.")
        return x

    def _jacobian(self, x: Array) -> Array:
        """(n Q, P): every row is an agent of its own, every output a backward pass."""
        rows, outputs = Rows(x, np.arange(len(x) + 1), self.n_threads), int(self.model.n_outputs)
        j = np.empty((len(x), outputs, len(self.w0)), x.dtype)
        for q in range(outputs):
            u = np.zeros((len(x), outputs), x.dtype)
            u[:, q] = 1
            j[:, q] = self.model.vjp(self.w0[None], rows, u)
        return j.reshape(len(x) * outputs, -1)
