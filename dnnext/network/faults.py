"""A network that fails, drawn from a seed: what is lost, late, doubled, and which agents stand still.

Design
------
`Faults` says what goes wrong in which round and nothing else; like a schedule it has no state, so any run sees the same
round k, on any rank. Two networks train on it all the same, and for a recipe both look like a `Network`:

* `KnownLoss` (known_loss.py): both ends know that a message was lost (an acknowledgement is missing), so the link
  counts as down for this round and the weights are re-formed: doubly stochastic, so ``mean y = mean grad`` holds.
* `RunningSums` (running_sums.py): a loss is not reported. An agent does not send its share of y but the *total* of all
  shares it ever gave to this neighbour; the receiver takes the difference to the total it knew.

An agent that is away neither sends nor receives nor moves. One that is silent for too long takes its share of the sum
with it, which no weights can mend: the run ends with `AgentsLost`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.network.mixer import MixerState
from dnnext.network.network import Network
from dnnext.network.topology import Topology
from dnnext.runtime import AgentsLost

__all__ = ["Faults", "FaultyNetwork"]

Array = NDArray[Any]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Faults:
    """What goes wrong, drawn from a seed.

    Parameters
    ----------
    loss : float
        Probability that a message is lost, each direction on its own.
    delay : int
        A message arrives 0 to `delay` rounds late, all alike; so later ones may overtake it.
    duplicate : float
        Probability that a message arrives a second time, with a delay of its own.
    away : {agent: (first, end)}
        Rounds ``first <= k < end`` in which an agent stands still; ``end=None``: it never comes back.
    random_state : None, int or Generator

    Raises
    ------
    ValueError
        For a probability outside of [0, 1), a negative delay, or rounds that do not rise.

    Examples
    --------
    >>> faults = Faults(loss=0.2, delay=2, away={3: (10, 20)}, random_state=0)
    >>> faults.is_away(12, 5)
    array([False, False, False,  True, False])
    """

    def __init__(
        self,
        loss: float = 0.0,
        *,
        delay: int = 0,
        duplicate: float = 0.0,
        away: Mapping[int, tuple[int, int | None]] | None = None,
        random_state: Any = None,
    ) -> None:
        self.loss = _checks.check_between("loss", loss, 0, 1, open_high=True)
        self.delay = _checks.check_count("delay", delay, minimum=0)
        self.duplicate = _checks.check_between("duplicate", duplicate, 0, 1, open_high=True)
        if away is not None and not isinstance(away, Mapping):
            raise ValueError(
                f"away must be None or a dict {{agent: (first, end)}} of rounds, got {_checks.short(away)}."
            )
        self.away = dict(away or {})
        for agent, span in self.away.items():
            if not isinstance(span, tuple | list) or len(span) != 2:
                raise ValueError(
                    f"away must hold a pair (first, end) of rounds for agent {agent}, got {_checks.short(span)}."
                )
            first, end = span
            _checks.check_count("the agents of away", agent, minimum=0)
            _checks.check_count("the rounds of away", first, minimum=0)
            if end is not None:
                _checks.check_count(f"the end of away for agent {agent}", end, minimum=first + 1)
        self.entropy = int(_checks.check_random_state(random_state).generate_state(1, np.uint64)[0])

    def __repr__(self) -> str:
        return f"Faults(loss={self.loss:g}, delay={self.delay}, duplicate={self.duplicate:g}, away={self.away})"

    def is_away(self, k: int, n_agents: int) -> Flags:
        """Who stands still in round k, (n_agents,)."""
        still = np.zeros(n_agents, dtype=bool)
        for agent, (first, end) in self.away.items():
            still[agent] = first <= k and (end is None or k < end)
        return still

    def arrivals(self, k: int, n_messages: int) -> tuple[Ids, Ids]:
        """Rounds late of every message sent in round k, and of its double; -1 where it never arrives."""
        rng = np.random.default_rng(np.random.SeedSequence([self.entropy, k]))
        chance, twice = rng.random(n_messages), rng.random(n_messages)
        late, again = rng.integers(0, self.delay + 1, (2, n_messages))
        return np.where(chance < self.loss, -1, late), np.where(twice < self.duplicate, again, -1)


class FaultyNetwork(Network):
    """What both answers share: which agents are away, and which have been silent for too long.

    Attributes
    ----------
    faults : Faults
        What goes wrong.
    patience : int
        Rounds of silence after which an agent counts as lost.
    """

    faults: Faults
    patience: int

    @staticmethod
    def _check_given(topology: Topology, faults: Faults) -> None:
        if not isinstance(topology, Topology):
            raise ValueError(f"topology must be a Topology, got {type(topology).__name__}.")
        if not isinstance(faults, Faults):
            raise ValueError(f"faults must be a Faults object, got {type(faults).__name__}.")
        if max(faults.away, default=0) >= topology.n_agents:
            raise ValueError(f"away must hold agents below {topology.n_agents}, got {max(faults.away)}.")

    def _begin(self, faults: Faults, patience: int) -> None:
        self.faults, self.patience = faults, _checks.check_count("patience", patience)
        self.runtime.agree("faults and patience", (repr(faults), faults.entropy, patience))
        self.restart()

    @property
    def offers(self) -> frozenset[str]:
        """What a recipe may ask of this network: it remembers the weights of agents that are away."""
        return super().offers - {"memoryless", "tree", "shrinks"}

    def restart(self) -> None:
        """Forget what the agents knew of each other: they begin again together, with y = grad."""
        self._w: Array | None = None
        self._start, self._seen = self.round, np.full(self.n_agents, self.round - 1)

    def snapshot(self) -> MixerState:
        """What `restore` needs: counts, last weights, and the round of the last message received from each agent."""
        state = super().snapshot()
        if self._w is not None:
            state.agents["w"] = self._w.copy()
        state.shared["seen"] = self._seen.copy()
        return state._replace(numbers=state.numbers | {"start": int(self._start)})

    def restore(self, state: MixerState) -> None:
        """Go on as the network went on that was saved.

        Parameters
        ----------
        state : MixerState
            What `snapshot` returned, the entries of the agents held here.
        """
        super().restore(state)
        self._w = np.array(state.agents["w"]) if "w" in state.agents else None
        if "seen" in state.shared:
            self._seen, self._start = np.array(state.shared["seen"]), int(state.numbers["start"])

    def _local(self, flags: Flags) -> Flags:
        """The entries of the agents held here."""
        return flags[self.runtime.agents.start : self.runtime.agents.stop]

    def _check_silence(self) -> None:
        """AgentsLost if no message of an agent has been received for too long; all ranks raise it together."""
        silent = np.flatnonzero(self.round - self._seen > self.patience)
        if len(silent) and self.n_agents > 1:
            raise AgentsLost(
                f"agent {silent[0]} has been silent since round {self._seen[silent[0]] + 1}, for more than "
                f"{self.patience} rounds: its share of the tracked sum is gone. Train on without it (a new graph and "
                "problem, y = grad)",
                agents=silent.tolist(),
            )

    def _hold(self, w: Array, still: Flags) -> None:
        """Agents that stand still keep w; it is remembered for the next call."""
        if self._w is not None:
            w[still] = self._w[still]
        self._w = w.copy()
