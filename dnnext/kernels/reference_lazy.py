"""NumPy twins of the kernels in csrc/feedback.c and csrc/tangent.c; conventions as in reference.py."""

import numpy as np

from dnnext.kernels.reference import (
    Array,
    Index,
    Layers,
    Values,
    _activations,
    _agents,
    _slopes,
    _unpack,
    loss_value_grad,
    mlp_jacobian,
)


def mlp_feedback(
    value: Values,
    grad: Array,
    w: Array,
    x: Array,
    feedback: Array,
    target: Array,
    weight: Array | None,
    offsets: Index,
    layers: Layers,
    activation: int,
    loss: int,
    param: float,
    scale: float,
    n_threads: int = 1,
) -> None:
    """value_i as in mlp_loss_grad; grad_i with delta_k = (delta_L B_k') * phi'(z_k) for the hidden layers.

    value (A,) float64, grad (A, P); feedback (hidden units of all layers, Q): B_1 (h_1, Q), then B_2, ... A loss of -1
    says that target holds the derivatives in the raw output themselves; value is then 0.
    """
    cuts = np.cumsum([0, *layers[1:-1]])
    for i, row, rows in _agents(w, offsets):
        a = _activations(row, x[rows], layers, activation)
        slopes = _slopes(row, a, layers, activation)
        each, delta = np.zeros(len(a[0])), np.array(target[rows])
        if loss >= 0:
            loss_value_grad(each, delta, a[-1], target[rows], loss, param)
        c = np.ones(len(each), x.dtype) if weight is None else weight[rows]
        value[i] = scale * np.sum(c * each)
        e = delta * (scale * c)[:, None]
        for k, (into, bias) in enumerate(_unpack(grad[i], layers)):
            last = k == len(layers) - 2
            d = e if last else e @ feedback[cuts[k] : cuts[k + 1]].T * slopes[k]
            into[...] = a[k].T @ d
            bias[...] = d.sum(axis=0)


def mlp_tangent_kernel(
    out: Array, w: Array, x: Array, y: Array | None, layers: Layers, activation: int, n_threads: int = 1
) -> None:
    """out (n Q, m Q) = J(X) J(Y)' of one network w (1, P); x (n, d), y (m, d), or None for x itself."""
    jacobians = []
    for rows in (x, x if y is None else y):
        j = np.empty((len(rows) * layers[-1], w.shape[1]), x.dtype)
        mlp_jacobian(j, w, rows, np.ones((len(rows), layers[-1]), x.dtype), layers, activation)
        jacobians.append(j)
    out[...] = jacobians[0] @ jacobians[1].T
