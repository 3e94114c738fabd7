"""Every kernel against its NumPy twin: both precisions, shapes by hypothesis, inputs read-only."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference

DTYPES = st.sampled_from([np.float64, np.float32])
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 19)


@st.composite
def networks(draw, losses=("squared_error",)):
    """Arguments of the fixture `network`: 0 to 3 hidden layers, empty agents, single rows, several chunks."""
    return {
        "seed": draw(SEEDS),
        "layers": draw(st.lists(SIZES, min_size=2, max_size=5)),
        "rows": draw(st.lists(st.sampled_from([0, 1, 2, 7, 600]), min_size=1, max_size=4)),
        "dtype": draw(DTYPES),
        "shared_w": draw(st.booleans()),
        "loss": draw(st.sampled_from(losses)),
        "activation": draw(st.sampled_from(sorted(kernels.ACTIVATIONS))),
    }


@st.composite
def cuts(draw, end):
    """Boundaries of 0 : end; blocks may be empty, single or everything."""
    if draw(st.booleans()):
        return np.array([0, end]) if draw(st.booleans()) else np.arange(end + 1)
    return np.array([0, *sorted(draw(st.lists(st.integers(0, end), max_size=5))), end])


def groups_within(rng, blocks):
    """Disjoint increasing ranges that cross no boundary."""
    found = []
    for start, stop in pairwise(blocks):
        while start < stop:
            width = int(rng.integers(1, 6))
            if rng.random() < 0.5 and start + width <= stop:
                found.append((start, start + width))
            start += width
    return np.array(found, np.int64).reshape(-1, 2)


def positive_definite(rng, agents, blocks):
    """Packed block matrices."""
    b = np.empty((agents, np.sum(np.diff(blocks) ** 2)))
    for row in b:
        parts = [rng.standard_normal((size + 3, size)) for size in np.diff(blocks)]
        row[:] = np.concatenate([(half.T @ half).ravel() for half in parts])
    return b


def held_to_twin(agree, name, shapes, arguments, dtype, tolerance=None):
    """Run kernel and twin (in float64 on the same numbers) into fresh outputs, compare, return the kernel's."""
    given_ = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            argument = argument.astype(dtype if argument.dtype.kind == "f" else argument.dtype)
            argument.flags.writeable = False
        given_.append(argument)
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in given_]
    ours = [np.full(shape, 7, kind or dtype) for shape, kind in shapes]
    twin = [np.full(shape, 7, kind or np.float64) for shape, kind in shapes]
    getattr(kernels, name)(*ours, *given_)
    getattr(reference, name)(*twin, *wide)
    for mine, its in zip(ours, twin, strict=True):
        agree(mine, its, tolerance if tolerance else {8: 1e-12, 4: 1e-5}[np.dtype(dtype).itemsize])
    return ours


@given(case=networks(tuple(kernels.LOSSES)), param=st.floats(0.1, 3), weighted=st.booleans(), value_only=st.booleans())
def test_mlp_loss_grad(network, agree, case, param, weighted, value_only):
    p = network(**case)
    arguments = (
        p.w, p.x, p.target, p.weight if weighted else None, p.offsets, p.layers, p.activation, p.loss, param,
        1 / (p.n + 1),
    )  # fmt: skip
    shapes = [((p.agents,), np.float64), ((p.agents, p.params), None)]
    value, _ = held_to_twin(agree, "mlp_loss_grad", shapes, arguments, p.dtype)
    if value_only:
        alone = np.empty(p.agents)
        kernels.mlp_loss_grad(alone, None, *arguments)
        np.testing.assert_array_equal(alone, value)


@given(case=networks(tuple(kernels.LOSSES)), param=st.floats(0.1, 3))
def test_loss_value_grad(network, agree, case, param):
    p = network(**case)
    shapes = [((p.n,), np.float64), ((p.n, p.outputs), None)]
    held_to_twin(agree, "loss_value_grad", shapes, (3 * p.u, p.target, p.loss, param), p.dtype)


@given(case=networks())
def test_mlp_forward_jv_jtu(network, agree, case):
    p = network(**case)
    net = (p.offsets, p.layers, p.activation)
    held_to_twin(agree, "mlp_forward", [((p.n, p.outputs), None)], (p.w, p.x, *net), p.dtype)
    held_to_twin(agree, "mlp_jv", [((p.n, p.outputs), None)], (p.w, p.x, p.v, *net), p.dtype)
    held_to_twin(agree, "mlp_jtu", [((p.agents, p.params), None)], (p.w, p.x, p.u, *net), p.dtype)


@given(case=networks(), columns=st.sampled_from([None, 0, 1, 3]))
def test_mlp_jacobian(network, agree, case, columns):
    p = network(**case)
    root = p.u if columns is None else p.real(p.n, p.outputs, columns)
    shapes = [((p.n * (p.outputs if columns is None else columns), p.params), None)]
    held_to_twin(agree, "mlp_jacobian", shapes, (p.w[:1], p.x, root, p.layers, p.activation), p.dtype)


