"""curvature="exact": the sum of all agents' Gauss-Newton matrices, along a tree; one factorisation for all agents."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT, CentralizedSCA, Newton
from dnnext.local import PartialLinearization, common
from dnnext.models import Chain, Dense
from dnnext.network import Faults, KnownLoss, Network, RunningSums, Schedule, Topology
from dnnext.problem import L1, L2, MLP, GroupLasso, Huber, Logistic, Loss, Penalty, Problem, Softmax, SquaredError
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runs.state import State

NET = Topology.erdos_renyi(6, random_state=1)


def recipe(tau="auto", **options):
    return NEXT(PartialLinearization(curvature="exact", **options), tau=tau)


def rises(history):
    return np.max(np.diff(history["objective"])) / history["objective"][0]


def gathered(problem, network, spread=0.0):
    rng = np.random.default_rng(1)
    w = problem.model.init(0) + spread * rng.standard_normal((problem.n_local, problem.n_params))
    s = State.at(problem, w)
    surrogate = PartialLinearization(curvature="exact")
    surrogate.gather(problem, network, s)
    return surrogate, s


def test_the_matrix_is_the_sum_over_all_agents(make_problem):
    problem, network = make_problem(6), Network(NET)
    surrogate, s = gathered(problem, network, 0.1)
    wanted = problem.gauss_newton(s.w, problem.root(s.w)).sum(axis=0).reshape(2 * (problem.n_params,))
    model = surrogate.at(problem, s)
    np.testing.assert_allclose(model.matrix, wanted, rtol=1e-5, atol=1e-7)  # sent in single precision
    assert surrogate.scale(problem, s.w) == pytest.approx(np.trace(wanted) / problem.n_params)
    p = problem.n_params
    assert network.bytes == 2 * 5 * (p * p + p) // 2 * 4
    np.testing.assert_array_equal(common.unpacked(np.arange(6.0), 3), [[0, 1, 2], [1, 3, 4], [2, 4, 5]])


class Ridge(Penalty):
    """1/2 alpha |w|^2 by its prox alone: what a user writes."""

    def __init__(self, alpha=1e-2):
        self.alpha = alpha

    def value(self, w):
        return 0.5 * self.alpha * float(self.layout.mask @ (w * w))

    def prox(self, v, s):
        return v / (1 + np.outer(s, self.alpha * self.layout.mask))


@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2), GroupLasso(alpha=1e-2), Ridge()], ids=repr)
def test_the_best_response_minimises_the_model(make_problem, penalty):
    problem = make_problem(6, penalty=penalty)
    surrogate, s = gathered(problem, Network(NET), 0.1)
    surrogate.inner_iter = 2000
    s.tau[:] = np.linspace(0.1, 0.6, 6)  # not one tau for all
    model, out = surrogate.at(problem, s), np.empty_like(s.w)
    model.argmin(out)
    for i, v in enumerate(out):
        slope = model.matrix @ (v - s.w[i]) + 6 * s.y[i] + s.tau[i] * (v - s.w[i])
        again = problem.prox((v - slope)[None], np.ones(1))[0]
        np.testing.assert_allclose(again, v, atol=2e-5)
    np.testing.assert_allclose(model.product(out)[2], model.matrix @ out[2], rtol=1e-12)


@pytest.mark.parametrize("loss", [SquaredError(), Logistic(), Huber(), Softmax()], ids=repr)
@pytest.mark.parametrize("graph", [NET, Topology.star(6)], ids=["random", "star"])
def test_no_iteration_raises_the_objective_and_fewer_are_needed(make_problem, loss, graph):
    n_outputs = 3 if isinstance(loss, Softmax) else 1
    whole = make_problem(6, layers=(3, 5, n_outputs), rows=20)
    target = {
        "Logistic": (whole.target > 0) * 1.0,
        "Softmax": np.eye(3)[whole.target.argmax(axis=1)] if n_outputs == 3 else None,
    }.get(repr(loss)[:-2], whole.target)
    order = np.argsort(target.argmax(axis=1) if n_outputs == 3 else target[:, 0], kind="stable")
    shards = [(whole.x[rows], target[rows]) for rows in np.array_split(order, 6)]
    problem = Problem(whole.model, loss, L2(alpha=1e-2), shards)
    exact = recipe().run(problem, Network(graph), max_iter=20, warn=False).history["objective"]
    own = NEXT().run(problem, Network(graph), max_iter=60, warn=False).history["objective"]
    assert np.max(np.diff(exact)) <= 1e-12 * exact[0]
    assert exact[-1] < own[40]


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"penalty": L1(alpha=1e-3)}], ids=["float32", "l1"])
def test_single_precision_and_l1(make_problem, options):
    history = recipe().run(make_problem(6, rows=20, **options), Network(NET), max_iter=25, warn=False).history
    assert rises(history) <= (1e-6 if "dtype" in options else 1e-12)
    assert history["objective"][-1] < 0.6 * history["objective"][0]


def test_rounds_are_one_message_and_one_sum_per_accepted_anchor(make_problem):
    problem, network, refused, anchors = make_problem(6, seed=3), Network(NET), [], set()
    recipe(tau=1e-4).run(problem, network, max_iter=3, warn=False)
    per_mix, tree = network.rounds_per_mix, 2 * network._tree.radius
    assert network.round == 4 * per_mix + 3 * tree
    network = Network(NET)

    def look(s, _):
        refused.append(s.is_refused)
        anchors.add(s.memory[common.ANCHOR].tobytes())

    recipe().run(make_problem(6, seed=3), network, max_iter=30, callbacks=[look], warn=False)
    assert sum(refused)
    assert 10 < len(anchors) < 30 - sum(refused[:-1])  # short steps that were predicted well keep the matrix
    assert network.round == 31 * per_mix + len(anchors) * tree


def test_a_process_factors_the_matrix_once_for_all_its_agents(make_problem, monkeypatch):
    calls, factored = [], common._factored
    monkeypatch.setattr(common, "_factored", lambda *args: calls.append(args) or factored(*args))
    recipe().run(make_problem(6), Network(NET), max_iter=7, warn=False)
    assert len(calls) == 7


@pytest.mark.parametrize("layers", [(3, 5, 1), (3, 1)], ids=["hidden", "linear"])
def test_a_resumed_run_has_the_same_bits_rounds_and_bytes(make_problem, tmp_path, layers):
    def run(**options):
        problem = make_problem(6, layers=layers, seed=3)
        return recipe().run(problem, Network(NET), **{"max_iter": 14, "warn": False, **options})

    whole = run()
    for after in (3, 8, 11):  # refused with an older matrix after 8, one that was kept after 11
        run(max_iter=after, callbacks=[Checkpoint(tmp_path / str(after), every=after)])
        again = run(resume=lambda runtime, after=after: checkpoint.read(tmp_path / str(after), runtime))
        np.testing.assert_array_equal(again.w, whole.w)
        for name in ("objective", "round", "bytes", "tau"):
            np.testing.assert_array_equal(again.history[name], whole.history[name])


def test_squared_error_without_hidden_layer_sends_its_matrix_once(make_problem):
    network = Network(NET)
    recipe(tau=0.1).run(make_problem(6, layers=(3, 1)), network, max_iter=5, warn=False)
    assert network.round == 6 * network.rounds_per_mix + 2 * network._tree.radius


def test_ranks_and_threads_change_no_bit(make_problem, lockstep):
    def run(runtime=None, n_threads=1):
        whole = make_problem(6)
        agents = range(6) if runtime is None else runtime.agents
        shards = [(whole.x[a:b], whole.target[a:b]) for a, b in zip(whole.offsets, whole.offsets[1:], strict=False)]
        problem = Problem(
            whole.model, whole.loss, L2(alpha=1e-2), [shards[i] for i in agents], runtime=runtime, n_threads=n_threads
        )
        return recipe().run(problem, Network(NET, runtime=runtime), max_iter=8, warn=False)

    whole = run()
    np.testing.assert_array_equal(run(n_threads=2).w, whole.w)
    for n_ranks in (2, 3):
        parts = lockstep(6, n_ranks, run)
        np.testing.assert_array_equal(np.concatenate([part.w for part in parts]), whole.w)
        for name in ("objective", "round", "bytes"):
            np.testing.assert_array_equal(parts[-1].history[name], whole.history[name])


def test_what_does_not_fit_is_a_sentence(make_problem):
    problem, faults = make_problem(6), Faults(loss=0.1, random_state=0)
    for network in (Network(Schedule.alternating(NET, 2)), KnownLoss(NET, faults), RunningSums(NET, faults)):
        with pytest.raises(ValueError, match=r"network must .* because (tau|surrogate)=.* needs that"):
            recipe().run(problem, network, max_iter=2)
    for options in ({"n_blocks": 2}, {"solver": "cg"}):
        with pytest.raises(ValueError, match="curvature='exact' forms one whole matrix"):
            recipe(**options)
    chain = Problem(Chain([Dense(2, "tanh"), Dense(1)], 3), SquaredError(), None, [(np.ones((2, 3)), np.ones(2))] * 6)
    with pytest.raises(ValueError, match="model must form Gauss-Newton matrices"):
        recipe().run(chain, Network(NET), max_iter=2)
    s = State.at(problem, np.zeros((6, problem.n_params)))
    with pytest.raises(ValueError, match="call gather"):
        recipe().surrogate.at(problem, s)


def newton(problem, graph=NET, **options):
    return Newton().run(problem, Network(graph), **{"max_iter": 15, "warn": False, **options})


@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-3)], ids=repr)
def test_newton_takes_the_steps_of_the_centralised_method(make_problem, penalty):
    problem = make_problem(6, seed=3, penalty=penalty)
    w0 = problem.model.init(0)
    central = CentralizedSCA(damping="lm").run(problem, Network(NET), w0=w0, max_iter=15, warn=False).history
    found = newton(problem, w0=w0).history
    np.testing.assert_allclose(found["objective"], central["objective"], rtol=1e-6)
    np.testing.assert_allclose(found["tau"][:8], central["tau"][:8], rtol=1e-2)
    assert rises(found) <= 1e-12
    p, tree = problem.n_params, 2 * Network(NET)._tree.radius
    assert found["round"][-1] == (2 + 15) * tree  # the common start, the sums there, and one per trial
    assert found["bytes"][-1] == 2 * 5 * 8 * (p + 16 * (1 + p + (p * p + p) // 2))


def test_newton_keeps_agents_equal_and_its_tracker_exact(make_problem):
    problem = make_problem(6, seed=3)
    rng = np.random.default_rng(0)
    result = newton(problem, w0=problem.model.init(0) + 0.1 * rng.standard_normal((6, problem.n_params)))
    np.testing.assert_array_equal(result.w, result.w[:1].repeat(6, axis=0))
    np.testing.assert_allclose(result.y.mean(axis=0), problem.grad(result.w).mean(axis=0), atol=1e-14)
    assert result.history["tracking_error"][-1] < 1e-20
    result.state.forget_rows()
    rounds, result.state.tau[:] = result.network.round, 0
    Newton().step(problem, result.network, result.state)
    assert result.network.round == rounds + 2 * result.network._tree.n_rounds  # the sums on other rows, and a trial
    assert np.all(result.state.tau > 0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_newton_is_resumed_and_runs_on_ranks_with_the_same_bits(make_problem, tmp_path, lockstep, dtype):
    whole = newton(make_problem(6, seed=3, dtype=dtype))
    assert whole.history["objective"][-1] < 0.5 * whole.history["objective"][0]
    newton(make_problem(6, seed=3, dtype=dtype), max_iter=7, callbacks=[Checkpoint(tmp_path, every=7)])
    again = newton(make_problem(6, seed=3, dtype=dtype), resume=lambda runtime: checkpoint.read(tmp_path, runtime))
    np.testing.assert_array_equal(again.w, whole.w)

    def run(runtime):
        data = make_problem(6, seed=3)
        cuts = [slice(*data.offsets[i : i + 2]) for i in runtime.agents]
        shards = [(data.x[rows], data.target[rows]) for rows in cuts]
        problem = Problem(data.model, data.loss, L2(alpha=1e-2), shards, runtime=runtime, dtype=dtype)
        return Newton().run(problem, Network(NET, runtime=runtime), max_iter=15, warn=False)

    for n_ranks in (2, 3):
        parts = lockstep(6, n_ranks, run)
        np.testing.assert_array_equal(np.concatenate([part.w for part in parts]), whole.w)
        for name in ("objective", "round", "bytes", "tau"):
            np.testing.assert_array_equal(again.history[name], whole.history[name])
            np.testing.assert_array_equal(parts[-1].history[name], whole.history[name])


def test_matrices_beyond_single_precision_are_sent_in_units_of_the_first():
    x = np.random.default_rng(0).standard_normal((6, 8, 2))
    shards = [(1e20 * each, np.sin(each[:, 0])) for each in x]
    problem = Problem(MLP([2, 3, 1], activation="relu"), SquaredError(), None, shards)
    objective = recipe().run(problem, Network(NET), max_iter=8, warn=False).history["objective"]
    assert objective[-1] < 0.5 * objective[0]


class Exponential(Loss):
    """``sum_q e^f - d f``, which overflows, and is flat far to the left."""

    def value(self, f, d):
        return np.sum(np.exp(f) - d * f, axis=1)

    def grad(self, f, d):
        return np.exp(f) - d

    def curvature_root(self, f, d):
        return np.exp(0.5 * f)

    def best_output(self, d):
        return np.zeros_like(d)


@pytest.mark.parametrize("method", [Newton(), recipe(tau="nielsen")], ids=["newton", "next"])
def test_a_trial_that_overflows_is_taken_back_on_ranks_as_in_one_process(lockstep, method):
    x = np.random.default_rng(0).standard_normal((6, 9, 2))

    def program(runtime=None):
        shards = [(x[i], 3 + np.sin(x[i, :, 0])) for i in (range(6) if runtime is None else runtime.agents)]
        problem = Problem(MLP([2, 1]), Exponential(), L2(1e-6), shards, runtime=runtime)
        return method.run(problem, Network(NET, runtime=runtime), np.array([0, 0, -40.0]), max_iter=20, warn=False)

    whole = program()
    objective = whole.history["objective"]
    assert objective[1] == objective[0]  # the first step would go to e^3000
    assert objective[-1] < 0
    for part in lockstep(6, 2, program):
        np.testing.assert_array_equal(part.history["objective"], objective)
        np.testing.assert_array_equal(part.w_bar, whole.w_bar)
