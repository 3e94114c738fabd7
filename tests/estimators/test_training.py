"""What fit, partial_fit and their options do."""

import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Schedule, Topology
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.problem import L1

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 15, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}
COLUMNS = ["iteration", "round", "objective", "stationarity", "disagreement", "tracking_error", "tau", "step"]
COLUMNS += ["bytes", "bytes_wire"]


def classifier(**options):
    return DecentralizedMLPClassifier((6,), **{**QUICK, **options})


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))


def test_history_has_equal_columns_and_the_objective_falls():
    clf = classifier().fit(X, Y)
    assert list(clf.history_) == [*COLUMNS, "seconds", "curvature"]
    assert {len(column) for column in clf.history_.values()} == {16}
    assert clf.history_["objective"][-1] < 0.5 * clf.history_["objective"][0]
    assert clf.n_iter_ == 15
    assert not clf.converged_
    assert clf.status_ == "max_iter"


def test_one_seed_one_model_whatever_the_threads():
    one, two = classifier(n_jobs=1).fit(X, Y), classifier(n_jobs=2).fit(X, Y)
    assert same(one, two)
    assert not same(one, classifier(random_state=1).fit(X, Y))
    assert not np.array_equal(classifier(random_state=None).fit(X, Y).coefs_[0], one.coefs_[0])


def test_fit_agents_is_fit_with_agent():
    owner = np.repeat([0, 1, 2], 50)
    shuffled = np.random.default_rng(0).permutation(150)
    one = classifier().fit(X[shuffled], Y[shuffled], agent=owner)
    two = classifier().fit_agents([(X[rows], Y[rows]) for rows in np.split(shuffled, 3)])
    assert same(one, two)
    assert one.n_agents_ == two.n_agents_ == 3


def test_weights_repeat_rows_and_zero_weights_remove_them():
    owner = np.arange(150) % 3
    weight = np.random.default_rng(0).integers(0, 3, 150)
    again = np.repeat(np.arange(150), weight)
    for options in ({}, {"class_weight": "balanced"}):
        options["alpha"] = 0.03  # "auto" counts rows
        weighted = classifier(**options).fit(X, Y, sample_weight=weight, agent=owner)
        repeated = classifier(**options).fit(X[again], Y[again], agent=owner[again])
        np.testing.assert_allclose(weighted.coefs_[0], repeated.coefs_[0], rtol=1e-6, atol=1e-9)


def test_rows_of_weight_zero_count_for_no_class_weight():
    y, weight, owner = (Y == 2).astype(int), np.ones(150), np.arange(150) % 3
    weight[100:140] = 0
    keep = weight > 0
    one = classifier(class_weight="balanced").fit(X, y, sample_weight=weight, agent=owner)
    two = classifier(class_weight="balanced").fit(X[keep], y[keep], agent=owner[keep])
    assert same(one, two)


def test_class_weight_is_sample_weight():
    by_class = classifier(class_weight={0: 1.0, 1: 2.0, 2: 3.0}).fit(X, Y)
    assert same(by_class, classifier().fit(X, Y, sample_weight=1.0 + Y))
    assert same(classifier(class_weight="balanced").fit(X, Y), classifier().fit(X, Y))


def test_sparse_input_is_taken_as_dense():
    assert same(classifier().fit(scipy.sparse.csr_array(X), Y), classifier().fit(X, Y))
    assert np.array_equal(classifier().fit(X, Y).predict(scipy.sparse.csc_matrix(X)), classifier().fit(X, Y).predict(X))


@pytest.mark.parametrize("partition", ["label", "dirichlet"])
def test_skewed_parts_reach_the_same_quality(partition):
    clf = classifier(partition=partition, max_iter=60).fit(X, Y)
    assert clf.score(X, Y) > 0.95


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "gradient_tracking"},
        {"algorithm": "dgd"},
        {"algorithm": "centralized"},
        {"algorithm": "newton"},
        {"algorithm": NEXT(PartialLinearization(curvature="exact"))},
        {"algorithm": NEXT(FullLinearization())},
        {"algorithm": NEXT(PartialLinearization(n_blocks=3))},
        {"algorithm": NEXT(PartialLinearization(solver="dual"))},
        {"algorithm": NEXT(PartialLinearization(solver="cg"))},
        {"algorithm": NEXT(PartialLinearization(curvature="shared"))},
        {"algorithm": NEXT(PartialLinearization(curvature="shared")), "penalty": "l1", "alpha": 1e-3},
        {"algorithm": NEXT(tau=1.0, step=0.5)},
        {"mixing_rounds": 2, "mixing": "laplacian"},
        {"penalty": "elasticnet", "alpha": [1e-3, 1e-4]},
        {"penalty": None},
        {"penalty": L1(1e-3)},
        {"activation": "relu"},
        {"dtype": "float32"},
        {"standardize": False},
        {"loss": "squared_hinge"},
        {"topology": Topology.star(5)},
        {"topology": Schedule.link_failures(Topology.complete(4), p=0.3, random_state=0)},
        {"topology": np.ones((3, 3)) - np.eye(3)},
    ],
    ids=str,
)
def test_choices_train(options):
    clf = classifier(**options).fit(X, Y)
    assert clf.history_["objective"][-1] < clf.history_["objective"][0]
    assert clf.coefs_[0].dtype == np.dtype(options.get("dtype", "float64"))


