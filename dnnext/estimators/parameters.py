"""The constructor parameters of the estimators: type, default and text of each, written once.

# Design:
#   The keywords that a constructor takes are a TypedDict, which editors and type checkers read; each of its entries
#   carries the default and the documentation, from which `documented.documented` makes signature and docstring. A new
#   parameter is one entry here and one rule in choices.RULES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypedDict

from dnnext.problem import Loss, Penalty, Tangents


class Given(NamedTuple):
    """What a parameter is without being given, what it may be, and what it does."""

    default: Any
    kinds: str
    text: str


class SharedParameters(TypedDict, total=False):
    """What all estimators take."""

    penalty: Annotated[
        str | Penalty | None,
        Given(
            "l2",
            "{'l2', 'l1', 'elasticnet', 'group', 'sparse_group'}, Penalty or None",
            "Regulariser r(w) of the weights; biases are exempt. Groups are the outgoing weights of a unit, inputs "
            "included.",
        ),
    ]
    alpha: Annotated[
        str | float | Sequence[float],
        Given(
            "auto",
            "'auto', float or one float per layer",
            "Strength per sample, the scale of Lasso (MLPClassifier's alpha divided by N); 'auto' is 5 / N with N the "
            "number of rows with a weight above zero, whatever the scale of the weights, in `partial_fit` all that "
            "came so far.",
        ),
    ]
    tangents: Annotated[
        Tangents | None,
        Given(
            None,
            "Tangents or None",
            "A term of the cost, ``mu R``, that holds derivatives of the raw outputs along directions of the inputs "
            "near targets: `dnnext.problem.Tangents`, with directions in units of X (of the preprocessor's output, "
            "where there is one). Partial linearisation linearises it. Its value and its share of the objective are "
            "columns of `history_`.",
        ),
    ]
    l1_ratio: Annotated[float, Given(0.5, "float", "Share of the l1 part in 'elasticnet' and 'sparse_group'.")]
    n_agents: Annotated[
        int, Given(8, "int", "Agents, where neither `agent` nor a graph gives their number; at most one per row.")
    ]
    topology: Annotated[
        Any,
        Given(
            "erdos_renyi",
            "str, networkx graph, adjacency matrix, Topology or Schedule",
            "Which agents exchange messages. A graph given as an object is taken as it is: its nodes are the agents, "
            "labels in `agent` are its node names (networkx) or 0..A-1, and a node without rows is a relay.",
        ),
    ]
    mixing: Annotated[
        Any,
        Given(
            "metropolis",
            "str or matrix",
            "How neighbours are averaged: 'metropolis', 'max_degree', 'laplacian', ``lazy_`` before any of them, or, "
            "with an adjacency matrix, a doubly stochastic matrix. A Topology or Schedule carries its own.",
        ),
    ]
    mixing_rounds: Annotated[
        str | int,
        Given(
            "auto",
            "'auto' or int",
            "Rounds of averaging per iteration; 'auto' contracts disagreement to 0.25 (shared and exact curvature: "
            "0.01).",
        ),
    ]
    algorithm: Annotated[
        Any,
        Given(
            "next",
            "{'next', 'newton', 'gradient_tracking', 'dgd', 'centralized'} or Algorithm",
            "The recipe. 'next' is `dnnext.algorithms.NEXT` with full linearisation if P > 5000 and the median agent "
            "has fewer than P / 2 rows, else with partial linearisation and ``curvature='auto'``, the choice between "
            "own curvature and that of all agents. In `fit` and `fit_agents`, whose callers have all rows, it may send "
            "sums of Gauss-Newton matrices (``share='curvature'``); in `fit_local` nothing beside weights and trackers "
            "(``share='nothing'``, so own curvature) unless you ask for more by an object; `partial_fit` uses own "
            "curvature. 'newton' (`dnnext.algorithms.Newton`) "
            "sends P^2 numbers and needs a fixed graph. Anything else is chosen with an object, such as "
            "``NEXT(PartialLinearization(n_blocks=4), tau=0.1)`` or ``NEXT(FullLinearization())``; a search then "
            "reaches ``algorithm__tau`` and ``algorithm__surrogate__n_blocks``.",
        ),
    ]
    regime: Annotated[
        str,
        Given(
            "full",
            "{'full', 'tangent', 'features'}",
            "What is trained: all weights; the network's linearisation at its start, which is affine in all weights "
            "(lazy training); or the last layer alone on the random features of the others. The last two are convex "
            "problems. `partial_fit` and ``warm_start`` need 'full'; a tangent has no `coefs_` and is not exported.",
        ),
    ]
    preprocess: Annotated[
        Any,
        Given(
            None,
            "{'auto'}, NetworkPreprocessor or None",
            "What makes inputs of data frames with text, categories and gaps, from counts and sums of the whole "
            "network; 'auto' is ``NetworkPreprocessor(standardize=False)``. Exports and `coefs_` then act on its "
            "output.",
        ),
    ]
    partition: Annotated[
        str,
        Given(
            "iid", "{'iid', 'label', 'dirichlet'}", "How `fit(X, y)` spreads rows over agents when no `agent` is given."
        ),
    ]
    standardize: Annotated[
        bool,
        Given(
            True,
            "bool",
            "Scale inputs, and a regressor's targets, with moments taken over the whole network: per column; images "
            "(n, c, h, w) per channel, images (n, h, w) by one number.",
        ),
    ]
    dtype: Annotated[
        Any,
        Given(
            "auto",
            "{'auto', 'float64', 'float32'}",
            "Precision of data and weights; 'auto' is float32 where X is, else float64; over ranks where X is on all.",
        ),
    ]
    max_iter: Annotated[int, Given(200, "int", "Most iterations.")]
    tol: Annotated[
        float,
        Given(
            1e-4,
            "float",
            "Stop when the objective falls by less than tol, relatively, over `n_iter_no_change` iterations.",
        ),
    ]
    early_stopping: Annotated[
        bool,
        Given(
            False,
            "bool",
            "Hold out rows at every agent (or take `eval_set`), stop when their score stalls, keep the best weights.",
        ),
    ]
    validation_fraction: Annotated[
        float,
        Given(
            0.1,
            "float",
            "Share of its rows an agent holds out, at most all but one; shares of a row are rounded at random.",
        ),
    ]
    n_iter_no_change: Annotated[float, Given(10, "int or infinity", "Iterations without progress before stopping.")]
    engine: Annotated[
        str,
        Given(
            "local",
            "{'local', 'mpi', 'nats', 'flare'}",
            "Where agents live: in this process, on the ranks of an MPI job, or at sites, with equal results.",
        ),
    ]
    engine_options: Annotated[
        dict[str, Any] | None,
        Given(
            None,
            "dict or None",
            "For 'mpi': timeout in seconds, on_failure ('stop' or 'shrink'), comm; for 'nats' and 'flare' see the "
            "guide on hospitals; 'local' has none.",
        ),
    ]
    max_time: Annotated[float | None, Given(None, "float or None", "Seconds of iterating after which to stop.")]
    monitor_every: Annotated[int, Given(1, "int", "Iterations between measurements.")]
    n_jobs: Annotated[
        int | None,
        Given(
            None,
            "int or None",
            "Threads. None is every core this process may use (OMP_NUM_THREADS counts); it changes no result.",
        ),
    ]
    warm_start: Annotated[
        bool,
        Given(False, "bool", "Start `fit` from the fitted weights (unless all are zero: nothing would move them)."),
    ]
    callbacks: Annotated[
        Sequence[Callable[..., Any]] | None,
        Given(
            None,
            "list of functions ``(state, metrics) -> bool`` or None",
            "Called every iteration; a true value ends the run.",
        ),
    ]
    verbose: Annotated[
        int,
        Given(
            0,
            "int",
            "1: progress, a bar on a terminal and in notebooks, elsewhere every tenth line on standard error; above 1: "
            "every line.",
        ),
    ]
    random_state: Annotated[
        Any,
        Given(
            None, "int, RandomState, Generator or None", "Seeds graph, partition, starting weights and held-out rows."
        ),
    ]


class ClassifierParameters(SharedParameters, total=False):
    """What classifiers take besides their model."""

    loss: Annotated[
        str,
        Given(
            "auto",
            "{'auto', 'log_loss', 'squared_hinge'}",
            "'auto' is 'log_loss': logistic for two classes and for each label of several, else softmax. "
            "'squared_hinge' has no probabilities.",
        ),
    ]
    class_weight: Annotated[
        dict[Any, float] | list[dict[int, float]] | str | None,
        Given(
            None,
            "dict, list of dict, 'balanced' or None",
            "Weights of the classes, multiplied into `sample_weight`; 'balanced' counts over the whole network. With "
            "several labels per row one dict ``{0: ..., 1: ...}`` per label, whose weights multiply.",
        ),
    ]


class RegressorParameters(SharedParameters, total=False):
    """What regressors take besides their model."""

    loss: Annotated[
        str | Loss,
        Given(
            "auto",
            "{'auto', 'squared_error', 'huber', 'poisson'} or Loss",
            "'auto' is 'squared_error', ``1/2 |d - f|^2``; 'huber' bends at 1.35 standard deviations of the target; "
            "'poisson' is for counts: the raw output is the logarithm of the mean.",
        ),
    ]


MODEL = Given(
    None,
    "Model or None",
    "What is trained, with its ends open: `dnnext.models.MLP` with None for inputs and outputs, `Chain`, or a model of "
    "your own; None is ``MLP([None, 20, None])``. A model other than MLP may take images, X (n, h, w) or (n, c, h, w).",
)
HIDDEN = Given((20,), "int or sequence of int", "Units of each hidden layer; an empty sequence is a linear model.")
ACTIVATION = Given(
    "tanh",
    "{'tanh', 'logistic', 'relu', 'softplus', 'identity', 'square'}",
    "Activation of the hidden layers; the output is linear.",
)
POSITIONAL = {"model": MODEL, "hidden_layer_sizes": HIDDEN, "activation": ACTIVATION}

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
        rows are held out; tangent_term and tangent_share with `tangents`; curvature where it was "auto", as it is by
        default (0 own, 1 shared, 2 exact).
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

CLASSES = """\
    classes_ : ndarray
        Labels, sorted; the union over agents. With several labels per row, 0 to L - 1.
"""
COST = """\
    Minimises ``U(w) = (1/N) sum_i sum_(m in S_i) c_m loss(d_m, f(w; x_m)) + r(w)`` over the weights w, where agent i
    alone sees the rows S_i, by NEXT [1]_, [2]_: every agent minimises a strongly convex model of its own cost plus the
    tracked gradient of the others', then averages with its neighbours. No learning rate.
"""
RAISES = """\
    ValueError
        In `fit`, for anything outside of what is stated here, before any iteration.
"""
REFERENCES = """\
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).
    .. [2] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, IEEE TSIPN 2 (2016).
"""
