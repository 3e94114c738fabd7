"""The baselines of the evidence compute what they say, and a study goes on where it stopped."""

import numpy as np
import pytest

from bench import cases, data, study
from bench.rivals import baselines as rivals
from bench.rivals import large, large_child, levenberg
from dnnext.algorithms import NEXT


def a_case(name, n_agents=3, hidden=(6,)):
    return cases.Case.of(data.load(name), n_agents, hidden=hidden, seed=1)


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer", "wine"])
@pytest.mark.parametrize("hidden", [(6,), (5, 4)])
def test_the_batch_gradient_of_all_rows_is_that_of_the_problem(name, hidden):
    case = a_case(name, hidden=hidden)
    problem, w = case.problem, case.problem.model.init(3)
    alpha = rivals.strength(problem)
    wanted = problem.smooth_value_grad(w)[1] + alpha * problem.model.mask * w
    np.testing.assert_allclose(rivals.batch_grad(problem, w, problem.x, problem.target, alpha), wanted, atol=1e-14)


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer", "wine"])
def test_the_error_is_that_of_scikit_learn(name):
    from sklearn.metrics import accuracy_score, r2_score

    case = a_case(name)
    w = case.problem.model.init(3)
    raw = case.raw(w)
    if case.data.task == "regression":
        score = r2_score(case.y, raw)
    else:
        score = accuracy_score(case.y, raw.argmax(axis=1) if raw.shape[1] > 1 else raw[:, 0] > 0)
    assert 1 - case.error(w) == pytest.approx(score)


def test_pooled_and_alone_are_the_same_problem_on_other_rows():
    case = a_case("wine")
    w = case.problem.model.init(0)
    assert case.pooled().problem.value(w) == pytest.approx(case.problem.value(w))
    assert sum(case.alone(i).problem.n_samples for i in range(3)) == case.problem.n_samples


@pytest.mark.parametrize("rival", ["adam", "lbfgs", "federated"])
def test_a_rival_trains(rival):
    case = a_case("breast_cancer")
    if rival == "adam":
        looked = rivals.adam(case, lr=1e-2, epochs=5, seed=0)
    elif rival == "lbfgs":
        looked = rivals.lbfgs(case, n_iter=20, seed=0)
    else:
        looked = rivals.federated(case, lr=0.1, rounds=5, seed=0)[1]
    assert looked["objective"][-1] < 0.5 * looked["objective"][0]
    assert looked["error"][-1] < 0.1


def test_a_run_ends_where_its_rounds_are_spent_and_looking_takes_no_time():
    network = cases.erdos_renyi(3, 0)
    looked = cases.run(a_case("wine"), NEXT(), network, 50, 0, most_rounds=5 * network.rounds_per_mix)
    assert looked["iteration"][-1] == 5
    assert looked["round"][-1] == network.round == 5 * network.rounds_per_mix
    assert np.all(np.diff(looked["cpu"]) >= 0)
    assert len({len(column) for column in looked.values()}) == 1


def test_what_a_gap_costs_is_the_middle_of_the_starts():
    each = [{"lm": {"objective": [9.0, u, 1.0], "trial": [0, 1, 4], "cpu": [0.0, 0.1, 0.5]}} for u in (1.2, 1.02, 5.0)]
    cells = levenberg.row("wine", "lm", each)
    assert cells == ["wine", "lm", "4 / 4 / 4", "3 / 3 / 3", "0.500 / 0.500 / 0.500", 0.0]
    assert levenberg.to_gap(each[1]["lm"], 1.0, 0.03, "trial") == 1
    assert levenberg.to_gap(each[0]["lm"], 0.9, 0.03, "trial") == np.inf


def test_a_kept_run_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "CACHE", tmp_path)
    calls = []

    def run():
        calls.append(1)
        return {"u": np.array([1.5]), "n": np.int64(3)}

    assert study.kept("x", {"seed": 0}, run) == study.kept("x", {"seed": 0}, run) == {"u": [1.5], "n": 3}
    study.kept("x", {"seed": 1}, run)
    study.kept("x", {"seed": 1}, run, fresh=True)
    assert len(calls) == 3


