"""In which order an iteration mixes and takes the gradient: S.2 and S.3 of NEXT.

# Design
# Either way one message per iteration carries everything. "post" is the order of the papers: mix, then take the
# gradient at the mixed weights; the tracker lacks the newest innovation of the others until the next message. "pre"
# takes the gradient at the own new point first, so that what is mixed is already the newest. It is right where all
# models nearly agree (shared curvature), and wrong with own curvature, whose points differ much before mixing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.kernels.sums import row_norms

if TYPE_CHECKING:
    from dnnext.local import Oracle
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]
LOST = "order.lost"  # in the scratch of a state: agents whose trial overflows, (n_local,) bool
Numbers = Callable[[], "Array | None"]


class Order(ABC):
    """`begin` before S.1, `move` from s.z to the new s.w, s.y and s.grad."""

    def begin(self, network: Network, s: State) -> None:  # noqa: B027 - "post" has nothing to do
        """What precedes the first step from a common start, where y = grad."""

    @abstractmethod
    def move(self, problem: Problem, network: Network, s: State, oracle: Oracle, numbers: Numbers) -> None:
        """Steps S.2 and S.3; numbers() returns what the rule for tau wants mixed along, (n_local, k), or None."""


class Post(Order):
    """``w_i <- sum_j c_ij z_j``,  ``y_i <- sum_j c_ij y_j + grad_i(new) - grad_i(old)``, gradients at w."""

    in_one_call = True  # see `dnnext.algorithms.one_call`

    def move(self, problem: Problem, network: Network, s: State, oracle: Oracle, numbers: Numbers) -> None:
        """Mix in one message, then take the gradient."""
        s.mix(network)  # S.2, one message
        s.track(oracle(problem, s.w, s.spare, s.memory))  # S.3


class Pre(Order):
    """``w_i <- sum_j c_ij z_j``,  ``y_i <- sum_j c_ij (y_j + grad_j(new) - grad_j(old))``, gradients at z.

    At the start ``y <- C grad``, a message of its own. ``mean y = mean grad`` at every iteration, as in the other
    order.
    """

    def __init__(self, takes_back: bool = False) -> None:
        self.takes_back = takes_back  # whether the rule for tau may take an iteration back

    def begin(self, network: Network, s: State) -> None:
        """y_i <- sum_j c_ij grad_j: all agents begin with the others' gradients in sight."""
        if s.is_fresh:
            s.y = network.mix(s.w, s.y, t=s.t).arrays[1].copy()
            s.is_fresh = False

    def move(self, problem: Problem, network: Network, s: State, oracle: Oracle, numbers: Numbers) -> None:
        """Take the gradient, then mix in one message."""
        s.values = oracle(problem, s.z, s.spare, s.memory)  # S.3
        if self.takes_back:
            _stay(s)
        y_old, s.y = s.y, s.y + s.spare
        s.y -= s.grad
        s.grad, s.spare = s.spare, s.grad
        s.mix(network, numbers())  # S.2, one message
        s.y_old = y_old


def _stay(s: State) -> None:
    """Agents whose trial overflows stay where they are, so that messages are finite; they refuse it, and so do all."""
    lost = ~np.isfinite(row_norms(s.z) + row_norms(s.spare) + s.values)
    s.z[lost], s.spare[lost], s.values[lost] = s.w[lost], s.grad[lost], np.inf
    s.scratch[LOST] = lost
