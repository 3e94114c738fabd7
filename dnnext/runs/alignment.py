"""Angles between feedback and backpropagation, recorded while a run goes on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext.local.feedback import Feedback, alignment
from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from dnnext.problem import Loss, Problem
    from dnnext.runs.loop import Run
    from dnnext.runs.state import State

__all__ = ["Alignment"]

Array = np.ndarray[Any, np.dtype[Any]]


def _error(loss: Loss, target: Array, f: Array) -> Array:
    return np.asarray(loss.grad(f, target))


class Alignment:
    """Record how well direct feedback points along backpropagation, layer by layer; see `dnnext.local.alignment`.

    Parameters
    ----------
    every : int, default=10
        Iterations between two records; the start is recorded, too.
    rows : (X, D), optional
        Held-out inputs and targets as the problem has them: after an estimator's standardisation, if it is one's. By
        default every agent takes its own rows.
    feedback : Feedback, optional
        Whose matrices; by default those of the run's oracle. A run by backpropagation needs one named here.

    Attributes
    ----------
    history : dict of arrays
        ``iteration`` (T,), ``mean`` and ``std`` (T, hidden layers) of the cosines: over the rows of an agent, with its
        current weights, then averaged over the agents that have rows. The means are columns of the run's history, too:
        ``alignment_1``, ``alignment_2``, ..., in each row the newest.

    Raises
    ------
    ValueError
        If an argument is unfit, or the run has no feedback and none is named.

    References
    ----------
    J. Launay, I. Poli, F. Krzakala, Principled training of neural networks with direct feedback alignment, arXiv
    1906.04554 (2019).

    Examples
    --------
    >>> from dnnext.algorithms import GradientTracking
    >>> from dnnext.local import Feedback
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> problem = Problem(MLP([1, 6, 4, 1]), SquaredError(), None, [(x, x**2), (-x, x**2)])
    >>> angles = Alignment(every=5)
    >>> algorithm = GradientTracking(oracle=Feedback(0))
    >>> result = algorithm.run(problem, Network(Topology.ring(2)), max_iter=10, callbacks=[angles])
    >>> angles.history["iteration"].tolist(), angles.history["mean"].shape
    ([0, 5, 10], (3, 2))
    >>> bool(result.history["alignment_2"][-1] == angles.history["mean"][-1, 1])
    True
    """

    def __init__(self, every: int = 10, rows: Any = None, feedback: Feedback | None = None) -> None:
        self.every = _checks.check_count("every", every)
        if rows is not None and (not isinstance(rows, tuple | list) or len(rows) != 2):
            raise ValueError(f"rows must be None or a pair (X, D) of held-out inputs and targets, got {short(rows)}.")
        if feedback is not None and not isinstance(feedback, Feedback):
            raise ValueError(f"feedback must be None or a Feedback object, got {short(feedback)}.")
        self.rows, self.feedback = rows, feedback
        self._problem: Problem | None = None
        self._used: Feedback | None = feedback
        self._kept: dict[str, list[Any]] = {"iteration": [], "mean": [], "std": []}

    @property
    def history(self) -> dict[str, Array]:
        """What was recorded, as arrays."""
        return {name: np.array(column) for name, column in self._kept.items()}

    def begin(self, run: Run) -> None:
        """Find the problem and the matrices."""
        self._problem, self._used = run.problem, self._feedback_of(run)

    def measures(self, run: Run) -> dict[str, float]:
        """``alignment_1``, ``alignment_2``, ... of the hidden layers: the newest means, for the run's history."""
        if not run.history.rows:  # a new run: record its start
            self._kept = {"iteration": [], "mean": [], "std": []}
        if run.s.t % self.every == 0 or not self._kept["iteration"]:
            self._record(run.problem, self._feedback_of(run), run.s)
        newest = int(np.searchsorted(self._kept["iteration"], run.s.t, "right")) - 1
        return {f"alignment_{k}": float(mean) for k, mean in enumerate(self._kept["mean"][max(newest, 0)], 1)}

    def __call__(self, state: State, metrics: dict[str, float]) -> None:
        """Record if it is time."""
        if self._problem is None or self._used is None:
            raise RuntimeError("Alignment must be among the callbacks of a run; it cannot be called by itself.")
        if state.t % self.every == 0:
            self._record(self._problem, self._used, state)

    def end(self, run: Run, status: str) -> None:
        """Let go of the run."""
        self._problem = None

    def lasting(self) -> Snapshot:
        """All records."""
        return Snapshot({}, self.history, {})

    def resume(self, saved: Snapshot) -> None:
        """Go on from `lasting`."""
        if saved.shared:
            self._kept = {name: list(saved.shared[name]) for name in self._kept}

    def _feedback_of(self, run: Run) -> Feedback:
        """The feedback named here, or that of the run's oracle."""
        oracle = getattr(run.recipe, "oracle", None)
        used = self.feedback if self.feedback is not None else oracle
        if not isinstance(used, Feedback):
            raise ValueError(
                f"Alignment needs feedback=Feedback(...), because oracle={oracle!r} of the run has no feedback."
            )
        return used

    def _record(self, problem: Problem, used: Feedback, state: State) -> None:
        """The cosines at the iteration of the state, once; what lies after it went with an alarm."""
        kept = int(np.searchsorted(self._kept["iteration"], state.t, "right"))
        self._kept = {name: column[:kept] for name, column in self._kept.items()}
        if kept and self._kept["iteration"][-1] == state.t:
            return
        w = np.ascontiguousarray(np.broadcast_to(state.w, (problem.n_local, problem.n_params)))
        n_layers = len(used.matrices(problem.model))
        sums = np.zeros((problem.n_local, 3, n_layers))  # mean, standard deviation, whether there is one
        for i in range(problem.n_local):
            x, target = self._rows_of(problem, i)
            if len(x):
                error = partial(_error, problem.loss, target)
                mean, std = alignment(problem.model, w[i], x, error, used)
                known = np.isfinite(mean)
                sums[i] = np.where(known, [mean, std, np.ones(n_layers)], 0)
        mean, std, count = problem.runtime.sum_agents(sums)
        with np.errstate(invalid="ignore"):
            self._kept["mean"].append(mean / count)
            self._kept["std"].append(std / count)
        self._kept["iteration"].append(int(state.t))

    def _rows_of(self, problem: Problem, i: int) -> tuple[Array, Array]:
        """Inputs and targets of local agent i, or the held-out ones."""
        if self.rows is None:
            own = slice(problem.offsets[i], problem.offsets[i + 1])
            return problem.x[own], problem.target[own]
        x, target = (np.asarray(a, dtype=problem.dtype) for a in self.rows)
        return x, target.reshape(len(x), -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_problem": None}
