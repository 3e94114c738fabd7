"""Loss that is not reported: agents send running totals, so that the next message repairs a lost one.

Design
------
What belongs to a link (totals sent and received, messages that are late) is kept by the rank of the receiving agent:
ranks exchange rows in every round, and what is lost or late on the way is drawn from the seed where it arrives. So
every split of the agents computes the same numbers. Which messages arrive where is public and needs no numbers of the
agents: every rank follows it for all links (8 bytes per link), so all agree which agents are silent for too long.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.network.faults import Faults, FaultyNetwork
from dnnext.network.lanes import change_of
from dnnext.network.mixer import Mixed, MixerState
from dnnext.network.topology import Topology
from dnnext.network.weights import rows_of
from dnnext.runtime import Runtime

__all__ = ["RunningSums"]

Array = NDArray[Any]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


class _Sent(NamedTuple):
    """The messages of one round on the links that end here: totals, the rows they carry, and scalars."""

    totals: Array
    rows: Array
    scalars: Array


class RunningSums(FaultyNetwork):
    """Loss that is not reported: agents send running totals, so that the next message repairs a lost one.

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
    runtime : Runtime, optional
        Where the agents live; default: all in this process. Every rank draws the faults of its own agents' messages.

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

    def __init__(
        self, topology: Topology, faults: Faults, *, mixing_rounds: int = 1, patience: int = 1000,
        runtime: Runtime | None = None,
    ) -> None:  # fmt: skip
        self._check_given(topology, faults)
        rounds = _checks.check_count("mixing_rounds", mixing_rounds)
        super().__init__(topology, mixing_rounds=rounds, runtime=runtime)
        mixing, own = topology.mixing, self.runtime.agents
        is_link = rows_of(mixing) != mixing.indices
        self._to, self._from = rows_of(mixing)[is_link], np.asarray(mixing.indices, dtype=np.int64)[is_link]
        if not (mixing.diagonal() > 0).all():
            raise ValueError(
                f"every agent must keep a positive own weight, got 0 for agent {int(np.argmin(mixing.diagonal()))}: "
                "use weights='metropolis' or a lazy rule."
            )
        self._here = slice(*np.searchsorted(self._to, [own.start, own.stop]).tolist())  # links that end here
        self._keep = mixing.diagonal()[own.start : own.stop, None]
        self._share, self._into = mixing.data[is_link][self._here, None], self._to[self._here] - own.start
        self._plan = self._fixed[0][0].plan if self._fixed else None
        place = np.full(self.n_agents, -1, dtype=np.int64)  # of an agent in local | ghost rows
        place[own.start : own.stop] = np.arange(len(own))
        if self._plan is not None:
            place[self._plan.ghosts] = len(own) + np.arange(self._plan.n_ghost)
        self._source = place[self._from[self._here]]
        self._begin(faults, patience)

    @classmethod
    def examples(cls, runtime: Runtime | None = None) -> list[Self]:
        """Networks of six agents that the contract tests look at."""
        plans = (Faults(random_state=0), Faults(0.3, delay=2, duplicate=0.3, away={2: (3, 9)}, random_state=1))
        return [cls(Topology.ring(6), faults, mixing_rounds=2, runtime=runtime) for faults in plans]

    @property
    def offers(self) -> frozenset[str]:
        """What a recipe may ask of this network."""
        return frozenset({"scalars"})

    def restart(self) -> None:
        """Forget totals and messages: all agents begin again together, with y = grad."""
        super().restart()
        self._mass: Array | None = None

    def _first(self, y: Array) -> None:
        """phi = 1, nothing sent, nothing on its way."""
        n_links = len(self._into)
        self._mass = np.concatenate([y, np.ones((len(y), 1))], axis=1, dtype=np.float64)
        self._given = y.copy()
        self._total, self._got = np.zeros((2, n_links, self._mass.shape[1]))
        self._number = np.full(len(self._to), -1)  # of the newest message received on every link of the network
        self._scalars_got: Array | None = None
        self._sent: dict[int, _Sent] = {}

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """As `Network.mix`; the last array is the tracker y, which goes by running totals, the others are averaged.

        Raises
        ------
        ValueError
            If there are fewer than two arrays.
        """
        if len(arrays) < 2:
            raise ValueError(f"running sums carry two arrays or more, the last one a tracker, got {len(arrays)}.")
        y, n = arrays[-1], self.n_local
        outgoing = np.zeros((n, 1)) if scalars is None else np.asarray(scalars, dtype=np.float64).reshape(n, -1)
        if self._mass is None:
            if self.round != self._start:
                raise ValueError(
                    f"running sums cannot go on from round {self.round} without the totals: restore a snapshot, or "
                    "begin again with y = grad."
                )
            self._first(y)
        assert self._mass is not None
        self._mass[:, :-1] += y - self._given  # what the recipe added since: its new gradient less its old one
        still = self._local(self.faults.is_away(self.round, self.n_agents))
        v = np.concatenate(arrays[:-1], axis=1, dtype=np.float64)
        first, disagreement = arrays[0].shape[1], np.zeros(n)
        for r in range(int(self.mixing_rounds) if self.n_agents > 1 else 0):
            before, v = v, self._round(v, outgoing)
            if r == 0:
                old, new = (np.ascontiguousarray(rows[:, :first]) for rows in (before, v))
                disagreement = change_of(old, new, 1.0, 1)[0]
            self.round += 1
        y_new = (self._mass[:, :-1] / self._mass[:, -1:]).astype(y.dtype)
        cuts = np.cumsum([x.shape[1] for x in arrays[:-1]])[:-1]
        mixed = [part.astype(x.dtype) for part, x in zip(np.split(v, cuts, axis=1), arrays, strict=False)]
        self._hold(mixed[0], still)
        y_new[still] = y[still]
        self._given = y_new.copy()
        received = np.full(outgoing.shape, -np.inf)
        if self._scalars_got is not None:
            np.maximum.at(received, self._into, self._scalars_got)
        received = np.where(np.isfinite(received), received, 0.0)
        one = scalars is None or scalars.ndim == 1
        return Mixed((*mixed, y_new), received[:, 0] if one else received, disagreement)

    def _round(self, v: Array, outgoing: Array) -> Array:
        """Send, receive, and average with the rows that came; an agent's own row stands for one that did not."""
        assert self._mass is not None
        here = ~self.faults.is_away(self.round, self.n_agents)
        own = self._local(here)
        self._send(v, outgoing, here[self._from])
        self._mass[own] *= self._keep[own]
        rows = v[self._into]
        for number, fresh in self._arrivals(here):
            e = np.flatnonzero(fresh[self._here])
            sent = self._sent[number]
            np.add.at(self._mass, self._into[e], sent.totals[e] - self._got[e])
            self._got[e] = sent.totals[e]
            for into, late in ((rows, sent.rows), (self._scalars_got, sent.scalars)):
                if into is not None and into.shape[1] == late.shape[1]:  # else of a call with other arrays beside y
                    into[e] = late[e]
        self._sent = {k: sent for k, sent in self._sent.items() if k > self.round - self.faults.delay}
        self._check_silence()
        mean: Array = self._keep * v
        np.add.at(mean, self._into, self._share * rows)
        mean[~own] = v[~own]
        return mean

    def _send(self, v: Array, outgoing: Array, sends: Flags) -> None:
        """Totals, rows and scalars of this round, for the links that end here."""
        assert self._mass is not None
        arrays = [v, self._mass, outgoing]
        if self.runtime.is_distributed:
            assert self._plan is not None
            ghosts = [np.zeros((self._plan.n_ghost, x.shape[1])) for x in arrays]
            arrays = [np.concatenate(pair) for pair in zip(arrays, ghosts, strict=True)]
            self.runtime.exchange(arrays, self._plan)
        v, mass, outgoing = arrays
        if self._scalars_got is None or self._scalars_got.shape[1] != outgoing.shape[1]:
            self._scalars_got = np.zeros((len(self._into), outgoing.shape[1]))
        e = np.flatnonzero(sends[self._here])
        self._total[e] += self._share[e] * mass[self._source[e]]
        self._sent[self.round] = _Sent(self._total.copy(), v[self._source], outgoing[self._source])
        self.bytes += int(np.count_nonzero(sends)) * (v.shape[1] + mass.shape[1] + 1 + outgoing.shape[1]) * 8

    def _arrivals(self, here: Flags) -> list[tuple[int, Flags]]:
        """(number, links of the network on which it is the newest) of all messages that arrive in this round."""
        found = []
        for number in range(max(self._start, self.round - self.faults.delay), self.round + 1):
            sends = ~self.faults.is_away(number, self.n_agents)[self._from]
            for late in self.faults.arrivals(number, len(self._to)):
                fresh = sends & (late == self.round - number) & here[self._to] & (self._number < number)
                self._number[fresh] = number
                np.maximum.at(self._seen, self._from[fresh], number)
                found.append((number, fresh))
        return found

    def tracked(self, y: Array) -> tuple[Array, float]:
        """(P,) sum of what the agents track, messages on their way included, and that of phi: sum grad_i, and A.

        Parameters
        ----------
        y : (n_local, P)
            The trackers as the recipe has them now.
        """
        if self._mass is None:
            return np.asarray(self.runtime.sum_agents(np.asarray(y, dtype=np.float64))), float(self.n_agents)
        rows = self._mass.copy()
        np.add.at(rows, self._into, self._total - self._got)
        rows[:, :-1] += y - self._given
        total = self.runtime.sum_agents(rows)
        return total[:-1], float(total[-1])

    def snapshot(self) -> MixerState:
        """What `restore` needs; the links of an agent fill rows of one length, so a star's snapshot is large."""
        state = super().snapshot()
        if self._mass is None:
            return state
        state.agents.update(mass=self._mass.copy(), given=self._given.copy())
        links = {"total": self._total, "got": self._got}
        if self._scalars_got is not None:
            links["scalars"] = self._scalars_got
        for k, sent in self._sent.items():
            links |= {f"sent.{k}.{name}": part for name, part in sent._asdict().items()}
        state.agents.update({f"link.{name}": self._by_agent(part) for name, part in links.items()})
        state.shared["number"] = self._number.copy()
        return state

    def restore(self, state: MixerState) -> None:
        """Go on as the network went on that was saved.

        Parameters
        ----------
        state : MixerState
            What `snapshot` returned, the entries of the agents held here.
        """
        super().restore(state)
        self._mass = None
        if "mass" not in state.agents:
            return
        self._mass, self._given = np.array(state.agents["mass"]), np.array(state.agents["given"])
        self._number = np.array(state.shared["number"])
        links = {name[5:]: self._by_link(part) for name, part in state.agents.items() if name.startswith("link.")}
        self._total, self._got, self._scalars_got = links["total"], links["got"], links.get("scalars")
        numbers = sorted({int(name.split(".")[1]) for name in links if name.startswith("sent.")})
        self._sent = {k: _Sent(*[links[f"sent.{k}.{name}"] for name in _Sent._fields]) for k in numbers}

    def _slots(self) -> tuple[Ids, int]:
        """The place of every link that ends here among those of its agent, and the most that any agent has."""
        first = np.searchsorted(self._into, np.arange(self.n_local))
        most = int(np.bincount(self._to, minlength=1).max(initial=0))
        return np.arange(len(self._into)) - first[self._into], most

    def _by_agent(self, links: Array) -> Array:
        """(links, ...) -> (n_local, most links, ...), zeros where an agent has fewer."""
        slots, most = self._slots()
        out: Array = np.zeros((self.n_local, most, *links.shape[1:]))
        out[self._into, slots] = links
        return out

    def _by_link(self, rows: Array) -> Array:
        return np.ascontiguousarray(rows[self._into, self._slots()[0]])
