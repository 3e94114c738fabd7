"""NumPy twins of conjugate.c, and of the roots in losses.c; see reference.py."""

import numpy as np

from dnnext.kernels.reference import Array, Index, Layers, Values, mlp_gauss_newton_product

__all__ = ["cg_curve", "cg_step", "cg_turn", "curvature_root", "mlp_cg_solve"]


def curvature_root(
    out: Array, f: Array, target: Array, share: Array, loss: int, param: float, n_threads: int = 1
) -> None:
    """out = share_m S_m with S_m S_m' the generalised second derivative of the loss in the raw output.

    f, target (M, Q), share (M,); out (M, Q), diagonals: squared_error 1; huber 1 if |f - d| <= param else 0; logistic
    sqrt(p (1 - p)); squared_hinge 1 if d f < 1 else 0. softmax: out (M, Q, Q), diag(sqrt p) - p sqrt(p)'.
    """
    if loss == 3:
        e = np.exp(f - np.max(f, axis=1, keepdims=True))
        root = np.sqrt(e / np.sum(e, axis=1, keepdims=True))
        full = np.eye(f.shape[1]) * root[:, None, :] - np.square(root)[:, :, None] * root[:, None, :]
        out[...] = share[:, None, None] * full
        return
    half = np.exp(-0.5 * np.abs(f))
    diagonals = {1: np.abs(f - target) <= param, 2: half / (1 + half * half), 4: target * f < 1}
    out[...] = share[:, None] * diagonals.get(loss, np.ones_like(f))


def cg_curve(curve: Values, image: Array, diag: Array, direction: Array, n_threads: int = 1) -> None:
    """image_i += diag_i direction_i, then curve_i = direction_i'image_i; image, diag, direction (A, P), curve (A,)."""
    image += diag * direction
    curve[...] = np.einsum("ip,ip->i", direction, image, dtype=np.float64)


def cg_step(
    energy: Values, step: Array, residual: Array, direction: Array, image: Array, length: Values, n_threads: int = 1
) -> None:
    """step_i += length_i direction_i, residual_i -= length_i image_i, then energy_i = |residual_i|^2.

    step, residual, direction, image (A, P); energy, length (A,).
    """
    step += length[:, None] * direction
    residual -= length[:, None] * image
    energy[...] = np.einsum("ip,ip->i", residual, residual, dtype=np.float64)


def cg_turn(direction: Array, residual: Array, ratio: Values, n_threads: int = 1) -> None:
    """direction_i <- residual_i + ratio_i direction_i; direction, residual (A, P), ratio (A,)."""
    direction[...] = residual + ratio[:, None] * direction


def mlp_cg_solve(
    out: Array, n_done: Index, w: Array, x: Array, root: Array, diag: Array, rhs: Array, offsets: Index,
    layers: Layers, activation: int, n_iter: int, tol: float, n_threads: int = 1, centred: bool = False,
) -> None:  # fmt: skip
    """(A_i + diag(diag_i)) out_i = rhs_i, A_i = sum_m J_m' S_m S_m' J_m, by conjugate gradients from 0.

    An agent ends after n_done_i steps, n_iter at most, when |residual_i| <= tol |rhs_i|. out, diag, rhs (A, P). Where
    |rhs_i|^2 is not finite, out_i is NaN. centred: as in mlp_gauss_newton_product.
    """
    residual, image = rhs.copy(), np.empty_like(rhs)
    direction, curve, after = rhs.copy(), np.empty(len(rhs)), np.empty(len(rhs))
    energy = np.einsum("ip,ip->i", rhs, rhs, dtype=np.float64)
    goal, blocks = tol**2 * energy, np.array([0, rhs.shape[1]], dtype=np.int64)
    out[...], n_done[...] = np.where(np.isfinite(energy), 0, np.nan)[:, None], 0
    for _ in range(n_iter):
        active = energy > goal
        if not active.any():
            break
        mlp_gauss_newton_product(
            image, w, x, root, direction, offsets, layers, activation, blocks, centred=centred
        )  # fmt: skip
        cg_curve(curve, image, diag, direction)
        cg_step(after, out, residual, direction, image, np.where(active, energy / np.where(active, curve, 1), 0))
        cg_turn(direction, residual, np.where(active, after / np.where(active, energy, 1), 0))
        energy = np.where(active, after, energy)
        n_done += active
