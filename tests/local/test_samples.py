"""Curvature, units of tau and first gradients from some rows of every agent."""

import re

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, Growing, PartialLinearization
from dnnext.local.unit import mean_curvature, own_shares, some_rows
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Logistic, Problem, Softmax, SquaredError
from dnnext.problem.samples import fresh_problem, order_of_rows, sampled_problem
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint


def data(rows, n_outputs=1, seed=0, rare=0.5):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 3))
    raw = np.sin(2 * x[:, :1]) + 0.3 * rng.standard_normal((rows, 1)) - 2 * (0.5 - rare)
    return (x, (raw > 0).astype(float)) if n_outputs == 1 else (x, np.eye(n_outputs)[rng.integers(0, n_outputs, rows)])


def make_problem(rows=(900, 300, 0, 60), loss=None, penalty=None, n_threads=1, dtype="float64", **more):
    loss = Logistic() if loss is None else loss
    n_outputs = 3 if isinstance(loss, Softmax) else 1
    shards = [data(n, n_outputs, seed=k, **more) for k, n in enumerate(rows)]
    model = MLP([3, 6, n_outputs])
    return Problem(model, loss, penalty or L2(alpha=1e-3), shards, n_threads=n_threads, dtype=dtype)


def run(problem, algorithm, max_iter=30, **options):
    return algorithm.run(problem, Network(Topology.ring(problem.n_agents)), max_iter=max_iter, **options)


def test_the_rows_of_an_agent_have_all_classes_in_their_shares_and_depend_on_it_alone():
    problem = make_problem(rare=0.1)
    some = sampled_problem(problem, np.array([100, 400, 9, 20]))
    np.testing.assert_array_equal(some.agent_rows, [100, 300, 0, 20])
    assert some.n_total == problem.n_total
    assert sampled_problem(problem, np.array([100, 400, 9, 20])) is some
    own = problem.target[:900].mean()
    assert abs(some.target[:100].mean() - own) <= 1 / 100
    alone = Problem(problem.model, problem.loss, problem.penalty, [(problem.x[:900], problem.target[:900])])
    np.testing.assert_array_equal(sampled_problem(alone, np.array([100])).x, some.x[:100])
    np.testing.assert_array_equal(some.x[100:400], problem.x[900:1200])  # all rows in their own order
    assert sampled_problem(problem, problem.agent_rows) is problem
    assert PartialLinearization(curvature_rows=10**30).rows(problem) is problem


def test_rows_of_weight_zero_are_not_taken_and_targets_of_regressions_are_spread():
    rng = np.random.default_rng(0)
    x, d, c = rng.standard_normal((400, 3)), rng.standard_normal((400, 1)), np.repeat([0.0, 2.0], 200)
    some = sampled_problem(Problem(MLP([3, 1]), SquaredError(), None, [(x, d, c)]), np.array([50]))
    assert some.agent_weight[0] == 100
    np.testing.assert_allclose(
        np.quantile(some.target, [0.2, 0.5, 0.8]), np.quantile(d[200:], [0.2, 0.5, 0.8]), atol=0.1
    )
    order = order_of_rows(d, 5)
    assert np.all(np.diff(d[order, 0]) >= 0)
    assert len(order_of_rows(d[:0], 0)) == 0


def test_fresh_slices_are_other_rows_in_each_iteration_of_all_classes_and_of_one_agent_alone():
    problem, most = make_problem(rare=0.1), np.array([100, 400, 9, 20])
    seen, share = set(), problem.target[:900].mean()
    for t in range(60):
        some = fresh_problem(problem, most, t)
        np.testing.assert_array_equal(some.agent_rows, [100, 300, 0, 20])
        assert len(np.unique(some.x[:100], axis=0)) == 100
        assert abs(some.target[:100].mean() - share) <= 1 / 100
        np.testing.assert_array_equal(some.x[100:400], problem.x[900:1200])
        seen |= set(some.x[:100, 0].tolist())
    assert len(seen) > 890
    assert seen <= set(problem.x[:900, 0].tolist())
    at_5 = fresh_problem(problem, most, 5).x.copy()
    fresh_problem(problem, most, 6)
    np.testing.assert_array_equal(fresh_problem(problem, most, 5).x, at_5)
    alone = Problem(problem.model, problem.loss, problem.penalty, [(problem.x[:900], problem.target[:900])])
    np.testing.assert_array_equal(fresh_problem(alone, most[:1], 5).x, at_5[:100])
    assert fresh_problem(problem, problem.agent_rows, 0) is problem


