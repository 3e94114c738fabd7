"""NumPy twins of the kernels in csrc/dual.c; conventions as in reference.py."""

from itertools import pairwise

import numpy as np

from dnnext.kernels.reference import Array, Index, Layers, mlp_jacobian


def mlp_dual_solve(
    out: Array,
    status: Index,
    w: Array,
    x: Array,
    root: Array,
    gram: Array | None,
    tau: Array,
    l2: Array,
    rhs: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
) -> None:
    """out (A, P): block by block (B_ib + D_ib) out_ib = rhs_ib in the space of the rows of J, for few rows.

    B_i = sum_m J_m' S_m S_m' J_m as in mlp_gauss_newton; D_i = tau_i + l2_k on the weights of layer k, tau_i on its
    biases; with K = S'J, x = D^-1 q - D^-1 K' (I + K D^-1 K')^-1 K D^-1 q (Woodbury).
    tau (A,), l2 (n_layers,), rhs (A, P); gram: what rows_gram gives, or None (then made on the way). out may be rhs.
    status (A,) int64: 0, or 1 + the first block of this agent without a finite solution, which is then 0.
    """
    mask, q = _by_layer(l2, layers), rhs.copy()
    columns = root.shape[2] if root.ndim == 3 else root.shape[1]
    for i in range(len(out)):
        rows, row = slice(offsets[i], offsets[i + 1]), w[0] if len(w) == 1 else w[i]
        j = np.empty(((offsets[i + 1] - offsets[i]) * columns, w.shape[1]), x.dtype)
        mlp_jacobian(j, row[None], x[rows], root[rows], layers, activation)
        status[i] = 0
        for k, (lo, hi) in enumerate(pairwise(blocks)):
            out[i, lo:hi] = 0
            with np.errstate(all="ignore"):
                d = tau[i] + mask[lo:hi]
                scaled, solution = j[:, lo:hi] / d, q[i, lo:hi] / d
                inner = np.eye(len(j), dtype=x.dtype) + scaled @ j[:, lo:hi].T
            try:
                np.linalg.cholesky(inner)
                solution = solution - scaled.T @ np.linalg.solve(inner, j[:, lo:hi] @ solution)
            except np.linalg.LinAlgError:
                solution = np.full(hi - lo, np.nan)
            if np.all(np.isfinite(solution)):
                out[i, lo:hi] = solution
            else:
                status[i] = status[i] or k + 1


def _by_layer(l2: Array, layers: Layers) -> Array:
    """l2_k on the weights of layer k, 0 on biases, (P,)."""
    parts = [np.repeat([value, 0], [d * h, h]) for value, (d, h) in zip(l2, pairwise(layers), strict=True)]
    return np.concatenate(parts)


def rows_gram(out: Array, x: Array, offsets: Index) -> None:
    """out (sum_i n_i^2,): X_i X_i' of the n_i rows of every agent, one after another."""
    start = 0
    for lo, hi in pairwise(offsets):
        stop = start + (hi - lo) ** 2
        out[start:stop] = (x[lo:hi] @ x[lo:hi].T).ravel()
        start = stop
