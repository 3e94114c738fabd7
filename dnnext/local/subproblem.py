"""The convex subproblem in step S.1, as every solver sees it.

# Design
# Each solver minimises, for every agent i on its own and block by block,
#
#   1/2 (v - c_i)' B_i (v - c_i) + slope_i'(v - c_i) + tau_i/2 |v - c_i|^2 + r(v),    B_i = sum_m J_m' S_m S_m' J_m
#
# with J taken at w_i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext._checks import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.local.quasi_newton import Correction
    from dnnext.models import Layout
    from dnnext.problem import Penalty, Problem

Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = 1e-6
DESCENT_SWEEPS = 50
TAU_DOUBLINGS = 60  # from rounding of B up to B itself
FISTA_STEPS = 50
CG_STEPS, SAMPLED_CG_STEPS = 10, 5  # of all rows, and of some: a model known roughly is not worth more


@dataclass
class Subproblem:
    """What a solver needs to know; shapes with n local agents, P parameters, M rows.

    w (n, P): where J is taken; root: S, (M, Q) or (M, Q, R), or a `RowCurvature`, for products alone; slope (n, P);
    tau (n,); blocks (n_blocks + 1,); start (n, P): warm start of iterative solvers; centre (n, P): c above, w where it
    is None; correction: what `dual` does not add to B, or None; cg_steps: of conjugate gradients where inner_iter is
    None; takes_inexact: whether a point near the minimiser does as well.
    """

    problem: Problem
    w: Array
    root: Any
    slope: Array
    tau: Array
    blocks: Array
    start: Array
    inner_iter: int | None = None
    tol: float = TOLERANCE
    centre: Array | None = None
    correction: Correction | None = None
    cg_steps: int = CG_STEPS
    takes_inexact: bool = False

    def __post_init__(self) -> None:
        if self.centre is None:
            self.centre = self.w

    @property
    def block_numbers(self) -> int:
        """Numbers in the diagonal blocks of one agent, sum_b P_b^2."""
        return int(np.sum(np.square(np.diff(self.blocks))))

    def product(self, v: Array) -> Array:
        """B_i v_i for every agent, (n, P), without forming B."""
        image = self.problem.gauss_newton_product(self.w, self.root, v, self.blocks)
        return image if self.correction is None else (image + self.correction.product(v)).astype(v.dtype)

    def matrices(self, agents: slice, buffer: Array | None = None) -> Array:
        """The diagonal blocks of B_i of some agents, packed, corrected; in `buffer` if given, which has enough rows."""
        out = None if buffer is None else buffer[: agents.stop - agents.start]
        b = self.problem.gauss_newton(self.w, self.root, self.blocks, agents, out)
        if self.correction is not None:
            self.correction.amend(b, agents)
        return b


def cut_blocks(layout: Layout, penalty: Penalty, n_blocks: int) -> Array:
    """Boundaries (n_blocks + 1,) that cut the flat weights evenly; a group of the penalty is never cut.

    Raises
    ------
    ValueError
        If there are fewer places to cut than n_blocks asks for.
    """
    n_params = layout.n_params
    allowed = np.ones(n_params + 1, dtype=bool)
    for start, stop in getattr(penalty, "groups", ()):
        allowed[start + 1 : stop] = False
    places = np.flatnonzero(allowed)
    if n_blocks > len(places) - 1:
        raise ValueError(
            f"n_blocks must be at most {len(places) - 1} for this model and penalty, because groups are never cut, got "
            f"{n_blocks}. Choose a smaller n_blocks."
        )
    wanted = np.linspace(0, n_params, n_blocks + 1)
    index = np.rint(np.interp(wanted, places, np.arange(len(places)))).astype(np.int64)
    rank = np.arange(n_blocks + 1)
    index = np.maximum.accumulate(index - rank) + rank  # no block is empty,
    index = np.minimum(index, len(places) - 1 - rank[::-1])  # and none is left over at the end
    return places[index]


def quadratic(sub: Subproblem, solver: str) -> Array:
    """The diagonal l2 (P,) of the penalty; a ValueError that names the solver if the penalty has another form."""
    l2 = sub.problem.penalty.quadratic
    if l2 is None:
        raise ValueError(
            f"solver must be 'primal', 'fista' or 'auto' for the penalty {sub.problem.penalty!r}, which is no "
            f"sum of squares of single weights, got {short(solver)}."
        )
    return np.asarray(l2, dtype=sub.slope.dtype)


def damped(sub: Subproblem, tau: Array, attempt: Callable[[Array], Array], largest: Callable[[], Array]) -> bool:
    """attempt(tau) -> status, with tau doubled where it failed, until all agents have a solution; whether they have.

    Rounding can leave B + tau I indefinite. largest(): max |B_i| of every agent, beside whose rounding a tau counts.
    """
    status = attempt(tau)
    if not status.any():
        return True
    least = np.finfo(tau.dtype).eps * largest()  # a tau of zero can be doubled for ever
    for _ in range(TAU_DOUBLINGS - 1):
        tau = np.where(status != 0, np.maximum(2 * tau, least), tau).astype(tau.dtype)
        if not (np.isfinite(sub.slope).all() and np.isfinite(tau).all()):
            return False
        status = attempt(tau)
        if not status.any():
            return True
    return False
