"""Estimators with any model, targets of every kind, and what a fit leaves behind."""

import gc
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFromModel
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight

import dnnext
from dnnext import (
    DecentralizedClassifier,
    DecentralizedMLPClassifier,
    DecentralizedMLPRegressor,
    DecentralizedRegressor,
)
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.models import MLP, AvgPool2d, Chain, Conv2d, Dense, Flatten

X, Y = load_iris(return_X_y=True)
QUICK = {"n_agents": 4, "topology": "ring", "max_iter": 8, "tol": 0, "random_state": 0}
DIGITS = load_digits()
IMAGES, DIGIT = DIGITS.images[:240], DIGITS.target[:240]


def test_the_mlp_estimators_are_the_general_ones():
    general = DecentralizedClassifier(MLP([None, 6, None]), **QUICK).fit(X, Y)
    special = DecentralizedMLPClassifier((6,), **QUICK).fit(X, Y)
    np.testing.assert_array_equal(general.coefs_[0], special.coefs_[0])
    assert isinstance(special, DecentralizedClassifier)
    assert (
        list(general.weights_) == ["layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias"] or general.weights_
    )


def test_a_chain_takes_images(tmp_path):
    net = Chain([Conv2d(3, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()])
    clf = DecentralizedClassifier(net, **{**QUICK, "max_iter": 25}).fit(IMAGES, DIGIT)
    assert clf.score(IMAGES, DIGIT) > 0.6
    assert clf._network.moments.x_mean.shape == (1, 1)
    assert not hasattr(clf, "coefs_")
    assert not hasattr(clf, "feature_importances_")
    assert len(clf.agents_) == 4
    clf.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(dnnext.load(tmp_path / "m.npz").predict(IMAGES), clf.predict(IMAGES))
    with pytest.raises(ValueError, match="rows of shape"):
        clf.predict(IMAGES[:, :, :7])
    with pytest.raises(ValueError, match="must be an MLP to become one of scikit-learn"):
        clf.to_sklearn()
    colours = np.stack([IMAGES, 2 + 5 * IMAGES], axis=1)
    clf = DecentralizedClassifier(net, **QUICK).fit(colours, DIGIT)
    assert clf._network.moments.x_mean.shape == (2, 1, 1)
    np.testing.assert_allclose(clf._network.moments.x_mean.ravel(), colours.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(clf._network.moments.x_scale.ravel(), colours.std(axis=(0, 2, 3)))


def test_a_chain_regresses_and_is_refused_what_does_not_fit():
    x, y = load_diabetes(return_X_y=True)
    reg = DecentralizedRegressor(Chain([Dense(5, "tanh"), Dense()]), **{**QUICK, "max_iter": 40}).fit(x, y)
    assert reg.score(x, y) > 0.4
    with pytest.raises(ValueError, match="model must be None or a Model"):
        DecentralizedRegressor("mlp").fit(x, y)
    with pytest.raises(ValueError, match="layer"):
        DecentralizedClassifier(Chain([Conv2d(3, 3), Flatten(), Dense()]), **QUICK).fit(X, Y)


def test_a_search_reaches_into_the_algorithm():
    clf = DecentralizedMLPClassifier((4,), algorithm=NEXT(PartialLinearization()), **QUICK)
    search = GridSearchCV(clf, {"algorithm__surrogate__n_blocks": [1, 2]}, cv=2).fit(X, Y)
    assert search.best_params_.keys() == {"algorithm__surrogate__n_blocks"}
    other = clone(clf).set_params(algorithm__surrogate__n_blocks=3, algorithm__tau=0.5)
    assert (clf.algorithm.surrogate.n_blocks, other.algorithm.surrogate.n_blocks, other.algorithm.tau) == (1, 3, 0.5)


@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge"])
def test_several_labels_per_row(loss, tmp_path):
    x, y = make_multilabel_classification(200, n_features=8, n_classes=4, random_state=0)
    clf = DecentralizedMLPClassifier((8,), loss=loss, **{**QUICK, "max_iter": 60}).fit(x, y)
    assert np.mean(clf.predict(x) == y) > 0.8
    assert clf.predict(x).shape == clf.decision_function(x).shape == y.shape
    np.testing.assert_array_equal(clf.predict(x), clf.decision_function(x) > 0)
    assert clf.classes_.tolist() == [0, 1, 2, 3]
    if loss == "log_loss":
        assert clf.out_activation_ == "logistic"
        np.testing.assert_array_equal(clf.predict(x), clf.predict_proba(x) > 0.5)
        np.testing.assert_allclose(clf.to_sklearn().predict_proba(x), clf.predict_proba(x), atol=1e-10)
        np.testing.assert_array_equal(clf.to_sklearn().predict(x), clf.predict(x))
    assert clf.score(x, y) == np.mean((clf.predict(x) == y).all(axis=1))
    assert (clf.coefs_[-1].shape, clf.intercepts_[-1].shape) == ((8, 4), (4,))
    clf.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(dnnext.load(tmp_path / "m.npz").predict(x), clf.predict(x))
    agents = DecentralizedMLPClassifier((8,), loss=loss, **QUICK).fit_agents([(x[::2], y[::2]), (x[1::2], y[1::2])])
    assert agents.n_outputs_ == 4
    stream = DecentralizedMLPClassifier((8,), loss=loss, **QUICK).partial_fit(x, y, classes=range(4))
    assert stream.partial_fit(x[:50], y[:50]).predict(x).shape == y.shape


def test_weights_of_classes_where_rows_have_several_labels():
    x, y = make_multilabel_classification(120, n_features=5, n_classes=3, random_state=0)
    options = {**QUICK, "alpha": 1e-3}
    weights = [{0: 1, 1: 3}, {0: 2, 1: 1}, {0: 1, 1: 1}]
    for class_weight in ("balanced", weights):
        one = DecentralizedMLPClassifier((4,), class_weight=class_weight, **options).fit(x, y)
        other = DecentralizedMLPClassifier((4,), **options).fit(
            x, y, sample_weight=compute_sample_weight(class_weight, y)
        )
        np.testing.assert_allclose(one._network.row, other._network.row, rtol=1e-7)
    for wrong in ({0: 1, 1: 2}, weights[:2]):
        with pytest.raises(ValueError, match="class_weight must be 'balanced' or a list of 3 dicts"):
            DecentralizedMLPClassifier(class_weight=wrong, **QUICK).fit(x, y)
    with pytest.raises(ValueError, match="class_weight must be a dict"):
        DecentralizedMLPClassifier(class_weight=weights, **QUICK).fit(X, Y)


def test_several_labels_as_onnx():
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    x, y = make_multilabel_classification(100, n_features=5, n_classes=3, random_state=0)
    clf = DecentralizedMLPClassifier((4,), **QUICK).fit(x, y)
    session = onnxruntime.InferenceSession(clf.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(None, {"X": x})
    np.testing.assert_array_equal(label, clf.predict(x))
    np.testing.assert_allclose(probabilities, clf.predict_proba(x), rtol=1e-12)


def test_counts_with_the_poisson_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = rng.poisson(np.exp(1 + x[:, 0]))
    reg = DecentralizedMLPRegressor((4,), loss="poisson", **{**QUICK, "max_iter": 60}).fit(x, y)
    assert reg.out_activation_ == "exp"
    assert (reg.predict(x) > 0).all()
    assert np.corrcoef(np.log(reg.predict(x)), x[:, 0])[0, 1] > 0.95
    with pytest.raises(ValueError, match="poisson loss takes targets of at least 0"):
        DecentralizedMLPRegressor(loss="poisson", **QUICK).fit(x, y - 5)


def test_what_a_fit_leaves_to_read():
    clf = DecentralizedMLPClassifier((5,), early_stopping=True, **{**QUICK, "n_iter_no_change": np.inf}).fit(X, Y)
    assert clf.loss_curve_ == clf.history_["objective"].tolist()
    assert clf.best_loss_ == min(clf.loss_curve_)
    assert clf.validation_scores_ == clf.history_["validation_score"].tolist()
    assert clf.n_iter_ == 8
    assert len(clf.history_["validation_loss"]) == 9
    assert clf.history_["validation_loss"][-1] < clf.history_["validation_loss"][0]
    assert (clf.n_layers_, clf.out_activation_) == (3, "softmax")
    assert clf.feature_importances_.shape == (4,)
    assert clf.feature_importances_.sum() == pytest.approx(1)
    selected = SelectFromModel(DecentralizedMLPClassifier((5,), **QUICK), max_features=2).fit(X, Y)
    assert selected.transform(X).shape[1] <= 2
    assert DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y).validation_scores_ is None


def test_float32_stays_float32():
    x = X.astype(np.float32)
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(x, Y)
    assert clf.coefs_[0].dtype == clf.weights_["layer1.weight"].dtype == np.float32
    assert clf.predict_proba(x).dtype == clf.predict_log_proba(x).dtype == clf.decision_function(x).dtype == np.float32
    reg = DecentralizedMLPRegressor((5,), **QUICK).fit(x, x[:, 0])
    assert reg.predict(x).dtype == reg.agents_[0].predict(x).dtype == np.float32
    assert DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y).coefs_[0].dtype == np.float64
    assert DecentralizedMLPClassifier((5,), dtype="float64", **QUICK).fit(x, Y).coefs_[0].dtype == np.float64
    stream = DecentralizedMLPClassifier((5,), **QUICK).partial_fit(x, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    assert stream.coefs_[0].dtype == np.float32


def test_warnings_point_at_the_line_of_the_user(tmp_path):
    with pytest.warns(UserWarning, match="n_agents=30") as caught:
        DecentralizedMLPClassifier((3,), **{**QUICK, "n_agents": 30}).fit(X[::8], Y[::8])
    with pytest.warns(ConvergenceWarning, match="still falling") as more:
        DecentralizedMLPClassifier((3,), **{**QUICK, "max_iter": 10, "tol": 1e-8}).fit_agents([(X, Y)])
    clf = DecentralizedMLPClassifier((3,), n_agents=8, random_state=0)
    with pytest.warns(UserWarning, match="the first call of partial_fit fixes") as of_stream:
        clf.partial_fit(X[::50], Y[::50], classes=[0, 1, 2])
    clf = DecentralizedMLPClassifier((3,), callbacks=[lambda state, metrics: False], **QUICK).fit(X, Y)
    clf.save(tmp_path / "m.npz")
    with pytest.warns(UserWarning, match="which a model file cannot hold") as of_file:
        dnnext.load(tmp_path / "m.npz")
    with pytest.warns(FutureWarning, match="tau moved") as of_names:
        DecentralizedMLPClassifier(tau=1.0)
    for found in (caught, more, of_stream, of_file, of_names):
        assert {warning.filename for warning in found} == {__file__}


@pytest.mark.parametrize(("kind", "stops"), [(np.float32, False), (np.float64, False), (np.float32, True)])
def test_a_fit_takes_at_most_two_and_a_half_times_the_rows_and_keeps_none(kind, stops):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 40)).astype(kind)
    before, y = x.copy(), (x[:, 0] > 0).astype(int)
    seen = []

    class Look:
        def begin(self, run):
            seen.append(weakref.ref(run.problem.x))

        def __call__(self, state, metrics):
            return False

    model = DecentralizedMLPClassifier(
        (4,),
        n_agents=4,
        topology="ring",
        max_iter=2,
        tol=0,
        callbacks=[Look()],
        random_state=0,
        n_jobs=1,
        early_stopping=stops,
    )
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        model.fit(x, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen[0]() is None
    finally:
        gc.enable()
    assert peak < 2.5 * x.nbytes
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("images", [False, True])
def test_rows_of_agents_are_joined_and_not_copied_again(images):
    x, y = (IMAGES, DIGIT) if images else (X, Y)
    before = x.copy()
    net = Chain([Flatten(), Dense()])
    parts, owner = [(x[i::3], y[i::3]) for i in range(3)], np.arange(len(x)) % 3
    weighted = [*parts[:2], (*parts[2], np.arange(len(parts[2][0])))]  # a row of weight zero is left out
    found = []

    class Look:
        def begin(self, run):
            found.append(np.shares_memory(run.problem.x, clf._own_rows))

        def __call__(self, state, metrics):
            return False

    held_out = {"early_stopping": True, "n_iter_no_change": np.inf}
    for rows, options in ((parts, {}), (weighted, {}), (parts, held_out)):
        clf = DecentralizedClassifier(net, callbacks=[Look()], **{**QUICK, **options})
        clf.fit_agents(rows)
        assert not hasattr(clf, "_own_rows")
        if not options and rows is parts:
            whole = DecentralizedClassifier(net, **QUICK).fit(x, y, agent=owner)
            np.testing.assert_array_equal(clf._agent_rows, whole._agent_rows)
    assert found == [True, False, False]
    np.testing.assert_array_equal(x, before)


def test_pickles_of_the_general_estimators_predict():
    reg = DecentralizedRegressor(**QUICK).fit(*load_diabetes(return_X_y=True))
    x = load_diabetes().data
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reg)).predict(x), reg.predict(x))
