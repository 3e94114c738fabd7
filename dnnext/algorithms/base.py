"""What every recipe shares: the state of the agents, the loop around `step`, when it ends and what it returns.

# Design
# `algorithm.run(problem, network)`: a recipe is `start` and `step`; the loop here measures, listens to the alarm, asks
# the callbacks and decides when to end. Decisions use only numbers that `sum_agents` or `max_agents` returned, so
# every rank takes the same one.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from dnnext import _checks, metrics
from dnnext.algorithms.alarm import Alarm

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]
Callback = Callable[["State", dict[str, float]], "bool | None"]


class ConvergenceWarning(UserWarning):
    """A run ended before it converged, or had to be tamed on the way."""


@dataclass
class State:
    """The local agents' numbers, one row each (n_local, P), and where the run stands.

    w weights, w_hat best response, z after the step, y tracker, grad own gradient, values own cost g_i(w_i) (n_local,),
    tau (n_local,), beta: curvature that the model missed, heard: the neighbours' largest beta, disagreement: of the
    first mixing round, relative; unit: b, the scale of tau; step: the last step size; t: iterations done; root: the
    curvature root of the last model.
    """

    w: Array
    w_hat: Array
    z: Array
    y: Array
    grad: Array
    values: Array
    tau: Array
    beta: Array
    heard: Array
    disagreement: Array
    w_old: Array
    y_old: Array
    spare: Array
    unit: float = 1.0
    step: float = 1.0
    t: int = 0
    root: Array | None = None

    @classmethod
    def at(cls, problem: Problem, w: Array) -> State:
        """The start: y_i = grad_i at the given w (n_local, P)."""
        w = np.array(w, dtype=problem.dtype, order="C")
        grad = np.empty_like(w)
        values = problem.loss_grad(w, grad)
        n = len(w)
        return cls(
            w=w, w_hat=w.copy(), z=w.copy(), y=grad.copy(), grad=grad, values=values, tau=np.ones(n), beta=np.zeros(n),
            heard=np.zeros(n), disagreement=np.zeros(n), w_old=w, y_old=grad, spare=np.empty_like(w),
        )  # fmt: skip

    def mix_w_y(self, network: Network) -> None:
        """w_i <- sum_j c_ij z_j and y_i <- sum_j c_ij y_j in one message that carries beta along."""
        mixed = network.mix(self.z, self.y, scalars=self.beta, t=self.t)
        self.w_old, self.y_old = self.w, self.y
        self.w, self.y = mixed.arrays
        self.heard, self.disagreement = mixed.heard, mixed.disagreement

    def update_gradient(self, problem: Problem) -> None:
        """grad_i <- grad g_i(w_i), y_i <- y_i + grad_i(new) - grad_i(old)."""
        self.values = problem.loss_grad(self.w, self.spare)
        self.y += self.spare
        self.y -= self.grad
        self.grad, self.spare = self.spare, self.grad

    def restart(self, problem: Problem, w: Array, tau: Array) -> None:
        """Go back to w with fresh trackers y_i = grad_i; all agents together, or the tracking invariant is lost."""
        self.w = w.copy()
        self.w_hat[...] = w
        self.values = problem.loss_grad(self.w, self.grad)
        self.y = self.grad.copy()
        self.tau = tau.copy()
        self.beta[:] = 0
        self.heard[:] = 0


@dataclass
class Result:
    """What a run returns.

    w, y (n_local, P): the local agents' weights and trackers; w_bar (P,): their mean over all agents, equal on every
    rank; history: equal-length arrays; n_iter: iterations done; converged: whether a stopping rule ended the run;
    status: "converged", "max_iter", "max_time", "callback", "interrupted" or "diverged"; warning: a sentence, or None.
    """

    w: Array
    y: Array
    w_bar: Array
    history: dict[str, Array]
    n_iter: int
    converged: bool
    status: str
    warning: str | None = None
    state: State | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Limits:
    """When a run ends (see `Algorithm.run`)."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    monitor_every: int
    max_time: float | None


