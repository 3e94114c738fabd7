"""The loop around the recipes: history, stopping, callbacks, the alarm and what a run says."""

import re

import numpy as np
import pytest

from dnnext.algorithms import DGD, NEXT, Algorithm, CentralizedSCA, ConvergenceWarning, GradientTracking
from dnnext.algorithms.base import State
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import L1, L2, MLP, Logistic, Penalty, Problem, SquaredError
from dnnext.problem.final_step import final_prox
from dnnext.runs.alarm import Alarm
from dnnext.runs.history import COLUMNS

ALGORITHMS = [
    NEXT(), NEXT(FullLinearization()), NEXT(step=0.5, mu=0.05), GradientTracking(), GradientTracking(form="diging"),
    DGD(), CentralizedSCA(),
]  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
def test_every_algorithm_lowers_the_objective_and_measures_it(make_problem, algorithm, penalty):
    problem = make_problem(5, penalty=penalty)
    result = algorithm.run(problem, Network(Topology.ring(5)), max_iter=40)
    history = result.history
    assert tuple(history) == COLUMNS
    assert {len(column) for column in history.values()} == {41}
    assert history["objective"][-1] < history["objective"][0]
    assert all(np.all(np.isfinite(column)) for column in history.values())
    assert history["objective"][-1] == pytest.approx(problem.value(result.w_bar), rel=1e-12)
    np.testing.assert_array_equal(history["iteration"], np.arange(41))
    assert np.all(np.diff(history["seconds"]) > 0)


def test_bytes_count_directed_edges_times_row_bytes_times_rounds(make_problem):
    problem = make_problem(5)
    network = Network(Topology.ring(5))
    history = NEXT().run(problem, network, max_iter=7).history
    row = 8 * (2 * problem.n_params + 1)  # z, y and the rule's scalar
    assert history["bytes"][-1] == 10 * row * history["round"][-1]
    assert history["round"][-1] == 7 * network.rounds_per_mix


def test_diminishing_steps_follow_their_law(make_problem):
    history = NEXT(step=0.5, mu=0.1).run(make_problem(3), Network(Topology.ring(3)), max_iter=3).history
    np.testing.assert_allclose(history["step"][1:], [0.5, 0.475, 0.4524375])


def test_monitor_every_and_last_iteration(make_problem):
    history = NEXT().run(make_problem(3), Network(Topology.ring(3)), max_iter=7, monitor_every=3).history
    np.testing.assert_array_equal(history["iteration"], [0, 3, 6, 7])


def test_tolerance_ends_the_run(make_problem):
    result = NEXT().run(make_problem(3), Network(Topology.ring(3)), max_iter=5000, tol=1e-4)
    assert result.converged
    assert result.status == "converged"
    assert result.n_iter < 5000


def test_a_run_cut_short_says_so(make_problem):
    with pytest.warns(ConvergenceWarning, match="still falling"):
        NEXT(FullLinearization()).run(make_problem(3), Network(Topology.ring(3)), max_iter=12, tol=1e-9)


def test_callbacks_end_the_run_and_their_errors_pass_through(make_problem):
    problem, network = make_problem(3), Network(Topology.ring(3))
    result = NEXT().run(problem, network, max_iter=50, callbacks=[lambda s, m: m["iteration"] >= 4])
    assert (result.status, result.n_iter) == ("callback", 4)

    def fail(s, metrics):
        raise RuntimeError("the callback's own trouble")

    with pytest.raises(RuntimeError, match="own trouble"):
        NEXT().run(problem, network, max_iter=50, callbacks=[fail])


def test_ctrl_c_keeps_the_best_model(make_problem):
    def interrupt(s, metrics):
        if s.t == 5:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted after 5"):
        result = NEXT().run(make_problem(3), Network(Topology.ring(3)), max_iter=50, callbacks=[interrupt])
    assert result.status == "interrupted"
    assert np.all(np.isfinite(result.w_bar))


def test_max_time_ends_the_run(make_problem):
    result = NEXT().run(make_problem(3), Network(Topology.ring(3)), max_iter=10**6, max_time=0.05)
    assert result.status == "max_time"


