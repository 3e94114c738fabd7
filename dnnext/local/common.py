"""One Gauss-Newton matrix for all agents: the sum of their own, added up along a spanning tree of the graph.

# Design
# After the sum every agent has the same bits, so a process factors the matrix once for all its agents, and the model of
# every agent differs from the others' by its weights and its tracker alone. The matrix belongs to the weights it was
# formed at, its anchor: an iteration that was taken back leaves it as it is, and nothing is sent anew. A rule that
# tests its iterations may also keep it where it predicted a short step well (`KEEPS`). It is not saved; a resumed run
# forms it again at its anchor, and counts no round for that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg.lapack

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext.local import solvers
from dnnext.local.local_model import At, LocalModel, Surrogate
from dnnext.local.subproblem import DESCENT_SWEEPS, TAU_DOUBLINGS, Subproblem
from dnnext.problem.curvature import curvature_at

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem

__all__ = ["CommonModel", "gather", "packed", "unpacked"]

Array = np.ndarray[Any, np.dtype[Any]]

MATRIX = "common.matrix"  # in the scratch of a state, (P, P) float64
TILE = 128  # rows of a matrix that are copied at a time
ANCHOR = "rows.anchor"  # in its memory (n_local, P): the weights at which the matrix was formed
OLDER = "rows.anchor_is_older"  # in its memory (n_local,): whether the iteration began at other weights
KEEPS = "rows.keeps_matrix"  # in its memory (n_local,): whether the next iteration may do with the matrix at hand


class CommonModel(LocalModel):
    """``1/2 (v - w_i)'B (v - w_i) + G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v)``, B the same at every agent."""

    def __init__(self, surrogate: Surrogate, problem: Problem, s: At, blocks: Array, inner_iter: int | None) -> None:
        super().__init__(surrogate, problem, s)
        self.blocks, self.inner_iter = blocks, inner_iter
        if MATRIX not in s.scratch:
            raise ValueError(f"{surrogate!r} needs what the agents sent each other: call gather(problem, network, s).")
        self.matrix: Array = s.scratch[MATRIX]
        self._last: tuple[Array, Array] | None = None  # a vector, and its product

    def product(self, v: Array) -> Array:
        """``B v_i`` (n_local, P) float64, agent by agent, so that no bit depends on the agents of a process.

        The rule for tau asks for the same one twice.
        """
        if self._last is None or not np.array_equal(self._last[0], v):
            self._last = v.copy(), np.stack([self.matrix @ row for row in v])
        return self._last[1]

    def argmin(self, out: Array) -> None:
        """One factorisation for all agents with one tau (quadratic penalties); else descent, or FISTA."""
        penalty, slope = self.problem.penalty, self.problem.n_agents * self.y
        if penalty.quadratic is not None:
            self._solve(np.asarray(penalty.quadratic, dtype=np.float64), slope.astype(np.float64), out)
        elif "terms" in penalty.offers:
            self._descend(slope, out)
        else:
            sub = _Common(
                self.problem, self.w, None, slope, self.tau.astype(slope.dtype), self.blocks, self.w_hat,
                self.inner_iter,
            )  # fmt: skip
            sub.model = self
            solvers.fista(sub, out)

    def _solve(self, l2: Array, slope: Array, out: Array) -> None:
        """w_hat_i = w_i - (B + tau_i I + l2)^-1 (A y_i + l2 w_i)."""
        factor, of = None, np.nan
        for i, tau in enumerate(self.tau.tolist()):
            if tau != of:
                factor, of = _factored(self.matrix, tau, l2), tau
            if factor is None:
                out[i] = np.nan  # diverged: the alarm of the recipe follows
            else:
                step, _ = scipy.linalg.lapack.dpotrs(factor, slope[i] + l2 * self.w[i], lower=1)
                out[i] = self.w[i] - step

    def _descend(self, slope: Array, out: Array) -> None:
        """Coordinate descent on the formed matrix, one agent after the other."""
        r: Any = self.problem.penalty
        b = np.ascontiguousarray(self.matrix, dtype=slope.dtype).reshape(1, -1)
        tau = self.tau.astype(slope.dtype)
        out[...] = self.w_hat
        for i in range(len(out)):
            one = slice(i, i + 1)
            kernels.descent_solve(
                out[one], np.zeros(1, np.int64), b, tau[one], self.w[one], slope[one], r.l1, r.l2, r.groups, r.strength,
                self.blocks, self.inner_iter or DESCENT_SWEEPS, solvers.TOLERANCE, self.problem.n_threads,
            )  # fmt: skip


class _Common(Subproblem):
    """The subproblem as FISTA sees it: products with the common matrix."""

    model: CommonModel

    def product(self, v: Array) -> Array:
        """``B v_i``."""
        return self.model.product(v).astype(v.dtype)


