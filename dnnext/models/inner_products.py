"""Inner products ``<u, v>_G = u' G v`` of weights, and their Riesz map ``G^-1``, which makes a covector a direction.

Descent along ``G^-1 dJ`` does not depend on coordinates: under ``w = C phi`` with ``G = (C C')^-1`` it is descent along
``dJ`` in phi. `root` and `coroot` are these coordinates: ``phi = L' w`` of weights and ``L^-1 c`` of covectors, for
``G = L L'``, so that ``|w|_G = |L' w|``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.models.layout import Layout

__all__ = ["Dense", "Diagonal", "Euclidean", "InnerProduct", "Kronecker"]

Array = NDArray[Any]


class InnerProduct(Parameters, ABC):
    """A symmetric positive definite G on rows of weights (n, P)."""

    def bind(self, layout: Layout) -> None:
        """Refuse a layout that G does not fit.

        Raises
        ------
        ValueError
            If it does not.
        """

    @abstractmethod
    def riesz(self, covector: Array) -> Array:
        """``G^-1 c_i`` of every row, (n, P)."""

    @abstractmethod
    def root(self, v: Array) -> Array:
        """``L' v_i`` of every row, (n, P)."""

    @abstractmethod
    def coroot(self, covector: Array) -> Array:
        """``L^-1 c_i`` of every row, (n, P)."""

    def inner(self, u: Array, v: Array) -> Array:
        """``u_i' G v_i`` of every row, (n,)."""
        return np.asarray(np.sum(self.root(u) * self.root(v), axis=1))

    def norm(self, v: Array) -> Array:
        """``|v_i|_G`` of every row, (n,)."""
        return np.sqrt(self.inner(v, v))


class Euclidean(InnerProduct):
    """``G = I``.

    Examples
    --------
    >>> Euclidean().norm(np.array([[3.0, 4.0]]))
    array([5.])
    """

    def riesz(self, covector: Array) -> Array:
        """The same numbers."""
        return covector

    def root(self, v: Array) -> Array:
        """The same numbers."""
        return v

    def coroot(self, covector: Array) -> Array:
        """The same numbers."""
        return covector


class Diagonal(InnerProduct):
    """``G = diag(g)``.

    Parameters
    ----------
    weights : (P,) or (n, P) array
        g > 0; one row for all agents, or one for each agent held here.

    Raises
    ------
    ValueError
        If a number is not positive and finite.

    Examples
    --------
    >>> Diagonal([4.0, 1.0]).riesz(np.array([[8.0, 2.0]]))
    array([[2., 2.]])
    """

    def __init__(self, weights: ArrayLike) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        if not (np.all(self.weights > 0) and np.all(np.isfinite(self.weights))):
            raise ValueError(f"weights must be finite numbers above 0, got {short(weights)}.")

    def bind(self, layout: Layout) -> None:
        """P numbers."""
        if self.weights.ndim not in (1, 2) or self.weights.shape[-1] != layout.n_params:
            raise ValueError(f"weights must have shape (P,) = ({layout.n_params},), got {self.weights.shape}.")

    def riesz(self, covector: Array) -> Array:
        """c / g."""
        return np.asarray((covector / self.weights).astype(covector.dtype))

    def root(self, v: Array) -> Array:
        """sqrt(g) v."""
        return np.asarray((v * np.sqrt(self.weights)).astype(v.dtype))

    def coroot(self, covector: Array) -> Array:
        """c / sqrt(g)."""
        return np.asarray((covector / np.sqrt(self.weights)).astype(covector.dtype))


class Dense(InnerProduct):
    """Any symmetric positive definite G (P, P).

    Parameters
    ----------
    matrix : (P, P) array

    Raises
    ------
    ValueError
        If it is not symmetric and positive definite.

    Examples
    --------
    >>> Dense([[2.0, 0.0], [0.0, 1.0]]).riesz(np.array([[2.0, 2.0]]))
    array([[1., 2.]])
    """

    def __init__(self, matrix: ArrayLike) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self._factor = _cholesky("matrix", self.matrix)

    def bind(self, layout: Layout) -> None:
        """P rows."""
        if len(self.matrix) != layout.n_params:
            raise ValueError(f"matrix must have {layout.n_params} rows, one per parameter, got {len(self.matrix)}.")

    def riesz(self, covector: Array) -> Array:
        """Solved with the Cholesky factor."""
        return np.asarray(cho_solve((self._factor, True), covector.T).T.astype(covector.dtype))

    def root(self, v: Array) -> Array:
        """L' v."""
        return np.asarray((v @ self._factor).astype(v.dtype))

    def coroot(self, covector: Array) -> Array:
        """L^-1 c."""
        return np.asarray(solve_triangular(self._factor, covector.T, lower=True).T.astype(covector.dtype))


