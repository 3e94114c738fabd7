"""Solvers of the convex subproblem in step S.1, all agents at once.

# Design
# Each solver minimises, for every agent i on its own and block by block,
#
#   1/2 (v - c_i)' B_i (v - c_i) + slope_i'(v - c_i) + tau_i/2 |v - c_i|^2 + r(v),    B_i = sum_m J_m' S_m S_m' J_m
#
# with J taken at w_i. `primal` forms B in a bounded workspace, `dual` solves in the space of rows, `cg` and `fista`
# touch B through products with J only. An agent stops on its own numbers alone and then stands still: what it computes
# must not depend on who shares its process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from dnnext import kernels
from dnnext._sums import row_dots, row_norms

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.problem import MLP, Penalty, Problem

Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = 1e-6
DESCENT_SWEEPS = 50
TAU_DOUBLINGS = 60  # from rounding of B up to B itself
FISTA_STEPS = 50
CG_STEPS = 10


@dataclass
class Subproblem:
    """What a solver needs to know; shapes with n local agents, P parameters, M rows.

    w (n, P): where J is taken; root: S, (M, Q) or (M, Q, R); slope (n, P); tau (n,); blocks (n_blocks + 1,);
    start (n, P): warm start of iterative solvers; centre (n, P): c above, w where it is None.
    """

    problem: Problem
    w: Array
    root: Array
    slope: Array
    tau: Array
    blocks: Array
    start: Array
    inner_iter: int | None = None
    tol: float = TOLERANCE
    centre: Array | None = None

    def __post_init__(self) -> None:
        if self.centre is None:
            self.centre = self.w

    @property
    def block_numbers(self) -> int:
        """Numbers in the diagonal blocks of one agent, sum_b P_b^2."""
        return int(np.sum(np.square(np.diff(self.blocks))))

    def product(self, v: Array) -> Array:
        """B_i v_i for every agent, (n, P), without forming B."""
        return self.problem.gauss_newton_product(self.w, self.root, v, self.blocks)


def cut_blocks(model: MLP, penalty: Penalty, n_blocks: int) -> Array:
    """Boundaries (n_blocks + 1,) that cut the flat weights evenly; a group of the penalty is never cut.

    Raises
    ------
    ValueError
        If there are fewer places to cut than n_blocks asks for.
    """
    n_params = model.n_params
    allowed = np.ones(n_params + 1, dtype=bool)
    for start, stop in getattr(penalty, "groups", ()):
        allowed[start + 1 : stop] = False
    places = np.flatnonzero(allowed)
    if n_blocks > len(places) - 1:
        raise ValueError(
            f"n_blocks was {n_blocks}; this network and penalty allow at most {len(places) - 1} blocks, because groups "
            "are never cut. Choose a smaller n_blocks."
        )
    wanted = np.linspace(0, n_params, n_blocks + 1)
    index = np.rint(np.interp(wanted, places, np.arange(len(places)))).astype(np.int64)
    rank = np.arange(n_blocks + 1)
    index = np.maximum.accumulate(index - rank) + rank  # no block is empty,
    index = np.minimum(index, len(places) - 1 - rank[::-1])  # and none is left over at the end
    return places[index]


def solve(sub: Subproblem, solver: str, out: Array) -> None:
    """out (n, P): the minimisers, by the named solver or the one that the flop model finds cheapest."""
    SOLVERS[choose(sub) if solver == "auto" else solver](sub, out)


def choose(sub: Subproblem) -> str:
    """The cheapest solver by floating-point operations; those outside of matrix-matrix products count three times.

    With n = rows x R of J, P_b the block sizes and k inner steps: forming B takes n sum P_b^2, Cholesky sum P_b^3 / 3,
    the dual n^2 P + n^3 / 3, a product with J and J' 12 rows P, a descent sweep 2 sum P_b^2. Matrices that would
    take more than 2 GB are not formed.
    """
    problem, sizes = sub.problem, np.diff(sub.blocks).astype(float)
    rows = problem.agent_rows.astype(float)  # of all agents: every rank must choose alike
    n = rows * sub.root.shape[-1]
    total = float(sizes.sum())
    form = float(n.sum()) * float(np.sum(sizes**2))
    products = 3 * 12 * float(rows.sum()) * total
    cost: dict[str, float] = {}
    if problem.penalty.quadratic is not None:
        cost["primal"] = form + len(rows) * float(np.sum(sizes**3)) / 3
        cost["dual"] = float(np.sum(n**2 * total + len(sizes) * n**3 / 3))
        cost["cg"] = (sub.inner_iter or CG_STEPS) * products
        if np.max(n, initial=0) ** 2 * 8 > 2e9 or np.max(n, initial=0) * total * 8 > 2e9:
            del cost["dual"]
    else:
        cost["primal"] = form + (sub.inner_iter or DESCENT_SWEEPS) * 3 * 2 * len(rows) * float(np.sum(sizes**2))
        cost["fista"] = (sub.inner_iter or FISTA_STEPS) * products
    if np.sum(sizes**2) * 8 > 2e9:
        del cost["primal"]
    return min(cost, key=lambda name: cost[name])


def primal(sub: Subproblem, out: Array) -> None:
    """B formed and factored (l2), or formed and descended on (other penalties), a bounded group of agents at a time."""
    problem, penalty, centre = sub.problem, sub.problem.penalty, sub.centre
    assert centre is not None
    for agents in problem.agent_groups(sub.block_numbers):
        b = problem.gauss_newton(sub.w, sub.root, sub.blocks, agents)
        if penalty.quadratic is not None:
            _cholesky(sub, agents, b, out[agents])
        elif penalty.has_kernel:
            out[agents] = sub.start[agents]
            kernels.descent_solve(
                out[agents], np.zeros(len(b), np.int64), b, sub.tau[agents], centre[agents],
                np.ascontiguousarray(sub.slope[agents]), penalty.l1, penalty.l2, penalty.groups, penalty.strength,
                sub.blocks, sub.inner_iter or DESCENT_SWEEPS, sub.tol, problem.n_threads,
            )  # fmt: skip
        else:
            _fista(sub, agents, _formed(b, sub), out[agents])


def _cholesky(sub: Subproblem, agents: slice, b: Array, out: Array) -> None:
    """out = c - (B + tau I + l2)^-1 (slope + l2 c); where rounding leaves B indefinite, tau is doubled."""
    assert sub.centre is not None
    problem, centre = sub.problem, sub.centre[agents]
    l2 = np.asarray(problem.penalty.quadratic, dtype=b.dtype)
    rhs = -(sub.slope[agents] + l2 * centre)
    tau = sub.tau[agents].astype(b.dtype)
    status = np.zeros(len(b), np.int64)
    for _ in range(TAU_DOUBLINGS):
        kernels.spd_solve(out, status, b, tau[:, None] + l2, rhs, sub.blocks, problem.n_threads)
        if not status.any():
            out += centre
            return
        b = problem.gauss_newton(sub.w, sub.root, sub.blocks, agents)
        least = np.finfo(b.dtype).eps * np.max(np.abs(b), axis=1)  # a tau of zero can be doubled for ever
        tau = np.where(status != 0, np.maximum(2 * tau, least), tau).astype(b.dtype)
        if not (np.isfinite(rhs).all() and np.isfinite(tau).all()):
            break
    out[...] = np.nan  # diverged: the alarm of the recipe speaks next


def dual(sub: Subproblem, out: Array) -> None:
    """Quadratic penalties with few rows: (D + J'SS'J)^-1 q = D^-1 q - D^-1 K'(I + K D^-1 K')^-1 K D^-1 q, K = S'J.

    D = tau_i I + l2, q = -(slope + l2 c), block by block (Woodbury).

    Raises
    ------
    ValueError
        If the penalty is not quadratic.
    """
    assert sub.centre is not None
    l2 = _quadratic(sub, "dual")
    q = -(sub.slope + l2 * sub.centre)
    for i in range(len(sub.w)):
        j = _jacobian(sub, i)
        d = sub.tau[i] + l2
        for start, stop in zip(sub.blocks[:-1], sub.blocks[1:], strict=True):
            cut = slice(start, stop)
            scaled = j[:, cut] / d[cut]
            solution = q[i, cut] / d[cut]
            if len(j):
                inner = scaled @ j[:, cut].T
                inner.flat[:: len(inner) + 1] += 1
                try:
                    inside = cho_solve(cho_factor(inner, lower=True), j[:, cut] @ solution)
                except (np.linalg.LinAlgError, ValueError):  # tau so small that inner is not finite, or singular
                    out[i, cut] = np.nan  # the alarm of the recipe speaks next
                    continue
                solution = solution - scaled.T @ inside
            out[i, cut] = sub.centre[i, cut] + solution


def _jacobian(sub: Subproblem, i: int) -> Array:
    """S'J of local agent i, (rows R, P)."""
    problem = sub.problem
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    x, root = problem.x[rows], sub.root[rows]
    out = np.empty((len(x) * root.shape[-1], problem.n_params), problem.dtype)
    layers, code = problem.model.layers, problem.model.activation_code
    kernels.mlp_jacobian(out, sub.w[i : i + 1], x, root, layers, code, problem.n_threads)
    return out


