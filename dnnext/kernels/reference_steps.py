"""NumPy twins of rounds.c, step.c, iteration.c: mixing, and what an iteration does to rows; see reference.py."""

from typing import NamedTuple

import numpy as np

from dnnext.kernels.reference import (
    LOSSES,
    Array,
    Index,
    Layers,
    Values,
    mlp_forward,
    mlp_gauss_newton,
    mlp_gauss_newton_product,
    mlp_loss_grad,
    penalty_prox,
    spd_solve,
)
from dnnext.kernels.reference_conjugate import curvature_root, mlp_cg_solve

__all__ = [
    "StepMixing",
    "StepProblem",
    "StepRecipe",
    "StepState",
    "neighbour_max",
    "network_mix",
    "next_step",
    "proximal_step",
    "row_change",
    "secant_rule",
    "tracker_update",
]


def _dense(n_rows: int, n_columns: int, indptr: Index, indices: Index, data: Array) -> Array:
    matrix = np.zeros((n_rows, n_columns))
    for i in range(n_rows):
        for k in range(indptr[i], indptr[i + 1]):
            matrix[i, indices[k]] += data[k]
    return matrix


def network_mix(
    out: Array,
    disagreement: Values | None,
    size: Values | None,
    rows: Array,
    indptr: Index,
    indices: Index,
    data: Array,
    rounds: Values,
    n_threads: int = 1,
) -> None:
    """v_0 = rows, v_k+1 = scale_k C v_k + shift_k v_k + memory_k v_k-1, out = the last v: all rounds of one call.

    out, rows (A, L); rounds (K, 3): scale, shift, memory; the first memory is not used. disagreement, size (A,), both
    or neither: row_change of v_0 and v_1 with the factor 1 / scale_0; of v_0 and itself where K is 0.
    """
    mixing = _dense(len(rows), len(rows), indptr, indices, data)
    before, now = np.zeros_like(rows), rows
    for k, (scale, shift, memory) in enumerate(rounds):
        before, now = now, scale * (mixing @ now) + shift * now + (memory * before if k else 0)
        if k == 0 and disagreement is not None and size is not None:
            row_change(disagreement, size, rows, now, 1 / scale)
    if len(rounds) == 0 and disagreement is not None and size is not None:
        row_change(disagreement, size, rows, rows, 0.0)
    out[...] = now


