"""Columns of a data frame or array as numbers or as words, and the record of what a column became."""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext.preprocessing.refusals import DATES, column_names

Array = NDArray[Any]
SHOWN = 8  # words in a sentence


@dataclass(frozen=True)
class Column:
    """What a column became: a number that is centred and scaled, or one input of 0 and 1 per category.

    Parameters
    ----------
    name : str
        The column.
    categories : list of str or None, default=None
        Its words, sorted; None for numbers.
    fill : float, str or None, default=None
        What a gap is filled with; None refuses gaps.
    mean : float, default=0.0
        What numbers are centred by.
    scale : float, default=1.0
        What they are divided by.
    low, high : float or None, default=None
        Numbers beyond are moved to these.

    Examples
    --------
    >>> Column("colour", ["blue", "red"]).inputs
    ['colour=blue', 'colour=red']
    """

    name: str
    categories: list[str] | None = None
    fill: float | str | None = None
    mean: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs it becomes."""
        return [self.name] if self.categories is None else [f"{self.name}={word}" for word in self.categories]

    def is_sound(self) -> bool:
        """Whether every field is what a fit could have left behind."""
        ends = [end for end in (self.low, self.high) if end is not None]
        plain = all(type(v) in (int, float) and np.isfinite(v) for v in (self.mean, self.scale, *ends))
        plain = plain and self.scale > 0 and (not ends or (len(ends) == 2 and ends[0] <= ends[1]))
        if not isinstance(self.name, str) or not plain:
            return False
        if self.categories is None:
            return self.fill is None or (type(self.fill) in (int, float) and bool(np.isfinite(self.fill)))
        words = self.categories
        whole = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
        return bool(whole and words == sorted(set(words)) and (self.fill is None or self.fill in words))

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON can hold them."""
        return asdict(self)


def check_few(name: str, words: list[str], most: int) -> None:
    """ValueError if a column has more categories than `most`."""
    if len(words) > most:
        raise ValueError(
            f"column {name!r} has {len(words)} categories, more than max_categories={most}; leave it out, or allow "
            "more."
        )


def check_inputs(columns: Sequence[Column]) -> None:
    """No two columns give inputs of one name.

    Raises
    ------
    ValueError
        Naming the two.
    """
    owner: dict[str, str] = {}
    for column in columns:
        for name in column.inputs:
            if name in owner:
                raise ValueError(
                    f"columns {owner[name]!r} and {column.name!r} would give two inputs one name; rename a column, "
                    "or leave one out."
                )
            owner[name] = column.name


def is_frame(X: Any) -> bool:
    """Whether X is a data frame: columns with names, each with its own dtype."""
    return column_names(X) is not None and hasattr(X, "__getitem__")


def columns_of(X: Any) -> tuple[list[str], list[Any]]:
    """(names, columns) of a data frame, or of a two-dimensional array with the names x0, x1, ...

    Raises
    ------
    ValueError
        If two columns have one name, or X is not two-dimensional.
    """
    own = column_names(X)
    if own is not None:
        names = [str(name) for name in own]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"column names must differ, got {short(twice[0])} {names.count(twice[0])} times.")
        return names, [X[name] for name in own]
    return [f"x{k}" for k in range(X.shape[1])], [X[:, k] for k in range(X.shape[1])]


def numbers_or_words(name: str, column: Any, categorical: bool | None = None) -> tuple[str, Array]:
    """("numbers", float64 (n,) with NaN) or ("words", text (n,) with None) or ("nothing", NaN) of a column.

    Parameters
    ----------
    name : str
        The column, for sentences.
    column : sequence
        Its values: numbers, text, booleans, categories; None and NaN are gaps.
    categorical : bool or None, default=None
        True reads numbers as words, False refuses words, None decides by the values.

    Raises
    ------
    ValueError
        If it holds numbers and text, dates or infinite numbers.
    TypeError
        If it holds what is neither number nor text.
    """
    values = np.asarray(column)
    if values.dtype.kind in "mM":
        raise ValueError(f"column {name!r} {DATES}.")
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: column {name!r} holds complex numbers.")
    if values.dtype.kind in "iufb" and not categorical:
        return _finite(name, values.astype(np.float64))
    cells = values.astype(object)
    types = set(map(type, cells.tolist()))
    if types <= {str, type(None)}:  # the usual words
        gaps = np.array([cell is None for cell in cells.tolist()], dtype=bool)
    else:
        gaps = np.array([_is_gap(cell) for cell in cells], dtype=bool)
    there = cells[~gaps]
    if not len(there):
        return "nothing", np.full(len(cells), np.nan)
    kinds = {_kind(name, kind) for kind in set(map(type, there.tolist()))}
    if kinds <= {"number", "truth"} and not categorical:
        out = np.full(len(cells), np.nan)
        out[~gaps] = there.astype(np.float64)
        return _finite(name, out)
    if len(kinds) > 1 and not categorical:
        number, text = (next(k for k in range(len(cells)) if not gaps[k] and isinstance(cells[k], str) is is_text)
                        for is_text in (False, True))  # fmt: skip
        raise ValueError(
            f"column {name!r} holds numbers and text ({cells[number]!r} in row {number}, {cells[text]!r} in row {text}"
            "); mend it, name it in categorical=[...], or leave it out."
        )
    if categorical is False:
        raise ValueError(f"column {name!r} holds text ({there[0]!r}); it held numbers when it was fitted.")
    if types <= {str, type(None)}:
        return "words", cells
    words = np.full(len(cells), None, dtype=object)
    words[~gaps] = [_word(cell) for cell in there]
    return "words", words


