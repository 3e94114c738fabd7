# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Values
from dnnext.kernels.reference_layers import Table

def chain_forward(
    out: Array,
    tangent: Array | None,
    w: Array,
    x: Array,
    directions: Array | None,
    offsets: Index,
    layers: Table,
    n_threads: int = 1,
) -> None: ...
def chain_jv(out: Array, w: Array, x: Array, v: Array, offsets: Index, layers: Table, n_threads: int = 1) -> None: ...
def chain_jtu(
    out: Array,
    w: Array,
    x: Array,
    directions: Array | None,
    u: Array,
    t: Array | None,
    offsets: Index,
    layers: Table,
    n_threads: int = 1,
) -> None: ...
def chain_loss_grad(
    value: Values,
    term: Values,
    grad: Array | None,
    w: Array,
    x: Array,
    directions: Array | None,
    target: Array,
    weight: Array | None,
    beta: Array | None,
    offsets: Index,
    layers: Table,
    loss: int,
    param: float,
    scale: float,
    mu: float,
    n_threads: int = 1,
) -> None: ...
