"""Chains as ONNX and PyTorch models give the same outputs; a layer without an equivalent is refused."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

import dnnext
from dnnext import DecentralizedClassifier, DecentralizedRegressor
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten, MaxPool2d, Residual

DIGITS = load_digits()
IMAGES, DIGIT = DIGITS.images[:60], DIGITS.target[:60]
COLOURS = np.stack([IMAGES, 3 - 2 * IMAGES[:, ::-1]], axis=1)
X, Y = load_diabetes(return_X_y=True)
QUICK = {
    "n_agents": 3,
    "topology": "ring",
    "max_iter": 3,
    "tol": 0,
    "random_state": 0,
    "algorithm": "gradient_tracking",
}
GREY = [
    Conv2d(3, 3, padding="same", activation="tanh"),
    Residual([Conv2d(3, 3, padding=1, activation="softplus")]),
    AvgPool2d(2),
    Flatten(),
    Dense(6, "logistic"),
    Dense(),
]
ODD = [
    Conv2d(4, (2, 3), stride=(2, 1), padding=(1, 2), activation="relu"),
    MaxPool2d((2, 3), 2),
    Conv2d(2, 2, dilation=(1, 2), activation="square"),
    AvgPool2d(1, 2),
    Flatten(),
    Dense(),
]
TABLE = [Dense(5, "tanh"), Residual([Dense(4, "relu"), Dense(5)]), Dense()]
CASES = {
    "grey": (DecentralizedClassifier, GREY, IMAGES, DIGIT),
    "two classes": (DecentralizedClassifier, GREY, IMAGES, DIGIT > 4),
    "colours": (DecentralizedClassifier, ODD, COLOURS, DIGIT),
    "table": (DecentralizedRegressor, TABLE, X[:90], Y[:90]),
    "numbers of images": (DecentralizedRegressor, GREY, IMAGES, 50 + 1e3 * np.stack([DIGIT, -DIGIT], axis=1)),
}


def fitted(case, dtype):
    kind, layers, x, y = CASES[case]
    x = x.astype(dtype)
    return kind(Chain(layers), **QUICK).fit(x, y), x


def assert_close(found, wanted, dtype):
    size = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=size * (1e-12 if dtype == "float64" else 1e-5))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_onnx(case, dtype, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = fitted(case, dtype)
    kinds = {node.op_type for node in model.to_onnx(tmp_path / "m.onnx").graph.node}
    assert ("Conv" in kinds) == (dtype == "float32" and case != "table")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    first, *rest = session.run(None, {"X": x})
    if isinstance(model, DecentralizedRegressor):
        assert_close(first.squeeze(), model.predict(x), dtype)
    else:
        assert_close(rest[0], model.predict_proba(x), dtype)
        np.testing.assert_array_equal(first, model.predict(x))


@pytest.mark.parametrize("case", CASES)
def test_files(case, tmp_path):
    model, x = fitted(case, "float32")
    model.save(tmp_path / "m.npz")
    again = dnnext.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again._raw(x), model._raw(x))
    assert again.model.fingerprint() == model.model.fingerprint()


def torch_module(torch, layers, before=()):
    """The Sequential that the docstring describes."""

    class Square(torch.nn.Module):
        def forward(self, z):
            return z * z

    class Shortcut(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.layers = torch_module(torch, inner)

        def forward(self, x):
            return x + self.layers(x)

    nn, made = torch.nn, list(before)
    activations = {"tanh": nn.Tanh, "logistic": nn.Sigmoid, "relu": nn.ReLU, "softplus": nn.Softplus, "square": Square}
    for layer in layers:
        if isinstance(layer, Dense):
            made.append(nn.Linear(layer.shape_in[0], layer.shape_out[0]))
        elif isinstance(layer, Conv2d):
            channels, filters = layer.shape_in[0], layer.filters
            made.append(nn.Conv2d(channels, filters, layer.size, layer.stride, layer.padding, layer.dilation))
        elif isinstance(layer, AvgPool2d | MaxPool2d):
            made.append((nn.AvgPool2d if isinstance(layer, AvgPool2d) else nn.MaxPool2d)(layer.size, layer.stride))
        else:
            made.append(nn.Flatten() if isinstance(layer, Flatten) else Shortcut(layer.layers))
        if getattr(layer, "activation", "identity") != "identity":
            made.append(activations[layer.activation]())
    return nn.Sequential(*made)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_torch(case, dtype):
    torch = pytest.importorskip("torch")
    model, x = fitted(case, dtype)
    inputs = torch.tensor(x if x.ndim != 3 else x[:, None])
    norm = torch.nn.BatchNorm1d if inputs.ndim == 2 else torch.nn.BatchNorm2d
    net = torch_module(torch, model._network.model.layers, [norm(inputs.shape[1], eps=0, affine=False)])
    net = net.to(getattr(torch, dtype)).eval()
    net.load_state_dict(model.to_torch_state_dict())
    with torch.no_grad():
        assert_close(net(inputs).numpy(), model._raw(x), dtype)


class Mine(Dense):
    """A layer that computes something else than its parent."""

    def product(self, weight, x):
        return super().product(weight, x) / 2

    def describe(self, table):
        return False


def test_what_has_no_equivalent_is_refused():
    pytest.importorskip("onnx")
    for layers in ([Mine(4, "tanh"), Dense()], [Dense(3), Residual([Mine(3)]), Dense()]):
        model = DecentralizedRegressor(Chain(layers), **QUICK).fit(X[:50], Y[:50])
        with pytest.raises(ValueError, match=r"the layer Mine\(.* has no equivalent in ONNX"):
            model.to_onnx()
    with pytest.raises(ValueError, match="must be an MLP to become one of scikit-learn"):
        model.to_sklearn()


def test_what_has_no_equivalent_in_torch_is_refused():
    pytest.importorskip("torch")
    model = DecentralizedRegressor(Chain([Mine(4, "tanh"), Dense()]), **QUICK).fit(X[:50], Y[:50])
    with pytest.raises(ValueError, match=r"the layer Mine\(.* has no equivalent in PyTorch"):
        model.to_torch_state_dict()
    model = DecentralizedRegressor(Chain([Dense(4), Dense(1, "tanh")]), **QUICK).fit(X[:50], Y[:50])
    with pytest.raises(ValueError, match="the last layer must be Dense without activation"):
        model.to_torch_state_dict()
