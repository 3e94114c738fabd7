"""From an estimator's parameters to the objects that run: every value is checked here, before any data is touched.

# Design:
#   Two steps. `check_parameters` holds one line per parameter: what is allowed, in words, beside the test of it.
#   The `make_*` functions then turn names into objects of the packages below; an object passes through as it is. What
#   does not fit together is a sentence that names both parameters.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import joblib
import numpy as np

from dnnext import _checks, sites
from dnnext._checks import short
from dnnext.algorithms import DGD, NEXT, Algorithm, CentralizedSCA, GradientTracking, Newton
from dnnext.kernels import ACTIVATIONS
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models.risks import REGIMES
from dnnext.network import Network
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.problem import PENALTIES, Loss, Penalty, Tangents, make_penalty, row_parts
from dnnext.runs.result import is_callback

PARTITIONS = ("iid", "label", "dirichlet")
ALGORITHMS = ("next", "newton", "gradient_tracking", "dgd", "centralized")
MOST_THREADS = 1024  # the kernels take no more
LOSSES = {
    "classifier": ("auto", "log_loss", "squared_hinge"),
    "regressor": ("auto", "squared_error", "huber", "poisson"),
}


def _passes(check, *args, **options):
    """A test of a value out of a check that raises."""

    def test(value):
        try:
            check("", value, *args, **options)
        except ValueError:
            return False
        return True

    return test


def _whole(least):
    return _passes(_checks.check_count, least)


def _one_of(*names):
    return _passes(_checks.check_choice, names)


_above_zero = _passes(_checks.check_positive)
_zero_or_more = _passes(_checks.check_positive, allow_zero=True)


def _listed(names):
    return ", ".join(repr(name) for name in names if name is not None)


def _either(*tests):
    return lambda v: any(test(v) for test in tests)


def _truth(v):
    return isinstance(v, (bool, np.bool_))


def _nothing(v):
    return v is None


def _several(v):
    return isinstance(v, (list, tuple)) or (isinstance(v, np.ndarray) and v.ndim > 0)


def _sizes(v):
    return _whole(1)(v) or (_several(v) and all(_whole(1)(n) for n in v))


def _strengths(v):
    return _several(v) and len(v) > 0 and all(_zero_or_more(a) for a in v)


def _runs(v):
    return callable(getattr(v, "run", None)) and not isinstance(v, type)


def _dicts(v):
    return isinstance(v, list) and all(isinstance(d, dict) for d in v)


def _infinite(v):
    return isinstance(v, float | np.floating) and v == np.inf


WORDS: dict[str, Collection[Any]] = {  # what a misspelt word of a parameter may have meant
    "activation": ACTIVATIONS, "penalty": PENALTIES, "algorithm": ALGORITHMS, "regime": REGIMES, "alpha": ("auto",),
    "partition": PARTITIONS, "preprocess": ("auto",), "mixing_rounds": ("auto",), "class_weight": ("balanced",),
}  # fmt: skip
RULES = {
    "hidden_layer_sizes": ("an integer >= 1 or a sequence of them (empty for a linear model)", _sizes),
    "activation": (f"one of {_listed(ACTIVATIONS)}", _one_of(*ACTIVATIONS)),
    "penalty": (
        f"None, one of {_listed(PENALTIES)}, or a Penalty object",
        _either(_nothing, lambda v: isinstance(v, Penalty) or (isinstance(v, str) and v in PENALTIES)),
    ),
    "alpha": (
        "'auto' (5 / N), a number >= 0, or one number >= 0 per layer",
        _either(_one_of("auto"), _zero_or_more, _strengths),
    ),
    "tangents": (
        "None or an object of dnnext.problem.Tangents",
        _either(_nothing, lambda v: isinstance(v, Tangents)),
    ),
    "l1_ratio": ("a number in [0, 1]", _passes(_checks.check_between, 0, 1)),
    "n_agents": ("an integer >= 1", _whole(1)),
    "mixing_rounds": ("'auto' or an integer >= 1", _either(_one_of("auto"), _whole(1))),
    "algorithm": (f"one of {_listed(ALGORITHMS)} or an Algorithm object", _either(_one_of(*ALGORITHMS), _runs)),
    "regime": (f"one of {_listed(REGIMES)}", _one_of(*REGIMES)),
    "preprocess": (
        "None, 'auto' or a NetworkPreprocessor",
        lambda v: v is None or (isinstance(v, str) and v == "auto") or isinstance(v, NetworkPreprocessor),
    ),
    "partition": (f"one of {_listed(PARTITIONS)}", _one_of(*PARTITIONS)),
    "standardize": ("True or False", _truth),
    "max_iter": ("an integer >= 1", _whole(1)),
    "tol": ("a number >= 0", _zero_or_more),
    "early_stopping": ("True or False", _truth),
    "validation_fraction": (
        "a number strictly between 0 and 1",
        _passes(_checks.check_between, 0, 1, open_low=True, open_high=True),
    ),
    "n_iter_no_change": ("an integer >= 1 or infinity", _either(_whole(1), _infinite)),
    "engine_options": ("None or a dict", _either(_nothing, lambda v: isinstance(v, dict))),
    "max_time": ("None or a number of seconds > 0", _either(_nothing, _above_zero)),
    "monitor_every": ("an integer >= 1", _whole(1)),
    "n_jobs": (
        f"None, an integer from 1 to {MOST_THREADS}, or -1 for all cores",
        _either(_nothing, lambda v: _whole(-64)(v) and v != 0 and v <= MOST_THREADS),
    ),
    "warm_start": ("True or False", _truth),
    "callbacks": (
        "None or a list of functions (state, metrics) -> bool",
        _either(_nothing, lambda v: isinstance(v, (list, tuple)) and all(map(is_callback, v))),
    ),
    "verbose": ("True, False or an integer >= 0", _either(_truth, _whole(0))),
}


def check_parameters(estimator, kind):
    """Every constructor parameter against its rule.

    Raises
    ------
    ValueError
        A sentence: the parameter, its value, what is allowed.
    """
    p = estimator.get_params(deep=False)
    allowed = LOSSES[kind]
    rules = dict(RULES)
    if kind == "classifier":
        rules["class_weight"] = (
            "None, 'balanced', a dict of weights, or one dict per label of several",
            _either(_nothing, _one_of("balanced"), lambda v: isinstance(v, dict), _dicts),
        )
        rules["loss"] = (f"one of {_listed(allowed)}", _one_of(*allowed))
    else:
        rules["loss"] = (
            f"one of {_listed(allowed)} or a Loss object",
            _either(_one_of(*allowed), lambda v: isinstance(v, Loss)),
        )
    for name, (words, test) in rules.items():
        if name in p and not test(p[name]):
            near = _checks.nearest(p[name], allowed if name == "loss" else WORDS.get(name, ()))
            others = [other for other, losses in LOSSES.items() if name == "loss" and p[name] in losses]
            near = f" {p[name]!r} is a loss of a {others[0]}." if others else near
            raise ValueError(f"{name} must be {words}, got {short(p[name])}.{near}")
    if p.get("model") is not None and (isinstance(p["model"], type) or not hasattr(p["model"], "sized")):
        raise ValueError(
            f"model must be None or a Model with open ends, such as MLP([None, 20, None]), got {short(p['model'])}."
        )
    make_dtype(p["dtype"])
    check_engine(p)


def check_engine(p):
    """The engine and its options.

    Raises
    ------
    ValueError
        If the engine is unknown or does not have such an option.
    """
    sites.check_engine(p["engine"], p["engine_options"])


def make_dtype(name, x=None):
    """np.float64 or np.float32; "auto" is that of x."""
    try:
        named = isinstance(name, str | type | np.dtype)
        auto = np.float64 if x is None else x.dtype
        dtype = np.dtype(auto if isinstance(name, str) and name == "auto" else name) if named else None
    except TypeError:
        dtype = None
    if dtype is None or dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ValueError(f"dtype must be 'auto', 'float64' or 'float32', got {short(name)}.")
    return dtype


def make_hidden(sizes):
    """hidden_layer_sizes as a tuple of ints."""
    try:
        return (int(sizes),) if isinstance(sizes, Integral) else tuple(int(n) for n in sizes)
    except TypeError:
        raise ValueError(f"hidden_layer_sizes must be a whole number or several, got {short(sizes)}.") from None


def make_model(model, row_shape, n_outputs):
    """The model with its ends closed; row_shape is the shape of one row of X."""
    return model.sized(row_shape[0] if len(row_shape) == 1 else tuple(row_shape), n_outputs)


def make_penalty_object(name, alpha, l1_ratio, n_rows, n_layers):
    """Penalty object; alpha="auto" is 5 / n_rows."""
    if isinstance(name, Penalty):
        if not (isinstance(alpha, str) and alpha == "auto"):
            raise ValueError(
                f"alpha is {short(alpha)}, but penalty={short(name)} is an object that has its own strength: leave "
                "alpha='auto'."
            )
        return name
    if isinstance(alpha, str):
        alpha = 5.0 / n_rows
    elif isinstance(alpha, Real):
        alpha = float(alpha)
    elif len(alpha) != n_layers:
        raise ValueError(f"alpha must be one number, or one per layer ({n_layers} here), got {short(alpha)}.")
    else:
        alpha = [float(a) for a in alpha]
    return make_penalty(name, alpha=alpha, l1_ratio=float(l1_ratio))


def choose_surrogate(n_params, n_rows, share=None):
    """Full linearisation if P > 5000 and the median number of local rows is below P / 2, else partial: the faster.

    share: what agents may send each other of their curvature; None: each uses its own, and nothing is chosen.
    """
    holders = n_rows[n_rows > 0]
    if n_params > 5000 and np.median(holders) < n_params / 2:
        return FullLinearization()
    return PartialLinearization() if share is None else PartialLinearization(curvature="auto", share=share)


# What the default may send beside weights and trackers. `fit` and `fit_agents` are called with the rows of all agents,
# so every process has them, and sums of matrices disclose nothing; in `fit_local` rows are known to their rank alone,
# and to send more is the user's word. Another call of `partial_fit` brings other rows: own curvature.
SHARE = {"fit": "curvature", "fit_local": "nothing", "partial_fit": None}


def make_algorithm(algorithm, problem, share=None):
    """Algorithm object for `run(problem, network)`; one that was given is taken as it is. share: a value of `SHARE`."""
    if not isinstance(algorithm, str):
        return algorithm
    others = {"newton": Newton, "gradient_tracking": GradientTracking, "dgd": DGD}
    if algorithm in others:
        return others[algorithm]()
    sizes = row_parts.n_params(problem), problem.agent_rows
    if algorithm == "next":
        return NEXT(choose_surrogate(*sizes, share))
    return CentralizedSCA(choose_surrogate(*sizes))


def make_network(estimator, topology, algorithm, runtime):
    """Network for `run(problem, network)`, that mixes as far as the algorithm needs."""
    network = Network(topology, mixing_rounds=estimator.mixing_rounds, runtime=runtime)
    network.take_contraction(getattr(algorithm, "contract_to", Algorithm.contract_to))
    return network


def make_threads(n_jobs, n_here=1):
    """Threads of the kernels. None: a fair share of the cores this process may use, with n_here processes like it;
    OMP_NUM_THREADS, which joblib sets, counts.
    """
    if n_jobs is None:
        given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        return int(given) if given.isdigit() and int(given) > 0 else max(1, joblib.cpu_count() // n_here)
    return int(n_jobs) if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + int(n_jobs))
