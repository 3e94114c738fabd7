"""Loss and gradient at shapes around the edges of vectors, tiles, chunks and both ways to sum a weight gradient."""

import ctypes
import mmap
import sys

import numpy as np
import pytest

from dnnext import kernels
from dnnext.kernels import reference

LAYERS = [(1, 1), (7, 8, 1), (8, 16, 16, 2), (16, 24, 3), (17, 40, 23, 1), (31, 33, 5), (64, 100, 10), (256, 17, 2),
          (257, 1), (300, 33, 3), (520, 2, 20, 30)]  # fmt: skip
ROWS = [(1,), (0, 2, 15), (16, 17), (47, 48, 49), (95, 97), (239, 241), (1000, 0, 3)]


def both(p, out=True, n_threads=1):
    """Value and gradient of the kernel."""
    value, grad = np.full(p.agents, 7.0), np.full((p.agents, p.params), 7, p.dtype)
    tail = (p.w, p.x, p.target, p.weight, p.offsets, p.layers, p.activation, p.loss, 0.9, 1 / (p.n + 1), n_threads)
    kernels.mlp_loss_grad(value, grad if out else None, *tail)
    return value, grad


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_edges(network, agree, layers, rows, dtype):
    k = len(layers) + len(rows)
    loss = sorted(kernels.LOSSES)[k % len(kernels.LOSSES)]
    activation = sorted(kernels.ACTIVATIONS)[(k + layers[0]) % len(kernels.ACTIVATIONS)]
    p = network(k, layers, rows, dtype, loss=loss, activation=activation)
    p.w *= 0.5
    value, grad = both(p)
    twin_value, twin_grad = np.empty(p.agents), np.empty((p.agents, p.params))
    wide = [a.astype(np.float64) for a in (p.w, p.x, p.target, p.weight)]
    tail = (p.offsets, p.layers, p.activation, p.loss, 0.9, 1 / (p.n + 1))
    reference.mlp_loss_grad(twin_value, twin_grad, *wide, *tail)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    agree(value, twin_value, tolerance)
    agree(grad, twin_grad, tolerance)
    np.testing.assert_array_equal(both(p, out=False)[0], value)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layers", [(64, 100, 10), (300, 33, 3), (8, 10, 1)], ids=str)
def test_no_bit_depends_on_threads(network, layers, dtype):
    for rows in ((5000,), (3000, 10, 2500), (700,) * 4):
        p = network(1, layers, rows, dtype)
        first = both(p)
        for n_threads in (2, 3):
            for mine, its in zip(first, both(p, n_threads=n_threads), strict=True):
                np.testing.assert_array_equal(mine, its)


def test_columns_that_pad_a_chunk_bring_nothing(network):
    """Infinite weights saturate tanh; samples that only fill a vector must not turn that into NaN."""
    p = network(2, (3, 5, 1), (11,))
    p.w[:, 0] = np.inf
    p.x[:] = np.abs(p.x) + 0.1
    value, grad = both(p)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(grad))


def test_nothing_beyond_the_last_row_is_read_into_the_result(network):
    """The rows are the end of a page of NaN: whole vectors at its edge must not let it in."""
    p = network(3, (19, 40, 2), (37,))
    ground = np.full(p.x.size + 64, np.nan)
    ground[: p.x.size] = p.x.ravel()
    want = both(p)[1]
    p.x = ground[: p.x.size].reshape(p.x.shape)
    np.testing.assert_array_equal(both(p)[1], want)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_row_of_weights_serves_all_agents(network, dtype):
    shared = network(4, (9, 20, 2), (5, 300, 40), dtype, shared_w=True)
    value, grad = both(shared)
    shared.w = np.repeat(shared.w, 3, axis=0)
    for mine, its in zip(both(shared), (value, grad), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux for a page that may not be read")
@pytest.mark.parametrize(("dtype", "layers"), [("f8", (3, 700, 1)), ("f4", (3, 700, 1)), ("f4", (7, 150, 1))], ids=str)
def test_nothing_is_read_beyond_the_rows(network, dtype, layers):
    """Few inputs and many units: no vector may be loaded across the end of x."""
    p = network(1, layers, (50,), np.dtype(dtype))
    n_bytes = -(-p.x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, n_bytes + mmap.PAGESIZE)
    start, libc = ctypes.addressof(ctypes.c_char.from_buffer(pages)), ctypes.CDLL(None)
    assert libc.mprotect(ctypes.c_void_p(start + n_bytes), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    x = np.frombuffer(pages, p.dtype, p.x.size, n_bytes - p.x.nbytes).reshape(p.x.shape)
    x[...] = p.x
    wanted = both(p)
    p.x = x
    for ours, twin in zip(both(p), wanted, strict=True):
        np.testing.assert_array_equal(ours, twin)
