"""Mixing in strips, and what an iteration does to rows: against the twins, bit by bit over threads and ways to call."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_steps as reference

DTYPES = st.sampled_from([np.float64, np.float32])
SEEDS = st.integers(0, 2**32 - 1)
CHEBYSHEV = np.array([[1.6, -0.4, 0.0], [1.9, -0.5, -0.3], [1.8, -0.4, -0.2], [2.0, -0.5, -0.25]])


def ring(agents, rng):
    """Rows of a few neighbours each, in ascending order, as int64 CSR."""
    matrix = sp.random_array((agents, agents), density=min(1.0, 4 / agents), format="csr", rng=rng)
    matrix = (matrix + sp.eye_array(agents)).tocsr()
    matrix.sort_indices()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data


def narrowed(dtype, *arrays):
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


@given(seed=SEEDS, agents=st.integers(1, 9), columns=st.integers(1, 700), dtype=DTYPES, n_rounds=st.integers(0, 4))
def test_network_mix(agree, seed, agents, columns, dtype, n_rounds):
    rng = np.random.default_rng(seed)
    rows, *csr = narrowed(dtype, rng.standard_normal((agents, columns)), *ring(agents, rng))
    rounds = CHEBYSHEV[:n_rounds]
    out, twin = np.empty_like(rows), np.empty((agents, columns))
    sums, twins = np.empty((2, agents)), np.empty((2, agents))
    kernels.network_mix(out, *sums, rows, *csr, rounds)
    reference.network_mix(twin, *twins, rows.astype(float), *csr[:2], csr[2].astype(float), rounds)
    agree(out, twin)
    agree(sums, twins, 1e-12 if dtype is np.float64 else 1e-5)
    alone = np.empty_like(rows)
    kernels.network_mix(alone, None, None, rows, *csr, rounds)
    np.testing.assert_array_equal(alone, out)


def round_by_round(rows, csr, rounds):
    """The same with csr_mix, as ranks do it: (v_K, v_1)."""
    before, now, first = None, rows, rows
    for k, (scale, shift, memory) in enumerate(rounds):
        out = np.empty_like(rows)
        kernels.csr_mix(out, now, *csr, before if memory else None, scale, shift, memory)
        before, now = now, out
        first = out if k == 0 else first
    return now, first


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("agents", [2, 10, 130, 300])
def test_strips_have_the_bits_of_single_rounds(agents, dtype):
    rng = np.random.default_rng(0)
    for columns in (1, 7, 31, 33, 64, 65, 100, 511, 1025, 1300):
        rows, *csr = narrowed(dtype, rng.standard_normal((agents, columns)), *ring(agents, rng))
        rows[0] *= np.array(1e-30, dtype)
        rows[1, ::3] = -0.0
        for n_rounds in (1, 2, 4):
            out, sums, changes = np.empty_like(rows), np.empty((2, agents)), np.empty((2, agents))
            kernels.network_mix(out, *sums, rows, *csr, CHEBYSHEV[:n_rounds])
            wanted, first = round_by_round(rows, csr, CHEBYSHEV[:n_rounds])
            np.testing.assert_array_equal(out.view(f"u{dtype().itemsize}"), wanted.view(f"u{dtype().itemsize}"))
            kernels.row_change(*changes, rows, first, 1 / CHEBYSHEV[0, 0])
            np.testing.assert_array_equal(sums, changes)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_single_round_of_much_has_the_same_bits(dtype):
    """It does not go through strips: one thread takes bands of all columns, several take panels."""
    rng = np.random.default_rng(0)
    rows, *csr = narrowed(dtype, rng.standard_normal((300, 3601)), *ring(300, rng))
    out, sums, changes = np.empty_like(rows), np.empty((2, 300)), np.empty((2, 300))
    wanted, _ = round_by_round(rows, csr, CHEBYSHEV[:1])
    kernels.row_change(*changes, rows, wanted, 1 / CHEBYSHEV[0, 0])
    for n_threads in (1, 3):
        kernels.network_mix(out, *sums, rows, *csr, CHEBYSHEV[:1], n_threads)
        np.testing.assert_array_equal(out, wanted)
        np.testing.assert_array_equal(sums, changes)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("agents", "columns"), [(2, 16), (9, 1040), (40, 4112)])
def test_mixing_is_the_same_wherever_rows_stand(agents, columns, dtype):
    """Columns before the first aligned one are mixed on their own, in every band and every thread's panel."""
    rng = np.random.default_rng(0)
    rows, *csr = narrowed(dtype, rng.standard_normal((agents, columns)), *ring(agents, rng))
    memory, results = np.empty(rows.size + 32, dtype), []
    for start in (0, 1, 3, 8, 15):
        placed = memory[start : start + rows.size].reshape(rows.shape)
        placed[...] = rows
        for n_threads in (1, 3):
            out, once, sums = np.empty_like(rows), np.empty_like(rows), np.empty((2, agents))
            kernels.csr_mix(out, placed, *csr, rows, *CHEBYSHEV[1], n_threads)
            kernels.network_mix(once, *sums, placed, *csr, CHEBYSHEV[:1], n_threads)
            results.append((out, once, sums))
    for other in results[1:]:
        for mine, its in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_number_that_is_none_stays_with_its_neighbours(dtype):
    """No zero weight multiplies it: only agents that hear it get it, round by round."""
    indptr, indices, data = (
        np.array([0, 2, 5, 8, 10]),
        np.array([0, 1, 0, 1, 2, 1, 2, 3, 2, 3]),
        np.full(10, 0.4, dtype),
    )
    rows = np.ones((4, 70), dtype)
    rows[0, 5] = np.nan
    out = np.empty_like(rows)
    kernels.network_mix(out, None, None, rows, indptr, indices, data, np.array([[1.0, 0, 0]]))
    np.testing.assert_array_equal(np.isnan(out[:, 5]), [True, True, False, False])
    assert np.isfinite(np.delete(out, 5, axis=1)).all()