def cg(sub: Subproblem, out: Array) -> None:
    """Conjugate gradients for quadratic penalties on (B + tau I + l2) d = -(slope + l2 c), from d = 0, B never formed.

    Raises
    ------
    ValueError
        If the penalty is not quadratic.
    """
    assert sub.centre is not None
    diag = sub.tau[:, None] + _quadratic(sub, "cg")
    residual = -(sub.slope + (diag - sub.tau[:, None]) * sub.centre)
    step, direction = np.zeros_like(residual), residual.copy()
    energy = row_dots(residual, residual)
    goal = sub.tol**2 * energy
    for _ in range(sub.inner_iter or (CG_STEPS if sub.tol >= TOLERANCE else 10 * sub.w.shape[1])):
        active = energy > goal
        if not active.any():
            break
        image = sub.product(direction) + diag * direction
        length = np.where(active, energy / np.where(active, row_dots(direction, image), 1), 0).astype(step.dtype)[
            :, None
        ]
        step += length * direction
        residual -= length * image
        after = row_dots(residual, residual)
        ratio = np.where(active, after / np.where(active, energy, 1), 0).astype(step.dtype)[:, None]
        direction = residual + ratio * direction
        energy = np.where(active, after, energy)
    out[...] = sub.centre + step


def fista(sub: Subproblem, out: Array) -> None:
    """Accelerated proximal gradient with restart, B never formed; any penalty with a prox."""
    _fista(sub, slice(0, len(sub.w)), sub.product, out)


