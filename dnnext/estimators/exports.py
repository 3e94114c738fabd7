"""Ways out: the fitted network as a scikit-learn, PyTorch or ONNX model.

# Design:
#   Each target gets the network in the form its readers expect. scikit-learn and PyTorch receive coefs_ / intercepts_,
#   folded onto raw inputs; ONNX keeps the standardisation as nodes of its own, exactly as `predict` computes it.
#   onnx and torch are imported on use; what a target cannot express is a sentence.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from dnnext._checks import check_path, short
from dnnext.estimators.fitted import FittedNetwork
from dnnext.estimators.inputs import input_names
from dnnext.estimators.onnx_graph import OnnxWriter
from dnnext.estimators.regimes import check_network
from dnnext.estimators.targets import Classes
from dnnext.estimators.torch_state import chain_state

SKLEARN_ACTIVATIONS = ("identity", "logistic", "relu", "tanh")


def to_sklearn(fitted: Any) -> Any:
    """A fitted `MLPClassifier` or `MLPRegressor` with the weights of a fitted estimator."""
    network, targets = _exported(fitted, "to_sklearn"), fitted._y
    model = _require_mlp(network)
    if model.activation not in SKLEARN_ACTIVATIONS:
        raise ValueError(
            f"activation is {model.activation!r}, which scikit-learn's MLP does not have; it takes one of "
            f"{', '.join(SKLEARN_ACTIVATIONS)}. Use to_onnx or to_torch_state_dict."
        )
    is_classifier = isinstance(targets, Classes)
    if is_classifier and not targets.has_probabilities:
        raise ValueError(
            "loss is 'squared_hinge', whose outputs are no probabilities, but MLPClassifier would show them as "
            "such. Use to_onnx or to_torch_state_dict."
        )
    if not is_classifier and targets.is_log:
        raise ValueError("loss is 'poisson', which not every MLPRegressor has. Use to_onnx or to_torch_state_dict.")
    family = MLPClassifier if is_classifier else MLPRegressor
    hidden = tuple(int(n) for n in model.layers[1:-1])
    mlp = family(hidden, activation=model.activation, random_state=fitted.random_state)
    coefs, intercepts = network.fold()
    mlp.coefs_ = [weight.astype(np.float64) for weight in coefs]
    mlp.intercepts_ = [bias.astype(np.float64) for bias in intercepts]
    mlp.n_layers_, mlp.n_outputs_ = len(coefs) + 1, model.n_outputs
    mlp.n_iter_, mlp.t_, mlp.n_features_in_ = fitted.n_iter_, 0, model.layers[0]
    losses = [float(u) for u in fitted.history_["objective"]]
    mlp.loss_curve_, mlp.loss_, mlp.best_loss_, mlp._no_improvement_count = losses, losses[-1], min(losses), 0
    names = input_names(fitted)
    if names is not None:
        mlp.feature_names_in_ = names
    mlp.out_activation_ = targets.out_activation
    if is_classifier:
        mlp.classes_ = targets.labels
        mlp._label_binarizer = LabelBinarizer()
        if targets.has_one_label:
            mlp._label_binarizer.fit(targets.labels)
        else:
            mlp._label_binarizer.fit(np.tril(np.ones((model.n_outputs, model.n_outputs), dtype=int)))
    return mlp


def to_torch_state_dict(fitted: Any) -> dict[str, Any]:
    """The arrays of a ``torch.nn.Sequential`` with the weights of a fitted estimator."""
    network = _exported(fitted, "to_torch_state_dict")
    try:
        import torch
    except ImportError:
        raise ImportError("to_torch_state_dict needs PyTorch: pip install torch.") from None
    _check_layers(network, "PyTorch")
    state = {} if network.can_fold else chain_state(network)
    if network.can_fold:
        for k, (weight, bias) in enumerate(zip(*network.fold(), strict=True)):
            state |= {f"{2 * k}.weight": weight.T, f"{2 * k}.bias": bias}
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in state.items()}


def to_onnx(fitted: Any, path: Any = None) -> Any:
    """The ONNX model of a fitted estimator, written to `path` unless that is None."""
    network = _exported(fitted, "to_onnx")
    if path is not None and os.path.isdir(path := check_path("path", path)):
        raise ValueError(f"path must be a file to write to, got the folder {path!r}.")
    try:
        import onnx
    except ImportError:
        raise ImportError("to_onnx needs the package onnx: pip install onnx.") from None
    _check_layers(network, "ONNX")
    model = OnnxWriter(onnx, network, fitted._y).model()
    if path is not None:
        onnx.save_model(model, path)
    return model


def _exported(fitted: Any, what: str) -> FittedNetwork:
    """The network that is handed out; a tangent is refused."""
    check_is_fitted(fitted)
    check_network(fitted, what)
    network: FittedNetwork = fitted._network
    return network


def _require_mlp(network: FittedNetwork) -> Any:
    """The model, an MLP: the one network that scikit-learn has."""
    if not network.can_fold:
        raise ValueError(f"the model must be an MLP to become one of scikit-learn's, got {short(network.model)}.")
    return network.model


def _check_layers(network: FittedNetwork, where: str) -> None:
    """Refuse a model that is not made of layers."""
    if "hidden_layers" not in network.model.offers:
        raise ValueError(f"the model must be an MLP or a Chain to be exported to {where}, got {short(network.model)}.")