@given(seed=SEEDS, agents=st.integers(0, 5), columns=st.integers(1, 1200), dtype=DTYPES)
def test_row_change(agree, seed, agents, columns, dtype):
    before, after = np.random.default_rng(seed).standard_normal((2, agents, columns)).astype(dtype)
    before[:1] = 0
    sums, twins = np.empty((2, agents)), np.empty((2, agents))
    kernels.row_change(*sums, before, after, 0.7)
    reference.row_change(*twins, before.astype(float), after.astype(float), 0.7)
    agree(sums, twins, 1e-12 if dtype is np.float64 else 1e-5)
    if agents > 1:
        after[1, 0] = np.nan
        kernels.row_change(*sums, before, after, 0.7)
        assert np.isinf(sums[0, 1])
        assert sums[0, 0] == 0


@given(seed=SEEDS, n_local=st.integers(0, 6), ghosts=st.integers(0, 3), width=st.integers(0, 3), dtype=DTYPES)
def test_neighbour_max(seed, n_local, ghosts, width, dtype):
    rng = np.random.default_rng(seed)
    matrix = sp.random_array((n_local, n_local + ghosts), density=0.4, format="csr", rng=rng)
    scalars = rng.standard_normal((n_local + ghosts, width)).astype(dtype)
    scalars[rng.random(scalars.shape) < 0.1] = np.nan
    received, twin = np.empty((n_local, width), dtype), np.empty((n_local, width), dtype)
    csr = matrix.indptr, matrix.indices, matrix.data.astype(dtype)
    kernels.neighbour_max(received, scalars, *csr)
    reference.neighbour_max(twin, scalars, *csr)
    np.testing.assert_array_equal(received, twin)


def penalty(rng, params, grouped, dtype):
    starts = np.arange(0, params - 4, 7)
    groups = np.stack([starts, starts + 5], axis=1) if grouped else np.empty((0, 2), np.int64)
    terms = 0.5 * rng.random(params), np.full(params, 0.3), groups, rng.random(len(groups))
    return narrowed(dtype, *terms)


@given(seed=SEEDS, agents=st.integers(0, 4), params=st.integers(1, 90), dtype=DTYPES, grouped=st.booleans())
def test_proximal_step(agree, seed, agents, params, dtype, grouped):
    rng = np.random.default_rng(seed)
    w, y = rng.standard_normal((2, agents, params)).astype(dtype)
    tau, r = 0.5 + rng.random(agents), penalty(rng, params, grouped, dtype)
    z, w_hat, twin_z, twin = np.empty_like(w), np.empty_like(w), *np.empty((2, agents, params))
    kernels.proximal_step(z, w_hat, w, y, tau, 0.7, 3.0, *r)
    wide = [a.astype(float) if a.dtype.kind == "f" else a for a in r]
    reference.proximal_step(twin_z, twin, w.astype(float), y.astype(float), tau, 0.7, 3.0, *wide)
    agree(w_hat, twin)
    agree(z, twin_z)
    np.testing.assert_array_equal(z, w + dtype(0.7) * (w_hat - w))  # every operation rounded, as NumPy does it
    alone = np.empty_like(w)
    kernels.proximal_step(None, alone, w, y, tau, 0.7, 3.0, *r)
    np.testing.assert_array_equal(alone, w_hat)


