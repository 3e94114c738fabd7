"""What an estimator makes of the X and y that it is given: inputs of the network and codes of the targets.

# Design:
#   With the parameter `preprocess` a NetworkPreprocessor is fitted before anything else looks at the rows, on all rows
#   or over ranks, and kept as `preprocessor_`. Everything below sees its output. `n_features_in_` and
#   `feature_names_in_` describe the columns of X, as in scikit-learn; the inputs of the network are
#   `preprocessor_.get_feature_names_out()`. All functions take the estimator and leave on it what they learnt.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import _check_y, validate_data

from dnnext._checks import short
from dnnext.estimators import choices
from dnnext.estimators.fitted import check_warm_classes
from dnnext.estimators.rows import (
    FLOATS,
    Named,
    check_agent,
    check_weight,
    dense,
    plain_targets,
    real_numbers,
    whose_row,
)
from dnnext.estimators.targets import Classes, is_label_sets, learned
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.preprocessing.columns import is_frame
from dnnext.preprocessing.refusals import (
    check_numbers,
    column_names,
    dense_frame,
    in_order,
    precise,
    remember_labels,
)

SPARSE = ("csr", "csc", "coo")


def learn_inputs(estimator: Any, X: Any, sample_weight: Any, ranks: Any = None) -> None:
    """Fit `preprocessor_` anew; with ranks that hold rows of their own it is collective."""
    estimator.__dict__.pop("preprocessor_", None)
    made = make_preprocessor(estimator.preprocess)
    if made is None:
        return
    if isinstance(X, JoinedAgents):
        made = X.preprocessor
    elif ranks is None:
        made.fit(X, sample_weight=sample_weight)
    else:
        made.fit_local(X, sample_weight, ranks)
    estimator.preprocessor_ = made
    estimator.__dict__.pop("feature_names_in_", None)
    estimator.n_features_in_ = made.n_features_in_
    if hasattr(made, "feature_names_in_"):
        estimator.feature_names_in_ = made.feature_names_in_


@np.errstate(over="ignore", invalid="ignore")  # scikit-learn looks for infinities by adding up
def checked(estimator: Any, X: Any, y: Any = "no_validation", reset: bool = False) -> Any:
    """The inputs of the network, or (inputs, y), as scikit-learn checks them: dense, finite, float64 or float32."""
    has_y = not isinstance(y, str)
    y, targets = _readable(estimator, y) if has_y else (y, {})
    if hasattr(estimator, "preprocessor_"):
        x = X.rows if isinstance(X, JoinedAgents) else prepared_rows(estimator.preprocessor_, X)
        if has_y:
            y = _check_y(y, estimator=estimator, **targets)
            if len(y) != len(x):
                raise ValueError(f"y must hold one target per row of X ({len(x)}), got {len(y)}.")
    else:
        options = {"accept_sparse": SPARSE, "dtype": FLOATS, "allow_nd": takes_images(estimator), **targets}
        X = dense_frame(X)
        shape = getattr(X, "shape", None)
        if shape is not None:
            check_shape(estimator, tuple(shape), reset)
        check_numbers(X, ", of which preprocess='auto' makes some")
        fills = " preprocess='auto' fills gaps." if getattr(X, "ndim", 2) == 2 else ""
        with precise(X, getattr(estimator, "feature_names_in_", None), fills):
            found = validate_data(estimator, X, y, reset=reset, **options)
        remember_labels(estimator, X, reset)
        x, y = found if has_y else (found, y)
        x = dense(x)
        if shape is None:  # lists
            check_shape(estimator, x.shape, reset)
    if reset:
        estimator._row_shape = x.shape[1:]
    return (x, y) if has_y else x


def _readable(estimator: Any, y: Any) -> tuple[Any, dict[str, Any]]:
    """(y as a dense array, how scikit-learn checks it)."""
    y = plain_targets("Input y", dense(y if y is None or hasattr(y, "ndim") else np.asarray(y)))
    is_regressor = estimator._kind == "regressor"
    if is_regressor and getattr(getattr(y, "dtype", None), "kind", None) in ("O", "U"):
        y = real_numbers("y", y)
    if y is None or not (is_regressor or is_label_sets(y)):
        return y, {}
    return y, {"multi_output": True, "y_numeric": is_regressor}


@np.errstate(over="ignore", invalid="ignore")
def checked_rows(
    estimator: Any, X: Any, y: Any, sample_weight: Any, agent: Any, reset: bool, learn: bool = True
) -> tuple[Any, Any, Any, Any]:
    """(x, codes, weight, agent) of the rows that count: dense, finite, floats, weight > 0; `learn` what y holds."""
    X, names = X if isinstance(X, Named) else (X, None)
    try:
        x, y = checked(estimator, X, y, reset=reset)
    except ValueError as error:
        where = "" if agent is None or "Input X contains" not in str(error) else whose_row(X, agent)
        if where:
            raise ValueError(f"X must hold finite numbers, got NaN or infinity in {where}. {error}") from None
        raise
    if reset:
        estimator._precision = choices.make_dtype(estimator.dtype, x)
    if names is not None and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif names is not None and reset:
        estimator._labels = [str(name) for name in names]
    weight, agent = check_weight(sample_weight, len(x)), check_agent(agent, len(x))
    if learn or not hasattr(estimator, "_y"):
        estimator._balance = None
        set_targets(estimator, learned(estimator._kind, y, estimator.loss))
    codes = estimator._y.codes(y, "y")
    weight = weight * estimator._class_weights(y, codes, weight)
    keep = weight > 0
    if not keep.any():
        raise ValueError("class_weight must leave a row of weight above zero, got 0 for every class that y holds.")
    if learn:
        estimator._y.check(codes, weight)
    if keep.all():
        return x, codes, weight, agent
    return x[keep], codes[keep], weight[keep], None if agent is None else agent[keep]


def checked_eval_set(estimator: Any, eval_set: Any) -> Any:
    """(x, codes) of eval_set, or None."""
    if eval_set is None:
        return None
    if not isinstance(eval_set, (tuple, list)) or len(eval_set) != 2:
        raise ValueError(f"eval_set must be a pair (X, y), got {type(eval_set).__name__}.")
    x, y = checked(estimator, *eval_set)
    return x, estimator._y.codes(y, "eval_set")


def set_targets(estimator: Any, targets: Any) -> None:
    """What y holds from now on."""
    if isinstance(targets, Classes):
        check_warm_classes(estimator, targets.labels)
        estimator.classes_ = targets.labels
    estimator._y = targets


def takes_images(estimator: Any) -> bool:
    """Whether rows of X may have more than one dimension."""
    return "coefs" not in getattr(estimator._open_model(), "offers", ())


def check_shape(estimator: Any, shape: tuple[int, ...], reset: bool) -> None:
    """Refuse what scikit-learn would not, or not in terms of images: rows that are empty, or of another shape.

    Raises
    ------
    ValueError
        If rows have no numbers, are no tables where the model has a weight for every column, or differ from those that
        the model was trained on.
    """
    row = shape[1:]
    if len(shape) > 2 and not takes_images(estimator):
        raise ValueError(
            f"X must be a table (n, d) for {short(estimator._open_model())}, got the shape {shape}: reshape it to "
            f"{(shape[0], math.prod(row))}, or give DecentralizedClassifier or DecentralizedRegressor a model that "
            "takes images, such as a Chain."
        )
    if len(shape) > 2 and not all(row):
        raise ValueError(f"X must have a number in every row, got the shape {shape}.")
    if not reset and row != estimator._row_shape and max(len(row), len(estimator._row_shape)) > 1:
        one = " (X[None] is one row)" if shape == estimator._row_shape else ""
        raise ValueError(f"X has rows of shape {row}, but the model was trained on {estimator._row_shape}{one}.")


def input_names(estimator: Any) -> Any:
    """The names of the inputs of the network, or None."""
    if hasattr(estimator, "preprocessor_"):
        return estimator.preprocessor_.get_feature_names_out()
    return getattr(estimator, "feature_names_in_", None)


class JoinedAgents:
    """Rows of all agents that a preprocessor has been through, agent by agent."""

    def __init__(self, preprocessor: Any, blocks: list[Any]) -> None:
        self.preprocessor = preprocessor
        self.sizes = [len(block) for block in blocks]
        self.rows = np.concatenate(blocks)

    def __len__(self) -> int:
        return len(self.rows)


def make_preprocessor(preprocess: Any) -> Any:
    """The transformer that a parameter asks for, not fitted; None for None."""
    if preprocess is None:
        return None
    return NetworkPreprocessor(standardize=False) if preprocess == "auto" else clone(preprocess)


def prepared_rows(preprocessor: Any, X: Any) -> Any:
    """X (n, columns) as inputs (n, d): float32 where all of X is, else float64."""
    kinds = list(getattr(X, "dtypes", ())) if is_frame(X) else [getattr(X, "dtype", None)]
    return preprocessor.transform(X).astype(
        np.float32 if kinds and all(k == np.float32 for k in kinds) else np.float64, copy=False
    )


def prepare_agents(preprocess: Any, agents: list[Any]) -> tuple[list[Any], JoinedAgents]:
    """(agents with arrays of numbers, what was learnt): the preprocessor fitted on the rows of all.

    Data frames are matched by the names of their columns.
    """
    made = make_preprocessor(preprocess)
    names = column_names(agents[0][0])
    frames = [in_order(part[0], names, f"agents[{i}]") for i, part in enumerate(agents)]
    sizes = [X.shape[0] if hasattr(X, "shape") else len(X) for X in frames]
    given = [part[2] if len(part) == 3 else None for part in agents]
    weights = [check_weight(weight, n_rows) for weight, n_rows in zip(given, sizes, strict=True)]
    made.fit_agents(frames, weights)
    prepared = [prepared_rows(made, frame) for frame in frames]
    return [(x, *part[1:]) for x, part in zip(prepared, agents, strict=True)], JoinedAgents(made, prepared)
