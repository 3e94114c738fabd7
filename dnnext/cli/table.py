"""Files as columns of text: CSV by pandas, Parquet by pyarrow, both with the place of every row.

# Design:
#   pandas reads every cell as text and judges nothing; what a column holds is decided in one place, `cells`. Of the
#   readers tried (pandas, polars, pyarrow), pandas was right on most files: quotes after a blank, every line end,
#   gaps in a single column. It fills short lines silently, so separators are counted; only if their number does not
#   fit are the lines looked at one by one. Compression and encoding are found in the first bytes (`packed`), so
#   that a pipe is read as a file is.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from dataclasses import dataclass, field, replace

import numpy as np

from dnnext.cli.distinct import Cells, pandas_here
from dnnext.cli.packed import text_of, unpacked

PARQUET = (".parquet", ".pq")
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")
EMPTY = re.compile(r"[ \t]*(?:\r\n|\r|\n)")
SEPARATORS = ",;\t|"
MANY = 2**20  # letters from which on a second reader is worth its import
PAGES = ("<!doctype", "<html", "<?xml", "{", "[{", "[[")


@dataclass(frozen=True)
class Table:
    """Cells of a file, text by column, and where each row stands (a line of a CSV, a row of a Parquet file).

    Parameters
    ----------
    path : str
        The file, for sentences.
    names : list of str
        Its columns in their order; a name may come twice.
    columns : list of Cells (n,)
        Their cells, without blanks around them; "" where there is nothing.
    lines : ndarray of int (n,)
        Where each row stands.
    unit : str
        "line" or "row".
    kinds : dict
        The type of a column in a Parquet file: "numbers", "words", "dates" or a type that cannot be used.
    notes : list of str
        What was left out.
    """

    path: str
    names: list
    columns: list
    lines: np.ndarray
    unit: str = "line"
    kinds: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def column(self, name):
        """The cells of one column."""
        return self.columns[self.names.index(name)]

    def place(self, row):
        """'line 7'."""
        return f"{self.unit} {self.lines[row]}"

    def take(self, keep):
        """The table of the rows where keep (n,) is true."""
        columns = [column.take(keep) for column in self.columns]
        return replace(self, columns=columns, lines=self.lines[keep])

    @property
    def empty_rows(self):
        """Where no cell holds anything, (n,) bool."""
        return np.logical_and.reduce([column.rows("") for column in self.columns])


def read_table(path, encoding=None):
    """Table of a Parquet file (by its ending) or a CSV file; "-" is the standard input.

    Parameters
    ----------
    path : str
        Compressed by gzip, bzip2, xz or zip, or not.
    encoding : str or None
        None is UTF-8, or the encoding of a byte order mark.

    Raises
    ------
    ValueError
        If the file is empty, cannot be read, has no header, or a line has another number of cells; if pandas or
        pyarrow are not installed.
    """
    shown = "standard input" if path == "-" else str(path)
    if path == "-":
        data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    else:
        with open(path, "rb") as file:
            data = file.read()
    if str(path).lower().endswith(PARQUET) or data.startswith(b"PAR1"):
        from dnnext.cli.parquet import read_parquet

        return Table(*read_parquet(shown, data))
    return _parse(shown, text_of(shown, unpacked(shown, data), encoding))


def _parse(shown, text):
    if not text.strip():
        raise ValueError(f"{shown}: the file is empty; the first line must hold the names of the columns.")
    text, skipped, separator = _below_hints(text)
    if not text:
        raise ValueError(f"{shown}: there is no line with the names of the columns.")
    if text.lower().startswith(PAGES):
        raise ValueError(f"{shown}: a web page, XML or JSON, it begins with {text[:9]!r}; save the table as CSV.")
    separator = separator if separator and len(separator) == 1 else _separator(text)
    frame = _read(shown, text, separator)
    names = [str(name).strip(" \t\ufeff\u200b") for name in frame.iloc[0]]
    if len(names) > 1 and all(len(name) > 1 and name[0] == name[-1] == "'" for name in names):
        raise ValueError(f"{shown}: the names stand in single quotes ({names[0]}); CSV quotes by double ones.")
    if all(_is_number(name) for name in names if name) and any(names):
        raise ValueError(f"{shown}: the first line must hold the names of the columns, it holds numbers ({names[0]}).")
    first = 1 + sum(_breaks(str(name)) for name in frame.iloc[0])  # lines of the header
    above, rest = _cut(text, first, len(names) > 1)
    columns = plain_cells(rest, separator) if len(rest) > MANY else None
    if columns is None:
        body = _read(shown, text, separator, rest, skipped, single=len(names) == 1)
        if body is None:
            raise ValueError(f"{shown}: there are no rows below the header.")
        columns = [Cells.of(body[k].to_numpy(dtype=object)) for k in range(body.shape[1])]
    lines = _lines(columns, skipped + above + 1)
    names, columns = _fitted(shown, names, columns, lines, len(names) > 1 or rest.startswith('"'))
    _check_ragged(shown, text, separator, names, columns, skipped)
    table = Table(shown, names, [column.stripped() for column in columns], lines)
    if len(names) > 1:  # empty lines at the end are no rows; of one column they are gaps
        n = len(lines) - int(np.argmin(table.empty_rows[::-1])) if not table.empty_rows.all() else 0
        table = table.take(np.arange(len(lines)) < n) if n < len(lines) else table
        table.notes.extend(_left_out(text, separator))
    if not len(table.lines):
        raise ValueError(f"{shown}: there are no rows below the header.")
    return table


def _left_out(text, separator):
    """A note about rows of separators at the end, as spreadsheet programs write them."""
    count, end = 0, len(text.rstrip("\r\n"))
    while end > 0:
        start = max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1
        line = text[start:end].replace(" ", "")
        if line.strip(separator + '"') or not line:
            break
        count, end = count + 1, len(text[:start].rstrip("\r\n"))
    return [f"{count} row{'s' if count > 1 else ''} of separators at the end left out"] if count else []


def _below_hints(text):
    """(text, lines above, separator or None) from the header on: below empty lines and Excel's "sep=;"."""
    skipped, separator, start = 0, None, 0
    while found := LINE.match(text, start):
        head = found[0].strip(" \t\r\n\ufeff").strip('"')
        if head and not head.lower().startswith("sep="):
            break
        separator = found[0].strip("\r\n\ufeff").strip('" ')[4:5] or separator
        start, skipped = found.end(), skipped + 1
    return text[start:], skipped, separator


