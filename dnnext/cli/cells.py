"""What the cells of a column are: numbers, words, dates, or numbers written in a way that has to be named.

# Design:
#   `look` is the one place that decides. A cell is a plain number only by its ASCII letters: no digit of another
#   script, no underscore. Numbers with a comma, a percent sign, a currency or blanks between digits are read only if
#   --decimal states how, because "1,000" is a thousand to some and one to others. Digits with a leading zero are codes.
#   Distinct cells are judged, not rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-nan", "#n/a", "<na>", "nat"})
WORD_TOO = frozenset({"none"})  # a gap among numbers, a word among words
MOST_UNITS = 10  # "5 kg", "6 kg", ...: more of them are numbers, fewer may be classes
EXACT = 2**53  # whole numbers beyond are not exact in float64

PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
CODE = re.compile(r"0[0-9]+")
WHOLE = re.compile(r"[+-]?[0-9]+")
CURRENCY = "$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u00a2"
SIGN = rf"[{CURRENCY}]|EUR|USD|GBP|CHF|JPY"
BLANKS = " \u00a0\u2007\u2009\u202f"
GROUPS = {",": f".'\u2019{BLANKS}", ".": f",'\u2019{BLANKS}"}
WRITTEN = {
    mark: re.compile(
        rf"(?P<open>\()?(?P<minus>[+\-\u2212])?[{BLANKS}]*(?P<before>{SIGN})?[{BLANKS}]*(?P<minus2>[-\u2212])?"
        rf"(?P<whole>[1-9][0-9]{{0,2}}(?:(?P<group>[{groups}])[0-9]{{3}})(?:(?P=group)[0-9]{{3}})*|[0-9]*)"
        rf"(?:{re.escape(mark)}(?P<part>[0-9]+))?(?P<exponent>[eE][+-]?[0-9]+)?"
        rf"[{BLANKS}]*(?P<after>%|\u2030|{SIGN})?(?P<close>\))?"
    )
    for mark, groups in GROUPS.items()
}
CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?[AaPp][Mm])?"
ZONE = r"(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?"
MONTH = r"(?:jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*\.?"
DATE = re.compile(
    rf"(?:[0-9]{{4}}[-/.][0-9]{{1,2}}[-/.][0-9]{{1,2}}|[0-9]{{1,2}}([-/.])[0-9]{{1,2}}\1(?:[0-9]{{4}}|[0-9]{{2}})"
    rf"|[0-9]{{1,2}}\.?[ -]?{MONTH}[ ,-]*(?:[0-9]{{4}}|[0-9]{{2}})|{MONTH} [0-9]{{1,2}},? [0-9]{{4}})"
    rf"(?:[T ,]+{CLOCK}{ZONE})?|{CLOCK}|(?:1[89]|20|21)[0-9]{{2}}-(?:0[1-9]|1[0-2])",
    re.IGNORECASE,
)
NEAR = re.compile(r"[<>~=+\-\u2212(]*[ \u00a0]?[0-9]")
UNIT = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[ \u00a0]?(?P<unit>[^\W\d_]+(?:[/^][^\W_]+)?|[\u00b0\u00b5][^\W\d_]*)")
DAY = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")


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
    type of Parquet that cannot be used. `gaps` (n,) bool. `numbers` maps cells to float64, `distinct` are
    the cells that are no gaps. `first`, `second`: rows to name in a sentence.
    """

    kind: str
    gaps: np.ndarray
    numbers: dict
    first: int = 0
    second: int = 0
    is_whole: bool = False
    distinct: list = field(default_factory=list)
    has_codes: bool = False

    def values(self, cells):
        """The cells as float64 with NaN, or as words with None."""
        if self.kind == "numbers":
            return np.array([np.nan if g else self.numbers[c] for c, g in zip(cells, self.gaps, strict=True)])
        out = cells.copy()
        out[self.gaps] = None
        return out


def look(cells, rules, kind=None, forced=None):
    """The Look of a column.

    Parameters
    ----------
    cells : ndarray of str (n,)
    rules : Rules
    kind : str or None
        Its type in the file (Parquet); None decides by the cells.
    forced : {None, "words", "numbers"}
        The kind that the user asks for.
    """
    distinct = list(dict.fromkeys(cells.tolist()))
    gap = {cell: rules.is_gap(cell) for cell in distinct}
    there = [cell for cell in distinct if not gap[cell]]
    if kind not in (None, "numbers", "words", "nothing"):
        return Look(kind, cells == "", {})
    if forced == "words" or (kind == "words" and forced is None):
        found, numbers = ("words" if there else "nothing"), {}
    elif not there:
        found, numbers = "nothing", {}
    else:
        found, numbers = _judge(there, rules, forced)
        if found == "words" and len(there) > MOST_UNITS and len(cells) < 2 * len(there):
            found = "near" if all(map(NEAR.match, there)) and not all(map(CODE.fullmatch, there)) else found
    if found == "words" and rules.missing is None:
        gap |= {cell: False for cell in distinct if cell.lower() in WORD_TOO}
    gaps = np.array([gap[cell] for cell in cells.tolist()], dtype=bool)
    first, second = _rows_to_name(found, cells, gaps, rules)
    whole = found == "numbers" and all(value == np.floor(value) for value in numbers.values())
    words = [cell for cell in distinct if not gap[cell]]
    return Look(found, gaps, numbers, first, second, whole, words, any(CODE.fullmatch(cell) for cell in there))


