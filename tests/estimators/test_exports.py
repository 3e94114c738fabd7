"""Ways out: scikit-learn, PyTorch and ONNX models give the same answers."""

import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

QUICK = {"max_iter": 6, "tol": 0.0, "n_agents": 3, "topology": "ring", "random_state": 0}
IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def classifier(X, y, **params):
    return DecentralizedMLPClassifier((5, 4), **QUICK, **params).fit(X, y)


def regressor(X, y, **params):
    return DecentralizedMLPRegressor((5,), **QUICK, **params).fit(X, y)


@pytest.mark.parametrize("activation", ["tanh", "logistic", "relu", "identity"])
@pytest.mark.parametrize(("X", "y"), [IRIS, (IRIS[0], NAMES[IRIS[1]]), CANCER], ids=["iris", "names", "binary"])
def test_sklearn_classifier(X, y, activation):
    clf = classifier(X, y, activation=activation)
    mlp = clf.to_sklearn()
    np.testing.assert_allclose(mlp.predict_proba(X), clf.predict_proba(X), atol=1e-11)
    np.testing.assert_array_equal(mlp.predict(X), clf.predict(X))
    assert mlp.score(X, y) == clf.score(X, y)
    assert clone(mlp).hidden_layer_sizes == (5, 4)


def test_sklearn_regressor_of_one_and_two_targets():
    X, y = DIABETES
    for target in (y, np.column_stack([y, -y])):
        reg = regressor(X, target)
        np.testing.assert_allclose(reg.to_sklearn().predict(X), reg.predict(X), rtol=1e-11)


def test_sklearn_model_goes_on_training():
    mlp = classifier(*IRIS).to_sklearn()
    mlp.partial_fit(*IRIS)
    assert np.isfinite(mlp.loss_)


def test_an_agents_view_and_feature_names_leave_too():
    pd = pytest.importorskip("pandas")
    X, y = IRIS
    frame = pd.DataFrame(X, columns=list("abcd"))
    view = classifier(frame, y).agents_[1]
    np.testing.assert_allclose(view.to_sklearn().predict_proba(frame), view.predict_proba(frame), atol=1e-12)


def test_what_sklearn_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="softplus"):
        classifier(*IRIS, activation="softplus").to_sklearn()
    with pytest.raises(ValueError, match="squared_hinge"):
        classifier(*IRIS, loss="squared_hinge").to_sklearn()


def test_without_the_other_library_a_sentence(monkeypatch):
    clf = classifier(*IRIS)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install torch"):
        clf.to_torch_state_dict()
    with pytest.raises(ImportError, match="pip install onnx"):
        clf.to_onnx()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch(dtype):
    torch = pytest.importorskip("torch")
    X, y = IRIS
    clf = classifier(X, y, dtype=dtype)
    act = torch.nn.Tanh
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), act(), torch.nn.Linear(5, 4), act(), torch.nn.Linear(4, 3)).to(
        getattr(torch, dtype)
    )
    net.load_state_dict(clf.to_torch_state_dict())
    with torch.no_grad():
        raw = net(torch.tensor(X.astype(dtype))).numpy()
    np.testing.assert_allclose(raw, clf.decision_function(X), atol=1e-11 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge"])
def test_torch_with_several_labels_per_row(loss):
    torch = pytest.importorskip("torch")
    X = IRIS[0]
    labels = np.stack([X[:, 0] > 5.8, X[:, 1] > 3, X[:, 2] > 4.3], axis=1).astype(int)
    clf = classifier(X, labels, loss=loss)
    act = torch.nn.Tanh
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), act(), torch.nn.Linear(5, 4), act(), torch.nn.Linear(4, 3))
    net.double().load_state_dict(clf.to_torch_state_dict())
    with torch.no_grad():
        raw = net(torch.tensor(X))
    np.testing.assert_allclose(raw.numpy(), clf.decision_function(X), atol=1e-11)
    np.testing.assert_array_equal((raw > 0).long().numpy(), clf.predict(X))
    if loss == "log_loss":
        np.testing.assert_allclose(torch.sigmoid(raw).numpy(), clf.predict_proba(X), atol=1e-11)


def session(model):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("activation", ["tanh", "logistic", "relu", "softplus", "identity", "square"])
@pytest.mark.parametrize(("X", "y"), [IRIS, (IRIS[0], NAMES[IRIS[1]]), CANCER], ids=["iris", "names", "binary"])
def test_onnx_classifier(X, y, activation, dtype):
    pytest.importorskip("onnx")
    clf = classifier(X, y, activation=activation, dtype=dtype)
    label, probabilities = session(clf.to_onnx()).run(None, {"X": X.astype(dtype)})
    np.testing.assert_allclose(probabilities, clf.predict_proba(X), atol=1e-12 if dtype == "float64" else 1e-4)
    np.testing.assert_array_equal(label, clf.predict(X))


def test_onnx_margins_and_targets(tmp_path):
    pytest.importorskip("onnx")
    for X, y in (IRIS, CANCER):
        clf = classifier(X, y, loss="squared_hinge")
        label, scores = session(clf.to_onnx()).run(None, {"X": X})
        np.testing.assert_allclose(scores.squeeze(), clf.decision_function(X), atol=1e-12)
        np.testing.assert_array_equal(label, clf.predict(X))
    X, y = DIABETES
    reg = regressor(X, y)
    model = reg.to_onnx(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == model.SerializeToString()
    np.testing.assert_allclose(session(model).run(None, {"X": X})[0][:, 0], reg.predict(X), rtol=1e-12)
