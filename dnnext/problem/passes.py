"""The rows of the local agents, and what the model and the loss make of them: passes forward, along and back."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.models.model import Fused, Model, Rows
from dnnext.problem.losses import Loss
from dnnext.problem.penalties import Penalty
from dnnext.problem.tangents import Tangents
from dnnext.runtime import Communicator, Runtime

Array = NDArray[Any]


FEW_OUTPUTS = 16  # with more of them products with a root, Q^2 numbers a row, take longer than all else in a product
ROOT_BYTES = 2**20  # of the roots of all agents of the network, from which three calls more do not matter


class Passes:
    """The part of a `Problem` that needs no message; its attributes are those of the problem."""

    model: Model
    fused: Fused | None  # the same, where one pass gives loss and gradient
    loss: Loss
    penalty: Penalty
    tangents: Tangents | None
    directions: Array | None
    beta: Array | None
    runtime: Runtime
    dtype: np.dtype[Any]
    n_threads: int
    n_params: int
    n_agents: int
    n_local: int
    n_samples: int
    x: Array
    target: Array
    weight: Array | None
    offsets: Array
    rows: Rows
    agent_rows: Array
    scale: float

    @property
    def shards(self) -> Communicator | None:
        """The ranks that together hold a row of weights and the rows of data; None where all of them are whole."""
        found: Communicator | None = getattr(self.model, "shards", None)
        return found

    def raw_output(self, w: Array) -> Array:
        """``f(w_i; x_m)``: the raw outputs of all local rows, (M, Q)."""
        return self.model.forward(self._weights(w), self.rows, np.empty(self.target.shape, self.dtype))

    def root(self, w: Array) -> Array:
        """``sqrt(c_m / N) S_m`` at ``f(w_i; x_m)``, so that ``A_i = sum_m J_m' root_m root_m' J_m``.

        Returns
        -------
        (M, Q), the diagonal of a diagonal root, or (M, Q, R)
        """
        return self.root_at(self.target if self.loss.is_quadratic else self.raw_output(w))

    def root_at(self, f: Array, share: Array | None = None) -> Array:
        """``share_m S_m`` at given raw outputs f (M, Q), ``sqrt(c_m / N)`` by default; shapes as in `root`."""
        share = (np.sqrt(self.sample_scale()) if share is None else share).astype(self.dtype)
        loss, d = self.loss, self.target
        if loss.kernel is not None and loss.has_root_kernel:
            shape = (*d.shape, d.shape[1]) if loss.kernel == kernels.LOSSES["softmax"] else d.shape
            out, f = np.empty(shape, self.dtype), np.ascontiguousarray(f, dtype=self.dtype)
            kernels.curvature_root(out, f, d, share, loss.kernel, loss.param, self.n_threads)
            return out
        root = np.asarray(loss.curvature_root(f, d), dtype=self.dtype)
        if root.ndim not in (2, 3) or root.shape[:2] != d.shape:
            raise ValueError(f"curvature_root of {loss!r} must return {d.shape} or {d.shape} + (R,), got {root.shape}.")
        return np.ascontiguousarray(root * share.reshape((-1,) + (1,) * (root.ndim - 1)))

    def jvp(self, w: Array, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n_local, P) -> (M, Q)."""
        out = np.empty(self.target.shape, self.dtype) if out is None else out
        return self.model.jvp(self._weights(w), self.rows, np.ascontiguousarray(v, self.dtype), out)

    def vjp(self, w: Array, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u (M, Q) -> (n_local, P)."""
        out = np.empty((self.n_local, self.n_params), self.dtype) if out is None else out
        return self.model.vjp(self._weights(w), self.rows, np.ascontiguousarray(u, self.dtype), out)

    @cached_property
    def has_wide_root(self) -> bool:
        """Whether curvature is applied row by row instead of by roots: more than 16 outputs, and 1 MB of roots.

        Conjugate gradients of an MLP with softmax and 18 to 40 outputs then take a fifth to a twelfth of the time.
        Counted over the whole network, so that every process decides alike. What is chosen changes the last bits of a
        result, so it must not depend on processes or threads.
        """
        n_outputs = self.target.shape[1]
        if n_outputs <= FEW_OUTPUTS:
            return False
        one = self.target[:1]
        numbers = int(np.prod(np.shape(self.loss.curvature_root(one, one))[1:], dtype=np.int64))
        return numbers > n_outputs and int(self.agent_rows.sum()) * numbers * self.dtype.itemsize > ROOT_BYTES

    def by_agent(self, values: Array) -> NDArray[np.float64]:
        """Sums of values (M,) over the rows of every agent, each in its own order: (n_local,) float64."""
        sums = np.array([np.sum(values[a:b], dtype=np.float64) for a, b in pairwise(self.offsets)], dtype=np.float64)
        if self.shards is not None:
            self.shards.allreduce(sums)
        return sums

    def sample_scale(self) -> Array:
        """``c_m / N``, (M,)."""
        share: Array = np.full(self.n_samples, self.scale, self.dtype)
        return share if self.weight is None else share * self.weight

    def _weights(self, w: Array) -> Array:
        """w as (n_local, P) or (1, P), contiguous, in the precision of the problem."""
        rows = np.ascontiguousarray(w, dtype=self.dtype)
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.n_params or len(rows) not in (1, self.n_local):
            raise ValueError(
                f"w must have shape ({self.n_local}, {self.n_params}), one row per agent, or ({self.n_params},), "
                f"got {np.shape(w)}."
            )
        return rows
