"""Group penalties of weights that are spread over ranks: the length of a group is a sum over those that share it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.models.layout import Layout
from dnnext.problem.penalty import Penalty
from dnnext.runtime import Communicator

__all__ = ["SpreadGroups"]

Array = NDArray[Any]


class SpreadGroups(Penalty):
    """``r(w) = sum_p l1_p |w_p| + sum_g strength_g ||w_g||`` where this rank holds a part of every group.

    A group, the weights that leave one unit, is a row of W. Its parts lie on the ranks that hold all columns of these
    rows, `Spread.row_ranks`, and the squares of its length are summed over them: one number per row and layer. So
    `value` and `prox` are collective inside the agent; `value` counts each group on one rank, and is added over all.

    Parameters
    ----------
    penalty : GroupLasso or SparseGroup
    model : SpreadModel
        With `whole_layout`, and `layers` that have `row_ranks`.

    References
    ----------
    N. Simon, J. Friedman, T. Hastie, R. Tibshirani, A sparse-group lasso, J. Comput. Graph. Stat. 22 (2013).

    Examples
    --------
    >>> from dnnext.models.spread_model import cube_mlp
    >>> from dnnext.problem.penalties import GroupLasso
    >>> from dnnext.runtime import Cube, threads
    >>> def program(comm):
    ...     model = cube_mlp(Cube(comm, 2), [1, 4, 1])
    ...     r = SpreadGroups(GroupLasso(alpha=0.5), model).bind(model.layout)
    ...     return r.value(model.cut(np.array([1.0, 1.0, 1.0, 1.0, 7, 7, 7, 7, 0, 0, 0, 0, 7])))
    >>> sum(threads.run(8, program))
    2.0
    """

    _from_bind = Penalty._from_bind | {"l1", "parts"}
    parts: list[tuple[slice, tuple[int, ...], float, Communicator]]  # columns, shape, strength and ranks of each layer

    def __init__(self, penalty: Penalty, model: Any) -> None:
        self.penalty, self.model = penalty, model

    @classmethod
    def examples(cls) -> list[Any]:
        """None: penalties over ranks have tests of their own."""
        return []

    def bind(self, layout: Layout, *, dtype: Any = np.float64, n_threads: int = 1) -> SpreadGroups:
        """A copy with its arrays for one layout, that of the parts held here."""
        bound = super().bind(layout, dtype=dtype, n_threads=n_threads)
        whole, own = self.model.whole_layout, {part.name: part for part in layout.parts}
        strengths = np.zeros(whole.n_params)
        of_all = self.penalty.bind(whole, dtype=dtype)
        strengths[of_all.groups[:, 0]] = of_all.strength
        bound.l1, bound.parts = self.penalty.bind(layout, dtype=dtype).l1, []
        for layer, weights in zip(self.model.layers, [p for p in whole.parts if p.penalised], strict=True):
            part, strength = own[weights.name], float(strengths[weights.start])
            if strength > 0:
                bound.parts.append((part.columns, part.shape, strength, layer.row_ranks))
        return bound

    def value(self, w: Array) -> float:
        """The part of ``r(w)`` that this rank counts; w (P,) of the parts held here. Collective."""
        w = np.asarray(w, dtype=np.float64)
        total = float(np.sum(self.l1 * np.abs(w)))
        for columns, shape, strength, comm in self.parts:
            norms = _norms(w[None, columns], shape, comm)
            total += strength * float(norms.sum()) * (comm.rank == 0)
        return total

    def prox(self, v: Array, s: Array) -> Array:
        """``argmin_u 1/2 ||u - v_i||^2 + s_i r(u)``: v (A, P), s (A,) -> a new (A, P). Collective.

        Soft threshold by ``s l1``, then block soft threshold by ``s strength``.
        """
        step = np.broadcast_to(np.asarray(s, v.dtype), (len(v),))[:, None]
        out: Array = np.sign(v) * np.maximum(np.abs(v) - step * self.l1.astype(v.dtype), 0)
        for columns, shape, strength, comm in self.parts:
            norms = _norms(out[:, columns], shape, comm)
            kept = np.maximum(
                1 - np.divide(step * strength, norms, out=np.full_like(norms, np.inf), where=norms > 0), 0
            )
            out[:, columns] *= np.repeat(kept, shape[1], axis=1).astype(v.dtype)
        return out

    def fingerprint(self) -> str:
        """That of the penalty."""
        return self.penalty.fingerprint()

    def __repr__(self) -> str:
        return repr(self.penalty)


def _norms(rows: Array, shape: tuple[int, ...], comm: Communicator) -> NDArray[np.float64]:
    """``||w_g||`` of every row of W: parts (A, k n) of W (k, n) of every agent -> (A, k)."""
    squares = np.square(rows.reshape(len(rows), *shape), dtype=np.float64).sum(axis=2)
    comm.allreduce(squares)
    return np.asarray(np.sqrt(squares))