@pytest.mark.parametrize(
    "algorithm", [NEXT(FullLinearization(), tau=1e-5), GradientTracking(step=1e5), DGD(step=1e5, mu=0)]
)
def test_divergence_is_named_and_the_best_model_kept(make_problem, algorithm):
    problem = make_problem(5)
    with pytest.warns(ConvergenceWarning, match=r"agent \d+ in iteration \d+ \(round \d+\)"):
        result = algorithm.run(problem, Network(Topology.ring(5)), max_iter=200)
    assert result.status == "diverged"
    assert np.all(np.isfinite(result.w_bar))
    assert np.all(np.isfinite(result.w))
    assert problem.value(result.w_bar) <= result.history["objective"][0]


def test_after_divergence_all_parts_of_the_result_are_the_kept_model(make_problem):
    problem = make_problem(5)
    result = NEXT(FullLinearization(), tau=1e-5).run(problem, Network(Topology.ring(5)), max_iter=200, warn=False)
    assert result.status == "diverged"
    np.testing.assert_allclose(result.w.mean(axis=0), result.w_bar, atol=1e-12)


@pytest.mark.parametrize("tau", [0.07, 0.15])
def test_a_tamed_or_swinging_run_has_not_converged(make_problem, tau):
    problem = make_problem(5)
    result = NEXT(FullLinearization(), tau=tau).run(
        problem, Network(Topology.ring(5)), max_iter=400, tol=1e-4, warn=False
    )
    lowest = result.history["objective"].min()
    assert problem.value(result.w_bar) <= lowest * (1 + 1e-3)
    if result.converged:
        assert result.history["objective"][-1] <= lowest * (1 + 1e-3)


class _Overshoot(NEXT):
    """NEXT whose last iteration goes too far, but not so far that the alarm rings."""

    def step(self, problem, network, s):
        super().step(problem, network, s)
        if s.t == 7:
            s.w = s.w + 0.1
            s.values = problem.loss_grad(s.w, s.grad)


def test_a_run_that_ends_above_its_best_says_so_and_keeps_it(make_problem):
    problem = make_problem(5)
    with pytest.warns(ConvergenceWarning, match="above the lowest"):
        result = _Overshoot().run(problem, Network(Topology.ring(5)), max_iter=8)
    assert problem.value(result.w_bar) == pytest.approx(result.history["objective"].min(), rel=1e-12)


def test_every_iteration_has_its_row_alarms_included(make_problem):
    result = NEXT(FullLinearization(), tau=0.05).run(
        make_problem(5), Network(Topology.ring(5)), max_iter=30, warn=False
    )
    np.testing.assert_array_equal(result.history["iteration"], np.arange(31))


def test_a_sure_start_leaves_the_rule_a_scale(make_problem):
    base = make_problem(4, rows=20)
    cuts = zip(base.offsets[:-1], base.offsets[1:], strict=True)
    shards = [(base.x[a:b], (base.target[a:b] > 0) * 1.0) for a, b in cuts]
    problem = Problem(base.model, Logistic(), L2(alpha=1e-2), shards)
    w0 = 12 * problem.model.init(0)
    for surrogate in (PartialLinearization(), FullLinearization()):
        result = NEXT(surrogate).run(problem, Network(Topology.ring(4)), w0=w0, max_iter=200)
        assert result.warning is None
        assert result.history["objective"][-1] < 0.5 * result.history["objective"][0]


def test_no_seed_is_one_start_on_all_ranks(lockstep):
    def program(runtime):
        rng = np.random.default_rng(0)
        shards = [(rng.standard_normal((5, 2)), rng.standard_normal(5)) for _ in range(4)]
        local = [shards[i] for i in runtime.agents]
        problem = Problem(MLP([2, 3, 1]), SquaredError(), L2(alpha=1e-2), local, runtime=runtime)
        network = Network(Topology.ring(4), runtime=runtime)
        return NEXT().run(problem, network, max_iter=1, random_state=None).history["disagreement"][0]

    assert max(lockstep(4, 2, program)) < 1e-25