@given(seed=SEEDS, agents=st.integers(0, 4), params=st.integers(1, 90), dtype=DTYPES, modelled=st.booleans())
def test_tracker_update_and_secant_rule(agree, seed, agents, params, dtype, modelled):
    rng = np.random.default_rng(seed)
    w, w_old, y_old, grad, grad_old, model = rng.standard_normal((6, agents, params)).astype(dtype)
    w[:1] = w_old[:1]  # an agent that did not move
    y, twin_y = y_old.copy(), y_old.copy()
    squares, twin_squares = np.empty(agents), np.empty(agents)
    kernels.tracker_update(y, squares, grad, grad_old, w)
    reference.tracker_update(twin_y, twin_squares, grad, grad_old, w)
    np.testing.assert_array_equal(y, twin_y)
    agree(squares, twin_squares)
    tau, beta, received = 0.5 + rng.random((3, agents))
    mine, its = (tau.copy(), beta.copy()), (tau.copy(), beta.copy())
    rows, rule = (w, w_old, y, y_old, model if modelled else None), (3.0, 2.0, 1.2, 0.1, 20.0)
    kernels.secant_rule(*mine, received, *rows, *rule)
    reference.secant_rule(*its, received, *rows, *rule)
    agree(np.array(mine), np.array(its))
    np.testing.assert_array_equal(np.array(mine)[:, :1], np.array([tau, beta])[:, :1])


def test_the_rule_passes_on_what_is_no_number():
    one, two = np.ones((1, 3)), np.full((1, 3), 2.0)
    for where in range(3):
        tau, beta, received = np.ones((3, 1))
        y = two.copy()
        (tau, beta, y[0])[where][0] = np.nan
        kernels.secant_rule(tau, beta, received, two, one, y, one, None, 1.0, 3.0, 1.2, 0.0, 9.0)
        assert np.isnan(tau[0])


def iteration(network, rng, dtype, agents, params_of, grouped, rows=7):
    """(sizes and rows, state before, arguments of the parts: step, agents, penalty, csr, rounds, problem)."""
    p = network(3, (5, params_of, 2), (rows,) * (agents - 1) + (0,), dtype)
    old = rng.standard_normal((3, agents, p.params)).astype(dtype)
    indptr, indices, data = ring(agents, rng)
    data /= np.repeat(np.add.reduceat(np.abs(data), indptr[:-1]), np.diff(indptr))  # else w grows till tanh is +-1
    csr = narrowed(dtype, indptr, indices, data)
    r = penalty(rng, p.params, grouped, dtype)
    rest = (
        0.8, float(agents), *r, *csr, CHEBYSHEV[:3], p.x, p.target, None, p.offsets, p.layers, p.activation, p.loss,
        1.0, 1 / p.n,
    )  # fmt: skip
    return p, old, rest


