"""Every wrong argument is refused by a sentence that names it, before any iteration."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_iris, load_linnerud

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.callbacks import Checkpoint
from dnnext.local import PartialLinearization
from dnnext.network import Topology
from dnnext.problem import L2

X, Y = load_iris(return_X_y=True)


def refuse(name, kind=DecentralizedMLPClassifier, data=(X, Y), fit=None, **params):
    def bomb(state, metrics):
        raise AssertionError("an iteration was run")

    estimator = kind(**{"callbacks": [bomb], **params})
    with pytest.raises(ValueError, match=name) as caught:
        estimator.fit(*data, **(fit or {}))

    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", 0),
        ("hidden_layer_sizes", (3, -1)),
        ("hidden_layer_sizes", "20"),
        ("hidden_layer_sizes", np.array(3)),
        ("activation", "swish"),
        ("loss", "huber"),
        ("penalty", "l0"),
        ("alpha", -1.0),
        ("alpha", np.array("auto")),
        ("alpha", float("nan")),
        ("alpha", [1e-3, 1e-3, 1e-3]),
        ("l1_ratio", 1.5),
        ("n_agents", 0),
        ("n_agents", 2.5),
        ("topology", "donut"),
        ("topology", 3),
        ("mixing_rounds", 0),
        ("algorithm", "adam"),
        ("partition", "random"),
        ("standardize", "yes"),
        ("dtype", "float16"),
        ("dtype", None),
        ("max_iter", 0),
        ("tol", -1),
        ("early_stopping", 1),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("engine", "ray"),
        ("engine_options", {"timeout": 60}),
        ("max_time", 0),
        ("monitor_every", 0),
        ("n_jobs", 0),
        ("warm_start", None),
        ("callbacks", [3]),
        ("callbacks", [Checkpoint]),
        ("verbose", -1),
        ("random_state", -1),
    ],
)
def test_parameter(name, value):
    params = {name: value}
    sentence = refuse(name, **({"callbacks": value} if name == "callbacks" else params))
    assert str(value) in sentence or repr(value) in sentence or name == "alpha"


@pytest.mark.parametrize("name", ["dtype", "engine_options", "algorithm", "tangents", "max_iter"])
def test_an_array_in_place_of_a_parameter_is_a_short_sentence(name):
    assert len(refuse(f"{name} must be .*, got <ndarray of shape", **{name: X})) < 200


def test_parts_of_words_are_not_set():
    with pytest.raises(ValueError, match="algorithm must be an object to set algorithm__tau, got 'next'; pass"):
        DecentralizedMLPClassifier().set_params(algorithm__tau=1.0)
    with pytest.raises(ValueError, match="tangents must be an object to set tangents__mu, got None"):
        DecentralizedMLPClassifier().set_params(tangents__mu=1.0)
    both = DecentralizedMLPClassifier().set_params(algorithm=NEXT(), algorithm__tau=1.0)
    assert both.algorithm.tau == 1.0


def test_mixing_name_and_matrix():
    refuse("weights", mixing="mean")
    refuse("mixing", mixing=np.eye(3))
    path = nx.path_graph(3)
    refuse("doubly stochastic|sum", topology=nx.to_scipy_sparse_array(path), mixing=np.ones((3, 3)))


def test_disconnected_graph():
    refuse("connected", topology=nx.disjoint_union(nx.path_graph(3), nx.path_graph(3)))
    refuse("connected", topology=scipy.sparse.csr_array(np.eye(4)[[1, 0, 3, 2]]))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"loss": "squared_hinge", "algorithm": NEXT(PartialLinearization(curvature="shared"))},
            "curvature does not depend on the targets",
        ),
        ({"penalty": L2(1e-3), "alpha": 1e-3}, "alpha is 0.001"),
    ],
)
def test_parameters_that_do_not_fit_together(params, words):
    refuse(words, **params)


def test_data():
    hole = X.copy()
    hole[3, 1] = np.nan
    refuse("NaN", data=(hole, Y))
    hole[3, 1] = np.inf
    refuse("infinity", data=(hole, Y))
    refuse("inconsistent numbers of samples", data=(X, Y[:-1]))
    refuse("one class only", data=(X, np.zeros(len(X))))
    refuse("one class only", fit={"sample_weight": (Y == 1).astype(float)})
    refuse("Unknown label type", data=(X, np.linspace(0, 1, len(X))))
    refuse("too large to standardise", data=(X * 1e200, Y))


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ({"sample_weight": np.ones(3)}, r"sample_weight.shape == \(3,\)"),
        ({"sample_weight": -np.ones(150)}, "sample_weight is -1.0 in row 0"),
        ({"sample_weight": np.zeros(150)}, "zero in every row"),
        ({"agent": np.zeros(3)}, r"agent has shape \(3,\)"),
        ({"agent": [None] + ["a"] * 149}, "agent has no label in row 0"),
        ({"agent": np.array([1] + ["a"] * 149, dtype=object)}, "agent mixes labels"),
        ({"eval_set": X}, "eval_set must be a pair"),
        ({"eval_set": (X, Y + 1)}, "eval_set holds the label 3"),
        ({"eval_set": (X[:, :2], Y)}, "features"),
    ],
)
def test_what_comes_beside_the_data(fit, words):
    refuse(words, fit=fit)


def test_labels_that_are_no_nodes():
    graph = nx.relabel_nodes(nx.path_graph(3), dict(enumerate("abc")))
    refuse("label 'z', which is no node", topology=graph, fit={"agent": np.array(list("abz") * 50)})
    refuse("label 4, which is no node", topology=Topology.ring(4), fit={"agent": np.arange(150) % 8})


def test_regressor():
    refuse("loss", DecentralizedMLPRegressor, loss="log_loss")
    inputs, targets = load_linnerud(return_X_y=True)
    refuse("NaN", DecentralizedMLPRegressor, data=(inputs, np.where(targets > 150, np.nan, targets)))


@pytest.mark.parametrize(
    ("agents", "words"),
    [
        ([], "agents is empty"),
        ([(X, Y), X], r"agents\[1\] must be"),
        ([(X, Y), (X[:0], Y[:0])], r"agents\[1\] is empty"),
        ([(X, Y), (X[:, :2], Y)], r"agents\[1\] has shape \(150, 2\)"),
        ([(X, Y), (X, Y[:3])], r"y of agents\[1\]"),
    ],
)
def test_fit_agents(agents, words):
    with pytest.raises(ValueError, match=words):
        DecentralizedMLPClassifier().fit_agents(agents)


def test_partial_fit():
    clf = DecentralizedMLPClassifier(n_agents=2)
    with pytest.raises(ValueError, match="classes must hold all labels"):
        clf.partial_fit(X, Y)
    clf.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="label 3"):
        clf.partial_fit(X, Y + 3)
    with pytest.raises(ValueError, match="must not change"):
        clf.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="no node of the graph"):
        clf.partial_fit(X, Y, agent=np.full(150, 9))
    with pytest.raises(ValueError, match="centralized"):
        DecentralizedMLPClassifier(algorithm="centralized").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class_weight"):
        DecentralizedMLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
