"""CSV files with a header line, read into numbers; what cannot be used is refused by the name of its column.

# Design:
#   The standard library's csv module and NumPy, no table library. Every mistake a file can hold is one sentence that
#   names file, column and line, raised as ValueError before anything is trained.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass

import numpy as np

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-nan", "#n/a"})
MOST_CLASSES = 20


@dataclass(frozen=True)
class Table:
    """Cells of a CSV file: names of the columns, rows of text, the line each row stands in."""

    path: str
    names: list
    rows: list
    lines: list

    def column(self, name):
        """The cells of one column."""
        k = self.names.index(name)
        return [row[k] for row in self.rows]

    def numbers(self, names):
        """The named columns as float64 (n, len(names)).

        Raises
        ------
        ValueError
            Naming a column with missing values, text, or infinite numbers.
        """
        out = np.empty((len(self.rows), len(names)))
        for j, name in enumerate(names):
            out[:, j] = self._numeric(name)
        return out

    def _numeric(self, name):
        cells = self.column(name)
        self.check_complete(name)
        values = np.empty(len(cells))
        for i, cell in enumerate(cells):
            try:
                values[i] = float(cell)
            except ValueError:
                raise ValueError(
                    f"{self.path}: column {name!r} holds text ({cell!r} in line {self.lines[i]}); "
                    "inputs must be numbers, so encode it as numbers or leave the column out with --drop."
                ) from None
            if not np.isfinite(values[i]):
                raise ValueError(f"{self.path}: column {name!r} is {cell} in line {self.lines[i]}; it must be finite.")
        return values

    def check_complete(self, name):
        """ValueError if the column has missing values."""
        holes = [line for cell, line in zip(self.column(name), self.lines, strict=True) if cell.lower() in MISSING]
        if holes:
            many = f"{len(holes)} missing values (the first" if len(holes) > 1 else "a missing value ("
            raise ValueError(
                f"{self.path}: column {name!r} has {many}{' ' if len(holes) > 1 else ''}in line {holes[0]}); "
                "fill or remove those rows first."
            )

    def is_numeric(self, name):
        """Whether every cell reads as a number."""
        return all(_is_number(cell) for cell in self.column(name))


def read_table(path):
    """Table of a CSV file; "-" is the standard input. The separator (comma, semicolon, tab) is found in the header.

    Raises
    ------
    ValueError
        If the file is empty, is no text, has no header, repeats a name, or a line has another number of cells.
    """
    shown = "standard input" if path == "-" else path
    try:
        if path == "-":
            return _parse(shown, sys.stdin.read())
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _parse(shown, file.read())
    except UnicodeDecodeError:
        raise ValueError(f"{shown}: not a text file in UTF-8; save it as CSV (UTF-8).") from None


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
    for name in names:
        if names.count(name) > 1 or not name:
            what = f"the column name {name!r} comes {names.count(name)} times" if name else "a column has no name"
            raise ValueError(f"{shown}: {what}; every column needs its own name.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise ValueError(f"{shown}: line {line} has {len(row)} cells, the header has {len(names)}.")
    return Table(shown, names, rows, lines)


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
    values = table.numbers([name])[:, 0] if numeric else np.array(cells)
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
