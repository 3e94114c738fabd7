"""Shared curvature: order pre, signed rule, quasi-Newton pairs, the way back to own curvature."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT, CentralizedSCA, ConvergenceWarning
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.local.surrogates import GaussNewtonModel
from dnnext.network import Faults, KnownLoss, Network, Schedule, Topology
from dnnext.problem import L1, L2, MLP, GroupLasso, Logistic, Problem, Softmax, SquaredError
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runs.state import State

NET = Topology.erdos_renyi(6, random_state=1)


def recipe(curvature="shared", **options):
    return NEXT(PartialLinearization(curvature=curvature, **options))


def tight(graph=NET):
    return Network(graph, contract_to=0.01)


def classes(n_outputs, relay=None, weights=False, layers=(3, 5)):
    rng = np.random.default_rng(3)
    shards, loss = [], Logistic() if n_outputs == 1 else Softmax()
    for i in range(6):
        x = rng.standard_normal((0 if i == relay else 15 + i, layers[0]))
        z = np.sin(x @ np.linspace(-1, 1, layers[0] * max(n_outputs, 2)).reshape(layers[0], -1))
        d = (z[:, :1] > 0) * 1.0 if n_outputs == 1 else np.eye(n_outputs)[z.argmax(axis=1)]
        shards.append((x, d, rng.uniform(0.5, 2, len(x))) if weights else (x, d))
    return Problem(MLP([*layers, n_outputs]), loss, L2(alpha=1e-2), shards)


@pytest.mark.parametrize("graph", [NET, Schedule.link_failures(NET, p=0.3, random_state=0)], ids=["fixed", "failing"])
def test_mean_tracker_is_the_mean_gradient_at_the_points_before_mixing(make_problem, graph):
    problem, seen = make_problem(6), []

    def look(s, _):
        seen.append((s.y.mean(axis=0), problem.grad(s.z).mean(axis=0), s.grad.mean(axis=0)))

    recipe().run(problem, tight(graph), max_iter=8, callbacks=[look])
    for y, at_z, kept in seen:
        np.testing.assert_allclose(y, at_z, atol=1e-14)
        np.testing.assert_array_equal(at_z, kept)


def test_one_message_per_iteration_carries_two_more_numbers(make_problem):
    problem, network = make_problem(6), tight()
    recipe().run(problem, network, max_iter=5)
    per_mix, edges = network.rounds_per_mix, 2 * NET.n_edges
    first, later = 2 * problem.n_params, 2 * problem.n_params + 2
    assert network.round == 6 * per_mix  # one at the start, then one per iteration
    assert network.bytes == edges * per_mix * 8 * (later * 5 + first)


@pytest.mark.parametrize("quasi_newton", [0, 5])
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-3), GroupLasso(alpha=1e-3)], ids=["l2", "l1", "group"])
@pytest.mark.parametrize("curvature", ["shared", "exact"])
def test_every_penalty_is_minimised(make_problem, curvature, penalty, quasi_newton):
    problem = make_problem(6, rows=20, penalty=penalty)
    result = recipe(curvature, quasi_newton=quasi_newton).run(problem, tight(), max_iter=40)
    own = NEXT().run(problem, tight(), max_iter=40)
    assert result.warning is None
    assert result.history["objective"][-1] < 0.6 * result.history["objective"][0]
    assert result.history["objective"][-1] < 1.05 * own.history["objective"][-1]


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_classification_with_relay_weights_and_failing_links(n_outputs):
    problem = classes(n_outputs, relay=2, weights=True)
    graph = Schedule.link_failures(NET, p=0.3, random_state=0)
    history = recipe().run(problem, tight(graph), max_iter=30).history
    assert history["objective"][-1] < 0.5 * history["objective"][0]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_two_hidden_layers_and_blocks(make_problem, activation, n_blocks):
    problem = make_problem(6, layers=(3, 5, 4, 1), activation=activation)
    history = recipe(n_blocks=n_blocks).run(problem, tight(), max_iter=30).history
    assert history["objective"][-1] < 0.7 * history["objective"][0]


@pytest.mark.parametrize("solver", ["primal", "cg", "fista"])
def test_solvers_agree_on_a_few_iterations(make_problem, solver):
    problem = make_problem(6)
    ends = [recipe(solver=name, inner_iter=2000).run(problem, tight(), max_iter=4).w_bar for name in ("primal", solver)]
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-3, atol=1e-4)


def test_sorted_parts_take_about_the_iterations_of_the_centralised_method():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 4))
    d = np.sin(x @ rng.standard_normal(4)) + 0.1 * rng.standard_normal(240)
    order = np.argsort(d)
    shards = [(x[rows], d[rows]) for rows in np.array_split(order, 8)]
    problem = Problem(MLP([4, 6, 1]), SquaredError(), L2(alpha=5 / 240), shards)
    graph = Topology.ring(8)

    def until(history, goal):
        return int(np.argmax(history["objective"] <= goal)) or 999

    central = CentralizedSCA().run(problem, Network(graph), max_iter=100).history
    goal = 1.03 * central["objective"].min()
    needed = until(central, goal)
    assert until(recipe().run(problem, tight(graph), max_iter=60).history, goal) <= 1.5 * needed
    assert until(NEXT().run(problem, Network(graph), max_iter=60).history, goal) > 1.5 * needed


def test_multiplying_the_objective_changes_no_iterate():
    ends = []
    for scale in (1.0, 64.0):
        whole = classes(1)
        cuts = zip(whole.offsets[:-1], whole.offsets[1:], strict=True)
        parts, n_total = [(whole.x[a:b], whole.target[a:b]) for a, b in cuts], whole.n_samples / scale
        problem = Problem(MLP([3, 5, 1]), SquaredError(), L2(alpha=1e-2 * scale), parts, n_total=n_total)
        ends.append(recipe().run(problem, tight(), max_iter=10).w_bar)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-7, atol=1e-9)


def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(make_problem, tmp_path):
    problem = make_problem(6)
    whole = recipe().run(problem, tight(), max_iter=14)
    recipe().run(problem, tight(), max_iter=9, callbacks=[Checkpoint(tmp_path, every=9)])
    saved = checkpoint.read(tmp_path, problem.runtime)
    assert saved.agents["memory.pairs.s"].any()
    again = recipe().run(make_problem(6), tight(), max_iter=14, resume=saved)
    np.testing.assert_array_equal(again.w, whole.w)
    np.testing.assert_array_equal(again.history["objective"], whole.history["objective"])


def test_threads_change_no_bit(make_problem):
    one, two = (recipe().run(make_problem(6, n_threads=n), tight(), max_iter=8).w for n in (1, 2))
    np.testing.assert_array_equal(one, two)


class ExplodingModel(GaussNewtonModel):
    def argmin(self, out):
        out[...] = self.w - 1e6 * self.y


class Exploding(PartialLinearization):
    """A shared curvature that is far too small."""

    def at(self, problem, s):
        return ExplodingModel(self, problem, s)


def test_after_three_alarms_own_curvature_goes_on_and_says_so(make_problem):
    problem = make_problem(6)
    with pytest.warns(ConvergenceWarning, match=r"3 times.*went on with each agent's own curvature"):
        result = NEXT(Exploding(curvature="shared")).run(problem, tight(), max_iter=60)
    assert result.status == "max_iter"
    assert result.retreats == 1
    assert np.isfinite(result.w).all()
    assert result.history["objective"][-1] < 0.9 * result.history["objective"][0]


def test_float32_ends_where_float64_does(make_problem):
    single, double = (
        recipe().run(make_problem(6, dtype=d), tight(), max_iter=30).history for d in ("float32", "float64")
    )
    assert single["objective"][-1] < 1.01 * double["objective"][-1]


def test_the_order_may_be_chosen(make_problem):
    problem = make_problem(6)
    ends = [
        NEXT(FullLinearization(), tau=5.0, order=order).run(problem, tight(), max_iter=40) for order in ("pre", "post")
    ]
    for result in ends:
        assert result.history["objective"][-1] < 0.9 * result.history["objective"][0]
    assert not np.array_equal(ends[0].w, ends[1].w)
    assert repr(NEXT(order="pre")).endswith("order='pre')")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"curvature": "borrowed"}, "curvature must be one of"),
        ({"curvature": "shared", "exact": True}, "exact=True needs the targets"),
        ({"quasi_newton": -1}, "quasi_newton must be a whole number"),
    ],
)
def test_what_does_not_fit_is_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        PartialLinearization(**options)


def test_state_keeps_what_it_is_given(make_problem):
    problem = make_problem(2)
    s = State.at(problem, np.ones((2, problem.n_params)))
    s.memory["pairs.gate"] = np.full((2, 2), 0.5)
    s.is_fresh = False
    saved = s.snapshot()
    other = State.at(problem, np.ones((2, problem.n_params)))
    other.resume(saved)
    np.testing.assert_array_equal(other.memory["pairs.gate"], s.memory["pairs.gate"])
    assert not other.is_fresh


def test_the_dual_solver_leaves_no_correction_to_the_rule_for_tau():
    ends = [
        recipe(solver="dual", quasi_newton=pairs).run(classes(2), tight(), max_iter=8, warn=False) for pairs in (0, 5)
    ]
    np.testing.assert_array_equal(ends[0].w, ends[1].w)
    np.testing.assert_array_equal(ends[0].state.tau, ends[1].state.tau)
    assert not ends[1].state.memory


def test_the_signed_rule_asks_for_order_pre_and_is_left_behind_in_a_retreat():
    with pytest.raises(ValueError, match="order must be 'pre' with tau="):
        NEXT(tau="signed")
    signed = NEXT(PartialLinearization(curvature="shared"), tau="signed")
    assert signed.retreat().tau == "auto"
    assert signed.retreat().retreat() is None
    assert NEXT(PartialLinearization(curvature="shared"), tau="nielsen").retreat().tau == "auto"


def test_shared_curvature_over_links_whose_loss_is_known():
    """The rule's numbers travel between w and y; an agent comes back between two rounds of one iteration."""
    network = KnownLoss(NET, Faults(loss=0.1, away={1: (9, 30)}, random_state=0), mixing_rounds=4)
    result = recipe().run(classes(1), network, max_iter=15, warn=False)
    np.testing.assert_allclose(result.y.mean(axis=0), result.state.grad.mean(axis=0), rtol=0, atol=1e-14)
    assert result.history["objective"][-1] < 0.8 * result.history["objective"][0]
