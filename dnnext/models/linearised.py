"""Lazy training: a network replaced by its tangent at the start, or by its last layer alone.

# Design
# Both are models like any other, made from `forward`, `jvp` and `vjp` of the model that they stand on, so every loss,
# penalty, graph, recipe and engine takes them. With a convex loss and a convex penalty what is trained is a convex
# problem: the tangent model is affine in all its weights, a network with everything but its last layer frozen is affine
# in the weights that are left. Where the base model has kernels for its Gauss-Newton matrix, so have they.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext._params import Parameters, fingerprint
from dnnext.models.layout import Layout
from dnnext.models.model import Costs, Model, Rows, check_model

__all__ = ["Frozen", "Linearised"]

Array = NDArray[Any]


class _Based(Parameters, ABC):
    """What stands on another model and on one row of its weights."""

    model: Any
    w0: Array

    def _stand_on(self, model: Model, w0: ArrayLike) -> None:
        self.model: Any = check_model(model)
        row = np.asarray(w0)
        self.w0: Array = np.array(row, dtype=row.dtype if row.dtype == np.float32 else np.float64)
        n_params = model.layout.n_params
        if self.w0.shape != (n_params,) or not np.isfinite(self.w0).all():
            raise ValueError(
                f"w0 must be one finite row of weights ({n_params},) for {model!r}, got shape {self.w0.shape}."
            )
        self.w0.flags.writeable = False

    @property
    def n_inputs(self) -> Any:
        """The shape of one row of x."""
        return self.model.n_inputs

    @property
    def n_outputs(self) -> int:
        """``Q``."""
        return int(self.model.n_outputs)

    @property
    def n_params(self) -> int:
        """How many weights are trained."""
        return self.layout.n_params

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Where each trained parameter lies."""

    def sized(self, n_inputs: Any, n_outputs: int) -> Any:
        """Itself: the weights that it stands on have closed its ends.

        Raises
        ------
        ValueError
            If the sizes are others.
        """
        for name, own, wanted in (("n_inputs", self.n_inputs, n_inputs), ("n_outputs", self.n_outputs, n_outputs)):
            if own != wanted:
                raise ValueError(f"{name} must be {own} for {self!r}, got {wanted}.")
        return self

    def fingerprint(self) -> str:
        """Class, model and weights: what ranks compare."""
        held = fingerprint(self.get_params(deep=False))
        return f"{type(self).__module__}.{type(self).__qualname__}({held})"

    def _row(self, dtype: Any) -> Array:
        """w0 as (1, P) in the precision of the data."""
        return np.ascontiguousarray(self.w0[None], dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"


class Linearised(_Based):
    """The tangent of a model at w0, ``v -> f(w0; x) + J(w0; x) (v - w0)``.

    Affine in v: with a convex loss and penalty, training it is a convex problem. It is what the model itself follows
    where training moves its weights little (the lazy, or neural tangent, regime). No feature is formed: all it takes
    are products with J and J' at w0, and, where the model offers them, its Gauss-Newton matrix and its solve in the
    space of rows.

    Parameters
    ----------
    model : Model
        ``f``.
    w0 : (P,) array
        Where it is linearised; also where training starts.

    Attributes
    ----------
    layout : Layout
        That of the model.
    n_inputs, n_outputs, n_params
        Those of the model.
    offers : frozenset of str
        ``"gauss_newton"`` and ``"dual"``, where the model offers them.

    Raises
    ------
    ValueError
        If the model is none, or w0 is not one finite row of its weights.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, the class NT.

    Examples
    --------
    >>> from dnnext.models import MLP, Linearised, Rows
    >>> model = MLP([1, 2, 1])
    >>> w0 = model.init(0)
    >>> tangent, rows = Linearised(model, w0), Rows(np.array([[0.5], [1.0]]), np.array([0, 2]))
    >>> bool(np.array_equal(tangent.forward(w0[None], rows), model.forward(w0[None], rows)))
    True
    """

    def __init__(self, model: Model, w0: ArrayLike) -> None:
        self._stand_on(model, w0)

    @classmethod
    def examples(cls) -> list[Linearised]:
        """Small models on which the contract tests run."""
        from dnnext.models.mlp import MLP

        return [cls(base, base.init(1)) for base in (MLP([3, 4, 2]), MLP([3, 5, 4, 1], "softplus"))]

    @property
    def layout(self) -> Layout:
        """That of the model."""
        layout: Layout = self.model.layout
        return layout

    @property
    def offers(self) -> frozenset[str]:
        """The curvature of the model, at w0."""
        return frozenset(self.model.offers) & {"gauss_newton", "dual"}

    def init(self, random_state: Any = None, dtype: Any = np.float64) -> Array:
        """A copy of w0, whatever the random state."""
        return np.array(self.w0, dtype=dtype)

    def forward(self, w: Array, rows: Rows | ArrayLike, out: Array | None = None) -> Array:
        """``f(w0; x_m) + J_m(w0) (w_i - w0)``: (M, Q); an array in place of rows holds those of one agent."""
        if not isinstance(rows, Rows):
            w = np.atleast_2d(w)
            rows = Rows.of(rows, w.dtype)
        row = self._row(rows.x.dtype)
        away = np.ascontiguousarray(np.broadcast_to(w - row, (rows.n_agents, w.shape[1])), rows.x.dtype)
        out = self.model.forward(row, rows, out)
        out += self.model.jvp(row, rows, away)
        return out

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w0) v_i``: v (n, P) -> (M, Q)."""
        return np.asarray(self.model.jvp(self._row(rows.x.dtype), rows, v, out))

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w0)' u_m``: u (M, Q) -> (n, P)."""
        return np.asarray(self.model.vjp(self._row(rows.x.dtype), rows, u, out))

    def gauss_newton(self, w: Array, rows: Rows, root: Array, blocks: Array, out: Array) -> Array:
        """The model's, at w0: see `Curved`."""
        return np.asarray(self.model.gauss_newton(self._row(rows.x.dtype), rows, root, blocks, out))

    def gauss_newton_product(self, w: Array, rows: Rows, root: Array, v: Array, blocks: Array, out: Array) -> Array:
        """The model's, at w0: see `Curved`."""
        return np.asarray(self.model.gauss_newton_product(self._row(rows.x.dtype), rows, root, v, blocks, out))

    def costs(self, n_rows: Array, blocks: Array, columns: int, is_diagonal: bool, has_gram: bool) -> Costs:
        """Those of the model."""
        found: Costs = self.model.costs(n_rows, blocks, columns, is_diagonal, has_gram)
        return found

    def gram(self, rows: Rows) -> Array:
        """That of the model."""
        return np.asarray(self.model.gram(rows))

    def dual_solve(
        self, w: Array, rows: Rows, root: Array, gram: Array | None, tau: Array, l2: Array, rhs: Array, blocks: Array,
        out: Array,
    ) -> Array:  # fmt: skip
        """The model's, at w0: see `Curved`."""
        row = self._row(rows.x.dtype)
        return np.asarray(self.model.dual_solve(row, rows, root, gram, tau, l2, rhs, blocks, out))


