"""Loss that both ends know of: the weights of a round are re-formed on the links that are up."""

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext.network.faults import Faults, FaultyNetwork
from dnnext.network.mixer import Mixed
from dnnext.network.rules import LinkFailures
from dnnext.network.schedules import Schedule
from dnnext.network.topology import Topology
from dnnext.network.weights import metropolis_values, rows_of, with_diagonal
from dnnext.runtime import Runtime

__all__ = ["KnownLoss"]

Array = NDArray[Any]


class _Surviving(LinkFailures):
    """The rule of `KnownLoss`: Metropolis weights on the links whose two messages arrive at once."""

    def __init__(self, topology: Topology, faults: Faults) -> None:
        super().__init__(topology, faults.loss, faults.entropy)
        self.faults, self.label = faults, f"known loss, {faults!r}"
        self.back = np.lexsort((self.rows, self.cols))  # entry (j, i) of entry (i, j)

    def __call__(self, k: int) -> sp.csr_array:
        """The matrix of round k."""
        late, again = self.faults.arrivals(k, len(self.rows))
        here = ~self.faults.is_away(k, self.n_agents)
        arrives = ((late == 0) | (again == 0)) & here[self.rows] & here[self.cols]
        alive = arrives & arrives[self.back]
        rows, cols = self.rows[alive], self.cols[alive]
        return with_diagonal(rows, cols, metropolis_values(rows, cols, self.n_agents), self.n_agents)


class KnownLoss(FaultyNetwork):
    """Loss that both ends know of: the link is down for this round and the weights are re-formed.

    Parameters
    ----------
    topology : Topology
        Connected; its own weights are not used, Metropolis weights are re-formed on the links that are up.
    faults : Faults
        A message that is late counts as lost.
    mixing_rounds : int or "auto"
        Plain rounds per iteration.
    patience : int
        Rounds of silence after which an agent counts as lost.
    runtime : Runtime, optional
        Where the agents live; default: all in this process.

    Raises
    ------
    AgentsLost
        From `mix`, naming the agents that were silent for more than `patience` rounds.

    Examples
    --------
    >>> network = KnownLoss(Topology.ring(6), Faults(loss=0.5, random_state=0))
    >>> z = np.arange(12.0).reshape(6, 2)
    >>> np.allclose(network.mix(z).arrays[0].mean(axis=0), z.mean(axis=0))
    True
    """

    def __init__(
        self, topology: Topology, faults: Faults, *, mixing_rounds: str | int = 1, patience: int = 1000,
        runtime: Runtime | None = None,
    ) -> None:  # fmt: skip
        self._check_given(topology, faults)
        self._rule = _Surviving(topology, faults)
        super().__init__(Schedule(self._rule), mixing_rounds=mixing_rounds, runtime=runtime)
        self._begin(faults, patience)

    @classmethod
    def examples(cls, runtime: Runtime | None = None) -> list[Self]:
        """Networks of six agents that the contract tests look at."""
        plans = (Faults(random_state=0), Faults(0.3, delay=2, duplicate=0.3, away={2: (3, 9)}, random_state=1))
        return [cls(Topology.ring(6), faults, mixing_rounds=2, runtime=runtime) for faults in plans]

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """As `Network.mix`; agents that stand still keep their w."""
        first = self.round
        still = self._local(self.faults.is_away(first, self.n_agents))
        mixed = super().mix(*arrays, scalars=scalars, t=t)
        for k in range(first, self.round):
            matrix = self._rule(k)
            self._seen[matrix.indices[rows_of(matrix) != matrix.indices]] = k
        self._check_silence()
        self._hold(mixed.arrays[0], still)  # its y: what the rounds made of it, or the mean is lost
        return mixed
