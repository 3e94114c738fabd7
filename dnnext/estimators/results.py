"""What a fit leaves on the estimator: weights, history, counts, and each agent's own view."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from dnnext._checks import short
from dnnext.algorithms import Result, final_prox
from dnnext.estimators.fitted import FittedNetwork, active_inputs, n_active_units
from dnnext.estimators.graph import Graph, survivors
from dnnext.estimators.groups import fitted_network, rows_of_agents
from dnnext.estimators.notices import warn_user
from dnnext.estimators.progress import progress_moved, progress_of
from dnnext.estimators.regimes import full_rows
from dnnext.problem import Problem
from dnnext.runs.alarm import MEAN_LOSS

SETTLED = ("topology", "mixing", "n_agents", "loss")  # parameters that the first call of partial_fit fixes


def expose(
    estimator: Any, problem: Problem, graph: Graph, moments: Any, result: Result, watch: Any = None, *,
    seen: float = 0.0, ceiling: float = 0.0, data: Any = None,
) -> Any:  # fmt: skip
    """The estimator with the results of a run as its attributes; seen, ceiling, data: see `progress_of`."""
    e = estimator
    w_bar, w, y = result.w_bar, result.w, result.y
    if watch is not None and watch.stopping is not None and watch.best is not None:
        w_bar, w, y = watch.best  # early stopping keeps the best score, however the run ended
    problem, graph = survivors(problem, graph, result)
    n_agents, runtime = problem.n_agents, problem.runtime
    if len(w) != problem.n_local:  # the centralised method has one row
        w, y = np.repeat(w, n_agents, axis=0), np.repeat(y, n_agents, axis=0) / n_agents
    row, views = final_prox(problem, w_bar, w, y)
    assert views is not None
    n_rows = problem.agent_rows[runtime.agents.start : runtime.agents.stop]
    if runtime.is_distributed and graph.n_agents == n_agents:  # every rank knows all rows: it may know all views
        views, n_rows = runtime.all_agents(views), problem.agent_rows
    set_network(e, fitted_network(e, problem.model, np.array(row), moments))
    e._agent_rows = np.array(rows_of_agents(problem.model, full_rows(problem.model, views)))
    e._graph, e._agent_samples = graph, n_rows.tolist()
    e._progress = _progress(problem, result, w, seen, ceiling, data)
    e.history_ = dict(result.history)
    if watch is not None and watch.score is not None:
        e.history_["validation_score"] = watch.column(e.history_["iteration"])
        e.history_["validation_loss"] = watch.column(e.history_["iteration"], "losses")
        e.best_validation_score_ = watch.best_score
    e.n_iter_ = int(result.n_iter)
    e.converged_ = bool(result.converged or (watch is not None and watch.stopped))
    e.status_ = "early_stopping" if watch is not None and watch.stopped else result.status
    e.n_agents_, e.topology_ = n_agents, graph.topology
    e.n_outputs_ = problem.model.n_outputs
    set_curves(e)
    e._settled = {name: getattr(e, name) for name in SETTLED}
    if result.warning and runtime.is_first:
        warn_user(f"{result.warning} {getattr(e, '_far_columns', '')}".rstrip(), ConvergenceWarning)
    return e


def _progress(problem: Problem, result: Result, w: Any, seen: float, ceiling: float, data: Any) -> Any:
    """What partial_fit goes on from, where the rows of all agents are here."""
    if not problem.runtime.is_alone or result.state is None or len(result.state.w) != problem.n_agents:
        return None
    ceiling = ceiling or MEAN_LOSS * float(result.history["objective"][0])
    progress = progress_of(result.state, seen + int(problem.agent_rows.sum()), ceiling, result.retreats, data)
    # partial_fit has own curvature where a fit chose it: another one's tau does not fit
    progress.numbers["fresh"] = bool(data is None and result.history.get("curvature", [0])[-1] > 0)
    return progress_moved(progress, problem, w)


def set_network(estimator: Any, network: FittedNetwork) -> None:
    """The fitted network and what is read off its weights."""
    estimator._network = network
    estimator.weights_ = network.model.layout.unpack(network.row)
    for name in ("coefs_", "intercepts_", "active_inputs_", "n_active_units_"):  # of an earlier fit
        vars(estimator).pop(name, None)
    if network.can_fold:
        estimator.coefs_, estimator.intercepts_ = network.fold()
        estimator.active_inputs_ = active_inputs(network.model, network.row)
        estimator.n_active_units_ = n_active_units(network.model, network.row)


def set_curves(estimator: Any) -> None:
    """What scikit-learn's MLP shows besides, from the history and the network."""
    e, objective = estimator, estimator.history_["objective"]
    e.loss_curve_, e.best_loss_, e.loss_ = objective.tolist(), float(objective.min()), float(objective[-1])
    e.validation_scores_ = e.history_.get("validation_score", np.empty(0)).tolist() or None
    e.n_layers_ = e._network.model.layout.n_layers + 1
    e.out_activation_ = e._y.out_activation


class OfPerceptron:
    """An attribute of a fitted MLP: where the estimator has a value, that hides this one, which says why not."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        check_is_fitted(estimator)
        raise AttributeError(
            f"{self.name} must be read from a fitted MLP, got {short(estimator._network.model)}: its arrays are in "
            "weights_."
        )


def importances(estimator: Any) -> Any:
    """Norms of each input's outgoing weights, (d,), as shares."""
    check_is_fitted(estimator)
    network = estimator._network
    if not network.can_fold:
        raise AttributeError(
            f"feature_importances_ must be read from a fitted MLP, got {short(network.model)}, which has no weights of "
            "its own for each input."
        )
    norms = np.linalg.norm(network.model.unpack(network.row)[0][0], axis=1)
    return norms / (norms.sum() or 1.0)


def views(estimator: Any) -> list[Any]:
    """One copy of the estimator per agent, with that agent's weights."""
    check_is_fitted(estimator)
    if estimator._agent_rows is None:
        raise AttributeError("one agent's view has no agents of its own.")
    found = []
    for row, n, label in zip(estimator._agent_rows, estimator._agent_samples, estimator._graph.labels, strict=True):
        view = copy.copy(estimator)
        set_network(view, replace(estimator._network, row=row))
        view._agent_rows, view._progress = None, None
        view.n_samples, view.label = n, label
        found.append(view)
    return found
