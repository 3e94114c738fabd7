"""Estimators: any parameter, any data."""

import os
import tempfile

import numpy as np

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

from .data import beside, bulk, dressed, labels, rows
from .draw import REFUSALS, need

PARAMETERS = {
    "hidden_layer_sizes": [(3,), (), (1,), (2, 2), 4, (0,), (-1,), "3", None, (2.5,), np.array([2, 3]), (40,)],
    "activation": ["tanh", "logistic", "relu", "softplus", "identity", "swish", None],
    "loss": ["auto", "squared_hinge", "huber", "log_loss", "squared_error", 3],
    "penalty": ["l2", "l1", "elasticnet", "group", "sparse_group", None, "l0", 1],
    "alpha": ["auto", 0, 1e-3, 0.1, 10.0, 1e300, 1e-300, [1e-3, 1e-2], -1, np.nan, "big"],
    "l1_ratio": [0.5, 0, 1, 2, np.nan],
    "n_agents": [3, 1, 2, 7, 50, 0, -1, 2.5, "3", np.int64(4), True],
    "topology": ["ring", "path", "grid", "torus", "star", "complete", "hypercube", "exponential", "erdos_renyi",
                 "random_geometric", "watts_strogatz", "barabasi_albert", "donut", None, 5],
    "mixing": ["metropolis", "max_degree", "laplacian", "lazy_metropolis", "mean", None],
    "mixing_rounds": ["auto", 1, 3, 0, "all", 2.0],
    "algorithm": ["next", "gradient_tracking", "dgd", "centralized", "adam", None],
    "surrogate": ["auto", "partial", "full", "half"],
    "tau": ["auto", 1.0, 1e-12, 1e12, 1e-300, 1e300, 0, np.inf],
    "step": ["auto", 1.0, 0.3, 1e-12, 5.0, 1e300, 0],
    "n_blocks": [1, 2, 5, 1000, 0],
    "solver": ["auto", "primal", "dual", "cg", "fista", "qr"],
    "partition": ["iid", "label", "dirichlet", "odd"],
    "standardize": [True, False, "yes"],
    "dtype": ["float64", "float32", np.float32, "float16", "int"],
    "max_iter": [3, 1, 12, 0],
    "tol": [1e-4, 0, 1.0, 1e300, -1, np.nan],
    "early_stopping": [False, True, 1],
    "validation_fraction": [0.1, 0.5, 0.99, 0, 1],
    "n_iter_no_change": [10, 1, 0],
    "class_weight": [None, "balanced", {0: 2.0}, {0: 0.0, 1: 1.0}, {0: np.nan}, {0: 1e300}, {0: -1}, "odd"],
    "max_time": [None, 10.0, 1e-9, 0],
    "monitor_every": [1, 2, 50, 0],
    "n_jobs": [1, 2, -1, 0],
    "engine": ["local", "ray"],
    "engine_options": [None, {}, {"timeout": 1}],
    "callbacks": [None, [], [print], "f"],
    "random_state": [0, 1, None, -1, "seed", np.random.RandomState(0), 2**40],
}  # fmt: skip


def estimator(d, kind):
    """An estimator with a few parameters that are not the default."""
    params = {"max_iter": d.pick([3, 1, 6]), "n_jobs": 1, "random_state": 0, "hidden_layer_sizes": (3,), "n_agents": 3}
    for _ in range(d.pick([1, 2, 0, 3, 6])):
        name = d.pick(sorted(PARAMETERS))
        if kind is DecentralizedMLPRegressor and name == "class_weight":
            continue
        values = PARAMETERS[name]
        params[name] = d.usual(values)
    if params.get("callbacks") == [print]:
        params["callbacks"] = [lambda state, metrics: None]
    return kind(**params)


def target_of(d, kind, n):
    """y for the estimator."""
    if kind is DecentralizedMLPClassifier:
        return labels(d, n)
    return dressed(d, bulk(d, (n,) if d.chance(2) else (n, d.usual([1, 2, 0]))))


def sound(model, X, what=""):
    """A fitted model holds finite numbers and predicts finite numbers on rows it has seen."""
    for name in ("coefs_", "intercepts_"):
        need(all(np.isfinite(a).all() for a in getattr(model, name)), f"{what}{name} not finite")
    need(np.isfinite(model.history_["objective"]).all(), f"{what}objective not finite: {model.history_['objective']}")
    predicted = model.predict(X)
    if predicted.dtype.kind == "f":
        need(np.isfinite(predicted).all(), f"{what}predictions not finite")
    if hasattr(model, "classes_"):
        need(np.isfinite(model.decision_function(X)).all(), f"{what}decision_function not finite")
        if hasattr(model, "predict_proba"):
            need(np.allclose(model.predict_proba(X).sum(axis=1), 1), f"{what}probabilities do not sum to 1")
    return predicted


def same(a, b):
    """Whether two lists of predictions are equal."""
    return np.array_equal(a, b)


def fit(d):
    """fit, predict, the agents' views, a model file."""
    kind = d.pick([DecentralizedMLPClassifier, DecentralizedMLPRegressor])
    n, width = rows(d)
    X, y, extra = dressed(d, bulk(d, (n, width))), target_of(d, kind, n), beside(d, n)
    model = estimator(d, kind).fit(X, y, **extra)
    predicted = sound(model, X)
    for view in model.agents_[:2]:
        sound(view, X, "view: ")
    if d.chance(4):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "m.npz")
            model.save(path)
            need(same(dnnext.load(path).predict(X), predicted), "a loaded model predicts otherwise")
    if d.chance(4):
        n_new = d.pick([1, 0, 4])
        other = dressed(d, bulk(d, (n_new, width)))
        raw = model.predict(other)
        need(raw.dtype.kind != "f" or np.isfinite(raw).all(), "predictions of other rows not finite")
    return "fit"


def refit(d):
    """fit again with warm_start, partial_fit on changing rows."""
    kind = d.pick([DecentralizedMLPClassifier, DecentralizedMLPRegressor])
    n, width = d.pick([12, 30, 5]), d.pick([3, 1])
    model = estimator(d, kind)
    done = "nothing"
    for _ in range(3):
        X = bulk(d, (d.pick([n, 1, 3]), width))
        y = d.numbers().integers(0, 3, len(X)) if kind is DecentralizedMLPClassifier else bulk(d, (len(X),))
        extra = beside(d, len(X))
        how = d.pick(["partial_fit", "fit", "warm"])
        try:
            if how == "partial_fit":
                known = {"classes": [0, 1, 2]} if kind is DecentralizedMLPClassifier else {}
                model.partial_fit(X, y, **known, **extra)
            else:
                model.set_params(warm_start=how == "warm").fit(X, y, **extra)
        except REFUSALS:
            continue
        sound(model, X, f"{how}: ")
        done = "refit"
    return done


def agents(d):
    """fit_agents with agents of every size."""
    kind = d.pick([DecentralizedMLPClassifier, DecentralizedMLPRegressor])
    width, parts = d.usual([2, 1, 0]), []
    for _ in range(d.pick([3, 1, 0, 2])):
        n = d.usual([4, 1, 0, 9])
        X = dressed(d, bulk(d, (n, width if not d.chance(8) else width + 1)))
        part = (X, target_of(d, kind, n))
        parts.append((*part, np.ones(n)) if d.chance(4) else part)
    model = estimator(d, kind).fit_agents(parts)
    sound(model, parts[0][0])
    return "fit"
