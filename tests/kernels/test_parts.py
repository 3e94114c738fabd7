"""Rows by parts, matrices by tiles, blocks from factors of J: right, and the same on any number of threads."""

import numpy as np
import pytest

from dnnext import kernels
from dnnext.kernels import reference

DTYPES = [np.float64, np.float32]
THREADS = (1, 2, 3, 4)


def solved(b, diag, rhs, blocks, n_threads):
    out, status = np.empty_like(rhs), np.empty(len(rhs), np.int64)
    kernels.spd_solve(out, status, b.copy(), diag, rhs, blocks, n_threads)
    return out, status


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("agents", [1, 3])
def test_large_matrices_are_solved_in_tiles(dtype, agents):
    rng, blocks = np.random.default_rng(0), np.array([0, 1, 400, 430, 743])  # tiles of 128: 3 and a bit, 2 and a bit
    parts = []
    for size in np.diff(blocks):
        half = rng.standard_normal((agents, size, size))
        parts.append(half @ half.transpose(0, 2, 1) / size)
    b = np.concatenate([part.reshape(agents, -1) for part in parts], axis=1).astype(dtype)
    rhs = rng.standard_normal((agents, 743)).astype(dtype)
    diag = (1 + rng.random((agents, 743))).astype(dtype)
    results = [solved(b, diag, rhs, blocks, n_threads) for n_threads in THREADS]
    for out, status in results:
        np.testing.assert_array_equal(out, results[0][0])
        np.testing.assert_array_equal(status, 0)
    for part, lo, hi in zip(parts, blocks[:-1], blocks[1:], strict=True):
        matrix = part.astype(dtype) + np.eye(hi - lo) * diag[:, lo:hi, None]
        wanted = np.linalg.solve(matrix.astype(float), rhs[:, lo:hi, None].astype(float))[..., 0]
        np.testing.assert_allclose(results[0][0][:, lo:hi], wanted, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-5)


@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("place", [0, 200, 399])
def test_a_large_matrix_that_is_not_positive_definite_is_named(place, n_threads):
    blocks, b = np.array([0, 400, 401, 801]), np.zeros((3, 320001))
    b[:, :160000:401] = b[:, 160000] = b[:, 160001::401] = 1
    b[0, place * 401] = -1
    b[1, 160001 + place * 401] = np.nan
    out, status = solved(b, np.zeros((3, 801)), np.ones((3, 801)), blocks, n_threads)
    np.testing.assert_array_equal(status, [1, 3, 0])
    np.testing.assert_array_equal(out[0], np.repeat([0.0, 1.0], [400, 401]))
    np.testing.assert_array_equal(out[1], np.repeat([1.0, 0.0], [401, 400]))
    np.testing.assert_array_equal(out[2], 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [(6000,), (4500, 0, 30, 1500)])
def test_sums_by_parts_are_those_of_the_twins(network, agree, rows, dtype):
    p = network(0, (9, 20, 2), rows, dtype)
    root, tail = p.real(p.n, p.outputs), (p.offsets, p.layers, p.activation)
    tolerance = 1e-11 if dtype is np.float64 else 2e-4
    for blocks in (np.array([0, p.params]), np.array([0, 7, 40, 41, 100, p.params])):
        shape = (p.agents, int(np.sum(np.diff(blocks) ** 2)))
        calls = [
            ("mlp_gauss_newton", shape, (p.w, p.x, root, *tail, blocks)),
            ("mlp_gauss_newton_product", (p.agents, p.params), (p.w, p.x, root, p.v, *tail, blocks)),
        ]
        for name, size, arguments in calls:
            outs = [np.full(size, 7, dtype) for _ in THREADS]
            for out, n_threads in zip(outs, THREADS, strict=True):
                getattr(kernels, name)(out, *arguments, n_threads=n_threads)
                np.testing.assert_array_equal(out, outs[0])
            twin = np.empty(size)
            getattr(reference, name)(twin, *arguments)
            agree(outs[0], twin, tolerance)


