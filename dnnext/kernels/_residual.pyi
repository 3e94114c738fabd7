# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index

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
