"""Ways of writing a number: regular expressions, and what a cell that fits one stands for.

# Design:
#   A cell is a plain number only by its ASCII letters: no digit of another script, no underscore. Digits count as
#   digits here, except a zero in front, so that a cell may be replaced by its shape (`distinct.shapes_of`).
"""

from __future__ import annotations

import re

import numpy as np

PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
CODE = re.compile(r"0[0-9]+")
WHOLE = re.compile(r"[+-]?[0-9]+")
CURRENCY = "$\u00a2\u00a3\u00a5\u0e3f\u20a0-\u20bf"  # as a class of letters
SIGN = (
    rf"(?:US|CA|AU|NZ|HK|NT|MX|[ACRS])?[{CURRENCY}]|(?:EUR|USD|GBP|CHF|JPY|AUD|CAD|NZD|CNY|RMB|INR|BRL|MXN|ZAR|SEK|NOK"
    r"|DKK|PLN|CZK|HUF|RUB|TRY|KRW|SGD|HKD|THB|ILS)|S?Fr\.?|Rs\.?|kr\.?|z\u0142|K\u010d|Ft|\u0440\u0443\u0431\.?"
)
SHARE = "%\u2030\u066a\uff05"
MINUS = "\\-\u2212\u2013\ufe63\uff0d"
BLANKS = " \u00a0\u2000-\u200a\u202f\u205f\u3000"
GROUPS = {",": f".'\u2019\u02bc{BLANKS}", ".": f",'\u2019\u02bc{BLANKS}"}
WRITTEN = {
    mark: re.compile(
        rf"(?P<open>\()?(?P<minus>[+{MINUS}])?[{BLANKS}]*(?P<before>{SIGN}|[{SHARE}])?[{BLANKS}]*(?P<inner>\()?"
        rf"(?P<minus2>[{MINUS}])?"
        rf"(?P<whole>[1-9][0-9]{{0,2}}(?:(?P<group>[{groups}])[0-9]{{3}})(?:(?P=group)[0-9]{{3}})*"
        rf"|[1-9][0-9]?(?:{'[.]' if mark == ',' else ','}[0-9]{{2}})+{'[.]' if mark == ',' else ','}[0-9]{{3}}|[0-9]*)"
        rf"(?:{re.escape(mark)}(?P<part>[0-9]+))?(?P<exponent>[eE][+-]?[0-9]+)?(?P<last>[{MINUS}])?(?P<shut>\))?"
        rf"[{BLANKS}]*(?P<after>[{SHARE}]|{SIGN})?(?P<close>\))?"
    )
    for mark, groups in GROUPS.items()
}
WHOLE_POINT = re.compile(r"[+-]?[0-9]+(?:\.0*)?")
PLAIN_POWER = re.compile(r"[0-9]+E[0-9]+")
NEAR = re.compile(rf"[<>~=+{MINUS}(]*[ \u00a0]?[0-9]")
MARKED = re.compile(r"(?P<before>[^0-9]*?)[+-]?(?P<number>[0-9]+(?:[.,][0-9]+)*)[ \u00a0]?(?P<after>[^0-9]*)")
NUMERO = re.compile(r"n[or][.\u00ba\u00b0]?|ca\.?|approx\.?|[^\W\d_]?[\u00ba\u00b0]", re.IGNORECASE)
MAGNITUDES = frozenset({
    "k", "m", "b", "g", "t", "mn", "mio", "bn", "mrd", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "kg",
    "mg", "lb", "lbs", "oz", "km", "cm", "mm", "nm", "ft", "in", "mi", "h", "hr", "hrs", "min", "s", "sec", "ms",
    "us", "ml", "cl", "l", "st", "nd", "rd", "th",
})  # fmt: skip


def is_numeric(cell, marks=(",", ".")):
    """Whether a cell is a number in any of the ways of writing one."""
    return bool(PLAIN.fullmatch(cell)) or any(written_number(cell, mark) is not None for mark in marks)


def written_number(cell, decimal):
    """(value, sign or "") of a number with that decimal mark, thousands, currency or percent sign; or None."""
    found = WRITTEN[decimal].fullmatch(cell)
    if not found or not (found["whole"] or found["part"]) or (found["before"] and found["after"]):
        return None
    opened, closed = bool(found["open"]) + bool(found["inner"]), bool(found["shut"]) + bool(found["close"])
    minus = [found[name] for name in ("minus", "minus2", "last") if found[name]]
    if opened != closed or opened + len(minus) > 1:
        return None
    whole = re.sub(r"[^0-9]", "", found["whole"])
    value = float(f"{whole or '0'}.{found['part'] or '0'}{found['exponent'] or ''}")
    negative = opened or (minus and minus[0] != "+")
    return (-value if negative else value), found["before"] or found["after"] or ""


def sign_of(cell):
    """The currency or percent sign of a number, "" without one, None of a cell that is no number."""
    found = [value for value in (written_number(cell, ","), written_number(cell, ".")) if value is not None]
    return found[0][1] if found else None


def written_numbers(cells, shapes, of, decimal):
    """`written_number` of every cell (K,), whose shapes can all be read; `shapes[of[k]]` is the shape of cell k."""
    found = [WRITTEN[decimal].fullmatch(shape) for shape in shapes]
    if any(each["exponent"] for each in found):
        return np.array([written_number(cell, decimal)[0] for cell in cells])
    signs = {each[name] for each in found for name in ("before", "after") if each[name]}  # may hold a point: Fr.
    joined = "\0".join(cells)
    for part in (*sorted(signs, key=len, reverse=True), *(set("".join(shapes)) - set(f"01{decimal}"))):
        joined = joined.replace(part, "")
    sizes = joined.replace(decimal, ".").split("\0")
    minus = np.array([np.signbit(written_number(shape, decimal)[0]) for shape in shapes])
    return np.where(minus[of], -1.0, 1.0) * np.fromiter(map(float, sizes), float, len(sizes))


def has_unit(shapes, of, most):
    """Whether most of more than `most` cells are a number with a unit or mark, as "5 kg" or "~5"."""
    units, count = set(), 0
    for shape, cells in zip(shapes, np.bincount(of, minlength=len(shapes)).tolist(), strict=True):
        found = MARKED.fullmatch(shape)
        before = found["before"].strip() if found else "a"
        if found and not CODE.fullmatch(found["number"]) and _is_mark(before) and before + found["after"]:
            units.add((before, found["after"].strip()))
            count += cells
    alike = len(units) == 1 or all(not before and after.lower() in MAGNITUDES for before, after in units)
    return alike and count > most and 2 * count > len(of)


def _is_mark(before):
    return not any(letter.isalpha() for letter in before) or bool(NUMERO.fullmatch(before))


def how_written(cell):
    """In words, what keeps a cell from being a plain number."""
    for letters, what in (
        (f"[{SHARE}]", "a percent sign"), (SIGN, "a currency sign"),
        ("[\u00a0\u2007\u202f]", "a no-break space"), ("['\u2019\u02bc]", "an apostrophe between thousands"),
        ("[\u2212\ufe63\uff0d]", "the sign U+2212 for minus"), ("\u2013", "a dash for minus"), (r"\(", "parentheses"),
        (r".+-", "a minus at the end"),
    ):  # fmt: skip
        if re.search(letters, cell):
            return what + (" and a comma" if "," in cell else "")
    if "," in cell:
        both = written_number(cell, ",") is not None and written_number(cell, ".") is not None
        decimal = written_number(cell, ",") is not None
        return "a comma" if both else "a decimal comma" if decimal else "a comma between thousands"
    return "a blank" if re.search(f"[{BLANKS}]", cell) else "points between thousands"
