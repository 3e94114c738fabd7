"""Direct feedback alignment: an oracle that sends the output's error to every hidden layer by a fixed random matrix.

# Design
# A hidden layer's direction asks for the error of the outputs and for nothing of the layers above it: one product of a
# fixed matrix with the error takes the place of backpropagation. The matrices follow from a seed alone, so every agent
# and every rank has the same ones, and none is ever sent; gradient tracking needs no more than a fixed map from weights
# to a direction. For an `MLP` the kernel `mlp_feedback` does it, for a `Chain` its layers' own adjoints.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext._params import Parameters
from dnnext.models.layer import Layer, adjoint_all, forward_all
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["Feedback", "alignment"]

Array = np.ndarray[Any, np.dtype[Any]]

STACKED = Kept[str, Array]()  # by the fingerprint of a feedback
CHUNK = 256  # rows that layers written in Python see at a time: a constant, so that sums are added in one order


class Feedback(Parameters):
    """Direct feedback alignment (DFA): the error of the outputs, sent to each hidden layer by a fixed random matrix.

    With ``e_m`` the derivative of the loss in the raw output and ``z_k`` what layer k activates,

    ``delta_L = e``,  ``delta_k = (B_k e) * phi'(z_k)`` for the hidden layers,  ``dW_k = sum_m a_k-1 delta_k'``,

    where backpropagation has ``W_k+1 delta_k+1`` in place of ``B_k e``. The last layer's direction is its exact
    gradient; the hidden layers' are not, and nothing guarantees descent.

    Parameters
    ----------
    seed : int, default=0
        Every agent draws the same matrices from it.
    scale : "normalised" or float, default="normalised"
        Standard deviation of the entries of ``B_k`` (n_k, Q); "normalised" is ``1 / sqrt(n_k Q)``. It acts as a factor
        on the hidden layers' step; 0 leaves them as they started.
    distribution : {"gaussian", "orthogonal"}, default="gaussian"
        Independent entries, or orthogonal columns (rows where ``n_k < Q``) of the same mean square.
    shared : bool, default=False
        Whether all layers take the first rows of one matrix.

    Raises
    ------
    ValueError
        If an argument is unfit; in a run, if the model is neither an MLP nor a Chain, or the problem has tangents.

    References
    ----------
    .. [1] A. Nokland, Direct feedback alignment provides learning in deep neural networks, arXiv 1609.01596 (2016).
    .. [2] J. Launay, I. Poli, F. Krzakala, Principled training of neural networks with direct feedback alignment,
       arXiv 1906.04554 (2019).

    Examples
    --------
    >>> from dnnext.local import Feedback
    >>> from dnnext.problem import MLP
    >>> [b.shape for b in Feedback(0).matrices(MLP([4, 8, 5, 2]))]
    [(8, 2), (5, 2)]
    """

    is_gradient = False
    needs = frozenset({"hidden_layers", "no_tangents"})  # it sends the error of the outputs alone

    def __init__(
        self, seed: int = 0, scale: str | float = "normalised", distribution: str = "gaussian", shared: bool = False
    ) -> None:
        self.seed = _checks.check_count("seed", seed, 0)
        self.scale = scale
        if not _checks.is_word(scale, "normalised"):
            _checks.check_positive("scale", scale, allow_zero=True, words=("normalised",))
        self.distribution = _checks.check_choice("distribution", distribution, ("gaussian", "orthogonal"))
        if not isinstance(shared, bool | np.bool_):
            raise ValueError(f"shared must be True or False, got {short(shared)}.")
        self.shared = bool(shared)

    def matrices(self, model: Any) -> list[Array]:
        """``B_k`` (n_k, Q) of every hidden layer, first layer first, in float64.

        Parameters
        ----------
        model : MLP or Chain
            A chain's hidden layers are its layers with parameters, but the last of them.

        Returns
        -------
        list of (n_k, Q) arrays

        Raises
        ------
        ValueError
            If the model is neither.
        """
        sizes, outputs = _hidden_sizes(model, self), int(model.n_outputs)
        seeds = np.random.SeedSequence(self.seed).spawn(len(sizes) + 1)
        common = self._draw(max(sizes, default=1), outputs, seeds[-1]) if self.shared else None
        found = []
        for n, seed in zip(sizes, seeds, strict=False):
            b = self._draw(n, outputs, seed) if common is None else common[:n].copy()
            scale = 1 / np.sqrt(n * outputs) if isinstance(self.scale, str) else self.scale
            found.append(b * scale)
        return found

    def __call__(self, problem: Problem, w: Array, out: Array, memory: dict[str, Array]) -> Array:
        """``g_i(w_i)`` (n_local,) and, into out (n_local, P), the direction by feedback."""
        b, model = self._stacked(problem), _any(problem.model)
        if "feedback" not in model.offers:
            return _feedback_of_layers(problem, w, b, out)
        loss, values = problem.loss, np.empty(problem.n_local)
        target, weight, scale = problem.target, problem.weight, problem.scale
        code, param = loss.kernel, loss.param
        if code is None:  # a loss written in Python: its derivatives take the place of the targets
            f, share = problem.raw_output(w), _shares(problem)
            target = np.ascontiguousarray(loss.grad(f, target) * share[:, None], problem.dtype)
            weight, scale, code, param = None, 1.0, -1, 0.0
        rows = np.ascontiguousarray(w, problem.dtype)
        model.feedback(rows, problem.rows, b, target, weight, code, param, scale, values, out)
        return problem.local_values(w) if code == -1 else values

    def _draw(self, n: int, outputs: int, seed: np.random.SeedSequence) -> Array:
        """(n, outputs) with entries of mean square 1."""
        b = np.random.default_rng(seed).standard_normal((n, outputs))
        if self.distribution == "gaussian":
            return b
        q, r = np.linalg.qr(b if n >= outputs else b.T)
        q = q * np.sign(np.diagonal(r))
        return np.asarray((q if n >= outputs else q.T) * np.sqrt(max(n, outputs)))

    def _stacked(self, problem: Problem) -> Array:
        """All matrices one after another in the problem's precision, made once."""

        def stacked() -> Array:
            empty = np.empty((0, problem.model.n_outputs))
            every: Array = np.concatenate([empty, *self.matrices(problem.model)])
            return np.ascontiguousarray(every, problem.dtype)

        return STACKED.once(problem, self.fingerprint(), stacked)


