"""The correction of a curvature by the last pairs: secant condition, positive definite, shut where it does not help."""

import numpy as np
import pytest

from dnnext.local.quasi_newton import Correction, begin, learn


def quadratic(n=2, p=6, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((n, p, p))
    true = q @ q.transpose(0, 2, 1) + 0.1 * np.eye(p)
    return true, true + 0.8 * np.diag(rng.uniform(0, 3, p)), rng


def run(pairs=3, steps=5):
    true, base, rng = quadratic()
    memory = {}
    begin(memory, np.zeros((2, 6)), pairs)

    def product(v):
        return np.einsum("aij,aj->ai", base, v)

    for _ in range(steps):
        correction = Correction(memory, product, keep_ridge=True)
        step = rng.standard_normal((2, 6))
        learn(memory, correction, step, np.einsum("aij,aj->ai", true, step), product(step))
    return true, base, memory, Correction(memory, product, keep_ridge=True), step


def corrected(base, correction):
    b = base.reshape(2, -1).copy()
    correction.amend(b, slice(0, 2))
    return b.reshape(base.shape)


def test_the_last_pair_is_met_exactly_and_the_matrix_stays_positive_definite():
    true, base, _, correction, step = run()
    correction.used[:] = True
    b = corrected(base, correction)
    for i in range(2):
        assert np.linalg.eigvalsh(b[i])[0] > 0
        np.testing.assert_allclose(b[i] @ step[i], true[i] @ step[i], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        np.einsum("aij,aj->ai", base, step) + correction.product(step), np.einsum("aij,aj->ai", b, step), rtol=1e-9
    )


def test_the_gate_opens_where_the_correction_predicts_better():
    *_, memory, correction, _ = run(pairs=6, steps=40)
    assert correction.used.all()
    assert (memory["pairs.gate"][:, 1] < memory["pairs.gate"][:, 0]).all()


def test_a_shut_gate_changes_nothing():
    _, base, _, correction, step = run()
    correction.used[:] = False
    np.testing.assert_array_equal(corrected(base, correction), base)
    np.testing.assert_array_equal(correction.product(step), np.zeros_like(step))


def test_negative_curvature_is_damped():
    memory = {}
    begin(memory, np.zeros((1, 2)), 1)

    def product(v):
        return v.copy()

    step = np.array([[1.0, 0.0]])
    learn(memory, Correction(memory, product, True), step, -5 * step, product(step))
    correction = Correction(memory, product, True)
    correction.used[:] = True
    b = np.eye(2).reshape(1, -1).copy()
    correction.amend(b, slice(0, 1))
    assert np.linalg.eigvalsh(b.reshape(2, 2))[0] == pytest.approx(0.2, rel=0.02)  # Powell's share of s'Bs


@pytest.mark.parametrize("still", [np.zeros((2, 6)), np.full((2, 6), np.nan)])
def test_an_agent_that_stood_still_or_broke_learns_nothing(still):
    _, base, memory, correction, _ = run()
    before = {name: kept.copy() for name, kept in memory.items()}
    learn(memory, correction, np.zeros((2, 6)), still, np.zeros((2, 6)))
    for name, kept in memory.items():
        np.testing.assert_array_equal(kept, before[name])
    assert base.shape == (2, 6, 6)
