"""Growing samples: the first gradients from some rows of every agent, later ones from ever more, the last from all.

# Design
# The tracker of step S.3 moves by the new gradient less the old one, whatever rows either was taken from. So the mean
# of the trackers stays the mean of the gradients when the rows grow, and nothing is started again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks
from dnnext._params import Parameters
from dnnext.problem.samples import sampled_problem

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["Growing"]

Array = np.ndarray[Any, np.dtype[Any]]

CALLS = "growing.calls"
LEAST = 64  # rows of every agent, or all it has


class Growing(Parameters):
    """The gradient over a growing part of every agent's rows, for full linearisation on large data.

    Call number k takes the share ``min(1, first growth^(k // every))`` of every agent's rows, at least 64 of them, of
    all classes (`dnnext.problem.samples`); from a share of 1 on it is `Backprop`. It saves time where a gradient takes
    most of an iteration, and costs rounds and bytes: nearly every run with it sent more until it was as good. It keeps
    a copy of the rows of each stage. ``FullLinearization(growth=2.0)`` is short for it.

    Parameters
    ----------
    first : float, default=1/16
        The share of the rows at the start, in (0, 1].
    growth : float, default=2
        Factor of the share from stage to stage, above 1.
    every : int, default=8
        Iterations of a stage.

    Raises
    ------
    ValueError
        For a value outside of what is stated here.

    References
    ----------
    R. H. Byrd, G. M. Chin, J. Nocedal, Y. Wu, Sample size selection in optimization methods for machine learning,
    Math. Prog. 134 (2012).

    Examples
    --------
    >>> from dnnext.local import Growing
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 2000)[:, None]
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [(x, x)])
    >>> oracle, memory, out = Growing(first=0.25, every=1), {}, np.empty((1, 2))
    >>> values = [oracle(problem, np.array([[1.0, 0.5]]), out, memory)[0] for _ in range(3)]
    >>> np.round(values, 6), oracle.rows(problem, memory)
    (array([0.125, 0.125, 0.125]), array([2000]))
    """

    is_gradient = False
    needs = frozenset({"whole_rows"})

    def __init__(self, first: float = 1 / 16, growth: float = 2.0, every: int = 8) -> None:
        self.first = _checks.check_between("first", first, 0, 1, open_low=True)
        self.growth = _checks.check_positive("growth", growth, above=1)
        self.every = _checks.check_count("every", every)

    def __call__(self, problem: Problem, w: Array, out: Array, memory: dict[str, Array]) -> Array:
        """Value and gradient of every local agent over its rows of this stage; N counts these rows, too."""
        rows = self.rows(problem, memory)
        memory[CALLS] = memory.get(CALLS, np.zeros(problem.n_local, np.int64)) + 1
        return sampled_problem(problem, rows, keep_total=False).loss_grad(w, out)

    def rows(self, problem: Problem, memory: dict[str, Array]) -> Array:
        """How many rows every agent of the network takes in the next call, (n_agents,)."""
        calls = int(memory[CALLS][0]) if len(memory.get(CALLS, ())) else 0
        share = self.first
        for _ in range(calls // self.every):
            share = min(1.0, share * self.growth)
        held = problem.agent_rows
        return np.asarray(np.minimum(held, np.maximum(LEAST, np.ceil(share * held).astype(np.int64))))
