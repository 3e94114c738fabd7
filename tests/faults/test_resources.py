"""Too large to hold, interrupted, forked: clear errors, a model, the same numbers."""

import _thread
import threading
import time

import joblib
import numpy as np
import pytest

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, _checks, kernels
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.problem import L2, MLP, Problem, SquaredError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 5)), RNG.standard_normal(60)


def test_more_parameters_than_an_index_can_count():
    with pytest.raises(ValueError, match=r"fewer than 2\^31 parameters, got 2500650001"):
        MLP([10, 50000, 50000, 1])


@pytest.mark.parametrize("hidden", [(10**8,), (40000, 40000)])
def test_a_state_that_no_memory_holds(hidden):
    with pytest.raises(
        MemoryError, match=r"a state of 8 agents with \d+ parameters each needs .* GB, but this machine"
    ):
        DecentralizedMLPRegressor(hidden).fit(X, Y)


def test_matrices_that_no_memory_holds():
    problem = Problem(MLP([5, 1000, 1000, 1]), SquaredError(), L2(0.1), [(X[:2], Y[:2])])
    w = np.zeros((1, problem.n_params))
    with pytest.raises(MemoryError, match="1 Gauss-Newton matrices of 1008001 parameters needs"):
        problem.gauss_newton(w, np.ones((2, 1)))


@pytest.mark.parametrize("width", [3000, 70000])
def test_room_is_taken_for_what_is_computed_only(width):
    """Features of pairs of units would take terabytes; J'v needs none."""
    problem = Problem(MLP([2, width, 1]), SquaredError(), L2(0.1), [(X[:9, :2], Y[:9])])
    w, v = np.zeros((2, 1, problem.n_params))
    v[:] = 1.0
    product = problem.gauss_newton_product(w, np.ones((9, 1)), v)
    assert product[0, -1] == 9  # all weights are zero: only the last bias moves the outputs, of nine rows alike
    assert np.count_nonzero(product) == 1


def test_roots_wider_than_sizes_can_be():
    args = np.zeros((1, 2)), np.zeros((0, 1)), np.empty((0, 1, 2**40))
    with pytest.raises(ValueError, match=r"at most 2\^20 columns"):
        kernels.mlp_jacobian(np.empty((0, 2)), *args, [1, 1], 0)


def test_rows_whose_square_is_no_index():
    """2^32 rows without columns take no memory, and their squares are 0 modulo 2^64."""
    with pytest.raises(ValueError, match=r"agent 0 had 4294967296 rows"):
        kernels.rows_gram(np.empty(0), np.empty((2**32, 0)), np.array([0, 2**32]))


def test_sizes_are_counted_without_overflow():
    with pytest.raises(MemoryError, match=r"all needs 1.27e\+21 GB"):
        _checks.check_memory("all", 2**40 * 2**40 * 2**20, "less")
    _checks.check_memory("nothing", 0, "less")


def test_a_machine_that_does_not_tell(monkeypatch):
    def fail(name):
        raise ValueError(name)

    monkeypatch.setattr(_checks.os, "sysconf", fail)
    _checks.check_memory("all", 2**80, "less")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("surrogate", [PartialLinearization(), FullLinearization()], ids=["partial", "full"])
def test_ctrl_c_in_a_heavy_fit_ends_it_within_an_iteration(surrogate):
    x = RNG.standard_normal((4000, 20))
    y, ticks, asked = (x[:, 0] > 0).astype(int), [], []

    def ask():
        asked.append(time.perf_counter())
        _thread.interrupt_main()

    def tick(state, metrics):
        ticks.append(time.perf_counter())
        if len(ticks) == 3:
            threading.Timer(0.02, ask).start()

    model = DecentralizedMLPClassifier(
        (40,), n_agents=4, algorithm=NEXT(surrogate), max_iter=2000, tol=0, callbacks=[tick], random_state=0
    ).fit(x, y)
    assert model.status_ == "interrupted"
    assert np.isfinite(model.predict_proba(x)).all()
    assert sum(tick > asked[0] for tick in ticks) <= 2  # the iteration under way; one more if it was just ending


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_fits_in_workers_give_the_same_bits(backend):
    """Multiprocessing forks after this process has used its threads: the kernels of a child must not wait for them."""
    models = [DecentralizedMLPRegressor((4,), n_agents=3, max_iter=5, n_jobs=2, random_state=k) for k in range(3)]
    here = [model.fit(X, Y).predict(X) for model in models]
    there = joblib.Parallel(n_jobs=2, backend=backend, timeout=120)(joblib.delayed(m.fit)(X, Y) for m in models)
    for mine, model in zip(here, there, strict=True):
        np.testing.assert_array_equal(mine, model.predict(X))