def gather(problem: Problem, network: Network, s: At, inner_iter: int | None = None) -> None:
    """Form the sum of all agents' Gauss-Newton matrices at s.w, unless the one at hand still will do.

    (P^2 + P) / 2 numbers per agent and way, in single precision and in units near b, whose range they might leave else:
    the model of the next step is a little other, and the step is tested by what it does. Squared error on a model
    without hidden layer has the same matrix everywhere: it is sent once.
    """
    if inner_iter is not None and problem.penalty.quadratic is not None:
        raise ValueError(
            "inner_iter must be None with curvature='exact' and a quadratic penalty: the system is factored, which "
            f"takes no inner iterations, got {short(inner_iter)}."
        )
    is_sent, counts = _is_sent(problem, s), (network.round, network.bytes)
    if not is_sent:
        s.memory[ANCHOR], s.memory[OLDER] = s.w.copy(), np.zeros(len(s.w))
    elif not s.is_refused:
        s.memory[OLDER] = np.ones(len(s.w))
    if is_sent and MATRIX in s.scratch:
        return
    unit = float(np.ldexp(1.0, np.frexp(s.unit)[1]))  # a power of two: no bit changes
    total = network.sum(packed(problem, s.memory[ANCHOR], np.float32, unit))
    s.scratch[MATRIX] = unpacked(unit * total.astype(np.float64), problem.n_params)
    if is_sent:  # before a break: a run that was resumed
        network.round, network.bytes = counts


def _is_sent(problem: Problem, s: At) -> bool:
    """Whether the matrix that the agents have sent each other will do: it is that of s.w, or was right enough."""
    if ANCHOR not in s.memory:
        return False
    if is_constant(problem):
        return True
    return not np.any(s.memory[OLDER]) if s.is_refused else bool(np.any(s.memory.get(KEEPS, 0)))


def is_constant(problem: Problem) -> bool:
    """Whether the Gauss-Newton matrix is the same at all weights: squared error, and no hidden layer."""
    return problem.loss.is_quadratic and len(getattr(problem.model, "layers", ())) == 2


def packed(problem: Problem, w: Array, dtype: Any = np.float64, unit: float = 1.0) -> Array:
    """The upper triangles of every local agent's ``A_i / unit``, row after row, (n_local, (P^2 + P) / 2).

    Raises
    ------
    ValueError
        If the model does not form such matrices.
    MemoryError
        If they do not fit into this machine.
    """
    p, n = problem.n_params, problem.n_local
    what, size = f"{n} Gauss-Newton matrices of {p} parameters", (3 * n + 4) * p * p // 2 * problem.dtype.itemsize
    with problem.runtime.together():
        _checks.check_memory(what, size, "use curvature='own' or 'shared'")
    root = curvature_at(problem, None, w, np.ones(n), formed=True)
    out, buffer = np.empty((n, (p * p + p) // 2), dtype=dtype), None
    for agents in problem.agent_groups(p * p):
        held = None if buffer is None else buffer[: agents.stop - agents.start]
        b = problem.gauss_newton(w, root, None, agents, held)
        buffer = b if buffer is None else buffer
        np.multiply(np.take(b, _upper(p), axis=1, mode="clip"), 1 / unit, out=out[agents], casting="same_kind")
    return out


def unpacked(triangle: Array, p: int) -> Array:
    """The symmetric matrix (P, P) float64 of a packed upper triangle."""
    out = np.zeros((p, p))
    out.reshape(-1)[_upper(p)] = triangle
    for begin in range(0, p, TILE):  # what lies below the diagonal, tile by tile
        end = min(begin + TILE, p)
        out[end:, begin:end] = out[begin:end, end:].T
        tile = out[begin:end, begin:end]
        tile += np.triu(tile, 1).T
    return out


@lru_cache(maxsize=4)
def _upper(p: int) -> Array:
    """Places of the upper triangle in a matrix (P, P), row after row."""
    rows, columns = np.triu_indices(p)
    return np.asarray(rows * p + columns)


def _factored(matrix: Array, tau: float, l2: Array) -> Array | None:
    """The lower Cholesky factor of B + tau I + l2, tau doubled where rounding left it indefinite; None if never."""
    least = np.finfo(np.float64).eps * float(np.max(np.abs(matrix)))
    for _ in range(TAU_DOUBLINGS):
        if not np.isfinite(tau + least):
            return None
        damped = matrix.copy()
        damped.flat[:: len(damped) + 1] += tau + l2
        # a symmetric matrix is its own transpose, which LAPACK need not copy
        factor, failed = scipy.linalg.lapack.dpotrf(damped.T, lower=1, clean=0, overwrite_a=1)
        if not failed:
            return np.asarray(factor)
        tau = max(2 * tau, least)
    return None
