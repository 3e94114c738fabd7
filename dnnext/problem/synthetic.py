"""Synthetic inputs: the same rows at every agent, with the mean and covariance that all inputs together have.

# Design
# The Gauss-Newton curvature of squared error, logistic and softmax depends on the inputs and not on the targets. Agents
# that know the network-wide mean and covariance of the inputs, and draw the same rows from them by a common seed, have
# (nearly) the curvature of all data at their own weights, and none of it ever travels. The moments are added up by
# `sum_agents` in agent order, so every rank draws the same bits. What is disclosed is exactly the mean and covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.problem.objective import Problem

__all__ = ["KINDS", "input_moments", "synthetic_problem", "synthetic_rows"]

Array = NDArray[Any]

KINDS = ("shared", "shared-own-moments", "recoloured")
LEAST_ROWS = 150
VIEWS: Kept[str, Problem] = Kept()
ROOT_FLOOR = 1e-10  # eigenvalues of a covariance below this share of the largest count as zero


def synthetic_rows(n_params: int, n_outputs: int) -> int:
    """``M = max(150, P / min(Q, 3))``: rows whose curvature has full rank; four times as many were hardly better."""
    return max(LEAST_ROWS, -(-n_params // min(n_outputs, 3)))


def input_moments(problem: Problem) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of all agents' inputs, weighted by ``c_m``, in float64, equal on every rank.

    ``mu = (1/N) sum_m c_m x_m``, then ``Sigma = (1/N) sum_m c_m (x_m - mu)(x_m - mu)'`` in a second pass.
    """
    d, runtime, total = problem.model.n_inputs, problem.runtime, problem.agent_weight
    needed = runtime.n_agents * d * d * 8
    _checks.check_memory(f"covariances of {d} inputs from {runtime.n_agents} agents", needed, "use curvature='own'")
    every = float(runtime.sum_agents(total))
    first, second = np.zeros((problem.n_local, d)), np.zeros((problem.n_local, d, d))
    for i in range(problem.n_local):
        x, c = _weighted(problem, i)
        first[i] = c @ x
    mean = runtime.sum_agents(first) / every
    for i in range(problem.n_local):
        x, c = _weighted(problem, i)
        second[i] = (c[:, None] * (x - mean)).T @ (x - mean)
    return mean, runtime.sum_agents(second) / every


def synthetic_problem(problem: Problem, kind: str = "shared") -> Problem:
    """The problem with other rows, whose curvature stands for everyone's; made once and kept with the problem.

    Parameters
    ----------
    problem : Problem
    kind : str
        "shared": the same M rows ``x = mu + Sigma^(1/2) zeta`` at every agent, relays included, ``zeta`` standard
        normal from a common seed, whitened exactly. "shared-own-moments": agent i's own mean and covariance
        instead, the off-diagonal of the latter times ``min(1, m_i / d)``; nothing is disclosed. "recoloured": the
        agent's own rows, moved to the shared moments, ``x -> mu + Sigma^(1/2) Sigma_i^(-1/2) (x - mu_i)``.

    Raises
    ------
    ValueError
        If the curvature of the loss depends on the targets, which synthetic inputs do not have.
    """
    if problem.loss.curvature_has_labels:
        raise ValueError(
            f"curvature={kind!r} needs a loss whose curvature does not depend on the targets (SquaredError, Logistic, "
            f"Softmax), got {problem.loss!r}; use curvature='own'."
        )
    if problem.x.ndim != 2:
        raise ValueError(
            f"curvature={kind!r} needs inputs (rows, columns), got rows of shape {problem.x.shape[1:]}; use "
            "curvature='own'."
        )
    return VIEWS.once(problem, kind, lambda: _RULES[kind](problem))


def _shared(problem: Problem) -> Problem:
    mean, covariance = input_moments(problem)
    x = mean + _zeta(problem) @ _power(covariance, 0.5)
    return _on(problem, [x] * problem.n_local)


def _own_moments(problem: Problem) -> Problem:
    zeta, rows = _zeta(problem), []
    for i in range(problem.n_local):
        x, c = _weighted(problem, i)
        if not c.sum() > 0:  # a relay knows no inputs
            rows.append(np.empty((0, x.shape[1])))
            continue
        mean, covariance = _moments(x, c)
        shrunk = covariance * min(1.0, len(x) / x.shape[1])
        np.fill_diagonal(shrunk, np.diagonal(covariance))
        rows.append(mean + zeta @ _power(shrunk, 0.5))
    return _on(problem, rows)


def _recoloured(problem: Problem) -> Problem:
    mean, covariance = input_moments(problem)
    root, shards = _power(covariance, 0.5), []
    for i in range(problem.n_local):
        x, c = _weighted(problem, i)
        if c.sum() > 0:
            own_mean, own = _moments(x, c)
            white = _power(own, -0.5, floor=1e-3)
            x = mean + (x - own_mean) @ white @ root
        shards.append((x, _any_target(problem, len(x)), c))
    return problem.with_shards(shards, n_total=problem.n_total)


_RULES = {"shared": _shared, "shared-own-moments": _own_moments, "recoloured": _recoloured}


def _on(problem: Problem, rows: list[Array]) -> Problem:
    """Every agent with rows of its own, per-sample scale 1/M."""
    m = synthetic_rows(problem.n_params, problem.model.n_outputs)
    what = f"{m} synthetic inputs at {problem.n_local} agents"
    n_bytes = m * sum(len(x) > 0 for x in rows) * (problem.model.n_inputs + problem.model.n_outputs) * 8
    every = float(problem.runtime.sum_agents(problem.agent_weight))
    with problem.runtime.together():
        _checks.check_memory(what, n_bytes, "use curvature='own'")
    return problem.with_shards([(x, _any_target(problem, len(x))) for x in rows], n_total=m * problem.n_total / every)


def _zeta(problem: Problem) -> Array:
    """(M, d) standard normal numbers whose mean is exactly 0 and whose covariance is exactly I."""
    shape = synthetic_rows(problem.n_params, problem.model.n_outputs), problem.model.n_inputs
    zeta = np.random.default_rng(0).standard_normal(shape)
    zeta -= zeta.mean(axis=0)
    return np.asarray(zeta @ _power(zeta.T @ zeta / len(zeta), -0.5))


def _power(matrix: Array, exponent: float, floor: float = ROOT_FLOOR) -> Array:
    """A symmetric power of a positive semidefinite matrix; where it is (nearly) flat the power is 0."""
    value, vector = np.linalg.eigh(matrix)
    held = value > floor * max(float(value[-1]), 0.0)
    value = np.where(held, np.where(held, value, 1.0) ** exponent, 0.0)
    return np.asarray((vector * value) @ vector.T)


def _moments(x: Array, c: Array) -> tuple[Array, Array]:
    """Weighted mean and covariance of one agent's inputs."""
    share = c / c.sum()
    mean = share @ x
    return mean, (share[:, None] * (x - mean)).T @ (x - mean)


def _weighted(problem: Problem, i: int) -> tuple[Array, Array]:
    """Inputs and sample weights of local agent i in float64."""
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    x = problem.x[rows].astype(np.float64)
    weight = np.ones(len(x)) if problem.weight is None else problem.weight[rows].astype(np.float64)
    return x, weight


def _any_target(problem: Problem, n_rows: int) -> Array:
    """Targets that every loss takes; the curvature does not look at them."""
    target = np.zeros((n_rows, problem.model.n_outputs))
    target[:, 0] = 1
    return target
