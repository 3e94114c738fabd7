"""Model files: arrays in an npz archive beside a JSON header. Nothing in them is ever executed.

# Design:
#   header   what it is (format, version, class), parameters that JSON can hold, labels, counts
#   arrays   the weight row, every agent's row, moments, classes, history columns, the graph's edges and weights
#   A parameter that is an object (a Penalty, a graph, a callback) cannot be held: its repr is, and `load` warns.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import scipy.sparse

import dnnext
from dnnext import _version, algorithms, local, models, preprocessing, problem
from dnnext.estimators.data import Moments, channel_shape
from dnnext.estimators.fitted import FittedNetwork
from dnnext.estimators.graph import Graph
from dnnext.estimators.groups import Parted
from dnnext.estimators.notices import warn_user
from dnnext.estimators.regimes import check_network, is_tangent
from dnnext.estimators.renamed import translated
from dnnext.estimators.results import set_curves, set_network
from dnnext.estimators.rows import plain_labels
from dnnext.estimators.targets import Classes, LabelSets, Numbers
from dnnext.models import MLP, Linearised
from dnnext.models.model import check_model, input_shape
from dnnext.network import Topology
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.runs.archive import read_archive, write_archive
from dnnext.runs.snapshot import Snapshot

FORMAT, VERSION = "dnnext model", 1
ESTIMATORS = (
    "DecentralizedClassifier",
    "DecentralizedMLPClassifier",
    "DecentralizedMLPRegressor",
    "DecentralizedRegressor",
)
KINDS = {  # classes whose objects a file can hold, by name: those of the package that are their parameters
    name: kind
    for package in (models, problem, local, algorithms, preprocessing)
    for name, kind in ((name, getattr(package, name)) for name in package.__all__)
    if isinstance(kind, type) and hasattr(kind, "get_params")
}
COUNTS = ("n_iter_", "converged_", "status_", "n_agents_", "n_outputs_", "n_features_in_", "best_validation_score_")


def save(estimator: Any, path: str | os.PathLike[str], notes: dict[str, Any] | None = None) -> None:
    """Write a fitted estimator to `path`; `notes` is a dict of JSON values kept beside it (see `read_notes`).

    The file is written beside its place first and then moved, so a crash leaves no half file.

    Raises
    ------
    ValueError
        If class labels are neither text nor numbers.
    """
    if isinstance(estimator._network, Parted):
        check_network(estimator, "save()")
    params, objects = split_params(estimator.get_params(deep=False))
    network = estimator._network
    base = network.model.model if is_tangent(estimator) else network.model
    header = {
        "format": FORMAT,
        "version": VERSION,
        "dnnext": _version.__version__,
        "class": type(estimator).__name__,
        "params": params,
        "objects": objects,
        "model": held_object(base),
        "counts": {name: _plain(getattr(estimator, name)) for name in COUNTS if hasattr(estimator, name)},
        "targets": _plain_targets(estimator._y),
        "row_shape": list(estimator._row_shape),
        "loss": estimator._y.loss if isinstance(estimator._y.loss, str) else None,
        "feature_names": getattr(estimator, "feature_names_in_", np.empty(0)).tolist() or None,
        "labels": getattr(estimator, "_labels", None),
        "notes": notes or {},
    }
    arrays = {"row": network.row} | ({"start": network.model.w0} if is_tangent(estimator) else {})
    if hasattr(estimator, "preprocessor_"):
        header["preprocessor"] = estimator.preprocessor_.to_dict()
    arrays |= {f"moments.{name}": getattr(network.moments, name) for name in Moments.__dataclass_fields__}
    arrays |= {f"history.{name}": column for name, column in estimator.history_.items()}
    if hasattr(estimator, "classes_"):
        arrays["classes"] = plain_labels("classes_", estimator.classes_)
    if estimator._agent_rows is None:  # one agent's view
        header["view"] = {"label": _plain(estimator.label), "n_samples": int(estimator.n_samples)}
    else:
        arrays["agents"] = estimator._agent_rows
        header["agents"] = {"labels": [_plain(v) for v in estimator._graph.labels], "rows": estimator._agent_samples}
    if isinstance(estimator.topology_, Topology):
        mixing = estimator.topology_.mixing.tocoo()
        arrays |= {"mixing.row": mixing.row, "mixing.column": mixing.col, "mixing.weight": mixing.data}
        edges = scipy.sparse.coo_array(estimator.topology_.adjacency)
        arrays |= {"edges.row": edges.row, "edges.column": edges.col}
        header["topology"] = estimator.topology_.name
    else:
        header["schedule"] = repr(estimator.topology_)
    if estimator._progress is not None:
        arrays |= {f"progress.{name}": np.asarray(value) for name, value in estimator._progress.agents.items()}
        header["progress"] = estimator._progress.numbers
    write_archive(path, header, arrays, compressed=True)


def load(path: str | os.PathLike[str]) -> Any:
    """The fitted estimator that `save` wrote to `path`.

    Parameters
    ----------
    path : str or path
        A file written by the method `save` of an estimator.

    Returns
    -------
    DecentralizedClassifier, DecentralizedRegressor, or a kind of them

    Raises
    ------
    ValueError
        If the file is no model file, is damaged, or was written by a newer format.

    Warns
    -----
    UserWarning
        If a parameter was an object that a file cannot hold; predictions are the same, a new fit would not be.

    Examples
    --------
    >>> import os, tempfile, dnnext
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = dnnext.DecentralizedMLPClassifier(n_agents=3, max_iter=30, tol=1e-2, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save(os.path.join(folder, "m.npz"))
    ...     again = dnnext.load(os.path.join(folder, "m.npz"))
    >>> bool((again.predict(X) == clf.predict(X)).all())
    True
    """
    header, arrays = read_archive(path, FORMAT, VERSION)
    try:
        _check_arrays(header, arrays)
        return _rebuild(header, arrays)
    except UserWarning:  # where warnings are errors
        raise
    except Exception as error:  # what a damaged file can make its readers raise has no end
        raise ValueError(f"{os.fspath(path)!r} is a damaged model file: {error!r}.") from error


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that `save` kept beside the model; ValueError if they are no dict, or the file is no model file."""
    notes = read_archive(path, FORMAT, VERSION)[0].get("notes", {})
    if not isinstance(notes, dict):
        raise ValueError(f"{os.fspath(path)!r} is a damaged model file: its notes are {type(notes).__name__}.")
    return notes


def _check_arrays(header, arrays):
    """ValueError unless the arrays are as the header describes them: kinds, shapes, finite numbers."""
    model = _model(header, arrays)
    inputs, outputs = input_shape(model), model.n_outputs
    scales, n_params = channel_shape(inputs), model.layout.n_params
    n_agents = 0 if "view" in header else len(header["agents"]["labels"])
    for name, array in arrays.items():
        wanted = "iu" if name.startswith("edges.") else "US" if array.dtype.kind in "US" else "biuf"
        if array.dtype.kind not in wanted or (wanted == "US" and name != "classes"):
            raise ValueError(f"{name} holds {array.dtype}")
    shapes = {"row": (n_params,), "moments.x_mean": scales, "moments.x_scale": scales}
    shapes |= {"start": (n_params,)} if "start" in arrays else {}
    shapes |= {"moments.y_mean": (outputs,), "moments.y_scale": (outputs,)}
    shapes |= {} if "view" in header else {"agents": (n_agents, n_params)}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} must be {shape} finite numbers, got {array.dtype} {array.shape}")
        if name.endswith("scale") and not (array > 0).all():
            raise ValueError(f"{name} must be above zero")
    if arrays["row"].dtype not in (np.float32, np.float64) or (
        n_agents and arrays["agents"].dtype != arrays["row"].dtype
    ):
        raise ValueError(f"row is {arrays['row'].dtype}")
    columns = [arrays[f"history.{name}"] for name in ("iteration", "objective")]
    if not all(c.shape == columns[0].shape == (c.size,) and np.isfinite(c).all() for c in columns):
        raise ValueError("the history is not whole")
    if header["class"].endswith("Classifier") and header.get("targets", {}).get("kind") != "LabelSets":
        n_classes = len(arrays["classes"])
        if arrays["classes"].ndim != 1 or outputs != (1 if n_classes == 2 else n_classes):
            raise ValueError(f"{n_classes} classes for {outputs} outputs")
    counts = header["counts"]
    held = header.get("preprocessor")
    made = None if held is None else NetworkPreprocessor.from_dict(held)
    width = inputs[:1] * 2 if made is None else (made.n_features_in_, len(made.get_feature_names_out()))
    if counts.keys() - set(COUNTS) or width != (counts["n_features_in_"], inputs[0]):
        raise ValueError("the counts do not fit the network")
    nodes = len(np.unique(arrays["mixing.row"])) if "mixing.row" in arrays else n_agents
    if type(counts["n_agents_"]) is not int or counts["n_agents_"] not in (nodes, n_agents):
        raise ValueError(f"the network has {nodes} nodes, not {counts['n_agents_']!r}")


