"""Decentralised gradient descent: the baseline without a tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnnext import _checks
from dnnext.algorithms.base import Algorithm, State
from dnnext.algorithms.step_sizes import StepSize
from dnnext.kernels.sums import row_norms
from dnnext.local import FullLinearization, Oracle
from dnnext.local.oracles import check_oracle

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem


class DGD(Algorithm):
    """Proximal decentralised gradient descent with a diminishing step.

    ``w_i <- prox_{a r}(sum_j c_ij w_j - a A grad_i)``, ``a = step[t]`` on the scale of the objective U [1]_, [2]_. A
    constant step ends in a neighbourhood of a solution; a diminishing one approaches it slowly.

    Parameters
    ----------
    step : "auto" or float
        First step; "auto" is half the inverse of the curvature along the gradient at the start.
    mu : float or None
        ``step[t] = step[t-1] (1 - mu step[t-1])``; 0 is a constant step; None makes the step halve in about 100
        iterations, ``mu = 0.01 / step``.
    oracle : Oracle or None
        Gives the gradient (`dnnext.local.oracles`); None is `Backprop()`.

    Raises
    ------
    ValueError
        If step is not positive or mu is not in [0, 1 / step).

    References
    ----------
    .. [1] A. Nedic, A. Ozdaglar, Distributed subgradient methods for multi-agent optimization, IEEE TAC 54 (2009).
    .. [2] J. Zeng, W. Yin, On nonconvex decentralized gradient descent, IEEE TSP 66 (2018).

    Examples
    --------
    >>> DGD(step=0.05, mu=0)
    DGD(step=0.05, mu=0)
    """

    needs = frozenset({"any_arrays"})  # one array is mixed, and no tracker

    def __init__(self, step: str | float = "auto", mu: float | None = None, oracle: Oracle | None = None) -> None:
        if not _checks.is_word(step, "auto"):
            StepSize(_checks.check_positive("step", step, words=("auto",)), 0.0 if mu is None else mu)
        self.first_step, self.mu = step, mu
        self.oracle_given, self.oracle = oracle, check_oracle(oracle)

    def start(self, problem: Problem, s: State) -> None:
        """tau = 1 / step[0], so that history and alarm speak of one thing."""
        if isinstance(self.first_step, str):
            s.unit = 2 * FullLinearization().scale(problem, s.w)
            s.tau[:] = s.unit if s.unit > 0 else 1.0  # a flat start moves nowhere at any step
        else:
            s.tau[:] = 1 / self.first_step

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration."""
        first = 1 / float(s.tau[0])
        s.step = StepSize(first, 0.01 / first if self.mu is None else self.mu)(s.t)
        push = s.step * problem.n_agents * s.grad
        mixed = network.mix(s.w, t=s.t)
        s.differ(mixed.disagreement, row_norms(s.w) if mixed.size is None else mixed.size)
        lengths = (0 * s.tau + s.step).astype(s.w.dtype)
        s.w = problem.prox(mixed.arrays[0] - push, lengths)
        s.values = self.oracle(problem, s.w, s.grad, s.memory)
        s.y = s.grad.copy()  # what the agent knows of the sum