@pytest.mark.parametrize("state", [{"only": True}, {"until": 0.0}, {"clocks": False}])
def test_what_may_not_be_started_is_said_and_what_was_kept_is_shown(tmp_path, monkeypatch, state):
    monkeypatch.setattr(study, "CACHE", tmp_path)
    done = study.kept("x", {"seed": 0}, lambda: {"s": 1.0}, clock=True)
    for name, value in state.items():
        monkeypatch.setattr(study.Keeping, name, value)
    assert study.kept("x", {"seed": 0}, dict, clock=True) == done
    missing = []
    assert study.finished("seed 1", lambda: study.kept("x", {"seed": 1}, dict, clock=True), missing) is None
    assert missing == ["seed 1"]


def test_a_disturbed_clock_is_read_again_and_the_calmer_reading_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "CACHE", tmp_path)
    readings = iter(
        [{"s": 3.0, "others": 1.5}, {"s": 2.0, "others": 0.8}, {"s": 9.0, "others": 1.9}, {"s": 1.0, "others": 0.1}]
    )
    seen = [study.kept("x", {}, lambda: next(readings), clock=True)["s"] for _ in range(5)]
    assert seen == [3.0, 2.0, 2.0, 1.0, 1.0]


def test_a_missing_peer_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "CACHE", tmp_path)
    assert study.kept("x", {}, lambda: "missing: no environment") == "missing: no environment"
    assert study.kept("x", {}, lambda: {"s": 1.0}) == {"s": 1.0}


def test_a_trace_counts_processor_time_and_ends_with_it():
    table = {"x_test": np.zeros(4), "y_test": np.array([0, 1, 0, 1])}
    trace = large_child.Trace(table, {"score": "accuracy", "seconds": 60.0, "looks": 2})
    trace.start()
    assert not trace(lambda x: np.array([1.0, -1, -1, -1]), 3, 40)
    assert trace(lambda x: np.array([-1.0, 1, -1, -1]), 6, 80)
    assert [row[1:] for row in trace.rows] == [(0.25, 3, 40), (0.75, 6, 80)]
    assert 0 <= trace.rows[0][0] <= trace.rows[1][0] < 60
    short = large_child.Trace(table, {"score": "accuracy", "seconds": -1.0})
    short.start()
    assert short(lambda x: np.zeros((4, 1)))


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    raw, y = rng.standard_normal((50, 1)), rng.standard_normal(50)
    assert large_child.r2(raw, y) == pytest.approx(r2_score(y, raw))
    assert large_child.accuracy(np.eye(3), np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_large_sets_are_compared_at_the_rival_s_goals():
    assert large.time_to([[1.0, 0.5, 0, 0], [3.0, 0.9, 2, 8], [5.0, 0.9, 4, 16]], 0.9) == [3.0, 0.9, 2, 8]
    assert large.time_to([[1.0, 0.5, 0, 0]], 0.9) is None
    seconds = {"dnnext PL": "never", "dnnext FL": 2.0, "scikit-learn": 4.0, "PyTorch": 1.0}
    rows = [["adult", 1, "float32", 1, who, "", 0.1, 0.2, s, 0.8, 1, 1, 1] for who, s in seconds.items()]
    assert large.ratios(rows, "scikit-learn") == {"adult": 0.5}
    assert large.ratios(rows, "PyTorch") == {"adult": 2.0}
    assert [claim.holds for claim in large.claims(rows)] == [False, False]  # one set of five


def test_average_precision_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    raw, y = rng.standard_normal(50), rng.integers(0, 2, 50)
    assert large_child.average_precision(raw, y) == pytest.approx(average_precision_score(y, raw))


def test_a_table_is_aligned():
    lines = study.markdown(["a", "long"], [[1.23456, None], ["x", 10]]).splitlines()
    assert lines[2] == "| 1.235 | -    |"
    assert len({len(line) for line in lines}) == 1