def test_fresh_slices_count_their_own_weights():
    rng = np.random.default_rng(0)
    x, d, c = rng.standard_normal((400, 3)), rng.standard_normal((400, 1)), rng.integers(0, 3, 400).astype(float)
    surrogate = PartialLinearization(curvature_rows=50, curvature_slices="fresh", solver="dual")
    problem = Problem(MLP([3, 60, 1]), SquaredError(), L2(alpha=0.1), [(x, d, c), (x[:20], d[:20], c[:20])])
    for t in (0, 7):
        some = surrogate.rows(problem, t)
        assert some.agent_weight[0] == some.weight[:50].sum()
        assert (some.weight > 0).all()
        np.testing.assert_allclose(surrogate.kappas(some), problem.n_total / some.agent_weight)
        of_row = surrogate.scaled_root(some, np.zeros((2, 301)))[:, 0] ** 2
        np.testing.assert_allclose(some.by_agent(of_row), np.ones(2))
        np.testing.assert_allclose(some.gram[:2500].reshape(50, 50), some.x[:50] @ some.x[:50].T)


@pytest.mark.parametrize(("solver", "curvature_rows", "slices"), [
    ("auto", "auto", "fixed"), ("auto", 40, "fixed"), ("auto", 40, "fresh"), ("primal", 40, "fixed"),
    ("dual", 40, "fresh"), ("cg", 40, "fresh"), ("fista", 40, "fixed"),
])  # fmt: skip
def test_the_end_is_that_of_all_rows(solver, curvature_rows, slices):
    """Gradients are of all rows, so that only the way there is another."""
    ends = []
    for options in ({}, {"curvature_rows": curvature_rows, "curvature_slices": slices}):
        algorithm = NEXT(PartialLinearization(solver=solver, **options))
        result = run(make_problem((300, 150, 0, 60), penalty=L2(alpha=0.02)), algorithm, 300, tol=1e-6)
        assert result.converged
        ends.append(result.history["objective"][-1])
    assert ends[1] == pytest.approx(ends[0], rel=2e-5)


