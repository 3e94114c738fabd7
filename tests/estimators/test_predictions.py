"""The fitted model: predictions, folded weights, agents' views, sparsity."""

import networkx as nx
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import NotFittedError

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Topology

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 20, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}


def by_hand(model, inputs):
    """Raw outputs from coefs_ and intercepts_ alone."""
    for weight, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        inputs = np.tanh(inputs @ weight + bias)
    return inputs @ model.coefs_[-1] + model.intercepts_[-1]


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
def test_coefs_act_on_raw_inputs(hidden):
    inputs, y = load_diabetes(return_X_y=True)
    inputs = inputs * [1e-3, 1, 10, 1e3, 1, 1, 1, 1, 1, 1] + 5
    reg = DecentralizedMLPRegressor(hidden, **QUICK).fit(inputs, y)
    np.testing.assert_allclose(by_hand(reg, inputs)[:, 0], reg.predict(inputs), rtol=1e-9)
    view = reg.agents_[2]
    np.testing.assert_allclose(by_hand(view, inputs)[:, 0], view.predict(inputs), rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_and_decisions_agree(classes):
    rows = classes > Y
    labels = np.array(["setosa", "versicolor", "virginica"])[Y[rows]]
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X[rows], labels)
    raw, proba = clf.decision_function(X[rows]), clf.predict_proba(X[rows])
    assert raw.shape == ((rows.sum(),) if classes == 2 else (rows.sum(), 3))
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    both = np.column_stack([np.zeros(len(raw)), raw]) if classes == 2 else raw
    np.testing.assert_allclose(clf.predict_log_proba(X[rows]), log_softmax(both, axis=1), atol=1e-12)
    assert np.array_equal(clf.predict(X[rows]), clf.classes_[np.argmax(proba, axis=1)])
    assert clf.score(X[rows], labels) > 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_squared_hinge_has_margins_but_no_probabilities(classes):
    rows = classes > Y
    clf = DecentralizedMLPClassifier((5,), loss="squared_hinge", **QUICK).fit(X[rows], Y[rows])
    assert not hasattr(clf, "predict_proba")
    assert not hasattr(clf, "predict_log_proba")
    assert clf.decision_function(X).shape == ((150,) if classes == 2 else (150, 3))
    assert clf.score(X[rows], Y[rows]) > 0.9


def test_nothing_before_fit():
    clf = DecentralizedMLPClassifier()
    for call in (clf.predict, clf.decision_function, clf.predict_proba):
        with pytest.raises(NotFittedError):
            call(X)
    assert not hasattr(clf, "agents_")
    with pytest.raises(NotFittedError):
        clf.save("nowhere.npz")


def test_agents_views():
    owner = np.array(["north", "south", "west"])[np.minimum(np.arange(150) % 5, 2)]
    clf = DecentralizedMLPClassifier((5,), **{**QUICK, "max_iter": 60}).fit(X, Y, agent=owner)
    assert [view.label for view in clf.agents_] == ["north", "south", "west"]
    assert [view.n_samples for view in clf.agents_] == [30, 30, 90]
    for view in clf.agents_:
        assert np.mean(view.predict(X) == clf.predict(X)) > 0.97
        np.testing.assert_allclose(view.coefs_[0], clf.coefs_[0], atol=0.3)
        assert not hasattr(view, "agents_")
    mean = np.mean([view.coefs_[1] for view in clf.agents_], axis=0)
    np.testing.assert_allclose(mean, clf.coefs_[1], rtol=1e-9)


def test_nodes_without_rows_are_relays():
    graph = nx.relabel_nodes(nx.path_graph(4), dict(enumerate(["a", "relay", "b", "c"])))
    owner = np.array(list("abc") * 50)
    clf = DecentralizedMLPClassifier((5,), **{**QUICK, "topology": graph, "max_iter": 60}).fit(X, Y, agent=owner)
    assert clf.n_agents_ == 4
    assert [(view.label, view.n_samples) for view in clf.agents_] == [("a", 50), ("relay", 0), ("b", 50), ("c", 50)]
    assert clf.agents_[1].score(X, Y) > 0.95


def test_a_graph_decides_the_number_of_agents():
    clf = DecentralizedMLPClassifier((5,), **{**QUICK, "topology": Topology.star(6)}).fit(X, Y)
    assert clf.n_agents_ == 6
    assert clf.topology_.n_agents == 6
    few = DecentralizedMLPClassifier((5,), **{**QUICK, "topology": Topology.star(6)}).fit(X[::50], Y[::50])
    assert sorted(view.n_samples for view in few.agents_) == [0, 0, 0, 1, 1, 1]


def test_an_agent_that_lacks_a_class_still_has_its_output():
    clf = DecentralizedMLPClassifier((5,), **{**QUICK, "max_iter": 60}).fit(X, Y, agent=Y)
    assert all(view.predict_proba(X).shape == (150, 3) for view in clf.agents_)
    assert clf.score(X, Y) > 0.95


def test_sparse_penalties_give_exact_zeros():
    inputs, y = load_breast_cancer(return_X_y=True)
    noise = np.random.default_rng(0).normal(size=(len(y), 5))
    inputs = np.hstack([inputs, noise])
    lasso = DecentralizedMLPClassifier((10,), penalty="l1", alpha=5e-3, **{**QUICK, "max_iter": 60}).fit(inputs, y)
    zeros = np.mean(np.concatenate([weight.ravel() for weight in lasso.coefs_]) == 0)
    assert zeros > 0.5
    group = DecentralizedMLPClassifier((10,), penalty="group", alpha=2e-2, **{**QUICK, "max_iter": 60}).fit(inputs, y)
    assert np.array_equal(group.active_inputs_, np.any(group.coefs_[0] != 0, axis=1))
    assert group.active_inputs_.sum() < 30
    assert group.n_active_units_ == np.any(group.coefs_[1] != 0, axis=1).sum()
    assert group.score(inputs, y) > 0.9


def test_constant_columns_do_no_harm():
    wide = np.column_stack([X, np.full(150, 3.3), np.zeros(150)])
    clf = DecentralizedMLPClassifier((5,), **{**QUICK, "max_iter": 60}).fit(wide, Y)
    assert clf.score(wide, Y) > 0.95


def test_hidden_saturation_far_away_is_finite():
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y)
    assert np.isfinite(clf.predict_proba(X * 1e30)).all()
