"""Classification by a neural network that agents train together."""

from __future__ import annotations

import json

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from dnnext.estimators.base import DecentralizedMLP
from dnnext.estimators.fitted import check_warm_classes
from dnnext.estimators.renamed import with_old_names
from dnnext.estimators.rows import check_weight, joined_labels, plain_labels, sorted_labels


def _has_probabilities(estimator):
    if estimator._trained_loss == "squared_hinge":
        raise AttributeError("loss='squared_hinge' has no probabilities; use loss='log_loss', or decision_function.")
    return True


def balanced(total):
    """Weight of each class, ``sum_l t_l / (K t_k)``, from the sums t (n_classes,) of the rows' weights; K classes have
    some.
    """
    held = total > 0
    return np.divide(total.sum(), held.sum() * total, out=np.ones(len(total)), where=held)


class DecentralizedMLPClassifier(ClassifierMixin, DecentralizedMLP):
    """A multilayer perceptron that classifies, trained by agents that keep their rows and talk to neighbours only.

    Minimises ``U(w) = (1/N) sum_i sum_(m in S_i) c_m loss(d_m, f(w; x_m)) + r(w)`` over the weights w, where agent i
    alone sees the rows S_i, by NEXT [1]_, [2]_: every agent minimises a strongly convex model of its own cost plus the
    tracked gradient of the others', then averages with its neighbours. No learning rate.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(20,)
        Units of each hidden layer; an empty sequence is a linear model.
    activation : {'tanh', 'logistic', 'relu', 'softplus', 'identity', 'square'}, default='tanh'
        Activation of the hidden layers; the output is linear.
    loss : {'auto', 'log_loss', 'squared_hinge'}, default='auto'
        'auto' is 'log_loss': logistic for two classes, softmax beyond. 'squared_hinge' has no probabilities.
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
        Scale inputs with moments taken over the whole network.
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
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, multiplied into `sample_weight`; 'balanced' counts over the whole network.
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
    classes_ : ndarray
        Labels, sorted; the union over agents.
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
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import DecentralizedMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier(n_agents=5, topology="ring", max_iter=50, tol=1e-3, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.95
    True
    >>> len(clf.agents_), clf.agents_[0].n_samples
    (5, 30)
    """

    _kind = "classifier"

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
        class_weight=None,
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
        self.class_weight = class_weight
        self.max_time = max_time
        self.monitor_every = monitor_every
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    def partial_fit(self, X, y, classes=None, sample_weight=None, agent=None):
        """One iteration on these rows in place of those seen before; moments stay those of the first call.

        The trackers move by ``y += grad_new(w) - grad_old(w)``, so that they keep tracking the network's gradient. The
        first call, if `fit` did not come before, settles moments and graph: bring enough rows. Between calls with other
        rows tau stays as it is: gradients of different rows say nothing of curvature.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
        y : array-like (n,)
        classes : array-like, optional
            All labels that may ever come; needed at the first call unless `fit` came before.
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Labels known from the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For labels outside of classes, or classes that change, and for parameters that one iteration cannot heed
            (early_stopping, callbacks, max_time) or that only `fit` can change (topology, loss).
        FloatingPointError
            If the objective is not finite.

        Warns
        -----
        ConvergenceWarning
            If an agent began to diverge; the weights of before are kept and tau is raised tenfold.
        """
        return self._partial_fit(X, y, sample_weight, agent, classes)

    def predict(self, X):
        """The most likely label of every row.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n,)
        """
        decided = self._decide(self._raw(X))
        return self.classes_[decided]

    def decision_function(self, X):
        """Raw outputs: (n,) log-odds or margins of ``classes_[1]`` for two classes, (n, n_classes) beyond.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray
        """
        raw = self._raw(X)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Probability of every class; only with ``loss='log_loss'``.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n, n_classes)
        """
        raw = self._raw(X)
        return np.hstack([expit(-raw), expit(raw)]) if raw.shape[1] == 1 else softmax(raw, axis=1)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X):
        """Logarithm of `predict_proba`, computed without leaving the log scale.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n, n_classes)
        """
        raw = self._raw(X)
        return np.hstack([log_expit(-raw), log_expit(raw)]) if raw.shape[1] == 1 else log_softmax(raw, axis=1)

    @staticmethod
    def _decide(raw):
        return (raw[:, 0] > 0).astype(np.intp) if raw.shape[1] == 1 else np.argmax(raw, axis=1)

    def _learn_targets(self, y, weight):
        labels, codes = sorted_labels("y", y)
        check_classification_targets(y)
        check_warm_classes(self, labels)
        self.classes_, self._balance = labels, None
        present = np.unique(codes[weight > 0])
        if len(present) < 2:
            raise ValueError(
                f"y holds one class only ({self.classes_[present].tolist()[0]!r}) in rows with a weight above zero; "
                "a classifier needs at least two classes."
            )
        return codes

    def _encode(self, y, name):
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"{name} holds the label {unknown.tolist()[0]!r}, which is not among the classes {self.classes_}."
            )
        return np.searchsorted(self.classes_, y)

    def _targets(self, codes):
        low = -1.0 if self.loss == "squared_hinge" else 0.0
        if len(self.classes_) == 2:
            return np.where(codes == 1, 1.0, low)[:, None]
        targets = np.full((len(codes), len(self.classes_)), low)
        targets[np.arange(len(codes)), codes] = 1.0
        return targets

    def _score_raw(self, raw, codes):
        return float(np.mean(self._decide(raw) == codes))

    def _score_columns(self, raw, codes, moments):
        right = self._decide(raw) == codes
        return np.stack([right, np.ones(len(right))], axis=1)

    def _score_of(self, sums):
        return float(sums[0] / sums[1])

    def _learn_targets_of_all(self, y, weight, ranks):
        self._balance = None
        with ranks.together():
            labels, codes = sorted_labels("y", column_or_1d(y))
            check_classification_targets(y)
            labels = plain_labels("y", labels)
        sent = [json.loads(text) for text in ranks.all_ranks(json.dumps([labels.dtype.str, labels.tolist()]))]
        every = [np.array(values, dtype=dtype) for dtype, values in sent]
        labels_of_all = np.unique(joined_labels(every, [f"rank {k}" for k in range(len(every))]))
        check_warm_classes(self, labels_of_all)
        self.classes_ = labels_of_all
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_.tolist()[0]!r}) on all ranks; two are needed.")
        if self.class_weight == "balanced":
            with ranks.together():
                weight = check_weight(weight, len(codes))
            places = np.searchsorted(self.classes_, labels[codes])
            own = np.bincount(places, weights=weight, minlength=len(self.classes_))
            self._balance = balanced(ranks.sum_agents(own[None]))

    def _class_weights(self, y, weight):
        if self.class_weight is None:
            return 1.0
        if isinstance(self.class_weight, str):
            codes = np.searchsorted(self.classes_, y)
            if self._balance is None:
                self._balance = balanced(np.bincount(codes, weights=weight, minlength=len(self.classes_)))
            return self._balance[codes]
        weight = compute_sample_weight(self.class_weight, y)
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(f"class_weight must hold finite numbers >= 0, got {self.class_weight!r}.")
        return weight
