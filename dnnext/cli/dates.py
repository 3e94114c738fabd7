"""Ways of writing a date, a time or a duration; they are no inputs, and are named before training."""

from __future__ import annotations

import re

import numpy as np

NAMES = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december", "januar", "februar", "m\xe4rz", "maerz", "mai", "juni", "juli", "oktober", "dezember", "janvier",
    "f\xe9vrier", "mars", "avril", "juin", "juillet", "ao\xfbt", "septembre", "octobre", "novembre", "d\xe9cembre",
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre", "gennaio", "febbraio", "aprile", "maggio", "giugno", "luglio", "settembre", "ottobre", "dicembre",
    "januari", "februari", "maart", "mei", "augustus", "janeiro", "fevereiro", "mar\xe7o", "maio", "junho",
    "julho", "setembro", "outubro", "novembro", "dezembro",
)  # fmt: skip
MONTH = "(?:" + "|".join(sorted({n[:k] for n in NAMES for k in (3, 4, 99)}, key=len, reverse=True)) + r")\.?"
DAY_NAME = r"(?:(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so)[a-z]{0,6}\.?,? )?"
CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
ZONE = r"(?: ?(?:Z|[A-Z]{3,4}|(?:UTC|GMT)?[+-][0-9]{2}:?(?:[0-9]{2})?)(?:\[[A-Za-z/_]+\])?)?"
YEAR = r"(?:[0-9]{4}|['\u2019]?[0-9]{2})"
DAYS = (
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}",
    r"[0-9]{1,2}([-/.])[0-9]{1,2}\1(?:[0-9]{4}|[0-9]{2})",
    rf"[0-9]{{1,2}}(?:st|nd|rd|th)?\.?[ /-]?(?:of |de )?{MONTH}(?: de)?[ ,/-]*{YEAR}",
    rf"{MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}",
    rf"[0-9]{{4}}[ -]{MONTH}[ -][0-9]{{1,2}}",
    r"[0-9]{4} ?\u5e74 ?[0-9]{1,2} ?\u6708 ?[0-9]{1,2} ?\u65e5",
)
OTHERS = (
    CLOCK,
    rf"{MONTH}[ /-]*(?:[0-9]{{4}}|['\u2019][0-9]{{2}})",
    rf"{MONTH}-[0-9]{{2}}",
    rf"[0-9]{{4}}[ -]{MONTH}",
    r"[0-9]{4} ?\u5e74(?: ?[0-9]{1,2} ?\u6708)?",
    r"[0-9]{4}[ /-]?Q[0-9]|Q[0-9][ /-]?(?:[0-9]{4}|['\u2019]?[0-9]{2})",
    r"[0-9]{4}[ -]?W[0-9]{1,2}(?:-?[0-9])?",
    r"[0-9]{8}T[0-9]{4}(?:[0-9]{2}(?:\.[0-9]+)?)?Z?",
    rf"{DAY_NAME}{MONTH} +[0-9]{{1,2}},? {CLOCK}{ZONE} [0-9]{{4}}",
    rf"-?[0-9]+ days?,? {CLOCK}",
    r"P(?=[0-9T])(?:[0-9]+[YMWD])*(?:T(?:[0-9]+(?:\.[0-9]+)?[HMS])+)?",
)
DATE = re.compile(rf"{DAY_NAME}(?:{'|'.join(DAYS)})(?:[T ,]+{CLOCK}{ZONE})?|{'|'.join(OTHERS)}", re.IGNORECASE)
PERHAPS = re.compile(r"[01]{4}[-/][01]{1,2}|[01]{1,2}[-/][01]{4}")  # a shape: 2024-01, 1/2024
MONTH_OF_YEAR = re.compile(
    r"(?:1[89]|20|21)[0-9]{2}[-/](?:0?[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])[-/](?:1[89]|20|21)[0-9]{2}"
)
COMPACT = re.compile(
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9])?)?"
)


def are_compact(cells, shapes):
    """Whether all are dates written as 20240131 or 20240131235959."""
    return len(cells) > 2 and {*map(len, shapes)} <= {8, 12, 14} and all(map(COMPACT.fullmatch, cells))


def are_dates(cells, shapes, of):
    """Whether all are dates or times, or most of at least three; `shapes[of[k]]` is the shape of cell k."""
    holds = np.array([bool(DATE.fullmatch(shape)) for shape in shapes])[of]
    perhaps = np.array([bool(PERHAPS.fullmatch(shape)) for shape in shapes])[of] & ~holds
    holds[perhaps] = [bool(MONTH_OF_YEAR.fullmatch(cells[k])) for k in np.flatnonzero(perhaps)]
    return bool(holds.all()) or (holds.sum() >= 3 and 2 * int(holds.sum()) > len(cells))