@given(case=networks(), columns=st.sampled_from([None, 0, 1, 3]), data=st.data())
def test_mlp_gauss_newton_and_product(network, agree, case, columns, data):
    p = network(**case)
    root = p.u if columns is None else p.real(p.n, p.outputs, columns)
    blocks = data.draw(cuts(p.params))
    shape = (p.agents, int(np.sum(np.diff(blocks) ** 2)))
    tail = (p.offsets, p.layers, p.activation, blocks)
    (b,) = held_to_twin(agree, "mlp_gauss_newton", [(shape, None)], (p.w, p.x, root, *tail), p.dtype)
    start = 0
    for size in np.diff(blocks):
        block = b[:, start : start + size**2].reshape(p.agents, size, size)
        np.testing.assert_array_equal(block, block.transpose(0, 2, 1))
        start += size**2
    shapes = [((p.agents, p.params), None)]
    held_to_twin(agree, "mlp_gauss_newton_product", shapes, (p.w, p.x, root, p.v, *tail), p.dtype)


@given(seed=SEEDS, agents=st.integers(0, 4), params=st.integers(1, 70), dtype=DTYPES, data=st.data())
def test_block_product_and_spd_solve(agree, seed, agents, params, dtype, data):
    rng, blocks = np.random.default_rng(seed), data.draw(cuts(params))
    b = positive_definite(rng, agents, blocks).astype(dtype)
    diag = (1 + rng.random((agents, params))).astype(dtype)
    rhs = rng.standard_normal((agents, params)).astype(dtype)
    shapes = [((agents, params), None)]
    held_to_twin(agree, "block_product", shapes, (b, rhs, blocks), dtype)
    out, status = rhs.copy(), np.full(agents, 7)
    kernels.spd_solve(out, status, b.copy(), diag, out, blocks)  # out may be rhs
    twin = np.empty((agents, params))
    reference.spd_solve(twin, np.empty(agents, np.int64), b.astype(float), diag, rhs, blocks)
    agree(out, twin, 1e-11 if dtype is np.float64 else 2e-4)
    assert not status.any()


@given(seed=SEEDS, agents=st.integers(0, 4), params=st.integers(1, 90), dtype=DTYPES, grouped=st.booleans())
def test_penalty_prox(agree, seed, agents, params, dtype, grouped):
    rng = np.random.default_rng(seed)
    groups = groups_within(rng, [0, params]) if grouped else np.empty((0, 2), np.int64)
    l1, l2, strength = 0.5 * rng.random(params), np.full(params, 0.3), rng.random(len(groups))
    v, s = rng.standard_normal((agents, params)), 2 * rng.random(agents)
    arguments = (v, s, l1, l2, groups, strength)
    (out,) = held_to_twin(agree, "penalty_prox", [((agents, params), None)], arguments, dtype)
    inplace = v.astype(dtype)
    kernels.penalty_prox(inplace, inplace, *(a.astype(dtype) for a in (s, l1, l2)), groups, strength.astype(dtype))
    np.testing.assert_array_equal(inplace, out)


@given(seed=SEEDS, agents=st.integers(1, 3), params=st.integers(1, 40), dtype=DTYPES, data=st.data())
def test_descent_solve(agree, seed, agents, params, dtype, data):
    rng, blocks = np.random.default_rng(seed), data.draw(cuts(params))
    groups = groups_within(rng, blocks)
    b = positive_definite(rng, agents, blocks)
    w, g, start = (rng.standard_normal((agents, params)).astype(dtype) for _ in range(3))
    terms = (b, 0.5 + rng.random(agents), w, g, 0.5 * rng.random(params), np.full(params, 0.3))
    narrow, strength = tuple(a.astype(dtype) for a in terms), rng.random(len(groups)).astype(dtype)
    v, n_done = start.copy(), np.full(agents, 7)
    kernels.descent_solve(v, n_done, *narrow, groups, strength, blocks, 4, 0.0)
    twin, twin_done = start.astype(float), np.full(agents, 7)
    wide = tuple(a.astype(float) for a in narrow)
    reference.descent_solve(twin, twin_done, *wide, groups, strength.astype(float), blocks, 4, 0.0)
    agree(v, twin, 1e-11 if dtype is np.float64 else 1e-4)
    assert np.all(n_done <= 4)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@given(
    seed=SEEDS, n_local=st.integers(0, 6), ghosts=st.integers(0, 3), columns=st.integers(0, 150), dtype=DTYPES,
    remember=st.sampled_from(["nothing", "previous", "in place"]),
)  # fmt: skip
def test_csr_mix(agree, index, seed, n_local, ghosts, columns, dtype, remember):
    rng = np.random.default_rng(seed)
    matrix = sp.random_array((n_local, n_local + ghosts), density=0.5, format="csr", rng=rng)
    csr = (matrix.indptr.astype(index), matrix.indices.astype(index), matrix.data)
    rows = rng.standard_normal((n_local + ghosts, columns))
    previous = None if remember == "nothing" else rng.standard_normal((n_local, columns)).astype(dtype)
    arguments = (rows, *csr, previous, 1.5, -0.25, -0.5)
    (out,) = held_to_twin(agree, "csr_mix", [((n_local, columns), None)], arguments, dtype)
    if remember == "in place":
        kernels.csr_mix(previous, rows.astype(dtype), *csr[:2], csr[2].astype(dtype), previous, 1.5, -0.25, -0.5)
        np.testing.assert_array_equal(previous, out)


@pytest.mark.parametrize("kernel", [kernels.csr_mix, reference.csr_mix])
def test_terms_of_weight_zero_are_left_out_of_mixing(kernel):
    out, none = np.empty((1, 20)), np.full((1, 20), np.nan)
    csr = np.array([0, 1]), np.array([1]), np.array([0.5])
    kernel(out, np.concatenate([none, np.ones((1, 20))]), *csr, none, 2.0, 0.0, 0.0)
    np.testing.assert_array_equal(out, 1)
