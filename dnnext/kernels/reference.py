"""NumPy twins of the compiled kernels: the same names, the same arguments, the text one reads first.

Conventions shared by every kernel
    outputs come first and are written in place; nothing is allocated for the caller
    A agents, P parameters, M rows of all agents together, d inputs, Q outputs
    w (A, P) holds one flat row per agent; a (1, P) array means one row for all agents
    x (M, d), target (M, Q); the rows of agent i are offsets[i] : offsets[i + 1]
    layers = (d, h_1, ..., Q); flat layout: for each layer the weights (inputs x outputs, C order), then the biases
    activation, loss: the integer codes below; float64 or float32 throughout, `value` always float64
    blocks (n_blocks + 1,): boundaries that cut 0 : P into contiguous blocks; block matrices are packed one after
    another, so a row of a block-diagonal matrix set has sum_b P_b^2 numbers
    n_threads never changes a result: all are equal bit for bit
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.kernels.activations import ACTIVATIONS, FUNCTIONS

Array = NDArray[Any]  # float64 or float32, one of the two in all arrays of a call
Values = NDArray[np.float64]
Index = NDArray[Any]  # int64; csr_mix takes int32 too
Layers = Sequence[int]

NAMES = list(ACTIVATIONS)
LOSSES = {"squared_error": 0, "huber": 1, "logistic": 2, "softmax": 3, "squared_hinge": 4}


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    value: Array = np.where(z >= 0, 1, e) / (1 + e)
    return value


def _activate(z: Array, code: int) -> Array:
    """phi(z), elementwise."""
    return FUNCTIONS[NAMES[code]].value(z)


def _unpack(row: Array, layers: Layers) -> Iterator[tuple[Array, Array]]:
    """Views (W_1, b_1), (W_2, b_2), ... of one flat row."""
    start = 0
    for n_in, n_out in pairwise(layers):
        stop = start + n_in * n_out
        yield row[start:stop].reshape(n_in, n_out), row[stop : stop + n_out]
        start = stop + n_out


def _agents(w: Array, offsets: Index) -> Iterator[tuple[int, Array, slice]]:
    """(agent, its row of w, its rows of data) in agent order."""
    for i in range(len(offsets) - 1):
        yield i, w[0] if len(w) == 1 else w[i], slice(offsets[i], offsets[i + 1])


def _activations(row: Array, x: Array, layers: Layers, activation: int) -> list[Array]:
    """[x, a_1, ..., a_L-1, f]: the input of every layer and the raw output."""
    a = [x]
    for k, (weight, bias) in enumerate(_unpack(row, layers)):
        z = a[-1] @ weight + bias
        a.append(_activate(z, activation) if k < len(layers) - 2 else z)
    return a


def _slopes(row: Array, a: list[Array], layers: Layers, activation: int) -> list[Array]:
    """[phi'(z_1), ..., phi'(z_L-1)] of the hidden layers, from what `_activations` gave."""
    pairs = list(zip(_unpack(row, layers), a[:-1], a[1:], strict=True))[:-1]
    return [FUNCTIONS[NAMES[activation]].slope(before @ w + b, after) for (w, b), before, after in pairs]


def _deltas(row: Array, a: list[Array], u: Array, layers: Layers, activation: int) -> list[Array]:
    """u backwards: delta_k = (delta_k+1 W_k+1') * phi'(z_k), one array per layer, first layer first."""
    weights = [weight for weight, _ in _unpack(row, layers)]
    deltas, slopes = [u], _slopes(row, a, layers, activation)
    for k in range(len(weights) - 1, 0, -1):
        deltas.insert(0, (deltas[0] @ weights[k].T) * slopes[k - 1])
    return deltas


def loss_value_grad(value: Values, delta: Array, f: Array, target: Array, loss: int, param: float) -> None:
    """value (M,) and delta (M, Q): loss(target, f) of every row and its derivative in the raw output f.

    squared_error 1/2 |f - d|^2; huber sum_q (r^2/2 if |r| <= param else param (|r| - param/2)), r = f - d;
    logistic sum_q log(1 + e^f) - d f, d in {0, 1}; softmax log sum_q e^f - d'f, d one-hot;
    squared_hinge sum_q 1/2 max(0, 1 - d f)^2, d in {-1, 1}.
    """
    if loss == 0:
        delta[...] = f - target
        value[...] = 0.5 * np.sum(np.square(delta, dtype=np.float64), axis=1)
    elif loss == 1:
        r = f - target
        delta[...] = np.clip(r, -param, param)
        value[...] = np.sum(np.abs(delta) * (np.abs(r) - 0.5 * np.abs(delta)), axis=1, dtype=np.float64)
    elif loss == 2:
        delta[...] = _sigmoid(f) - target
        soft = np.maximum(f, 0) + np.log1p(np.exp(-np.abs(f)))
        value[...] = np.sum(soft - target * f, axis=1, dtype=np.float64)
    elif loss == 3:
        top = np.max(f, axis=1, keepdims=True)
        e = np.exp(f - top)
        total = np.sum(e, axis=1, keepdims=True)
        delta[...] = e / total - target
        value[...] = np.sum(target * (np.log(total) + top - f), axis=1, dtype=np.float64)
    else:
        gap = np.maximum(0, 1 - target * f)
        delta[...] = -target * gap
        value[...] = 0.5 * np.sum(np.square(gap, dtype=np.float64), axis=1)


def mlp_forward(
    out: Array, w: Array, x: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None:
    """out (M, Q) = f(w_i; x_m), the raw network output."""
    for _, row, rows in _agents(w, offsets):
        out[rows] = _activations(row, x[rows], layers, activation)[-1]


def mlp_loss_grad(
    value: Values,
    grad: Array | None,
    w: Array,
    x: Array,
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
    """value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)) and grad_i = its gradient in w_i.

    value (A,) float64, grad (A, P) or None for the value alone, weight c (M,) or None for ones.
    """
    for i, row, rows in _agents(w, offsets):
        a = _activations(row, x[rows], layers, activation)
        each, delta = np.empty(len(a[0])), np.empty_like(a[-1])
        loss_value_grad(each, delta, a[-1], target[rows], loss, param)
        c = np.ones(len(each), x.dtype) if weight is None else weight[rows]
        value[i] = scale * np.sum(c * each)
        if grad is not None:
            u = delta * (scale * c)[:, None]
            mlp_jtu(grad[i : i + 1], row[None], x[rows], u, np.array([0, len(c)]), layers, activation)


def mlp_jv(
    out: Array, w: Array, x: Array, v: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None:
    """out (M, Q) = J_m(w_i) v_i, the directional derivative of the raw output; v (A, P)."""
    for i, row, rows in _agents(w, offsets):
        a = _activations(row, x[rows], layers, activation)
        tangent, slopes = np.zeros_like(a[0]), _slopes(row, a, layers, activation)
        pairs = zip(_unpack(row, layers), _unpack(v[i], layers), strict=True)
        for k, ((weight, _), (d_weight, d_bias)) in enumerate(pairs):
            tangent = tangent @ weight + a[k] @ d_weight + d_bias
            if k < len(layers) - 2:
                tangent = tangent * slopes[k]
        out[rows] = tangent


def mlp_jtu(
    out: Array, w: Array, x: Array, u: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None:
    """out (A, P) = sum_m J_m(w_i)' u_m, backpropagation of u (M, Q)."""
    for i, row, rows in _agents(w, offsets):
        a = _activations(row, x[rows], layers, activation)
        deltas = _deltas(row, a, u[rows], layers, activation)
        for (weight, bias), a_k, delta in zip(_unpack(out[i], layers), a, deltas, strict=False):
            weight[...] = a_k.T @ delta
            bias[...] = delta.sum(axis=0)


