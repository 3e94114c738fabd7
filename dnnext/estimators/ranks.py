"""Training and scoring on rows that never leave their rank.

# Design:
#   What ranks tell each other before round 1: parameters, features, labels of the classes (with their counts only for
#   class_weight="balanced"), how many agents each holds; then moments and sizes, summed over agents. Held-out rows are
#   scored where they lie and only sums travel.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dnnext.estimators import choices
from dnnext.estimators.data import Parts
from dnnext.estimators.engine import open_ranks, open_runtime, same_everywhere, shared_seeds
from dnnext.estimators.fitted import as_before_if_it_fails
from dnnext.estimators.graph import Graph, make_graph
from dnnext.estimators.rows import check_weight
from dnnext.estimators.targets import of_ranks
from dnnext.estimators.tasks import fit_task, with_callbacks
from dnnext.estimators.watch import ScorerOfAll
from dnnext.runtime.engines import check_engine


class OverRanks:
    """Methods of estimators whose ranks bring their own rows (``engine="mpi"``)."""

    @with_callbacks
    def fit_local(self, X, y, sample_weight=None, agent=None, eval_set=None):
        """Train on the rows of this rank; the other ranks bring theirs, and nobody sees anybody's.

        Started on every rank, ``mpiexec -n 4 python -m mpi4py script.py``, with ``engine="mpi"``. Agents are counted in
        rank order; the graph must have as many nodes as there are agents.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
            The inputs of this rank, at least one row.
        y : array-like (n,), for the regressor also (n, Q)
            Their targets. A class may be missing here; the classes are those of all ranks.
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Which agent of this rank owns each row, any labels; without it the rank is one agent.
        eval_set : (X, y), optional
            Rows of this rank to score by; all ranks bring some, or none does.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On every rank, if one of them has unfit data or parameters, or disagrees; the sentence names rank and field.
        AgentsLost
            If a rank died or fell silent.
        """
        with fit_task(self, X, y, sample_weight), as_before_if_it_fails(self):
            return self._fit_local(X, y, sample_weight, agent, eval_set)

    def _fit_local(self, X, y, sample_weight, agent, eval_set, resumed=None):
        if not check_engine(self.engine, self.engine_options).has_ranks:
            raise ValueError(
                f"fit_local needs engine='mpi', got engine={self.engine!r}; in one process use fit_agents."
            )
        with open_ranks(self) as ranks:
            with ranks.together():
                choices.check_parameters(self, self._kind)
            seeds = shared_seeds(ranks, self.random_state) if resumed is None else resumed.seeds
            self._learn_inputs(X, sample_weight, ranks)
            self._set_targets(of_ranks(self._kind, y if hasattr(y, "ndim") else np.asarray(y), ranks, self._loss_name))
            self._balance = self._balance_of_all(y, sample_weight, ranks)
            with ranks.together():
                x, codes, weight, agent = self._check_data(X, y, sample_weight, agent, reset=True, learn=False)
                evaluation = self._check_eval_set(eval_set)
                labels = np.array([f"rank {ranks.rank}"]) if agent is None else np.unique(agent)
            outputs = self._targets(codes[:1]).shape[1]
            found = ranks.all_ranks(self._precision.name)
            self._precision = np.dtype("float64" if "float64" in found else "float32")
            same_everywhere(self, ranks, eval_set=evaluation is not None, **{"the number of outputs": outputs})
            held = [int(text) for text in ranks.all_ranks(str(len(labels)))]
            bounds = np.concatenate([[0], np.cumsum(held)])
            with ranks.together():
                graph = make_graph(self.topology, self.mixing, int(bounds[-1]), None, int(bounds[-1]), seeds)
                if graph.n_agents != bounds[-1]:
                    raise ValueError(
                        f"the graph has {graph.n_agents} nodes, but the ranks brought {bounds[-1]} agents ({held} from "
                        "rank to rank); fit_local needs one node per agent."
                    )
        first, n_own = int(bounds[ranks.rank]), len(labels)
        owner = np.zeros(len(x), dtype=np.int64) if agent is None else np.searchsorted(labels, agent)
        with open_runtime(self, graph.n_agents, bounds, ranks) as runtime:
            parts = Parts.from_owner(x, codes, weight, owner, n_own, first, dtype=self._precision)
            if evaluation is not None:
                x, codes = evaluation
                evaluation = Parts.from_owner(x, codes, np.ones(len(x)), np.zeros(len(x), np.int64), n_own, first)
            elif self.early_stopping:
                parts, evaluation = parts.hold_out(self.validation_fraction, seeds, runtime)
            moments = self._moments(parts, runtime)
            problem = self._problem(parts, moments, runtime, seeds)
            score = None if evaluation is None else ScorerOfAll(problem, moments, self._y, self._loss_name, evaluation)
            graph = Graph(graph.topology, labels.tolist())
            return self._train(problem, graph, moments, seeds, score, method="fit_local", resumed=resumed)

    def _balance_of_all(self, y, sample_weight, ranks):
        """Class weights of class_weight='balanced' over all ranks, else None; collective."""
        if getattr(self, "class_weight", None) != "balanced" or not hasattr(self._y, "balanced"):
            return None
        with ranks.together():
            codes = self._y.codes(np.asarray(y), "y")
            weight = check_weight(sample_weight, len(codes))
        return self._y.balanced(codes, weight, len(self._y.labels), ranks)

    def score_local(self, X, y, sample_weight=None):
        """The score on the rows of all ranks together, each bringing its own; only sums travel.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
            The inputs of this rank.
        y : array-like (n,), for the regressor also (n, Q)
        sample_weight : array-like (n,), optional

        Returns
        -------
        float
            Accuracy, or R2 (for several outputs their mean); the same on every rank.

        Raises
        ------
        ValueError
            On every rank, if one of them has unfit rows.
        """
        with open_runtime(self) as ranks:
            with ranks.together():
                check_is_fitted(self)
                X, y = self._validated(X, y)
                codes, weight = self._y.codes(y, "y"), check_weight(sample_weight, X.shape[0])
                columns = self._y.score_columns(self._network.raw(X), codes, self._network.moments)
                own = np.sum(columns * weight.reshape(-1, *[1] * (columns.ndim - 1)), axis=0)
            return self._y.score_of(ranks.sum_agents(own[None]))