def _rebuild(header, arrays):
    if header["class"] not in ESTIMATORS:
        raise ValueError(f"the model file holds a {header['class']!r}, which this version of dnnext does not know.")
    estimator = getattr(dnnext, header["class"])(**revive_params(header["params"]))
    if header["objects"]:
        names = ", ".join(f"{name}={text}" for name, text in header["objects"].items())
        warn_user(
            f"The model was fitted with {names}, which a model file cannot hold: it predicts as before, but a new fit "
            "would use the default instead.",
        )
    for name, value in header["counts"].items():
        setattr(estimator, name, value)
    if header.get("loss"):
        estimator._settled = {"loss": header["loss"]}
    if header["feature_names"]:
        estimator.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    estimator._labels = header.get("labels")
    if header.get("preprocessor") is not None:
        estimator.preprocessor_ = NetworkPreprocessor.from_dict(header["preprocessor"])
    if "classes" in arrays:
        estimator.classes_ = arrays["classes"]
    model = _model(header, arrays)
    estimator._y = _targets(header, arrays, model.n_outputs, estimator.loss)
    estimator._row_shape = input_shape(model)
    moments = Moments(**_below(arrays, "moments"))
    set_network(estimator, FittedNetwork(model, arrays["row"], moments))
    estimator.history_ = _below(arrays, "history")
    set_curves(estimator)
    _revive_network(estimator, header, arrays)
    return estimator