def _separator(text):
    """The separator that stands most often in the header, outside of quotes.

    A header of one name has none: a comma below it is a decimal comma, unless R's quoted row labels stand there.
    """
    header, end = _counts(text, 0)
    if any(header.values()):
        return max(header, key=header.get)
    below, after = _counts(text, end)
    line = text[end:after].strip()
    if below[","] and not line.startswith('"') and not re.fullmatch(r"[^,]*[0-9],[0-9][^,]*|,[0-9]+", line):
        return ","  # something stands above the header
    if not line.startswith('"'):
        below[","] = 0
    return max(below, key=below.get) if any(below.values()) else "\t"


def _counts(text, start):
    """(how often each separator stands outside of quotes in the line that begins there, where the next one begins)."""
    counts, quoted = dict.fromkeys(SEPARATORS, 0), False
    for k in range(start, len(text)):
        letter = text[k]
        if letter == '"':
            quoted = not quoted
        elif letter in "\r\n" and not quoted:
            return counts, k + (2 if text[k : k + 2] == "\r\n" else 1)
        elif letter in counts and not quoted:
            counts[letter] += 1
    return counts, len(text)


def _cut(text, first, skip_empty):
    """(lines, rest) below the first lines, and below empty lines after them if they are no rows."""
    ends = [found.end() for found in itertools.islice(LINE.finditer(text), first)]
    above, start = first, ends[-1] if len(ends) == first else len(text)
    while skip_empty and (found := EMPTY.match(text, start)):
        above, start = above + 1, found.end()
    return above, text[start:]


def _read(shown, text, separator, rest=None, skipped=0, single=False):
    """The cells of the first line, or those of `rest`, as text, columns numbered; None without rows."""
    pandas = pandas_here()
    try:
        return pandas.read_csv(
            io.StringIO(text if rest is None else rest, newline=""), sep=separator, header=None, dtype=object,
            na_filter=False, index_col=False, skip_blank_lines=False, skipinitialspace=separator != "\t",
            nrows=1 if rest is None else None, low_memory=False,
            names=[0] if single and rest is not None and EMPTY.match(rest) else None,
        )  # fmt: skip
    except pandas.errors.EmptyDataError:
        return None
    except (pandas.errors.ParserError, csv.Error) as error:
        if "EOF inside string" in str(error):
            raise ValueError(f"{shown}: not valid CSV (a quote is opened and never closed).") from None
        width, line = _first_ragged(text, separator)
        if line is not None:
            raise ValueError(
                f"{shown}: line {line + skipped} has {width[0]} cells, the header has {width[1]}."
            ) from None
        what = str(error).split("C error: ")[-1].strip().rstrip(".")
        raise ValueError(f"{shown}: not valid CSV ({what}).") from None


