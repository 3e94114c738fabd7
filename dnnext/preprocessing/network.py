"""The transformer that scales numbers, encodes categories and fills gaps from sums over the whole network."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from dnnext import _checks
from dnnext.preprocessing.columns import (
    Column,
    agreed_kind,
    check_complete,
    check_few,
    check_inputs,
    chosen_columns,
    codes_of,
    columns_of,
    numbers_or_words,
    one_hot,
    some,
)  # fmt: skip
from dnnext.preprocessing.refusals import checked_table, checked_weight, column_names, table_of
from dnnext.preprocessing.sums import NetworkSums
from dnnext.runtime import InProcess, Runtime

IMPUTE = ("mean", "median", "most_frequent")
UNKNOWN = ("error", "ignore")

Array = NDArray[Any]


class NetworkPreprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scale numbers, encode categories, fill gaps; what is learnt comes from sums over agents, never from pooled rows.

    A column of numbers x becomes ``(x - mean) / scale``, with mean and standard deviation over the rows of all agents.
    A column of text or categories becomes one input of 0 and 1 per category of the network. Sums are added as whole
    numbers, so that the result does not depend on who holds which rows: `fit` on all rows, `fit_agents` and
    `fit_local` over ranks agree bit for bit. What agents disclose are counts, sums of values and of squares, largest
    values, and the words of their categories.

    Parameters
    ----------
    standardize : bool, default=True
        Whether numbers are centred and scaled. A constant column has scale 1. The estimators scale by themselves, their
        ``preprocess="auto"`` uses False here.
    impute : {'mean', 'median', 'most_frequent'} or None, default='mean'
        What fills gaps in numbers; gaps in categories take the most frequent one. None refuses gaps. The median is
        found by counting, in 64 rounds per column; 'most_frequent' shows how often each number occurs, so it needs rows
        in one place.
    categorical : sequence of str or int, default=()
        Columns (names, or positions in an array) that are categories although they hold numbers.
    max_categories : int, default=50
        Most categories of a column; more are refused, since such a column mostly identifies rows.
    handle_unknown : {'error', 'ignore'}, default='error'
        In `transform`, whether a category that the fit has not seen is refused or counts as none of the known ones.
    clip : float, default=0
        Numbers beyond these quantiles of their column are moved to them: 0.005 is 0.5 % and 99.5 %, found by counting.
        A few numbers a hundred deviations away make training slow; 0 leaves them. A column whose two quantiles are one
        number is left as it is.

    Attributes
    ----------
    columns_ : list of Column
        What each column became: `name`, `categories` or None, `fill`, `mean`, `scale`, `low`, `high`.
    n_features_in_ : int
        Columns seen in the fit.
    feature_names_in_ : ndarray of str
        Their names, where X had names.

    Raises
    ------
    ValueError
        In a fit or transform, naming the column that holds numbers and text, too many categories, nothing, dates,
        infinite numbers, or a gap that is not to be filled.

    See Also
    --------
    sklearn.preprocessing.StandardScaler, sklearn.preprocessing.OneHotEncoder, sklearn.impute.SimpleImputer : Where all
        rows lie in one place.

    Examples
    --------
    >>> import numpy as np
    >>> from dnnext.preprocessing import NetworkPreprocessor
    >>> north = np.array([["red", 1.0], ["blue", 3.0]], dtype=object)
    >>> south = np.array([["green", np.nan], ["red", 5.0]], dtype=object)
    >>> prepared = NetworkPreprocessor(standardize=False).fit_agents([north, south])
    >>> prepared.get_feature_names_out().tolist()
    ['x0=blue', 'x0=green', 'x0=red', 'x1']
    >>> prepared.transform(south)
    array([[0., 1., 0., 3.],
           [0., 0., 1., 5.]])
    """

    def __init__(
        self,
        *,
        standardize: bool = True,
        impute: str | None = "mean",
        categorical: Any = (),
        max_categories: int = 50,
        handle_unknown: str = "error",
        clip: float = 0.0,
    ) -> None:
        self.standardize = standardize
        self.impute = impute
        self.categorical = categorical
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.clip = clip

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from rows in one place.

        Parameters
        ----------
        X : data frame or array-like (n, d)
            Numbers, text, booleans, categories; None and NaN are gaps.
        y : ignored
            Not used.
        sample_weight : array-like (n,), optional
            Weights >= 0 of the rows in moments and counts; a row of weight zero contributes its categories only.

        Returns
        -------
        self
        """
        X = checked_table(self, X, reset=True)
        return self._learn(X, sample_weight, InProcess(1))

    def fit_agents(self, agents: Any, sample_weight: Any = None) -> Self:
        """Learn from one X per agent; the result is that of `fit` on all rows.

        Parameters
        ----------
        agents : sequence of data frames or arrays
            The rows of each agent; columns are matched by name, in the order of the first.
        sample_weight : sequence of array-like, optional
            Their weights, one array per agent, as in `fit`.

        Returns
        -------
        self
        """
        parts = list(agents)
        if not parts:
            raise ValueError("agents must hold the rows of at least one agent, got none.")
        names = column_names(parts[0])
        blocks = [table_of(self, X, names, k) for k, X in enumerate(parts)]
        sizes = [len(block) for block in blocks]
        weight = checked_weight(None if sample_weight is None else np.concatenate(list(sample_weight)), sum(sizes))
        joined = [np.concatenate([np.asarray(c, dtype=object) for c in column]) for column in
                  zip(*[columns_of(block)[1] for block in blocks], strict=True)]  # fmt: skip
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        names = columns_of(blocks[0])[0]
        return self._learn_columns(names, joined, weight, InProcess(len(parts)), offsets)

    def fit_local(self, X: Any, sample_weight: Any = None, runtime: Runtime | None = None) -> Self:
        """Learn from the rows of this rank and those of the others, which nobody sees; collective.

        Parameters
        ----------
        X : data frame or array-like (n, d)
            The rows of this rank, with the columns of the others.
        sample_weight : array-like (n,), optional
            As in `fit`.
        runtime : Runtime, optional
            One agent per rank; None is ``OverMPI()``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On every rank, if one of them has unfit rows or other columns or parameters.
        """
        if runtime is None:
            from dnnext.runtime.mpi import OverMPI

            with OverMPI() as ranks:
                return self.fit_local(X, sample_weight, ranks)
        with runtime.together():
            X = checked_table(self, X, reset=True)
        return self._learn(X, sample_weight, runtime)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """The inputs of a network.

        Parameters
        ----------
        X : data frame or array-like (n, d)
            Columns as in the fit.

        Returns
        -------
        ndarray of float64 (n, n_inputs)
            Finite numbers, columns as `get_feature_names_out` names them.
        """
        check_is_fitted(self)
        _checks.check_choice("handle_unknown", self.handle_unknown, UNKNOWN)
        X = checked_table(self, X, reset=False)
        parts = [self._inputs(column, values) for column, values in zip(self.columns_, columns_of(X)[1], strict=True)]
        return np.hstack(parts) if parts else np.empty((len(X), 0))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the inputs, ``colour=red`` for a category.

        Parameters
        ----------
        input_features : array-like of str, optional
            Must be the names of the fit, if given.

        Returns
        -------
        ndarray of str
        """
        from sklearn.utils.validation import _check_feature_names_in

        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        inputs = [c.inputs if c.name == n else Column(str(n), c.categories).inputs
                  for c, n in zip(self.columns_, names, strict=True)]  # fmt: skip
        return np.array([name for part in inputs for name in part], dtype=object)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was learnt, as JSON can hold it."""
        check_is_fitted(self)
        chosen = [c if isinstance(c, str) else int(c) for c in self.categorical]
        return {
            "parameters": {**self.get_params(), "categorical": chosen},
            "columns": [column.as_dict() for column in self.columns_],
            "named": hasattr(self, "feature_names_in_"),
            "labelled": getattr(self, "_labels", None) is not None,
        }

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> Self:
        """The fitted transformer of `to_dict`.

        Raises
        ------
        ValueError
            If it is not what `to_dict` wrote.
        """
        try:
            self = cls(**{**held["parameters"], "categorical": tuple(held["parameters"]["categorical"])})
            self.columns_ = [Column(**one) for one in held["columns"]]
            sound = all(column.is_sound() for column in self.columns_)
            self.n_features_in_ = len(self.columns_)
            self._labels = [column.name for column in self.columns_] if held.get("labelled") else None
            if held["named"]:
                self.feature_names_in_ = np.array([column.name for column in self.columns_], dtype=object)
        except (TypeError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise ValueError("a damaged model file: its header does not say how columns become inputs.")
        return self

    # learning

    def _learn(self, X: Any, sample_weight: Any, runtime: Runtime) -> Self:
        names, columns = columns_of(X)
        with runtime.together():
            weight = checked_weight(sample_weight, len(X))
        return self._learn_columns(names, columns, weight, runtime, np.array([0, len(X)]))

    def _learn_columns(self, names: Any, columns: Any, weight: Array, runtime: Runtime, offsets: Array) -> Self:
        with runtime.together():
            self._check_parameters()
            forced = chosen_columns(self.categorical, names)
            read = {n: numbers_or_words(n, c, n in forced or None) for n, c in zip(names, columns, strict=True)}
            own = {name: self._own(name, *kind_values) for name, kind_values in read.items()}
        runtime.agree_on({"the parameters of preprocess": self.get_params(), "the columns": list(names)})
        everywhere = [json.loads(text) for text in runtime.all_ranks(json.dumps(own))]
        sums = NetworkSums(runtime, offsets)
        self.columns_ = []
        for name in names:
            kind = agreed_kind(name, [part[name] for part in everywhere])
            if kind == "numbers":
                self.columns_.append(self._numbers(name, read[name][1], weight, sums))
            else:
                self.columns_.append(self._categories(name, kind, read[name][1], weight, sums))
        check_inputs(self.columns_)
        return self

    def _check_parameters(self) -> None:
        if self.impute is not None:
            _checks.check_choice("impute", self.impute, IMPUTE)
        _checks.check_choice("handle_unknown", self.handle_unknown, UNKNOWN)
        _checks.check_count("max_categories", self.max_categories)
        _checks.check_between("clip", self.clip, 0, 0.49)

    def _own(self, name: str, kind: str, values: Array) -> str | list[str]:
        """What this rank knows of a column: "numbers", "nothing", or its words."""
        if self.impute is None:
            check_complete(name, values)
        if kind != "words":
            return kind
        words = sorted({word for word in values.tolist() if word is not None})
        check_few(name, words, self.max_categories)
        return words

    def _numbers(self, name: str, values: Array, weight: Array, sums: NetworkSums) -> Column:
        there = ~np.isnan(values)
        weight = np.where(there, weight, 0.0)
        values = np.where(there & (weight > 0), values, 0.0)
        largest = float(sums.largest(np.abs(values)[:, None])[0])
        if not largest < 1e150:
            raise ValueError(f"column {name!r} holds numbers as large as {largest:.3g}, at most 1e150; rescale it.")
        total, sum_w = sums.total(np.stack([weight * values, weight], axis=1))
        if sum_w == 0:
            raise ValueError(f"column {name!r} has no value in rows of weight above zero; leave it out.")
        low = high = None
        if self.clip:
            share = Fraction(float(self.clip))
            low, high = sums.quantiles(values, weight, [share, 1 - share])
            low, high = (low, high) if low < high else (None, None)  # rows unlike all others are not to be lost
            values = values if low is None else np.clip(values, low, high)
            (total,) = sums.total((weight * values)[:, None])
        mean, scale = float(total / sum_w), 1.0
        fill = None if self.impute is None else self._fill(name, values, weight, mean, sums)
        if not self.standardize:
            return Column(name, None, fill, low=low, high=high)
        (squares,) = sums.total((weight * (values - mean) ** 2)[:, None])
        spread = float(np.sqrt(float(squares / sum_w)))
        if spread > 10 * np.finfo(np.float64).eps * abs(mean):
            scale = spread
        return Column(name, None, fill, mean, scale, low, high)

    def _fill(self, name: str, values: Array, weight: Array, mean: float, sums: NetworkSums) -> float:
        if self.impute == "mean":
            return mean
        there = weight > 0
        if self.impute == "median":
            return sums.median(np.where(there, values, 0.0), weight)
        if sums.runtime.is_distributed:
            raise ValueError(
                f"impute='most_frequent' of column {name!r} needs all rows in one place; over ranks use 'mean' or "
                "'median'."
            )
        known = np.unique(values[there])
        counts = sums.total_by(np.where(there, np.searchsorted(known, values), -1), weight, len(known))
        return float(known[counts.index(max(counts))])

    def _categories(self, name: str, words: list[str], values: Array, weight: Array, sums: NetworkSums) -> Column:
        check_few(name, words, self.max_categories)
        if self.impute is None:
            return Column(name, words)
        values = values if values.dtype == object else np.full(len(values), None, dtype=object)
        counts: list[Fraction] = sums.total_by(codes_of(values, words), weight, len(words))
        return Column(name, words, words[counts.index(max(counts))])

    # applying

    def _inputs(self, column: Column, values: Any) -> NDArray[np.float64]:
        kind, values = numbers_or_words(column.name, values, column.categories is not None)
        if column.fill is None:
            check_complete(column.name, values)
        if column.categories is None:
            filled = np.where(np.isnan(values), column.fill, values) if column.fill is not None else values
            if column.low is not None:
                filled = np.clip(filled, column.low, column.high)
            return ((filled - column.mean) / column.scale)[:, None]
        if kind != "words":
            values = np.full(len(values), None, dtype=object)
        gaps = np.array([word is None for word in values], dtype=bool)
        words = values.copy()
        words[gaps] = column.fill
        if self.handle_unknown == "error":
            new = codes_of(words, column.categories) < 0
            if new.any():
                row = int(np.argmax(new))
                raise ValueError(
                    f"column {column.name!r} holds {words[row]!r} in row {row}, which the fit has not seen (it knows "
                    f"{some(column.categories)}); handle_unknown='ignore' counts it as none of them."
                )
        return one_hot(words, column.categories)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.impute is not None
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags
