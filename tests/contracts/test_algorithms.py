"""Every algorithm in `__all__`: what a recipe promises, whatever it computes."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
from sklearn.base import clone

from dnnext import algorithms
from dnnext.algorithms import DGD, NEXT, Algorithm, CentralizedSCA, GradientTracking
from dnnext.algorithms.damping import FixedTau
from dnnext.local import Backprop, FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Logistic, Problem, SquaredError
from dnnext.runs.history import COLUMNS
from dnnext.runs.state import LASTING, State

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


def with_parameters():
    """Algorithms with other values than their defaults, their parts among them."""
    return [
        NEXT(PartialLinearization(n_blocks=2), tau=np.float64(3.0), step=0.5, mu=0.1),
        NEXT(FullLinearization(), tau=FixedTau(2), order="pre", oracle=Backprop()),
        GradientTracking(step=0.1, form="diging"),
        DGD(step=1, mu=0),
        CentralizedSCA(tau=5),
    ]


@pytest.mark.parametrize("algorithm", [kind() for kind in KINDS] + with_parameters(), ids=repr)
def test_parameters_are_kept_as_they_were_given_and_a_clone_is_equal(algorithm):
    again = clone(algorithm)
    assert again is not algorithm
    assert again.fingerprint() == algorithm.fingerprint()
    assert repr(again) == repr(algorithm)
    problem = make_problem()
    first, other = (a.run(problem, Network(Topology.ring(4)), max_iter=4, warn=False) for a in (algorithm, again))
    np.testing.assert_array_equal(first.w, other.w)
    assert clone(algorithm).fingerprint() == again.fingerprint()  # a run leaves no trace in it


def test_a_search_reaches_the_parameters_of_the_surrogate():
    algorithm = NEXT(PartialLinearization(), tau=2.0)
    assert algorithm.get_params()["surrogate__n_blocks"] == 1
    algorithm.set_params(surrogate__n_blocks=3, step=0.5)
    assert (algorithm.surrogate.n_blocks, algorithm.get_params()["step"], algorithm.step_size(0)) == (3, 0.5, 0.5)
    assert algorithm.fingerprint() != NEXT(PartialLinearization(), tau=2.0).fingerprint()
    with pytest.raises(ValueError, match="n_blocks"):
        algorithm.set_params(surrogate__n_blocks=0)


class Signs(Backprop):
    """The signs of the gradient, counted in memory."""

    is_gradient = False

    def __call__(self, problem, w, out, memory):
        values = super().__call__(problem, w, out, memory)
        np.sign(out, out=out)
        memory["signs.calls"] = memory.get("signs.calls", np.zeros(len(w))) + 1
        return values


@pytest.mark.parametrize(
    ("kind", "options"), [(NEXT, {"surrogate": FullLinearization()}), (GradientTracking, {}), (DGD, {"step": 1e-3})]
)
def test_an_oracle_is_asked_in_place_of_the_gradient_and_keeps_its_memory(kind, options):
    problem = make_problem()
    result = kind(oracle=Signs(), **options).run(problem, Network(Topology.ring(4)), max_iter=5, warn=False)
    assert set(np.unique(result.state.grad)) <= {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(result.state.memory["signs.calls"], 6)
    assert "memory.signs.calls" in result.state.snapshot().agents
    plain = kind(**options).run(problem, Network(Topology.ring(4)), max_iter=5, warn=False)
    assert not np.array_equal(plain.w, result.w)


def test_what_needs_a_gradient_refuses_another_oracle():
    with pytest.raises(
        ValueError, match=r"the true gradient, because surrogate=PartialLinearization\(\) needs that, got Signs"
    ):
        NEXT(oracle=Signs())
    with pytest.raises(ValueError, match="oracle must be None or an Oracle object"):
        DGD(oracle="backprop")


LEFT = {"w", "y", "grad", "values", "disagreement", "size", "squares", "tau", "step", "t", "is_fresh", "unit", "memory"}


def poisoned(recipe, kept):
    """The recipe, with all fields of the State that are not kept filled with NaN after every step."""

    class Poisoned(type(recipe)):
        def step(self, problem, network, s):
            super().step(problem, network, s)
            self.poison(s)

        def fast_step(self, problem, network, s):
            done = recipe.fast_step(problem, network, s)
            if done:
                self.poison(s)
            return done

        def poison(self, s):
            for name in {field.name for field in fields(s)} - kept:
                value = getattr(s, name)
                if isinstance(value, np.ndarray):
                    setattr(s, name, np.full_like(value, np.nan))

    Poisoned.__name__ = type(recipe).__name__
    return Poisoned(**recipe.get_params(deep=False))


def every_recipe():
    return [kind() for kind in KINDS] + [
        NEXT(FullLinearization()), NEXT(PartialLinearization(curvature="shared")), NEXT(step=0.5, mu=0.1),
        GradientTracking(form="diging"),
    ]  # fmt: skip


def same_run(one, other):
    assert one.status == other.status
    np.testing.assert_array_equal(one.w, other.w)
    for name in set(one.history) - {"seconds"}:
        np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)


@pytest.mark.parametrize("recipe", every_recipe(), ids=repr)
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
def test_a_step_may_rely_on_the_lasting_fields_only(recipe, penalty):
    """Whatever else a step leaves is scratch: filled with NaN, the run goes on with the same bits."""
    runs = [
        r.run(make_problem(penalty=penalty), Network(Topology.ring(4)), max_iter=12, warn=False)
        for r in (recipe, poisoned(recipe, LEFT | set(LASTING)))
    ]
    same_run(*runs)


@pytest.mark.parametrize("recipe", every_recipe(), ids=repr)
def test_the_loop_reads_what_a_step_must_leave_and_nothing_else(recipe):
    """Fields of the recipe's own hold NaN while the loop measures, watches and saves; the recipe finds them again."""
    bad = poisoned(recipe, LEFT)

    class Hidden(type(bad)):
        def step(self, problem, network, s):
            for name, value in s.__dict__.pop("hidden", {}).items():
                setattr(s, name, value)
            super(type(bad), self).step(problem, network, s)
            hidden = {name: getattr(s, name) for name in set(LASTING) - LEFT}
            self.poison(s)
            s.__dict__["hidden"] = hidden

        def fast_step(self, problem, network, s):
            return False

    runs = [
        r.run(make_problem(), Network(Topology.ring(4)), max_iter=12, warn=False)
        for r in (recipe, Hidden(**recipe.get_params(deep=False)))
    ]
    same_run(*runs)


