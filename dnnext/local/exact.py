"""The convex subproblem with the true loss, solved to rounding: a reference for research and tests, not for speed."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from dnnext.local.solvers import Subproblem, solve

Array = np.ndarray[Any, np.dtype[Any]]

NEWTON_STEPS = 200


def tolerance(dtype: Any) -> float:
    """Relative size of a step that counts as none: 1e-12, or thirty roundings of the precision."""
    return max(1e-12, 30 * float(np.finfo(dtype).eps))


def best_response(sub: Subproblem, kappa: Array, solver: str, out: Array) -> None:
    """out_i = argmin_v kappa_i [L_i(v) - grad_i'(v - w_i)] + G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v).

    Block by block, others at w_i: a proximal Newton method with halving of the step, whose inner problems are those of
    `solvers`. L_i keeps the loss and linearises the network at w_i.
    """
    out[...] = sub.w
    for start, stop in zip(sub.blocks[:-1], sub.blocks[1:], strict=True):
        out[:, start:stop] = _block(sub, kappa, solver, slice(start, stop))[:, start:stop]


def _block(sub: Subproblem, kappa: Array, solver: str, cut: slice) -> Array:
    model = _ConvexModel(sub, kappa)
    v: Array = sub.w.copy()
    active, small = np.ones(len(v), bool), 10 * tolerance(v.dtype)
    for _ in range(NEWTON_STEPS):
        slope, root = model.derivatives(v)
        step = np.empty_like(v)
        solve(replace(sub, root=root, slope=slope, centre=v, start=v), solver, step)
        step -= v
        step[:, : cut.start] = 0
        step[:, cut.stop :] = 0
        v += model.line_search(v, step, active)[:, None] * step
        active &= np.max(np.abs(step), axis=1) > small * np.maximum(1, np.max(np.abs(v), axis=1))
        if not active.any():
            return v
    if np.all(np.isfinite(v)):  # else the alarm of the recipe speaks next
        warnings.warn(
            f"The exact subproblem was not solved to {small:g} in {NEWTON_STEPS} Newton steps; its best point is used.",
            RuntimeWarning,
            stacklevel=2,
        )
    return v


class _ConvexModel:
    """Value and derivatives of the exact model, agent by agent."""

    def __init__(self, sub: Subproblem, kappa: Array) -> None:
        problem = sub.problem
        counts = np.diff(problem.offsets)
        weight = np.ones(len(problem.x)) if problem.weight is None else problem.weight
        self.sub, self.problem = sub, problem
        self.by_row = (np.repeat(kappa, counts) * weight * problem.scale).astype(sub.w.dtype)
        self.f = problem.raw_output(sub.w)
        self.delta = problem.loss.grad(self.f, problem.target)

    def derivatives(self, v: Array) -> tuple[Array, Array]:
        """Gradient (n, P) of the smooth part at v, its tau term included, and the curvature root at v."""
        sub, problem = self.sub, self.problem
        f = self.f + problem.jvp(sub.w, v - sub.w)
        u = (problem.loss.grad(f, problem.target) - self.delta) * self.by_row[:, None]
        slope = problem.vjp(sub.w, u) + sub.slope + sub.tau[:, None] * (v - sub.w)
        root = problem.loss.curvature_root(f, problem.target)
        scale = np.sqrt(self.by_row).reshape(-1, *[1] * (root.ndim - 1))
        return slope, (root * scale).astype(v.dtype)

    def values(self, v: Array) -> Array:
        """The model at v up to a constant, (n,) float64."""
        sub, problem = self.sub, self.problem
        d = (v - sub.w).astype(np.float64)
        image = problem.jvp(sub.w, v - sub.w)
        each = problem.loss.value(self.f + image, problem.target) - np.sum(self.delta * image, axis=1)
        cuts = zip(problem.offsets[:-1], problem.offsets[1:], strict=True)
        loss = np.array([np.sum((self.by_row * each)[a:b]) for a, b in cuts])  # each agent's own sum, in its own order
        penalty = np.array([problem.penalty.value(row) for row in v])
        return np.asarray(loss + np.sum(sub.slope * d, axis=1) + 0.5 * sub.tau * np.sum(d * d, axis=1) + penalty)

    def line_search(self, v: Array, step: Array, active: Array) -> Array:
        """The first of 1, 1/2, 1/4, ... that does not raise the model, agent by agent; 0 where the agent has ended."""
        length = np.where(active, 1.0, 0.0)
        before = self.values(v)
        slack = 500 * np.finfo(v.dtype).eps * np.maximum(1, np.abs(before))
        for _ in range(40):
            high = self.values(v + length[:, None] * step) > before + slack
            if not high.any():
                break
            length = np.where(high, length / 2, length)
        return np.asarray(length, dtype=v.dtype)
