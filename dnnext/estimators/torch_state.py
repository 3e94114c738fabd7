"""A fitted chain as the state of a ``torch.nn.Sequential``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnnext._checks import short
from dnnext.estimators.fitted import FittedNetwork
from dnnext.estimators.onnx_layers import own_arrays
from dnnext.models import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, Residual

__all__ = ["chain_state"]

KNOWN = (Dense, Conv2d, AvgPool2d, MaxPool2d, Flatten, Residual)


def chain_state(network: FittedNetwork) -> dict[str, Any]:
    """Arrays by name: module 0 standardises, then one module per layer and one per activation that is no identity.

    Raises
    ------
    ValueError
        If a layer has no equivalent, or raw outputs are scaled and no linear layer at the end could take that up.
    """
    moments, dtype = network.moments, network.row.dtype
    arrays = [np.array(array) for array in network.model.layout.unpack(network.row).values()]
    last = network.model.layers[-1]
    if np.any(moments.y_scale != 1) or np.any(moments.y_mean != 0):
        if type(last) is not Dense or last.activation != "identity":
            raise ValueError(
                f"the last layer must be Dense without activation, so that it can scale outputs back, got "
                f"{short(last)}: set standardize=False."
            )
        arrays[-2:] = [arrays[-2] * moments.y_scale, arrays[-1] * moments.y_scale + moments.y_mean]
    mean, scale = (np.ravel(v) for v in (moments.x_mean, moments.x_scale))
    state = {"0.running_mean": mean, "0.running_var": scale**2}
    state = {name: array.astype(dtype) for name, array in state.items()}
    state["0.num_batches_tracked"] = np.array(0)
    return state | {name: a.astype(dtype) for name, a in _states(network.model.layers, arrays, "", 1).items()}


def _states(layers: Sequence[Any], arrays: Sequence[Any], prefix: str, first: int) -> dict[str, Any]:
    """The arrays of modules that begin with number `first`."""
    state: dict[str, Any] = {}
    number = first
    for layer, own in own_arrays(layers, arrays):
        if type(layer) not in KNOWN:
            raise ValueError(
                f"the layer {layer!r} has no equivalent in PyTorch, which "
                f"{', '.join(kind.__name__ for kind in KNOWN)} have."
            )
        if isinstance(layer, Residual):
            state |= _states(layer.layers, own, f"{prefix}{number}.layers.", 0)
        elif own:
            weight, bias = own
            state[f"{prefix}{number}.weight"] = weight.T if isinstance(layer, Dense) else weight
            state[f"{prefix}{number}.bias"] = bias
        number += 1 + (getattr(layer, "activation", "identity") != "identity")
    return state
