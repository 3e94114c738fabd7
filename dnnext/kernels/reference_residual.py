"""NumPy twins of the kernels in csrc/residual.c; states are (width, columns), a column for each sample."""

import numpy as np

from dnnext.kernels import residual_formulas as formulas
from dnnext.kernels.reference import Array, Index, Values, loss_value_grad


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


def _network(
    w: Array, fixed: Array | None, x: Array, width: int, n_layers: int, outputs: int, opening: int, activation: int
) -> tuple[Array, Array, Array, Array]:
    """``(u_0, layers (N, width^2 + width), C, c)`` of a network; states are (width, M)."""
    first = (x.shape[1] + 1) * width if opening == 0 else 0
    layers, last = w[first : len(w) - (width + 1) * outputs], w[len(w) - (width + 1) * outputs :]
    if opening == 2:
        u = np.concatenate([x.T, np.zeros((width - x.shape[1], len(x)), x.dtype)])
    else:
        weight = fixed if fixed is not None else w[: x.shape[1] * width].reshape(-1, width)
        bias = w[x.shape[1] * width : first] if opening == 0 else 0
        u = formulas.residual_phi((x @ weight + bias).T, activation)
    return u, layers.reshape(n_layers, -1), last[: width * outputs].reshape(width, -1), last[width * outputs :]


def residual_outputs(
    out: Array,
    w: Array,
    fixed: Array | None,
    x: Array,
    width: int,
    n_layers: int,
    h: float,
    opening: int,
    activation: int,
    n_threads: int = 1,
) -> None:
    """out (M, Q) = u_N C + c, u_0 the opening of x (0 trained, 1 fixed, 2 padding)."""
    u, layers, weight, bias = _network(w, fixed, x, width, n_layers, out.shape[1], opening, activation)
    for layer in layers:
        matrix, shift = _weights(layer, width)
        u = u + h * formulas.residual_phi(matrix @ u + shift, activation)
    out[...] = u.T @ weight + bias


def residual_loss_grad(
    value: Values,
    grad: Array | None,
    w: Array,
    fixed: Array | None,
    x: Array,
    target: Array,
    weight: Array | None,
    width: int,
    n_layers: int,
    h: float,
    opening: int,
    activation: int,
    loss: int,
    param: float,
    scale: float,
    n_threads: int = 1,
) -> None:
    """value (1,) = scale sum_m c_m loss(d_m, f(w; x_m)), grad (P,) = its gradient; loss -1: target holds dloss/df."""
    u, layers, last, bias = _network(w, fixed, x, width, n_layers, target.shape[1], opening, activation)
    states, phis = [u], []
    for layer in layers:
        matrix, shift = _weights(layer, width)
        phis.append(formulas.residual_phi(matrix @ states[-1] + shift, activation))
        states.append(states[-1] + h * phis[-1])
    terms, delta = np.zeros(len(x)), np.array(target)
    if loss >= 0:
        loss_value_grad(terms, delta, states[-1].T @ last + bias, target, loss, param)
    share = scale * (np.ones(len(x)) if weight is None else weight)
    value[0] = np.sum(share * terms)
    if grad is None:
        return
    delta = (delta * share[:, None]).T
    parts, adjoint = [states[-1] @ delta.T, delta.sum(axis=1)], last @ delta
    for layer, state, phi in zip(layers[::-1], states[-2::-1], phis[::-1], strict=True):
        push = h * adjoint * formulas.residual_phi_slope(phi, activation)
        parts[:0] = [state @ push.T, push.sum(axis=1)]
        adjoint = adjoint + _weights(layer, width)[0].T @ push
    if opening == 0:
        push = adjoint * formulas.residual_phi_slope(u, activation)
        parts[:0] = [x.T @ push.T, push.sum(axis=1)]
    grad[...] = np.concatenate([part.ravel() for part in parts])
