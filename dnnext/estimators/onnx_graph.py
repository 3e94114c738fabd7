"""A fitted network as an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnext._checks import short
from dnnext.estimators.fitted import FittedNetwork
from dnnext.estimators.onnx_layers import add_layers
from dnnext.estimators.targets import Classes
from dnnext.models.model import input_shape

ONNX_ACTIVATIONS = {"logistic": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}
OPSET = 17
Outputs = list[tuple[str, Any, list[Any]]]  # name, element type (None: that of the model), shape


class OnnxWriter:
    """Nodes and constants of one model, in the order of computation."""

    def __init__(self, onnx: Any, network: FittedNetwork, targets: Any) -> None:
        self.onnx, self.helper, self.network, self.targets = onnx, onnx.helper, network, targets
        self.dtype, self.moments = network.row.dtype, network.moments
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.count = 0

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of an array that the model holds."""
        name = f"c{len(self.constants)}"
        value = np.ascontiguousarray(value, dtype=self.dtype if dtype is None else dtype)
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """The name of the output of one more node."""
        self.count += 1
        out = out or f"n{self.count}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def model(self) -> Any:
        """The whole model, checked."""
        helper = self.helper
        number = helper.np_dtype_to_tensor_dtype(self.dtype)
        outputs = self.label() if isinstance(self.targets, Classes) else self.variable()
        graph = helper.make_graph(
            self.nodes,
            "dnnext",
            [helper.make_tensor_value_info("X", number, [None, *input_shape(self.network.model)])],
            [helper.make_tensor_value_info(name, kind or number, shape) for name, kind, shape in outputs],
            self.constants,
        )
        model = helper.make_model(
            graph, producer_name="dnnext", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def raw(self) -> str:
        """Raw outputs in units of the target, as `FittedNetwork.raw`."""
        model, moments = self.network.model, self.moments
        now = self.node("Div", self.node("Sub", "X", self.constant(moments.x_mean)), self.constant(moments.x_scale))
        if not self.network.can_fold:
            if len(input_shape(model)) == 2:  # layers see one channel
                now = self.node("Unsqueeze", now, self.constant([1], np.int64))
            return add_layers(self, model.layers, list(model.layout.unpack(self.network.row).values()), now)
        layers = model.unpack(self.network.row)
        for k, (weight, bias) in enumerate(layers):
            now = self.node("Gemm", now, self.constant(weight), self.constant(bias))
            if k < len(layers) - 1:
                now = self.activate(now, model.activation)
        return now

    def activate(self, now: str, activation: str) -> str:
        """phi(now); softplus as max(0, z) + log(1 + exp(-|z|)), because onnxruntime's own has no double precision."""
        if activation == "softplus":
            tail = self.node("Exp", self.node("Neg", self.node("Abs", now)))
            tail = self.node("Log", self.node("Add", tail, self.constant(1.0)))
            return self.node("Add", self.node("Relu", now), tail)
        if activation == "square":
            return self.node("Mul", now, now)
        return now if activation == "identity" else self.node(ONNX_ACTIVATIONS[activation], now)

    def variable(self) -> Outputs:
        """Predicted numbers."""
        moments = self.moments
        scaled = self.node("Mul", self.raw(), self.constant(moments.y_scale))
        if self.targets.is_log:
            self.node("Exp", scaled, out="variable")
        else:
            self.node("Add", scaled, self.constant(moments.y_mean), out="variable")
        return [("variable", None, [None, self.targets.n_outputs])]

    def label_sets(self) -> Outputs:
        """Zeros and ones, and a probability per label."""
        raw, width = self.raw(), self.targets.n_outputs
        above = self.node("Greater", raw, self.constant([0.0]))
        self.node("Cast", above, to=self.onnx.TensorProto.INT64, out="label")
        has_proba = self.targets.has_probabilities
        name = "probabilities" if has_proba else "scores"
        self.node("Sigmoid" if has_proba else "Identity", raw, out=name)
        return [("label", self.onnx.TensorProto.INT64, [None, width]), (name, None, [None, width])]

    def label(self) -> Outputs:
        """Labels, and probabilities or scores."""
        if not self.targets.has_one_label:
            return self.label_sets()
        classes = self.targets.labels
        text = classes.dtype.kind in "OU"
        if not text and classes.dtype.kind not in "biu":
            raise ValueError(
                f"classes_ holds {short(classes[0])}; an ONNX model can hold labels that are text or integers."
            )
        if not text and int(classes[-1]) >= 2**63:
            raise ValueError(f"classes_ holds {classes[-1]}; an ONNX model can hold integers below 2^63.")
        labels = self.constant(classes.astype(object if text else np.int64), object if text else np.int64)
        has_proba, raw = self.targets.has_probabilities, self.raw()
        if self.targets.n_outputs == 1:
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
