"""Columns of a table as inputs: numbers stay, categories become one 0/1 input each, gaps are filled on request only.

# Design:
#   learn     kind, categories and fill value of every column, agreed on by all ranks -> Encoding
#   inputs    the same numbers for the rows to train on and, later, for the rows to predict
#   An Encoding is plain JSON (`notes`, `of_notes`) in the header of the model file, so a model needs no pickle. The
#   categories are those of the whole file, a list of words; fill values are learnt from the rows to train on alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

STRATEGIES = ("mean", "median", "most_frequent")
UNKNOWN = ("refuse", "ignore")
SHOWN = 8  # categories in a sentence


@dataclass(frozen=True)
class Column:
    """One column: its sorted categories or None for numbers, and what a gap is filled with or None."""

    name: str
    categories: list | None = None
    fill: float | str | None = None

    @property
    def inputs(self):
        """The names of the inputs it becomes."""
        return [self.name] if self.categories is None else [f"{self.name}={word}" for word in self.categories]


@dataclass(frozen=True)
class Encoding:
    """How the columns of a file become the inputs of a network."""

    columns: list

    @property
    def names(self):
        """The columns."""
        return [column.name for column in self.columns]

    @property
    def input_names(self):
        """The names of all inputs, `colour=red` for a category."""
        return [name for column in self.columns for name in column.inputs]

    def inputs(self, table, unknown="refuse", remedy="the model was trained without --impute, so fill it first"):
        """Inputs of all rows, float64 (n, d).

        Parameters
        ----------
        table : Table
        unknown : {"refuse", "ignore"}
            Whether a category that training did not see is an error, or a row of zeros for its column.
        remedy : str
            What to do about a gap where none can be filled, the end of a sentence.

        Raises
        ------
        ValueError
            Naming a column with a gap that is not to be filled, text, infinite numbers or an unknown category.
        """
        parts = [self._of(column, table, unknown, remedy) for column in self.columns]
        return np.hstack(parts) if parts else np.empty((len(table.lines), 0))

    def _of(self, column, table, unknown, remedy):
        missing = table.missing(column.name)
        if column.fill is None:
            table.check_complete(column.name, remedy)
        if column.categories is None:
            values = table.numbers(column.name)
            values[missing] = 0.0 if column.fill is None else column.fill
            return values[:, None]
        cells = np.array(table.column(column.name), dtype=object)
        cells[missing] = column.fill
        new = ~np.isin(cells.astype(str), np.array(column.categories, dtype=str))
        if unknown == "refuse" and new.any():
            first = int(np.argmax(new))
            raise ValueError(
                f"{table.path}: column {column.name!r} holds {cells[first]!r} in {table.place(first)}, which the model "
                f"has not seen (it knows {_some(column.categories)}); --unknown ignore counts it as none of them."
            )
        return _one_hot(column.categories).transform(cells[:, None])

    def notes(self):
        """JSON for the header of a model file."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def of_notes(cls, notes):
        """The Encoding of `notes`.

        Raises
        ------
        ValueError
            If they are not what `notes` wrote.
        """
        try:
            columns = [Column(**one) for one in notes]
            sound = all(isinstance(c.name, str) and _is_sound(c) for c in columns)
        except TypeError:
            sound = False
        if not sound:
            raise ValueError("a damaged model file: its header does not say how columns become inputs.")
        return cls(columns)


def _is_sound(column):
    if column.categories is None:
        return column.fill is None or (type(column.fill) in (int, float) and bool(np.isfinite(column.fill)))
    words = column.categories
    whole = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
    return bool(whole and words == sorted(set(words)) and (column.fill is None or column.fill in words))


def _one_hot(categories):
    """A scikit-learn encoder that knows these categories; others become zeros."""
    from sklearn.preprocessing import OneHotEncoder

    words = np.array(categories, dtype=object)
    encoder = OneHotEncoder(categories=[words], handle_unknown="ignore", sparse_output=False)
    return encoder.fit(words[:, None])


