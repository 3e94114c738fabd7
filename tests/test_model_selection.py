"""Paths along the penalty, and scikit-learn's own searches around the estimators."""

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnnext import DecentralizedClassifier, DecentralizedMLPClassifier, DecentralizedMLPRegressor, regularization_path
from dnnext.algorithms import NEXT
from dnnext.estimators.choices import make_threads
from dnnext.models import Chain, Dense
from dnnext.problem import L1

X, Y = load_breast_cancer(return_X_y=True)
QUICK = {"max_iter": 25, "tol": 1e-2, "n_agents": 3, "topology": "ring", "random_state": 0, "n_jobs": 1}
QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def group(**params):
    return DecentralizedMLPClassifier((4,), **{"penalty": "group"} | QUICK | params)


@QUIET
def test_stronger_penalties_keep_less():
    path = regularization_path(group(), X, Y, alphas=[1.0, 3e-3, 0.03], cv=2)
    np.testing.assert_array_equal(path.alphas, [3e-3, 0.03, 1.0])
    assert path.scores.shape == (3, 2)
    inputs = path.n_active_inputs.mean(axis=1)
    assert inputs[0] > inputs[1] > inputs[2] == 0
    assert path.n_active_units[-1].max() == path.n_nonzero[-1].max() == 0
    assert path.best_alpha in (3e-3, 0.03)
    assert path.sparsest_alpha >= path.best_alpha
    assert (path.n_inputs, path.n_units, path.n_weights, path.score_name) == (30, 4, 124, "accuracy")


@QUIET
def test_the_first_fit_is_an_ordinary_fit_and_the_next_starts_from_it():
    model = group(max_iter=5, tol=0.0)
    train, test = next(KFold(3, shuffle=True, random_state=0).split(X))
    path = regularization_path(model, X, Y, alphas=[0.01, 0.02], cv=[(train, test)])
    from dnnext.model_selection import one_seed

    alone = clone(model).set_params(alpha=0.01, random_state=one_seed(0), warm_start=True).fit(X[train], Y[train])
    assert path.scores[0, 0] == alone.score(X[test], Y[test])
    again = alone.set_params(alpha=0.02).fit(X[train], Y[train])
    assert path.scores[1, 0] == again.score(X[test], Y[test])
    assert path.n_nonzero[1, 0] == sum(np.count_nonzero(w) for w in again.coefs_)
    assert path.score_error.tolist() == [0.0, 0.0]


def test_a_warm_start_under_a_much_stronger_penalty_is_no_alarm():
    model = group(warm_start=True, max_iter=200, alpha=0.01).fit(X, Y)
    model.set_params(alpha=0.3).fit(X, Y)  # the loss rises as far as the penalty falls; a warning would be an error
    assert model.status_ == "converged"


@QUIET
def test_folds_in_parallel_give_the_same_numbers():
    one, two = (regularization_path(group(), X, Y, alphas=[1e-2, 1e-1], cv=2, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.n_nonzero, two.n_nonzero)


@QUIET
def test_weights_and_agents_are_split_along():
    agent = np.array(["north", "east", "south", "west"])[np.arange(len(X)) % 4]
    weight = np.where(np.arange(len(X)) % 5, 1.0, 2.0)
    path = regularization_path(group(), X, Y, alphas=[1e-2], cv=2, agent=agent, sample_weight=weight)
    assert path.scores.shape == (1, 2)


@QUIET
def test_regression_default_strengths_and_scoring():
    inputs, y = load_diabetes(return_X_y=True)
    model = DecentralizedMLPRegressor((3,), penalty="l1", **QUICK | {"max_iter": 4})
    path = regularization_path(model, inputs, y, cv=2, scoring="neg_mean_absolute_error")
    np.testing.assert_allclose(path.alphas[[0, -1]], np.array([0.1, 30.0]) * 5 / 221)
    assert len(path.alphas) == 12
    assert path.score_name == "neg mean absolute error"
    assert np.all(path.scores < 0)


def test_fits_that_were_cut_short_are_counted_once():
    with pytest.warns(ConvergenceWarning, match="2 of the 2 fits were cut short .* increase max_iter") as caught:
        regularization_path(group(max_iter=10, tol=1e-9), X, Y, alphas=[1e-3], cv=2)
    assert len(caught) == 1


def test_fits_that_began_to_diverge_need_no_more_iterations():
    with pytest.warns(ConvergenceWarning, match="2 of the 2 fits began to diverge; tau was raised") as caught:
        regularization_path(group(max_iter=40, algorithm=NEXT(tau=1e-9)), X, Y, alphas=[1e-3], cv=2)
    assert len(caught) == 1
    assert "max_iter" not in str(caught[0].message)


def test_what_has_no_path_is_refused():
    with pytest.raises(ValueError, match=r"penalty must be the name of a penalty.*got None"):
        regularization_path(group(penalty=None), X, Y)
    with pytest.raises(ValueError, match="L1"):
        regularization_path(group(penalty=L1(alpha=0.1)), X, Y)
    with pytest.raises(ValueError, match="above zero"):
        regularization_path(group(), X, Y, alphas=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"alphas must be None or a list of numbers above zero, got 'auto'"):
        regularization_path(group(), X, Y, alphas="auto")


@QUIET
def test_the_given_estimator_is_not_touched():
    model = group(max_iter=2)
    before = model.get_params()
    regularization_path(model, X, Y, alphas=[1e-2], cv=2)
    assert model.get_params() == before
    assert not hasattr(model, "coefs_")


@QUIET
def test_grid_search_in_a_pipeline_with_two_workers():
    pipeline = make_pipeline(StandardScaler(), group(max_iter=8))
    grid = {"decentralizedmlpclassifier__alpha": [1e-3, 1e-1]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, Y)
    assert search.best_score_ > 0.8
    serial = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])


@QUIET
def test_cross_val_score_with_two_workers_and_threads_within():
    model = group(max_iter=8, n_jobs=None)
    np.testing.assert_array_equal(cross_val_score(model, X, Y, cv=2, n_jobs=2), cross_val_score(model, X, Y, cv=2))


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    get_reusable_executor().shutdown(wait=True)  # earlier workers may have other settings
    threads = joblib.Parallel(n_jobs=2)(joblib.delayed(make_threads)(None) for _ in range(2))
    assert threads == [max(1, joblib.cpu_count() // 2)] * 2


@QUIET
def test_a_path_is_printed_in_three_lines():
    path = regularization_path(group(), *load_iris(return_X_y=True), alphas=[1e-3, 1e-1], cv=2)
    first, best, sparsest = repr(path).split("\n")
    assert first == "RegularizationPath: 2 strengths, 2 folds"
    assert best.startswith(f"  best {path.best_alpha:.3g}: accuracy 0.")
    assert sparsest.startswith(f"  sparsest {path.sparsest_alpha:.3g}: accuracy 0.")
    assert best.endswith("of 4 units")


def test_a_path_warns_at_the_line_of_the_user_and_needs_an_mlp():
    x, y = load_iris(return_X_y=True)
    clf = DecentralizedMLPClassifier((3,), n_agents=200, max_iter=5, tol=0, random_state=0)
    with pytest.warns(UserWarning, match="n_agents=200, but there are") as caught:
        regularization_path(clf, x[::5], y[::5], alphas=[1e-1], cv=2)
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.raises(ValueError, match=r"estimator.model must be an MLP"):
        regularization_path(DecentralizedClassifier(Chain([Dense()])), x, y)