@pytest.mark.parametrize("hidden", [(), (5, 4), 7])
def test_depths(hidden):
    reg = DecentralizedMLPRegressor(hidden, **QUICK).fit(*load_diabetes(return_X_y=True))
    assert reg.score(*load_diabetes(return_X_y=True)) > 0.4


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_many_targets(loss):
    inputs, targets = load_linnerud(return_X_y=True)
    reg = DecentralizedMLPRegressor((4,), loss=loss, **QUICK).fit(inputs, targets)
    assert reg.predict(inputs).shape == targets.shape
    assert reg.score(inputs, targets) > 0.1


def test_regression_does_not_depend_on_units():
    inputs, y = load_diabetes(return_X_y=True)
    one = DecentralizedMLPRegressor((5,), **QUICK).fit(inputs, y)
    two = DecentralizedMLPRegressor((5,), **QUICK).fit(inputs * 1024 + 3, y / 1024)
    np.testing.assert_allclose(two.predict(inputs * 1024 + 3) * 1024, one.predict(inputs), rtol=1e-6)


def test_more_agents_than_rows():
    with pytest.warns(UserWarning, match="n_agents=20, but there are 10 rows: the network has 10 agents"):
        clf = classifier(n_agents=20).fit(X[::15], Y[::15])
    assert clf.n_agents_ == 10


def test_warm_start_goes_on_even_when_moments_change():
    clf = classifier(warm_start=True).fit(X, Y)
    end = clf.history_["objective"][-1]
    np.testing.assert_allclose(clf.fit(X, Y).history_["objective"][0], end, rtol=1e-10)
    before = clf.decision_function(X)
    clf.set_params(max_iter=1, algorithm=NEXT(tau=1e9)).fit(10 + X[::2], Y[::2])
    np.testing.assert_allclose(clf.coefs_[0], classifier(warm_start=True).fit(X, Y).fit(X, Y).coefs_[0], atol=1e-4)
    assert before.shape == (150, 3)
    with pytest.raises(ValueError, match="warm_start=True continues from"):
        clf.set_params(hidden_layer_sizes=(3,)).fit(X, Y)


def test_early_stopping_keeps_the_best_score():
    inputs, y = load_breast_cancer(return_X_y=True)
    clf = classifier(early_stopping=True, n_iter_no_change=4, max_iter=100, validation_fraction=0.3).fit(inputs, y)
    scores = clf.history_["validation_score"]
    assert clf.status_ == "early_stopping"
    assert clf.converged_
    assert clf.best_validation_score_ == scores.max()
    assert len(scores) == clf.n_iter_ + 1 < 100
    assert abs(sum(view.n_samples for view in clf.agents_) - 0.7 * 569) < 4


def test_eval_set_is_scored_and_decides():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((5,), **QUICK).fit(inputs[:300], y[:300], eval_set=(inputs[300:], y[300:]))
    assert len(reg.history_["validation_score"]) == 16
    assert reg.history_["validation_score"][-1] == pytest.approx(reg.score(inputs[300:], y[300:]))
    reg.set_params(early_stopping=True, max_iter=60).fit(inputs[:300], y[:300], eval_set=(inputs[300:], y[300:]))
    assert reg.score(inputs[300:], y[300:]) == pytest.approx(reg.history_["validation_score"].max())
    assert sum(view.n_samples for view in reg.agents_) == 300


def test_scores_follow_monitor_every():
    clf = classifier(monitor_every=4).fit(X, Y, eval_set=(X, Y))
    assert clf.history_["iteration"].tolist() == [0, 4, 8, 12, 15]
    assert np.isfinite(clf.history_["validation_score"]).all()


