"""Sentences about columns: what is wrong, in which line, and which option settles it."""

from __future__ import annotations

import unicodedata

import numpy as np

from dnnext._checks import nearest
from dnnext.cli.writing import how_written
from dnnext.preprocessing.columns import some


class Speaker:
    """Makes sentences about a table; about rows that only this rank may see, without their cells."""

    def __init__(self, table, local=False):
        self.table, self.local = table, local

    def cell(self, cells, row):
        """'blue' in line 3."""
        return self.table.place(row) if self.local else f"{cells[row]!r} in {self.table.place(row)}"

    def gaps(self, name, gaps, remedy, rules=None):
        """A column with gaps."""
        rows, cells = np.flatnonzero(gaps), self.table.column(name)
        many = f"{len(rows)} missing values (the first in" if len(rows) > 1 else "a missing value (in"
        word = next((cells[k] for k in rows if cells[k]), None)
        if word is not None and not self.local:
            remedy += f"; {word!r} counts as a gap"
            remedy += "; --missing lists the words that do" if rules is not None else ""
        return [f"column {name!r} has {many} {self.table.place(rows[0])}); {remedy}."]

    def unusable(self, what, name, one, classes=False):
        """Sentences about a look that is neither numbers nor words; `classes`: of a target."""
        cells = self.table.column(name)
        first, second = self.cell(cells, one.first), self.cell(cells, one.second)
        if classes:
            settle = "correct it, or use --task classification if these are names of classes"
        else:
            settle = "correct it, name it with --categorical, or leave it out (--drop)"
        if one.kind in ("numbers", "words"):
            return []
        if one.kind == "nothing":
            return [f"{what} has no value at all; " + ("choose another." if classes else "leave it out with --drop.")]
        if one.kind == "mixed":
            gap = (
                ""
                if self.local or classes or one.n_text != 1
                else f", or name {cells[one.second]!r} as a gap (--missing)"
            )
            return [f"{what} holds numbers and text ({first}, {second}); {settle}{gap}."]
        if one.kind == "infinite":
            shown = "too large or infinite" if self.local else cells[one.first]
            return [f"{what} is {shown} in {self.table.place(one.first)}; it must be finite."]
        if one.kind in ("written", "mark"):
            how = "some way" if self.local else how_written(cells[one.first])
            if one.kind == "mark":
                return [f"{what} holds numbers with another decimal mark than that of --decimal ({first}); {settle}."]
            return [
                f"{what} holds text that stands for numbers, with {how} ({first}); read them by --decimal , (comma as "
                f"the decimal mark) or --decimal . (comma between thousands), or {settle}."
            ]
        if one.kind == "units":
            return [f"{what} holds text: numbers with a unit or mark ({first}); take it out, or {settle}."]
        if one.kind == "near":
            many = f"{len(one.distinct)} different in {len(one.gaps)} rows"
            return [f"{what} holds text that begins with numbers ({first}; {many}); {settle}."]
        if one.kind == "dates":
            shown = "" if self.table.kinds.get(name) == "dates" else f" ({first})"
            if classes:
                return [f"{what} holds text that looks like dates{shown}; {settle}."]
            return [
                f"{what} holds dates or times{shown}, which are no inputs; --date drop leaves all such columns out, "
                f"--drop {name!r} this one, --categorical {name!r} takes each for a category."
            ]
        return [
            f"{what} holds {one.kind}; numbers, text, true or false can be read: convert it or leave it out (--drop)."
        ]

    def too_many(self, name, one, most):
        """A column of too many categories."""
        shown = "" if self.local else f" ({some(sorted(one.distinct))})"
        each = ": every row has its own, as identifiers have" if len(one.distinct) == len(one.gaps) else ""
        numbers = f", or read its cells as numbers (--numeric {name!r})" if one.is_typed else ""
        return (
            f"column {name!r} has {len(one.distinct)} categories{shown}, more than --max-categories {most}{each}; "
            f"leave it out with --drop, or allow more{numbers}."
        )


def no_column(name, option, names):
    """A column that is not there, and the one that may be meant."""
    known = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"there is no column {name!r} ({option}); the columns are {known}.{nearest(name, names)}"


def words_notes(what, one, args):
    """Notes about a column of words that its user may see in another way."""
    notes = []
    none = [word for word in one.distinct if word.lower() == "none"]
    if none and args.missing is None:
        notes.append(f"{none[0]!r} counts as a word in {what} (--missing {none[0]} counts it as a gap)")
    if one.has_codes and len(numbers := {cell.lstrip("0") for cell in one.distinct}) < len(one.distinct):
        notes.append(f"{what} holds codes that are one number, such as 01 and 1, {len(numbers)} numbers in all")
    seen = {}
    for word in one.distinct:
        other = seen.setdefault(unicodedata.normalize("NFKC", " ".join(word.split())).casefold(), word)
        if other != word:
            notes.append(f"{what} holds {other!r} and {word!r}, which count as different")
            break
    if one.is_typed:
        notes.append(f"{what} is text in the file, though its cells are numbers (--numeric reads them as numbers)")
    if one.has_units:
        notes.append(f"{what} holds {len(one.distinct)} numbers with a unit or mark, each of which counts as a word")
    elif one.has_digits:
        notes.append(f"{what} holds {len(one.distinct)} words that begin with digits; none is read as a number")
    return notes