def row_change(
    disagreement: Values, size: Values, before: Array, after: Array, factor: float, n_threads: int = 1
) -> None:
    """disagreement_i = factor |before_i - after_i| / |before_i|, 0 where before_i is 0, inf where it is no number.

    disagreement, size (A,), size_i = |before_i|; before, after (A, L).
    """
    with np.errstate(all="ignore"):
        size[:] = np.linalg.norm(before, axis=1)
        ratio = factor * np.linalg.norm(before - after, axis=1) / size
    disagreement[:] = np.where(size == 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def neighbour_max(received: Array, scalars: Array, indptr: Index, indices: Index, data: Array) -> None:
    """received_i = the largest scalars_j of the columns j != i stored in row i, column by column; NaN wins.

    received (n_local, S); scalars (n_local + n_ghost, S): own rows first; -inf where a row stores no other column. data
    (nnz,): the weights, which do not matter.
    """
    received[...] = -np.inf
    for i in range(len(received)):
        for k in range(indptr[i], indptr[i + 1]):
            if indices[k] != i:
                received[i] = np.maximum(received[i], scalars[indices[k]])


def proximal_step(
    z: Array | None,
    w_hat: Array,
    w: Array,
    y: Array,
    tau: Values,
    step: float,
    agents: float,
    l1: Array,
    l2: Array,
    groups: Index,
    strength: Array,
    n_threads: int = 1,
) -> None:
    """w_hat_i = prox_{r / tau_i}(w_i - agents / tau_i y_i), z_i = w_i + step (w_hat_i - w_i).

    z, w_hat, w, y (A, P), z may be None; tau (A,); r as in penalty_prox.
    """
    s = (1 / tau).astype(w.dtype)
    penalty_prox(w_hat, w - agents * s[:, None] * y, s, l1, l2, groups, strength)
    if z is not None:
        z[...] = w + step * (w_hat - w)


def tracker_update(y: Array, squares: Values, grad: Array, grad_old: Array, w: Array, n_threads: int = 1) -> None:
    """y_i += grad_i - grad_old_i; squares_i = |w_i|^2 + |y_i|^2 with the new y. y, grad, grad_old, w (A, P)."""
    y += grad
    y -= grad_old
    squares[:] = np.sum(np.square(w, dtype=np.float64), axis=1) + np.sum(np.square(y, dtype=np.float64), axis=1)


def secant_rule(
    tau: Values,
    beta: Values,
    received: Values,
    w: Array,
    w_old: Array,
    y: Array,
    y_old: Array,
    model: Array | None,
    agents: float,
    growth: float,
    decay: float,
    low: float,
    high: float,
    n_threads: int = 1,
) -> None:
    """tau_i <- min(max(growth m_i, tau_i / decay, low), high), beta_i <- |agents (y - y_old) - model| / |w - w_old|.

    m_i: the largest of the new beta_i, the old one and received_i; where w_i moved by no more than 1e-12 of its length,
    nothing changes. tau, beta (A,), in and out; received (A,); w, w_old, y, y_old, model (A, P), model may be None.
    """
    length = np.linalg.norm(w.astype(np.float64) - w_old, axis=1)
    moved = length > 1e-12 * np.linalg.norm(w_old.astype(np.float64), axis=1)
    misfit = agents * (y.astype(np.float64) - y_old) - (0 if model is None else model)
    now = np.linalg.norm(misfit, axis=1) / np.where(moved, length, 1)
    wanted = np.maximum(growth * np.maximum(np.maximum(now, beta), received), tau / decay)
    tau[:] = np.where(moved, np.clip(wanted, low, high), tau)
    beta[:] = np.where(moved, now, beta)


class StepState(NamedTuple):
    """What the agents hold in `next_step`: rows (A, P), numbers (A,) float64.

    Examples
    --------
    >>> rows, sums = np.zeros((8, 3, 2)), np.zeros((7, 3))  # three agents, two parameters
    >>> StepState(*rows[:5], *sums, *rows[5:]).grad_old.shape
    (3, 2)
    """

    w: Array  # new, as y and grad
    y: Array
    w_hat: Array
    z: Array
    grad: Array
    value: Values
    squares: Values
    disagreement: Values
    size: Values
    received: Values
    tau: Values  # in and out, as beta
    beta: Values
    w_old: Array  # before
    y_old: Array
    grad_old: Array


class StepProblem(NamedTuple):
    """What `next_step` minimises: arguments of mlp_loss_grad, then the four of a penalty.

    Examples
    --------
    >>> x, none, flat = np.ones((1, 1)), np.empty((0, 2), np.int64), np.zeros(2)
    >>> StepProblem(x, x, None, np.array([0, 1]), (1, 1), 0, 0, 1.0, 1.0, flat, flat, none, flat[:0]).layers
    (1, 1)
    """

    x: Array
    target: Array
    weight: Array | None
    offsets: Index
    layers: Layers
    activation: int
    loss: int
    param: float
    scale: float
    l1: Array
    l2: Array
    groups: Index
    strength: Array


class StepMixing(NamedTuple):
    """How `next_step` mixes: arguments of network_mix.

    Examples
    --------
    >>> alone = StepMixing(np.array([0, 1]), np.array([0]), np.ones(1), np.empty((0, 3)))
    >>> len(alone.rounds)
    0
    """

    indptr: Index
    indices: Index
    data: Array
    rounds: Values


class StepRecipe(NamedTuple):
    """How an agent steps: arguments of proximal_step and secant_rule; with a root, or the shares of rows it is made
    from, those of the solution by Cholesky in these blocks, or with steps those of mlp_cg_solve.

    Examples
    --------
    >>> StepRecipe(step=1.0, agents=5.0, growth=3.0, decay=1.2, low=0.1, high=9.0).root is None
    True
    """

    step: float
    agents: float
    growth: float
    decay: float
    low: float
    high: float
    root: Array | None = None
    status: Index | None = None
    group: int = 1
    steps: int = 0
    tol: float = 0.0
    share: Array | None = None
    blocks: Index | None = None


def next_step(
    state: StepState,
    problem: StepProblem,
    mixing: StepMixing,
    recipe: StepRecipe,
    n_threads: int = 1,
    workspace: object = None,
) -> None:
    """One iteration of NEXT, from w_old, y_old, grad_old (A, P) to w, y, grad (A, P).

    The other twins one after another, arguments as there; received is 0 where there are no rounds, and the rule is left
    out where growth is 0. Without root fully linearised, otherwise by Cholesky: w_hat_i = w_i - (B_i + tau_i + l2)^-1
    (agents y_i + l2 w_i), B of mlp_gauss_newton at w_old; where status is not 0 nothing else is written. With steps > 0
    by mlp_cg_solve instead. With share (M,) in place of root it is curvature_root at f(w_old), times share.
    """
    w, y, w_hat, z, grad, value, squares, disagreement, size, received, tau, beta, w_old, y_old, grad_old = state
    x, target, weight, offsets, layers, activation, loss, param, scale, l1, l2, groups, strength = problem
    step, agents, growth, decay, low, high, root, status, _, steps, tol, share, blocks = recipe
    csr, rounds = mixing[:3], mixing.rounds
    network = (offsets, layers, activation, np.array([0, w.shape[1]]) if blocks is None else blocks)
    model = None
    if share is not None:
        f, wide = np.empty_like(target), (target.shape[1],) * (loss == LOSSES["softmax"])
        root = np.empty((*target.shape, *wide), w.dtype)
        mlp_forward(f, w_old, x, *network[:-1])
        curvature_root(root, f, target, share, loss, param)
    if root is None or status is None:
        proximal_step(z, w_hat, w_old, y_old, tau, step, agents, l1, l2, groups, strength)
    else:
        diag, rhs = (tau[:, None] + l2).astype(w.dtype), (-(agents * y_old + l2 * w_old)).astype(w.dtype)
        b = np.empty((len(w), 0 if steps else np.sum(np.diff(network[-1]) ** 2)), w.dtype)
        if steps:
            mlp_cg_solve(w_hat, status, w_old, x, root, diag, rhs, *network[:-1], steps, tol)
            status[:] = 0
        else:
            mlp_gauss_newton(b, w_old, x, root, *network)
            spd_solve(w_hat, status, b, diag, rhs, network[-1])
        if status.any():
            return
        w_hat += w_old
        z[...] = w_old + step * (w_hat - w_old)
    network_mix(w, disagreement, size, z, *csr, rounds)
    network_mix(y, None, None, y_old, *csr, rounds)
    largest = np.zeros((len(w), 1), w.dtype)
    if len(rounds):
        neighbour_max(largest, beta.astype(w.dtype)[:, None], *csr)
    received[:] = largest[:, 0]
    mlp_loss_grad(value, grad, w, x, target, weight, offsets, layers, activation, loss, param, scale)
    tracker_update(y, squares, grad, grad_old, w)
    if growth > 0:
        if root is not None:
            model = np.empty_like(w)
            mlp_gauss_newton_product(model, w_old, x, root, w - w_old, *network)
        secant_rule(tau, beta, received, w, w_old, y, y_old, model, agents, growth, decay, low, high)
