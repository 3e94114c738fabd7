"""Vectors of conjugate gradients and roots of curvatures: against the twins, bit by bit over threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext import kernels
from dnnext.kernels import reference_conjugate as reference

DTYPES = st.sampled_from([np.float64, np.float32])
SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.sampled_from([1, 7, 8, 33, 4096, 4099, 9000])


def conjugate(name, module, arrays, factor, **more):
    """The arrays that a kernel writes, and its sums."""
    image, step, residual, direction, diag = (a.copy() for a in arrays)
    sums = np.full(len(image), 7.0)
    call = {
        "cg_curve": (sums, image, diag, direction),
        "cg_step": (sums, step, residual, direction, image, factor),
        "cg_turn": (direction, residual, factor),
    }[name]
    getattr(module, name)(*call, **more)
    return image, step, residual, direction, sums


@pytest.mark.parametrize("name", ["cg_curve", "cg_step", "cg_turn"])
@given(seed=SEEDS, agents=st.integers(0, 4), params=LENGTHS, dtype=DTYPES)
def test_vectors(agree, name, seed, agents, params, dtype):
    rng = np.random.default_rng(seed)
    arrays = rng.standard_normal((5, agents, params)).astype(dtype)
    factor = rng.standard_normal(agents).astype(dtype).astype(float)
    ours = conjugate(name, kernels, arrays, factor)
    twin = conjugate(name, reference, arrays.astype(float), factor)
    for mine, its in zip(ours, twin, strict=True):
        agree(mine, its, 1e-12 if dtype is np.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(1, 300_000), (2, 200_003), (40, 9001)])
def test_no_bit_depends_on_threads(shape, dtype):
    rng = np.random.default_rng(0)
    arrays, factor = rng.standard_normal((5, *shape)).astype(dtype), rng.standard_normal(shape[0])
    for name in ("cg_curve", "cg_step", "cg_turn"):
        first = conjugate(name, kernels, arrays, factor)
        alone = conjugate(name, kernels, arrays[:, :1], factor[:1])
        for mine, its in zip(first, alone, strict=True):
            np.testing.assert_array_equal(mine[:1], its)
        for n_threads in (2, 3, 5):
            for mine, its in zip(first, conjugate(name, kernels, arrays, factor, n_threads=n_threads), strict=True):
                np.testing.assert_array_equal(mine, its)


def roots(module, f, target, share, loss, **more):
    shape = (*f.shape, f.shape[1]) if loss == "softmax" else f.shape
    out = np.full(shape, 7, f.dtype)
    module.curvature_root(out, f, target, share, kernels.LOSSES[loss], 1.25, **more)
    return out


@given(seed=SEEDS, rows=st.sampled_from([0, 1, 5, 300]), outputs=st.sampled_from([1, 2, 10, 300]), dtype=DTYPES)
@pytest.mark.parametrize("loss", list(kernels.LOSSES))
def test_curvature_root(agree, loss, seed, rows, outputs, dtype):
    rng = np.random.default_rng(seed)
    rows = min(rows, 5) if outputs == 300 else rows
    f = (4 * rng.standard_normal((rows, outputs))).astype(dtype)
    target, share = np.sign(rng.standard_normal(f.shape)).astype(dtype), rng.random(rows).astype(dtype)
    ours = roots(kernels, f, target, share, loss)
    agree(ours, roots(reference, *(a.astype(float) for a in (f, target, share)), loss))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", list(kernels.LOSSES))
def test_roots_by_threads(loss, dtype):
    rng = np.random.default_rng(0)
    f = rng.standard_normal((9000, 12)).astype(dtype)
    call = f, np.sign(f[::-1]), rng.random(9000).astype(dtype), loss
    first = roots(kernels, *call)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(roots(kernels, *call, n_threads=n_threads), first)
    np.testing.assert_array_equal(roots(kernels, *(a[4000:4001] for a in call[:3]), loss)[0], first[4000])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("outputs", [3, 300])
def test_softmax_root_is_a_root(outputs, dtype):
    f = (5 * np.random.default_rng(0).standard_normal((4, outputs))).astype(dtype)
    root = roots(kernels, f, f, np.ones(4, dtype), "softmax").astype(float)
    p = np.exp(f - f.max(axis=1, keepdims=True).astype(float))
    p /= p.sum(axis=1, keepdims=True)
    wanted = p[:, :, None] * (np.eye(outputs) - p[:, None, :])
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), wanted, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(
        roots(kernels, np.full((1, outputs), np.nan, dtype), f[:1], f[0, :1], "softmax"), np.nan
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_one_agent_by_threads(dtype):
    """What an iteration does to one long row, or two: cut into strips, the same bits."""
    rng = np.random.default_rng(0)
    for agents, params in ((1, 300_001), (2, 150_000)):
        w, y, grad, old, before = rng.standard_normal((5, agents, params)).astype(dtype)
        flat, none = np.full(params, 0.1, dtype), (np.empty((0, 2), np.int64), np.empty(0, dtype))
        csr = (np.arange(agents + 1) * agents, np.tile(np.arange(agents), agents), np.full(agents**2, 0.5, dtype))
        found = []
        for n_threads in (1, 2, 3, 4):
            z, hat, tracked, prox, mixed = (
                np.empty_like(w),
                np.empty_like(w),
                y.copy(),
                np.empty_like(w),
                np.empty_like(w),
            )
            squares, tau, beta = np.empty(agents), np.ones(agents), np.ones(agents)
            kernels.proximal_step(z, hat, w, y, tau, 0.5, 3.0, flat, flat, *none, n_threads)
            kernels.tracker_update(tracked, squares, grad, old, w, n_threads)
            kernels.secant_rule(tau, beta, beta.copy(), w, before, tracked, y, None, 3.0, 2.0, 2.0, 0.0, 1e9, n_threads)
            kernels.penalty_prox(prox, w, np.ones(agents, dtype), flat, flat, *none, n_threads)
            kernels.csr_mix(mixed, w, *csr, None, 1.0, 0.25, 0.0, n_threads)
            found.append((z, hat, tracked, squares, tau, beta, prox, mixed))
        for other in found[1:]:
            for mine, its in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(mine, its)


def solved(module, p, root, diag, rhs, n_iter, tol, **more):
    out, n_done = np.full_like(p.v, 7), np.full(p.agents, 7)
    tail = (p.offsets, p.layers, p.activation, n_iter, tol)
    module.mlp_cg_solve(out, n_done, p.w, p.x, root, diag, rhs, *tail, **more)
    return out, n_done


@pytest.mark.parametrize("layers", [(3, 2), (5, 7, 1), (300, 4, 3), (2, 5, 4, 20)])
@pytest.mark.parametrize("columns", [0, 2, 20])
@pytest.mark.parametrize("activation", ["tanh", "square"])
def test_solve_against_its_twin(network, layers, columns, activation):
    p = network(0, layers, (40, 0, 1), activation=activation)
    root = 0.03 * p.real(p.n, p.outputs, *([columns] if columns else []))  # or rounding grows from step to step
    diag, n_iter = 1 + p.v**2, 5
    for ours, its in zip(
        solved(kernels, p, root, diag, p.v, n_iter, 0.1), solved(reference, p, root, diag, p.v, n_iter, 0.1),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(ours, its, rtol=1e-9, atol=1e-12)
    out, n_done = solved(kernels, p, root, diag, p.v, 1000, 1e-13)
    image = np.empty_like(p.v)
    whole = np.array([0, p.params])
    kernels.mlp_gauss_newton_product(image, p.w, p.x, root, out, p.offsets, p.layers, p.activation, whole)
    np.testing.assert_allclose(
        image + diag * out, p.v, rtol=0, atol=1e-9 * np.abs(p.v).max()
    )  # updated residuals drift
    assert (n_done < 1000).all()
    np.testing.assert_array_equal(solved(kernels, p, root, diag, 0 * p.v, 400, 1e-13)[0], 0)


@pytest.mark.parametrize("layers", [(3, 2), (5, 7, 26), (4, 60, 3), (2, 300)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_centred_roots_against_their_twin(network, agree, layers, dtype):
    p, double = network(0, layers, (40, 0, 700), dtype), network(0, layers, (40, 0, 700))
    q = p.rng.dirichlet(np.ones(p.outputs), p.n) * np.where(np.arange(p.n) % 7 == 3, 0, 0.05)[:, None]
    diag, whole = 1 + p.v**2, np.array([0, p.params])
    image, theirs = np.empty_like(p.v), np.empty_like(double.v)
    net = p.offsets, p.layers, p.activation, whole
    kernels.mlp_gauss_newton_product(image, p.w, p.x, q.astype(dtype), p.v, *net, centred=True)
    reference.mlp_gauss_newton_product(theirs, *(a.astype(float) for a in (p.w, p.x, q, p.v)), *net, centred=True)
    agree(image, theirs)
    theirs = solved(reference, double, q, diag.astype(float), double.v, 5, 1e-6, centred=True)
    ours = solved(kernels, p, q.astype(dtype), diag, p.v, 5, 1e-6, centred=True)
    agree(ours[0], theirs[0], 1e-4 if dtype == np.float32 else 1e-9)
    for n_threads in (2, 3):
        threaded = solved(kernels, p, q.astype(dtype), diag, p.v, 5, 1e-6, centred=True, n_threads=n_threads)
        np.testing.assert_array_equal(threaded[0], ours[0])
    with pytest.raises(ValueError, match="blocks must be one with centred=True, got 2"):
        kernels.mlp_gauss_newton_product(
            image, p.w, p.x, q.astype(dtype), p.v, p.offsets, p.layers, p.activation, np.array([0, 1, p.params]),
            centred=True,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [(3000,), (1500, 0, 40), (900,) * 5])
@pytest.mark.parametrize("layers", [(9, 30, 2), (4, 900, 1)])
def test_no_bit_of_a_solve_depends_on_threads_or_other_agents(network, layers, rows, dtype):
    p = network(0, layers, rows, dtype)
    root, diag = p.real(p.n, p.outputs, 2), np.ones_like(p.v)
    first = solved(kernels, p, root, diag, p.v, 4, 1e-6)
    for n_threads in (2, 3, 5):
        for mine, its in zip(first, solved(kernels, p, root, diag, p.v, 4, 1e-6, n_threads=n_threads), strict=True):
            np.testing.assert_array_equal(mine, its)
    alone, last = np.empty_like(p.v[-1:]), rows[-1]
    tail = (np.array([0, last]), p.layers, p.activation, 4, 1e-6)
    own = (p.w[-1:], p.x[-last:], root[-last:], diag[-1:], p.v[-1:])
    kernels.mlp_cg_solve(alone, np.empty(1, np.int64), *own, *tail)
    np.testing.assert_array_equal(alone, first[0][-1:])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_a_right_hand_side_that_is_not_finite_is_not_solved_by_zeros(network, lost, dtype):
    p = network(0, (30, 40, 2), (900, 0, 2500), dtype)
    root, diag, rhs = p.real(p.n, p.outputs), np.ones_like(p.v), p.v.copy()
    whole, _ = solved(kernels, p, root, diag, rhs, 3, 0.0)
    rhs[0, -1] = lost
    with np.errstate(all="ignore"):
        theirs = solved(reference, p, root, diag, rhs, 3, 0.0)
    for out, n_done in (theirs, *(solved(kernels, p, root, diag, rhs, 3, 0.0, n_threads=n) for n in (1, 2, 3))):
        assert np.isnan(out[0]).all()
        assert n_done[0] == 0
        np.testing.assert_allclose(out[1:], whole[1:], rtol=0, atol=1e-3)
