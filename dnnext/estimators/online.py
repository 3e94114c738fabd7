"""One iteration at a time, on data that changes between calls: what `partial_fit` stands on.

# Design:
#   The first call settles what a stream cannot change any more: moments, graph, layers, loss. Each call then goes on
#   from the weights that the estimator shows, on new rows. What was found by another way than a whole State (the
#   centralised method, one agent's view, a file) goes on with fresh trackers. An alarm takes the one iteration back.
"""

from __future__ import annotations

import warnings

import numpy as np

from dnnext.algorithms import CentralizedSCA, Result, State
from dnnext.algorithms.base import one_blas_thread
from dnnext.estimators import choices
from dnnext.estimators.data import Parts, Seeds
from dnnext.estimators.fitted import as_before_if_it_fails
from dnnext.estimators.graph import make_graph, owners
from dnnext.estimators.regimes import check_full
from dnnext.estimators.targets import of_classes
from dnnext.runs.alarm import MEAN_LOSS, mean_losses
from dnnext.runs.history import measure
from dnnext.runs.loop import Run
from dnnext.runs.result import Limits
from dnnext.runs.snapshot import data_marks
from dnnext.runtime import InProcess

ALIKE = 1e-2  # spread of the answers, on the scale of standardised targets, below which they count as one answer
PATIENCE = 10  # calls with one answer to all rows before somebody is told
SETTLED = ("topology", "mixing", "n_agents", "loss")  # parameters that the first call settles


def progress_of(state, seen=0.0, ceiling=0.0, retreats=0, data=None):
    """Snapshot of what one call of partial_fit hands to the next: a state, and what is known of the calls so far.

    seen: the sample weight so far; ceiling: mean loss of an agent above which it may have diverged; retreats: how often
    a safer recipe took over; fresh: whether the recipe has yet to start; alike: calls in a row that left a network with
    one answer to all rows; data: marks of the rows that y and grad belong to.
    """
    saved = state.snapshot().copy()
    saved.numbers |= {"seen": seen, "ceiling": ceiling, "retreats": retreats, "fresh": False, "alike": 0}
    if data is not None:
        saved.agents["data"] = data
    return saved


def progress_at_start(problem, row, t=0, seen=0.0):
    """All agents at one row (P,), y = grad."""
    state = State.at(problem, np.tile(row, (problem.n_local, 1)))
    height = float(np.max(mean_losses(problem, state))) + float(problem.penalty.value(state.w[0]))
    progress = progress_of(state, seen, MEAN_LOSS * height if np.isfinite(height) else 0.0)
    progress.numbers |= {"t": t, "fresh": True}
    return progress


def progress_moved(progress, problem, w):
    """The same at other weights (n_local, P), with y = grad; itself if they are the same."""
    if not np.array_equal(w, progress.agents["w"]):
        state = State.at(problem, w)
        fresh = {name: getattr(state, name) for name in ("w", "y", "grad", "values", "beta", "received")}
        kept = {name: value for name, value in progress.agents.items() if not name.startswith("memory.")}
        progress.agents, progress.numbers["is_fresh"] = kept | fresh, True
    return progress


def state_on(problem, recipe, progress, data):
    """(state that goes on from `progress` on the rows of `problem`, whether these rows are other ones).

    On other rows y += grad_new(w) - grad_old, so that the mean of y stays that of the gradients.
    """
    s = State.at(problem, progress.agents["w"])
    s.resume(progress)
    known = progress.agents.get("data")
    if known is not None and np.array_equal(known, data):
        return s, False
    before = s.grad.copy()
    s.values = recipe.oracle(problem, s.w, s.grad, s.memory)
    s.y = s.y + (s.grad - before)
    return s, known is not None or not np.array_equal(s.grad, before)


def ceilings(problem, progress, before):
    """Mean loss of each agent above which it has diverged: three times the largest at the start, or on these rows
    with all weights zero, and no less than before the iteration.
    """
    flat = mean_losses(problem, State.at(problem, np.zeros_like(progress.agents["w"])))
    return np.maximum(max(progress.numbers["ceiling"], MEAN_LOSS * float(np.max(flat))), before)