def _judge(there, rules, forced):
    """(kind, numbers) of distinct cells that are no gaps."""
    plain = [cell for cell in there if PLAIN.fullmatch(cell)]
    if len(plain) == len(there) and rules.decimal != ",":
        if any(CODE.fullmatch(cell) for cell in there) and forced is None:
            return "words", {}
        numbers = {cell: float(cell) for cell in there}
        if not all(np.isfinite(list(numbers.values()))):
            return "infinite", {}
        return ("dates" if forced is None and _are_days(there) else "numbers"), numbers
    if rules.decimal is not None:
        values = {cell: written_number(cell, rules.decimal) for cell in there}
        signs = {sign for value in values.values() if value is not None for sign in [value[1]]}
        if all(value is not None for value in values.values()):
            if any(CODE.fullmatch(cell) for cell in there) and forced is None:
                return "words", {}
            numbers = {cell: value[0] for cell, value in values.items()}
            fits = all(np.isfinite(list(numbers.values())))
            if len(signs) > 1:
                return "mixed", {}
            return ("infinite" if not fits else "dates" if forced is None and _are_days(there) else "numbers"), numbers
    if all(DATE.fullmatch(cell) for cell in there) and forced is None:
        return "dates", {}
    if any(INFINITE.fullmatch(cell) for cell in there) and all(
        INFINITE.fullmatch(cell) or PLAIN.fullmatch(cell) for cell in there
    ):
        return "infinite", {}
    if any(all(is_numeric(cell, (mark,)) for cell in there) for mark in ",."):
        return ("written" if rules.decimal is None else "mark"), {}
    like = [is_numeric(cell) for cell in there]
    if all(like):
        return ("written" if rules.decimal is None else "mark"), {}
    ordinary = [cell for cell, number in zip(there, like, strict=True) if number and not CODE.fullmatch(cell)]
    if ordinary or forced == "numbers":
        return "mixed", {}
    units = {found["unit"] if found else None for found in map(UNIT.fullmatch, there)}
    return ("units" if len(units) == 1 and None not in units and len(there) > MOST_UNITS else "words"), {}


def _are_days(there):
    """Whether all are dates written as 20240131."""
    return len(there) > 2 and all(DAY.fullmatch(cell) for cell in there)


def is_numeric(cell, marks=(",", ".")):
    """Whether a cell is a number in any of the ways of writing one."""
    return bool(PLAIN.fullmatch(cell)) or any(written_number(cell, mark) is not None for mark in marks)


def written_number(cell, decimal):
    """(value, sign or "") of a number with that decimal mark, thousands, currency or percent sign; or None."""
    found = WRITTEN[decimal].fullmatch(cell)
    if not found or not (found["whole"] or found["part"]) or bool(found["open"]) != bool(found["close"]):
        return None
    if found["before"] and found["after"]:
        return None
    whole = re.sub(r"[^0-9]", "", found["whole"])
    value = float(f"{whole or '0'}.{found['part'] or '0'}{found['exponent'] or ''}")
    negative = found["open"] or found["minus2"] or (found["minus"] or "+") != "+"
    return (-value if negative else value), found["before"] or found["after"] or ""


def _rows_to_name(kind, cells, gaps, rules):
    """(row, row) that a sentence shows: a number and a text, or the first cell that is not plain."""
    if kind in ("nothing", "numbers"):
        return 0, 0
    rows = np.flatnonzero(~gaps)
    if not len(rows):
        return 0, 0
    if kind == "infinite":
        odd = [k for k in rows if not (PLAIN.fullmatch(cells[k]) and np.isfinite(float(cells[k])))]
        return int((odd or rows)[0]), 0
    if kind in ("written", "mark"):  # best a cell that can be read in one way only
        odd = [k for k in rows if not PLAIN.fullmatch(cells[k])]
        sure = [k for k in odd if (written_number(cells[k], ",") is None) != (written_number(cells[k], ".") is None)]
        return int((sure or odd or rows)[0]), 0
    if kind == "mixed":
        like = {cell: is_numeric(cell) for cell in dict.fromkeys(cells[rows].tolist())}
        number = next((k for k in rows if like[cells[k]]), rows[0])
        text = next((k for k in rows if not like[cells[k]]), None)
        if text is None:  # signs that differ
            text = next((k for k in rows if _sign(cells[k]) != _sign(cells[number])), rows[0])
        return int(number), int(text)
    return int(rows[0]), 0


def _sign(cell):
    found = [value for value in (written_number(cell, ","), written_number(cell, ".")) if value is not None]
    return found[0][1] if found else None


def how_written(cell):
    """In words, what keeps a cell from being a plain number."""
    for letters, what in (
        ("%\u2030", "a percent sign"), (CURRENCY, "a currency sign"), ("\u00a0\u2007\u2009\u202f", "a no-break space"),
        ("'\u2019", "an apostrophe between thousands"), ("\u2212", "the sign U+2212 for minus"), ("(", "parentheses"),
    ):  # fmt: skip
        if any(letter in cell for letter in letters):
            return what + (" and a comma" if "," in cell else "")
    if "," in cell:
        both = written_number(cell, ",") is not None and written_number(cell, ".") is not None
        decimal = written_number(cell, ",") is not None
        return "a comma" if both else "a decimal comma" if decimal else "a comma between thousands"
    return "a blank" if " " in cell else "points between thousands"
