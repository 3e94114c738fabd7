"""Networks that fail: what is lost is repaired or known, and a run on them ends where the lossless one does."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from dnnext.algorithms import NEXT, GradientTracking
from dnnext.network import Faults, KnownLoss, Network, RunningSums, Topology
from dnnext.problem import L2, MLP, Logistic, Problem, SquaredError
from dnnext.runtime import AgentsLost

A = 8
BAD = {"loss": 0.3, "delay": 3, "duplicate": 0.3, "away": {2: (5, 30), 6: (0, 7)}}
GRAPHS = {"ring": Topology.ring(A), "erdos_renyi": Topology.erdos_renyi(A, random_state=1)}


def small(seed=0, n_agents=A):
    rng = np.random.default_rng(seed)
    shards = [(rng.standard_normal((6, 2)), rng.standard_normal(6)) for _ in range(n_agents)]
    return Problem(MLP([2, 3, 1]), SquaredError(), L2(1e-2), shards)


@pytest.fixture(scope="module")
def problems():
    made = {}
    for name, load, loss in (
        ("cancer", load_breast_cancer, Logistic()),
        ("diabetes", load_diabetes, SquaredError()),
    ):
        x, y = load(return_X_y=True)
        x = ((x - x.mean(0)) / x.std(0))[:, :10]
        if name == "diabetes":
            y = (y - y.mean()) / y.std()
        parts = np.array_split(np.argsort(y, kind="stable"), A)  # one class only, or a narrow range of targets
        made[name] = Problem(MLP([10, 5, 1]), loss, L2(1e-2), [(x[p], y[p]) for p in parts])
    return made


@pytest.fixture(scope="module")
def lossless(problems):
    """The objective without loss, and the rounds it took."""
    length = {"cancer": 60, "diabetes": 100}
    runs = {
        (data, graph): NEXT().run(problem, Network(net), max_iter=length[data], monitor_every=20, warn=False)
        for data, problem in problems.items()
        for graph, net in GRAPHS.items()
    }
    return {name: (run.history["objective"][-1], run.history["round"][-1]) for name, run in runs.items()}


# The virtual network


def test_faults_are_a_function_of_seed_and_round():
    faults, again = (
        Faults(0.4, delay=3, duplicate=0.2, random_state=7),
        Faults(0.4, delay=3, duplicate=0.2, random_state=7),
    )
    for k in (5, 0, 1000):
        for mine, other in zip(faults.arrivals(k, 50), again.arrivals(k, 50), strict=True):
            np.testing.assert_array_equal(mine, other)
    late = np.concatenate([faults.arrivals(k, 50)[0] for k in range(200)])
    assert abs(np.mean(late < 0) - 0.4) < 0.02
    assert set(late) == {-1, 0, 1, 2, 3}
    assert (Faults(0.4, random_state=8).arrivals(0, 50)[0] != Faults(0.4, random_state=7).arrivals(0, 50)[0]).any()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"loss": 1.0}, "loss must be a number between 0 and 1"),
        ({"delay": -1}, "delay must be a whole number"),
        ({"duplicate": np.nan}, "duplicate must be"),
        ({"away": {0: (5, 5)}}, "the end of away for agent 0"),
        ({"away": {-1: (5, 6)}}, "the agents of away"),
        ({"away": 3}, "away must be None or a dict"),
        ({"away": {3: 5}}, "away must hold a pair"),
        ({"random_state": "x"}, "random_state must be"),
    ],
)
def test_faults_that_cannot_be(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Faults(**arguments)


@pytest.mark.parametrize("answer", [KnownLoss, RunningSums])
def test_networks_that_cannot_be(answer):
    with pytest.raises(ValueError, match="topology must be a Topology"):
        answer("ring", Faults())
    with pytest.raises(ValueError, match="faults must be a Faults"):
        answer(GRAPHS["ring"], 0.5)
    with pytest.raises(ValueError, match=r"away must hold agents below .* got 9"):
        answer(GRAPHS["ring"], Faults(away={9: (0, None)}))
    with pytest.raises(ValueError, match="connected"):
        answer(Topology(np.zeros((3, 3))), Faults())


def test_running_sums_need_an_own_weight_and_two_arrays():
    pair = Topology([[0, 1], [1, 0]], weights=[[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"contract|positive own weight"):
        RunningSums(pair, Faults())
    with pytest.raises(ValueError, match="two arrays"):
        RunningSums(GRAPHS["ring"], Faults()).mix(np.zeros((A, 2)))


# Nothing is lost


def test_without_faults_both_answers_are_plain_mixing():
    problem = small()
    plain = NEXT(step=0.5).run(problem, Network(GRAPHS["ring"], mixing_rounds=1), max_iter=15, warn=False)
    known = NEXT(step=0.5).run(problem, KnownLoss(GRAPHS["ring"], Faults()), max_iter=15, warn=False)
    sums = NEXT(step=0.5).run(problem, RunningSums(GRAPHS["ring"], Faults()), max_iter=15, warn=False)
    np.testing.assert_array_equal(known.w, plain.w)
    np.testing.assert_allclose(sums.w, plain.w, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(sums.y, plain.y, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("algorithm", [NEXT(step=0.5), GradientTracking()], ids=["next", "gradient_tracking"])
@pytest.mark.parametrize("name", GRAPHS)
def test_known_loss_keeps_the_invariant(name, algorithm):
    problem = small()

    def check(state, metrics):
        np.testing.assert_allclose(state.y.mean(0), state.grad.mean(0), atol=1e-14)

    network = KnownLoss(GRAPHS[name], Faults(**BAD, random_state=1))
    algorithm.run(problem, network, max_iter=40, warn=False, callbacks=[check])
    assert network.round == 40


@pytest.mark.parametrize("algorithm", [NEXT(step=0.5), GradientTracking()], ids=["next", "gradient_tracking"])
@pytest.mark.parametrize("name", GRAPHS)
def test_running_sums_lose_nothing(name, algorithm):
    problem, network = small(), RunningSums(GRAPHS[name], Faults(**BAD, random_state=1))

    def check(state, metrics):
        tracked, share = network.tracked(state.y)
        np.testing.assert_allclose(tracked, state.grad.sum(0), atol=1e-12)
        assert abs(share - A) < 1e-12

    algorithm.run(problem, network, max_iter=60, warn=False, callbacks=[check])


def test_who_stands_still_keeps_its_numbers():
    problem, before = small(), {}

    def check(state, metrics):
        if "w" in before and 5 < state.t <= 20:
            np.testing.assert_array_equal(state.w[3], before["w"])
            np.testing.assert_allclose(state.y[3], before["y"], atol=1e-15)  # + grad - grad rounds
        before.update(w=state.w[3].copy(), y=state.y[3].copy())

    for answer in (KnownLoss, RunningSums):
        before.clear()
        network = answer(GRAPHS["ring"], Faults(away={3: (5, 20)}))
        NEXT(step=0.5).run(problem, network, max_iter=30, warn=False, callbacks=[check])


def test_an_alarm_begins_the_sums_anew():
    problem, network = small(), RunningSums(GRAPHS["ring"], Faults(0.3, random_state=0))
    result = NEXT(tau=1e-6).run(problem, network, max_iter=60, warn=False)
    assert "diverge" in result.warning
    tracked, share = network.tracked(result.y)
    np.testing.assert_allclose(tracked, result.state.grad.sum(0), atol=1e-12)
    assert abs(share - A) < 1e-12


def test_the_same_seed_gives_the_same_bits():
    problem = small()
    for answer in (KnownLoss, RunningSums):
        runs = [NEXT().run(problem, answer(GRAPHS["ring"], Faults(**BAD, random_state=4)), max_iter=25, warn=False)
                for _ in range(2)]  # fmt: skip
        np.testing.assert_array_equal(runs[0].w, runs[1].w)


# It ends where the lossless run ends


@pytest.mark.parametrize("loss", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("data", ["cancer", "diabetes"])
@pytest.mark.parametrize(("answer", "rounds", "step"), [(KnownLoss, 4, 1.0), (RunningSums, 1, 0.5)])
def test_within_one_per_cent_in_four_times_the_rounds(problems, lossless, data, graph, loss, answer, rounds, step):
    objective, n_rounds = lossless[data, graph]
    network = answer(GRAPHS[graph], Faults(loss, random_state=0), mixing_rounds=rounds)
    result = NEXT(step=step).run(
        problems[data], network, max_iter=2000, monitor_every=20, warn=False,
        callbacks=[lambda state, metrics: network.round >= 4 * n_rounds],
    )  # fmt: skip
    assert network.round < 4 * n_rounds + rounds
    assert abs(result.history["objective"][-1] / objective - 1) < 0.01
    assert result.history["disagreement"][-1] < 1e-3


def test_delay_doubles_and_pauses_too(problems, lossless):
    objective, n_rounds = lossless["cancer", "erdos_renyi"]
    faults = Faults(0.2, delay=2, duplicate=0.2, away={2: (40, 80), 5: (100, 130)}, random_state=0)
    network = RunningSums(GRAPHS["erdos_renyi"], faults)
    result = NEXT(step=0.5).run(problems["cancer"], network, max_iter=int(4 * n_rounds), monitor_every=20, warn=False)
    assert abs(result.history["objective"][-1] / objective - 1) < 0.01


# Who leaves for good is missed, and the run says so


@pytest.mark.parametrize("answer", [KnownLoss, RunningSums])
def test_an_agent_that_never_returns_ends_the_run_by_name(answer):
    network = answer(GRAPHS["ring"], Faults(0.1, away={5: (20, None)}, random_state=0), patience=30)
    with pytest.raises(AgentsLost, match=r"agent 5 .* in iteration \d+, round 5\d") as caught:
        NEXT(step=0.5).run(small(), network, max_iter=200, warn=False)
    assert caught.value.agents == (5,)
    assert 45 <= network.round <= 60


def test_the_others_train_on_without_it():
    problem, kept = small(), {}
    network = RunningSums(GRAPHS["ring"], Faults(0.1, away={5: (20, None)}, random_state=0), patience=30)
    with pytest.raises(AgentsLost) as caught:
        NEXT(step=0.5).run(problem, network, max_iter=200, callbacks=[lambda s, m: kept.update(w=s.w.copy())])
    stay = [i for i in range(A) if i not in caught.value.agents]
    cuts = problem.offsets
    shards = [(problem.x[cuts[i] : cuts[i + 1]], problem.target[cuts[i] : cuts[i + 1]]) for i in stay]
    rest = Problem(problem.model, problem.loss, L2(1e-2), shards)
    result = NEXT(step=0.5).run(rest, Network(Topology.path(A - 1)), w0=kept["w"][stay], max_iter=100, warn=False)
    assert result.history["objective"][-1] < result.history["objective"][0]


def test_running_sums_refuse_to_go_on_without_their_totals():
    network = RunningSums(GRAPHS["ring"], Faults())
    network.round = 12
    with pytest.raises(ValueError, match="running sums cannot go on from round 12"):
        network.mix(np.zeros((A, 2)), np.zeros((A, 2)))


@pytest.mark.parametrize("answer", [KnownLoss, RunningSums])
def test_a_checkpoint_goes_on_to_the_bit(tmp_path, answer):
    from dnnext.callbacks import Checkpoint
    from dnnext.checkpoint import read

    def network():
        return answer(GRAPHS["ring"], Faults(**BAD, random_state=1))

    problem, algorithm = small(), NEXT(step=0.5)
    whole = algorithm.run(problem, network(), max_iter=30, warn=False)
    saves = [Checkpoint(tmp_path, every=13)]
    algorithm.run(problem, network(), max_iter=13, warn=False, callbacks=saves)
    again = network()
    resumed = algorithm.run(problem, again, max_iter=30, warn=False, resume=read(tmp_path, problem.runtime))
    np.testing.assert_array_equal(resumed.w, whole.w)
    np.testing.assert_array_equal(resumed.y, whole.y)
    assert again.bytes == whole.history["bytes"][-1]
