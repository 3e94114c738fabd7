# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Layers

def mlp_jacobian(
    out: Array, w: Array, x: Array, root: Array, layers: Layers, activation: int, n_threads: int = 1
) -> None: ...
def mlp_gauss_newton(
    out: Array,
    w: Array,
    x: Array,
    root: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
) -> None: ...
def mlp_gauss_newton_product(
    out: Array,
    w: Array,
    x: Array,
    root: Array,
    v: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
    centred: bool = False,
) -> None: ...
def mlp_cg_solve(
    out: Array,
    n_done: Index,
    w: Array,
    x: Array,
    root: Array,
    diag: Array,
    rhs: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    n_iter: int,
    tol: float,
    n_threads: int = 1,
    centred: bool = False,
) -> None: ...
def mlp_dual_solve(
    out: Array,
    status: Index,
    w: Array,
    x: Array,
    root: Array,
    gram: Array | None,
    tau: Array,
    l2: Array,
    rhs: Array,
    offsets: Index,
    layers: Layers,
    activation: int,
    blocks: Index,
    n_threads: int = 1,
) -> None: ...
def mlp_tangent_kernel(
    out: Array, w: Array, x: Array, y: Array | None, layers: Layers, activation: int, n_threads: int = 1
) -> None: ...
def rows_gram(out: Array, x: Array, offsets: Index) -> None: ...
