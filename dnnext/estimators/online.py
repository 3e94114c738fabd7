"""One iteration at a time, on data that changes between calls: what `partial_fit` stands on.

# Design:
#   The first call fixes what a stream cannot change any more: moments, graph, layers, loss. Each call then goes on
#   from the weights that the estimator shows, on new rows. What was found by another way than a whole State (the
#   centralised method, one agent's view, a file) goes on with fresh trackers. An alarm takes the one iteration back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from dnnext._checks import short
from dnnext.algorithms import CentralizedSCA, Result, State
from dnnext.algorithms.base import one_blas_thread
from dnnext.estimators import choices
from dnnext.estimators.data import Seeds
from dnnext.estimators.fitted import as_before_if_it_fails
from dnnext.estimators.graph import Graph, make_graph, owners, warn_of_shape
from dnnext.estimators.inputs import checked_rows, learn_inputs
from dnnext.estimators.notices import warn_user
from dnnext.estimators.progress import progress_at_start, state_on
from dnnext.estimators.regimes import check_full
from dnnext.estimators.results import expose
from dnnext.estimators.targets import of_classes
from dnnext.estimators.training import make_moments, make_problem, start_row
from dnnext.estimators.unusual import note_unusual
from dnnext.local import PartialLinearization
from dnnext.problem import Problem
from dnnext.problem.shards import Stack
from dnnext.runs.alarm import MEAN_LOSS, mean_losses
from dnnext.runs.history import measure
from dnnext.runs.loop import Run
from dnnext.runs.result import Limits
from dnnext.runs.snapshot import Snapshot, data_marks
from dnnext.runs.start import check_parts
from dnnext.runtime import InProcess

ALIKE = 1e-2  # spread of the answers, on the scale of standardised targets, below which they count as one answer
PATIENCE = 10  # calls with one answer to all rows before a warning


def ceilings(problem: Problem, progress: Snapshot, before: Any) -> Any:
    """Mean loss of each agent above which it has diverged: three times the largest at the start, or on these rows
    with all weights zero, and no less than before the iteration.
    """
    flat = mean_losses(problem, State.at(problem, np.zeros_like(progress.agents["w"])))
    return np.maximum(max(progress.numbers["ceiling"], MEAN_LOSS * float(np.max(flat))), before)


def partial_fit(estimator: Any, X: Any, y: Any, sample_weight: Any, agent: Any, classes: Any = None) -> Any:
    """One iteration on these rows in place of the earlier ones; moments stay those of the first call."""
    e = estimator
    with as_before_if_it_fails(e):
        first = not hasattr(e, "_network")
        choices.check_parameters(e, e._kind)
        check_online(e)
        _learn_classes(e, classes, y, first)
        seeds = Seeds(e.random_state)
        if first:
            learn_inputs(e, X, sample_weight)
        x, codes, weight, agent = checked_rows(e, X, y, sample_weight, agent, reset=first, learn=False)
        if first:
            note_unusual(e, x)
        else:
            e._precision = e._network.row.dtype
        graph = _first_graph(e, agent, len(x), seeds) if first else _graph_so_far(e)
        owner = owners(graph, agent, codes, e.partition, seeds)
        rows = Stack.of_owner(x, codes, weight, owner, graph.n_agents, dtype=e._precision)
        runtime = InProcess(len(rows))
        moments = make_moments(e, rows, runtime) if first else e._network.moments
        progress = getattr(e, "_progress", None)
        known = 0.0 if first else float(np.sum(e._agent_samples))
        seen = known if progress is None else progress.numbers["seen"]
        problem = make_problem(e, rows, moments, runtime, seeds, seen=seen)
        if not first and problem.model.fingerprint() != e._network.model.fingerprint():
            raise ValueError(
                f"partial_fit continues {short(e._network.model)}, but was asked for {short(problem.model)}."
            )
        if first:
            progress = progress_at_start(problem, start_row(e, problem, moments, seeds))
        elif progress is None:
            progress = progress_at_start(problem, e._network.row, e.n_iter_, seen)
        algorithm = choices.make_algorithm(e.algorithm, problem, choices.SHARE["partial_fit"])
        network = choices.make_network(e, graph.topology, algorithm, problem.runtime)
        algorithm = with_own_curvature(algorithm, problem, network)
        result, data = one_iteration(algorithm, problem, network, progress, {} if first else e.history_)
        alike = progress.numbers["alike"] + 1 if answers_are_alike(problem, result.w_bar) else 0
        if alike and alike % PATIENCE == 0 and not result.warning:
            result.warning = (
                f"partial_fit has given one answer to all rows for {alike} calls: the weights are so small, or so "
                "large, that little leads away from them. Begin anew with tau='auto' or a larger tau, or with a "
                "smaller alpha."
            )
        ceiling = progress.numbers["ceiling"]
        expose(e, problem, graph, moments, result, seen=seen, ceiling=ceiling, data=data)
        e._progress.numbers["alike"] = alike
        return e


def with_own_curvature(algorithm: Any, problem: Problem, network: Any) -> Any:
    """What ``curvature="auto"`` is where rows change from call to call: "own", and a rule for tau that fits it."""
    surrogate = getattr(algorithm, "surrogate", None)
    if not isinstance(surrogate, PartialLinearization) or not surrogate.is_open:
        return algorithm
    chosen = clone(algorithm).set_params(surrogate__share="nothing").chosen(problem, network)
    chosen.columns = {}
    return chosen


def _learn_classes(estimator: Any, classes: Any, y: Any, first: bool) -> None:
    """The labels that may come, as the caller gives them; a regressor has none."""
    e = estimator
    if e._kind == "regressor":
        return
    if classes is None and first:
        raise ValueError("classes must hold all labels at the first call of partial_fit, got None.")
    if classes is not None:
        targets = of_classes(classes, np.asarray(y), e.loss)
        if not first and not np.array_equal(targets.labels, e.classes_):
            raise ValueError(
                f"classes is {short(classes)}, but earlier calls had {short(e.classes_)}; they must not change."
            )
        e._y, e.classes_ = targets, targets.labels


def _first_graph(estimator: Any, agent: Any, n_rows: int, seeds: Seeds) -> Graph:
    """The graph that the first call fixes."""
    e = estimator
    graph = make_graph(e.topology, e.mixing, e.n_agents, agent, n_rows, seeds)
    warn_of_shape(e.topology, graph.n_agents)
    if n_rows < 2 or (agent is None and isinstance(e.topology, str) and n_rows < e.n_agents):
        warn_user(
            f"the first call of partial_fit fixes the scale of the data and the number of agents, but brought "
            f"{n_rows} row(s) for n_agents={e.n_agents}: begin with more rows."
        )
    return graph


def _graph_so_far(estimator: Any) -> Graph:
    """The graph of the earlier calls; ValueError if the parameters are no longer theirs."""
    for name, old in getattr(estimator, "_settled", {}).items():
        new = getattr(estimator, name)
        if new is not old and not (isinstance(new, (str, int)) and isinstance(old, (str, int)) and new == old):
            raise ValueError(
                f"{name} is {short(new)}, but was {short(old)} before: only fit can change it, not partial_fit."
            )
    graph: Graph = estimator._graph
    if graph.topology is None or graph.topology.n_agents != graph.n_agents:
        raise ValueError(
            "partial_fit needs the graph that the model was trained on, which is not held here: fit_local leaves "
            "each rank its own part, and a model file has no Schedule. Use fit."
        )
    return graph


def check_online(estimator: Any) -> None:
    """ValueError for parameters that ask for more than one iteration."""
    e = estimator
    check_full(e, "partial_fit")
    if e.algorithm == "centralized" or isinstance(e.algorithm, CentralizedSCA):
        raise ValueError("algorithm='centralized' pools the data and has no partial_fit: use algorithm='next'.")
    if e.engine != "local":
        raise ValueError(f"partial_fit runs in one process, but engine is {short(e.engine)}: use engine='local'.")
    if isinstance(getattr(e, "class_weight", None), str):
        raise ValueError("class_weight='balanced' cannot be counted in partial_fit; pass a dict or sample_weight.")
    if e.early_stopping:
        raise ValueError("early_stopping is True, but partial_fit is one iteration: set early_stopping=False.")
    if e.callbacks:
        raise ValueError("callbacks are called in fit only, partial_fit is one iteration: set callbacks=None.")
    if e.max_time is not None:
        raise ValueError(f"max_time is {short(e.max_time)}, but partial_fit is one iteration: set max_time=None.")


def answers_are_alike(problem: Problem, row: Any) -> bool:
    """Whether the network with weights row (P,) answers almost alike to all rows of this problem."""
    raw = problem.raw_output(row)
    return len(raw) > 1 and bool(np.max(np.std(raw, axis=0)) < ALIKE)


def one_iteration(
    algorithm: Any, problem: Problem, network: Any, progress: Snapshot, history: dict[str, Any]
) -> tuple[Result, Any]:
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
        check_parts(algorithm, problem, network)
        s, moved = state_on(problem, algorithm, progress, data)
        if progress.numbers["fresh"]:
            algorithm.start(problem, s)
        run = Run(algorithm, problem, network, s, Limits(s.t + 1, 0.0, 1, 1, None), ())
        run.alarm.ceiling = ceilings(problem, progress, mean_losses(problem, s))
        rule, step = (s.tau, s.beta, s.received), s.t + 1
        damping = getattr(algorithm, "damping", None)
        s.has_new_rows = moved and not progress.numbers["fresh"]
        vote = run.once()
        has_new_rows, s.has_new_rows = s.has_new_rows, False
        if vote.agent is not None:
            s.t = step
            warning = (
                f"partial_fit began to diverge at agent {vote.agent} in iteration {s.t} (round {network.round}); the "
                "weights of before are kept, and tau was raised tenfold. Choose a larger tau or a smaller step."
            )
        elif has_new_rows and damping is not None and not (damping.knows_new_rows or s.is_tested):
            # the rule for tau compares gradients of one cost; of different rows they measure no curvature. A rule that
            # tests compares values on these rows alone, and would refuse them for ever with the tau of before
            s.tau, s.beta, s.received = rule
        row, w_bar = measure(problem, network, s)
        if not np.isfinite(row["objective"]):
            raise FloatingPointError(
                f"partial_fit left the finite numbers with an objective of {row['objective']} in iteration {s.t}; the "
                "last model is kept. The rows are too large in scale: rescale them."
            )
    if "curvature" in history:
        row.setdefault("curvature", 0.0)  # own, where the fit before chose
    for name in row.keys() & {"bytes", "bytes_wire"}:  # a new Network counts from zero
        row[name] = row[name] + int(last.get(name, 0))
    row["seconds"] = float(last.get("seconds", 0.0)) + run.seconds
    joined = {name: np.append(history.get(name, np.empty(0, np.asarray(v).dtype)), v) for name, v in row.items()}
    result = Result(s.w, s.y, w_bar, joined, n_iter=s.t, converged=False, status="max_iter", warning=warning, state=s)
    result.retreats = progress.numbers.get("retreats", 0)
    return result, data
