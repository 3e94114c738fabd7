# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Values

def residual_forward(
    u: Array,
    layers: Array,
    layer: Index,
    size: Array,
    apart: int,
    activation: int,
    g: Array | None = None,
    a: Array | None = None,
    n_threads: int = 1,
) -> None: ...
def residual_tangent(
    u: Array,
    du: Array,
    layers: Array,
    direction: Array,
    layer: Index,
    size: Array,
    apart: int,
    activation: int,
    n_threads: int = 1,
) -> None: ...
def residual_backward(
    adjoint: Array,
    pushed: Array | None,
    u: Array,
    layers: Array,
    layer: Index,
    size: Array,
    state: Index,
    apart: int,
    activation: int,
    g: Array | None = None,
    a: Array | None = None,
    n_threads: int = 1,
) -> None: ...
def residual_gradient(grad: Array, u: Array, pushed: Array, state: Index, n_threads: int = 1) -> None: ...
def residual_outputs(
    out: Array,
    w: Array,
    fixed: Array | None,
    x: Array,
    width: int,
    n_layers: int,
    h: float,
    opening: int,
    activation: int,
    n_threads: int = 1,
) -> None: ...
def residual_loss_grad(
    value: Values,
    grad: Array | None,
    w: Array,
    fixed: Array | None,
    x: Array,
    target: Array,
    weight: Array | None,
    width: int,
    n_layers: int,
    h: float,
    opening: int,
    activation: int,
    loss: int,
    param: float,
    scale: float,
    n_threads: int = 1,
) -> None: ...