def _finite(name: str, values: Array) -> tuple[str, Array]:
    wrong = np.flatnonzero(np.isinf(values))
    if len(wrong):
        raise ValueError(f"column {name!r} is {values[wrong[0]]} in row {wrong[0]}; numbers must be finite.")
    return "nothing" if len(values) and np.isnan(values).all() else "numbers", values


def _is_gap(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float | np.floating | decimal.Decimal) and cell != cell


def _kind(name: str, kind: type) -> str:
    if issubclass(kind, str | bytes):
        return "text"
    if issubclass(kind, bool | np.bool_):
        return "truth"
    if issubclass(kind, numbers.Real | decimal.Decimal):
        return "number"
    if issubclass(kind, datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64):
        raise ValueError(f"column {name!r} {DATES}.")
    raise TypeError(f"the values of column {name!r}: argument must be a string or a real number, not {kind.__name__}.")


def _word(cell: Any) -> str:
    """A value as the word of a category; whole floats as whole numbers, since gaps turn integers into floats."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def one_hot(words: Array, categories: Sequence[str]) -> NDArray[np.float64]:
    """(n, K) of 0 and 1: which category each word is; a word that is none of them is a row of zeros."""
    codes = codes_of(words, categories)
    out = np.zeros((len(words), len(categories)))
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0
    return out


def codes_of(words: Array, categories: Sequence[str]) -> NDArray[np.int64]:
    """The place of each word among the categories, (n,); -1 for none and for gaps."""
    place = {word: k for k, word in enumerate(categories)}
    return np.fromiter((place.get(word, -1) for word in words.tolist()), np.int64, len(words))


def some(words: Collection[str]) -> str:
    """The first few words, for a sentence."""
    shown = list(words)[:SHOWN]
    return ", ".join(shown) + (", ..." if len(words) > SHOWN else "")


def check_complete(name: str, values: Array) -> None:
    """ValueError if a column has gaps."""
    gaps = np.array([word is None for word in values]) if values.dtype == object else np.isnan(values)
    rows = np.flatnonzero(gaps)
    if len(rows):
        raise ValueError(
            f"column {name!r} holds NaN or None in {len(rows)} row{'s' if len(rows) > 1 else ''} (the first is row "
            f"{rows[0]}); fill or remove those rows, or ask for impute='mean'."
        )


def agreed_kind(name: str, parts: list[Any]) -> Any:
    """The word "numbers", or the union of the words of all ranks."""
    kinds = [(rank, part) for rank, part in enumerate(parts) if part != "nothing"]
    if not kinds:
        raise ValueError(f"column {name!r} has no value at all; leave it out.")
    different = [rank for rank, part in kinds if (part == "numbers") != (kinds[0][1] == "numbers")]
    if different:
        raise ValueError(
            f"column {name!r} holds numbers on one rank and text on another (ranks {kinds[0][0]} and {different[0]}); "
            "mend it, or name it in categorical."
        )
    return "numbers" if kinds[0][1] == "numbers" else sorted({word for _, part in kinds for word in part})


def chosen_columns(categorical: Any, names: list[str]) -> set[str]:
    """The names of the columns that are to be categories, given by name or position."""
    chosen = [categorical] if isinstance(categorical, str) else list(categorical)
    forced = {names[c] if isinstance(c, int | np.integer) and -len(names) <= c < len(names) else c for c in chosen}
    strange = [c for c in forced if c not in names]
    if strange:
        raise ValueError(f"categorical must name columns of X ({some(names)}), got {short(strange[0])}.")
    return forced