def alignment(
    model: Any, w: Array, x: Array, error: Array | Callable[[Array], Array], feedback: Feedback
) -> tuple[Array, Array]:
    """How well feedback points along backpropagation: cosines of one network's rows.

    ``cos_mk`` is the cosine between ``B_k e_m`` and the signal that backpropagation sends to the output of hidden
    layer k at row m, both before ``phi'``, with the same weights. Feedback is of use to a layer where it is above 0.

    Parameters
    ----------
    model : MLP or Chain
    w : (P,) array
        The weights of one network.
    x : (M, ...) array
    error : (M, Q) array, or function of the raw outputs (M, Q)
        ``e_m``, the derivative of the loss in the raw output, or what gives it.
    feedback : Feedback

    Returns
    -------
    mean, std : (hidden layers,) arrays
        Over the rows with a signal; NaN for a layer without any.

    Raises
    ------
    ValueError
        If the model is neither an MLP nor a Chain.

    References
    ----------
    J. Launay, I. Poli, F. Krzakala, Principled training of neural networks with direct feedback alignment, arXiv
    1906.04554 (2019).

    Examples
    --------
    >>> from dnnext.local import Feedback, alignment
    >>> from dnnext.problem import MLP
    >>> model = MLP([3, 50, 2])
    >>> w, x, error = model.init(0), np.ones((4, 3)), np.array([[1.0, -1.0], [0.5, -0.5], [-1.0, 1.0], [0.0, 0.0]])
    >>> mean, std = alignment(model, w, x, error, Feedback(0))
    >>> mean.shape, bool(abs(mean[0]) < 0.5)
    ((1,), True)
    """
    matrices = feedback.matrices(model)
    layers = _layers(model)
    owned = _owned(layers, model.layout.unpack(w))
    keeps: list[dict[str, Any]] = [{} for _ in layers]
    f = forward_all(layers, [a for own in owned for a in own], x.reshape(len(x), *(layers[0].shape_in or ())), keeps)
    error = error(f) if callable(error) else error
    mean, std = np.full(len(matrices), np.nan), np.full(len(matrices), np.nan)
    h: Array = error.reshape(len(x), *(layers[-1].shape_out or ()))
    hidden = _hidden_places(layers)
    for place in range(len(layers) - 1, -1, -1):
        if place in hidden:
            k = hidden.index(place)
            true, sent = h.reshape(len(x), -1).astype(np.float64), error.astype(np.float64) @ matrices[k].T
            size = np.linalg.norm(true, axis=1) * np.linalg.norm(sent, axis=1)
            cosines = np.sum(true * sent, axis=1)[size > 0] / size[size > 0]
            if len(cosines):
                mean[k], std[k] = cosines.mean(), cosines.std()
        h, _, _ = adjoint_all(layers[place : place + 1], owned[place], keeps[place : place + 1], h, None)
    return mean, std


