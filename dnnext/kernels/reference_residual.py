"""NumPy twins of the kernels in csrc/residual.c; states are (width, columns), a column for each sample."""

import numpy as np

from dnnext.kernels import residual_formulas as formulas
from dnnext.kernels.reference import Array, Index


def _weights(row: Array, width: int) -> tuple[Array, Array]:
    """``W'`` and ``b`` (width, 1) of one layer."""
    return row[: width * width].reshape(width, width).T, row[width * width :, None]


def residual_forward(
    u: Array,
    layers: Array,
    layer: Index,
    size: Array,
    apart: int,
    activation: int,
    g: Array | None = None,
    a: Array | None = None,
    n_threads: int = 1,
) -> None:
    """u[s, k + 1] = u[s, k] + size phi(W' u[s, k] + b 1') (+ g[s, k + 1]); phi into a[s, k] unless None."""
    for s, k in np.ndindex(*layer.shape):
        at = s * apart + k
        weight, bias = _weights(layers[layer[s, k]], u.shape[1])
        phi = formulas.residual_phi(weight @ u[at] + bias, activation)
        u[at + 1] = u[at] + size[s, k] * phi
        if a is not None:
            a[at] = phi
        if g is not None:
            u[at + 1] += g[at + 1]


def residual_tangent(
    u: Array,
    du: Array,
    layers: Array,
    direction: Array,
    layer: Index,
    size: Array,
    apart: int,
    activation: int,
    n_threads: int = 1,
) -> None:
    """u as in residual_forward, du[s, k + 1] = du[s, k] + size phi'(z) (W' du[s, k] + V' u[s, k] + v 1')."""
    for s, k in np.ndindex(*layer.shape):
        at = s * apart + k
        weight, bias = _weights(layers[layer[s, k]], u.shape[1])
        dweight, dbias = _weights(direction[layer[s, k]], u.shape[1])
        a = formulas.residual_phi(weight @ u[at] + bias, activation)
        dz = weight @ du[at] + dweight @ u[at] + dbias
        du[at + 1] = du[at] + size[s, k] * formulas.residual_phi_slope(a, activation) * dz
        u[at + 1] = u[at] + size[s, k] * a


def residual_backward(
    adjoint: Array,
    pushed: Array | None,
    u: Array,
    layers: Array,
    layer: Index,
    size: Array,
    state: Index,
    apart: int,
    activation: int,
    g: Array | None = None,
    a: Array | None = None,
    n_threads: int = 1,
) -> None:
    """adjoint[s, k + 1] = adjoint[s, k] + W pushed[s, k] (+ g), pushed[s, k] = size phi'(z) adjoint[s, k]."""
    for number, (s, k) in enumerate(np.ndindex(*layer.shape)):
        at = s * apart + k
        weight, bias = _weights(layers[layer[s, k]], u.shape[1])
        z = weight @ u[state[s, k]] + bias
        phi = formulas.residual_phi(z, activation) if a is None else a[state[s, k]]
        push = size[s, k] * adjoint[at] * formulas.residual_phi_slope(phi, activation)
        adjoint[at + 1] = adjoint[at] + weight.T @ push
        if pushed is not None:
            pushed[number] = push
        if g is not None:
            adjoint[at + 1] += g[at + 1]


def residual_gradient(grad: Array, u: Array, pushed: Array, state: Index, n_threads: int = 1) -> None:
    """grad[k] = (u[state[k]] pushed[k]', the sum of pushed[k] over columns)."""
    for k, push in enumerate(pushed):
        grad[k] = np.concatenate([(u[state[k, 0]] @ push.T).ravel(), push.sum(axis=1)])
