"""Penalties of the weights; biases are never penalised.

Every built-in is one choice of four arrays, ``r(w) = sum_p l1_p |w_p| + l2_p w_p^2 / 2 + sum_g strength_g ||w_g||``,
so value, prox and subdifferential are written once. `alpha` is per sample (the scale of scikit-learn's Lasso).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext.models.layout import Layout
from dnnext.problem.penalty import Penalty

__all__ = ["L1", "L2", "PENALTIES", "ElasticNet", "GroupLasso", "NoPenalty", "Penalty", "SparseGroup", "make_penalty"]

Array = NDArray[Any]
Alpha = float | Sequence[float] | NDArray[np.floating[Any]]


class _Terms(Penalty):
    """A built-in penalty: ``r(w) = sum_p l1_p |w_p| + l2_p w_p^2 / 2 + sum_g strength_g ||w_g||``.

    After `bind`: l1, l2 (P,); groups (n_groups, 2) int64, the columns of each group; strength (n_groups,) positive.
    """

    offers = frozenset({"terms", "by_number"})
    _is_square: bool  # whether l2 is all there is
    _from_bind = Penalty._from_bind | {"l1", "l2", "groups", "strength", "_is_square"}

    def __init__(self, alpha: Alpha = 1e-3) -> None:
        self.alpha = alpha

    @classmethod
    def examples(cls) -> list[Self]:
        """One strength, and one per layer."""
        return [cls(0.3), cls([0.5, 0.0]), cls((0.1, 0.4))]

    @abstractmethod
    def _shares(self) -> tuple[float, float, float]:
        """``(a, b, c)``: ``l1 = a alpha``, ``l2 = b alpha`` on weights, ``strength = c alpha sqrt|g|`` on groups."""

    def bind(self, layout: Layout, *, dtype: Any = np.float64, n_threads: int = 1) -> Self:
        """A copy that holds its arrays for one layout.

        Raises
        ------
        ValueError
            If alpha is negative, not finite, or neither one number nor one per layer, or l1_ratio is outside [0, 1].
        """
        bound = super().bind(layout, dtype=dtype, n_threads=n_threads)
        alpha = self._per_layer(layout)[layout.layer_of]
        l1, l2, group = self._shares()
        starts = layout.groups[:, 0]
        strength = group * alpha[starts] * np.sqrt(layout.groups[:, 1] - starts)
        if alpha.max(initial=0) > np.finfo(dtype).max / 1e6:
            raise ValueError(f"alpha of {self!r} is too large for {np.dtype(dtype)}, got {alpha.max():g}.")
        bound.l1, bound.l2 = ((share * alpha * layout.mask).astype(dtype) for share in (l1, l2))
        bound.groups = np.ascontiguousarray(layout.groups[strength > 0])
        bound.strength = strength[strength > 0].astype(dtype)
        bound._is_square = not bound.l1.any() and not len(bound.strength)
        return bound

    def _per_layer(self, layout: Layout) -> NDArray[np.float64]:
        """``alpha`` of every layer."""
        try:
            alpha = np.asarray(self.alpha, dtype=np.float64)
        except (TypeError, ValueError):
            alpha = np.full(1, np.nan)
        if alpha.shape not in ((), (layout.n_layers,)) or not np.all(np.isfinite(alpha)) or np.any(alpha < 0):
            raise ValueError(
                f"alpha of {type(self).__name__} must be one finite number >= 0, or one per weight layer "
                f"({layout.n_layers} for {layout!r}), got {short(self.alpha)}."
            )
        return np.broadcast_to(alpha, (layout.n_layers,))

    def _check_bound(self) -> None:
        if not hasattr(self, "l1"):
            raise ValueError(
                f"{self!r} is not bound to a layout: call penalty.bind(model.layout), or take problem.penalty."
            )

    def value(self, w: Array) -> float:
        """``r(w)`` of one row of weights (P,), added up in float64."""
        self._check_bound()
        w = np.asarray(w, dtype=np.float64)
        plain = np.sum(self.l1 * np.abs(w) + 0.5 * self.l2 * np.square(w))
        return float(plain + np.sum(self.strength * self._group_norms(w)) if len(self.groups) else plain)

    def prox(self, v: Array, s: Array) -> Array:
        """``argmin_u 1/2 ||u - v_i||^2 + s_i r(u)``: v (A, P), s (A,) or a number -> a new (A, P).

        Soft threshold by ``s l1``, block soft threshold by ``s strength``, division by ``1 + s l2``: exact in this
        order.
        """
        self._check_bound()
        v, out, step = np.ascontiguousarray(v), np.empty(v.shape, v.dtype), np.empty(len(v), v.dtype)
        step[:] = s
        l1, l2, strength = self.l1, self.l2, self.strength
        if l1.dtype != v.dtype:
            l1, l2, strength = (term.astype(v.dtype) for term in (l1, l2, strength))
        kernels.penalty_prox(out, v, step, l1, l2, self.groups, strength, self.n_threads)
        return out

    def subdiff_distance(self, w: Array, g: Array) -> float:
        """``min ||g + q||`` over ``q`` in ``dr(w)``, in closed form; w, g (P,).

        With ``h = g + l2 w``: ``h_p + l1_p sign(w_p) + strength_g w_p / ||w_g||`` where ``w_p != 0``,
        ``max(0, |h_p| - l1_p)`` where ``w_p = 0``, and ``max(0, ||soft(h_g, l1_g)|| - strength_g)`` where a whole group
        is zero.
        """
        self._check_bound()
        if "terms" not in self.offers:
            return super().subdiff_distance(w, g)
        w, g = np.asarray(w, dtype=np.float64), np.asarray(g, dtype=np.float64)
        h = g + self.l2 * w
        norms, sizes = self._group_norms(w), self.groups[:, 1] - self.groups[:, 0]
        on, grouped = norms > 0, self._grouped()
        pull = np.zeros_like(h)
        pull[grouped] = np.repeat(np.divide(self.strength, norms, out=np.zeros_like(norms), where=on), sizes)
        rest = np.where(w != 0, h + self.l1 * np.sign(w) + pull * w, np.maximum(np.abs(h) - self.l1, 0))
        off = np.maximum(self._group_norms(rest) - self.strength, 0)[~on]
        rest[grouped] *= np.repeat(on, sizes)
        return float(np.sqrt(np.sum(np.square(rest)) + np.sum(np.square(off))))

    @property
    def quadratic(self) -> Array | None:
        """``(P,)`` the diagonal ``l2`` if nothing else is penalised, else None."""
        self._check_bound()
        return self.l2 if self._is_square and "terms" in self.offers else None

    def _group_norms(self, w: Array) -> Array:
        """``||w_g||`` of every group."""
        squares = np.square(w)
        if len(self.groups) and self.groups[-1, 1] == len(w):  # reduceat takes no end beyond the last number
            squares = np.append(squares, 0.0)
        return np.sqrt(np.add.reduceat(squares, self.groups.ravel())[::2])

    def _grouped(self) -> NDArray[np.bool_]:
        """(P,): whether a group holds this parameter."""
        edges = np.zeros(self.layout.n_params + 1, dtype=np.int64)
        edges[self.groups[:, 1]] -= 1
        edges[self.groups[:, 0]] += 1
        return np.cumsum(edges[:-1]) > 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha!r})"


class NoPenalty(_Terms):
    """``r(w) = 0``.

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> NoPenalty().bind(MLP([2, 1]).layout).quadratic
    array([0., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(0.0)

    @classmethod
    def examples(cls) -> list[Self]:
        """There is only one."""
        return [cls()]

    def _shares(self) -> tuple[float, float, float]:
        return 0.0, 0.0, 0.0

    def __repr__(self) -> str:
        return "NoPenalty()"


class L2(_Terms):
    """``r(w) = 1/2 alpha ||w||^2`` over the weights, biases exempt.

    Parameters
    ----------
    alpha : float or one per weight layer, default=1e-3
        Strength per sample, >= 0.

    References
    ----------
    A. E. Hoerl, R. W. Kennard, Ridge regression, Technometrics 12 (1970).

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> L2(alpha=0.5).bind(MLP([2, 1]).layout).value(np.array([1.0, 2.0, 7.0]))
    1.25
    """

    def _shares(self) -> tuple[float, float, float]:
        return 0.0, 1.0, 0.0


class L1(_Terms):
    """``r(w) = alpha ||w||_1`` over the weights, biases exempt.

    Parameters
    ----------
    alpha : float or one per weight layer, default=1e-3
        Strength per sample, >= 0.

    References
    ----------
    R. Tibshirani, Regression shrinkage and selection via the lasso, JRSS B 58 (1996).

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> L1(alpha=0.5).bind(MLP([2, 1]).layout).prox(np.array([[1.0, -2.0, 7.0]]), np.ones(1))
    array([[ 0.5, -1.5,  7. ]])
    """

    def _shares(self) -> tuple[float, float, float]:
        return 1.0, 0.0, 0.0


class _Mixed(_Terms):
    """A penalty with two parts, shared out by l1_ratio."""

    def __init__(self, alpha: Alpha = 1e-3, l1_ratio: float = 0.5) -> None:
        super().__init__(alpha)
        self.l1_ratio = l1_ratio

    @classmethod
    def examples(cls) -> list[Self]:
        """Strengths, and the ends of l1_ratio."""
        given: list[tuple[Alpha, float]] = [(0.3, 0.4), ([0.5, 0.0], 0.4), ((0.1, 0.4), 0.4), (0.3, 0.0), (0.3, 1.0)]
        return [cls(alpha, ratio) for alpha, ratio in given]

    def _ratio(self) -> float:
        return _checks.check_between(f"l1_ratio of {type(self).__name__}", self.l1_ratio, 0, 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha!r}, l1_ratio={self.l1_ratio!r})"


class ElasticNet(_Mixed):
    """``r(w) = alpha (l1_ratio ||w||_1 + (1 - l1_ratio)/2 ||w||^2)`` over the weights, biases exempt.

    Parameters
    ----------
    alpha : float or one per weight layer, default=1e-3
        Strength per sample, >= 0.
    l1_ratio : float, default=0.5
        Share of the l1 part, in [0, 1].

    References
    ----------
    H. Zou, T. Hastie, Regularization and variable selection via the elastic net, JRSS B 67 (2005).

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> ElasticNet(alpha=1.0, l1_ratio=0.5).bind(MLP([2, 1]).layout).value(np.array([1.0, 2.0, 7.0]))
    2.75
    """

    def _shares(self) -> tuple[float, float, float]:
        ratio = self._ratio()
        return ratio, 1 - ratio, 0.0


class GroupLasso(_Terms):
    """``r(w) = alpha sum_g sqrt|g| ||w_g||``, a group holds the outgoing weights of one unit, inputs included.

    A zero group removes an input or a neuron.

    Parameters
    ----------
    alpha : float or one per weight layer, default=1e-3
        Strength per sample, >= 0.

    References
    ----------
    M. Yuan, Y. Lin, Model selection and estimation in regression with grouped variables, JRSS B 68 (2006).

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> r = GroupLasso(alpha=0.5).bind(MLP([1, 4, 1]).layout)
    >>> r.value(np.array([1.0, 1.0, 1.0, 1.0, 7, 7, 7, 7, 0, 0, 0, 0, 7]))
    2.0
    """

    offers = frozenset({"terms"})

    def _shares(self) -> tuple[float, float, float]:
        return 0.0, 0.0, 1.0


class SparseGroup(_Mixed):
    """``r(w) = alpha (l1_ratio ||w||_1 + (1 - l1_ratio) sum_g sqrt|g| ||w_g||)``, groups as in `GroupLasso`.

    Parameters
    ----------
    alpha : float or one per weight layer, default=1e-3
        Strength per sample, >= 0.
    l1_ratio : float, default=0.5
        Share of the l1 part, in [0, 1].

    References
    ----------
    N. Simon, J. Friedman, T. Hastie, R. Tibshirani, A sparse-group lasso, J. Comput. Graph. Stat. 22 (2013).
    S. Scardapane, D. Comminiello, A. Hussain, A. Uncini, Group sparse regularization for deep neural networks,
    Neurocomputing 241 (2017).

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> SparseGroup(alpha=1.0).bind(MLP([2, 1]).layout).value(np.array([1.0, 2.0, 7.0]))
    3.0
    """

    offers = frozenset({"terms"})

    def _shares(self) -> tuple[float, float, float]:
        ratio = self._ratio()
        return ratio, 0.0, 1 - ratio


PENALTIES: dict[str | None, type[Penalty]] = {
    None: NoPenalty,
    "l2": L2,
    "l1": L1,
    "elasticnet": ElasticNet,
    "group": GroupLasso,
    "sparse_group": SparseGroup,
}


def make_penalty(name: str | None, alpha: Alpha = 1e-3, l1_ratio: float = 0.5) -> Penalty:
    """The penalty called `name`; those without `alpha` or `l1_ratio` ignore it.

    Parameters
    ----------
    name : str or None
        'l2', 'l1', 'elasticnet', 'group' or 'sparse_group'; None is no penalty.
    alpha : float or sequence of float
        Strength per sample, one or one per layer.
    l1_ratio : float
        Share of the l1 norm in 'elasticnet' and 'sparse_group'.

    Returns
    -------
    Penalty

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> make_penalty("elasticnet", 0.1, 0.9)
    ElasticNet(alpha=0.1, l1_ratio=0.9)
    """
    if name is None:
        return NoPenalty()
    if not isinstance(name, str) or name not in PENALTIES:
        known = ", ".join(repr(key) for key in PENALTIES)
        raise ValueError(f"penalty must be one of {known} or a Penalty object, got {short(name)}.")
    kind: Any = PENALTIES[name]
    made: Penalty = kind(alpha, l1_ratio) if issubclass(kind, _Mixed) else kind(alpha)
    return made
