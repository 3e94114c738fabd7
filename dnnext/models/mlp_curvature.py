"""What an MLP knows of its Gauss-Newton matrix: the methods of `Curved`, with a kernel each."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext import kernels
from dnnext.models import mlp_costs
from dnnext.models.layout import Layout
from dnnext.models.model import Costs, Rows
from dnnext.models.woodbury import woodbury

__all__ = ["MLPCurvature"]

Array = NDArray[Any]


class MLPCurvature:
    """Products and solves with ``A_i = sum_m J_m' root_m root_m' J_m``; its attributes are those of the `MLP`."""

    layers: tuple[int, ...]
    activation_code: int
    if TYPE_CHECKING:

        @property
        def layout(self) -> Layout:
            """Where each parameter lies."""

    def gauss_newton(self, w: Array, rows: Rows, root: Array, blocks: Array, out: Array) -> Array:
        """The diagonal blocks of ``A_i = sum_m J_m' root_m root_m' J_m``, packed: (n, sum_b P_b^2)."""
        code = self.activation_code
        kernels.mlp_gauss_newton(out, w, rows.x, root, rows.offsets, self.layers, code, blocks, rows.n_threads)
        return out

    def gauss_newton_product(
        self, w: Array, rows: Rows, root: Array, v: Array, blocks: Array, out: Array, centred: bool = False
    ) -> Array:
        """``A_i v_i``, or block by block, A never kept: v (n, P) -> (n, P)."""
        code = self.activation_code
        kernels.mlp_gauss_newton_product(
            out, w, rows.x, root, v, rows.offsets, self.layers, code, blocks, rows.n_threads, centred
        )
        return out

    def cg_solve(
        self, w: Array, rows: Rows, root: Array, diag: Array, rhs: Array, n_iter: int, tol: float, out: Array,
        centred: bool = False,
    ) -> Array:  # fmt: skip
        """``(A_i + diag(diag_i)) out_i = rhs_i`` by conjugate gradients, n_iter steps at most: (n, P).

        An agent ends when ``|residual_i| <= tol |rhs_i|``; A_i as in `gauss_newton`.
        """
        n_done = np.empty(len(out), np.int64)
        kernels.mlp_cg_solve(
            out, n_done, w, rows.x, root, diag, rhs, rows.offsets, self.layers, self.activation_code, n_iter, tol,
            rows.n_threads, centred,
        )  # fmt: skip
        return out

    def costs(self, n_rows: Array, blocks: Array, columns: int, is_diagonal: bool, has_gram: bool) -> Costs:
        """Nanoseconds for agents with so many rows: see `Curved` and `dnnext.models.mlp_costs`."""
        layers = self.layers
        return Costs(
            product=mlp_costs.product_cost(layers, n_rows, blocks, columns, is_diagonal),
            step=mlp_costs.step_cost(layers, n_rows, columns, is_diagonal),
            formed=mlp_costs.forming(layers, n_rows, blocks, columns),
            dual=mlp_costs.dual_cost(layers, n_rows, len(blocks) - 1, columns, is_diagonal, has_gram),
        )

    def gram(self, rows: Rows) -> Array:
        """``X_i X_i'`` of every agent, one after another: (sum_i rows_i^2,)."""
        out = np.empty(int(np.sum(np.diff(rows.offsets) ** 2)), rows.x.dtype)
        kernels.rows_gram(out, rows.x, rows.offsets)
        return out

    def dual_solve(
        self, w: Array, rows: Rows, root: Array, gram: Array | None, tau: Array, l2: Array, rhs: Array, blocks: Array,
        out: Array,
    ) -> Array:  # fmt: skip
        """``(A_i + tau_i I + diag(l2)) out_i = rhs_i`` in the space of rows: see `Curved`.

        Where l2 is one number per layer, as all built-in penalties have it, no Jacobian is made (csrc/dual.c).
        """
        status = np.zeros(len(rhs), np.int64)
        by_layer = self._by_layer(l2)
        if by_layer is None:
            for i in range(len(rhs)):
                own = slice(rows.offsets[i], rows.offsets[i + 1])
                j = np.empty((rows.x[own].shape[0] * root.shape[-1], self.layout.n_params), rhs.dtype)
                row = w[i : i + 1] if len(w) > 1 else w
                kernels.mlp_jacobian(j, row, rows.x[own], root[own], self.layers, self.activation_code, rows.n_threads)
                status[i] = woodbury(j, tau[i] + l2, rhs[i], blocks, out[i])
        else:
            kernels.mlp_dual_solve(
                out, status, w, rows.x, root, gram, tau, by_layer, rhs, rows.offsets, self.layers,
                self.activation_code, blocks, rows.n_threads,
            )  # fmt: skip
        return status

    def _by_layer(self, l2: Array) -> Array | None:
        """l2 of each layer's weights (n_layers,), or None if it varies within a layer, or acts on biases."""
        values = l2[[part.start for part in self.layout.layer_slices]]
        return values if np.array_equal(values[self.layout.layer_of] * self.layout.mask, l2) else None
