"""CSV and Parquet files, read as columns of text; what cannot be used is refused by the name of its column.

# Design:
#   The standard library's csv module, pyarrow where a Parquet file asks for it, and NumPy: no table library. Parquet
#   cells become the text a CSV would hold, so that one set of rules judges both. Every mistake a file can hold is one
#   sentence that names file, column and line, raised as ValueError before anything is trained.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass

import numpy as np

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-nan", "#n/a"})
MOST_CLASSES = 20
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Table:
    """Cells of a file: text by column, and where each row stands (a line of a CSV, a row of a Parquet file)."""

    path: str
    cells: dict
    lines: list
    unit: str = "line"

    @property
    def names(self):
        """The columns in their order."""
        return list(self.cells)

    def column(self, name):
        """The cells of one column."""
        return self.cells[name]

    def place(self, row):
        """'line 7'."""
        return f"{self.unit} {self.lines[row]}"

    def numbers(self, name):
        """The named column as float64 (n,), NaN where a value is missing.

        Raises
        ------
        ValueError
            If it holds text or infinite numbers.
        """
        cells = self.column(name)
        values = np.full(len(cells), np.nan)
        for i in np.flatnonzero(~self.missing(name)):
            try:
                values[i] = float(cells[i])
            except ValueError:
                raise ValueError(
                    f"{self.path}: column {name!r} holds text ({cells[i]!r} in {self.place(i)}); it must be numbers."
                ) from None
            if not np.isfinite(values[i]):
                raise ValueError(f"{self.path}: column {name!r} is {cells[i]} in {self.place(i)}; it must be finite.")
        return values

    def missing(self, name):
        """Where a column has no value, (n,) bool."""
        return np.array([cell.lower() in MISSING for cell in self.column(name)], dtype=bool)

    def check_complete(self, name, remedy="fill or remove those rows first"):
        """ValueError if the column has missing values."""
        holes = np.flatnonzero(self.missing(name))
        if len(holes):
            many = f"{len(holes)} missing values (the first in" if len(holes) > 1 else "a missing value (in"
            raise ValueError(f"{self.path}: column {name!r} has {many} {self.place(holes[0])}); {remedy}.")

    def first_number_and_text(self, name):
        """(row of the first number or None, row of the first text or None) of a column."""
        number = text = None
        for i, cell in enumerate(self.column(name)):
            if cell.lower() in MISSING:
                continue
            if _is_number(cell):
                number = i if number is None else number
            else:
                text = i if text is None else text
        return number, text

    def is_numeric(self, name):
        """Whether every cell reads as a number."""
        return all(_is_number(cell) for cell in self.column(name))


def read_table(path):
    """Table of a Parquet file (by its ending) or a CSV file; "-" is a CSV on the standard input.

    The separator of a CSV (comma, semicolon, tab) is found in the header.

    Raises
    ------
    ValueError
        If the file is empty, cannot be read, has no header, repeats a name, or a line has another number of cells; if
        it is Parquet and pyarrow is not installed.
    """
    if str(path).lower().endswith(PARQUET):
        return _read_parquet(path)
    shown = "standard input" if path == "-" else path
    try:
        if path == "-":
            return _parse(shown, sys.stdin.read())
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _parse(shown, file.read())
    except UnicodeDecodeError:
        raise ValueError(f"{shown}: not a text file in UTF-8; save it as CSV (UTF-8).") from None


def _read_parquet(path):
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            f"{path}: Parquet files need pyarrow (pip install 'dnnext[parquet]'); or save the file as CSV."
        ) from None
    with open(path, "rb") as file:
        try:
            table = parquet.ParquetFile(file).read()
        except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError) as error:
            told = str(error).split("\n")[0].rstrip(".")
            raise ValueError(f"{path}: not a complete Parquet file ({told}).") from None
    names = [name for name in table.column_names if not name.startswith("__index_level_")]  # pandas' row labels
    _check_names(path, names)
    if not table.num_rows:
        raise ValueError(f"{path}: there are no rows.")
    cells = {name: _texts(path, name, table.column(name), pyarrow) for name in names}
    return Table(str(path), cells, range(1, table.num_rows + 1), "row")


def _texts(path, name, column, pyarrow):
    """The cells of a Parquet column as the text a CSV would hold; no value is no text."""
    kind, test = column.type, pyarrow.types
    if test.is_dictionary(kind):
        kind = kind.value_type
    plain = (test.is_boolean, test.is_integer, test.is_floating, test.is_decimal, test.is_null)
    text = test.is_string(kind) or test.is_large_string(kind) or test.is_string_view(kind)
    if not text and not any(check(kind) for check in plain):
        raise ValueError(
            f"{path}: column {name!r} holds {column.type}; numbers, text and true or false can be read, so convert it "
            "or leave it out of the file."
        )
    try:
        return ["" if value is None else str(value).strip() for value in column.to_pylist()]
    except (pyarrow.ArrowException, ValueError) as error:  # damaged text
        raise ValueError(f"{path}: column {name!r} cannot be read ({error}).") from None


def _parse(shown, text):
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
        pairs = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{shown}: line {reader.line_num} is not valid CSV ({error}).") from None
    if not pairs:
        raise ValueError(f"{shown}: the file is empty; the first line must hold the names of the columns.")
    names = pairs[0][0]
    rows, lines = [row for row, _ in pairs[1:]], [line for _, line in pairs[1:]]
    if not rows:
        raise ValueError(f"{shown}: there are no rows below the header.")
    if all(_is_number(name) for name in names):
        raise ValueError(f"{shown}: the first line must hold the names of the columns, it holds numbers ({names[0]}).")
    _check_names(shown, names)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise ValueError(f"{shown}: line {line} has {len(row)} cells, the header has {len(names)}.")
    return Table(shown, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), lines)


def _check_names(shown, names):
    for name in names:
        if names.count(name) > 1 or not name:
            what = f"the column name {name!r} comes {names.count(name)} times" if name else "a column has no name"
            raise ValueError(f"{shown}: {what}; every column needs its own name.")


def check_columns(table, wanted, option):
    """ValueError if a wanted column is not there."""
    for name in wanted:
        if name not in table.names:
            known = ", ".join(table.names[:12]) + (", ..." if len(table.names) > 12 else "")
            raise ValueError(f"{table.path}: there is no column {name!r} ({option}); the columns are {known}.")


def read_target(table, name, task):
    """(task, y): the target column, as numbers for regression, as numbers or text for classification.

    ``task="auto"`` is classification for text and for at most 20 different whole numbers, else regression.

    Raises
    ------
    ValueError
        If values are missing, there is one class only, or regression is asked of text.
    """
    table.check_complete(name)
    cells = table.column(name)
    numeric = table.is_numeric(name)
    if task == "regression" and not numeric:
        raise ValueError(f"{table.path}: the target {name!r} holds text, so regression is impossible; see --task.")
    values = table.numbers(name) if numeric else np.array(cells)
    distinct = np.unique(values)
    whole = numeric and np.all(distinct == np.round(distinct))
    if task == "auto":
        few = len(distinct) <= min(MOST_CLASSES, max(2, len(cells) // 2))
        task = "classification" if not numeric or (whole and few) else "regression"
    if len(distinct) == 1:
        what = "class" if task == "classification" else "value"
        raise ValueError(
            f"{table.path}: the target {name!r} has one {what} only ({cells[0]}); there is nothing to learn."
        )
    if task == "classification" and whole:
        values = values.astype(np.int64)
    elif task == "classification":
        values = np.array(cells)
    return task, values


def write_predictions(file, names, columns):
    """CSV of equal-length columns; floats in their shortest exact form."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*[[_text(v) for v in column] for column in columns], strict=True))


def _text(value):
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True
