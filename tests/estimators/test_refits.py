"""What a second fit finds of the first: nothing lost by a failure, nothing carried over in silence."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Schedule, Topology
from dnnext.problem import PENALTIES, Penalty

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 15, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}
WORDS = np.array(["a", "b", "z"])


def classifier(**options):
    return DecentralizedMLPClassifier((6,), **{**QUICK, **options})


@pytest.mark.parametrize(
    ("params", "fit"),
    [
        ({}, {"X": X[:100], "y": WORDS[Y[:100]], "eval_set": (X, WORDS[Y])}),
        ({}, {"X": X[:, :2], "y": Y, "eval_set": 5}),
        ({"topology": "donut"}, {"X": X[:, :2], "y": WORDS[Y]}),
        ({"callbacks": [lambda state, metrics: 1 / 0]}, {"X": X[:, 1:], "y": WORDS[Y]}),
    ],
    ids=["eval_set", "features", "graph", "callback"],
)
def test_a_failed_fit_leaves_the_old_model_whole(params, fit):
    clf = classifier().fit(X, Y)
    before = dict(vars(clf)), clf.predict_proba(X)
    clf.set_params(**params)
    with pytest.raises((ValueError, ZeroDivisionError)):
        clf.fit(**fit)
    np.testing.assert_array_equal(clf.predict_proba(X), before[1])
    assert clf.score(X, Y) > 0.9
    assert vars(clf).keys() == before[0].keys()
    assert clf.n_features_in_ == 4


def test_a_failed_first_fit_leaves_nothing():
    clf = classifier(topology="donut")
    before = dict(vars(clf))
    with pytest.raises(ValueError, match="donut"):
        clf.fit(X, Y)
    assert vars(clf) == before
    with pytest.raises(ValueError, match="not among the classes"):
        classifier().partial_fit(X, Y, classes=[7, 8])


def test_an_eval_set_does_not_decide_the_shape_of_predictions():
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((4,), **QUICK).fit(inputs, y, eval_set=(inputs, y[:, None]))
    assert reg.predict(inputs).shape == (442,)


def test_warm_start_keeps_to_its_classes():
    clf = classifier(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="continues from a model of the classes"):
        clf.fit(X, np.array(["x", "y", "z"])[Y])
    assert clf.fit(X, Y).score(X, Y) > 0.9


def test_warm_start_leaves_weights_that_are_all_zero():
    clf = classifier(penalty="l1", alpha=10.0, max_iter=100).fit(X, Y)
    assert not any(weight.any() for weight in clf.coefs_)
    clf.set_params(warm_start=True, alpha=1e-4, max_iter=30).fit(X, Y)
    assert clf.score(X, Y) > 0.9


def test_probabilities_follow_the_loss_that_was_trained(tmp_path):
    hinge = classifier(loss="squared_hinge").fit(X, Y).set_params(loss="auto")
    assert not hasattr(hinge, "predict_proba")
    with pytest.raises(ValueError, match="squared_hinge"):
        hinge.to_sklearn()
    hinge.save(tmp_path / "m.npz")
    assert not hasattr(dnnext.load(tmp_path / "m.npz"), "predict_proba")
    assert hinge.fit(X, Y).predict_proba(X).shape == (150, 3)
    assert hinge.set_params(loss="squared_hinge").predict_proba(X).shape == (150, 3)


@pytest.mark.parametrize(
    "topology", [Topology.ring(4), Schedule.link_failures(Topology.complete(4), p=0.2, random_state=0)], ids=repr
)
@pytest.mark.parametrize("mixing", ["foo", "laplacian", np.eye(4)], ids=["word", "name", "matrix"])
def test_mixing_beside_a_graph_that_has_its_own_is_refused(topology, mixing):
    with pytest.raises(ValueError, match="that carries its own weights"):
        classifier(topology=topology, mixing=mixing).fit(X, Y)


def test_the_scale_of_weights_is_no_information():
    one = classifier().fit(X, Y)
    for scale in (1 / 150, 1e-6, 1e6):
        scaled = classifier().fit(X, Y, sample_weight=np.full(150, scale))
        np.testing.assert_allclose(scaled.coefs_[0], one.coefs_[0], rtol=1e-6)


@pytest.mark.parametrize("early", [False, True])
def test_the_centralised_method_is_scored_along_the_way(early):
    clf = classifier(algorithm="centralized", early_stopping=early, n_iter_no_change=4, max_iter=60)
    clf.fit(X, Y, eval_set=(X, Y))
    assert len(clf.history_["validation_score"]) == clf.n_iter_ + 1
    assert len(clf.agents_) == 4
    if early:
        assert clf.status_ == "early_stopping"
        assert clf.score(X, Y) == clf.best_validation_score_
    held = classifier(algorithm="centralized", early_stopping=True, max_iter=30).fit(X, Y)
    assert np.isfinite(held.history_["validation_score"]).all()


def test_a_penalty_of_the_table_is_known_by_its_name(monkeypatch):
    class Nothing(Penalty):
        """No penalty under another name."""

        def __init__(self, alpha):
            self.alpha = alpha

        def value(self, w):
            return 0.0

        def prox(self, v, s):
            return v

    monkeypatch.setitem(PENALTIES, "nothing", Nothing)
    assert classifier(penalty="nothing").fit(X, Y).score(X, Y) > 0.9


class Nonnegative(Penalty):
    """0 where every weight is >= 0, else infinite."""

    def value(self, w):
        return 0.0 if np.all(w[self.layout.mask > 0] >= 0) else np.inf

    def prox(self, v, s):
        return np.where(self.layout.mask > 0, np.maximum(v, 0), v)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("algorithm", ["next", "gradient_tracking", "dgd", "centralized"])
def test_a_penalty_that_forbids_weights(algorithm, dtype):
    clf = classifier(penalty=Nonnegative(), algorithm=algorithm, dtype=dtype).fit(X, Y)
    assert min(weight.min() for weight in clf.coefs_) >= 0
    assert clf.coefs_[0].dtype == dtype
    assert clf.history_["objective"][-1] < clf.history_["objective"][0]


@pytest.mark.parametrize("class_weight", ["foo", 3, [1.0, 2.0]])
def test_class_weight(class_weight):
    with pytest.raises(ValueError, match="class_weight must be None, 'balanced', a dict"):
        classifier(class_weight=class_weight).fit(X, Y)
