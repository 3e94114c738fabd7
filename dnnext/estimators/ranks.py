"""Training and scoring on rows that never leave their rank.

# Design:
#   What ranks send each other before round 1: parameters, features, labels of the classes (with their counts only for
#   class_weight="balanced"), how many agents each holds; then moments and sizes, summed over agents. Held-out rows are
#   scored where they lie and only sums travel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dnnext._checks import short
from dnnext.estimators import choices, groups
from dnnext.estimators.data import held_out
from dnnext.estimators.engine import later_seeds, open_ranks, open_runtime, same_everywhere
from dnnext.estimators.graph import Graph, make_graph
from dnnext.estimators.inputs import checked, checked_eval_set, checked_rows, learn_inputs, set_targets
from dnnext.estimators.rows import check_weight
from dnnext.estimators.targets import of_ranks
from dnnext.estimators.training import later_counts, make_moments, make_problem, train
from dnnext.estimators.unusual import note_unusual
from dnnext.estimators.watch import ScorerOfAll
from dnnext.problem.shards import Stack
from dnnext.sites import check_engine


def fit_local(
    estimator: Any, X: Any, y: Any, sample_weight: Any, agent: Any, eval_set: Any, resumed: Any = None
) -> Any:
    """The estimator, trained on the rows of all ranks, each with its own; collective."""
    e = estimator
    if not check_engine(e.engine, e.engine_options).has_ranks:
        raise ValueError(
            f"fit_local needs engine='mpi' or engine='nats', got engine={short(e.engine)}; in one process use "
            "fit_agents."
        )
    with open_ranks(e) as every, every.gathering():  # until the first round
        ranks = groups.one_per_group(e, every)
        return _trained(e, ranks, X, y, sample_weight, agent, eval_set, resumed)


def _trained(e: Any, ranks: Any, X: Any, y: Any, sample_weight: Any, agent: Any, eval_set: Any, resumed: Any) -> Any:
    """The estimator, trained on the ranks that are open; `ranks` has one agent per rank or group of ranks."""
    with ranks.together():
        choices.check_parameters(e, e._kind)
    get_seeds = later_seeds(ranks, e.random_state) if resumed is None else lambda: resumed.seeds
    learn_inputs(e, X, sample_weight, ranks)
    set_targets(e, of_ranks(e._kind, y if hasattr(y, "ndim") else np.asarray(y), ranks, e.loss))
    e._balance = _balance_of_all(e, y, sample_weight, ranks)
    with ranks.together():
        x, codes, weight, agent = checked_rows(e, X, y, sample_weight, agent, reset=True, learn=False)
        note_unusual(e, x, is_private=True)
        evaluation = checked_eval_set(e, eval_set)
        labels = np.array([f"rank {ranks.rank}"]) if agent is None else np.unique(agent)
    ranks.inner.agree_on({"X": x, "y": codes, "sample_weight": weight, "agent": agent})
    get_held = ranks.later(str(len(labels)))
    found = ranks.all_ranks(e._precision.name)
    narrow = [rank for rank, name in enumerate(found) if name == "float32"]
    e._precision = np.dtype("float64" if len(narrow) < len(found) else "float32")
    note = f"dtype='auto' is 'float64' everywhere: X is float32 on rank {', '.join(map(str, narrow))} only."
    n_outputs = e._y.wanted(codes[:1]).shape[1]
    same_everywhere(e, groups.everyone(ranks), eval_set=evaluation is not None, **{"the number of outputs": n_outputs})
    seeds = get_seeds()
    graph, bounds = _graph_of_all(e, ranks, get_held(), seeds)
    first, n_own = int(bounds[ranks.rank]), len(labels)
    owner = np.zeros(len(x), dtype=np.int64) if agent is None else np.searchsorted(labels, agent)
    with open_runtime(e, graph.n_agents, bounds, ranks) as runtime:
        keep = held = None
        if evaluation is not None:
            ones = np.ones(len(evaluation[0]))
            x_held, codes_held = evaluation
            held = Stack.of_owner(x_held, codes_held, ones, np.zeros(len(ones), np.int64), n_own, first)
        elif e.early_stopping:
            keep = ~held_out(owner, n_own, e.validation_fraction, seeds, first, runtime)
            held = Stack.of_owner(x, codes, weight, owner, n_own, first, dtype=e._precision, keep=~keep)
        rows = Stack.of_owner(x, codes, weight, owner, n_own, first, dtype=e._precision, keep=keep)
        counts = later_counts(e, rows, runtime)
        moments = make_moments(e, rows, runtime)
        problem = make_problem(e, rows, moments, runtime, seeds, counts=counts)
        score = None if held is None else ScorerOfAll(problem, moments, e._y, held)
        graph = Graph(graph.topology, labels.tolist())
        return train(
            e, problem, graph, moments, seeds, score, method="fit_local", resumed=resumed,
            note=note if 0 < len(narrow) < len(found) else "",
        )  # fmt: skip


def _graph_of_all(estimator: Any, ranks: Any, n_own: Any, seeds: Any) -> tuple[Graph, Any]:
    """(graph of the agents of all ranks, first agent of every rank and their number); n_own: agents of every rank."""
    held = [int(text) for text in n_own]
    bounds = np.concatenate([[0], np.cumsum(held)])
    n_agents = int(bounds[-1])
    with ranks.together():
        graph = make_graph(estimator.topology, estimator.mixing, n_agents, None, n_agents, seeds)
        if graph.n_agents != n_agents:
            raise ValueError(
                f"the graph has {graph.n_agents} nodes, but the ranks brought {n_agents} agents ({held} from "
                "rank to rank); fit_local needs one node per agent."
            )
    return graph, bounds


def _balance_of_all(estimator: Any, y: Any, sample_weight: Any, ranks: Any) -> Any:
    """Class weights of class_weight='balanced' over all ranks, else None; collective."""
    targets = estimator._y
    if getattr(estimator, "class_weight", None) != "balanced" or not hasattr(targets, "balanced"):
        return None
    with ranks.together():
        codes = targets.codes(np.asarray(y), "y")
        weight = check_weight(sample_weight, len(codes))
    return targets.balanced(codes, weight, ranks)


def score_local(estimator: Any, X: Any, y: Any, sample_weight: Any) -> float:
    """The score on the rows of all ranks; collective."""
    with open_runtime(estimator) as ranks:
        with ranks.together():
            check_is_fitted(estimator)
        if isinstance(estimator._network, groups.Parted):
            return groups.score_local(estimator, X, y, sample_weight, ranks.comm)
        with ranks.together():
            network, targets = estimator._network, estimator._y
            X, y = checked(estimator, X, y)
            codes, weight = targets.codes(y, "y"), check_weight(sample_weight, X.shape[0])
            columns = targets.score_columns(network.raw(X), codes, network.moments)
            own = np.sum(columns * weight.reshape(-1, *[1] * (columns.ndim - 1)), axis=0)
        return float(targets.score_of(ranks.sum_agents(own[None])))
