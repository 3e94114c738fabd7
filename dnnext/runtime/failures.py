"""What went wrong with agents: lost with their ranks, or senders of what cannot be true."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from dnnext.runtime.communicator import RanksLost

__all__ = ["AgentsLost", "BadMessage", "lost_agents"]

Array = NDArray[Any]


class AgentsLost(RuntimeError):
    """Ranks that died or fell silent, and their agents with them.

    Attributes
    ----------
    ranks : tuple of int
        The ranks that are gone; empty if all answer but wait for different things.
    agents : tuple of int
        The agents they held, by the numbers that these had when the run began.

    Examples
    --------
    >>> lost = AgentsLost("rank 1 with agents 2 and 3 fell silent", ranks=[1], agents=[2, 3])
    >>> lost.agents
    (2, 3)
    """

    def __init__(self, sentence: str, ranks: Sequence[int] = (), agents: Sequence[int] = ()) -> None:
        super().__init__(sentence)
        self.ranks, self.agents = tuple(ranks), tuple(agents)


class BadMessage(RuntimeError):
    """An agent sent what cannot be true: numbers that are not finite or absurdly large.

    Attributes
    ----------
    agent : int
        The sender.
    round : int
        The mixing round, counted from 0.

    Examples
    --------
    >>> BadMessage("agent 3 sent what is not finite in round 12", agent=3, round_=12).round
    12
    """

    def __init__(self, sentence: str, agent: int, round_: int) -> None:
        super().__init__(sentence)
        self.agent, self.round = agent, round_


def lost_agents(rank: int, lost: RanksLost, bounds: Array, first_numbers: Array) -> AgentsLost:
    """What this rank says of the agents on lost ranks."""
    if not lost.ranks:
        return AgentsLost(f"rank {rank} {lost.what}")
    blocks = [first_numbers[bounds[r] : bounds[r + 1]].tolist() for r in lost.ranks]
    names = [f"{_listed(block)} (rank {r})" for block, r in zip(blocks, lost.ranks, strict=True)]
    return AgentsLost(f"{', '.join(names)} {lost.what}", lost.ranks, [i for block in blocks for i in block])


def _listed(numbers: list[int]) -> str:
    """The agents of one rank in words, all of them where some are missing in between."""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return f"agent {first}"
    return f"agents {first} to {last}" if last - first == len(numbers) - 1 else f"agents {', '.join(map(str, numbers))}"