class Online:
    """`partial_fit` of the estimators."""

    def _partial_fit(self, X, y, sample_weight, agent, classes=None):
        """One iteration on these rows in place of the earlier ones; moments stay those of the first call."""
        with as_before_if_it_fails(self):
            first = not hasattr(self, "_network")
            choices.check_parameters(self, self._kind)
            check_online(self)
            self._learn_classes(classes, y, first)
            seeds = Seeds(self.random_state)
            if first:
                self._learn_inputs(X, sample_weight)
            x, codes, weight, agent = self._check_data(X, y, sample_weight, agent, reset=first, learn=False)
            if not first:
                self._precision = self._network.row.dtype
            graph = self._first_graph(agent, len(x), seeds) if first else self._graph_so_far(codes)
            owner = owners(graph, agent, codes, self.partition, seeds)
            parts = Parts.from_owner(x, codes, weight, owner, graph.n_agents, dtype=self._precision)
            runtime = InProcess(parts.n_agents)
            moments = self._moments(parts, runtime) if first else self._network.moments
            progress = getattr(self, "_progress", None)
            known = 0.0 if first else float(np.sum(self._agent_samples))
            seen = known if progress is None else progress.numbers["seen"]
            problem = self._problem(parts, moments, runtime, seeds, seen=seen)
            if not first and problem.model.fingerprint() != self._network.model.fingerprint():
                raise ValueError(f"partial_fit continues {self._network.model!r}, but was asked for {problem.model!r}.")
            if first:
                progress = progress_at_start(problem, self._start(problem, moments, seeds))
            elif progress is None:
                progress = progress_at_start(problem, self._network.row, self.n_iter_, seen)
            algorithm = choices.make_algorithm(self.algorithm, problem)
            network = choices.make_network(self, graph.topology, algorithm, problem.runtime)
            result, data = one_iteration(algorithm, problem, network, progress, {} if first else self.history_)
            alike = progress.numbers["alike"] + 1 if answers_are_alike(problem, result.w_bar) else 0
            if alike and alike % PATIENCE == 0 and not result.warning:
                result.warning = (
                    f"partial_fit has given one answer to all rows for {alike} calls: the weights are so small, or so "
                    "large, that little leads away from them. Begin anew with tau='auto' or a larger tau, or with a "
                    "smaller alpha."
                )
            ceiling = progress.numbers["ceiling"]
            self._expose(problem, graph, moments, result, None, seen=seen, ceiling=ceiling, data=data)
            self._progress.numbers["alike"] = alike
            return self

    def _learn_classes(self, classes, y, first):
        """What the caller says of the labels to come; a regressor has none."""
        if self._kind == "regressor":
            return
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' cannot be counted in partial_fit; pass a dict or sample_weight.")
        if classes is None and first:
            raise ValueError("classes must hold all labels at the first call of partial_fit, got None.")
        if classes is not None:
            targets = of_classes(classes, np.asarray(y))
            if not first and not np.array_equal(targets.labels, self.classes_):
                raise ValueError(f"classes is {classes}, but earlier calls had {self.classes_}; they must not change.")
            self._y, self.classes_ = targets, targets.labels

    def _first_graph(self, agent, n_rows, seeds):
        graph = make_graph(self.topology, self.mixing, self.n_agents, agent, n_rows, seeds)
        if n_rows < 2 or (agent is None and isinstance(self.topology, str) and n_rows < self.n_agents):
            warnings.warn(
                f"the first call of partial_fit settles the scale of the data and the number of agents, but brought "
                f"{n_rows} row(s) for n_agents={self.n_agents}: begin with more rows.",
                UserWarning,
                stacklevel=4,
            )
        return graph

    def _graph_so_far(self, codes):
        """The graph of the earlier calls; ValueError if the targets or the parameters are no longer theirs."""
        for name, old in getattr(self, "_settled", {}).items():
            new = getattr(self, name)
            if new is not old and not (isinstance(new, (str, int)) and isinstance(old, (str, int)) and new == old):
                raise ValueError(f"{name} is {new!r}, but was {old!r} before: only fit can change it, not partial_fit.")
        graph = self._graph
        if graph.topology is None or graph.topology.n_agents != graph.n_agents:
            raise ValueError(
                "partial_fit needs the graph that the model was trained on, which is not held here: fit_local leaves "
                "each rank its own part, and a model file has no Schedule. Use fit."
            )
        return graph


