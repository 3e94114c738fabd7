"""The parameters and attributes that all estimators share, written once."""

from __future__ import annotations

import inspect

PARAMETERS = """\
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
        Scale {what} with moments taken over the whole network: per column; images (n, c, h, w) per channel, images
        (n, h, w) by one number.
    dtype : {'auto', 'float64', 'float32'}, default='auto'
        Precision of data and weights; 'auto' is float32 where X is, else float64.
    max_iter : int, default=200
        Most iterations.
    tol : float, default=1e-4
        Stop when the objective falls by less than tol, relatively, over `n_iter_no_change` iterations.
    early_stopping : bool, default=False
        Hold out rows at every agent (or take `eval_set`), stop when their score stalls, keep the best weights.
    validation_fraction : float, default=0.1
        Share of its rows an agent holds out, at most all but one; shares of a row are rounded at random.
    n_iter_no_change : int or infinity, default=10
        Iterations without progress before stopping.
    engine : {'local', 'mpi'}, default='local'
        Where agents live: in this process, or in blocks on the ranks of an MPI job, with equal results.
    engine_options : dict or None, default=None
        For 'mpi': timeout in seconds, on_failure ('stop' or 'shrink'), comm; 'local' has none.
{class_weight}    max_time : float or None, default=None
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
"""

ATTRIBUTES = """\
    weights_ : dict of ndarray
        The arrays of the model by name, acting on standardised inputs.
    coefs_, intercepts_ : list of ndarray
        For an MLP, weights (n_in, n_out) and biases (n_out,) of each layer, acting on raw inputs; exact zeros stay.
    feature_importances_ : ndarray (d,)
        For an MLP, the norm of each input's outgoing weights, as shares.
    n_layers_, out_activation_ : int, str
        Layers, inputs counted as one, and the function of the raw outputs, as in scikit-learn.
    agents_ : list
        Each agent's own fitted view, with `n_samples` and `label`.
    history_ : dict of ndarray
        Equal-length columns: iteration, round, objective, stationarity, disagreement, tracking_error, tau, step, bytes
        (between neighbours), bytes_wire (all that left a rank), seconds; validation_score and validation_loss where
        rows are held out.
    loss_curve_, best_loss_, loss_ : list of float, float, float
        The objective of every measured iteration, its least, and its last.
    validation_scores_ : list of float or None
        The score on held-out rows of every measured iteration.
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
{classes}    n_outputs_ : int
        Raw outputs of the network.
    n_features_in_, feature_names_in_ : int, ndarray of str
        As in scikit-learn.
"""

CLASS_WEIGHT = """\
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, multiplied into `sample_weight`; 'balanced' counts over the whole network.
"""
CLASSES = """\
    classes_ : ndarray
        Labels, sorted; the union over agents. With several labels per row, 0 to L - 1.
"""
HIDDEN = """\
    hidden_layer_sizes : int or sequence of int, default=(20,)
        Units of each hidden layer; an empty sequence is a linear model.
    activation : {'tanh', 'logistic', 'relu', 'softplus', 'identity', 'square'}, default='tanh'
        Activation of the hidden layers; the output is linear.
"""
MODEL = """\
    model : Model or None, default=None
        What is trained, with its ends open: `dnnext.models.MLP` with None for inputs and outputs, `Chain`, or a model
        of your own; None is ``MLP([None, 20, None])``. A model other than MLP may take images, X (n, h, w) or
        (n, c, h, w).
"""
REFERENCES = """\
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).
    .. [2] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, IEEE TSIPN 2 (2016).
"""


def documented(kind):
    """The class with the shared parts of its docstring filled in."""
    is_classifier = kind._kind == "classifier"
    texts = {
        "model": MODEL,
        "hidden": HIDDEN,
        "parameters": PARAMETERS.replace("{class_weight}", CLASS_WEIGHT if is_classifier else "").replace(
            "{what}", "inputs" if is_classifier else "inputs and targets"
        ),
        "attributes": ATTRIBUTES.replace("{classes}", CLASSES if is_classifier else ""),
        "references": REFERENCES,
    }
    for name, text in texts.items():
        kind.__doc__ = kind.__doc__.replace("    {" + name + "}\n", text)
    return kind


def keep(estimator, given):
    """Set the constructor's parameters as they were given: `given` is locals()."""
    for name in inspect.signature(type(estimator).__init__).parameters:
        if name != "self":
            setattr(estimator, name, given[name])
