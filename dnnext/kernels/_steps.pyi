# The types of the NumPy twins; made by csrc/declare.py.
from dnnext.kernels.reference import Array, Index, Values
from dnnext.kernels.reference_steps import StepMixing, StepProblem, StepRecipe, StepState

def network_mix(
    out: Array,
    disagreement: Values | None,
    size: Values | None,
    rows: Array,
    indptr: Index,
    indices: Index,
    data: Array,
    rounds: Values,
    n_threads: int = 1,
) -> None: ...
def row_change(
    disagreement: Values, size: Values, before: Array, after: Array, factor: float, n_threads: int = 1
) -> None: ...
def neighbour_max(received: Array, scalars: Array, indptr: Index, indices: Index, data: Array) -> None: ...
def proximal_step(
    z: Array | None,
    w_hat: Array,
    w: Array,
    y: Array,
    tau: Values,
    step: float,
    agents: float,
    l1: Array,
    l2: Array,
    groups: Index,
    strength: Array,
    n_threads: int = 1,
) -> None: ...
def tracker_update(y: Array, squares: Values, grad: Array, grad_old: Array, w: Array, n_threads: int = 1) -> None: ...
def secant_rule(
    tau: Values,
    beta: Values,
    received: Values,
    w: Array,
    w_old: Array,
    y: Array,
    y_old: Array,
    model: Array | None,
    agents: float,
    growth: float,
    decay: float,
    low: float,
    high: float,
    n_threads: int = 1,
) -> None: ...
def next_step(
    state: StepState,
    problem: StepProblem,
    mixing: StepMixing,
    recipe: StepRecipe,
    n_threads: int = 1,
    workspace: object = None,
) -> None: ...
