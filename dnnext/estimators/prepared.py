"""Data frames with text, categories and gaps as inputs of an estimator: the parameter `preprocess`.

# Design:
#   A NetworkPreprocessor is fitted before anything else looks at the rows, on all rows or over ranks, and kept as
#   `preprocessor_`. Everything below sees its output. `n_features_in_` and `feature_names_in_` describe the columns of
#   X, as in scikit-learn; the inputs of the network are `preprocessor_.get_feature_names_out()`.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import _check_y, validate_data

from dnnext.estimators.rows import FLOATS, dense
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.preprocessing.columns import is_frame

SPARSE = ("csr", "csc", "coo")


class Prepared:
    """What estimators do with `preprocess`."""

    def _learn_inputs(self, X, sample_weight, ranks=None):
        """Fit `preprocessor_` anew; with ranks that hold rows of their own it is collective."""
        self.__dict__.pop("preprocessor_", None)
        made = make_preprocessor(self.preprocess)
        if made is None:
            return
        if isinstance(X, JoinedAgents):
            made = X.preprocessor
        elif ranks is None:
            made.fit(X, sample_weight=sample_weight)
        else:
            made.fit_local(X, sample_weight, ranks)
        self.preprocessor_ = made
        self.__dict__.pop("feature_names_in_", None)
        self.n_features_in_ = made.n_features_in_
        if hasattr(made, "feature_names_in_"):
            self.feature_names_in_ = made.feature_names_in_

    def _validated(self, X, y="no_validation", reset=False):
        """The inputs of the network, or (inputs, y), as scikit-learn checks them: dense, finite, float64 or float32."""
        has_y = not isinstance(y, str)
        y, targets = self._readable(y) if has_y else (y, {})
        if hasattr(self, "preprocessor_"):
            x = X.rows if isinstance(X, JoinedAgents) else prepared_rows(self.preprocessor_, X)
            if has_y:
                y = _check_y(y, estimator=self, **targets)
                if len(y) != len(x):
                    raise ValueError(f"y must hold one target per row of X ({len(x)}), got {len(y)}.")
        else:
            options = {"accept_sparse": SPARSE, "dtype": FLOATS, "allow_nd": self._takes_images, **targets}
            checked = validate_data(self, X, y, reset=reset, **options)
            x, y = checked if has_y else (checked, y)
            x = dense(x)
        if reset:
            self._row_shape = x.shape[1:]
        elif x.shape[1:] != self._row_shape:
            raise ValueError(f"X has rows of shape {x.shape[1:]}, but the model was trained on {self._row_shape}.")
        return (x, y) if has_y else x

    def _readable(self, y):
        """(y as a dense array, how scikit-learn checks it)."""
        y = dense(y if y is None or hasattr(y, "ndim") else np.asarray(y))
        if y is None or not self._has_many_outputs(y):
            return y, {}
        return y, {"multi_output": True, "y_numeric": self._kind == "regressor"}

    @property
    def _input_names(self):
        """The names of the inputs of the network, or None."""
        if hasattr(self, "preprocessor_"):
            return self.preprocessor_.get_feature_names_out()
        return getattr(self, "feature_names_in_", None)


class JoinedAgents:
    """Rows of all agents that a preprocessor has been through, agent by agent."""

    def __init__(self, preprocessor, blocks):
        self.preprocessor = preprocessor
        self.sizes = [len(block) for block in blocks]
        self.rows = np.concatenate(blocks)

    def __len__(self):
        return len(self.rows)


def make_preprocessor(preprocess):
    """The transformer that a parameter asks for, not fitted; None for None."""
    if preprocess is None:
        return None
    return NetworkPreprocessor(standardize=False) if preprocess == "auto" else clone(preprocess)


def prepared_rows(preprocessor, X):
    """X (n, columns) as inputs (n, d): float32 where all of X is, else float64."""
    kinds = list(X.dtypes) if is_frame(X) else [getattr(X, "dtype", None)]
    return preprocessor.transform(X).astype(
        np.float32 if all(k == np.float32 for k in kinds) else np.float64, copy=False
    )


def prepare_agents(preprocess, agents):
    """(agents with arrays of numbers, what was learnt): the preprocessor fitted on the rows of all.

    Data frames are matched by the names of their columns.
    """
    made = make_preprocessor(preprocess)
    frames = [part[0] for part in agents]
    if is_frame(frames[0]):
        names = list(frames[0].columns)
        for i, frame in enumerate(frames):
            if not is_frame(frame) or set(frame.columns) != set(names):
                raise ValueError(f"agents[{i}] must have the columns of agents[0], {names}.")
        frames = [frame[names] for frame in frames]
    made.fit_agents(frames)
    prepared = [prepared_rows(made, frame) for frame in frames]
    return [(x, *part[1:]) for x, part in zip(prepared, agents, strict=True)], JoinedAgents(made, prepared)
