# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Values

def block_product(out: Array, b: Array, v: Array, blocks: Index, n_threads: int = 1) -> None: ...
def spd_solve(
    out: Array, status: Index, b: Array, diag: Array, rhs: Array, blocks: Index, n_threads: int = 1
) -> None: ...
def cg_curve(curve: Values, image: Array, diag: Array, direction: Array, n_threads: int = 1) -> None: ...
def cg_step(
    energy: Values, step: Array, residual: Array, direction: Array, image: Array, length: Values, n_threads: int = 1
) -> None: ...
def cg_turn(direction: Array, residual: Array, ratio: Values, n_threads: int = 1) -> None: ...
def descent_solve(
    v: Array,
    n_done: Index,
    b: Array,
    tau: Array,
    w: Array,
    g: Array,
    l1: Array,
    l2: Array,
    groups: Index,
    strength: Array,
    blocks: Index,
    n_iter: int,
    tol: float,
    n_threads: int = 1,
) -> None: ...
def penalty_prox(
    out: Array, v: Array, s: Array, l1: Array, l2: Array, groups: Index, strength: Array, n_threads: int = 1
) -> None: ...
def csr_mix(
    out: Array,
    rows: Array,
    indptr: Index,
    indices: Index,
    data: Array,
    previous: Array | None,
    scale: float,
    shift: float,
    memory: float,
    n_threads: int = 1,
) -> None: ...