def _revive_network(estimator, header, arrays):
    """The graph, the agents' rows and what partial_fit goes on from."""
    estimator.topology_ = None
    if "topology" in header:
        n = estimator.n_agents_
        where = (arrays["mixing.row"], arrays["mixing.column"])
        mixing = scipy.sparse.csr_array((arrays["mixing.weight"], where), shape=(n, n))
        edges = (np.ones(len(arrays["edges.row"]), bool), (arrays["edges.row"], arrays["edges.column"]))
        adjacency = scipy.sparse.csr_array(edges, shape=(n, n))
        estimator.topology_ = Topology(adjacency, weights=mixing, name=header["topology"])
    progress = _below(arrays, "progress")
    if progress and "progress" not in header:  # written before numbers stood in the header
        header["progress"] = {name: value.item() for name, value in progress.items() if value.ndim == 0}
        progress = {name: value for name, value in progress.items() if value.ndim > 0}
        progress |= {"received": progress.pop("heard"), "w_hat": progress["w"], "values": np.zeros(len(progress["w"]))}
    revived = Snapshot(progress, {}, header.get("progress", {}))
    estimator._progress = revived if progress and estimator.topology_ is not None else None
    if "view" in header:
        estimator._agent_rows = None
        estimator.label, estimator.n_samples = header["view"]["label"], header["view"]["n_samples"]
        return
    estimator._agent_rows, estimator._agent_samples = arrays["agents"], header["agents"]["rows"]
    estimator._graph = Graph(estimator.topology_, header["agents"]["labels"])


def _model(header, arrays):
    """The model of the file, or its tangent at the start that the file holds; earlier versions held an MLP's layers."""
    if "model" in header:
        model = check_model(revive(header["model"]))
    else:
        model = MLP(header["layers"], activation=header["activation"])
    return Linearised(model, arrays["start"]) if "start" in arrays else model


def _targets(header, arrays, n_outputs, loss):
    """The Targets of the file; earlier versions held whether y was (n,)."""
    held = header.get("targets") or {"kind": "Classes" if "classes" in arrays else "Numbers"}
    loss = header.get("loss") or ("poisson" if held.get("is_log") else loss)
    if held["kind"] == "Classes":
        return Classes(arrays["classes"], loss)
    if held["kind"] == "LabelSets":
        return LabelSets(n_outputs, loss)
    return Numbers(n_outputs, bool(held.get("is_flat", header.get("y_is_flat"))), loss)


def _plain_targets(targets):
    """What the header holds of what y held."""
    own = {name: getattr(targets, name) for name in ("is_flat", "is_log") if hasattr(targets, name)}
    return {"kind": type(targets).__name__, **own}


def held_object(value):
    """A value as JSON holds it: numbers, text, lists, and objects of this package by class and parameters.

    Raises
    ------
    TypeError
        If JSON cannot hold it.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, tuple):
        return {"tuple": [held_object(v) for v in value]}
    if isinstance(value, list):
        return [held_object(v) for v in value]
    if isinstance(value, dict):
        return {"pairs": [[held_object(k), held_object(v)] for k, v in value.items()]}
    kind = type(value)
    if KINDS.get(kind.__name__) is kind:
        return {"class": kind.__name__, "params": {k: held_object(v) for k, v in value.get_params(deep=False).items()}}
    if not (value is None or isinstance(value, (bool, int, float, str))):
        raise TypeError(f"{value!r} cannot be held")
    json.dumps(value, allow_nan=False)
    return value


def _below(arrays, prefix):
    """{name: array} of the arrays called prefix.name."""
    return {key.removeprefix(prefix + "."): value for key, value in arrays.items() if key.startswith(prefix + ".")}


def _plain(value):
    """A JSON value: numpy scalars become Python's, what JSON cannot hold becomes text."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def split_params(params):
    """(parameters JSON can hold, reprs of those it cannot)."""
    held, objects = {}, {}
    for name, value in params.items():
        try:
            held[name] = held_object(value)
        except (TypeError, ValueError):
            objects[name] = repr(value)
    return held, objects


def revive_params(params):
    """The constructor's parameters from what `split_params` held, also of an earlier version."""
    return translated({name: revive(value) for name, value in params.items()})


def revive(value):
    """A value as it was before `held_object`; only the constructors of this package's own classes are called."""
    if isinstance(value, list):
        return [revive(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(revive(v) for v in value["tuple"])
    if "class" in value:
        return KINDS[value["class"]](**{str(name): revive(v) for name, v in value["params"].items()})
    return {revive(k): revive(v) for k, v in value["pairs"]}