@pytest.mark.parametrize("recipe", every_recipe(), ids=repr)
def test_an_iteration_is_undone_whatever_the_recipe_did(recipe):
    problem, network = make_problem(), Network(Topology.ring(4))
    if isinstance(recipe, CentralizedSCA):
        problem, network = make_problem(rows=(36,)), Network(Topology.complete(1))
    s = State.at(problem, np.tile(problem.model.init(0), (problem.n_local, 1)))
    recipe.start(problem, s)
    for _ in range(3):
        recipe.step(problem, network, s)
        s.t += 1
    before = s.keep()
    w, y, grad, values = (getattr(s, name).copy() for name in ("w", "y", "grad", "values"))
    recipe.step(problem, network, s)
    s.t += 1
    assert not np.array_equal(s.w, w)
    s.undo(before)
    for name, old in {"w": w, "y": y, "grad": grad, "values": values, "t": 3}.items():
        np.testing.assert_array_equal(getattr(s, name), old)


def test_the_alarm_of_dgd_measures_by_what_was_mixed():
    problem = make_problem()
    network = Network(Topology.ring(4))
    s = State.at(problem, np.tile(problem.model.init(0), (4, 1)))
    recipe = DGD()
    recipe.start(problem, s)
    for _ in range(3):
        w = s.w.copy()
        recipe.step(problem, network, s)
        s.t += 1
    np.testing.assert_allclose(s.size, np.linalg.norm(w, axis=1), rtol=1e-12)
