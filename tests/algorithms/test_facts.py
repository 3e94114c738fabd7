"""The facts about NEXT that follow from its mathematics, each held against a loop of its own in plain NumPy."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT, CentralizedSCA, GradientTracking
from dnnext.kernels import reference
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import L1, L2, MLP, Huber, Logistic, NoPenalty, Problem, SquaredError


def jacobian(problem, row, i):
    """J of agent i, rows stacked (rows Q, P)."""
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    x = problem.x[rows]
    out = np.empty((len(x) * problem.target.shape[1], problem.n_params))
    root = np.ones((len(x), problem.target.shape[1]))
    reference.mlp_jacobian(out, row[None], x, root, problem.model.layers, problem.model.activation_code)
    return out


@pytest.mark.parametrize("surrogate", [FullLinearization(), PartialLinearization(), PartialLinearization(n_blocks=3)])
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
@pytest.mark.parametrize("kind", ["static", "failing"])
def test_trackers_sum_to_the_gradients_at_every_iteration(make_problem, surrogate, penalty, kind):
    problem = make_problem(6, penalty=penalty)
    net = Topology.ring(6)
    network = Network(net if kind == "static" else Schedule.link_failures(net, p=0.4, random_state=1))
    worst = []

    def watch(s, metrics):
        worst.append(np.abs(s.y.mean(axis=0) - s.grad.mean(axis=0)).max() / np.abs(s.grad).max())

    NEXT(surrogate).run(problem, network, max_iter=40, callbacks=[watch])
    assert len(worst) == 40
    assert max(worst) < 1e-12


def test_trackers_keep_the_invariant_in_single_precision(make_problem):
    problem = make_problem(6, dtype="float32")
    worst = []

    def watch(s, metrics):
        worst.append(np.abs(s.y.mean(axis=0) - s.grad.mean(axis=0)).max() / np.abs(s.grad).max())

    NEXT().run(problem, Network(Topology.ring(6)), max_iter=40, callbacks=[watch])
    assert max(worst) < 1e-5


def gauss_newton_loop(problem, w, tau, alpha, n_iter):
    """The centralised method on pooled data, squared error and l2: damped Gauss-Newton with one tau."""
    mask, trace = problem.model.mask, []
    for _ in range(n_iter):
        j = np.concatenate([jacobian(problem, w, i) for i in range(problem.n_local)])
        f = problem.raw_output(w)
        slope = j.T @ (f - problem.target).ravel() / problem.n_total + alpha * mask * w
        a = j.T @ j / problem.n_total + np.diag(tau + alpha * mask)
        w = w - np.linalg.solve(a, slope)
        trace.append(w)
    return trace


@pytest.mark.parametrize("n_agents", [1, 5])
def test_one_agent_or_equal_data_on_a_complete_graph_is_the_centralised_method(make_problem, n_agents):
    problem = make_problem(n_agents, equal=True)
    w0 = problem.model.init(3)
    trace = []
    NEXT(tau=0.3).run(
        problem, Network(Topology.complete(n_agents)), w0=w0, max_iter=25,
        callbacks=[lambda s, m: trace.append(s.w.mean(axis=0))],
    )  # fmt: skip
    # equal data: the pooled mean loss is any agent's own
    expected = gauss_newton_loop(problem, w0, 0.3, 1e-2, 25)
    np.testing.assert_allclose(np.array(trace), np.array(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("topology", [Topology.ring(10), Topology.star(10)])
def test_ten_agents_with_equal_data_train_as_one_under_the_automatic_rule(make_problem, topology):
    ten, one = make_problem(10, equal=True), make_problem(1)
    w0 = one.model.init(3)
    many = NEXT().run(ten, Network(topology), w0=w0, max_iter=60)
    alone = NEXT().run(one, Network(Topology.complete(1)), w0=w0, max_iter=60)
    np.testing.assert_allclose(many.history["objective"], alone.history["objective"], rtol=1e-9)
    np.testing.assert_allclose(many.w_bar, alone.w_bar, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kappa", ["auto", 1, 2.5])
def test_the_normal_equations_are_solved(make_problem, kappa):
    problem = make_problem(4, layers=(3, 4, 2))
    captured = {}

    def watch(s, metrics):
        captured.setdefault("w_hat", s.w_hat.copy())

    w0 = problem.model.init(0)
    surrogate = PartialLinearization(kappa=kappa)
    network = Network(Topology.ring(4))
    NEXT(surrogate, tau=0.05).run(problem, network, w0=w0, max_iter=1, callbacks=[watch], warn=False)
    grad = problem.grad(w0)
    for i in range(4):
        j = jacobian(problem, w0, i)
        weight = problem.n_total / problem.agent_weight[i] if kappa == "auto" else kappa
        a = weight * j.T @ j / problem.n_total + np.diag(0.05 + 1e-2 * problem.model.mask)
        expected = w0 - np.linalg.solve(a, 4 * grad[i] + 1e-2 * problem.model.mask * w0)
        np.testing.assert_allclose(captured["w_hat"][i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("topology", [Topology.complete(5), Topology.ring(5)])
def test_full_linearisation_without_penalty_is_atc_gradient_tracking(make_problem, topology):
    problem = make_problem(5, penalty=NoPenalty())
    tau, c, w0 = 4.0, topology.mixing.toarray(), problem.model.init(1)
    trace, tracked = [], []
    NEXT(FullLinearization(), tau=tau).run(
        problem,
        Network(topology, mixing_rounds=1),
        w0=w0,
        max_iter=200,
        callbacks=[lambda s, m: trace.append(s.w.copy())],
    )
    GradientTracking(step=1 / tau).run(
        problem,
        Network(topology, mixing_rounds=1),
        w0=w0,
        max_iter=200,
        callbacks=[lambda s, m: tracked.append(s.w.copy())],
    )
    w = np.tile(w0, (5, 1))
    grad = problem.grad(w)
    y = grad.copy()
    for t in range(200):
        w = c @ (w - (5 / tau) * y)
        new = problem.grad(w)
        y = c @ y + new - grad
        grad = new
        np.testing.assert_allclose(trace[t], w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.array(tracked), np.array(trace), rtol=0, atol=1e-13)


def test_diging_combines_while_adapting(make_problem):
    problem = make_problem(5, penalty=NoPenalty())
    topology, a = Topology.ring(5), 0.05
    c, w0, trace = topology.mixing.toarray(), problem.model.init(1), []
    GradientTracking(step=a, form="diging").run(
        problem,
        Network(topology, mixing_rounds=1),
        w0=w0,
        max_iter=50,
        callbacks=[lambda s, m: trace.append(s.w.copy())],
    )
    w = np.tile(w0, (5, 1))
    grad = problem.grad(w)
    y = grad.copy()
    for t in range(50):
        w = c @ w - a * 5 * y
        new = problem.grad(w)
        y = c @ y + new - grad
        grad = new
        np.testing.assert_allclose(trace[t], w, rtol=0, atol=1e-12)


class _Scaled(SquaredError):
    """The squared error times a number, through the path of a loss written in Python."""

    kernel = None
    factor = 8.0

    def value(self, f, d):
        return self.factor * super().value(f, d)

    def grad(self, f, d):
        return self.factor * super().grad(f, d)

    def curvature_root(self, f, d):
        return np.sqrt(self.factor) * super().curvature_root(f, d)


@pytest.mark.parametrize(
    "surrogate", [FullLinearization(), PartialLinearization(), PartialLinearization(solver="fista")]
)
def test_scaling_the_objective_changes_no_iterate(make_problem, surrogate):
    penalty = L2 if surrogate.growth == 3 or surrogate.solver == "auto" else L1
    runs = []
    for loss, alpha in ((SquaredError(), 1e-2), (_Scaled(), 8e-2)):
        problem = make_problem(4, loss=loss, penalty=penalty(alpha=alpha))
        runs.append(NEXT(surrogate).run(problem, Network(Topology.ring(4)), max_iter=30))
    np.testing.assert_allclose(runs[1].w, runs[0].w, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(runs[1].history["tau"], 8 * runs[0].history["tau"], rtol=1e-6)


def test_centralised_sca_is_next_with_one_agent(make_problem):
    problem = make_problem(4)
    pooled = Problem(MLP((3, 5, 1)), SquaredError(), L2(alpha=1e-2), [(problem.x, problem.target)])
    one = NEXT().run(pooled, Network(Topology.complete(1)), max_iter=10)
    central = CentralizedSCA().run(problem, Network(Topology.ring(4)), max_iter=10)
    np.testing.assert_array_equal(one.w, central.w)


@pytest.mark.parametrize("loss", [SquaredError(), Huber(), Logistic()])
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
@pytest.mark.parametrize("surrogate", [FullLinearization(), PartialLinearization(), PartialLinearization(n_blocks=4)])
def test_results_do_not_depend_on_the_number_of_threads(make_problem, loss, penalty, surrogate):
    runs = []
    for n_threads in (1, 2, 3):
        problem = make_problem(5, rows=40, loss=SquaredError(), n_threads=n_threads)
        shards = [
            (problem.x[a:b], (problem.target[a:b] > 0) * 1.0)
            for a, b in zip(problem.offsets[:-1], problem.offsets[1:], strict=True)
        ]
        problem = Problem(problem.model, loss, penalty, shards, n_threads=n_threads)
        runs.append(NEXT(surrogate).run(problem, Network(Topology.ring(5)), max_iter=15))
    for other in runs[1:]:
        np.testing.assert_array_equal(other.w, runs[0].w)
        np.testing.assert_array_equal(other.history["objective"], runs[0].history["objective"])