def mlp_jacobian(
    out: Array, w: Array, x: Array, root: Array, layers: Layers, activation: int, n_threads: int = 1
) -> None:
    """out (M R, P): the rows S_m' J_m of ONE agent, w (1, P); R = Q for root (M, Q) = diag(S) and root (M, Q, R)."""
    a = _activations(w[0], x, layers, activation)
    full = root if root.ndim == 3 else root[:, :, None] * np.eye(root.shape[1], dtype=root.dtype)
    by_row = out.reshape(len(x), full.shape[2], w.shape[1])
    for r in range(full.shape[2]):
        start = 0
        deltas = _deltas(w[0], a, np.ascontiguousarray(full[:, :, r]), layers, activation)
        for a_k, delta in zip(a, deltas, strict=False):
            stop = start + a_k.shape[1] * delta.shape[1]
            by_row[:, r, start:stop] = (a_k[:, :, None] * delta[:, None, :]).reshape(len(x), stop - start)
            by_row[:, r, stop : stop + delta.shape[1]] = delta
            start = stop + delta.shape[1]


def mlp_gauss_newton(
    out: Array,
    w: Array,
    x: Array,
    root: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
) -> None:
    """out (A, sum_b P_b^2): the diagonal blocks of sum_m J_m' S_m S_m' J_m, packed; each block full and symmetric."""
    for i, row, rows in _agents(w, offsets):
        n_rows = rows.stop - rows.start
        j = np.empty((n_rows * (root.shape[2] if root.ndim == 3 else root.shape[1]), len(row)), x.dtype)
        mlp_jacobian(j, row[None], x[rows], root[rows], layers, activation)
        for place, cut in _packed(blocks):
            out[i, place] = (j[:, cut].T @ j[:, cut]).ravel()


