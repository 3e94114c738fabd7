"""A network that fails, drawn from a seed, and two ways to train on it all the same.

Design
------
`Faults` says what goes wrong in which round and nothing else; like a schedule it has no state, so any run sees the same
round k. Two networks answer, and a recipe cannot tell either from a `Network`:

* `KnownLoss`: both ends know that a message was lost (an acknowledgement is missing), so the link counts as down for
  this round and the weights are re-formed. They stay doubly stochastic, and ``mean y = mean grad`` holds as ever.
* `RunningSums`: nobody reports a loss. An agent does not send its share of y but the *total* of all shares it ever gave
  to this neighbour; the receiver takes the difference to the total it knew. A lost message is repaired by the next one,
  a late or doubled one is recognised by its number. What is in flight is missing from y for a while, so a second
  quantity, 1 at the start, travels the same way, and y is divided by it.

An agent that is away neither sends nor hears nor moves. One that is silent for too long takes its share of the sum with
it, which no weights can mend: the run ends with `AgentsLost`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.network.lanes import change_of
from dnnext.network.network import Mixed, Network
from dnnext.network.rules import LinkFailures
from dnnext.network.schedules import Schedule
from dnnext.network.topology import Topology
from dnnext.network.weights import metropolis_values, rows_of, with_diagonal
from dnnext.runtime import AgentsLost, InProcess

__all__ = ["Faults", "KnownLoss", "RunningSums"]

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
        self.away = dict(away or {})
        for agent, (first, end) in self.away.items():
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


class _FaultyNetwork(Network):
    """What both answers share: who stands still, and who has been silent for too long."""

    faults: Faults
    patience: int

    def _begin(self, topology: Topology, faults: Faults, patience: int) -> None:
        if not isinstance(topology, Topology):
            raise ValueError(f"topology must be a Topology, got {type(topology).__name__}.")
        if not isinstance(faults, Faults):
            raise ValueError(f"faults must be a Faults object, got {type(faults).__name__}.")
        if max(faults.away, default=0) >= topology.n_agents:
            raise ValueError(f"away names agent {max(faults.away)}, but there are {topology.n_agents} agents.")
        self.faults, self.patience = faults, _checks.check_count("patience", patience)
        self.restart()

    def restart(self) -> None:
        """Forget what the agents knew of each other: they begin again together, with y = grad."""
        self._w: Array | None = None
        self._start, self._seen = self.round, np.full(self.n_agents, self.round - 1)

    def _listen(self) -> None:
        """AgentsLost if nobody has heard an agent for too long."""
        silent = np.flatnonzero(self.round - self._seen > self.patience)
        if len(silent) and self.n_agents > 1:
            raise AgentsLost(
                f"agent {silent[0]} has been silent since round {self._seen[silent[0]] + 1}, for more than "
                f"{self.patience} rounds: its share of the tracked sum is gone. Train on without it (a new graph and "
                "problem, y = grad)",
                agents=silent.tolist(),
            )

    def _hold(self, w: Array, still: Flags) -> None:
        """Who stands still keeps w; remember it for next time."""
        if self._w is not None:
            w[still] = self._w[still]
        self._w = w.copy()


class KnownLoss(_FaultyNetwork):
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
        self, topology: Topology, faults: Faults, *, mixing_rounds: str | int = 1, patience: int = 1000
    ) -> None:
        self.n_agents, self.round = getattr(topology, "n_agents", 1), 0
        self._begin(topology, faults, patience)
        self._rule = _Surviving(topology, faults)
        super().__init__(Schedule(self._rule), mixing_rounds=mixing_rounds)

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """As `Network.mix`; who stands still keeps its w."""
        first = self.round
        still = self.faults.is_away(first, self.n_agents)
        mixed = super().mix(*arrays, scalars=scalars, t=t)
        for k in range(first, self.round):
            matrix = self._rule(k)
            self._seen[matrix.indices[rows_of(matrix) != matrix.indices]] = k
        self._listen()
        self._hold(mixed.arrays[0], still)  # its y: what the rounds made of it, or the mean is lost
        return mixed


class _Post(NamedTuple):
    """Messages of one round on their way: (edges,) ids, their number, and what they say."""

    edges: Ids
    number: int
    totals: Array
    z: Array
    scalars: Array


class RunningSums(_FaultyNetwork):
    """Loss that nobody reports: agents send running totals, so that the next message repairs a lost one.

    Per round, with the doubly stochastic C of the topology, mass ``m_i`` (n + 1 numbers: y_i phi_i and phi_i) and the
    totals ``s_ij`` sent to and ``r_ij`` received from a neighbour,

    ``s_ij <- s_ij + c_ij m_j,   m_j <- c_jj m_j``             (send s_ij and z_j with the number of the round)

    ``m_i <- m_i + (s_ij - r_ij),   r_ij <- s_ij``             (when a message arrives that is newer than the last)

    ``z_i <- c_ii z_i + sum_j c_ij (z_j if a newer one came in this round, else its own z_i)``

    and the recipe sees ``y_i = m_i / phi_i``. Whatever is lost, ``sum_i m_i + sum_ij (s_ij - r_ij)`` is conserved.
    An old z_j is not used again: it would pull the weights back to where they were, iteration after iteration.

    Parameters
    ----------
    topology : Topology
        Connected, with a positive own weight of every agent.
    faults : Faults
    mixing_rounds : int
        Rounds per iteration.
    patience : int
        Rounds of silence after which an agent counts as lost.

    Raises
    ------
    ValueError
        If an own weight is zero.
    AgentsLost
        From `mix`, naming the agents that were silent for more than `patience` rounds.

    References
    ----------
    Y. Tian, Y. Sun, G. Scutari, Achieving linear convergence in distributed asynchronous multiagent optimization
    (ASY-SONATA), IEEE TAC 65 (2020), section III; C. N. Hadjicostis, N. H. Vaidya, A. D. Dominguez-Garcia, Robust
    distributed average consensus via exchange of running sums, IEEE TAC 61 (2016).

    Examples
    --------
    >>> network = RunningSums(Topology.ring(6), Faults(loss=0.3, random_state=0))
    >>> z = y = np.arange(12.0).reshape(6, 2)
    >>> for _ in range(200):
    ...     z, y = network.mix(z, y).arrays
    >>> np.allclose(y, [5, 6])
    True
    """

    def __init__(self, topology: Topology, faults: Faults, *, mixing_rounds: int = 1, patience: int = 1000) -> None:
        self.n_agents, self.round = getattr(topology, "n_agents", 1), 0
        self._begin(topology, faults, patience)
        super().__init__(topology, mixing_rounds=_checks.check_count("mixing_rounds", mixing_rounds),
                         runtime=InProcess(topology.n_agents))  # fmt: skip
        mixing = topology.mixing
        rows, apart = rows_of(mixing), rows_of(mixing) != mixing.indices
        self._to, self._from = rows[apart], np.asarray(mixing.indices, dtype=np.int64)[apart]
        self._share, self._keep = mixing.data[apart][:, None], mixing.diagonal()[:, None]
        if not (self._keep > 0).all():
            raise ValueError(
                f"every agent must keep a positive own weight, got 0 for agent {int(np.argmin(self._keep))}: use "
                "weights='metropolis' or a lazy rule."
            )

    def restart(self) -> None:
        """Forget totals and messages: all agents begin again together, with y = grad."""
        super().restart()
        self._mass: Array | None = None

    def _first(self, y: Array, n_scalars: int) -> None:
        """phi = 1, nothing sent, nothing on its way."""
        n_edges = len(self._to)
        self._mass = np.concatenate([y, np.ones((len(y), 1))], axis=1, dtype=np.float64)
        self._told = y.copy()
        self._sent, self._got = np.zeros((2, n_edges, self._mass.shape[1]))
        self._number = np.full(n_edges, -1)
        self._scalars_heard = np.zeros((n_edges, n_scalars))
        self._on_the_way: dict[int, list[_Post]] = {}

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """As `Network.mix`, for w and y: y goes by running totals.

        Raises
        ------
        ValueError
            If there are not two arrays.
        """
        if len(arrays) != 2:
            raise ValueError(f"running sums carry two arrays, z and y, got {len(arrays)}.")
        z, y = arrays
        told = np.zeros((self.n_agents, 1)) if scalars is None else np.asarray(scalars).reshape(self.n_agents, -1)
        if self._mass is None:
            if self.round != self._start:
                raise ValueError(
                    f"running sums cannot go on from round {self.round} without the totals: a checkpoint does not hold "
                    "them. Begin again with y = grad."
                )
            self._first(y, told.shape[1])
        assert self._mass is not None
        self._mass[:, :-1] += y - self._told  # what the recipe added since: its new gradient less its old one
        still = self.faults.is_away(self.round, self.n_agents)
        v, disagreement = z.astype(np.float64), np.zeros(self.n_agents)
        for r in range(int(self.mixing_rounds) if self.n_agents > 1 else 0):
            before, v = v, self._round(v, told)
            if r == 0:
                disagreement = change_of(before, v, 1.0, 1)[0]
            self.round += 1
        w, y_new = v.astype(z.dtype), (self._mass[:, :-1] / self._mass[:, -1:]).astype(y.dtype)
        self._hold(w, still)
        y_new[still] = y[still]
        self._told = y_new.copy()
        heard = np.full(told.shape, -np.inf)
        np.maximum.at(heard, self._to, self._scalars_heard)
        heard = np.where(np.isfinite(heard), heard, 0.0)
        return Mixed((w, y_new), heard[:, 0] if scalars is None or scalars.ndim == 1 else heard, disagreement)

    def _round(self, v: Array, told: Array) -> Array:
        """Send, hear, and average with the rows that came; who was not heard counts as the agent itself."""
        assert self._mass is not None
        k, here = self.round, ~self.faults.is_away(self.round, self.n_agents)
        sending = np.flatnonzero(here[self._from])
        self._sent[sending] += self._share[sending] * self._mass[self._from[sending]]
        self._mass[here] *= self._keep[here]
        self._post(k, sending, v, told)
        rows = v[self._to]
        for post in self._on_the_way.pop(k, []):
            fresh = here[self._to[post.edges]] & (self._number[post.edges] < post.number)
            e = post.edges[fresh]
            np.add.at(self._mass, self._to[e], post.totals[fresh] - self._got[e])
            self._got[e], self._number[e] = post.totals[fresh], post.number
            rows[e], self._scalars_heard[e] = post.z[fresh], post.scalars[fresh]
            self._seen[self._from[e]] = np.maximum(self._seen[self._from[e]], post.number)
        self._listen()
        mean: Array = self._keep * v
        np.add.at(mean, self._to, self._share * rows)
        mean[~here] = v[~here]
        return mean

    def _post(self, k: int, sending: Ids, v: Array, told: Array) -> None:
        """Put the messages of round k, and their doubles, where they will be found on arrival."""
        self.bytes += len(sending) * (2 * v.shape[1] + 2 + told.shape[1]) * 8
        for late in self.faults.arrivals(k, len(self._to)):
            for delay in np.unique(late[sending]):
                e = sending[late[sending] == delay]
                if delay >= 0:
                    rows = self._from[e]
                    post = _Post(e, k, self._sent[e], v[rows], told[rows])
                    self._on_the_way.setdefault(k + int(delay), []).append(post)

    def tracked(self, y: Array) -> tuple[Array, float]:
        """(P,) sum of what the agents track, messages on their way included, and that of phi: sum grad_i, and A.

        Parameters
        ----------
        y : (n_agents, P)
            The trackers as the recipe has them now.
        """
        if self._mass is None:
            return np.asarray(y, dtype=np.float64).sum(axis=0), float(self.n_agents)
        total = self._mass.sum(axis=0) + (self._sent - self._got).sum(axis=0)
        return total[:-1] + (y - self._told).sum(axis=0), float(total[-1])