@pytest.mark.parametrize("surrogate", [
    PartialLinearization(curvature_rows="auto"), PartialLinearization(curvature_rows=50, n_blocks=3),
    PartialLinearization(curvature_rows=50, solver="cg"),
    PartialLinearization(curvature_rows=50, curvature_slices="fresh"),
], ids=repr)  # fmt: skip
@pytest.mark.parametrize("loss", [SquaredError(), Softmax()], ids=repr)
def test_no_bit_depends_on_threads(surrogate, loss):
    one, three = (run(make_problem(loss=loss, n_threads=k), NEXT(surrogate), 8).w for k in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_curvature_is_that_of_the_rows_taken_with_their_own_kappa():
    problem, surrogate = make_problem(loss=SquaredError()), PartialLinearization(curvature_rows=80, solver="primal")
    some = surrogate.rows(problem)
    kappa = surrogate.kappas(some)
    np.testing.assert_allclose(kappa, [1260 / 80, 1260 / 80, 0, 1260 / 60])
    w = np.tile(problem.model.init(0), (4, 1))
    root = surrogate.scaled_root(some, w)
    a = some.gauss_newton(w, root).reshape(4, problem.n_params, -1)
    each = Problem(problem.model, problem.loss, None, [(some.x[:80], some.target[:80])])
    np.testing.assert_allclose(a[0], each.gauss_newton(w[:1], each.root(w[:1])).reshape(a[0].shape), atol=1e-12)
    assert not a[2].any()


def test_conjugate_gradients_take_half_the_steps_on_some_rows(monkeypatch):
    problem, most, plain = make_problem(), [], Problem.cg_solve

    def watched(self, w, root, diag, rhs, n_iter, tol, out):
        most.append(n_iter)
        return plain(self, w, root, diag, rhs, n_iter, tol, out)

    monkeypatch.setattr(Problem, "cg_solve", watched)
    state = run(problem, NEXT(), 2).state
    state.tau[:] = 1e-6
    for options, steps in (({}, 10), ({"curvature_rows": 50}, 5), ({"curvature_rows": 900}, 10),
                           ({"curvature_rows": 50, "inner_iter": 7}, 7)):  # fmt: skip
        PartialLinearization(solver="cg", **options).at(problem, state).argmin(out=state.w_hat.copy())
        assert most.pop() == steps


def test_the_unit_of_tau_takes_some_rows():
    problem = make_problem(rows=(2000, 700, 0, 60))
    w = np.tile(problem.model.init(0), (4, 1))
    some = some_rows(problem)
    np.testing.assert_array_equal(some.agent_rows, [256, 256, 0, 60])
    exact = mean_curvature(problem, w, own_shares(problem))
    assert mean_curvature(some, w, own_shares(some)) == pytest.approx(exact, rel=0.2)
    assert PartialLinearization().scale(problem, w) == mean_curvature(some, w, own_shares(some))


@pytest.mark.parametrize("algorithm", [
    NEXT(PartialLinearization(curvature_rows=50)), NEXT(FullLinearization(), oracle=Growing(every=3)),
    NEXT(PartialLinearization(curvature_rows=50, curvature_slices="fresh")),
], ids=repr)  # fmt: skip
def test_a_resumed_run_has_the_same_bits(algorithm, tmp_path):
    whole = run(make_problem(), algorithm, 14).w
    problem = make_problem()
    run(problem, algorithm, 7, callbacks=[Checkpoint(tmp_path, every=7)])
    again = run(make_problem(), algorithm, 14, resume=checkpoint.read(tmp_path, problem.runtime)).w
    np.testing.assert_array_equal(again, whole)


def test_growing_rows_end_where_all_rows_do_and_carry_the_trackers_on():
    penalty = L1(alpha=1e-2)
    plain = run(make_problem(penalty=penalty), NEXT(FullLinearization()), 600, tol=1e-6)
    seen = []

    def look(state, metrics):
        seen.append((state.y.mean(axis=0), state.grad.mean(axis=0)))

    grown = run(
        make_problem(penalty=penalty), NEXT(FullLinearization(), oracle=Growing()), 600, tol=1e-6, callbacks=[look]
    )
    assert plain.converged
    assert grown.converged
    assert grown.history["objective"][-1] == pytest.approx(plain.history["objective"][-1], rel=1e-4)
    for y, grad in seen[:60]:
        np.testing.assert_allclose(y, grad, atol=1e-12)


def test_growth_is_the_oracle_of_growing_rows():
    plain, grown = FullLinearization(), FullLinearization(growth=3.0)
    assert (plain.oracle, repr(grown.oracle), repr(grown)) == (
        None, "Growing(growth=3.0)", "FullLinearization(growth=3.0)",
    )  # fmt: skip
    assert (grown.growth, grown.get_params()["growth"]) == (plain.growth, 3.0)  # the first is that of the rule for tau
    one, other = (run(make_problem(), NEXT(**options), 12).w for options in (
        {"surrogate": grown}, {"surrogate": plain, "oracle": Growing(growth=3.0)},
    ))  # fmt: skip
    np.testing.assert_array_equal(one, other)
    for unfit in (1.0, 0.5, -1, "x", np.inf, np.nan, 10**400, True):
        with pytest.raises(ValueError, match="growth must be None or a finite number above 1, got"):
            FullLinearization(growth=unfit)
    with pytest.raises(ValueError, match=r"oracle must be None with surrogate=FullLinearization\(growth=3.0\)"):
        NEXT(grown, oracle=Growing())


@pytest.mark.parametrize(("options", "words"), [
    ({"curvature_rows": "al"}, "must be 'all', 'auto' or a whole number of at least 1, got 'al'. Did you mean 'all'?"),
    ({"curvature_rows": 0}, "must be 'all', 'auto' or a whole number"), ({"curvature_rows": 3.7}, "or a whole number"),
    ({"kappa": "Auto"}, "kappa must be 'auto' or a finite number above 0, got 'Auto'. Did you mean 'auto'?"),
    ({"kappa": np.ones(2)}, "kappa must be 'auto' or a finite number above 0, got array"),
    ({"inner_iter": 2.0}, "inner_iter must be None or a whole number of at least 1, got 2.0"),
    ({"curvature_rows": 50, "curvature": "shared"}, "unless curvature='own'"),
    ({"curvature_rows": "auto", "exact": True}, "unless curvature='own'"),
    ({"curvature_rows": "auto", "kappa": 1.0}, "kappa='auto'"),
    ({"curvature_rows": 50, "curvature_slices": "new"}, "curvature_slices must be"),
    ({"curvature_slices": "fresh"}, "curvature_rows must be 'auto' or a number"),
])  # fmt: skip
def test_unfit_rows_are_refused(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        PartialLinearization(**options)


@pytest.mark.parametrize(("options", "words"), [
    ({"first": 0}, "first must be a number between 0 (not included) and 1, got 0"),
    ({"first": 1.5}, "first must be a number between 0 (not included) and 1, got 1.5"),
    ({"growth": 0.5}, "growth must be a finite number above 1, got 0.5"),
    ({"growth": "x"}, "growth must be a finite number above 1, got 'x'"),
    ({"every": 0}, "every must be a whole number of at least 1, got 0"),
])  # fmt: skip
def test_unfit_growth_is_refused(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Growing(**options)
    with pytest.raises(ValueError, match="oracle must give the true gradient"):
        NEXT(PartialLinearization(), oracle=Growing())


def test_softmax_has_sixteen_rows_times_its_classes_by_their_shares():
    target = np.eye(12)[np.arange(900) % 12]
    x = np.random.default_rng(0).standard_normal((900, 3))
    classes, numbers = (
        PartialLinearization(curvature_rows="auto").rows(Problem(MLP([3, 4, 12]), loss, L2(1e-3), [(x, target)] * 2))
        for loss in (Softmax(), SquaredError())
    )
    np.testing.assert_array_equal(classes.target.sum(axis=0), 32)
    assert numbers.agent_rows.tolist() == [128, 128]
    rare = np.eye(12)[np.where(np.arange(900) < 100, np.arange(900) % 12, 0)]
    some = PartialLinearization(curvature_rows="auto").rows(Problem(MLP([3, 4, 12]), Softmax(), L2(1e-3), [(x, rare)]))
    assert len(some.target) == 16 * 12
    np.testing.assert_allclose(some.target.mean(axis=0), rare.mean(axis=0), atol=1 / 192)


def test_some_rows_are_solved_by_conjugate_gradients():
    problem = make_problem()
    s = run(problem, NEXT(), 1).state
    s.takes_inexact = False  # or they are taken with all rows, too
    for options, solver in (
        ({}, "primal"), ({"curvature_rows": 50}, "cg"), ({"curvature_rows": 900}, "primal"),
        ({"curvature_rows": 50, "n_blocks": 3}, "primal"), ({"curvature_rows": 50, "solver": "dual"}, "dual"),
    ):  # fmt: skip
        assert PartialLinearization(**options).at(problem, s).solver == solver