def mlp_gauss_newton_product(
    out: Array,
    w: Array,
    x: Array,
    root: Array,
    v: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
    centred: bool = False,
) -> None:
    """out (A, P): block b of row i = (J_b' S S' J_b) v_b; with one block this is J' S S' J v. v (A, P).

    centred: root holds q (M, Q), and S S' = diag(q) - q q' / sum(q).
    """
    root = _centred(root) if centred else root
    for i, row, rows in _agents(w, offsets):
        n_rows = rows.stop - rows.start
        j = np.empty((n_rows * (root.shape[2] if root.ndim == 3 else root.shape[1]), len(row)), x.dtype)
        mlp_jacobian(j, row[None], x[rows], root[rows], layers, activation)
        for _, cut in _packed(blocks):
            out[i, cut] = j[:, cut].T @ (j[:, cut] @ v[i, cut])


def _centred(q: Array) -> Array:
    """S = diag(sqrt q) - q sqrt(q)' / sum(q), of q (M, Q)."""
    mean = q / np.maximum(q.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray((np.eye(q.shape[1]) - mean[:, :, None]) * np.sqrt(q)[:, None, :])


def _packed(blocks: Index) -> Iterator[tuple[slice, slice]]:
    """(place of the packed block matrix, columns of the block) for every block."""
    start = 0
    for lo, hi in pairwise(blocks):
        yield slice(start, start + (hi - lo) ** 2), slice(lo, hi)
        start += (hi - lo) ** 2


def spd_solve(out: Array, status: Index, b: Array, diag: Array, rhs: Array, blocks: Index, n_threads: int = 1) -> None:
    """out (A, P): block by block (B_ib + diag(diag_ib)) out_ib = rhs_ib by Cholesky; b is overwritten.

    status (A,) int64: 0, or 1 + the first block of this agent that is not positive definite or has no finite solution;
    the solution of such a block is 0.
    out may be rhs itself.
    """
    for i in range(len(out)):
        status[i] = 0
        for k, (place, cut) in enumerate(_packed(blocks)):
            size = cut.stop - cut.start
            try:
                factor = np.linalg.cholesky(b[i, place].reshape(size, size) + np.diag(diag[i, cut]))
                solution = np.linalg.solve(factor.T, np.linalg.solve(factor, rhs[i, cut]))
            except np.linalg.LinAlgError:
                solution = np.full(size, np.nan)
            sound = bool(np.all(np.isfinite(solution)))
            out[i, cut] = solution if sound else 0
            status[i] = status[i] or (0 if sound else k + 1)


def penalty_prox(
    out: Array, v: Array, s: Array, l1: Array, l2: Array, groups: Index, strength: Array, n_threads: int = 1
) -> None:
    """out_i = argmin_u 1/2 |u - v_i|^2 + s_i r(u),  r(u) = sum_p l1_p |u_p| + l2_p u_p^2/2 + sum_g strength_g |u_g|.

    Soft threshold by s l1, block soft threshold by s strength, division by 1 + s l2: exact in this order when l2 is
    constant within each group. out, v (A, P); s (A,); l1, l2 (P,); groups (n_groups, 2) int64 are disjoint column
    ranges start, stop in increasing order; strength (n_groups,). out may be v itself.
    """
    step = s[:, None]
    soft = np.sign(v) * np.maximum(np.abs(v) - step * l1, 0)
    for (start, stop), weight in zip(groups, strength, strict=True):
        part = soft[:, start:stop]
        norm = np.sqrt(np.sum(np.square(part, dtype=np.float64), axis=1, keepdims=True))
        shrink = np.maximum(0, 1 - step * weight / np.where(norm > 0, norm, 1))
        part *= np.where(norm > 0, shrink, 0).astype(v.dtype)
    out[...] = soft / (1 + step * l2)


def csr_mix(
    out: Array,
    rows: Array,
    indptr: Index,
    indices: Index,
    data: Array,
    previous: Array | None,
    scale: float,
    shift: float,
    memory: float,
    n_threads: int = 1,
) -> None:
    """out_i = scale sum_k data_k rows[indices_k] + shift rows_i + memory previous_i, k over row i in stored order.

    out (n_local, L); rows (n_local + n_ghost, L): own rows first; previous (n_local, L) or None (memory unused).
    out may be previous itself, never rows. The sum over k starts at 0 and is added in stored order. A term of shift or
    memory 0 is left out, whatever its numbers are.
    """
    for i in range(len(out)):
        total = np.zeros(rows.shape[1], rows.dtype)
        for k in range(indptr[i], indptr[i + 1]):
            total += data[k] * rows[indices[k]]
        total = scale * total
        if shift != 0:
            total = total + shift * rows[i]
        out[i] = total + memory * previous[i] if previous is not None and memory != 0 else total


def block_product(out: Array, b: Array, v: Array, blocks: Index, n_threads: int = 1) -> None:
    """out (A, P): out_i = B_i v_i for packed block-diagonal B_i; b (A, sum_b P_b^2), v (A, P), out is not v."""
    for i in range(len(out)):
        for place, cut in _packed(blocks):
            size = cut.stop - cut.start
            out[i, cut] = b[i, place].reshape(size, size) @ v[i, cut]


def descent_solve(
    v: Array,
    n_done: Index,
    b: Array,
    tau: Array,
    w: Array,
    g: Array,
    l1: Array,
    l2: Array,
    groups: Index,
    strength: Array,
    blocks: Index,
    n_iter: int,
    tol: float,
    n_threads: int = 1,
) -> None:
    """v_i = argmin_u 1/2 (u - w_i)'(B_i + tau_i I)(u - w_i) + g_i'(u - w_i) + r(u), r as in penalty_prox.

    B_i is block-diagonal. Block coordinate descent from v (warm start): exact on single coordinates, one proximal step
    of length 1 / (trace(B_gg) + tau_i) on each group g (none where that is not positive); at most n_iter sweeps, until
    no coordinate of a sweep moved by more than tol max(1, |v|_max). v (A, P) in and out; n_done (A,) int64: sweeps
    taken, the largest over the blocks.
    b (A, sum_b P_b^2), tau (A,), w, g (A, P); groups never cross a block boundary.
    """
    for i in range(len(v)):
        n_done[i] = 0
        for place, cut in _packed(blocks):
            size = cut.stop - cut.start
            m = b[i, place].reshape(size, size)
            inside = (groups[:, 0] >= cut.start) & (groups[:, 1] <= cut.stop)
            parts = [slice(a - cut.start, e - cut.start) for a, e in groups[inside]]
            weights = list(strength[inside])
            grouped = np.zeros(size, bool)
            for part in parts:
                grouped[part] = True
            parts += [slice(p, p + 1) for p in np.flatnonzero(~grouped)]
            weights += [0.0] * (len(parts) - len(weights))
            order = np.argsort([part.start for part in parts], kind="stable")
            x, wi, gi = v[i, cut], w[i, cut], g[i, cut]
            q = m @ (x - wi)
            done = 0
            while done < n_iter:
                done += 1
                moved = 0.0
                for p in order:
                    part = parts[p]
                    length = np.trace(m[part, part]) + tau[i]
                    if not length > 0:
                        continue
                    old = x[part].copy()
                    target = old - (q[part] + tau[i] * (old - wi[part]) + gi[part]) / length
                    new = np.empty((1, len(old)), v.dtype)
                    whole = np.array([[0, len(old)]]) if weights[p] else np.empty((0, 2), np.int64)
                    penalty_prox(
                        new, target[None], np.array([1 / length], v.dtype), l1[cut][part], l2[cut][part],
                        whole, np.array([weights[p]] if weights[p] else [], v.dtype),
                    )  # fmt: skip
                    x[part] = new[0]
                    change = new[0] - old
                    q += m[:, part] @ change
                    moved = max(moved, np.max(np.abs(change)))
                if moved <= tol * max(1, np.max(np.abs(x), initial=0)):
                    break
            n_done[i] = max(n_done[i], done)
