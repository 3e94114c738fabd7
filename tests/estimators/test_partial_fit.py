"""What partial_fit goes on from, what it refuses, and what it does when it diverges."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Schedule, Topology
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 15, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}


def classifier(**options):
    return DecentralizedMLPClassifier((6,), **{**QUICK, **options})


@pytest.mark.parametrize("tau", ["ratio", "auto"])
def test_open_curvature_is_each_agents_own(tau):
    one, other = (
        classifier(algorithm=NEXT(PartialLinearization(curvature=curvature), tau=rule))
        for curvature, rule in [("auto", tau), ("own", "auto")]
    )
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        one.partial_fit(X[rows], Y[rows], classes=[0, 1, 2])
        other.partial_fit(X[rows], Y[rows], classes=[0, 1, 2])
    np.testing.assert_array_equal(one._agent_rows, other._agent_rows)
    assert list(one.history_) == list(other.history_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert one.fit(X, Y).partial_fit(X, Y).history_["objective"].size > other.n_iter_


def test_divergence_is_warned_of_taken_back_and_answered_by_a_larger_tau():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((20,), **QUICK, algorithm=NEXT(tau=1e-9), partition="label").partial_fit(inputs, y)
    sentence = r"partial_fit began to diverge at agent \d in iteration \d+ \(round \d+\)"
    warned = 0
    for _ in range(20):
        rows, tau = reg._agent_rows.copy(), reg.history_["tau"][-1]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            reg.partial_fit(inputs, y)
        if caught:
            warned += 1
            with pytest.raises(ConvergenceWarning, match=sentence):
                raise caught[0].message
            assert np.array_equal(reg._agent_rows, rows)
            assert reg.history_["tau"][-1] == pytest.approx(10 * tau)
            np.testing.assert_array_equal(reg._progress.agents["y"], reg._progress.agents["grad"])
    assert warned > 0
    assert reg.history_["objective"].max() < 5


def test_a_network_with_one_answer_to_all_rows_is_warned_of():
    inputs, y = load_breast_cancer(return_X_y=True)
    clf, rng, texts = (
        DecentralizedMLPClassifier((10,), n_agents=5, algorithm=NEXT(tau=1e-9), random_state=0),
        np.random.default_rng(0),
        [],
    )
    for _ in range(32):
        rows = rng.choice(len(inputs), 60)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            clf.partial_fit(inputs[rows], y[rows], classes=[0, 1])
        texts += [str(w.message) for w in caught if "one answer to all rows" in str(w.message)]
    assert len(texts) >= 1
    assert np.std(clf.decision_function(inputs)) < 0.01
    assert "tau='auto'" in texts[0]


def test_labels_that_turn_round_are_learnt_after_an_alarm():
    clf = classifier(algorithm=NEXT()).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="partial_fit began to diverge"):
        clf.partial_fit(X, 2 - Y)
    for _ in range(15):  # a warning would be an error here, although the loss is above the ceiling at first
        clf.partial_fit(X, 2 - Y)
    assert clf.score(X, 2 - Y) > 0.9


def test_it_goes_on_from_the_weights_that_early_stopping_chose():
    inputs, y = load_breast_cancer(return_X_y=True)
    clf = classifier(early_stopping=True, n_iter_no_change=3, max_iter=60, validation_fraction=0.3).fit(inputs, y)
    assert clf.status_ == "early_stopping"
    np.testing.assert_array_equal(clf._progress.agents["w"], clf._agent_rows)
    np.testing.assert_array_equal(clf._progress.agents["y"], clf._progress.agents["grad"])
    n_iter = clf.n_iter_
    clf.set_params(early_stopping=False).partial_fit(inputs, y)
    assert clf.n_iter_ == n_iter + 1
    assert clf.score(inputs, y) > 0.95


def test_it_goes_on_from_the_centralised_method_and_from_one_agent():
    clf = classifier(algorithm="centralized", max_iter=30).fit(X, Y)
    objective = clf.history_["objective"][-1]
    clf.set_params(algorithm="next").partial_fit(X, Y)
    assert clf.n_iter_ == 31
    assert clf.history_["objective"][-1] < 2 * objective
    view = clf.agents_[1]
    view.partial_fit(X, Y)
    assert view.score(X, Y) > 0.95


def test_a_model_read_from_a_file_goes_on_with_equal_numbers(tmp_path):
    clf = classifier().partial_fit(X, Y, classes=[0, 1, 2])
    clf.save(tmp_path / "m.npz")
    again = dnnext.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(
        again.partial_fit(X[::2], Y[::2]).coefs_[0], clf.partial_fit(X[::2], Y[::2]).coefs_[0]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"early_stopping": True}, "early_stopping is True, but partial_fit"),
        ({"callbacks": [print]}, "callbacks are called in fit only"),
        ({"max_time": 5.0}, "max_time is 5.0, but partial_fit"),
        ({"topology": "star"}, "topology is 'star', but was 'ring' before"),
        ({"n_agents": 5}, "n_agents is 5, but was 4 before"),
        ({"mixing": "laplacian"}, "mixing is 'laplacian'"),
        ({"loss": "squared_hinge"}, "loss is 'squared_hinge', but was 'auto' before"),
    ],
)
def test_what_one_iteration_cannot_do_is_refused(options, words):
    clf = classifier().fit(X, Y).set_params(**options)
    before = clf.n_iter_
    with pytest.raises(ValueError, match=words):
        clf.partial_fit(X, Y)
    assert clf.n_iter_ == before


def test_the_width_of_y_stays():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((4,), **QUICK).partial_fit(inputs, np.c_[y, y])
    with pytest.raises(ValueError, match=r"y has 1 column\(s\), but the model has 2"):
        reg.partial_fit(inputs, y)
    assert reg.predict(inputs).shape == (442, 2)
    reg = DecentralizedMLPRegressor((4,), **QUICK).partial_fit(inputs, y)
    with pytest.raises(ValueError, match=r"y has 2 column\(s\), but the model has 1"):
        reg.partial_fit(inputs, np.c_[y, y])
    assert reg.partial_fit(inputs, y[:, None]).predict(inputs).shape == (442,)


def test_a_first_call_with_hardly_any_rows_is_a_warning():
    with pytest.warns(UserWarning, match=r"fixes the scale of the data and the number of agents, but brought 1 row"):
        classifier().partial_fit(X[:1], Y[:1], classes=[0, 1, 2])


def test_a_schedule_that_no_file_holds_is_missed(tmp_path):
    clf = classifier(topology=Schedule.link_failures(Topology.complete(3), p=0.3, random_state=0)).fit(X, Y)
    clf.save(tmp_path / "m.npz")
    with pytest.warns(UserWarning, match="a model file cannot hold"):
        again = dnnext.load(tmp_path / "m.npz")
    with pytest.raises(ValueError, match="partial_fit needs the graph that the model was trained on"):
        again.partial_fit(X, Y)


SHARED = {"algorithm": NEXT(PartialLinearization(curvature="shared"))}


def test_shared_curvature_mixes_once_per_call_and_learns_pairs():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((5,), **QUICK, **SHARED)
    rounds = []
    for _ in range(8):
        reg.partial_fit(inputs, y)
        rounds.append(reg.history_["round"][-1])
    first, *later = np.diff([0, *rounds])
    assert first == 2 * later[0]  # y = C grad is a message of its own, once
    assert len(set(later)) == 1
    assert np.count_nonzero(reg._progress.agents["memory.pairs.s"].any(axis=(0, 2))) == 5
    assert reg.history_["objective"][-1] < reg.history_["objective"][0]


@pytest.mark.parametrize("options", [{"algorithm": NEXT()}, SHARED], ids=["own", "shared"])
def test_calls_with_the_same_rows_are_the_iterations_of_one_run(options):
    inputs, y = load_diabetes(return_X_y=True)
    whole = DecentralizedMLPRegressor((5,), **{**QUICK, "max_iter": 6}, **options, alpha=1e-2).fit(inputs, y)
    parts = DecentralizedMLPRegressor((5,), **QUICK, **options, alpha=1e-2)
    for _ in range(6):
        parts.partial_fit(inputs, y)
    np.testing.assert_array_equal(parts._agent_rows, whole._agent_rows)
    np.testing.assert_array_equal(parts.history_["objective"], whole.history_["objective"][1:])


def test_what_fit_chose_goes_on_with_own_curvature_and_a_new_tau():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((5,), **{**QUICK, "max_iter": 6}).fit(inputs, y)
    before = reg.history_
    assert set(before["curvature"]) == {2}
    for _ in range(20):
        reg.partial_fit(inputs, y)
    assert reg.history_["curvature"].tolist() == [2] * 7 + [0] * 20
    assert reg.history_["tau"][7] > 50 * before["tau"][-1]  # what fits a common matrix is too small for own ones
    assert reg.history_["objective"][-1] < before["objective"][-1]


def test_shared_curvature_follows_rows_that_change(tmp_path):
    inputs, y = load_diabetes(return_X_y=True)
    reg, rng = DecentralizedMLPRegressor((5,), **QUICK, **SHARED), np.random.default_rng(0)
    for _ in range(25):
        rows = rng.choice(len(inputs), 200, replace=False)
        reg.partial_fit(inputs[rows], y[rows])
        kept = reg._progress.agents
        np.testing.assert_allclose(kept["y"].mean(axis=0), kept["grad"].mean(axis=0), atol=1e-12)
    assert reg.score(inputs, y) > 0.4


def test_tau_follows_the_curvature_that_agents_see_on_other_rows():
    inputs, y = load_diabetes(return_X_y=True)
    reg, order = DecentralizedMLPRegressor((10,), n_agents=6, random_state=0), np.random.default_rng(0)
    for _ in range(40):
        rows = order.choice(len(y), 60, replace=False)
        reg.partial_fit(inputs[rows], y[rows])
    tau = reg.history_["tau"]
    assert tau[-1] < 0.5 * tau[0]  # it was kept as it was at the start
    assert (np.diff(tau) > 0).any()
    assert reg.score(inputs, y) > 0.45
