"""What the loop asks of a recipe, and what a step must leave behind.

# Design
# After `step` the loop reads w, y, grad, values and disagreement, and nothing else that the recipe would have to care
# for:
#
#   w, y, grad (n_local, P)   weights, tracker, the gradient that the tracker was last updated with
#   values (n_local,)         own cost where that gradient was taken
#   disagreement (n_local,)   |z_i - sum_j c_ij z_j| / |z_i| of the first mixing round, as `network.mix` returns it
#
# `size` (n_local,), |z_i|, `squares` (n_local,), |w_i|^2 + |y_i|^2, and `measured`, G and its gradient at the mean of
# w, may be left where they are at hand, and the votes may be sent (`State.votes`); the loop forgets them before each
# step. tau (n_local,) and `step` are shown in the history, and saved by the alarm. What the recipe itself wants to find
# at its next step it keeps in the fields of `dnnext.runs.state.LASTING` or in `memory`; all other fields of the State
# are scratch that nothing may rely on (a contract test fills them with NaN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dnnext.local.oracles import Oracle
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State


class Recipe(Protocol):
    """One iteration of an algorithm, and what to do after an alarm."""

    contract_to: float
    oracle: Oracle
    why: str  # a sentence about what was chosen, shown with the progress; "" if nothing was
    columns: dict[str, float]  # of the history, equal on every rank

    @property
    def title(self) -> str:
        """What messages call it."""

    def start(self, problem: Problem, s: State) -> None:
        """Complete the state before the first iteration."""

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration, from s to s."""

    def fast_step(self, problem: Problem, network: Network, s: State) -> bool:
        """The same with the same bits, faster; False, and nothing done, where it cannot. Tried before `step`."""

    def soften(self, s: State) -> None:
        """Ten times more careful, after an alarm."""

    def retreat(self) -> Recipe | None:
        """After the last alarm: a safer recipe to go on with, if there is one."""
