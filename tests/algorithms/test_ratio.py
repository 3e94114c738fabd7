"""tau="ratio": no iteration raises the objective, what is taken back is taken back exactly, ranks decide alike."""

from itertools import pairwise

import numpy as np
import pytest

from dnnext.algorithms import NEXT, CentralizedSCA
from dnnext.algorithms.ratio import RatioRule, bounded
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Faults, KnownLoss, Network, Schedule, Topology
from dnnext.problem import L1, L2, MLP, ElasticNet, GroupLasso, Logistic, Problem, Softmax, SparseGroup, SquaredError
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import InProcess

RING = Topology.ring(6)


def make_problem(seed=0, loss=None, penalty=None, relay=False, runtime=None, heavy=True, **options):
    """Six agents, rows sorted by their target, inputs with heavy tails."""
    rng, loss = np.random.default_rng(seed), loss or SquaredError()
    x = rng.standard_normal((180, 4)) * np.abs(rng.standard_t(2, (180, 1)) if heavy else 1)
    d = np.sin(x @ rng.standard_normal(4)) + 0.1 * rng.standard_normal(180)
    order = np.argsort(d)
    if isinstance(loss, Logistic):
        d = (d > 0) * 1.0
    if isinstance(loss, Softmax):
        d = np.eye(3)[np.digitize(d, [-0.4, 0.4])]
    shards = [(x[rows], d[rows]) for rows in np.array_split(order, 6)]
    if relay:
        shards[2] = (x[:0], d[:0])
    runtime = InProcess(6) if runtime is None else runtime
    mine = [shards[i] for i in runtime.agents]
    outputs = 3 if isinstance(loss, Softmax) else 1
    return Problem(MLP([4, 5, outputs]), loss, penalty or L2(alpha=5 / 180), mine, runtime=runtime, **options)


def tight(graph=RING, **options):
    return Network(graph, contract_to=0.01, **options)


def recipe(tau="ratio", **options):
    return NEXT(PartialLinearization(curvature="shared", **options), tau=tau)


def rises(history):
    return np.max(np.diff(history["objective"])) / history["objective"][0]


SEEDED = [(seed, loss) for loss in (SquaredError(), Logistic(), Softmax()) for seed in range(6)]


def test_no_run_of_a_list_rises_although_some_rise_without_the_test():
    ends = {}
    for tau in ("auto", "ratio"):
        found = [
            recipe(tau).run(make_problem(seed, loss), tight(), max_iter=40, random_state=seed, warn=False).history
            for seed, loss in SEEDED
        ]
        ends[tau] = [rises(history) for history in found], np.array([h["objective"][-1] for h in found])
    assert np.sum(np.array(ends["auto"][0]) > 1e-6) >= 2
    assert max(ends["ratio"][0]) <= 1e-12
    assert np.exp(np.mean(np.log(ends["ratio"][1] / ends["auto"][1]))) < 1.05


@pytest.mark.parametrize(
    "penalty", [L1(alpha=1e-2), ElasticNet(alpha=1e-2), GroupLasso(alpha=1e-2), SparseGroup(alpha=1e-2)], ids=repr
)
def test_penalties_with_a_prox_never_rise_either(penalty):
    history = recipe().run(make_problem(penalty=penalty), tight(), max_iter=40, warn=False).history
    assert rises(history) <= 1e-12
    assert history["objective"][-1] < 0.8 * history["objective"][0]


