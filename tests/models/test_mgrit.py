"""Multigrid in depth: convergence that does not depend on depth, exactness, padding, the count of evaluations."""

import numpy as np
import pytest

from dnnext.models import MGRIT


def smooth_weights(n_steps, d=8, seed=0):
    """``W(t) = C0 + C1 sin 2 pi t + C2 t``, entries N(0, 1 / d)."""
    c = np.random.default_rng(seed).normal(0, d**-0.5, (3, d, d))
    t = np.arange(n_steps)[:, None, None] / n_steps
    return c[0] + c[1] * np.sin(2 * np.pi * t) + c[2] * t


def network_step(n_steps, T, seed=0):
    weights, h = smooth_weights(n_steps, seed=seed), T / n_steps
    return lambda k, v, stride: v + stride * h * np.tanh(v @ weights[k])


def exact_and_guess(solver, seed=1, rows=50):
    u0 = np.random.default_rng(seed).normal(size=(rows, 8))
    guess = np.repeat(u0[None], solver.n_steps + 1, axis=0)
    exact = guess.copy()
    solver.forward(exact)
    return exact, guess


def errors_of_cycles(n_steps, T, cycles):
    solver = MGRIT(network_step(n_steps, T), n_steps)
    exact, u = exact_and_guess(solver)
    errors = []
    for _ in range(cycles):
        solver.solve(u, n_cycles=1)
        errors.append(np.linalg.norm(u - exact) / np.linalg.norm(exact))
    return np.array(errors)


def test_errors_fall_alike_at_every_depth():
    errors = np.array([errors_of_cycles(n, 5.0, 5) for n in (64, 256, 1024)])
    assert np.all(errors[:, :-1] >= 5 * errors[:, 1:])
    assert np.all(errors[:, :3].max(axis=0) < 3 * errors[:, :3].min(axis=0))
    assert np.all(errors[1:] <= errors[0])  # later cycles: deeper networks come closer


def test_small_steps_converge_fast():
    errors = errors_of_cycles(256, 1.0, 4)
    assert np.all(errors[:-1] >= 50 * errors[1:])


@pytest.mark.parametrize(("n_steps", "cf", "nrelax0", "cycles"), [(64, 8, 1, 4), (64, 8, 0, 8), (16, 4, 1, 2)])
def test_enough_cycles_are_exact(n_steps, cf, nrelax0, cycles):
    solver = MGRIT(network_step(n_steps, 5.0), n_steps, cf=cf, nrelax0=nrelax0)
    exact, u = exact_and_guess(solver)
    solver.solve(u, n_cycles=cycles)
    np.testing.assert_allclose(u, exact, rtol=0, atol=1e-14)
    assert np.linalg.norm(u - exact) <= 2e-16 * np.linalg.norm(exact)  # 3e-17 for eight intervals in four cycles


def test_residuals_end_the_cycles_at_the_tolerance():
    solver = MGRIT(network_step(256, 1.0), 256)
    exact, u = exact_and_guess(solver)
    residuals = solver.solve(u, n_cycles=20, tol=1e-8)
    assert 3 <= len(residuals) < 20
    assert residuals[-1] <= 1e-8 < residuals[-2]
    assert np.abs(u - exact).max() < 1e-8


def test_a_right_hand_side_is_added_at_every_point():
    step, rng = network_step(64, 1.0), np.random.default_rng(2)
    solver = MGRIT(step, 64)
    g = rng.normal(size=(65, 3, 8)) * 0.1
    u = np.repeat(rng.normal(size=(1, 3, 8)), 65, axis=0)
    exact = u.copy()
    for k in range(64):
        exact[k + 1] = step(np.array([k]), exact[k : k + 1], 1)[0] + g[k + 1]
    forward = u.copy()
    solver.forward(forward, g)
    np.testing.assert_array_equal(forward, exact)
    solver.solve(u, g, n_cycles=16)
    np.testing.assert_allclose(u, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("cf", [2, 3, 4, 8])
@pytest.mark.parametrize("nrelax0", [0, 2])
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 16, 1000])
def test_the_critical_path_is_what_an_instrumented_run_counts(cf, nrelax0, n_ranks):
    path = 0

    def step(k, v, stride):
        nonlocal path
        path += -(-len(k) // n_ranks)  # the items of a call are shared evenly by the ranks
        return v

    n_steps = MGRIT.padded(200, cf)
    solver = MGRIT(step, n_steps, cf=cf, nrelax0=nrelax0)
    solver.solve(np.zeros((n_steps + 1, 1)), n_cycles=1)
    assert path == solver.critical_path(n_ranks)


def test_critical_paths_of_the_design():
    paths = [MGRIT(lambda k, v, stride: v, n).critical_path(n) for n in (64, 256, 1024)]
    assert paths == [24, 36, 48]


def test_one_level_is_the_recursion_itself():
    solver = MGRIT(network_step(7, 1.0), 7, max_levels=1)
    exact, u = exact_and_guess(solver)
    assert solver.solve(u, n_cycles=3, tol=0.0)[-1] == 0
    np.testing.assert_array_equal(u, exact)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_steps": 250}, "n_steps must be a multiple of 64"),
        ({"n_steps": 16, "cf": 1}, "cf must be"),
        ({"n_steps": 0}, "n_steps must be"),
        ({"n_steps": 16, "nrelax": -1}, "nrelax must be"),
        ({"n_steps": 16, "step": None}, "step must be a callable"),
    ],
)
def test_unfit_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        MGRIT(**{"step": lambda k, v, stride: v} | arguments)


def test_states_of_another_length_are_refused():
    with pytest.raises(ValueError, match="u must hold the 17 points"):
        MGRIT(lambda k, v, stride: v, 16).solve(np.zeros((16, 1)))


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
@pytest.mark.parametrize("backwards", [False, True])
def test_ranks_give_the_bits_of_one_process(n_ranks, backwards):
    from dnnext.runtime import threads

    step, start = network_step(64, 5.0), np.random.default_rng(1).normal(size=(9, 8))

    def program(comm):
        solver = MGRIT(step, 64, comm=comm, backwards=backwards)
        u = np.repeat(start[None], solver.own.stop - solver.own.start, axis=0)
        return solver.own, u, solver.solve(u, n_cycles=3)

    alone = MGRIT(step, 64)
    whole = np.repeat(start[None], 65, axis=0)
    residuals = alone.solve(whole, n_cycles=3)
    owned = set()
    for own, u, every in threads.run(n_ranks, program):
        np.testing.assert_array_equal(u, whole[own])
        np.testing.assert_array_equal(every, residuals)
        owned |= set(range(own.start, own.stop))
    assert owned == set(range(65))


def test_more_ranks_than_coarsest_steps_are_refused():
    from dnnext.runtime import threads

    def program(comm):
        MGRIT(lambda k, v, stride: v, 16, comm=comm)

    with pytest.raises(ValueError, match="comm must have at most 4 ranks"):
        threads.run(5, program)
