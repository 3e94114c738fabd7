"""One iteration of NEXT in one kernel call, where no part of it is the user's own.

# Design
# `NEXT.step` says what an iteration is, and every part of it may be replaced: surrogate, rule for tau, penalty, loss,
# network. Where all are built in, nothing is to be decided in between, and on small networks the calls would cost more
# than the numbers. `next_step` then calls the same kernels as the parts do, one after another in C: the same bits, held
# by a test. Where a decision is due after all, because Cholesky failed, it stops before the state has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnnext import kernels
from dnnext.algorithms.damping import Damping, SecantRule
from dnnext.local import FullLinearization, PartialLinearization, Surrogate, solvers
from dnnext.network import Network
from dnnext.problem import Problem
from dnnext.problem.kept import Kept
from dnnext.problem.objective import MEMORY_BUDGET

if TYPE_CHECKING:
    from dnnext.models import MLP
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]


CHOSEN = Kept[tuple[Any, ...], str]()  # by solver and inner_iter: to choose anew costs as much as other calls do


def is_one_call(problem: Problem, network: Network, surrogate: Surrogate, damping: Damping) -> bool:
    """Whether `one_call` may do what these do: all of them built in, one process, a fixed graph of several agents."""
    return (
        all(map(_is_built_in, (surrogate, damping, problem, network)))
        and (_is_proximal(surrogate) or _may_be_cholesky(problem, surrogate))
        and problem.tangents is None
        and "next_step" in problem.model.offers
        and network.is_at_once
        and problem.loss.kernel is not None
        and "terms" in problem.penalty.offers
    )


def _is_built_in(part: object) -> bool:
    """Whether the part's own class says that `one_call` does what it does; what it inherits does not count."""
    return "in_one_call" in vars(type(part))


def _is_proximal(surrogate: Surrogate) -> bool:
    """Whether step S.1 is one proximal step."""
    return isinstance(surrogate, FullLinearization) and surrogate.metric is None


def _may_be_cholesky(problem: Problem, surrogate: Surrogate) -> bool:
    """Whether step S.1 may be one Cholesky factor per agent, of a matrix small enough for calls to count."""
    return (
        isinstance(surrogate, PartialLinearization)
        and surrogate.solver in ("auto", "primal")
        and not (surrogate.is_shared or surrogate.exact)
        and surrogate.rows(problem) is problem
        and surrogate.n_blocks == 1
        and problem.loss.is_quadratic
        and problem.penalty.quadratic is not None
        and problem.n_params**2 * problem.dtype.itemsize <= MEMORY_BUDGET
        and CHOSEN.get(problem, (surrogate.solver, surrogate.inner_iter)) in (None, "primal")
    )


def one_call(problem: Problem, network: Network, surrogate: Surrogate, damping: Damping, s: State) -> bool:
    """S.1, S.2, S.3 and tau: from s to s; False, and nothing done, where the parts must be asked after all."""
    dtype = problem.dtype
    w_old, y_old = np.ascontiguousarray(s.w, dtype), np.ascontiguousarray(s.y, dtype)
    grad_old = np.ascontiguousarray(s.grad, dtype)
    root, status, group = None, None, 1
    if isinstance(surrogate, PartialLinearization):
        sub = surrogate.subproblem(problem, s)
        chosen = solvers.choose(sub) if surrogate.solver == "auto" else surrogate.solver
        CHOSEN.once(problem, (surrogate.solver, surrogate.inner_iter), lambda: chosen)
        if chosen != "primal":
            return False
        root, group = sub.root, problem.agent_groups(sub.block_numbers)[0].stop
        status = np.zeros(len(w_old), np.int64)
    r, model = problem.penalty, cast("MLP", problem.model)
    (w, y), csr, rounds = network.fixed_mixing(s.z, y_old, scalars=s.beta)
    values, squares, disagreement, size, received, tau, beta = np.empty((7, len(w)))
    tau[:], beta[:] = s.tau, s.beta
    loss = -1 if problem.loss.kernel is None else problem.loss.kernel
    growth = surrogate.growth if isinstance(damping, SecantRule) else 0.0
    kernels.next_step(
        kernels.StepState(
            w, y, s.w_hat, s.z, s.spare, values, squares, disagreement, size, received, tau, beta, w_old, y_old,
            grad_old,
        ),
        kernels.StepProblem(
            problem.x, problem.target, problem.weight, problem.offsets, model.layers, model.activation_code, loss,
            problem.loss.param, problem.scale, r.l1, r.l2, r.groups, r.strength,
        ),
        kernels.StepMixing(*csr, rounds),
        kernels.StepRecipe(
            float(s.step), problem.n_agents, growth, surrogate.decay, 1e-4 * s.unit, 1e4 * s.unit, root, status, group
        ),
        problem.n_threads,
    )  # fmt: skip
    if status is not None and status.any():
        network.undo_fixed_mixing()
        return False
    s.w_old, s.y_old, s.w, s.y = w_old, y_old, w, y
    s.grad, s.spare = s.spare, grad_old
    s.values, s.squares, s.disagreement, s.size, s.received, s.tau, s.beta = (
        values, squares, disagreement, size, received, tau, beta,
    )  # fmt: skip
    return True
