"""What a model of the curvature has missed lately, put right by the last pairs of steps and gradient changes.

# Design
# The curvature of a model at an agent, `base`, is formed anew at every iteration; what is kept are the last few pairs
# (s, e): a step, and the misfit e = q - base s of the gradient change q = A (y+ - y) that was measured. At the next
# anchor, q~ = base(w) s + e is what the change would be there: no pair grows stale with the part that is known. BFGS
# updates with Powell's damping (Nocedal & Wright 2006, procedure 18.2) make the corrected matrix; a gate takes it only
# while it predicts better than the base. Every agent corrects its own matrix from its own numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dnnext.kernels.sums import row_dots, row_norms

Array = np.ndarray[Any, np.dtype[Any]]

RIDGE = 1e-3  # of the largest curvature along a kept step: keeps the updated matrix away from singular
POWELL = 0.2


class Correction:
    """``B_i = base_i + sum_k c_ik u_ik u_ik'``: u (n, 2 pairs, P), c (n, 2 pairs); `used` (n,): where the gate is open.

    Parameters
    ----------
    memory : dict
        What `begin` made and `learn` keeps.
    base_product : callable
        v (n, P) -> base_i v_i at the anchor.
    keep_ridge : bool
        Whether the ridge stays in the matrix, which is then positive definite.
    """

    def __init__(self, memory: dict[str, Array], base_product: Callable[[Array], Array], keep_ridge: bool) -> None:
        self.memory, self.keep_ridge = memory, keep_ridge
        steps = memory["pairs.s"]
        n, pairs, p = steps.shape
        self.u, self.c, self.ridge = np.zeros((n, 2 * pairs, p)), np.zeros((n, 2 * pairs)), np.zeros(n)
        self.used = memory["pairs.gate"][:, 1] < memory["pairs.gate"][:, 0]
        images = np.zeros_like(steps)
        for k in np.flatnonzero(steps.any(axis=(0, 2))):
            images[:, k] = base_product(steps[:, k])
        for i in range(n):
            self._update(i, images[i])

    def amend(self, b: Array, agents: slice) -> None:
        """Add the correction to the base matrices b (agents, P^2), in place."""
        for k, i in enumerate(range(*agents.indices(len(self.c)))):
            if self.used[i]:
                base = b[k].reshape(self.u.shape[2], -1)
                base += (self.u[i].T * self.c[i]) @ self.u[i]
                if self.keep_ridge:
                    base.flat[:: len(base) + 1] += self.ridge[i]

    def product(self, v: Array, everywhere: bool = False) -> Array:
        """``sum_k c_ik u_ik (u_ik' v_i)``, (n, P) float64; 0 where the gate is shut, unless wanted everywhere."""
        out = np.zeros(v.shape)
        for i in range(len(v)):
            if everywhere or self.used[i]:
                out[i] = (self.c[i] * (self.u[i] @ v[i])) @ self.u[i]
                if self.keep_ridge:
                    out[i] += self.ridge[i] * v[i]
        return out

    def _update(self, i: int, images: Array) -> None:
        """u_i, c_i from the pairs of agent i, oldest first, on top of base_i, whose images of them are given."""
        steps, misfits = self.memory["pairs.s"][i], self.memory["pairs.e"][i]
        squares = row_dots(steps, steps)
        held = squares > 0
        if held.any():
            self.ridge[i] = RIDGE * np.max(row_dots(steps, images)[held] / squares[held])
        for k in np.flatnonzero(held):
            s, u, c = steps[k], self.u[i, : 2 * k], self.c[i, : 2 * k]
            bs = images[k] + self.ridge[i] * s + (c * (u @ s)) @ u
            q = images[k] + misfits[k]
            sbs, sq = float(s @ bs), float(s @ q)
            if not (np.isfinite(sq) and sbs > 1e-8 * self.ridge[i] * squares[k]):
                continue
            if sq < POWELL * sbs:
                theta = (1 - POWELL) * sbs / (sbs - sq)
                q = theta * q + (1 - theta) * bs
                sq = float(s @ q)
            self.u[i, 2 * k : 2 * k + 2] = bs, q
            self.c[i, 2 * k : 2 * k + 2] = -1 / sbs, 1 / sq


def begin(memory: dict[str, Array], w: Array, pairs: int) -> None:
    """At w (n, P) for the first time: no pairs yet, and a gate (n, 2), running misfits of base and corrected model."""
    if "pairs.s" not in memory:
        n, p = w.shape
        memory["pairs.s"], memory["pairs.e"] = np.zeros((n, pairs, p)), np.zeros((n, pairs, p))
        memory["pairs.gate"] = np.ones((n, 2))


def learn(memory: dict[str, Array], correction: Correction, step: Array, q: Array, base: Array) -> None:
    """Take in a new pair and judge both models by it: step, q, base step (n, P) float64."""
    size = row_norms(q)
    moved = (size > 0) & (row_dots(step, step) > 0) & np.isfinite(size)
    missed = q - base
    ratio = np.stack([row_norms(missed), row_norms(missed - correction.product(step, everywhere=True))], axis=1)
    gate = 0.5 * (memory["pairs.gate"] + ratio / np.where(moved, size, 1)[:, None])
    memory["pairs.gate"][moved] = gate[moved]
    for name, new in (("pairs.s", step), ("pairs.e", missed)):
        kept = memory[name]
        kept[moved, :-1] = kept[moved, 1:]
        kept[moved, -1] = new[moved]
