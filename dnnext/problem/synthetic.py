"""Synthetic inputs: the same rows at every agent, with the mean and covariance that all inputs together have.

# Design
# The Gauss-Newton curvature of squared error, logistic and softmax depends on the inputs and not on the targets. Agents
# that know the network-wide mean and covariance of the inputs, and draw the same rows from them by a common seed, have
# (nearly) the curvature of all data at their own weights, and none of it ever travels. The moments are added up by
# `sum_agents` in agent order, so every rank draws the same bits. What is disclosed is exactly the mean and covariance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._checks import short
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.problem.objective import Problem

__all__ = ["InputKind", "input_kind", "input_moments", "synthetic_problem", "synthetic_rows"]

Array = NDArray[Any]

LEAST_ROWS = 150
CHUNK = 4096  # rows
VIEWS: Kept[str, Problem] = Kept()
ROOT_FLOOR = 1e-10  # eigenvalues of a covariance below this share of the largest count as zero


def synthetic_rows(n_params: int, n_inputs: int) -> int:
    """``M = max(150, 2 d, P / 4)``: of one output, four times as many, which give full rank, are no better in runs."""
    return max(LEAST_ROWS, 2 * n_inputs, -(-n_params // 4))


def input_moments(problem: Problem) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of all agents' inputs, weighted by ``c_m``, in float64, equal on every rank.

    ``mu = (1/N) sum_m c_m x_m``, then ``Sigma = (1/N) sum_m c_m (x_m - mu)(x_m - mu)'`` in a second pass.
    """
    d, runtime, total = problem.model.n_inputs, problem.runtime, problem.agent_weight
    needed = runtime.n_agents * d * d * 8
    _checks.check_memory(f"covariances of {d} inputs from {runtime.n_agents} agents", needed, "use curvature='own'")
    every = float(runtime.sum_agents(total))
    first, second = np.zeros((problem.n_local, d)), np.zeros((problem.n_local, d, d))
    for i, x, c in _weighted(problem):
        first[i] += c @ x
    mean = runtime.sum_agents(first) / every
    for i, x, c in _weighted(problem):
        x -= mean
        second[i] += (c[:, None] * x).T @ x
    return mean, runtime.sum_agents(second) / every


class InputKind(NamedTuple):
    """The share of input columns with two values, and their median kurtosis (3: Gaussian)."""

    binary: float
    kurtosis: float


@np.errstate(over="ignore", invalid="ignore")  # moments that overflow are no Gaussian's
def input_kind(problem: Problem) -> InputKind:
    """How far the inputs of all agents are from Gaussian, from the first four moments of every column.

    With ``mu_k = (1/N) sum_m c_m (x_m - mu)^k`` a column has two values exactly if ``mu_4 mu_2 - mu_3^2 = mu_2^3``;
    for all others the left side is larger [1]_. Constant columns do not count. Equal on every rank; each agent's own
    4 sums per column are gathered.

    References
    ----------
    .. [1] K. Pearson, Mathematical contributions to the theory of evolution XIX, Phil. Trans. R. Soc. A 216 (1916).
    """
    d, runtime = problem.model.n_inputs, problem.runtime
    first, higher = np.zeros((problem.n_local, d + 1)), np.zeros((problem.n_local, 3, d))
    for i, x, c in _weighted(problem):
        first[i] += np.append(c @ x, c.sum())
    sums = runtime.sum_agents(first)
    mean, every = sums[:-1] / sums[-1], float(sums[-1])
    for i, x, c in _weighted(problem):
        x -= mean
        square = x * x  # x**3 and x**4 would take 20 times as long
        higher[i] += [c @ square, c @ (square * x), c @ (square * square)]
    two, three, four = runtime.sum_agents(higher) / every
    held = two > ROOT_FLOOR * float(np.max(two, initial=0.0))
    if not held.any():
        return InputKind(0.0, 3.0)
    kurtosis = four[held] / two[held] ** 2
    binary = kurtosis - three[held] ** 2 / two[held] ** 3 < 1 + 1e-6
    return InputKind(float(np.mean(binary)), float(np.median(kurtosis)))


def synthetic_problem(problem: Problem) -> Problem:
    """The problem with other rows, whose curvature stands for everyone's; made once and kept with the problem.

    Every agent, relays included, has the same M rows ``x = mu + Sigma^(1/2) zeta`` with the mean and covariance of all
    inputs, ``zeta`` standard normal from a common seed, whitened exactly; the scale per sample is 1/M.

    Raises
    ------
    ValueError
        If the curvature of the loss depends on the targets, which synthetic inputs do not have.
    """
    if problem.loss.curvature_has_labels:
        raise ValueError(
            "curvature='shared' needs a loss whose curvature does not depend on the targets (SquaredError, Logistic, "
            f"Softmax), got {short(problem.loss)}; use curvature='own'."
        )
    if problem.x.ndim != 2:
        raise ValueError(
            f"curvature='shared' needs inputs (rows, columns), got rows of shape {problem.x.shape[1:]}; use "
            "curvature='own'."
        )
    return VIEWS.once(problem, "shared", lambda: _with_synthetic_rows(problem))


def _with_synthetic_rows(problem: Problem) -> Problem:
    mean, covariance = input_moments(problem)
    m = _n_rows(problem)
    what = f"{m} synthetic inputs at {problem.n_local} agents"
    n_bytes = m * problem.n_local * (problem.model.n_inputs + problem.model.n_outputs) * 8
    every = float(problem.runtime.sum_agents(problem.agent_weight))
    with problem.runtime.together():
        _checks.check_memory(what, n_bytes, "use curvature='own'")
    x, target = mean + _zeta(problem) @ _power(covariance, 0.5), np.zeros((m, problem.model.n_outputs))
    target[:, 0] = 1  # a target that every loss takes; the curvature does not look at it
    return problem.with_shards([(x, target)] * problem.n_local, n_total=m * problem.n_total / every)


def _n_rows(problem: Problem) -> int:
    return synthetic_rows(problem.n_params, problem.model.n_inputs)


def _zeta(problem: Problem) -> Array:
    """(M, d) standard normal numbers whose mean is exactly 0 and whose covariance is exactly I."""
    zeta = np.random.default_rng(0).standard_normal((_n_rows(problem), problem.model.n_inputs))
    zeta -= zeta.mean(axis=0)
    return np.asarray(zeta @ _power(zeta.T @ zeta / len(zeta), -0.5))


def _power(matrix: Array, exponent: float) -> Array:
    """A symmetric power of a positive semidefinite matrix; where it is (nearly) flat the power is 0."""
    value, vector = np.linalg.eigh(matrix)
    held = value > ROOT_FLOOR * max(float(value[-1]), 0.0)
    value = np.where(held, np.where(held, value, 1.0) ** exponent, 0.0)
    return np.asarray((vector * value) @ vector.T)


def _weighted(problem: Problem) -> Iterator[tuple[int, Array, Array]]:
    """Local agent, inputs and sample weights of some of its rows in float64, in fixed chunks: X may be large."""
    for i in range(problem.n_local):
        for begin in range(problem.offsets[i], problem.offsets[i + 1], CHUNK):
            rows = slice(begin, min(begin + CHUNK, problem.offsets[i + 1]))
            x = problem.x[rows].astype(np.float64)
            yield i, x, np.ones(len(x)) if problem.weight is None else problem.weight[rows].astype(np.float64)
