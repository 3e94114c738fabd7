"""Regression by a neural network that agents train together."""

from __future__ import annotations

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from dnnext.estimators.base import DecentralizedMLP
from dnnext.estimators.renamed import with_old_names
from dnnext.estimators.rows import real_numbers


class DecentralizedMLPRegressor(RegressorMixin, DecentralizedMLP):
    """A multilayer perceptron that regresses, trained by agents that keep their rows and talk to neighbours only.

    Minimises ``U(w) = (1/N) sum_i sum_(m in S_i) c_m loss(d_m, f(w; x_m)) + r(w)`` over the weights w, where agent i
    alone sees the rows S_i, by NEXT [1]_, [2]_: every agent minimises a strongly convex model of its own cost plus the
    tracked gradient of the others', then averages with its neighbours. No learning rate. One or many targets.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(20,)
        Units of each hidden layer; an empty sequence is a linear model.
    activation : {'tanh', 'logistic', 'relu', 'softplus', 'identity', 'square'}, default='tanh'
        Activation of the hidden layers; the output is linear.
    loss : {'auto', 'squared_error', 'huber'} or Loss, default='auto'
        'auto' is 'squared_error', ``1/2 |d - f|^2``; 'huber' bends at 1.35 standard deviations of the target.
    penalty : {'l2', 'l1', 'elasticnet', 'group', 'sparse_group'}, Penalty or None, default='l2'
        Regulariser r(w) of the weights; biases are exempt. Groups are the outgoing weights of a unit, inputs included.
    alpha : 'auto', float or one float per layer, default='auto'
        Strength per sample, the scale of Lasso (MLPClassifier's alpha divided by N); 'auto' is 5 / N with N the number
        of rows with a weight above zero, whatever the scale of the weights, in `partial_fit` all that came so far.
    l1_ratio : float, default=0.5
        Share of the l1 part in 'elasticnet' and 'sparse_group'.
    n_agents : int, default=8
        Agents when neither `agent` nor a graph says; at most one per row.
    topology : str, networkx graph, adjacency matrix, Topology or Schedule, default='erdos_renyi'
        Who talks to whom. A graph given as an object is taken as it is: its nodes are the agents, labels in `agent`
        are its node names (networkx) or 0..A-1, and a node without rows is a relay.
    mixing : str or matrix, default='metropolis'
        How neighbours are averaged: 'metropolis', 'max_degree', 'laplacian', ``lazy_`` before any of them, or, with an
        adjacency matrix, a doubly stochastic matrix. A Topology or Schedule carries its own.
    mixing_rounds : 'auto' or int, default='auto'
        Rounds of averaging per iteration; 'auto' contracts disagreement to 0.25 (shared curvature: 0.01).
    algorithm : {'next', 'gradient_tracking', 'dgd', 'centralized'} or Algorithm, default='next'
        The recipe. 'next' is `dnnext.algorithms.NEXT` with full linearisation if P > 5000 and the median agent has
        fewer than P / 2 rows, else with partial linearisation. Anything else is chosen with an object, such as
        ``NEXT(PartialLinearization(n_blocks=4), tau=0.1)`` or ``NEXT(FullLinearization())``; a search then reaches
        ``algorithm__tau`` and ``algorithm__surrogate__n_blocks``.
    regime : {'full', 'tangent', 'features'}, default='full'
        What is trained: all weights; the network's linearisation at its start, which is affine in all weights (lazy
        training); or the last layer alone on the random features of the others. The last two are convex problems.
        `partial_fit` and ``warm_start`` need 'full'; a tangent has no `coefs_` and is not exported.
    preprocess : {'auto'}, NetworkPreprocessor or None, default=None
        What makes inputs of data frames with text, categories and gaps, from counts and sums of the whole network;
        'auto' is ``NetworkPreprocessor(standardize=False)``. Exports and `coefs_` then act on its output.
    partition : {'iid', 'label', 'dirichlet'}, default='iid'
        How `fit(X, y)` spreads rows over agents when no `agent` is given.
    standardize : bool, default=True
        Scale inputs and targets with moments taken over the whole network.
    dtype : {'float64', 'float32'}, default='float64'
        Precision of data and weights.
    max_iter : int, default=200
        Most iterations.
    tol : float, default=1e-4
        Stop when the objective falls by less than tol, relatively, over `n_iter_no_change` iterations.
    early_stopping : bool, default=False
        Hold out rows at every agent (or take `eval_set`), stop when their score stalls, keep the best weights.
    validation_fraction : float, default=0.1
        Share of its rows an agent holds out, at most all but one.
    n_iter_no_change : int, default=10
        Iterations without progress before stopping.
    engine : {'local', 'mpi'}, default='local'
        Where agents live: in this process, or in blocks on the ranks of an MPI job, with equal results.
    engine_options : dict or None, default=None
        For 'mpi': timeout in seconds, on_failure ('stop' or 'shrink'), comm; 'local' has none.
    max_time : float or None, default=None
        Seconds of iterating after which to stop.
    monitor_every : int, default=1
        Iterations between measurements.
    n_jobs : int or None, default=None
        Threads. None is every core this process may use (OMP_NUM_THREADS counts); it changes no result.
    warm_start : bool, default=False
        Start `fit` from the fitted weights (unless all are zero: nothing would move them).
    callbacks : list of functions ``(state, metrics) -> bool`` or None, default=None
        Called every iteration; a true value ends the run.
    verbose : int, default=0
        1: progress, a bar on a terminal, elsewhere every tenth line on standard error; above 1: every line.
    random_state : int, RandomState, Generator or None, default=None
        Seeds graph, partition, starting weights and held-out rows.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer, acting on raw inputs; exact zeros are zeros.
    agents_ : list
        Each agent's own fitted view, with `n_samples` and `label`.
    history_ : dict of ndarray
        Equal-length columns: iteration, round, objective, stationarity, disagreement, tracking_error, tau, step, bytes
        (between neighbours), bytes_wire (all that left a rank), seconds, validation_score where there is one.
    n_iter_ : int
        Iterations done.
    converged_ : bool
        Whether a stopping rule ended the run.
    status_ : str
        What ended it: 'converged', 'early_stopping', 'max_iter', 'max_time', 'callback', 'interrupted', 'diverged'.
    n_agents_, topology_ : int, Topology or Schedule
        The network that was used.
    active_inputs_ : ndarray of bool (d,)
        Inputs with a weight that is not zero.
    n_active_units_ : int
        Hidden units with an outgoing weight that is not zero.
    n_outputs_ : int
        Raw outputs of the network.
    n_features_in_, feature_names_in_ : int, ndarray of str
        As in scikit-learn.

    Raises
    ------
    ValueError
        In `fit`, for anything outside of what is stated here, before any iteration.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).
    .. [2] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, IEEE TSIPN 2 (2016).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dnnext import DecentralizedMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = DecentralizedMLPRegressor((10,), n_agents=5, topology="ring", max_iter=60, tol=1e-3, random_state=0)
    >>> reg.fit(X, y).score(X, y) > 0.5
    True
    >>> len(reg.agents_), reg.agents_[0].n_samples
    (5, 89)
    """

    _kind = "regressor"

    @with_old_names
    def __init__(
        self,
        hidden_layer_sizes=(20,),
        activation="tanh",
        *,
        loss="auto",
        penalty="l2",
        alpha="auto",
        l1_ratio=0.5,
        n_agents=8,
        topology="erdos_renyi",
        mixing="metropolis",
        mixing_rounds="auto",
        algorithm="next",
        regime="full",
        preprocess=None,
        partition="iid",
        standardize=True,
        dtype="float64",
        max_iter=200,
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        engine="local",
        engine_options=None,
        max_time=None,
        monitor_every=1,
        n_jobs=None,
        warm_start=False,
        callbacks=None,
        verbose=0,
        random_state=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.n_agents = n_agents
        self.topology = topology
        self.mixing = mixing
        self.mixing_rounds = mixing_rounds
        self.algorithm = algorithm
        self.regime = regime
        self.preprocess = preprocess
        self.partition = partition
        self.standardize = standardize
        self.dtype = dtype
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.engine = engine
        self.engine_options = engine_options
        self.max_time = max_time
        self.monitor_every = monitor_every
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    def partial_fit(self, X, y, sample_weight=None, agent=None):
        """One iteration on these rows in place of those seen before; moments stay those of the first call.

        The trackers move by ``y += grad_new(w) - grad_old(w)``, so that they keep tracking the network's gradient. The
        first call, if `fit` did not come before, settles moments and graph: bring enough rows. Between calls with other
        rows tau stays as it is: gradients of different rows say nothing of curvature.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
        y : array-like (n,) or (n, Q)
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Labels known from the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For targets of another width than before, and for parameters that one iteration cannot heed
            (early_stopping, callbacks, max_time) or that only `fit` can change (topology, loss).
        FloatingPointError
            If the objective is not finite.

        Warns
        -----
        ConvergenceWarning
            If an agent began to diverge; the weights of before are kept and tau is raised tenfold.
        """
        return self._partial_fit(X, y, sample_weight, agent)

    def predict(self, X):
        """Predicted targets.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n,) or (n, Q), as y was in `fit`
        """
        raw = self._raw(X)
        return raw[:, 0] if self._y_is_flat else raw

    def _learn_targets(self, y, weight):
        self._y_is_flat = y.ndim == 1
        return self._numbers("y", y)

    def _learn_targets_of_all(self, y, weight, ranks):
        with ranks.together():
            self._y_is_flat = self._numbers("y", y).ndim == 1
        ranks.agree("the number of dimensions of y", 1 if self._y_is_flat else 2)

    def _encode(self, y, name):
        if not hasattr(self, "_y_is_flat"):
            return self._learn_targets(y, None)
        return self._numbers(name, y)

    @staticmethod
    def _numbers(name, y):
        numbers = real_numbers(name, y)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} must hold finite numbers, got NaN or infinity.")
        return numbers

    def _targets(self, codes):
        return codes[:, None] if codes.ndim == 1 else codes

    def _score_raw(self, raw, codes):
        return float(r2_score(self._targets(codes), raw))

    def _score_columns(self, raw, codes, moments):
        y = self._targets(codes)
        apart = y - moments.y_mean
        return np.stack([(y - raw) ** 2, apart, apart**2, np.ones(y.shape)], axis=1)

    def _score_of(self, sums):
        residual, apart, square, n = sums
        spread = square - apart**2 / n
        constant = spread <= 0
        ratio = np.divide(residual, spread, out=(residual > 0).astype(float), where=~constant)
        return float(np.mean(1 - ratio))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