class _Positive(Penalty):
    """Weights that must not be negative; in double precision whatever comes."""

    def value(self, w):
        return 0.0 if np.all(w[self.layout.mask > 0] >= 0) else np.inf

    def prox(self, v, s):
        return np.where(self.layout.mask > 0, np.maximum(v, 0), v).astype(np.float64)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_a_penalty_in_python_works_in_every_algorithm(make_problem, algorithm, dtype):
    problem = make_problem(4, penalty=_Positive(), dtype=dtype)
    result = algorithm.run(problem, Network(Topology.ring(4)), max_iter=30, warn=False)
    assert result.w.dtype == np.dtype(dtype)
    assert np.all(result.w[:, problem.model.mask > 0] >= -1e-6)
    assert result.history["objective"][-1] < result.history["objective"][0]


def test_one_alarm_tames_the_run(make_problem):
    problem = make_problem(5)
    algorithm = NEXT(FullLinearization(), tau=0.05)
    with pytest.warns(ConvergenceWarning, match="went on"):
        result = algorithm.run(problem, Network(Topology.ring(5)), max_iter=300)
    assert result.status == "max_iter"
    assert result.history["objective"][-1] < 0.9 * result.history["objective"][0]
    np.testing.assert_allclose(result.y.mean(axis=0), problem.grad(result.w).mean(axis=0), atol=1e-12)


def test_all_agents_return_to_the_same_iteration(make_problem):
    problem = make_problem(4)
    s = State.at(problem, np.tile(problem.model.init(0), (4, 1)))
    alarm, algorithm = Alarm(problem, s), NEXT()
    start = s.w.copy()
    s.w = s.w + 1
    s.t = 10
    alarm.save(s)
    s.w = s.w + 1
    alarm.restore(problem, s, algorithm)
    np.testing.assert_array_equal(s.w, start)
    np.testing.assert_array_equal(s.y, problem.grad(start))
    np.testing.assert_array_equal(s.tau, 10)


def test_shrinking_weights_are_no_alarm(make_problem):
    problem = make_problem(5, rows=40, penalty=L1(alpha=1.0))
    result = NEXT().run(problem, Network(Topology.ring(5)), max_iter=60)
    assert result.warning is None
    assert np.abs(result.w).max() < 1


@pytest.mark.parametrize("schedule", ["failing", "gossip"])
def test_a_changing_graph_ends_where_the_fixed_one_does(make_problem, schedule):
    problem, net = make_problem(6), Topology.ring(6)
    kinds = {
        "failing": lambda: Schedule.link_failures(net, p=0.5, random_state=0),
        "gossip": lambda: Schedule.gossip(net, random_state=0),
    }
    fixed = NEXT().run(problem, Network(net), max_iter=300)
    changing = NEXT().run(problem, Network(kinds[schedule]()), max_iter=300)
    assert changing.history["objective"][-1] == pytest.approx(fixed.history["objective"][-1], rel=0.01)


def test_final_prox_reveals_zeros_and_never_raises_the_objective(make_problem):
    problem = make_problem(4, penalty=L1(alpha=0.05))
    result = NEXT().run(problem, Network(Topology.ring(4)), max_iter=60)
    w, views = final_prox(problem, result.w_bar, result.w, result.y)
    assert problem.value(w) <= problem.value(result.w_bar)
    weights = problem.model.mask > 0
    assert np.mean(w[weights] == 0) > 0.3
    assert np.mean(views[:, weights] == 0) > 0.3


def test_final_prox_leaves_smooth_penalties_alone(make_problem):
    problem = make_problem(4)
    w = problem.model.init(0)
    assert final_prox(problem, w)[0] is w


def test_w0_can_be_one_row_or_one_per_agent(make_problem):
    problem, network = make_problem(3), Network(Topology.ring(3))
    w0 = problem.model.init(5)
    common = NEXT().run(problem, network, w0=w0, max_iter=3)
    same = NEXT().run(problem, network, w0=np.tile(w0, (3, 1)), max_iter=3)
    np.testing.assert_array_equal(common.w, same.w)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"w0": np.zeros(3)}, "w0 must have shape"),
        ({"w0": np.full(26, np.nan)}, "w0 must hold finite"),
        ({"w0": np.zeros(26)}, "exact saddle"),
        ({"w0": np.ones(26) * 1j}, "must hold real"),
        ({"callbacks": print}, "list of callables"),
        ({"tol": "a"}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"max_time": 0.0}, "max_time"),
        ({"monitor_every": 0}, "monitor_every"),
    ],
)
def test_bad_arguments_are_named(make_problem, options, match):
    with pytest.raises(ValueError, match=match):
        NEXT().run(make_problem(3), Network(Topology.ring(3)), **options)


