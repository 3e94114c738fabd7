"""Every algorithm in `__all__`: what a recipe promises, whatever it computes."""

import inspect

import numpy as np
import pytest

from dnnext import algorithms
from dnnext.algorithms import Algorithm
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Logistic, Problem, SquaredError
from dnnext.runs.history import COLUMNS

KINDS = [getattr(algorithms, name) for name in algorithms.__all__]
KINDS = [kind for kind in KINDS if inspect.isclass(kind) and issubclass(kind, Algorithm)]
KINDS = [kind for kind in KINDS if not inspect.isabstract(kind)]


def make_problem(loss=None, penalty=None, rows=(12, 0, 9, 15), **options):
    """Four agents, one of them a relay."""
    rng = np.random.default_rng(0)
    shards = []
    for n in rows:
        x = rng.standard_normal((n, 3))
        y = np.sin(x.sum(axis=1))
        shards.append((x, (y > 0) * 1.0 if isinstance(loss, Logistic) else y))
    return Problem(MLP([3, 4, 1]), loss or SquaredError(), penalty or L2(alpha=1e-2), shards, **options)


def test_the_walk_finds_the_algorithms():
    assert {kind.__name__ for kind in KINDS} >= {"NEXT", "GradientTracking", "DGD", "CentralizedSCA"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [SquaredError(), Logistic()])
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_lowers_the_objective_from_the_defaults(kind, loss, penalty, dtype):
    problem = make_problem(loss, penalty, dtype=dtype)
    result = kind().run(problem, Network(Topology.star(4)), max_iter=60, warn=False)
    objective = result.history["objective"]
    assert tuple(result.history) == COLUMNS
    assert all(np.all(np.isfinite(column)) for column in result.history.values())
    assert problem.value(result.w_bar) < objective[0] - 0.2 * (objective[0] - objective.min())
    assert result.w.dtype == result.w_bar.dtype == np.dtype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_no_bit(kind):
    runs = []
    for n in (1, 2, 3):
        problem = make_problem(rows=(90, 0, 70, 80), n_threads=n)
        runs.append(kind().run(problem, Network(Topology.ring(4), n_threads=n), max_iter=8, warn=False))
    for other in runs[1:]:
        np.testing.assert_array_equal(other.w, runs[0].w)
        np.testing.assert_array_equal(other.history["objective"], runs[0].history["objective"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_the_recipe_as_it_was(kind):
    algorithm, problem = kind(), make_problem()
    first, again = (algorithm.run(problem, Network(Topology.ring(4)), max_iter=8, warn=False) for _ in range(2))
    np.testing.assert_array_equal(again.w, first.w)
    np.testing.assert_array_equal(again.history["objective"], first.history["objective"])


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_at_w0_and_says_what_it_is(kind):
    problem = make_problem()
    w0 = problem.model.init(7)
    result = kind().run(problem, Network(Topology.ring(4)), w0=w0, max_iter=1, warn=False)
    assert result.history["objective"][0] == pytest.approx(problem.value(w0), rel=1e-12)
    assert repr(kind()).startswith(f"{kind.__name__}(")
