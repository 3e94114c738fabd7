"""Iterations of NEXT in one kernel call each, where no part of it is the user's own.

# Design
# `NEXT.step` says what an iteration is, and every part of it may be replaced: surrogate, rule for tau, penalty, loss,
# network. Where all are built in, nothing is to be decided in between, and on small networks the calls would cost more
# than the numbers. `next_step` then calls the same kernels as the parts do, one after another in C: the same bits, held
# by a test. Where a decision is due after all, because Cholesky failed, it stops before the state has changed.
#
# A part's own class says with `in_one_call` that the kernel does what it does; what it inherits does not count, because
# a subclass may do otherwise. For a surrogate and a rule it is a method that returns what the kernel is given in their
# place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnnext import kernels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnnext.algorithms.damping import Damping
    from dnnext.local import Surrogate
    from dnnext.local.local_model import OneFactor
    from dnnext.models import MLP
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]


def one_call(
    problem: Problem, network: Network, surrogate: Surrogate, damping: Damping, others: Iterable[object], s: State
) -> OneCall | None:
    """The iterations of a run that begins at s, if all parts are built in, in one process, on a fixed graph; else None.

    others: what else takes part in them, such as the oracle.
    """
    parts = (problem, network, surrogate, damping, *others)
    if not all("in_one_call" in vars(type(part)) for part in parts):
        return None
    if problem.tangents is not None or problem.loss.kernel is None or not network.is_at_once:
        return None
    if "next_step" not in problem.model.offers or "terms" not in problem.penalty.offers:
        return None
    factor, growth = surrogate.in_one_call(problem, s), damping.in_one_call(surrogate)
    if factor is None or growth is None:
        return None
    return OneCall(problem, network, factor, (growth, surrogate.decay))


class OneCall:
    """One iteration per call; what does not change during a run is laid out once.

    Parameters
    ----------
    problem, network : Problem, Network
        Of the run.
    factor : OneFactor
        How the kernel does step S.1.
    growth_decay : (float, float)
        Of the secant rule; a growth of 0 leaves tau as it is.
    """

    def __init__(
        self, problem: Problem, network: Network, factor: OneFactor, growth_decay: tuple[float, float]
    ) -> None:
        self.problem, self.network, self.factor, self.growth_decay = problem, network, factor, growth_decay
        self.workspace = kernels.StepWorkspace()
        r, model = problem.penalty, cast("MLP", problem.model)
        self.fixed = kernels.StepProblem(
            problem.x, problem.target, problem.weight, problem.offsets, model.layers, model.activation_code,
            cast(int, problem.loss.kernel), problem.loss.param, problem.scale, r.l1, r.l2, r.groups, r.strength,
        )  # fmt: skip

    def __call__(self, s: State, step: float) -> bool:
        """S.1, S.2, S.3 and tau: from s to s; False, and nothing done, where Cholesky failed."""
        problem, network, factor = self.problem, self.network, self.factor
        dtype, s.step = problem.dtype, step
        w_old, y_old = np.ascontiguousarray(s.w, dtype), np.ascontiguousarray(s.y, dtype)
        grad_old = np.ascontiguousarray(s.grad, dtype)
        has_model = factor.root is not None or factor.share is not None
        status = np.zeros(len(w_old), np.int64) if has_model else None
        (w, y), csr, rounds = network.fixed_mixing(s.z, y_old, scalars=s.beta)
        values, squares, disagreement, size, received, tau, beta = np.empty((7, len(w)))
        tau[:], beta[:] = s.tau, s.beta
        kernels.next_step(
            kernels.StepState(
                w, y, s.w_hat, s.z, s.spare, values, squares, disagreement, size, received, tau, beta, w_old, y_old,
                grad_old,
            ),
            self.fixed,
            kernels.StepMixing(*csr, rounds),
            kernels.StepRecipe(
                float(step), problem.n_agents, *self.growth_decay, 1e-4 * s.unit, 1e4 * s.unit, factor.root,
                status, factor.group, factor.steps, factor.tol, factor.share, factor.blocks,
            ),
            problem.n_threads,
            self.workspace,
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
