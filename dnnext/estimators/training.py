"""From checked parameters and rows to a fitted estimator: the story of `fit`.

# Design:
#   fit     parameters and rows are checked -> a graph and an owner of every row -> Stack -> Problem -> train
#   train   Problem, Network and algorithm -> run -> expose (results.py)
#   Everything is built and checked before the first iteration; all functions take the estimator first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dnnext.estimators import choices
from dnnext.estimators.data import Moments, Seeds, held_out, network_moments
from dnnext.estimators.engine import open_ranks, open_runtime, same_everywhere, shared_seeds
from dnnext.estimators.files import split_params
from dnnext.estimators.fitted import unfold
from dnnext.estimators.graph import Graph, make_graph, owners, warn_of_shape
from dnnext.estimators.groups import on_ranks
from dnnext.estimators.inputs import checked_eval_set, checked_rows, learn_inputs
from dnnext.estimators.notices import warn_user
from dnnext.estimators.regimes import check_full, check_network, of_regime
from dnnext.estimators.results import expose
from dnnext.estimators.tangents import on_inputs
from dnnext.estimators.tasks import Iterations
from dnnext.estimators.unusual import note_unusual
from dnnext.estimators.watch import Scorer, Watch
from dnnext.problem import Problem
from dnnext.problem.shards import Held, Stack
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint


@dataclass(frozen=True)
class Resumed:
    """Where to go on: the folder, the run that wrote it, its seeds, how its rows came (fit or fit_local), and what its
    default may send.
    """

    path: Any
    seeds: Seeds
    run: str | None = None
    method: str = "fit"
    share: str | None = None


def notes(estimator: Any, seeds: Seeds, method: str, share: str | None) -> dict[str, Any]:
    """What `resume` needs beside the state of the run."""
    params, objects = split_params(estimator.get_params(deep=False))
    every = [c.every for c in estimator.callbacks or () if isinstance(c, Checkpoint)]
    others = [repr(c) for c in estimator.callbacks or () if not isinstance(c, Checkpoint)]
    return {
        "class": type(estimator).__name__, "params": params, "objects": objects, "seeds": seeds.as_text(),
        "method": method, "share": share, "every": every[:1], "other callbacks": others,
    }  # fmt: skip


def fit(estimator: Any, X: Any, y: Any, sample_weight: Any, agent: Any, eval_set: Any, resumed: Any = None) -> Any:
    """The estimator, trained on rows that every process sees."""
    with open_ranks(estimator) as ranks:
        with ranks.together():
            choices.check_parameters(estimator, estimator._kind)
        seeds = shared_seeds(ranks, estimator.random_state) if resumed is None else resumed.seeds
        with ranks.together():
            learn_inputs(estimator, X, sample_weight)
            rows, graph, evaluation = _prepare(estimator, X, y, sample_weight, agent, eval_set, seeds)
        held = {"X": rows.x, "y": rows.target, "sample_weight": rows.weight, "agent": rows.offsets}
        same_everywhere(estimator, ranks, **held)
    with open_runtime(estimator, len(rows), ranks=ranks) as runtime:
        rows = rows.of_agents(runtime.agents)
        moments = make_moments(estimator, rows, runtime)
        problem = make_problem(estimator, rows, moments, runtime, seeds)
        del rows, held  # scaled in place: they are the problem's now
        score = None if evaluation is None else Scorer(problem, moments, estimator._y, *evaluation)
        return train(estimator, problem, graph, moments, seeds, score, resumed=resumed)


def _prepare(
    estimator: Any, X: Any, y: Any, sample_weight: Any, agent: Any, eval_set: Any, seeds: Seeds
) -> tuple[Stack, Graph, Any]:
    """(rows to train on, Graph, rows to score or None)."""
    e = estimator
    x, codes, weight, agent = checked_rows(e, X, y, sample_weight, agent, reset=True)
    choices.make_model(e._open_model(), x.shape[1:], e._y.wanted(codes[:1]).shape[1])  # refused before anything else
    note_unusual(e, x)
    evaluation = checked_eval_set(e, eval_set)
    graph = make_graph(e.topology, e.mixing, e.n_agents, agent, len(x), seeds)
    if agent is None and isinstance(e.topology, str) and e.n_agents > len(x):
        warn_user(f"n_agents={e.n_agents}, but there are {len(x)} rows: the network has {graph.n_agents} agents.")
    owner, keep = owners(graph, agent, codes, e.partition, seeds), None
    if e.early_stopping and evaluation is None:
        keep = ~held_out(owner, graph.n_agents, e.validation_fraction, seeds)
        held = Stack.of_owner(x, codes, weight, owner, graph.n_agents, dtype=e._precision, keep=~keep)
        evaluation = held.x, held.target, held
    if evaluation is not None and e._kind == "regressor" and len(evaluation[0]) < 2:
        raise ValueError(
            f"the rows to score by are too few for R2, which needs at least two, got {len(evaluation[0])}: hold "
            "out more (validation_fraction), or pass a longer eval_set."
        )
    own = x is e.__dict__.get("_own_rows") and not hasattr(e, "_fit_task")  # callbacks of scikit-learn are shown X
    rows = Stack.of_owner(x, codes, weight, owner, graph.n_agents, dtype=e._precision, keep=keep, own=own)
    return rows, graph, evaluation


def train(
    estimator: Any, problem: Problem, graph: Graph, moments: Moments, seeds: Seeds, score: Any, method: str = "fit",
    resumed: Any = None, note: str = "",
) -> Any:  # fmt: skip
    """Run the algorithm on the problem and leave the results on the estimator; note: a sentence for verbose."""
    e, share = estimator, choices.SHARE[method]
    if resumed is not None:
        method, share = resumed.method, resumed.share
    algorithm = choices.make_algorithm(e.algorithm, problem, share)
    network = choices.make_network(e, graph.topology, algorithm, problem.runtime)
    if problem.runtime.is_first:
        warn_of_shape(e.topology, graph.topology.n_agents)
    start, patience = start_row(e, problem, moments, seeds), int(min(e.n_iter_no_change, e.max_iter + 1))
    watch = Watch(
        problem,
        score=score,
        patience=patience if e.early_stopping else None,
        tol=e.tol,
        total=int(e.max_iter) if e.verbose and problem.runtime.is_first else None,
        bar=False if e.verbose > 1 else None,
        note=f"{note} {e._far_columns}".strip(),
    )
    options: dict[str, Any] = {}
    if any(isinstance(callback, Checkpoint) for callback in e.callbacks or ()):
        options["notes"] = notes(e, seeds, method, share)
    if resumed is None:
        watch.start(start)
    else:
        options["resume"] = partial(checkpoint.read, resumed.path, run=resumed.run)
    result = algorithm.run(
        problem,
        network,
        w0=start,
        max_iter=int(e.max_iter),
        tol=float(e.tol),
        n_iter_no_change=patience,
        monitor_every=int(e.monitor_every),
        callbacks=[watch, Iterations(e, moments), *(e.callbacks or ())],
        max_time=e.max_time,
        random_state=seeds.integer("algorithm"),
        warn=False,
        **options,
    )
    return expose(e, problem, graph, moments, result, watch)


@np.errstate(over="ignore", invalid="ignore")  # the Problem refuses by name what is not finite
def make_problem(
    estimator: Any, rows: Stack, moments: Moments, runtime: Any, seeds: Seeds, seen: float = 0.0, counts: Any = None
) -> Problem:
    """The Problem of these rows, whose x is scaled in place; alpha="auto" counts them and those `seen` before.

    counts : what `later_counts` returned, if it was called before.
    """
    get_counts = later_counts(estimator, rows, runtime) if counts is None else counts
    e, dtype = estimator, estimator._precision
    wanted = e._y.wanted(rows.target)
    sized = choices.make_model(e._open_model(), rows.x.shape[1:], wanted.shape[1])
    model = of_regime(e.regime, on_ranks(e, sized, runtime), seeds, dtype)
    n_all, uneven, weight = get_counts().T
    n_rows = int(n_all.sum()) + seen
    penalty = choices.make_penalty_object(e.penalty, e.alpha, e.l1_ratio, n_rows, model.layout.n_layers)
    x = np.ascontiguousarray(rows.x, dtype)
    if e.standardize:
        moments.scale_inputs(x)
    assert rows.weight is not None
    weights = rows.weight.astype(dtype) if uneven.any() else None
    held = Held(n_all.astype(np.int64), float(np.add.reduce(np.ascontiguousarray(weight))))
    target = np.ascontiguousarray(moments.targets(wanted), dtype)
    return Problem(
        model,
        e._y.make_loss(),
        penalty,
        Stack(x, target, weights, rows.offsets, held=held),  # type: ignore[arg-type]
        runtime=runtime,
        n_threads=choices.make_threads(e.n_jobs, runtime.n_here),
        dtype=dtype,
        tangents=on_inputs(e.tangents, moments),
    )


def later_counts(estimator: Any, rows: Stack, runtime: Any) -> Any:
    """A function that returns, of all agents, their rows, how many have a weight other than 1, and the sum of these."""
    assert rows.weight is not None
    sums = rows.sums(rows.weight != 1), rows.sums(rows.weight.astype(estimator._precision))
    return runtime.later_agents(np.stack([rows.n_rows, *sums], axis=1))


def make_moments(estimator: Any, rows: Stack, runtime: Any) -> Moments:
    """The moments of inputs and targets over all agents."""
    targets, dtype = estimator._y, estimator._precision
    n_outputs = targets.wanted(rows.target[:1]).shape[1]
    if not estimator.standardize:
        return Moments.none(rows.x.shape[1:], n_outputs)
    tables = {"X": rows.x}
    if estimator._kind != "classifier" and not targets.is_log:
        tables["y"] = targets.wanted(rows.target)
    of_x, *of_y = network_moments(tables, rows, runtime, dtype)
    return Moments(*of_x, *(of_y[0] if of_y else (np.zeros(n_outputs), np.ones(n_outputs))))


def start_row(estimator: Any, problem: Problem, moments: Moments, seeds: Seeds) -> Any:
    """The common first row: Glorot-uniform, or the fitted weights under warm_start unless all are zero."""
    model: Any = problem.model
    dtype, row = problem.dtype, None
    if estimator.warm_start:
        check_full(estimator, "warm_start=True")
    if estimator.warm_start and hasattr(estimator, "_network"):
        check_network(estimator, "warm_start=True")
        old = estimator._network.model
        if old.fingerprint() != model.fingerprint():
            raise ValueError(
                f"warm_start=True continues from {old!r}, but the data and parameters now ask for {model!r}: "
                "keep hidden_layer_sizes, activation, inputs and classes, or set warm_start=False."
            )
        if estimator._network.can_fold:
            row = unfold(model, estimator.coefs_, estimator.intercepts_, moments, dtype)
        else:
            row = estimator._network.row.astype(dtype)
        if model.layout.n_layers > 1 and not np.any(row[model.layout.mask > 0]):
            row = None  # a saddle: no gradient leads away from it
    if row is None:
        row = model.init(seeds.generator("weights")).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # a huge alpha is the run's business
        if not np.isfinite(problem.penalty.value(row)):  # a penalty may forbid weights: the nearest it allows
            row = problem.prox(row[None], np.ones(1, dtype))[0]
    return row
