"""The tangent kernel and direct feedback: their twins, threads, and where they must equal other kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_lazy

CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "layers": st.lists(st.integers(1, 19), min_size=2, max_size=5),
    "activation": st.sampled_from(sorted(kernels.ACTIVATIONS)),
    "dtype": st.sampled_from([np.float64, np.float32]),
}


def wide(arguments):
    return [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]


def feedback_of(p):
    return p.real(sum(p.layers[1:-1]), p.outputs)


@given(
    **CASES, rows=st.lists(st.sampled_from([0, 1, 2, 7, 600]), min_size=1, max_size=4), shared_w=st.booleans(),
    loss=st.sampled_from([None, *kernels.LOSSES]), weighted=st.booleans(),
)  # fmt: skip
def test_feedback_is_its_twin(network, agree, seed, layers, activation, dtype, rows, shared_w, loss, weighted):
    p = network(seed, layers, rows, dtype, shared_w, loss or "squared_error", activation)
    code, target = (-1, p.u) if loss is None else (p.loss, p.target)
    weight = p.weight if weighted else None
    arguments = (
        p.w, p.x, feedback_of(p), target, weight, p.offsets, p.layers, p.activation, code, 0.7, 1 / (p.n + 1),
    )  # fmt: skip
    value, grad = np.full(p.agents, 7.0), np.full((p.agents, p.params), 7, dtype)
    twin = np.full(p.agents, 7.0), np.full((p.agents, p.params), 7.0)
    kernels.mlp_feedback(value, grad, *arguments)
    reference_lazy.mlp_feedback(*twin, *wide(arguments))
    agree(grad, twin[1])
    agree(value, twin[0], {8: 1e-12, 4: 1e-5}[p.dtype.itemsize])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", sorted(kernels.ACTIVATIONS))
def test_feedback_by_the_forward_weights_is_backpropagation_with_one_hidden_layer(network, activation, dtype):
    p = network(0, (5, 9, 3), (300, 0, 41), dtype, shared_w=True, loss="softmax", activation=activation)
    tail = (p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 0.1)
    back = np.ascontiguousarray(p.w[0, 54:81].reshape(9, 3))
    ours, its = ((np.empty(3), np.empty((3, p.params), dtype)) for _ in range(2))
    kernels.mlp_feedback(*ours, p.w, p.x, back, *tail)
    kernels.mlp_loss_grad(*its, p.w, p.x, *tail)
    for mine, other in zip(ours, its, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_feedback_by_products_of_weights_is_backpropagation_in_a_linear_network(network, agree):
    p = network(1, (6, 5, 4, 7, 3), (80,), activation="identity")
    parts, at = [], 0
    for n_in, n_out in ((6, 5), (5, 4), (4, 7), (7, 3)):
        parts.append(p.w[0, at : at + n_in * n_out].reshape(n_in, n_out))
        at += (n_in + 1) * n_out
    _, w2, w3, w4 = parts
    tail = (p.target, None, p.offsets, p.layers, p.activation, p.loss, 1.0, 0.1)
    ours, its = ((np.empty(1), np.empty((1, p.params))) for _ in range(2))
    kernels.mlp_feedback(*ours, p.w, p.x, np.concatenate([w2 @ w3 @ w4, w3 @ w4, w4]), *tail)
    kernels.mlp_loss_grad(*its, p.w, p.x, *tail)
    agree(ours[1], its[1], 1e-14)


@pytest.mark.parametrize("layers", [(7, 3), (4, 6, 2), (8, 33, 20, 15, 4)])
def test_the_last_layer_of_feedback_is_backpropagation(network, layers):
    p = network(2, layers, (700, 30), activation="softplus")
    tail = (p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 0.1)
    ours, its = ((np.empty(2), np.empty((2, p.params))) for _ in range(2))
    kernels.mlp_feedback(*ours, p.w, p.x, feedback_of(p), *tail)
    kernels.mlp_loss_grad(*its, p.w, p.x, *tail)
    last = (layers[-2] + 1) * layers[-1]
    np.testing.assert_array_equal(ours[1][:, -last:], its[1][:, -last:])
    np.testing.assert_array_equal(ours[0], its[0])


@given(**CASES, rows=st.sampled_from([0, 1, 3, 70]), others=st.sampled_from([None, 0, 1, 200]))
def test_the_tangent_kernel_is_its_twin(network, agree, seed, layers, activation, dtype, rows, others):
    p = network(seed, layers, (rows,), dtype, activation=activation)
    y = None if others is None else p.real(others, layers[0])
    shape = rows * p.outputs, (rows if others is None else others) * p.outputs
    out, twin = np.full(shape, 7, dtype), np.full(shape, 7.0)
    net = (p.layers, p.activation)
    kernels.mlp_tangent_kernel(out, p.w, p.x, y, *net)
    reference_lazy.mlp_tangent_kernel(twin, *wide((p.w, p.x, y)), *net)
    agree(out, twin)
    if y is None:
        np.testing.assert_array_equal(out, out.T)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layers", [(9, 40, 1), (5, 60, 50, 3), (70, 4)])
def test_threads_change_no_bit(network, layers, dtype):
    p = network(3, layers, (9000, 0, 500), dtype)
    feedback, y = feedback_of(p), p.real(150, layers[0])
    found = []
    for n_threads in (1, 2, 3):
        value, grad = np.empty(3), np.empty((3, p.params), dtype)
        net = (p.offsets, p.layers, p.activation)
        kernels.mlp_feedback(
            value, grad, p.w, p.x, feedback, p.target, p.weight, *net, p.loss, 1.0, 0.5, n_threads=n_threads
        )
        same, other = (np.empty((600 * p.outputs, n * p.outputs), dtype) for n in (600, 150))
        kernels.mlp_tangent_kernel(same, p.w[:1], p.x[:600], None, *net[1:], n_threads=n_threads)
        kernels.mlp_tangent_kernel(other, p.w[:1], p.x[:600], y, *net[1:], n_threads=n_threads)
        found.append((value, grad, same, other))
    for arrays in found[1:]:
        for mine, its in zip(found[0], arrays, strict=True):
            np.testing.assert_array_equal(mine, its)