def test_callbacks_may_stop_and_time_is_a_limit():
    seen = []
    clf = classifier(callbacks=[lambda state, metrics: seen.append(metrics["objective"]) or len(seen) == 3])
    assert clf.fit(X, Y).status_ == "callback"
    assert clf.n_iter_ == len(seen) == 3
    assert classifier(max_time=1e-9).fit(X, Y).status_ == "max_time"


def test_ctrl_c_keeps_the_best_model():
    def press(state, metrics):
        if state.t == 5:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted after 5 iterations"):
        clf = classifier(callbacks=[press]).fit(X, Y)
    assert clf.status_ == "interrupted"
    assert clf.score(X, Y) > 0.6


def test_an_exception_in_a_callback_comes_out():
    def broken(state, metrics):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        classifier(callbacks=[broken]).fit(X, Y)


def test_still_falling_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="still falling"):
        classifier(tol=1e-8, max_iter=10).fit(X, Y)


def test_divergence_is_never_silent():
    reg = DecentralizedMLPRegressor((20,), **{**QUICK, "algorithm": NEXT(tau=1e-9), "max_iter": 60}, partition="label")
    with pytest.warns(ConvergenceWarning, match="agent"):
        reg.fit(*load_diabetes(return_X_y=True))
    assert np.isfinite(reg.predict(load_diabetes().data)).all()


def test_verbose_prints_a_line_per_iteration(capsys):
    classifier(verbose=1).fit(X, Y)
    out, err = capsys.readouterr()
    assert out == ""
    what, *lines = err.splitlines()
    assert what == "curvature='auto' is 'exact': 51 weights, and a fixed graph."
    assert [line.split()[1] for line in lines] == ["1/15", "10/15", "15/15"]
    classifier(verbose=2).fit(X, Y)
    what, *lines = capsys.readouterr().out.splitlines()
    assert what.startswith("curvature='auto' is 'exact'")
    assert len(lines) == 15
    assert lines[0].startswith("iteration    1/15  objective ")


def test_partial_fit_tracks_the_gradient_of_the_newest_rows():
    reg = DecentralizedMLPRegressor((4,), **QUICK)
    inputs, y = load_diabetes(return_X_y=True)
    for start in 3 * list(range(0, 400, 50)):
        rows = slice(start, start + 50)
        reg.partial_fit(inputs[rows], y[rows])
        progress = reg._progress
        np.testing.assert_allclose(progress.agents["y"].mean(axis=0), progress.agents["grad"].mean(axis=0), atol=1e-12)
    assert reg.n_iter_ == 24
    assert reg.history_["iteration"].tolist() == list(range(1, 25))
    assert np.all(np.diff(reg.history_["bytes"]) > 0)
    assert reg.score(inputs, y) > 0.35


def test_partial_fit_continues_fit_and_knows_its_agents():
    owner = np.array(list("abc") * 50)
    clf = classifier().fit(X, Y, agent=owner)
    score, moments = clf.score(X, Y), clf._network.moments
    clf.partial_fit(X[::2], Y[::2], agent=owner[::2])
    assert clf.n_iter_ == 16
    assert clf._network.moments is moments
    assert [view.n_samples for view in clf.agents_] == [25, 25, 25]
    assert clf.score(X, Y) > score - 0.05
    fresh = classifier(n_agents=3).partial_fit(X, Y, classes=np.arange(4))
    assert fresh.predict_proba(X).shape == (150, 4)


def test_partial_fit_with_rows_of_one_agent_only():
    clf = classifier(n_agents=3).partial_fit(X, Y, classes=[0, 1, 2])
    clf.partial_fit(X[:20], Y[:20], agent=np.zeros(20, int))
    assert [view.n_samples for view in clf.agents_] == [20, 0, 0]


def test_grid_search_routes_agent_and_weight():
    with sklearn.config_context(enable_metadata_routing=True):
        clf = classifier().set_fit_request(agent=True, sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(clf, {"alpha": [1e-3, 1e-1]}, cv=3, error_score="raise")
        search.fit(X, Y, agent=np.arange(150) % 5, sample_weight=np.ones(150))
    assert search.best_estimator_.n_agents_ == 5
    assert search.best_score_ > 0.9


def test_cross_validation_in_worker_processes():
    scores = cross_val_score(classifier(max_iter=20), X, Y, cv=2, n_jobs=2)
    assert scores.min() > 0.85


def test_clone_and_parameters():
    clf = classifier(penalty="group", alpha=1e-2)
    assert clone(clf).get_params() == clf.get_params()
