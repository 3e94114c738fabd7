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

from dnnext.estimators.rows import dense
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

    def _inputs(self, X):
        """The float64 inputs of the network (n, d)."""
        if hasattr(self, "preprocessor_"):
            return self.preprocessor_.transform(X)
        return dense(validate_data(self, X, accept_sparse=SPARSE, dtype=np.float64, reset=False))

    def _inputs_and_targets(self, X, y, reset=False):
        """(float64 inputs of the network (n, d), y as checked)."""
        targets = {"multi_output": self._kind == "regressor", "y_numeric": self._kind == "regressor"}
        if not hasattr(self, "preprocessor_"):
            x, y = validate_data(self, X, y, accept_sparse=SPARSE, dtype=np.float64, reset=reset, **targets)
            return dense(x), y
        x = X.rows if isinstance(X, JoinedAgents) else self.preprocessor_.transform(X)
        y = _check_y(y, estimator=self, **targets)
        if len(y) != len(x):
            raise ValueError(f"y must hold one target per row of X ({len(x)}), got {len(y)}.")
        return x, y

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
    prepared = [made.transform(frame) for frame in frames]
    return [(x, *part[1:]) for x, part in zip(prepared, agents, strict=True)], JoinedAgents(made, prepared)