def learn(table, names, learn_rows, ranks, *, categorical=(), impute=None, most=50, local=False):
    """The Encoding of the named columns; collective over ranks.

    Parameters
    ----------
    table : Table
    names : list of str
    learn_rows : array of int
        The rows to train on: fill values come from them.
    ranks : Runtime
        One agent per rank.
    categorical : sequence of str
        Columns that are categories though they may look like numbers.
    impute : {None, "mean", "median", "most_frequent"}
        What fills gaps in numbers; gaps in categories are filled with the most frequent one. None refuses gaps.
    most : int
        Most categories of a column.
    local : bool
        Whether each rank has rows of its own.

    Raises
    ------
    ValueError
        Naming the column that holds numbers and text, too many categories, nothing, a gap that is not to be filled, or
        the columns that would give two inputs one name.
    """
    with ranks.together():
        if impute is not None and impute not in STRATEGIES:
            raise ValueError(f"--impute must be one of {', '.join(STRATEGIES)}, got {impute!r}.")
        told = {name: _words(table, name, name in categorical, most, local) for name in names}
        if impute is None:
            for name in names:
                table.check_complete(name, "fill or remove those rows first, or ask for --impute")
    everywhere = [json.loads(text) for text in ranks.all_ranks(json.dumps(told))]
    columns = []
    for name in names:
        kinds = [(rank, words[name]) for rank, words in enumerate(everywhere) if words[name] != "nothing"]
        if not kinds:
            raise ValueError(f"{table.path}: column {name!r} has no value at all; leave it out with --drop.")
        different = [rank for rank, words in kinds if (words == "numbers") != (kinds[0][1] == "numbers")]
        if different:
            raise ValueError(
                f"column {name!r} holds numbers on one rank and text on another (ranks {kinds[0][0]} and "
                f"{different[0]}); mend it, or name it with --categorical."
            )
        words = None if kinds[0][1] == "numbers" else sorted({word for _, part in kinds for word in part})
        if words is not None:
            _check_few(table, name, words, most, local)
        columns.append(Column(name, words))
    _check_names(table, columns)
    if impute is None:
        return Encoding(columns)
    return Encoding([_with_fill(column, table, learn_rows, ranks, impute, local) for column in columns])


def _check_names(table, columns):
    """No two inputs of one name; the columns are named, for a category may be known to one rank only."""
    owner = {}
    for column in columns:
        for name in column.inputs:
            if name in owner:
                raise ValueError(
                    f"{table.path}: columns {owner[name]!r} and {column.name!r} would give two inputs one name; rename "
                    "a column, or leave one out with --drop."
                )
            owner[name] = column.name


def _check_few(table, name, words, most, local):
    if len(words) > most:
        shown = "" if local else f" ({_some(words)})"
        raise ValueError(
            f"{table.path}: column {name!r} has {len(words)} categories{shown}, more than --max-categories {most}; "
            "leave it out with --drop, or allow more."
        )


def _words(table, name, forced, most, local):
    """What a column holds: "numbers", "nothing", or its categories. An error about local rows names no cell."""
    number, text = table.first_number_and_text(name)
    if number is None and text is None:
        return "nothing"
    if text is None and not forced:
        return "numbers"
    if number is not None and not forced:
        cells = table.column(name)
        told = [table.place(k) if local else f"{cells[k]!r} in {table.place(k)}" for k in (number, text)]
        raise ValueError(
            f"{table.path}: column {name!r} holds numbers and text ({told[0]}, {told[1]}); mend it, name it with "
            "--categorical, or leave it out (--drop)."
        )
    there = ~table.missing(name)
    words = sorted({cell for cell, known in zip(table.column(name), there, strict=True) if known})
    _check_few(table, name, words, most, local)  # before anybody else sees them
    return words


def _with_fill(column, table, learn_rows, ranks, impute, local):
    """The column with what fills its gaps; collective if every rank has rows of its own."""
    if column.categories is not None:
        cells = np.array(table.column(column.name))[learn_rows]
        counts = ranks.sum_agents(np.array([[np.sum(cells == word) for word in column.categories]]))
        return Column(column.name, column.categories, column.categories[int(np.argmax(counts))])
    values = table.numbers(column.name)[learn_rows]
    known = values[~np.isnan(values)]
    with np.errstate(over="ignore", invalid="ignore"):
        total, n = ranks.sum_agents(np.array([[known.sum(), float(len(known))]]))
        if n == 0:
            raise ValueError(
                f"{table.path}: column {column.name!r} has no value in the rows to train on; leave it out with --drop."
            )
        if local and impute != "mean":
            raise ValueError(
                f"--impute {impute} of column {column.name!r} needs all rows in one place; with --local-data only sums "
                "travel, so use --impute mean."
            )
        fill = total / n if local else _statistic(known, impute)
    if not np.isfinite(fill):
        raise ValueError(f"{table.path}: the {impute} of column {column.name!r} is not finite; rescale the column.")
    return Column(column.name, None, float(fill))


def _statistic(known, impute):
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy=impute).fit(known[:, None]).statistics_[0]


def told(encoding, table):
    """Sentences about what became of categories and gaps, for the report."""
    hot = [f"{c.name} ({len(c.categories)})" for c in encoding.columns if c.categories is not None]
    if hot:
        yield f"one input per category: {', '.join(hot)}; {len(encoding.input_names)} inputs in all"
    gaps = [(c, int(table.missing(c.name).sum())) for c in encoding.columns]
    filled = [f"{c.name} with {_short(c.fill)} in {n} row{'s' if n > 1 else ''}" for c, n in gaps if n]
    if filled:
        yield f"gaps filled: {', '.join(filled)}"


def _short(value):
    return repr(value) if isinstance(value, str) else f"{value:.6g}"


def _some(words):
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
