"""All agents in this process: nothing to send."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.runtime.agents import ExchangePlan, Runtime

__all__ = ["InProcess"]

Array = NDArray[Any]


class InProcess(Runtime):
    """All agents in one process; every row is local.

    Parameters
    ----------
    n_agents : int
        How many agents, at least 1.

    Examples
    --------
    >>> runtime = InProcess(3)
    >>> runtime.agents, runtime.is_distributed
    (range(0, 3), False)
    >>> float(runtime.sum_agents(np.array([1.0, 2.0, 4.0])))
    7.0
    """

    def __init__(self, n_agents: int) -> None:
        self.n_agents = _checks.check_count("n_agents", n_agents)
        self.bounds = np.array([0, self.n_agents], dtype=np.int64)
        self.rank, self.n_ranks = 0, 1

    def exchange(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """Nothing to do: there are no ghosts."""

    def all_agents(self, values: Array) -> Array:
        """The values themselves."""
        return self._check_local(values)

    def all_ranks(self, text: str) -> list[str]:
        """The text itself."""
        return [text]

    def __repr__(self) -> str:
        return f"InProcess({self.n_agents})"
