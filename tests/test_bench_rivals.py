"""The baselines of the evidence compute what they say, and a study goes on where it stopped."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

sys.path.append(
    str(Path(__file__).parents[1])
)  # bench/ is not installed; last, so that an installed dnnext comes first
data = import_module("bench.data")
common = import_module("bench.experiments.common")
provenance = import_module("bench.provenance")
rivals = import_module("bench.experiments.rivals")


def a_case(name, n_agents=3, hidden=(6,)):
    return common.Case.of(data.load(name), n_agents, hidden=hidden, seed=1)


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


def test_a_kept_run_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CACHE", tmp_path)
    calls = []

    def run():
        calls.append(1)
        return {"u": np.array([1.5]), "n": np.int64(3)}

    assert provenance.kept("x", {"seed": 0}, run) == provenance.kept("x", {"seed": 0}, run) == {"u": [1.5], "n": 3}
    provenance.kept("x", {"seed": 1}, run)
    provenance.kept("x", {"seed": 1}, run, fresh=True)
    assert len(calls) == 3


def test_a_table_is_aligned():
    lines = provenance.markdown(["a", "long"], [[1.23456, None], ["x", 10]]).splitlines()
    assert lines[2] == "| 1.235 | -    |"
    assert len({len(line) for line in lines}) == 1
