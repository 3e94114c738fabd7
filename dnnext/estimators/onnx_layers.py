"""The layers of a chain as ONNX nodes.

# Design:
#   One function per class of layer, found by the class itself: a class derived from one of them may compute something
#   else and is refused. onnxruntime has no Conv and no AveragePool in double precision; there the windows are gathered
#   and multiplied, or averaged, by operators that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dnnext.models import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, Residual

__all__ = ["add_layers", "own_arrays"]


def own_arrays(layers: Sequence[Any], arrays: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """(layer, its arrays) one after another."""
    found, first = [], 0
    for layer in layers:
        n = len(layer.parts())
        found.append((layer, list(arrays[first : first + n])))
        first += n
    return found


def add_layers(writer: Any, layers: Sequence[Any], arrays: Sequence[Any], now: str) -> str:
    """The name of what the layers make of `now`.

    Raises
    ------
    ValueError
        If a layer has no equivalent.
    """
    for layer, own in own_arrays(layers, arrays):
        if type(layer) not in LAYERS:
            raise ValueError(
                f"the layer {layer!r} has no equivalent in ONNX, which "
                f"{', '.join(kind.__name__ for kind in LAYERS)} have."
            )
        now = LAYERS[type(layer)](writer, layer, own, now)
    return now


def _dense(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    now = writer.node("Gemm", now, *(writer.constant(array) for array in own))
    return str(writer.activate(now, layer.activation))


def _conv(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    weight, bias = own
    if writer.dtype == np.float32:
        options = dict(zip(("kernel_shape", "strides", "pads", "dilations"), _window(layer), strict=True))
        options["pads"] = options["pads"] * 2
        now = writer.node("Conv", now, writer.constant(weight), writer.constant(bias), **options)
        return str(writer.activate(now, layer.activation))
    channels, (size, *_) = layer.shape_in[0], _window(layer)
    patches = writer.node("Transpose", _windows(writer, layer, now), perm=[0, 2, 1, 3])  # (n, places, c, pixels)
    flat = _shaped(writer, patches, [0, 0, channels * size[0] * size[1]])
    now = writer.node("MatMul", flat, writer.constant(weight.reshape(len(weight), -1).T))
    now = writer.activate(writer.node("Add", now, writer.constant(bias)), layer.activation)
    return _shaped(writer, writer.node("Transpose", now, perm=[0, 2, 1]), [0, *layer.shape_out])


def _average(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    if writer.dtype == np.float32:
        size, stride, *_ = _window(layer)
        return str(writer.node("AveragePool", now, kernel_shape=size, strides=stride))
    mean = writer.node("ReduceMean", _windows(writer, layer, now), axes=[3], keepdims=0)
    return _shaped(writer, mean, [0, *layer.shape_out])


def _largest(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    size, stride, *_ = _window(layer)
    return str(writer.node("MaxPool", now, kernel_shape=size, strides=stride))


def _flatten(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    return _shaped(writer, now, [0, *layer.shape_out])


def _residual(writer: Any, layer: Any, own: list[Any], now: str) -> str:
    return str(writer.node("Add", now, add_layers(writer, layer.layers, own, now)))


LAYERS: dict[type, Callable[[Any, Any, list[Any], str], str]] = {
    Dense: _dense,
    Conv2d: _conv,
    AvgPool2d: _average,
    MaxPool2d: _largest,
    Flatten: _flatten,
    Residual: _residual,
}


def _window(layer: Any) -> list[list[int]]:
    """[size, stride, padding, dilation], a pair each, from the layer's row for the kernels."""
    rows: list[list[int]] = []
    layer.describe(rows)
    return [rows[0][k : k + 2] for k in (6, 8, 10, 12)]


def _shaped(writer: Any, now: str, shape: list[int]) -> str:
    """In another shape; 0 keeps a length."""
    return str(writer.node("Reshape", now, writer.constant(shape, np.int64)))


def _windows(writer: Any, layer: Any, now: str) -> str:
    """Every window of every channel, (n, channels, places, pixels)."""
    channels, *image = layer.shape_in
    size, stride, padding, dilation = _window(layer)
    if any(padding):
        pads = [0, 0, *padding] * 2
        now = writer.node("Pad", now, writer.constant(pads, np.int64))
    height, width = (n + 2 * p for n, p in zip(image, padding, strict=True))
    counts = layer.shape_out[1:]
    down, right = (
        np.arange(n)[:, None] * step + np.arange(k)[None] * gap
        for n, step, k, gap in zip(counts, stride, size, dilation, strict=True)
    )
    places = down[:, None, :, None] * width + right[None, :, None, :]
    flat = _shaped(writer, now, [0, channels, height * width])
    return str(writer.node("Gather", flat, writer.constant(places.reshape(-1, size[0] * size[1]), np.int64), axis=2))
