"""What both estimators share: check, build, run, expose.

# Design:
#   fit   rows and parameters are checked -> a graph and an owner of every row -> Parts -> _train
#   _train   Parts -> Problem, Network, Algorithm -> run -> _expose
#   What y holds is a Targets object (targets.py), made in `_check_data`.
#   One agent's view is the estimator itself with that agent's weights (`agents_`).
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from dnnext.algorithms import final_prox
from dnnext.estimators import choices, resuming
from dnnext.estimators.data import Moments, Parts, network_moments
from dnnext.estimators.engine import open_ranks, open_runtime, same_everywhere, shared_seeds
from dnnext.estimators.exports import Exports
from dnnext.estimators.fitted import (
    FittedNetwork,
    active_inputs,
    as_before_if_it_fails,
    check_warm_classes,
    n_active_units,
    unfold,
)
from dnnext.estimators.graph import make_graph, owners, survivors
from dnnext.estimators.notices import warn_user
from dnnext.estimators.online import SETTLED, Online, progress_moved, progress_of
from dnnext.estimators.prepared import Prepared, prepare_agents
from dnnext.estimators.ranks import OverRanks
from dnnext.estimators.regimes import check_full, check_network, full_rows, of_regime
from dnnext.estimators.renamed import refuse_old_names
from dnnext.estimators.rows import Named, check_agent, check_weight, join_agents
from dnnext.estimators.targets import Classes, is_label_sets, learned
from dnnext.estimators.tasks import CallbackSupportMixin, Iterations, fit_task, with_callbacks
from dnnext.estimators.watch import Scorer, Watch
from dnnext.problem import MLP, Problem
from dnnext.problem.shards import Stack
from dnnext.runs import checkpoint
from dnnext.runs.alarm import MEAN_LOSS
from dnnext.runs.callbacks import Checkpoint


class Decentralized(Online, OverRanks, Prepared, Exports, CallbackSupportMixin, BaseEstimator):
    """Base of the estimators; see DecentralizedClassifier and DecentralizedRegressor."""

    _kind = ""

    def set_params(self, **params):
        """As in scikit-learn; parameters that moved into the algorithm are refused with what to set instead."""
        refuse_old_names(params)
        return super().set_params(**params)

    # targets

    def _open_model(self):
        """The model with its ends open."""
        return MLP([None, 20, None]) if self.model is None else self.model

    def _set_targets(self, targets):
        """What y holds from now on."""
        if isinstance(targets, Classes):
            check_warm_classes(self, targets.labels)
            self.classes_ = targets.labels
        self._y = targets

    @property
    def _loss_name(self):
        return self.loss if isinstance(self.loss, str) else getattr(self.loss, "name", "")

    def _targets(self, codes):
        """What the loss wants, (n, Q), before standardisation."""
        return self._y.wanted(codes, self._loss_name)

    def _has_many_outputs(self, y):
        return self._kind == "regressor" or is_label_sets(y)

    # training

    @with_callbacks
    def fit(self, X, y, sample_weight=None, agent=None, eval_set=None):
        """Train on rows that belong to agents.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
            Inputs. Sparse input is made dense: standardising it would fill it anyway.
        y : array-like (n,), for the regressor also (n, Q)
            Targets.
        sample_weight : array-like (n,), optional
            Weights >= 0; rows of weight zero count as absent.
        agent : array-like (n,), optional
            Which agent owns each row, any labels. Without it rows are spread by `partition`.
        eval_set : (X, y), optional
            Rows to score along the way (``history_["validation_score"]``), and to stop by with ``early_stopping=True``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a parameter or data outside of what is allowed, before any iteration.

        Warns
        -----
        ConvergenceWarning
            If the objective was still falling by more than 1 % per ten iterations, or the run had to be stopped.
        """
        with fit_task(self, X, y, sample_weight), as_before_if_it_fails(self):
            return self._fit(X, y, sample_weight, agent, eval_set)

    def _fit(self, X, y, sample_weight, agent, eval_set, resumed=None):
        with open_ranks(self) as ranks:
            with ranks.together():
                choices.check_parameters(self, self._kind)
            seeds = shared_seeds(ranks, self.random_state) if resumed is None else resumed.seeds
            with ranks.together():
                self._learn_inputs(X, sample_weight)
                parts, graph, evaluation = self._prepare(X, y, sample_weight, agent, eval_set, seeds)
            rows = {"X": parts.x, "y": parts.y, "sample_weight": parts.weight, "agent": parts.offsets}
            same_everywhere(self, ranks, **rows)
        with open_runtime(self, parts.n_agents, ranks=ranks) as runtime:
            parts = parts.of_agents(runtime.agents)
            moments = self._moments(parts, runtime)
            problem = self._problem(parts, moments, runtime, seeds)
            del parts, rows  # scaled in place: the rows are the problem's now
            score = None if evaluation is None else Scorer(problem, moments, self._y, self._loss_name, *evaluation)
            return self._train(problem, graph, moments, seeds, score, resumed=resumed)

    def fit_agents(self, agents, eval_set=None):
        """Train on one pair per agent; the number of agents follows.

        Parameters
        ----------
        agents : sequence of (X_i, y_i) or (X_i, y_i, sample_weight_i)
            The rows of agent i; no agent may be empty.
        eval_set : (X, y), optional
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an agent is empty or its arrays do not fit the others'.
        """
        agents, joined = list(agents), None
        if self.preprocess is not None and agents:
            agents, joined = prepare_agents(self.preprocess, agents)
        X, y, sample_weight, agent = join_agents(agents, self._kind == "classifier", self._takes_images)
        return self.fit(X if joined is None else joined, y, sample_weight=sample_weight, agent=agent, eval_set=eval_set)

    def _prepare(self, X, y, sample_weight, agent, eval_set, seeds):
        """(Parts to train on, Graph, rows to score or None)."""
        x, codes, weight, agent = self._check_data(X, y, sample_weight, agent, reset=True)
        evaluation = self._check_eval_set(eval_set)
        graph = make_graph(self.topology, self.mixing, self.n_agents, agent, len(x), seeds)
        if agent is None and isinstance(self.topology, str) and self.n_agents > len(x):
            warn_user(
                f"n_agents={self.n_agents}, but there are {len(x)} rows: the network has {graph.n_agents} agents."
            )
        owner = owners(graph, agent, codes, self.partition, seeds)
        parts = Parts.from_owner(x, codes, weight, owner, graph.n_agents, dtype=self._precision)
        if self.early_stopping and evaluation is None:
            parts, held = parts.hold_out(self.validation_fraction, seeds)
            evaluation = held.x, held.y, held
        if evaluation is not None and self._kind == "regressor" and len(evaluation[0]) < 2:
            raise ValueError(
                f"the rows to score by are too few for R2, which needs at least two, got {len(evaluation[0])}: hold "
                "out more (validation_fraction), or pass a longer eval_set."
            )
        return parts, graph, evaluation

    def _train(self, problem, graph, moments, seeds, score, method="fit", resumed=None):
        algorithm = choices.make_algorithm(self.algorithm, problem)
        network = choices.make_network(self, graph.topology, algorithm, problem.runtime)
        start = self._start(problem, moments, seeds)
        watch = Watch(
            problem,
            score=score,
            patience=self._patience if self.early_stopping else None,
            tol=self.tol,
            total=int(self.max_iter) if self.verbose and problem.runtime.rank == 0 else None,
            bar=False if self.verbose > 1 else None,
        )
        options = {}
        if any(isinstance(callback, Checkpoint) for callback in self.callbacks or ()):
            options["notes"] = resuming.notes(self, seeds, method)
        if resumed is None:
            watch.start(start)
        else:
            options["resume"] = partial(checkpoint.read, resumed.path, run=resumed.run)
        result = algorithm.run(
            problem,
            network,
            w0=start,
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            n_iter_no_change=self._patience,
            monitor_every=int(self.monitor_every),
            callbacks=[watch, Iterations(self, moments), *(self.callbacks or ())],
            max_time=self.max_time,
            random_state=seeds.integer("algorithm"),
            warn=False,
            **options,
        )
        return self._expose(problem, graph, moments, result, watch)

    @property
    def _patience(self):
        """n_iter_no_change, which may be infinite."""
        return int(min(self.n_iter_no_change, self.max_iter + 1))

    @np.errstate(over="ignore", invalid="ignore")  # the Problem refuses by name what is not finite
    def _problem(self, parts, moments, runtime, seeds, seen=0.0):
        """The Problem of these parts; alpha="auto" counts their rows and those `seen` before."""
        dtype = self._precision
        targets = self._targets(parts.y)
        model = choices.make_model(self._open_model(), parts.x.shape[1:], targets.shape[1])
        model = of_regime(self.regime, model, seeds, dtype)
        n_rows = int(runtime.sum_agents(parts.n_rows)) + seen
        penalty = choices.make_penalty_object(self.penalty, self.alpha, self.l1_ratio, n_rows, model.layout.n_layers)
        x = np.ascontiguousarray(parts.x, dtype)
        if self.standardize:
            moments.scale_inputs(x)
        even = not runtime.sum_agents(parts.agent_sums(parts.weight != 1)).any()
        target = np.ascontiguousarray(moments.targets(targets), dtype)
        shards = Stack(x, target, None if even else parts.weight.astype(dtype), parts.offsets)
        return Problem(
            model,
            self._make_loss(),
            penalty,
            shards,
            runtime=runtime,
            n_threads=choices.make_threads(self.n_jobs, runtime.n_here),
            dtype=dtype,
        )

    @property
    def _trained_loss(self):
        """The parameter `loss` of the last fit."""
        return getattr(self, "_settled", {}).get("loss", self.loss)

    def _make_loss(self):
        return choices.make_loss(self.loss, self._y)

    def _moments(self, parts, runtime):
        targets = self._targets(parts.y[:1])
        if not self.standardize:
            return Moments.none(parts.x.shape[1:], targets.shape[1])
        dtype = self._precision
        x_mean, x_scale = network_moments(parts.x, parts, runtime, "X", dtype)
        if self._kind == "classifier" or self._loss_name == "poisson":
            return Moments(x_mean, x_scale, np.zeros(targets.shape[1]), np.ones(targets.shape[1]))
        return Moments(x_mean, x_scale, *network_moments(self._targets(parts.y), parts, runtime, "y", dtype))

    def _start(self, problem, moments, seeds):
        """The common first row: Glorot-uniform, or the fitted weights under warm_start unless all are zero."""
        model, dtype, row = problem.model, problem.dtype, None
        if self.warm_start:
            check_full(self, "warm_start=True")
        if self.warm_start and hasattr(self, "_network"):
            check_network(self, "warm_start=True")
            old = self._network.model
            if old.fingerprint() != model.fingerprint():
                raise ValueError(
                    f"warm_start=True continues from {old!r}, but the data and parameters now ask for {model!r}: "
                    "keep hidden_layer_sizes, activation, inputs and classes, or set warm_start=False."
                )
            if isinstance(model, MLP):
                row = unfold(model, self.coefs_, self.intercepts_, moments, dtype)
            else:
                row = self._network.row.astype(dtype)
            if model.layout.n_layers > 1 and not np.any(row[model.layout.mask > 0]):
                row = None  # a saddle: no gradient leads away from it
        if row is None:
            row = model.init(seeds.generator("weights")).astype(dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # a huge alpha is the run's business
            if not np.isfinite(problem.penalty.value(row)):  # a penalty may forbid weights: the nearest it allows
                row = problem.prox(row[None], np.ones(1, dtype))[0]
        return row

    # results

    def _expose(self, problem, graph, moments, result, watch, seen=0.0, ceiling=0.0, data=None):
        w_bar, w, y = result.w_bar, result.w, result.y
        if watch is not None and watch.stopping is not None and watch.best is not None:
            w_bar, w, y = watch.best  # early stopping keeps the best score, however the run ended
        problem, graph = survivors(problem, graph, result)
        n_agents, runtime = problem.n_agents, problem.runtime
        if len(w) != problem.n_local:  # the centralised method has one row
            w, y = np.repeat(w, n_agents, axis=0), np.repeat(y, n_agents, axis=0) / n_agents
        row, views = final_prox(problem, w_bar, w, y)
        n_rows = np.diff(problem.offsets)
        if runtime.is_distributed and graph.n_agents == n_agents:  # every rank knows all rows: it may know all views
            views, n_rows = runtime.all_agents(views), problem.agent_rows
        self._set_network(FittedNetwork(problem.model, np.array(row), moments))
        self._agent_rows = np.array(full_rows(problem.model, views))
        self._graph, self._agent_samples = graph, n_rows.tolist()
        self._progress = None
        if not runtime.is_distributed and result.state is not None and len(result.state.w) == n_agents:
            ceiling = ceiling or MEAN_LOSS * float(result.history["objective"][0])
            progress = progress_of(result.state, seen + int(problem.agent_rows.sum()), ceiling, result.retreats, data)
            self._progress = progress_moved(progress, problem, w)
        self.history_ = dict(result.history)
        if watch is not None and watch.score is not None:
            self.history_["validation_score"] = watch.column(self.history_["iteration"])
            self.history_["validation_loss"] = watch.column(self.history_["iteration"], "losses")
            self.best_validation_score_ = watch.best_score
        objective = self.history_["objective"]
        self.loss_curve_, self.best_loss_, self.loss_ = objective.tolist(), float(objective.min()), float(objective[-1])
        self.validation_scores_ = [float(v) for v in self.history_.get("validation_score", ())] or None
        self.n_iter_ = int(result.n_iter)
        self.converged_ = bool(result.converged or (watch is not None and watch.stopped))
        self.status_ = "early_stopping" if watch is not None and watch.stopped else result.status
        self.n_agents_ = n_agents
        self.topology_ = graph.topology
        self.n_outputs_ = problem.model.n_outputs
        self.n_layers_ = problem.model.layout.n_layers + 1
        self.out_activation_ = choices.out_activation(self._loss_name, self._y)
        self._settled = {name: getattr(self, name) for name in SETTLED}
        if result.warning and runtime.rank == 0:
            warn_user(result.warning, ConvergenceWarning)
        return self

    def _set_network(self, network):
        self._network = network
        self.weights_ = network.model.layout.unpack(network.row)
        for name in ("coefs_", "intercepts_", "active_inputs_", "n_active_units_"):  # of an earlier fit
            vars(self).pop(name, None)
        if isinstance(network.model, MLP):
            self.coefs_, self.intercepts_ = network.fold()
            self.active_inputs_ = active_inputs(network.model, network.row)
            self.n_active_units_ = n_active_units(network.model, network.row)

    @property
    def feature_importances_(self):
        """Norm of each input's outgoing weights on standardised inputs, (d,), as shares that add up to 1."""
        check_is_fitted(self)
        if not isinstance(self._network.model, MLP):
            raise AttributeError(f"{self._network.model!r} has no weights of its own for each input.")
        norms = np.linalg.norm(self._network.model.unpack(self._network.row)[0][0], axis=1)
        return norms / (norms.sum() or 1.0)

    @property
    def agents_(self):
        """Each agent's own fitted view, in graph order: an estimator of this class with that agent's weights.

        After `fit_local` these are the agents of this rank. Beside everything a fitted estimator has, a view carries
        `n_samples`, the rows of that agent, and `label`.
        """
        check_is_fitted(self)
        if self._agent_rows is None:
            raise AttributeError("one agent's view has no agents of its own.")
        views = []
        for row, n, label in zip(self._agent_rows, self._agent_samples, self._graph.labels, strict=True):
            view = copy.copy(self)
            view._set_network(FittedNetwork(self._network.model, row, self._network.moments))
            view._agent_rows, view._progress = None, None
            view.n_samples, view.label = n, label
            views.append(view)
        return views

    def save(self, path):
        """Write the fitted model to a file: npz arrays and a JSON header, no pickle. `dnnext.load` reads it."""
        from dnnext.estimators.files import save

        check_is_fitted(self)
        save(self, path)

    @np.errstate(over="ignore", invalid="ignore")  # scikit-learn looks for infinities by adding up
    def _raw(self, X):
        check_is_fitted(self)
        return self._network.raw(self._validated(X))

    # checks

    @np.errstate(over="ignore", invalid="ignore")
    def _check_data(self, X, y, sample_weight, agent, reset, learn=True):
        """(x, codes, weight, agent) of the rows that count: dense, finite, float64, weight > 0."""
        X, names = X if isinstance(X, Named) else (X, None)
        x, y = self._validated(X, y, reset=reset)
        if reset:
            self._precision = choices.make_dtype(self.dtype, x)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(names, dtype=object)
        weight, agent = check_weight(sample_weight, len(x)), check_agent(agent, len(x))
        if learn or not hasattr(self, "_y"):
            self._balance = None
            self._set_targets(learned(self._kind, y, self._loss_name))
        codes = self._y.codes(y, "y")
        if learn:
            self._y.check(codes, weight)
        weight = weight * self._class_weights(y, codes, weight)
        keep = weight > 0
        if keep.all():
            return x, codes, weight, agent
        return x[keep], codes[keep], weight[keep], None if agent is None else agent[keep]

    def _class_weights(self, y, codes, weight):
        return 1.0

    @property
    def _takes_images(self):
        return not isinstance(self._open_model(), MLP)

    @np.errstate(over="ignore", invalid="ignore")
    def _check_eval_set(self, eval_set):
        """(x, codes) of eval_set, or None."""
        if eval_set is None:
            return None
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) != 2:
            raise ValueError(f"eval_set must be a pair (X, y), got {type(eval_set).__name__}.")
        x, y = self._validated(*eval_set)
        return x, self._y.codes(y, "eval_set")

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_network")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.preprocess is None
        tags.input_tags.allow_nan = tags.input_tags.string = self.preprocess is not None
        return tags