def _any(model: Any) -> Any:
    return model


def _layers(model: Any) -> list[Layer]:
    """The layers of a model that offers "hidden_layers"."""
    return list(model.chain.layers)


def _owned(layers: list[Layer], arrays: dict[str, Array]) -> list[list[Array]]:
    """The arrays of every layer."""
    left = list(arrays.values())
    counts = [_n_arrays(layer) for layer in layers]
    cuts = np.cumsum([0, *counts])
    return [left[a:b] for a, b in pairwise(cuts)]


def _n_arrays(layer: Layer) -> int:
    inner = getattr(layer, "layers", None)
    return sum(map(_n_arrays, inner)) if inner is not None else len(layer.parts())


def _hidden_places(layers: list[Layer]) -> list[int]:
    """Which layers feedback reaches: all with parameters but the last of them."""
    return [place for place, layer in enumerate(layers) if _n_arrays(layer)][:-1]


def _hidden_sizes(model: Any, oracle: Any) -> list[int]:
    check_needs(f"oracle={short(oracle)}", {"hidden_layers"}, getattr(model, "offers", ()), {"model": model})
    layers = _layers(model)
    return [int(np.prod(layers[place].shape_out or ())) for place in _hidden_places(layers)]


def _shares(problem: Problem) -> Array:
    """``c_m / N``, (M,)."""
    share = np.full(problem.n_samples, problem.scale, problem.dtype)
    return np.asarray(share if problem.weight is None else share * problem.weight)


def _feedback_of_layers(problem: Problem, w: Array, b: Array, out: Array) -> Array:
    """Values and directions of a chain, layer by layer."""
    model: Any = problem.model
    values, shares, layers = np.zeros(problem.n_local), _shares(problem), _layers(problem.model)
    hidden, cuts = _hidden_places(layers), np.cumsum([0, *_hidden_sizes(model, None)])
    out[...] = 0
    for i in range(problem.n_local):
        owned = _owned(layers, model.layout.unpack(w[i]))
        last = max(place for place, arrays in enumerate(owned) if arrays)
        into = _owned(layers, model.layout.unpack(out[i]))
        for start in range(int(problem.offsets[i]), int(problem.offsets[i + 1]), CHUNK):
            rows = slice(start, min(start + CHUNK, int(problem.offsets[i + 1])))
            n, target = rows.stop - rows.start, problem.target[rows]
            keeps: list[dict[str, Any]] = [{} for _ in layers]
            x = problem.x[rows].reshape(n, *(layers[0].shape_in or ()))
            f = forward_all(layers, [a for own in owned for a in own], x, keeps)
            values[i] += np.sum(shares[rows] * problem.loss.value(f, target), dtype=np.float64)
            error = (problem.loss.grad(f, target) * shares[rows][:, None]).astype(problem.dtype, copy=False)
            h: Array = error
            for place in range(len(layers) - 1, -1, -1):
                if place in hidden:
                    k = hidden.index(place)
                    h = (error @ b[cuts[k] : cuts[k + 1]].T).reshape(n, *(layers[place].shape_out or ()))
                elif place < last and not owned[place]:
                    continue  # feedback goes past layers without parameters
                h, _, part = adjoint_all(layers[place : place + 1], owned[place], keeps[place : place + 1], h, None)
                for array, gradient in zip(into[place], part, strict=True):
                    array += gradient
    return values
