"""What every recipe shares: `algorithm.run(problem, network)`; a recipe is `start` and `step`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.local import Backprop, Oracle
from dnnext.network import Network
from dnnext.problem import Problem
from dnnext.runs.blas import one_blas_thread
from dnnext.runs.loop import Run
from dnnext.runs.result import Callback, ConvergenceWarning, Limits, Result, is_callback
from dnnext.runs.snapshot import Snapshot, check_snapshot
from dnnext.runs.start import check_parts, starting_weights
from dnnext.runs.state import State

if TYPE_CHECKING:
    from dnnext.runtime import Runtime

__all__ = ["Algorithm", "Callback", "ConvergenceWarning", "Limits", "Result", "Snapshot", "State", "one_blas_thread"]

Array = np.ndarray[Any, np.dtype[Any]]


class Algorithm(Parameters, ABC):
    """A recipe: `start` completes the state at the common start, `step` makes one iteration.

    The loop around them (`run`) measures, watches for divergence, asks callbacks and decides when to end.

    Examples
    --------
    Gradient tracking with a fixed step: a step along the tracker, one message, the new gradient:

    >>> from dnnext.algorithms import Algorithm
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> class Tracking(Algorithm):
    ...     def start(self, problem, s):
    ...         s.tau[:] = 4.0
    ...     def step(self, problem, network, s):
    ...         s.z = s.w - problem.n_agents * s.y / s.tau[:, None]
    ...         s.mix(network)  # s.w and s.y are averages of the neighbours' z and y now
    ...         s.track(problem.loss_grad(s.w, s.spare))  # y += new gradient - old gradient
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [1.0]), ([[2.0]], [0.0])])
    >>> history = Tracking().run(problem, Network(Topology.path(2)), max_iter=200, warn=False).history
    >>> bool(history["objective"][-1] < 1e-3)  # one w fits both agents
    True
    """

    _kept: ClassVar[dict[str, str]] = {"step": "first_step", "oracle": "oracle_given"}  # `step` is the iteration

    contract_to = 0.25  # how far `Network` should contract disagreement in an iteration
    why = ""  # a sentence about what was chosen, if anything was
    columns: dict[str, float] = {}  # noqa: RUF012 - of the history; never written to
    needs: frozenset[str] = frozenset()  # what the parts of a run must offer, see `dnnext._needs`
    oracle: Oracle = Backprop()  # where gradients come from

    @abstractmethod
    def start(self, problem: Problem, s: State) -> None:
        """Complete the state before the first iteration."""

    @abstractmethod
    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration, from s to s."""

    def chosen(self, problem: Problem, network: Network) -> Algorithm:
        """The recipe that a run uses: itself, unless it leaves something to be chosen for the problem and network."""
        return self

    def soften(self, s: State) -> None:
        """Ten times more careful, after an alarm: a larger tau (a recipe with a step size divides it)."""
        s.tau *= 10

    def retreat(self) -> Algorithm | None:
        """After the last alarm: a safer recipe to go on with, if there is one."""
        return None

    def fast_step(self, problem: Problem, network: Network, s: State) -> bool:
        """`step` with the same bits, faster; False, and nothing done, where it cannot. Tried before `step`."""
        return False

    @property
    def title(self) -> str:
        """What messages call this recipe."""
        return repr(self)

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
        resume: Snapshot | Callable[[Runtime], Snapshot] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Result:
        """Minimise the problem over the network.

        Parameters
        ----------
        problem, network : Problem, Network
            What is minimised, and which agents exchange messages; both must have the same number of agents.
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
        resume : Snapshot, function of the runtime that returns one, or None
            Go on where another run stood, instead of w0 (see `dnnext.checkpoint`): the same numbers come out as without
            the break.
        notes : dict or None
            Values that JSON can hold, kept in checkpoints for the resumed run.

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            If problem and network do not fit together, w0 has a wrong shape or the objective at w0 is not finite.
        """
        limits = Limits(max_iter, tol, n_iter_no_change, monitor_every, max_time)
        _check_run(problem, network, limits, callbacks)
        recipe = self.chosen(problem, network)
        check_parts(recipe, problem, network)
        with one_blas_thread(), np.errstate(all="ignore"):  # the alarm looks at what comes out
            network.take_contraction(recipe.contract_to)
            network.round = network.bytes = 0
            network.restart()
            if callable(resume):
                resume = resume(problem.runtime)
            if resume is not None:
                check_snapshot(problem, resume)
            s = State.at(
                problem,
                starting_weights(problem, w0, random_state) if resume is None else resume.agents["w"],
                recipe.oracle,
            )
            if resume is None:
                recipe.start(problem, s)
            run = Run(recipe, problem, network, s, limits, callbacks, notes)
            if resume is not None:
                with problem.runtime.together():
                    _resumed(run, resume)
            result = run.loop()
        if warn and result.warning:
            warnings.warn(result.warning, ConvergenceWarning, stacklevel=2)
        return result


def _resumed(run: Run, saved: Snapshot) -> None:
    """run.resume; what lacks anything is a ValueError."""
    try:
        run.resume(saved)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"the checkpoint is damaged: {error!r}.") from error


def _check_run(problem: Problem, network: Network, limits: Limits, callbacks: Sequence[Callback]) -> None:
    for name, given, wanted in (("problem", problem, Problem), ("network", network, Network)):
        if not isinstance(given, wanted):
            raise ValueError(f"{name} must be a {wanted.__name__}, got {short(given)}: call run(problem, network).")
    if not isinstance(callbacks, Sequence) or not all(map(is_callback, callbacks)):
        raise ValueError(f"callbacks must be a list of callables (state, metrics) -> bool, got {short(callbacks)}.")
    if problem.n_agents != network.n_agents:
        raise ValueError(
            f"network must have the {problem.n_agents} agents of the problem, got {network.n_agents}. Build the "
            "topology for the number of shards."
        )
    for name in ("max_iter", "n_iter_no_change", "monitor_every"):
        _checks.check_count(name, getattr(limits, name))
    _checks.check_positive("tol", limits.tol, allow_zero=True)
    if limits.max_time is not None:
        _checks.check_positive("max_time", limits.max_time)