@pytest.mark.parametrize(("dtype", "slack"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("graph", [RING, Topology.star(6), Schedule.link_failures(RING, p=0.3, random_state=0)])
def test_precision_relay_star_and_failing_links(dtype, slack, graph):
    problem = make_problem(relay=True, dtype=dtype)
    history = recipe().run(problem, tight(graph), max_iter=30, warn=False).history
    assert rises(history) <= slack
    assert history["objective"][-1] < 0.8 * history["objective"][0]


class Refusing(RatioRule):
    """Every second trial is refused."""

    def test(self, s, model, wanted):
        kept = s.memory.get("rows.objective")
        if s.t % 2:
            s.memory["rows.objective"] = np.full(len(s.w), -1e9)
        super().test(s, model, wanted)
        if s.t % 2:
            s.memory["rows.objective"] = kept


def test_a_refused_trial_is_taken_back_exactly_and_its_pair_is_learnt():
    seen = []

    def look(s, _):
        seen.append((s.t, s.w.copy(), s.y.copy(), s.grad.copy(), s.values.copy(), s.tau.copy()))
        seen[-1] += (np.count_nonzero(s.memory["pairs.s"].any(axis=(0, 2))),)

    network = tight()
    recipe(Refusing()).run(make_problem(), network, max_iter=5, callbacks=[look], warn=False)
    for (_, *before, tau, pairs), (t, *after, larger, more) in pairwise(seen):
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (t % 2 == 0)  # s.t counts from one after a step, from nought before it
        assert more == pairs + 1
        if same:
            assert (larger >= 4 * tau).all()
    assert network.round == 6 * network.rounds_per_mix  # a trial costs its message, accepted or not
    y, grad = seen[-1][2:4]
    np.testing.assert_allclose(y.mean(axis=0), grad.mean(axis=0), atol=1e-14)


def test_an_agent_whose_few_rows_lose_raises_no_alarm_while_all_together_gain():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((180, 4))
    d = np.sign(x[:, :1])
    k = int(np.argmax(x[:, 0]))
    shards = [(x[k : k + 1], -d[k : k + 1]), *[(x[i::5], d[i::5]) for i in range(5)]]  # one row against all others
    problem = Problem(MLP([4, 5, 1]), SquaredError(), L2(alpha=1e-3), shards)
    worst = []
    result = recipe().run(
        problem, tight(), max_iter=25, w0=0.1 * problem.model.init(0),
        callbacks=[lambda s, _: worst.append(problem.n_total * s.values[0])], warn=False,
    )  # fmt: skip
    assert max(worst) > 3 * 0.55  # mean losses are about 1/2 at the start
    assert result.warning is None or "diverge" not in result.warning
    assert rises(result.history) <= 1e-12


@pytest.mark.parametrize(("curvature", "seed"), [("exact", 0), ("shared", 6)])
def test_agents_that_are_apart_are_brought_together_without_an_alarm(curvature, seed):
    """An alarm would go back to an earlier iteration: the objective would rise by as much as was gained since."""
    problem = make_problem(seed, Logistic(), heavy=False)
    algorithm = NEXT(PartialLinearization(curvature=curvature), tau="ratio")
    result = algorithm.run(problem, Network(RING, mixing_rounds=1), max_iter=40, random_state=seed)
    assert np.sum(result.history["disagreement"] > 0.25) > 1
    assert rises(result.history) <= 1e-12
    assert result.history["disagreement"][-1] < 0.1
    assert result.warning is None


@pytest.mark.parametrize(("activation", "penalty", "jumps"), [
    ("relu", L2(alpha=1e-3), True), ("tanh", L1(alpha=1e-3), True), ("tanh", SparseGroup(alpha=1e-3), True),
    ("tanh", GroupLasso(alpha=1e-3), False), ("tanh", L2(alpha=1e-3), False),
])  # fmt: skip
def test_where_derivatives_jump_the_gain_ratio_limits_tau(activation, penalty, jumps):
    problem = Problem(MLP([1, 2, 1], activation=activation), SquaredError(), penalty, [(np.ones((2, 1)), np.ones(2))])
    for rho, limit in ((1.0, 1 / 3), (0.5, 1.0), (0.25, 1.125)):
        assert RatioRule().accepted(2.0, 1e6, rho, problem) == pytest.approx(2 * limit if jumps else 1e6)
        assert RatioRule().accepted(2.0, 0.1, rho, problem) == 0.1


def test_all_agents_have_one_tau():
    def look(s, _):
        assert len(set(s.tau)) == 1

    recipe().run(make_problem(), tight(), max_iter=10, callbacks=[look], warn=False)


def test_a_run_with_refused_trials_is_resumed_with_the_same_bits(tmp_path):
    problem, algorithm = make_problem(), recipe(Refusing())
    whole = algorithm.run(problem, tight(), max_iter=14, warn=False)
    algorithm.run(problem, tight(), max_iter=8, callbacks=[Checkpoint(tmp_path, every=8)], warn=False)
    saved = checkpoint.read(tmp_path, problem.runtime)
    again = algorithm.run(make_problem(), tight(), max_iter=14, resume=saved, warn=False)
    np.testing.assert_array_equal(again.w, whole.w)
    np.testing.assert_array_equal(again.history["objective"], whole.history["objective"])


@pytest.mark.parametrize("rule", ["ratio", Refusing()], ids=["ratio", "refusing"])
def test_ranks_decide_as_one_process_does(lockstep, rule):
    whole = recipe(rule).run(make_problem(), tight(), max_iter=12, warn=False)

    def run(runtime):
        return recipe(rule).run(make_problem(runtime=runtime), tight(runtime=runtime), max_iter=12, warn=False)

    for n_ranks in (2, 3):
        parts = lockstep(6, n_ranks, run)
        np.testing.assert_array_equal(np.concatenate([part.w for part in parts]), whole.w)
        np.testing.assert_array_equal(parts[-1].history["objective"], whole.history["objective"])


def test_one_agent_needs_no_shared_curvature():
    history = CentralizedSCA(tau="ratio").run(make_problem(), Network(RING), max_iter=30, warn=False).history
    assert rises(history) <= 1e-12
    assert history["objective"][-1] < 0.8 * history["objective"][0]


def marquardt(problem, w, steps, b):
    """(U, mu) after every trial of the method of Levenberg and Marquardt: squared error, l2, written out."""
    mu, nu, l2, out = 1e-3 * b, 2.0, problem.penalty.quadratic, []
    for _ in range(steps):
        slope = problem.grad(w)[0] + l2 * w
        b_w = problem.gauss_newton(w, problem.root(w)).reshape(len(w), -1)
        d = -np.linalg.solve(b_w + np.diag(l2) + mu * np.eye(len(w)), slope)
        before, after = problem.value(w), problem.value(w + d)
        rho = (before - after) / -(d @ slope + d @ (b_w + np.diag(l2)) @ d / 2)
        if rho > 1e-4:
            w, mu, nu = w + d, mu * max(1 / 3, 1 - (2 * rho - 1) ** 3), 2.0
        else:
            mu, nu = nu * mu, 2 * nu
        out.append((min(before, after) if rho > 1e-4 else before, mu))
    return np.array(out)


def test_central_lm_is_the_method_written_out():
    whole = make_problem()
    problem = Problem(whole.model, whole.loss, L2(alpha=5 / 180), [(whole.x, whole.target)])
    algorithm, w0 = CentralizedSCA(damping="lm"), whole.model.init(3)
    history = algorithm.run(whole, Network(RING), w0=w0, max_iter=25, warn=False).history
    wanted = marquardt(problem, w0, 25, algorithm.surrogate.scale(problem, w0[None]))
    assert (np.diff(wanted[:, 1]) > 0).any()  # a trial was refused
    np.testing.assert_allclose(history["objective"][1:], wanted[:, 0], rtol=1e-8)
    np.testing.assert_allclose(history["tau"][1:], wanted[:, 1], rtol=1e-4)
    assert algorithm.damping.accepted(1.0, 1.0, -1e9, problem) == 2  # a gain and a prediction within rounding
    assert bounded(0.0, 2.0) == 2e-32  # after hundreds of steps that each divide tau by 3
    assert bounded(np.inf, 2.0) == 2e8


def test_the_test_takes_two_collective_calls_with_votes_and_measures(lockstep):
    def calls(tau):
        def run(runtime):
            recipe(tau).run(make_problem(runtime=runtime), tight(runtime=runtime), max_iter=3, warn=False)
            before = sum(runtime.comm.tally.calls.values())
            recipe(tau).run(make_problem(runtime=runtime), tight(runtime=runtime), max_iter=9, warn=False)
            return sum(runtime.comm.tally.calls.values()) - 2 * before  # of six iterations

        return lockstep(6, 2, run)[0]

    # Votes, weights and what the models predicted are one message; the values at the mean of the weights are another,
    # for which the decision waits. Without a decision they travel with the next votes.
    assert calls("ratio") == calls("auto") + 6


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match="tau must be 'auto' with damping='lm'"):
        CentralizedSCA(tau=1.0, damping="lm")
    problem = make_problem()
    for surrogate in (PartialLinearization(), FullLinearization()):
        with pytest.raises(ValueError, match=r"surrogate must agree at all agents, because tau=RatioRule"):
            NEXT(surrogate, tau="ratio").run(problem, tight(), max_iter=2)
    with pytest.raises(ValueError, match=r"keep no numbers from call to call.*got <KnownLoss"):
        recipe().run(problem, KnownLoss(RING, Faults(loss=0.1, random_state=0)), max_iter=2)
    with pytest.raises(ValueError, match="order must be 'pre' with tau='ratio'"):
        NEXT(PartialLinearization(curvature="shared"), tau="ratio", order="post")
