"""Solvers of the convex subproblem in step S.1, all agents at once.

# Design
# `primal` forms B (see subproblem.py) in a bounded workspace, `dual` solves in the space of rows, `cg` and `fista`
# touch B through products with J only; choice.py states which is cheapest. An agent stops on its own numbers alone and
# then stands still: what it computes must not depend on the other agents of its process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import kernels
from dnnext.local.choice import choose
from dnnext.local.dual import dual
from dnnext.local.subproblem import (
    DESCENT_SWEEPS,
    FISTA_STEPS,
    TOLERANCE,
    Subproblem,
    cut_blocks,
    damped,
    quadratic,
)
from dnnext.problem import row_parts
from dnnext.problem.curvature import RowCurvature

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.problem import Problem

__all__ = ["SOLVERS", "TOLERANCE", "Subproblem", "cg", "choose", "cut_blocks", "dual", "fista", "primal", "solve"]

Array = np.ndarray[Any, np.dtype[Any]]


def solve(sub: Subproblem, solver: str, out: Array) -> None:
    """out (n, P): the minimisers, by the named solver or the one that the flop model finds cheapest."""
    SOLVERS[choose(sub) if solver == "auto" else solver](sub, out)


def primal(sub: Subproblem, out: Array) -> None:
    """B formed and factored (l2), or formed and descended on (other penalties), a bounded group of agents at a time."""
    problem, penalty, centre = sub.problem, sub.problem.penalty, sub.centre
    assert centre is not None
    buffer: Array | None = None  # of the first group, the largest: later ones use it again
    for agents in problem.agent_groups(sub.block_numbers):
        b = sub.matrices(agents, buffer)
        buffer = b if buffer is None else buffer
        if penalty.quadratic is not None:
            _cholesky(sub, agents, b, out[agents])
        elif "terms" in penalty.offers:
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
    status, formed = np.zeros(len(b), np.int64), [b]

    def attempt(tau: Array) -> Array:
        fresh = formed.pop() if formed else sub.matrices(agents)
        kernels.spd_solve(out, status, fresh, tau[:, None] + l2, rhs, sub.blocks, problem.n_threads)
        return status

    def largest() -> Array:
        formed.append(sub.matrices(agents))
        return np.asarray(np.max(np.abs(formed[0]), axis=1))

    if damped(sub, sub.tau[agents].astype(b.dtype), attempt, largest):
        out += centre
    else:
        out[...] = np.nan  # diverged: the alarm of the recipe speaks next


def cg(sub: Subproblem, out: Array) -> None:
    """Conjugate gradients for quadratic penalties on (B + tau I + l2) d = -(slope + l2 c), from d = 0, B never formed.

    Raises
    ------
    ValueError
        If the penalty is not quadratic.
    """
    assert sub.centre is not None
    problem, l2 = sub.problem, quadratic(sub, "cg")
    residual = np.ascontiguousarray(-(sub.slope + l2 * sub.centre), dtype=sub.w.dtype)
    diag = (sub.tau[:, None] + l2).astype(residual.dtype)
    n_iter = most_steps(sub)
    if in_one_call(sub) or has_weights(sub):
        out[...] = sub.centre + problem.cg_solve(sub.w, sub.root, diag, residual, n_iter, sub.tol, np.empty_like(diag))
        return
    step, direction = np.zeros_like(residual), residual.copy()
    curve, after = np.empty((2, len(residual)))
    energy = row_parts.dots(problem, residual, residual)
    goal = sub.tol**2 * energy
    step[~np.isfinite(energy)] = np.nan  # diverged: the alarm of the recipe speaks next
    for _ in range(n_iter):
        active = energy > goal
        if not active.any():
            break
        image = sub.product(direction)
        kernels.cg_curve(curve, image, diag, direction, problem.n_threads)
        row_parts.add_up(problem, curve)
        length = np.where(active, energy / np.where(active, curve, 1), 0)
        kernels.cg_step(after, step, residual, direction, image, length, problem.n_threads)
        row_parts.add_up(problem, after)
        ratio = np.where(active, after / np.where(active, energy, 1), 0)
        kernels.cg_turn(direction, residual, ratio, problem.n_threads)
        energy = np.where(active, after, energy)
    out[...] = sub.centre + step


def most_steps(sub: Subproblem) -> int:
    """Steps of conjugate gradients at most."""
    return sub.inner_iter or (sub.cg_steps if sub.tol >= TOLERANCE else 10 * sub.w.shape[1])


def in_one_call(sub: Subproblem) -> bool:
    """Whether the model has a kernel for all steps together: one block, nothing added to B."""
    plain = sub.correction is None and len(sub.blocks) == 2 and not isinstance(sub.root, RowCurvature)
    return plain and "cg" in sub.problem.model.offers


def has_weights(sub: Subproblem) -> bool:
    """The same of a curvature applied row by row that the kernel knows."""
    plain = sub.correction is None and len(sub.blocks) == 2 and isinstance(sub.root, RowCurvature)
    return plain and "cg" in sub.problem.model.offers and sub.root.weights is not None


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
    dots, largest = partial(row_parts.dots, sub.problem), partial(row_parts.largest, sub.problem)
    bound = (1.1 * _largest_eigenvalue(sub.problem, product, slope) + tau).astype(slope.dtype)
    v = sub.start[agents].copy()
    b_v = product(v - centre)
    point, b_point = v, b_v
    momentum, active = np.ones(len(v)), np.ones(len(v), bool)
    for _ in range(sub.inner_iter or (FISTA_STEPS if sub.tol >= TOLERANCE else 100_000)):
        gradient = b_point + tau[:, None] * (point - centre) + slope
        new = prox(point - gradient / bound[:, None], 1 / bound)
        b_new = product(new - centre)
        forward = new - point
        square = dots(forward, forward)
        short = active & (dots(forward, b_new - b_point) > (bound - tau) * square * (1 + 1e-6))
        moved, size = largest(forward), largest(new)
        bound = np.where(short, 1.5 * bound, bound).astype(bound.dtype)
        change = new - v
        restart = short | (dots(forward, change) < 0)
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


def _largest_eigenvalue(problem: Problem, product: Callable[[Array], Array], like: Array, n_iter: int = 10) -> Array:
    """lambda_max(B_i) by power iteration from a fixed start, (n,); 0 where B_i is 0."""
    v = row_parts.cut(problem, np.cos(np.arange(row_parts.n_params(problem)) + 1.0)) + np.zeros((len(like), 1))
    value = np.zeros(len(like))
    for _ in range(n_iter):
        v = v / np.sqrt(np.maximum(row_parts.dots(problem, v, v), np.finfo(float).tiny))[:, None]
        image = product(np.ascontiguousarray(v, dtype=like.dtype)).astype(np.float64)
        value = row_parts.norms(problem, image)
        v = image
    return value


SOLVERS: dict[str, Callable[[Subproblem, Array], None]] = {"primal": primal, "dual": dual, "cg": cg, "fista": fista}
