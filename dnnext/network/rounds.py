"""Which rounds a call of `mix` does: the same ones on a fixed graph, looked up in a schedule otherwise."""

from collections.abc import Sequence
from typing import Any

from dnnext.network.plan import LocalMixing, localise
from dnnext.network.schedules import Schedule
from dnnext.network.spectrum import Coefficients, Product, chebyshev
from dnnext.network.topology import Topology
from dnnext.runtime import Runtime

__all__ = ["PLAIN", "FixedRounds", "Rounds", "ScheduledRounds"]

Rounds = Sequence[tuple[LocalMixing, Coefficients]]

PLAIN = Coefficients(1.0, 0.0, 0.0)
CAP = 100  # rounds per agent after which a schedule counts as not contracting


class FixedRounds:
    """All rounds of a call on a fixed graph.

    Attributes
    ----------
    rounds : list of (LocalMixing, Coefficients)
    contraction : float
        What a call leaves of a disagreement at most.
    """

    def __init__(self, graph: Topology, runtime: Runtime, peers: tuple[int, ...], key: str) -> None:
        self.graph, self.runtime = graph, runtime
        graph.check_contracts()
        runtime.agree("lambda_2 and lambda_n", (graph.lambda_2, graph.lambda_n))
        self.local = localise(graph.mixing, runtime, peers, key)
        self.rounds: list[tuple[LocalMixing, Coefficients]] = []
        self.contraction = 1.0

    def decide(self, mixing_rounds: str | int, contract_to: float) -> None:
        """A number of plain rounds, or the fewest that contract: Chebyshev rounds where C is symmetric."""
        graph, automatic = self.graph, isinstance(mixing_rounds, str)
        if automatic and graph.is_symmetric:
            found, self.contraction = chebyshev(graph.lambda_2, graph.lambda_n, contract_to)
        else:
            count = graph.rounds_to(contract_to) if automatic else int(mixing_rounds)
            found, self.contraction = [PLAIN] * count, graph.sigma_2**count
        self.rounds = [(self.local, c) for c in found]


class ScheduledRounds:
    """Rounds of a schedule: it is public, so every rank finds the same number of them."""

    def __init__(self, schedule: Schedule, runtime: Runtime, peers: tuple[int, ...], key: str) -> None:
        self.schedule, self.runtime, self.peers, self.key = schedule, runtime, peers, key
        self._known: dict[int, LocalMixing] = {}  # rounds of a schedule that repeats itself
        self._lengths: dict[tuple[int, float], int] = {}

    def fixed(self, first: int, count: int) -> Rounds:
        """So many rounds from `first` on."""
        return [(self._local(k), PLAIN) for k in range(first, first + count)]

    def contracting(self, first: int, contract_to: float, t: int) -> Rounds:
        """Rounds from `first` on until their product contracts.

        Raises
        ------
        ValueError
            If it does not after 100 rounds per agent.
        """
        period = self.schedule.period
        place = None if period is None else (first % period, contract_to)
        if place in self._lengths:
            return self.fixed(first, self._lengths[place])
        product, rounds = Product(self.schedule.n_agents), list[tuple[LocalMixing, Coefficients]]()
        while not product.contracts(contract_to):
            if len(rounds) == CAP * self.schedule.n_agents:
                raise ValueError(
                    f"schedule {self.schedule.name} must contract disagreement to {contract_to}, got more after "
                    f"{len(rounds)} rounds of iteration {t} (from round {first} on); its rounds are not jointly "
                    "connected often enough: add edges, or give mixing_rounds a number."
                )
            k = first + len(rounds)
            mixing = self.schedule.mixing(k)
            product.multiply(mixing)
            rounds.append((self._local(k, mixing), PLAIN))
        if place is not None:
            self._lengths[place] = len(rounds)
        return rounds

    def _local(self, k: int, mixing: Any = None) -> LocalMixing:
        """What this rank does in global round k, remembered if the schedule repeats itself."""
        period = self.schedule.period
        if period is not None and k % period in self._known:
            return self._known[k % period]
        mixing = self.schedule.mixing(k) if mixing is None else mixing
        local = localise(mixing, self.runtime, self.peers, self.key)
        if period is not None:
            self._known[k % period] = local
        return local