@pytest.mark.parametrize("rows", [(6000,), (4500, 0, 30, 1500)])
def test_losses_by_parts_add_up(network, rows):
    p = network(0, (9, 20, 2), rows, np.float64)
    tail = (p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 1.0, 0.5)
    results = []
    for n_threads in THREADS:
        value, grad = np.empty(p.agents), np.empty((p.agents, p.params))
        kernels.mlp_loss_grad(value, grad, p.w, p.x, *tail, n_threads)
        results.append((value, grad))
        np.testing.assert_array_equal(value, results[0][0])
        np.testing.assert_array_equal(grad, results[0][1])
    alone = np.empty(p.agents)
    kernels.mlp_loss_grad(alone, None, p.w, p.x, *tail)
    np.testing.assert_array_equal(alone, results[0][0])
    for i in range(p.agents):
        own = slice(p.offsets[i], p.offsets[i + 1])
        total, by_hand = 0.0, np.zeros(p.params)
        for k in range(own.start, own.stop, 500):
            some = slice(k, min(k + 500, own.stop))
            value, grad = np.empty(1), np.empty((1, p.params))
            offsets = np.array([0, some.stop - some.start])
            weight = None if p.weight is None else p.weight[some]
            kernels.mlp_loss_grad(
                value, grad, p.w[i : i + 1], p.x[some], p.target[some], weight, offsets, *tail[3:]
            )  # fmt: skip
            total, by_hand = total + value[0], by_hand + grad[0]
        np.testing.assert_allclose(results[0][0][i], total, rtol=1e-12)
        np.testing.assert_allclose(results[0][1][i], by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [(700,), (400, 0, 30)])
def test_the_dual_of_few_agents_is_solved_by_all_threads(network, rows, dtype):
    p = network(0, (9, 40, 2), rows, dtype)
    root, tau, l2 = 0.1 * p.real(p.n, p.outputs), np.full(p.agents, 0.5, dtype), np.full(2, 0.25, dtype)
    results = []
    for blocks in (np.array([0, p.params]), np.array([0, 100, 131, p.params])):
        for n_threads in THREADS:
            out, status = np.empty((p.agents, p.params), dtype), np.full(p.agents, 7)
            tail = (p.offsets, p.layers, p.activation, blocks, n_threads)
            kernels.mlp_dual_solve(out, status, p.w, p.x, root, None, tau, l2, p.v, *tail)
            assert not status.any()
            results.append(out)
            np.testing.assert_array_equal(out, results[-1 if n_threads == 1 else -n_threads])
        back = np.empty((p.agents, p.params), dtype)
        kernels.mlp_gauss_newton_product(back, p.w, p.x, root, results[-1], *tail)
        weights = np.concatenate([np.full(360, 0.25), np.zeros(40), np.full(80, 0.25), np.zeros(2)])
        back += (0.5 + weights).astype(dtype) * results[-1]
        np.testing.assert_allclose(back, p.v, rtol=0, atol=1e-10 if dtype is np.float64 else 2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [(1, 60, 0, 90, 400), (75, 74, 3)])
@pytest.mark.parametrize("layers", [(7, 63, 5), (300, 8, 1), (4, 3)], ids=["wide", "many inputs", "small"])
def test_products_of_agents_with_few_rows_and_with_many(network, agree, layers, rows, dtype):
    """Both ways of making a product, side by side in one call, and each agent as alone."""
    p = network(0, layers, rows, dtype)
    root, blocks, out, twin = p.real(p.n, p.outputs), np.array([0, p.params]), np.empty_like(p.v), np.empty(p.v.shape)
    tail = (p.layers, p.activation, blocks)
    kernels.mlp_gauss_newton_product(out, p.w, p.x, root, p.v, p.offsets, *tail)
    reference.mlp_gauss_newton_product(twin, *(a.astype(float) for a in (p.w, p.x, root, p.v)), p.offsets, *tail)
    for i in range(p.agents):
        agree(out[i], twin[i])
        own, alone = slice(*p.offsets[i : i + 2]), np.empty_like(out[:1])
        call = (p.w[i : i + 1], p.x[own], root[own], p.v[i : i + 1], np.array([0, rows[i]]))
        kernels.mlp_gauss_newton_product(alone, *call, *tail, 3)
        np.testing.assert_array_equal(alone[0], out[i])
