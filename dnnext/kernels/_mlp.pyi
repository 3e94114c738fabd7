# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Layers, Values

def loss_value_grad(value: Values, delta: Array, f: Array, target: Array, loss: int, param: float) -> None: ...
def curvature_root(
    out: Array, f: Array, target: Array, share: Array, loss: int, param: float, n_threads: int = 1
) -> None: ...
def mlp_forward(
    out: Array, w: Array, x: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None: ...
def mlp_loss_grad(
    value: Values,
    grad: Array | None,
    w: Array,
    x: Array,
    target: Array,
    weight: Array | None,
    offsets: Index,
    layers: Layers,
    activation: int,
    loss: int,
    param: float,
    scale: float,
    n_threads: int = 1,
) -> None: ...
def mlp_feedback(
    value: Values,
    grad: Array,
    w: Array,
    x: Array,
    feedback: Array,
    target: Array,
    weight: Array | None,
    offsets: Index,
    layers: Layers,
    activation: int,
    loss: int,
    param: float,
    scale: float,
    n_threads: int = 1,
) -> None: ...
def mlp_jv(
    out: Array, w: Array, x: Array, v: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None: ...
def mlp_jtu(
    out: Array, w: Array, x: Array, u: Array, offsets: Index, layers: Layers, activation: int, n_threads: int = 1
) -> None: ...