def _formed(b: Array, sub: Subproblem) -> Callable[[Array], Array]:
    def product(v: Array) -> Array:
        image = np.empty_like(v)
        kernels.block_product(image, b, v, sub.blocks, sub.problem.n_threads)
        return image

    return product


def _fista(sub: Subproblem, agents: slice, product: Callable[[Array], Array], out: Array) -> None:
    """FISTA with restart (Beck & Teboulle 2009; O'Donoghue & Candes 2015), backtracking on the curvature bound.

    B times the extrapolated point follows from two products already known, so a step costs one product.
    """
    assert sub.centre is not None
    prox, centre, slope = sub.problem.prox, sub.centre[agents], sub.slope[agents]
    tau = sub.tau[agents].astype(slope.dtype)
    bound = (1.1 * _largest_eigenvalue(product, slope) + tau).astype(slope.dtype)
    v = sub.start[agents].copy()
    b_v = product(v - centre)
    point, b_point = v, b_v
    momentum, active = np.ones(len(v)), np.ones(len(v), bool)
    for _ in range(sub.inner_iter or (FISTA_STEPS if sub.tol >= TOLERANCE else 100_000)):
        gradient = b_point + tau[:, None] * (point - centre) + slope
        new = prox(point - gradient / bound[:, None], 1 / bound)
        b_new = product(new - centre)
        forward = new - point
        square = row_dots(forward, forward)
        short = active & (row_dots(forward, b_new - b_point) > (bound - tau) * square * (1 + 1e-6))
        moved, size = np.max(np.abs(forward), axis=1), np.max(np.abs(new), axis=1)
        bound = np.where(short, 1.5 * bound, bound).astype(bound.dtype)
        change = new - v
        restart = short | (row_dots(forward, change) < 0)
        keep = (active & ~short)[:, None]
        before, v, b_before, b_v = v, np.where(keep, new, v), b_v, np.where(keep, b_new, b_v)
        after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = np.where(restart, 0, (momentum - 1) / after).astype(v.dtype)[:, None]
        momentum = np.where(restart, 1.0, after)
        point, b_point = v + push * (v - before), b_v + push * (b_v - b_before)
        active &= short | (moved > sub.tol * np.maximum(size, np.finfo(v.dtype).tiny))
        if not active.any():
            break
    out[...] = v


def _largest_eigenvalue(product: Callable[[Array], Array], like: Array, n_iter: int = 10) -> Array:
    """lambda_max(B_i) by power iteration from a fixed start, (n,); 0 where B_i is 0."""
    v = np.cos(np.arange(like.shape[1]) + 1.0) + np.zeros((len(like), 1))
    value = np.zeros(len(like))
    for _ in range(n_iter):
        v = v / np.sqrt(np.maximum(row_dots(v, v), np.finfo(float).tiny))[:, None]
        image = product(np.ascontiguousarray(v, dtype=like.dtype)).astype(np.float64)
        value = row_norms(image)
        v = image
    return value


def _quadratic(sub: Subproblem, solver: str) -> Array:
    l2 = sub.problem.penalty.quadratic
    if l2 is None:
        raise ValueError(
            f"solver was {solver!r}, which solves quadratic subproblems, but the penalty {sub.problem.penalty!r} "
            "is not quadratic. Use solver='primal', 'fista' or 'auto'."
        )
    return np.asarray(l2, dtype=sub.slope.dtype)


SOLVERS: dict[str, Callable[[Subproblem, Array], None]] = {"primal": primal, "dual": dual, "cg": cg, "fista": fista}