def plain_cells(text, separator):
    """The columns of text without quotes, empty lines and blanks beside separators, read by pyarrow; else None.

    All that pandas and pyarrow may see in two ways is left to pandas: quotes, line ends other than a newline, NUL,
    blanks, rows of another width.
    """
    odd = ('"', "\r", "\0", "\n\n", "\n ", separator + " ", "\ufeff")
    if any(part in text for part in odd) or text[:1] in ("\n", " ") or separator not in text:
        return None
    try:
        from pyarrow import ArrowInvalid, BufferReader, csv, dictionary, int32, string

        data = text.encode()
    except (ImportError, UnicodeEncodeError):
        return None
    names = [str(k) for k in range(text[: text.index("\n") if "\n" in text else None].count(separator) + 1)]
    kinds = dict.fromkeys(names, dictionary(int32(), string()))
    try:
        table = csv.read_csv(
            BufferReader(data),
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=kinds, null_values=[], strings_can_be_null=False),
        )
    except ArrowInvalid:  # such as rows of another width: pandas' reading finds the line
        return None
    whole = [column.combine_chunks() for column in table.unify_dictionaries().columns]
    parts = [column.chunk(0) if hasattr(column, "chunk") else column for column in whole]
    return [Cells(part.indices.to_numpy().astype(np.int64), part.dictionary.to_pylist()) for part in parts]


def _first_ragged(text, separator):
    """((cells, cells of the header), line) of the first line that has too few or too many; line None without one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    wanted = None
    try:
        for row in reader:
            if wanted is None:
                wanted = len(row)
            elif len(row) not in (0, wanted) and any(cell.strip() for cell in row):
                return (len(row), wanted), reader.line_num
    except csv.Error:
        pass
    return (0, 0), None


def _fitted(shown, names, columns, lines, may_label):
    """Names and columns of one number: row labels without a name (R), separators at line ends."""
    is_empty = [column.distinct == [""] for column in columns]
    if len(names) == len(columns) + 1 and not names[-1]:
        names = names[:-1]
    elif len(columns) == len(names) + 1:
        if is_empty[-1]:
            columns = columns[:-1]
        elif may_label and labels_rows(columns[0]):
            names = ["", *names]
    elif len(names) == len(columns) > 1 and not names[-1] and is_empty[-1]:
        names, columns = names[:-1], columns[:-1]
    if len(names) != len(columns):
        raise ValueError(f"{shown}: line {lines[0]} has {len(columns)} cells, the header has {len(names)}.")
    return [name or f"#{k + 1}" for k, name in enumerate(names)], columns


def labels_rows(cells):
    """Whether a column without a name holds row labels: each once, text or whole numbers."""
    return len(cells.distinct) == len(cells) and all(
        (cell.isascii() and cell.isdigit()) or not _is_number(cell) for cell in cells.distinct
    )


def _check_ragged(shown, text, separator, names, columns, skipped):
    """ValueError if a line has too few cells, which pandas fills: the text must have the separators of the cells."""
    width = len(columns)
    inside = 0
    if '"' in text:
        inside = sum(c.count(separator) for c in columns) + sum(name.count(separator) for name in names)
    if text.count(separator) - inside == (len(columns[0]) + 1) * (width - 1):
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    for k, row in enumerate(reader):
        if k and any(cell.strip() for cell in row) and len(row) < width:
            raise ValueError(f"{shown}: line {reader.line_num + skipped} has {len(row)} cells, the header has {width}.")


def _lines(columns, start):
    """The line on which each row begins, although quoted cells may hold line ends."""
    more = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        joined = "".join(column.distinct)
        if "\n" in joined or "\r" in joined:
            more += column.spread([_breaks(cell) for cell in column.distinct], np.int64)
    return start + np.arange(len(more)) + np.concatenate([[0], np.cumsum(more)[:-1]])


def _breaks(cell):
    return cell.count("\n") + cell.count("\r") - cell.count("\r\n")


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def write_predictions(file, names, columns):
    """CSV of equal-length columns; floats in their shortest exact form."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*[[_shortest(v) for v in column] for column in columns], strict=True))


def _shortest(value):
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)
