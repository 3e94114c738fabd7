"""The dual solve against its twin, against the primal one, over blocks, threads and broken input."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_dual

ROWS = st.lists(st.sampled_from([0, 1, 2, 7, 150]), min_size=1, max_size=4)


def dual_case(network, layers, rows, dtype=np.float64, columns=None, seed=0, activation="tanh"):
    """A network with right-hand sides, damping and penalties, and the arguments of the kernel after its outputs."""
    p = network(seed, layers, rows, dtype, activation=activation)
    root = p.u if columns is None else p.real(p.n, p.outputs, columns)
    gram = np.empty(int(np.sum(np.square(np.diff(p.offsets)))), dtype)
    kernels.rows_gram(gram, p.x, p.offsets)
    tau, l2 = (0.5 + p.rng.random(p.agents)).astype(dtype), p.rng.random(len(layers) - 1).astype(dtype)
    return p, (p.w, p.x, root, gram, tau, l2, p.v, p.offsets, p.layers, p.activation)


def solved(p, arguments, blocks, n_threads=1):
    out, status = np.full((p.agents, p.params), 7, p.dtype), np.full(p.agents, 7)
    kernels.mlp_dual_solve(out, status, *arguments, np.array(blocks), n_threads)
    return out, status


@given(
    seed=st.integers(0, 2**32 - 1), layers=st.lists(st.integers(1, 12), min_size=2, max_size=5), rows=ROWS,
    dtype=st.sampled_from([np.float64, np.float32]), columns=st.sampled_from([None, 0, 1, 3]),
    activation=st.sampled_from(sorted(kernels.ACTIVATIONS)), data=st.data(),
)  # fmt: skip
def test_dual_solve_is_its_twin(network, agree, seed, layers, rows, dtype, columns, activation, data):
    assume(activation != "square" or len(layers) < 4)  # squares of squares: the condition exceeds what both can solve
    p, arguments = dual_case(network, layers, rows, dtype, columns, seed, activation)
    blocks = [0, *sorted(data.draw(st.lists(st.integers(0, p.params), max_size=4))), p.params]
    out, status = solved(p, arguments, blocks)
    wide = [a.astype(float) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]
    twin, twin_status = np.empty(out.shape), np.empty(p.agents, np.int64)
    reference_dual.mlp_dual_solve(twin, twin_status, *wide, np.array(blocks))
    agree(out, twin, None if dtype is np.float64 else 3e-5)  # float32 loses what (I + K D^-1 K') is worse than 1
    np.testing.assert_array_equal(status, twin_status)
    inplace = p.v.copy()
    kernels.mlp_dual_solve(inplace, status, *arguments[:6], inplace, *arguments[7:], np.array(blocks))
    np.testing.assert_array_equal(inplace, out)


@given(seed=st.integers(0, 2**32 - 1), rows=ROWS, inputs=st.integers(1, 30))
def test_rows_gram_is_its_twin(network, agree, seed, rows, inputs):
    p = network(seed, (inputs, 1), rows)
    ours = np.full(int(np.sum(np.square(np.diff(p.offsets)))), 7.0)
    twin = np.empty_like(ours)
    kernels.rows_gram(ours, p.x, p.offsets)
    reference_dual.rows_gram(twin, p.x, p.offsets)
    agree(ours, twin)


def primal(p, arguments, blocks):
    """The same systems with B formed and factored."""
    w, x, root, _, tau, l2, rhs, offsets, layers, activation = arguments
    b = np.empty((p.agents, int(np.sum(np.diff(blocks) ** 2))), p.dtype)
    kernels.mlp_gauss_newton(b, w, x, root, offsets, layers, activation, blocks)
    diag = tau[:, None] + reference_dual._by_layer(l2, layers).astype(p.dtype)
    out, status = np.empty_like(rhs), np.empty(p.agents, np.int64)
    kernels.spd_solve(out, status, b, np.ascontiguousarray(diag), rhs, blocks)
    assert not status.any()
    return out


@pytest.mark.parametrize("n_blocks", [1, 2, 7])
@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("layers", [(4, 3), (9, 13, 2), (5, 8, 7, 3)])
def test_dual_and_primal_solve_the_same_systems(network, agree, layers, columns, n_blocks):
    p, arguments = dual_case(network, layers, (40, 0, 3, 1), columns=columns)
    blocks = np.linspace(0, p.params, n_blocks + 1).astype(np.int64)
    agree(solved(p, arguments, blocks)[0], primal(p, arguments, blocks), 1e-11)


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1, 1e4])
def test_damping_of_any_size(network, agree, size):
    """B is up to 100 long here: with damping of 1e-8 the systems lose 1e10 roundings, the primal most of them.

    In extended precision the dual is seen to err by 8e-11 at 1e-8 and by 8e-15 at 1e-4, the primal by 2e-7 and 1e-11.
    """
    p, arguments = dual_case(network, (9, 13, 2), (40, 3))
    arguments = (*arguments[:4], size * arguments[4], size * arguments[5], *arguments[6:])
    whole = np.array([0, p.params])
    out, _ = solved(p, arguments, whole)
    agree(out, primal(p, arguments, whole), max(1e-12, 1e-14 / size))
    twin = np.empty_like(out)
    reference_dual.mlp_dual_solve(twin, np.empty(p.agents, np.int64), *arguments, whole)
    agree(out, twin, max(1e-12, 1e-17 / size))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [(150,) * 5, (400,), (300, 0, 40), (0,)])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_no_bit_depends_on_threads_or_neighbours(network, rows, n_blocks, dtype):
    p, arguments = dual_case(network, (9, 30, 2), rows, dtype)
    blocks = np.linspace(0, p.params, n_blocks + 1).astype(np.int64)
    first, status = solved(p, arguments, blocks)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(solved(p, arguments, blocks, n_threads)[0], first)
    assert not status.any()
    w, x, root, gram, tau, l2, rhs, offsets, *net = arguments
    start = 0
    for i, n in enumerate(rows):
        cut, own = slice(offsets[i], offsets[i + 1]), slice(i, i + 1)
        part = (w[own], x[cut], root[cut], gram[start : start + n * n], tau[own], l2, rhs[own], np.array([0, n]), *net)
        alone = np.empty((1, p.params), dtype)
        kernels.mlp_dual_solve(alone, np.empty(1, np.int64), *part, blocks)
        np.testing.assert_array_equal(alone[0], first[i])
        start += n * n


def test_gram_may_be_left_out(network, agree):
    p, arguments = dual_case(network, (9, 13, 2), (200, 3))
    without = (*arguments[:3], None, *arguments[4:])
    agree(solved(p, without, [0, p.params])[0], solved(p, arguments, [0, p.params])[0])


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -1.0])
def test_a_system_without_a_solution_says_which_block(network, bad):
    p, arguments = dual_case(network, (3, 4, 2), (5, 0, 2))
    tau = arguments[4].copy()
    tau[0] = bad
    out, status = solved(p, (*arguments[:4], tau, *arguments[5:]), [0, 10, p.params])
    good, _ = solved(p, arguments, [0, 10, p.params])
    if bad == np.inf:
        assert status[0] == 0
        np.testing.assert_array_equal(out[0], 0)
    else:
        assert status[0] > 0
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(status[1:], 0)
    np.testing.assert_array_equal(out[1:], good[1:])