class Frozen(_Based):
    """A model of which some parts stay as they are in w0, by default all but its last layer.

    With the last layer alone left, it is a linear model of random features ``phi(...)``: affine in its weights, so that
    training it is a convex problem with a convex loss and penalty.

    Parameters
    ----------
    model : Model
        ``f``.
    w0 : (P,) array
        Gives the parts that stay; the others start there.
    parts : iterable of str, optional
        Names, in the model's layout, of the parts that stay.

    Attributes
    ----------
    layout : Layout
        Of the parts that are trained.
    trained : tuple of str
        Their names.
    n_inputs, n_outputs : those of the model
    n_params : int
        How many weights are trained.
    offers : frozenset of str
        ``"gauss_newton"``, where the model offers it and the trained parts lie side by side.

    Raises
    ------
    ValueError
        If the model is none, w0 is not one finite row of its weights, or parts are unknown or leave none to train.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, the class RF.

    Examples
    --------
    >>> from dnnext.models import MLP, Frozen
    >>> model = MLP([3, 5, 2])
    >>> features = Frozen(model, model.init(0))
    >>> features.trained, features.n_params, features.full(np.zeros(12)).shape
    (('layer2.weight', 'layer2.bias'), 12, (32,))
    """

    def __init__(self, model: Model, w0: ArrayLike, parts: Iterable[str] | None = None) -> None:
        self._stand_on(model, w0)
        layout = model.layout
        names = [part.name for part in layout.parts]
        if parts is None:
            last = layout.layer_slices[-1].start
            self.parts = tuple(part.name for part in layout.parts if part.start < last)
        else:
            self.parts = (parts,) if isinstance(parts, str) else tuple(parts)
        unknown = [name for name in self.parts if name not in names]
        if unknown:
            raise ValueError(
                f"parts must be among {', '.join(names)} for {model!r}, got {', '.join(map(str, unknown))}."
            )
        if not set(names) - set(self.parts):
            raise ValueError(f"parts must leave something of {model!r} to train, got all of them.")

    @classmethod
    def examples(cls) -> list[Frozen]:
        """Small models on which the contract tests run."""
        from dnnext.models.mlp import MLP

        base = MLP([3, 4, 2])
        return [cls(base, base.init(1)), cls(base, base.init(1), ["layer1.bias"])]

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of the parts that are trained."""
        return tuple(part.name for part in self.model.layout.parts if part.name not in self.parts)

    @cached_property
    def layout(self) -> Layout:
        """Of the parts that are trained, layer by layer."""
        layers: dict[int, list[tuple[str, tuple[int, ...], bool, int | None]]] = {}
        for part in self.model.layout.parts:
            if part.name not in self.parts:
                number = int(self.model.layout.layer_of[part.start])
                layers.setdefault(number, []).append((part.name, part.shape, part.penalised, part.unit_axis))
        return Layout(layers.values())

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """The trained columns of the model's row."""
        kept = [np.arange(p.start, p.start + p.size) for p in self.model.layout.parts if p.name not in self.parts]
        return np.concatenate(kept)

    @property
    def _is_one_range(self) -> bool:
        return bool(np.all(np.diff(self._columns) == 1))

    @property
    def offers(self) -> frozenset[str]:
        """The curvature of the model, where the trained parts lie side by side."""
        return frozenset(self.model.offers) & ({"gauss_newton"} if self._is_one_range else set())

    def init(self, random_state: Any = None, dtype: Any = np.float64) -> Array:
        """The trained part of w0, whatever the random state."""
        return np.array(self.w0[self._columns], dtype=dtype)

    def full(self, w: Array) -> Array:
        """The model's row or rows: the parts of w0 that stay, and the trained ones of w (..., n_params)."""
        rows: Array = np.empty((*w.shape[:-1], len(self.w0)), w.dtype)
        rows[...] = self.w0
        rows[..., self._columns] = w
        return rows

    def forward(self, w: Array, rows: Rows, out: Array | None = None) -> Array:
        """``f`` with the parts of w_i in place: (M, Q)."""
        return np.asarray(self.model.forward(self.full(w), rows, out))

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """Along the trained weights: v (n, n_params) -> (M, Q)."""
        direction = np.zeros((len(v), len(self.w0)), v.dtype)
        direction[:, self._columns] = v
        return np.asarray(self.model.jvp(self.full(w), rows, direction, out))

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """The trained columns of ``sum_m J_m' u_m``: u (M, Q) -> (n, n_params)."""
        whole = self.model.vjp(self.full(w), rows, u)
        out = np.empty((len(whole), self.n_params), whole.dtype) if out is None else out
        out[...] = whole[:, self._columns]
        return out

    def gauss_newton(self, w: Array, rows: Rows, root: Array, blocks: Array, out: Array) -> Array:
        """The blocks of the trained weights: see `Curved`."""
        cuts, before, after = self._cuts(blocks)
        packed = np.empty((rows.n_agents, before + out.shape[1] + after), out.dtype)
        self.model.gauss_newton(self.full(w), rows, root, cuts, packed)
        out[...] = packed[:, before : before + out.shape[1]]
        return out

    def gauss_newton_product(self, w: Array, rows: Rows, root: Array, v: Array, blocks: Array, out: Array) -> Array:
        """The blocks of the trained weights times v: see `Curved`."""
        if len(blocks) != 2:
            cuts, _, _ = self._cuts(blocks)
        else:
            cuts = np.array([0, len(self.w0)], dtype=np.int64)  # zeros elsewhere leave the other weights alone
        direction = np.zeros((len(v), len(self.w0)), v.dtype)
        direction[:, self._columns] = v
        image = np.empty((rows.n_agents, len(self.w0)), v.dtype)
        self.model.gauss_newton_product(self.full(w), rows, root, direction, cuts, image)
        out[...] = image[:, self._columns]
        return out

    def costs(self, n_rows: Array, blocks: Array, columns: int, is_diagonal: bool, has_gram: bool) -> Costs:
        """Those of the model for the same blocks; one block's products are those of the whole model."""
        cuts, _, _ = self._cuts(blocks)
        found: Costs = self.model.costs(n_rows, cuts, columns, is_diagonal, has_gram)
        if len(blocks) > 2:
            return found
        whole = np.array([0, len(self.w0)], dtype=np.int64)
        return found._replace(product=self.model.costs(n_rows, whole, columns, is_diagonal, has_gram).product)

    def _cuts(self, blocks: Array) -> tuple[Array, int, int]:
        """The model's blocks: single columns before, the trained blocks, single columns after; numbers of singles."""
        first, stop = int(self._columns[0]), int(self._columns[-1]) + 1
        before, after = np.arange(first), np.arange(stop + 1, len(self.w0) + 1)
        cuts = np.concatenate([before, first + np.asarray(blocks), after]).astype(np.int64)
        return cuts, len(before), len(after)
