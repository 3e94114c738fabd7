"""What the cells of a column are: numbers, words, dates, or numbers written in a way that has to be named.

# Design:
#   `look` is the one place that decides. Numbers with a comma, a percent sign, a currency or blanks between digits are
#   read only if --decimal states how, because "1,000" is a thousand to some and one to others. Digits with a leading
#   zero are codes. Shapes of distinct cells are judged, not rows (`distinct`, `writing`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from dnnext.cli.dates import DATE, are_compact, are_dates
from dnnext.cli.distinct import Cells, shapes_of, used
from dnnext.cli.writing import (
    CODE,
    INFINITE,
    MARKED,
    NEAR,
    PLAIN,
    has_unit,
    is_numeric,
    sign_of,
    written_number,
    written_numbers,
)

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-nan", "#n/a", "<na>", "nat"})
WORD_TOO = frozenset({"none"})  # a gap among numbers, a word among words
MOST_UNITS = 10  # "5 kg", "6 kg", ...: more of them are numbers, fewer may be classes
FEW_CLASSES = 5
EXACT = 2**53  # whole numbers beyond are not exact in float64


@dataclass(frozen=True)
class Rules:
    """How cells are to be read.

    Parameters
    ----------
    decimal : {None, ".", ","}
        The decimal mark; the other one, blanks and apostrophes may then group thousands, and percent and currency signs
        are left out.
    missing : frozenset of str or None
        The words that stand for gaps, beside empty cells, as written; None is the usual ones in any letters.
    """

    decimal: str | None = None
    missing: frozenset | None = None

    def is_gap(self, cell):
        """Whether a cell holds no value."""
        return cell.lower() in MISSING if self.missing is None else cell == "" or cell in self.missing


@dataclass(frozen=True)
class Look:
    """What a column holds.

    kind is "nothing", "numbers", "words", "dates", "mixed" (numbers and text), "infinite", "units" ("5 kg"), "near"
    (numbers with other letters, nearly each in one row only), "written"
    (numbers that --decimal has to settle), or "mark" (numbers with the other decimal mark than that of --decimal), or a
    type of Parquet that cannot be used. `gap` says which distinct cells are gaps, `gaps` (n,) which rows. `distinct`
    (K,) are the others, `numbers` (K,) their float64. `first`, `second`: rows to name in a sentence.
    """

    kind: str
    gap: np.ndarray
    gaps: np.ndarray
    distinct: list = field(default_factory=list)
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0))
    first: int = 0
    second: int = 0
    is_whole: bool = False
    has_codes: bool = False
    has_digits: bool = False  # many words that begin like numbers
    has_units: bool = False  # words that are numbers with a unit
    sign: str = ""  # percent or currency, of all numbers
    is_typed: bool = False  # text by the file's type, though all cells are numbers
    n_text: int = 0  # distinct cells of text among numbers

    def values(self, cells):
        """The cells as float64 with NaN, or as words with None."""
        is_number = self.kind == "numbers"
        out = np.full(len(cells.distinct), np.nan if is_number else None, dtype=np.float64 if is_number else object)
        out[~self.gap] = self.numbers if is_number else self.distinct
        return out[cells.codes]


def look(cells, rules, kind=None, forced=None, known=()):
    """The Look of a column.

    Parameters
    ----------
    cells : Cells, or array of str (n,)
    rules : Rules
    kind : str or None
        Its type in the file (Parquet); None decides by the cells.
    forced : {None, "words", "numbers"}
        The kind that the user asks for.
    known : collection of str
        Words of categories, which are no gaps.
    """
    cells = Cells.of(cells)
    if kind not in (None, "numbers", "words", "nothing"):
        return Look(kind, np.array([cell == "" for cell in cells.distinct]), cells.rows(""))
    shapes, of = shapes_of(cells.distinct)
    if rules.missing is None:  # none of the usual words has a digit
        gap = np.array([rules.is_gap(shape) for shape in shapes], dtype=bool)[of]
    else:
        gap = np.array([rules.is_gap(cell) for cell in cells.distinct], dtype=bool)
    if known and gap.any():
        gap &= [cell not in known for cell in cells.distinct]
    there = list(itertools.compress(cells.distinct, ~gap))
    shapes, of = used(shapes, of[~gap])
    numbers, near, text = None, False, np.zeros(1, dtype=bool)
    plain = [bool(PLAIN.fullmatch(shape)) for shape in shapes]
    if forced == "words":
        found = "words" if there else "nothing"
    elif not there:
        found = "nothing"
    else:
        found, numbers = _judge(there, shapes, of, rules, forced)
        near = found == "words" and len(there) > MOST_UNITS and _are_near(shapes, of)
        found = "near" if near and len(cells) < 2 * len(there) else found
        text = np.array([not is_numeric(shape) for shape in shapes])[of] if found == "mixed" else text
        if kind == "words" and forced is None:  # the file says so: "01234", 1 and A; not "5 %" nor one N.D. among many
            rare = len(there) > FEW_CLASSES and text.sum() <= max(1, len(there) // 10)
            if (found == "numbers" and all(plain)) or found == "infinite" or (found == "mixed" and not rare):
                found, numbers = "words", None
    k, other = _to_name(found, there, shapes, of)
    named = [cells.first(cells.distinct.index(there[j])) if there else 0 for j in (k, other)]
    if found == "words" and rules.missing is None and gap.any():
        gap &= [cell.lower() not in WORD_TOO for cell in cells.distinct]
        there = list(itertools.compress(cells.distinct, ~gap))
    whole = found == "numbers" and bool((numbers == np.floor(numbers)).all())
    codes = any(map(CODE.fullmatch, shapes))
    units = found == "words" and len(there) > 2 and has_unit(shapes, of, 2)
    typed = kind == "words" and found == "words" and all(plain) and not codes
    numbers = np.empty(0) if numbers is None else numbers
    sign = (sign_of(there[0]) or "") if found == "numbers" else ""
    flags = whole, codes, near, units, sign, typed, int(text.sum())
    return Look(found, gap, gap[cells.codes], there, numbers, *named, *flags)


def _judge(there, shapes, of, rules, forced):
    """(kind, numbers) of distinct cells that are no gaps; `shapes[of[k]]` is the shape of cell k."""
    has_codes = forced is None and any(map(CODE.fullmatch, shapes))
    written = [None if rules.decimal is None else written_number(shape, rules.decimal) for shape in shapes]
    numbers, signs = None, {value[1] for value in written if value is not None}
    if rules.decimal != "," and all(map(PLAIN.fullmatch, shapes)):
        numbers, signs = np.fromiter(map(float, there), float, len(there)), {""}
    elif None not in written:
        numbers = written_numbers(there, shapes, of, rules.decimal)
    if numbers is not None:
        if has_codes:
            return "words", None
        if len(signs) > 1:
            return "mixed", None
        if not np.isfinite(numbers).all():
            return "infinite", None
        return ("dates" if forced is None and are_compact(there, shapes) else "numbers"), numbers
    if forced is None and are_dates(there, shapes, of):
        return "dates", None
    is_infinite = [bool(INFINITE.fullmatch(shape)) for shape in shapes]
    if any(is_infinite) and all(
        endless or PLAIN.fullmatch(shape) for endless, shape in zip(is_infinite, shapes, strict=True)
    ):
        return "infinite", None
    like = [is_numeric(shape) for shape in shapes]
    if all(like):
        return ("written" if rules.decimal is None else "mark"), None
    if forced == "numbers" or any(
        number and not CODE.fullmatch(shape) for shape, number in zip(shapes, like, strict=True)
    ):
        return "mixed", None
    return ("units" if has_unit(shapes, of, MOST_UNITS) else "words"), None


def _are_near(shapes, of):
    """Whether most cells begin like a number, and not all are codes."""
    near = np.array([bool(NEAR.match(shape)) for shape in shapes])[of]
    return 2 * near.sum() > len(of) and not all(map(CODE.fullmatch, shapes))


def _to_name(kind, there, shapes, of):
    """(k, k): the distinct cells that a sentence shows: a number and a text, or the first that is not plain."""

    def first(holds):
        found = np.flatnonzero(np.array([bool(holds(shape)) for shape in shapes])[of])
        return int(found[0]) if len(found) else None

    match = {"dates": DATE.fullmatch, "units": MARKED.fullmatch, "near": NEAR.match}.get(kind)
    if match is not None:  # the usual one, not the exception
        return first(match) or 0, 0
    if kind == "infinite":
        odd = (k for k, cell in enumerate(there) if not (PLAIN.fullmatch(cell) and np.isfinite(float(cell))))
        return next(odd, 0), 0
    if kind in ("written", "mark"):  # best a cell that can be read in one way only
        odd = first(lambda s: not PLAIN.fullmatch(s))
        sure = first(
            lambda s: not PLAIN.fullmatch(s) and (written_number(s, ",") is None) != (written_number(s, ".") is None)
        )
        return next((k for k in (sure, odd) if k is not None), 0), 0
    if kind == "mixed":
        number, text = first(is_numeric), first(lambda s: not is_numeric(s))
        if text is None:  # signs that differ
            text = first(lambda s: sign_of(s) != sign_of(there[number or 0]))
        return number or 0, text or 0
    return 0, 0