def gathered(rows, sums, state, old, rest, rule):
    """The four arguments of next_step."""
    step, agents, *others = rest
    penalty, csr, rounds, problem = others[:4], others[4:7], others[7], others[8:]
    return (
        kernels.StepState(*rows, *sums, *state, *old),
        kernels.StepProblem(*problem, *penalty),
        kernels.StepMixing(*csr, rounds),
        kernels.StepRecipe(step, agents, *rule),
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("growth", [0.0, 3.0])
def test_next_step_is_its_parts(network, agree, dtype, grouped, growth):
    rng = np.random.default_rng(0)
    p, (w_old, y_old, grad_old), rest = iteration(network, rng, dtype, 6, 700, grouped)
    tau, beta = 0.5 + rng.random((2, 6))
    results = []
    for threads in (1, 3):
        rows, sums = np.full((5, 6, p.params), 7, dtype), np.full((5, 6), 7.0)
        state = tau.copy(), beta.copy()
        before = w_old, y_old, grad_old
        kernels.next_step(*gathered(rows, sums, state, before, rest, (growth, 1.2, 0.1, 50.0)), threads)
        results.append([*rows, *sums, *state])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    w, y, w_hat, z, grad, value, squares, disagreement, size, received, tau_new, beta_new = results[0]
    csr, loss = rest[6:9], (*rest[10:16], *rest[16:])
    mine = np.empty((5, 6, p.params), dtype)
    sums = np.empty((4, 6))
    kernels.proximal_step(mine[0], mine[1], w_old, y_old, tau, *rest[:6])
    kernels.network_mix(mine[2], sums[0], sums[1], mine[0], *csr, rest[9])
    kernels.network_mix(mine[3], None, None, y_old, *csr, rest[9])
    loud = np.empty((6, 1), dtype)
    kernels.neighbour_max(loud, beta.astype(dtype)[:, None], *csr)
    kernels.mlp_loss_grad(sums[2], mine[4], mine[2], *loss)
    kernels.tracker_update(mine[3], sums[3], mine[4], grad_old, mine[2])
    after = tau.copy(), beta.copy()
    if growth:
        rule = (float(6), growth, 1.2, 0.1, 50.0)
        kernels.secant_rule(*after, loud[:, 0].astype(float), mine[2], w_old, mine[3], y_old, None, *rule)
    for part, whole in zip(mine, (z, w_hat, w, y, grad), strict=True):
        np.testing.assert_array_equal(part, whole)
    for part, whole in zip((*sums, *after), (disagreement, size, value, squares, tau_new, beta_new), strict=True):
        np.testing.assert_array_equal(part, whole)
    np.testing.assert_array_equal(received, loud[:, 0])
    wide = [a.astype(float) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in rest]
    twins, twin_sums, its = np.empty((5, 6, p.params)), np.empty((5, 6)), (tau.copy(), beta.copy())
    old = [a.astype(float) for a in (w_old, y_old, grad_old)]
    reference.next_step(*gathered(twins, twin_sums, its, old, wide, (growth, 1.2, 0.1, 50.0)))
    for part, twin in zip(results[0], [*twins, *twin_sums, *its], strict=True):
        agree(part, twin, 1e-11 if dtype is np.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("group", [1, 4, 6])
def test_next_step_by_cholesky(network, agree, dtype, group):
    """In groups of agents, with threads, beside the twin; and a failure that changes nothing else."""
    rng = np.random.default_rng(0)
    p, (w_old, y_old, grad_old), rest = iteration(network, rng, dtype, 6, 9, False)
    root, tau, beta = (0.1 + rng.random((p.n, 2))).astype(dtype), 5 + rng.random(6), rng.random(6)

    def step(kernel, old, rest, root, threads, tau):
        kind = root.dtype
        rows, sums, status = np.full((5, 6, p.params), 7, kind), np.full((5, 6), 7.0), np.full(6, 7)
        state = tau.copy(), beta.copy()
        kernel(*gathered(rows, sums, state, old, rest, (2.0, 2.0, 0.1, 50.0, root, status, group)), threads)
        return [*rows, *sums, *state, status]

    old = w_old, y_old, grad_old
    mine = step(kernels.next_step, old, rest, root, 1, tau)
    for part, same in zip(mine, step(kernels.next_step, old, rest, root, 3, tau), strict=True):
        np.testing.assert_array_equal(part, same)
    assert not mine[-1].any()
    wide = [a.astype(float) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in rest]
    twin = step(reference.next_step, [a.astype(float) for a in old], wide, root.astype(float), 1, tau)
    for part, its in zip(mine, twin, strict=True):
        agree(part, its, 1e-9 if dtype is np.float64 else 1e-4)
    tau[2] = -100.0
    for kernel in (kernels.next_step, reference.next_step):
        failed = step(kernel, old, rest, root, 1, tau)
        np.testing.assert_array_equal(failed[-1], [0, 0, 1, 0, 0, 0])
        assert all((failed[k] == 7).all() for k in (0, 1, 3, 4, *range(5, 10)))
        np.testing.assert_array_equal(failed[10:12], [tau, beta])


@pytest.mark.parametrize("loss", ["softmax", "logistic"])
@pytest.mark.parametrize("blocks", [None, [0, 4, 20, -1]])
@pytest.mark.parametrize("steps", [0, 4])
def test_next_step_makes_its_root(network, agree, loss, blocks, steps):
    """The shares of rows in place of a root; few agents with many rows, so that threads share these."""
    rng = np.random.default_rng(0)
    p, (w_old, y_old, grad_old), rest = iteration(network, rng, np.float64, 2, 9, False, rows=3000)
    rest = (*rest[:10], p.x, (p.target > 0) * 1.0, *rest[12:16], kernels.LOSSES[loss], *rest[17:])
    cuts = None if blocks is None or steps else np.array([*blocks[:-1], p.params])
    share, tau, beta = 0.1 + rng.random(p.n), 0.5 + rng.random(2), rng.random(2)
    workspace = kernels.StepWorkspace()

    def step(kernel, threads, *more):
        rows, sums, status = np.full((5, 2, p.params), 7.0), np.full((5, 2), 7.0), np.full(2, 7)
        state, way = (tau.copy(), beta.copy()), (None, status, 2, steps, 1e-9, share, cuts)
        old = w_old, y_old, grad_old
        kernel(*gathered(rows, sums, state, old, rest, (2.0, 2.0, 0.1, 50.0, *way)), threads, *more)
        return [*rows, *sums, *state, status]

    mine, twin = step(kernels.next_step, 1), step(reference.next_step, 1)
    for part, same in zip(mine, step(kernels.next_step, 3, workspace), strict=True):
        np.testing.assert_array_equal(part, same)
    for part, again in zip(mine, step(kernels.next_step, 3, workspace), strict=True):
        np.testing.assert_array_equal(part, again)
    for part, its in zip(mine, twin, strict=True):
        agree(part, its, 1e-8)


@pytest.mark.parametrize("steps", [None, 0, 4])
def test_agents_without_rows_beside_one_with_many(network, agree, steps):
    """More of them than share out their parts together: a wave of agents has nothing to add up."""
    rng, agents = np.random.default_rng(0), 130
    p, (w_old, y_old, grad_old), rest = iteration(network, rng, np.float64, agents, 9, False, rows=1)
    x, target = rng.standard_normal((9000, 5)), rng.standard_normal((9000, 2))
    offsets = np.full(agents + 1, 9000)
    offsets[:2] = 0  # the second agent has all
    rest = (*rest[:10], x, target, None, offsets, *rest[14:18], 1 / 9000)
    way = () if steps is None else (None, np.full(agents, 7), agents, steps, 1e-9, np.ones(9000))
    results = []
    for kernel, threads in ((kernels.next_step, 1), (kernels.next_step, 3), (reference.next_step, 1)):
        rows, sums = np.full((5, agents, p.params), 7.0), np.full((5, agents), 7.0)
        state, old = (np.ones(agents), np.ones(agents)), (w_old, y_old, grad_old)
        kernel(*gathered(rows, sums, state, old, rest, (2.0, 2.0, 0.1, 50.0, *way)), threads)
        results.append([*rows, *sums, *state])
    for mine, other, twin in zip(*results, strict=True):
        np.testing.assert_array_equal(mine, other)
        finite = np.isfinite(twin)  # an agent without neighbours receives -inf
        np.testing.assert_array_equal(mine[~finite], twin[~finite])
        agree(mine[finite], twin[finite], 1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_change_nothing(dtype):
    rng = np.random.default_rng(0)
    agents, columns = 40, 20011
    rows, *csr = narrowed(dtype, rng.standard_normal((agents, columns)), *ring(agents, rng))
    y, w, old = rng.standard_normal((3, agents, columns)).astype(dtype)
    r = penalty(rng, columns, True, dtype)
    results = []
    for threads in (1, 2, 3):
        out, sums = np.empty((3, agents, columns), dtype), np.empty((5, agents))
        tau, beta = np.ones((2, agents))
        kernels.network_mix(out[0], sums[0], sums[1], rows, *csr, CHEBYSHEV, threads)
        kernels.row_change(sums[2], sums[3], rows, w, 1.0, threads)
        kernels.proximal_step(out[1], out[2], w, y, tau, 0.5, 3.0, *r, threads)
        tracked = y.copy()
        kernels.tracker_update(tracked, sums[4], w, old, rows, threads)
        kernels.secant_rule(tau, beta, sums[4], w, rows, tracked, old, y, 3.0, 2.0, 2.0, 0.0, 1e9, threads)
        results.append([out, sums, tracked, tau, beta])
    for other in results[1:]:
        for mine, its in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, its)