class Algorithm(ABC):
    """A recipe: `start` completes the state at the common start, `step` makes one iteration."""

    @abstractmethod
    def start(self, problem: Problem, s: State) -> None:
        """Complete the state before the first iteration."""

    @abstractmethod
    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration, from s to s."""

    def soften(self, s: State) -> None:
        """Ten times more careful, after an alarm: a larger tau (a recipe with a step size divides it)."""
        s.tau *= 10

    def run(
        self,
        problem: Problem,
        network: Network,
        w0: Array | None = None,
        max_iter: int = 100,
        tol: float = 0.0,
        n_iter_no_change: int = 10,
        monitor_every: int = 1,
        callbacks: Sequence[Callback] = (),
        max_time: float | None = None,
        random_state: Any = 0,
        warn: bool = True,
    ) -> Result:
        """Minimise the problem over the network.

        Parameters
        ----------
        problem, network : Problem, Network
            What is minimised, and who talks to whom; they must count the same agents.
        w0 : (P,) or (A, P) array or None
            The start; None draws a common Glorot-uniform start from random_state.
        max_iter : int
            Most iterations.
        tol : float
            Converged when the objective fell by less than tol, relatively, in n_iter_no_change iterations, or when the
            stationarity is below 1e-6 of its first value; 0 switches the stopping rules off.
        n_iter_no_change : int
            The window of tol, in iterations.
        monitor_every : int
            Iterations between measurements.
        callbacks : sequence of callables
            ``callback(state, metrics) -> bool | None``, after every iteration; a true value from any agent's process
            ends the run everywhere.
        max_time : float or None
            Seconds after which the run ends.
        random_state : int, Generator or None
            Seed of the start.
        warn : bool
            Whether `Result.warning` is issued as a `ConvergenceWarning` as well.

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            If problem and network do not fit together, w0 has a wrong shape or the objective at w0 is not finite.
        """
        limits = Limits(max_iter, tol, n_iter_no_change, monitor_every, max_time)
        _check_run(problem, network, limits)
        with one_blas_thread():
            network.round = network.bytes = 0
            s = State.at(problem, starting_weights(problem, w0, random_state))
            self.start(problem, s)
            result = _Run(self, problem, network, s, limits, callbacks).loop()
        if warn and result.warning:
            warnings.warn(result.warning, ConvergenceWarning, stacklevel=2)
        return result


class _Run:
    """One run of a recipe: its history, its alarm and the reason it ended."""

    def __init__(
        self, algorithm: Algorithm, problem: Problem, network: Network, s: State, limits: Limits,
        callbacks: Sequence[Callback],
    ) -> None:  # fmt: skip
        self.algorithm, self.problem, self.network, self.s = algorithm, problem, network, s
        self.limits, self.callbacks = limits, callbacks
        self.alarm = Alarm(problem, s)
        self.history = metrics.History()
        self.best: tuple[float, Array] | None = None
        self.seconds = 0.0

    def loop(self) -> Result:
        """Iterate until a limit, a stopping rule, a callback, the third alarm or Ctrl-C ends the run."""
        self.measure()
        objective = self.history.last["objective"]
        if not np.isfinite(objective):
            raise ValueError(
                f"The objective at the start was {objective}: the data or w0 are too large in scale for "
                f"{self.problem.dtype}. Rescale the data."
            )
        status = "max_iter"
        try:
            while self.s.t < self.limits.max_iter:
                ended = self.iterate()
                if ended:
                    status = ended
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        return self.result(status)

    def iterate(self) -> str:
        """One iteration and what follows it; the reason to end, or ''."""
        s, limits = self.s, self.limits
        begin = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run is the alarm's business
            self.algorithm.step(self.problem, self.network, s)
        s.t += 1
        self.seconds += time.perf_counter() - begin
        raised = self.alarm.raised(self.problem, s)
        wants_end = False
        if not raised.any():
            if s.t % limits.monitor_every == 0 or s.t == limits.max_iter:
                self.measure()
            for callback in self.callbacks:
                wants_end = bool(callback(s, self.history.last)) or wants_end
        late = limits.max_time is not None and self.seconds > limits.max_time
        agent, end, out_of_time = self.vote(raised, wants_end, late)
        if agent is not None:
            return self.tame(agent)
        self.alarm.save(s)
        if end:
            return "callback"
        if out_of_time:
            return "max_time"
        return "converged" if self.has_converged() else ""

    def vote(self, raised: Array, wants_end: bool, late: bool) -> tuple[int | None, bool, bool]:
        """(first agent with an alarm or None, end?, out of time?): the same answer on every rank."""
        agents = self.network.runtime.agents
        votes = np.zeros((len(agents), 3))
        votes[:, 0] = np.where(raised, self.network.n_agents - np.asarray(agents), 0)
        votes[:, 1], votes[:, 2] = wants_end, late
        alarm, end, out_of_time = self.network.runtime.max_agents(votes)
        return (self.network.n_agents - int(alarm) if alarm else None), bool(end), bool(out_of_time)

    def tame(self, agent: int) -> str:
        """After an alarm: back to the saved iteration, more carefully; 'diverged' after the third."""
        self.alarm.remember(agent, self.s.t, self.network.round)
        self.alarm.restore(self.problem, self.s, self.algorithm)
        return "diverged" if len(self.alarm.heard) >= self.alarm.most else ""

    def measure(self) -> None:
        """One row of the history; its cost is not part of `seconds`."""
        row, w_bar = metrics.measure(self.problem, self.network, self.s)
        row["seconds"] = self.seconds
        self.history.append(row)
        if self.best is None or row["objective"] < self.best[0]:
            self.best = row["objective"], w_bar

    def has_converged(self) -> bool:
        """The stopping rules on tol and on stationarity, judged at measured iterations."""
        limits, rows = self.limits, self.history
        if limits.tol <= 0 or rows.last["iteration"] != self.s.t:
            return False
        first = rows["stationarity"][0]
        if rows["stationarity"][-1] <= 1e-6 * first:
            return True
        before = [u for t, u in zip(rows["iteration"], rows["objective"], strict=True)
                  if t <= self.s.t - limits.n_iter_no_change]  # fmt: skip
        if not before:
            return False
        return bool(min(before) - min(rows["objective"]) < limits.tol * abs(min(before)))

    def result(self, status: str) -> Result:
        """The last model; the best one measured where the run diverged or was interrupted."""
        s, problem = self.s, self.problem
        w_bar = metrics.mean_over_agents(problem, s.w)
        if status in ("diverged", "interrupted") and self.best is not None:
            w_bar = self.best[1]
        return Result(
            w=s.w.copy(), y=s.y.copy(), w_bar=w_bar, history=self.history.arrays(), n_iter=s.t,
            converged=status == "converged", status=status, warning=self.warning(status), state=s,
        )  # fmt: skip

    def warning(self, status: str) -> str | None:
        """The sentence a user should read, if any."""
        if status == "interrupted":
            return f"The run was interrupted after {self.s.t} iterations; the best model so far is kept."
        if self.alarm.heard:
            kept = (
                "the best model so far is kept. Choose a larger tau or a smaller step." if status == "diverged" else ""
            )
            return self.alarm.sentence(status == "diverged") + (f"; {kept}" if kept else ".")
        objective, iteration = self.history["objective"], self.history["iteration"]
        if status == "max_iter" and self.limits.tol > 0 and iteration[-1] >= 10:
            earlier = max(k for k, t in enumerate(iteration) if t <= iteration[-1] - 10)
            if objective[earlier] - objective[-1] > 0.01 * abs(objective[earlier]):
                return (
                    f"The objective was still falling by more than 1 % per ten iterations after max_iter={self.s.t} "
                    "iterations. Increase max_iter."
                )
        return None


def starting_weights(problem: Problem, w0: Array | None, random_state: Any) -> Array:
    """The local agents' first weights (n_local, P)."""
    n_agents, n_params = problem.n_agents, problem.n_params
    if w0 is None:
        w0 = problem.model.init(random_state)
    w0 = np.asarray(w0)
    if w0.shape == (n_agents, n_params):
        w0 = w0[problem.runtime.agents.start : problem.runtime.agents.stop]
    elif w0.shape != (n_params,):
        raise ValueError(
            f"w0 had shape {w0.shape}; it must be ({n_params},) for a common start or ({n_agents}, {n_params})."
        )
    if not np.all(np.isfinite(w0)):
        raise ValueError("w0 held NaN or infinite numbers; all must be finite.")
    return np.array(np.broadcast_to(w0, (problem.n_local, n_params)), dtype=problem.dtype)


def one_blas_thread() -> AbstractContextManager[Any]:
    """BLAS on one thread while the agents' threads work: both copies of it, NumPy's and SciPy's."""
    limiter: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limiter


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _check_run(problem: Problem, network: Network, limits: Limits) -> None:
    if problem.n_agents != network.n_agents:
        raise ValueError(
            f"network had {network.n_agents} agents, but the problem has {problem.n_agents}; they must be equal. Build "
            "the topology for the number of shards."
        )
    for name in ("max_iter", "n_iter_no_change", "monitor_every"):
        _checks.check_count(name, getattr(limits, name))
    if not limits.tol >= 0:
        raise ValueError(f"tol was {limits.tol}; it must be a number >= 0.")
    if limits.max_time is not None:
        _checks.check_positive("max_time", limits.max_time)
