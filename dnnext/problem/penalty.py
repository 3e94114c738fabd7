"""The contract of penalties of the weights."""

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext._params import Parameters, fingerprint
from dnnext.models.layout import Layout

__all__ = ["Penalty"]

Array = NDArray[Any]


class Penalty(Parameters, ABC):
    """The contract of a penalty ``r(w)``, convex in the weights.

    A penalty of your own is one subclass with `value` and `prox`; ``self.layout.mask`` is 1 on weights and 0 on biases.

    Attributes
    ----------
    layout : Layout
        Of the model it is bound to.
    offers : frozenset of str
        ``"by_number"``: it acts number by number.
        ``"terms"``: the arrays ``l1``, ``l2`` (P,), ``groups`` and ``strength`` (n_groups,) describe it to the kernels.

    Examples
    --------
    >>> from dnnext.models import MLP
    >>> class Nonnegative(Penalty):
    ...     "0 where every weight is >= 0, else infinite."
    ...     def value(self, w):
    ...         return 0.0 if np.all(w[self.layout.mask > 0] >= 0) else np.inf
    ...     def prox(self, v, s):
    ...         return np.where(self.layout.mask > 0, np.maximum(v, 0), v)
    >>> Nonnegative().bind(MLP([2, 1]).layout).prox(np.array([[-1.0, 2.0, -3.0]]), np.ones(1))
    array([[ 0.,  2., -3.]])
    """

    offers: ClassVar[frozenset[str]] = frozenset()
    _from_bind: ClassVar[frozenset[str]] = frozenset({"layout", "n_threads"})  # attributes that are no parameters
    layout: Layout
    n_threads: int = 1
    l1: Array
    l2: Array
    groups: NDArray[np.int64]
    strength: Array

    def __init_subclass__(cls) -> None:
        """A subclass with its own value or prox is no longer what its parent's arrays describe."""
        if "offers" not in vars(cls) and not vars(cls).keys().isdisjoint({"value", "prox"}):
            cls.offers = cls.offers - {"terms", "by_number"}

    @classmethod
    def examples(cls) -> list[Self]:
        """Objects on which the contract tests run, for a model of two layers."""
        return [cls()]

    def bind(self, layout: Layout, *, dtype: Any = np.float64, n_threads: int = 1) -> Self:
        """A copy that has the layout of the weights it penalises.

        Parameters
        ----------
        layout : Layout
            Of a model: ``model.layout``.
        dtype : {float64, float32}
            Precision of the iterates, and of the arrays the kernels get.
        n_threads : int
            Threads of `prox`; their number never changes a result.
        """
        if not isinstance(layout, Layout):
            raise ValueError(f"layout must be a Layout (model.layout), got {short(layout)}.")
        bound = copy(self)
        bound.layout, bound.n_threads = layout, n_threads
        return bound

    @abstractmethod
    def value(self, w: Array) -> float:
        """``r(w)`` of one row of weights (P,)."""

    @abstractmethod
    def prox(self, v: Array, s: Array) -> Array:
        """``argmin_u 1/2 ||u - v_i||^2 + s_i r(u)`` of every row: v (A, P), s (A,) positive -> a new (A, P)."""

    def subdiff_distance(self, w: Array, g: Array) -> float:
        """How far ``-g`` is from the subdifferential: ``min ||g + q||`` over ``q`` in ``dr(w)``; w, g (P,).

        Built-ins have it in closed form. Here it is ``||w - prox_r(w - g)||``, from `prox` alone: it is zero at the
        same points and never larger.
        """
        moved = w - self.prox((w - g)[None], np.ones(1, dtype=w.dtype))[0]
        return float(np.sqrt(np.sum(np.square(moved, dtype=np.float64))))

    @property
    def quadratic(self) -> Array | None:
        """``(P,)`` the diagonal ``l2`` if ``r(w) = 1/2 sum_p l2_p w_p^2``, else None."""
        return None

    def fingerprint(self) -> str:
        """Class and parameters, bound or not: what ranks compare, never `repr`."""
        kind = type(self)
        own = {name: value for name, value in vars(self).items() if name not in self._from_bind}
        return f"{kind.__module__}.{kind.__qualname__}({fingerprint(own)})"
