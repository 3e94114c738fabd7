"""Ways out: the fitted network as a scikit-learn, PyTorch or ONNX model.

# Design:
#   Each target gets the network in the form its readers expect. scikit-learn and PyTorch receive coefs_ / intercepts_,
#   folded onto raw inputs; ONNX keeps the standardisation as nodes of its own, exactly as `predict` computes it.
#   onnx and torch are imported on use; what a target cannot express is a sentence.
"""

from __future__ import annotations

import os

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from dnnext.estimators.regimes import check_network
from dnnext.estimators.targets import Classes
from dnnext.models import MLP

SKLEARN_ACTIVATIONS = ("identity", "logistic", "relu", "tanh")
ONNX_ACTIVATIONS = {"logistic": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}
OPSET = 17


class Exports:
    """Methods of fitted estimators that hand the network to other libraries."""

    def to_sklearn(self):
        """The same network as a fitted `MLPClassifier` or `MLPRegressor` of scikit-learn.

        Its weights are `coefs_` and `intercepts_`, which act on raw inputs, so its predictions and probabilities agree
        with this model's up to rounding (a column whose mean is 10^k times its spread costs k digits).

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor

        Raises
        ------
        ValueError
            For the activations 'softplus' and 'square', which scikit-learn does not have, or
            ``loss='squared_hinge'``, whose outputs are no probabilities.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from dnnext import DecentralizedMLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = DecentralizedMLPClassifier((5,), max_iter=10, tol=0, random_state=0).fit(X, y)
        >>> np.allclose(clf.to_sklearn().predict_proba(X), clf.predict_proba(X), atol=1e-12)
        True
        """
        check_is_fitted(self)
        check_network(self, "to_sklearn")
        _require_mlp(self)
        activation = self._network.model.activation
        if activation not in SKLEARN_ACTIVATIONS:
            raise ValueError(
                f"activation is {activation!r}, which scikit-learn's MLP does not have; it takes one of "
                f"{', '.join(SKLEARN_ACTIVATIONS)}. Use to_onnx or to_torch_state_dict."
            )
        if self._trained_loss == "squared_hinge":
            raise ValueError(
                "loss is 'squared_hinge', whose outputs are no probabilities, but MLPClassifier would show them as "
                "such. Use to_onnx or to_torch_state_dict."
            )
        if self._trained_loss == "poisson":
            raise ValueError("loss is 'poisson', which not every MLPRegressor has. Use to_onnx or to_torch_state_dict.")
        hidden = tuple(int(n) for n in self._network.model.layers[1:-1])
        family = MLPClassifier if self._kind == "classifier" else MLPRegressor
        mlp = family(hidden, activation=activation, random_state=self.random_state)
        mlp.coefs_ = [weight.astype(np.float64) for weight in self.coefs_]
        mlp.intercepts_ = [bias.astype(np.float64) for bias in self.intercepts_]
        mlp.n_layers_, mlp.n_outputs_ = len(self.coefs_) + 1, self.n_outputs_
        mlp.n_iter_, mlp.t_, mlp.n_features_in_ = self.n_iter_, 0, self._network.model.layers[0]
        losses = [float(u) for u in self.history_["objective"]]
        mlp.loss_curve_, mlp.loss_, mlp.best_loss_, mlp._no_improvement_count = losses, losses[-1], min(losses), 0
        if self._input_names is not None:
            mlp.feature_names_in_ = self._input_names
        mlp.out_activation_ = "identity"
        if self._kind == "classifier":
            mlp.out_activation_ = self.out_activation_
            mlp.classes_ = self.classes_
            mlp._label_binarizer = LabelBinarizer()
            if type(self._y) is Classes:
                mlp._label_binarizer.fit(self.classes_)
            else:
                mlp._label_binarizer.fit(np.tril(np.ones((self.n_outputs_, self.n_outputs_), dtype=int)))
        return mlp

    def to_torch_state_dict(self):
        """The weights as the state dict of a ``torch.nn.Sequential`` of Linear and activation modules, in turn.

        Layer k is module 2 k: ``{"0.weight": (n_out, n_in), "0.bias": (n_out,), "2.weight": ...}``, acting on raw
        inputs in the estimator's dtype. The outputs are raw: log-odds, logits, margins or targets.

        Returns
        -------
        dict of str to torch.Tensor

        Raises
        ------
        ImportError
            If torch is not installed.

        Examples
        --------
        >>> clf.to_torch_state_dict()  # doctest: +SKIP
        >>> net = torch.nn.Sequential(  # doctest: +SKIP
        ...     torch.nn.Linear(4, 20), torch.nn.Tanh(), torch.nn.Linear(20, 3)).double()
        >>> net.load_state_dict(clf.to_torch_state_dict())  # doctest: +SKIP
        """
        check_is_fitted(self)
        check_network(self, "to_torch_state_dict")
        try:
            import torch
        except ImportError:
            raise ImportError("to_torch_state_dict needs PyTorch: pip install torch.") from None
        _require_mlp(self)
        state = {}
        for k, (weight, bias) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            state[f"{2 * k}.weight"] = torch.tensor(np.ascontiguousarray(weight.T))
            state[f"{2 * k}.bias"] = torch.tensor(np.array(bias))
        return state

    def to_onnx(self, path=None):
        """The network as an ONNX model (opset 17), standardisation included.

        The input is ``X`` (n, d) in the estimator's dtype. A regressor has one output, ``variable`` (n, Q); a
        classifier has ``label`` (n,) and ``probabilities`` (n, n_classes), or ``scores`` with the raw margins in their
        place under ``loss='squared_hinge'``.

        Parameters
        ----------
        path : str or path, optional
            Where to write; None writes nothing.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            If onnx is not installed.
        ValueError
            If class labels are neither text nor whole numbers.

        Examples
        --------
        >>> clf.to_onnx("m.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("m.onnx")  # doctest: +SKIP
        >>> label, probabilities = session.run(None, {"X": X})  # doctest: +SKIP
        """
        check_is_fitted(self)
        check_network(self, "to_onnx")
        try:
            import onnx
        except ImportError:
            raise ImportError("to_onnx needs the package onnx: pip install 'dnnext[export]'.") from None
        _require_mlp(self)
        model = _OnnxWriter(onnx, self).model()
        if path is not None:
            onnx.save_model(model, os.fspath(path))
        return model