class Kronecker(InnerProduct):
    """``<U, V> = tr(U' A V B)`` on the weights (rows, columns) of named parts: Kronecker products, as K-FAC takes them.

    Weights of more than two axes are read as (first axis, all others). Parts that are not named are Euclidean.

    Parameters
    ----------
    factors : mapping of name to (A (rows, rows), B (columns, columns))
        Symmetric and positive definite.

    Raises
    ------
    ValueError
        If a factor is not symmetric and positive definite, or, in `bind`, does not fit its part.

    References
    ----------
    J. Martens, R. Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, ICML 2015.

    Examples
    --------
    >>> from dnnext.models import Chain, Dense as Layer
    >>> metric = Kronecker({"layer1.weight": (2 * np.eye(2), 3 * np.eye(1))})
    >>> metric.bind(Chain([Layer(1)], 2).layout)
    >>> metric.riesz(np.array([[6.0, 12.0, 1.0]]))
    array([[1., 2., 1.]])
    """

    def __init__(self, factors: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
        pairs = list(factors.values()) if isinstance(factors, Mapping) else [None]
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"factors must be a dict {{name of a part: (A, B)}}, got {short(factors)}.")
        self.factors = {name: tuple(np.asarray(f, dtype=np.float64) for f in pair) for name, pair in factors.items()}
        self._roots = {
            name: tuple(_cholesky(f"the factor of {name}", f) for f in pair) for name, pair in self.factors.items()
        }
        self._layout: Layout | None = None

    def bind(self, layout: Layout) -> None:
        """Every factor as large as its part."""
        shapes = {part.name: part.shape for part in layout.parts}
        for name, (left, right) in self.factors.items():
            shape = shapes.get(name, ())
            wanted = (shape[0], int(np.prod(shape[1:]))) if shape else None
            if wanted != (len(left), len(right)):
                raise ValueError(
                    f"factors must fit the parts {shapes}, got {len(left)} and {len(right)} rows for {name!r}."
                )
        self._layout = layout

    def riesz(self, covector: Array) -> Array:
        """A^-1 C B^-1."""
        return self._each(covector, lambda c, a, b: cho_solve((b, True), cho_solve((a, True), c).T).T)

    def root(self, v: Array) -> Array:
        """L_A' V L_B."""
        return self._each(v, lambda c, a, b: a.T @ c @ b)

    def coroot(self, covector: Array) -> Array:
        """L_A^-1 C L_B'^-1."""
        return self._each(
            covector, lambda c, a, b: solve_triangular(b, solve_triangular(a, c, lower=True).T, lower=True).T
        )

    def _each(self, rows: Array, function: Any) -> Array:
        """The rows, with the function of every named part in its place."""
        if self._layout is None:
            raise ValueError("bind(layout) must be called first: it says where the parts lie.")
        out = np.array(rows)
        for part in self._layout.parts:
            if part.name in self._roots:
                left, right = self._roots[part.name]
                for i in range(len(rows)):
                    matrix = rows[i, part.columns].reshape(part.shape[0], -1)
                    out[i, part.columns] = function(matrix, left, right).ravel()
        return out


def _cholesky(name: str, matrix: Array) -> Array:
    """The lower factor."""
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and np.all(np.isfinite(matrix))
    if square and np.allclose(matrix, matrix.T, rtol=1e-10, atol=1e-12 * float(np.max(np.abs(matrix), initial=0))):
        try:
            return np.asarray(np.tril(cho_factor(matrix, lower=True)[0]))
        except np.linalg.LinAlgError:
            pass
    raise ValueError(f"{name} must be a symmetric positive definite matrix, got an array of shape {matrix.shape}.")