def check_online(estimator):
    """ValueError for parameters that one iteration cannot heed."""
    e = estimator
    check_full(e, "partial_fit")
    if e.algorithm == "centralized" or isinstance(e.algorithm, CentralizedSCA):
        raise ValueError("algorithm='centralized' pools the data and has no partial_fit: use algorithm='next'.")
    if e.engine != "local":
        raise ValueError(f"partial_fit runs in one process, but engine is {e.engine!r}: use engine='local'.")
    if e.early_stopping:
        raise ValueError("early_stopping is True, but partial_fit is one iteration: set early_stopping=False.")
    if e.callbacks:
        raise ValueError("callbacks are called in fit only, partial_fit is one iteration: set callbacks=None.")
    if e.max_time is not None:
        raise ValueError(f"max_time is {e.max_time!r}, but partial_fit is one iteration: set max_time=None.")


def answers_are_alike(problem, row):
    """Whether the network with weights row (P,) tells the rows of this problem hardly apart."""
    raw = problem.raw_output(row)
    return len(raw) > 1 and bool(np.max(np.std(raw, axis=0)) < ALIKE)


def one_iteration(algorithm, problem, network, progress, history):
    """(Result of one iteration from `progress` on `problem`, marks of its rows); its row is appended to `history`.

    If an agent's mean loss rises above the ceiling, or a number is not finite, the iteration is taken back, tau is
    raised tenfold, and the Result has a warning that names agent and round.

    Raises
    ------
    FloatingPointError
        If the objective is not finite even then.
    """
    last, warning = {name: column[-1] for name, column in history.items()}, None
    network.round = int(last.get("round", 0))
    for _ in range(progress.numbers.get("retreats", 0)):
        algorithm = algorithm.retreat() or algorithm
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        data = data_marks(problem)
        s, moved = state_on(problem, algorithm, progress, data)
        if progress.numbers["fresh"]:
            algorithm.start(problem, s)
        run = Run(algorithm, problem, network, s, Limits(s.t + 1, 0.0, 1, 1, None), ())
        run.alarm.ceiling = ceilings(problem, progress, mean_losses(problem, s))
        rule, step = (s.tau, s.beta, s.received), s.t + 1
        vote = run.once()
        if vote.agent is not None:
            s.t = step
            warning = (
                f"partial_fit began to diverge at agent {vote.agent} in iteration {s.t} (round {network.round}); the "
                "weights of before are kept, and tau was raised tenfold. Choose a larger tau or a smaller step."
            )
        elif moved and not progress.numbers["fresh"] and hasattr(algorithm, "damping"):
            # the rule for tau compares gradients of one cost; across a change of rows they say nothing of curvature
            s.tau, s.beta, s.received = rule
        row, w_bar = measure(problem, network, s)
        if not np.isfinite(row["objective"]):
            raise FloatingPointError(
                f"partial_fit left the finite numbers with an objective of {row['objective']} in iteration {s.t}; the "
                "last model is kept. The rows are too large in scale: rescale them."
            )
    for name in row.keys() & {"bytes", "bytes_wire"}:  # a new Network counts from zero
        row[name] = row[name] + int(last.get(name, 0))
    row["seconds"] = float(last.get("seconds", 0.0)) + run.seconds
    joined = {name: np.append(history.get(name, np.empty(0, np.asarray(v).dtype)), v) for name, v in row.items()}
    result = Result(s.w, s.y, w_bar, joined, n_iter=s.t, converged=False, status="max_iter", warning=warning, state=s)
    result.retreats = progress.numbers.get("retreats", 0)
    return result, data