def _require_mlp(estimator):
    """ValueError unless the model is an MLP, the one network that other libraries' forms are written for."""
    if not isinstance(estimator._network.model, MLP):
        raise ValueError(f"the model must be an MLP to be exported, got {estimator._network.model!r}.")


class _OnnxWriter:
    """Nodes and constants of one model, in the order of computation."""

    def __init__(self, onnx, estimator):
        self.onnx, self.helper, self.estimator = onnx, onnx.helper, estimator
        self.dtype = estimator._network.row.dtype
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=None):
        name = f"c{len(self.constants)}"
        value = np.ascontiguousarray(value, dtype=self.dtype if dtype is None else dtype)
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def node(self, kind, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"n{self.count}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def model(self):
        estimator, helper = self.estimator, self.helper
        number = helper.np_dtype_to_tensor_dtype(self.dtype)
        outputs = self.variable() if estimator._kind == "regressor" else self.label()
        graph = helper.make_graph(
            self.nodes,
            "dnnext",
            [helper.make_tensor_value_info("X", number, [None, estimator._network.model.layers[0]])],
            [helper.make_tensor_value_info(name, kind or number, shape) for name, kind, shape in outputs],
            self.constants,
        )
        model = helper.make_model(
            graph, producer_name="dnnext", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def raw(self):
        """Raw outputs in units of the target, as `FittedNetwork.raw`."""
        network = self.estimator._network
        moments = network.moments
        layers = network.model.unpack(network.row)
        now = self.node("Div", self.node("Sub", "X", self.constant(moments.x_mean)), self.constant(moments.x_scale))
        for k, (weight, bias) in enumerate(layers):
            now = self.node("Gemm", now, self.constant(weight), self.constant(bias))
            if k < len(layers) - 1:
                now = self.activate(now, network.model.activation)
        return now

    def activate(self, now, activation):
        """phi(now); softplus as max(0, z) + log(1 + exp(-|z|)), because onnxruntime's own has no double precision."""
        if activation == "softplus":
            tail = self.node("Exp", self.node("Neg", self.node("Abs", now)))
            tail = self.node("Log", self.node("Add", tail, self.constant(1.0)))
            return self.node("Add", self.node("Relu", now), tail)
        if activation == "square":
            return self.node("Mul", now, now)
        return now if activation == "identity" else self.node(ONNX_ACTIVATIONS[activation], now)

    def variable(self):
        moments = self.estimator._network.moments
        scaled = self.node("Mul", self.raw(), self.constant(moments.y_scale))
        if self.estimator._y.is_log:
            self.node("Exp", scaled, out="variable")
        else:
            self.node("Add", scaled, self.constant(moments.y_mean), out="variable")
        return [("variable", None, [None, self.estimator.n_outputs_])]

    def label_sets(self):
        """Zeros and ones, and a probability per label."""
        raw, width = self.raw(), self.estimator.n_outputs_
        above = self.node("Greater", raw, self.constant([0.0]))
        self.node("Cast", above, to=self.onnx.TensorProto.INT64, out="label")
        has_proba = self.estimator._trained_loss != "squared_hinge"
        name = "probabilities" if has_proba else "scores"
        self.node("Sigmoid" if has_proba else "Identity", raw, out=name)
        return [("label", self.onnx.TensorProto.INT64, [None, width]), (name, None, [None, width])]

    def label(self):
        if type(self.estimator._y) is not Classes:
            return self.label_sets()
        classes = self.estimator.classes_
        text = classes.dtype.kind in "OU"
        if not text and classes.dtype.kind not in "biu":
            raise ValueError(f"classes_ holds {classes[0]!r}; an ONNX model can hold labels that are text or integers.")
        if not text and int(classes[-1]) >= 2**63:
            raise ValueError(f"classes_ holds {classes[-1]}; an ONNX model can hold integers below 2^63.")
        labels = self.constant(classes.astype(object if text else np.int64), object if text else np.int64)
        has_proba, raw = self.estimator._trained_loss != "squared_hinge", self.raw()
        if self.estimator.n_outputs_ == 1:
            above = self.node("Greater", raw, self.constant([0.0]))
            chosen = self.node(
                "Squeeze", self.node("Cast", above, to=self.onnx.TensorProto.INT64), self.constant([1], int)
            )
            name, width = ("probabilities", 2) if has_proba else ("scores", 1)
            if has_proba:
                pair = [self.node("Sigmoid", self.node("Neg", raw)), self.node("Sigmoid", raw)]
                self.node("Concat", *pair, out=name, axis=1)
        else:
            chosen = self.node("ArgMax", raw, axis=1, keepdims=0)
            name, width = ("probabilities" if has_proba else "scores"), len(classes)
            if has_proba:
                self.node("Softmax", raw, out=name, axis=1)
        if not has_proba:
            self.node("Identity", raw, out=name)
        self.node("Gather", labels, chosen, out="label", axis=0)
        kind = self.onnx.TensorProto.STRING if text else self.onnx.TensorProto.INT64
        return [("label", kind, [None]), (name, None, [None, width])]