class Several(Penalty):
    """Returns arrays in place of a number, or NaN in place of weights."""

    def __init__(self, bad):
        self.bad = bad

    def value(self, w):
        return np.zeros(3) if self.bad == "value" else 0.0

    def prox(self, v, s):
        return v * np.nan if self.bad == "prox" else v


class Flat(Algorithm):
    """A step that leaves one row of weights."""

    def start(self, problem, s):
        s.tau[:] = 1.0

    def step(self, problem, network, s):
        s.w = s.w[0]


def test_parts_of_ones_own_that_return_something_else_are_named(make_problem):
    network = Network(Topology.ring(3))
    with pytest.raises(ValueError, match=r"value of Several\(.*\) must be one number, got shape \(3,\)"):
        NEXT().run(make_problem(3, penalty=Several("value")), network)
    with pytest.raises(ValueError, match=r"the stationarity nan: .* a loss or penalty of your own is not finite"):
        NEXT().run(make_problem(3, penalty=Several("prox")), network)
    with pytest.raises(ValueError, match=r"a step of Flat\(\) must leave s.w of shape \(3, \d+\), got"):
        Flat().run(make_problem(3), network)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: NEXT(tau="ratios"), "tau must be 'auto', 'signed', 'ratio', 'nielsen' or a finite number above 0, got"),
    (lambda: NEXT(tau=0), "tau must be 'auto', 'signed', 'ratio', 'nielsen' or a finite number above 0, got 0."),
    (lambda: NEXT(tau=None), "or a finite number above 0, got None."),
    (lambda: NEXT(step="al"), "step must be 'auto' or a finite number above 0, got 'al'."),
    (lambda: NEXT(step=-1), "step must be 'auto' or a finite number above 0, got -1."),
    (lambda: NEXT(step=2), "step must be in (0, 1], got 2"),
    (lambda: DGD(step="Auto"), "step must be 'auto' or a finite number above 0, got 'Auto'. Did you mean 'auto'?"),
    (lambda: DGD(step=np.nan), "step must be 'auto' or a finite number above 0, got nan."),
    (lambda: DGD(step=2, mu=0.5), "mu must be in [0, 0.5) with step = 2"),
])  # fmt: skip
def test_words_and_numbers_that_are_allowed_stand_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


@pytest.mark.parametrize(("name", "value", "allowed"), [
    ("growth", 0, "a finite number above 0"), ("growth", "3", "a finite number above 0"),
    ("decay", 0.5, "a finite number of at least 1"), ("decay", np.inf, "a finite number of at least 1"),
])  # fmt: skip
def test_constants_of_ones_own_surrogate_are_checked(make_problem, name, value, allowed):
    surrogate = type("Mine", (FullLinearization,), {name: value})()
    with pytest.raises(ValueError, match=f"Mine.{name} must be {allowed}, got {value!r}"):
        NEXT(surrogate).run(make_problem(3), Network(Topology.ring(3)))


def test_problem_and_network_must_count_the_same_agents(make_problem):
    with pytest.raises(ValueError, match=r"network must have the 3 agents .* got 4"):
        NEXT().run(make_problem(3), Network(Topology.ring(4)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NEXT(surrogate="full"), lambda: NEXT(surrogate=FullLinearization), lambda: NEXT(step=None),
        lambda: NEXT(mu="x"), lambda: NEXT(tau=-1), lambda: NEXT(tau="big"), lambda: NEXT(step=1.5),
        lambda: NEXT(step="x"), lambda: NEXT(step=0.5, mu=2.0), lambda: GradientTracking(step=0),
        lambda: GradientTracking(form="x"), lambda: DGD(step=-1), lambda: DGD(step="x"),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused(make):
    with pytest.raises(ValueError, match=r"tau|step|mu|form|surrogate"):
        make()


def test_a_result_is_printed_without_its_arrays(make_problem):
    result = NEXT().run(make_problem(), Network(Topology.ring(4)), max_iter=3)
    text = repr(result)
    assert text.startswith(f"Result('max_iter' after 3 iterations: objective {result.history['objective'][-1]:.4g}, ")
    assert text.endswith(f"w 4 x {result.w.shape[1]})")
    assert len(text) < 200
