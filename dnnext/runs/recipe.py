"""What the loop asks of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dnnext.local.oracles import Oracle
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State


class Recipe(Protocol):
    """One iteration of an algorithm, and what to do after an alarm.

    `step` must leave w, y, grad, values and disagreement in the state; everything else in it is the recipe's own.
    """

    contract_to: float
    oracle: Oracle

    def start(self, problem: Problem, s: State) -> None:
        """Complete the state before the first iteration."""

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration, from s to s."""

    def soften(self, s: State) -> None:
        """Ten times more careful, after an alarm."""

    def retreat(self, problem: Problem, s: State) -> str:
        """After the last alarm: go on from s in a safer form, if the recipe has one; what it is, or ''."""
