"""Columns by their distinct cells: what holds for a cell is decided once, however many rows have it.

# Design:
#   A column of n cells is K distinct cells and n codes. Rules of writing look at digits as digits, so that cells are
#   also grouped by their shape: "12.5" and "73.9" are "11.1". A column of 200 000 numbers has a dozen shapes, and a
#   regular expression is asked a dozen times. A zero in front stays a zero, for "0110" is a code.
"""

from __future__ import annotations

import itertools

import numpy as np

DIGITS = bytes.maketrans(b"23456789", b"11111111")
UNSEEN = "\u200b\u200e\u200f\u2060\ufeff"  # letters of no width
AFTER = np.frombuffer(b"01.", dtype=np.uint8)  # a zero after these is not the first digit
AROUND = " \t\n\r\v\f\x1c\x1d\x1e\x1f"  # what str.strip takes away in ASCII


def pandas_here():
    """The module pandas; ValueError explains how to install it."""
    try:
        import pandas
    except ImportError:
        raise ValueError("reading tables needs pandas: pip install pandas pyarrow.") from None
    return pandas


class Cells:
    """The cells of a column: distinct ones in the order of their first rows, and which one each row has.

    Parameters
    ----------
    codes : ndarray of int (n,)
        Places in `distinct`.
    distinct : list of str (K,)
        Each comes at least once, first those of first rows.
    """

    def __init__(self, codes, distinct):
        self.codes, self.distinct = codes, distinct

    @classmethod
    def of(cls, cells):
        """Those of an array of text (n,)."""
        if isinstance(cells, Cells):
            return cells
        codes, distinct = pandas_here().factorize(np.asarray(cells, dtype=object))
        return cls(codes, distinct.tolist())

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, row):
        return self.distinct[self.codes[row]]

    def array(self):
        """The cells as text (n,)."""
        return self.spread(self.distinct)

    def spread(self, values, dtype=object):
        """One value per distinct cell, as one per row."""
        out = np.empty(len(self.distinct), dtype=dtype)
        out[:] = values
        return out[self.codes]

    def rows(self, cell):
        """Where that cell stands, (n,) bool."""
        return self.codes == (self.distinct.index(cell) if cell in self.distinct else -1)

    def first(self, k):
        """The first row with distinct cell k."""
        return int(np.argmax(self.codes == k))

    def take(self, keep):
        """The cells of the rows where keep (n,) is true."""
        return self._recoded(self.codes[keep], self.distinct)

    def stripped(self):
        """Without blanks around them."""
        joined = "\0".join(self.distinct)
        if joined.isascii() and not any(blank in joined for blank in AROUND):
            return self
        words = [cell.strip().strip(UNSEEN).strip() for cell in self.distinct]
        return self._recoded(self.codes, words)

    def count(self, letter):
        """How often all rows together have that letter."""
        each = np.array([cell.count(letter) for cell in self.distinct], dtype=np.int64)
        return int(each @ np.bincount(self.codes, minlength=len(each)))

    def _recoded(self, codes, words):
        again = Cells.of(np.array([*words, ""], dtype=object)[codes])
        return Cells(again.codes, again.distinct)


def shapes_of(cells):
    """(shapes, codes): the distinct shapes of a list of text, and which one each has.

    A shape has 1 for every digit but a zero in front of a number, so that a rule that takes digits as digits says the
    same of a cell and of its shape.
    """
    joined = "\0".join(cells)
    if joined.count("\0") != len(cells) - 1:
        joined = "\0".join(cell.replace("\0", "\1") for cell in cells)
    data = np.frombuffer(joined.encode("utf-8", "surrogatepass").translate(DIGITS), dtype=np.uint8).copy()
    inside = np.isin(data[:-1], AFTER) & (data[1:] == ord("0"))
    data[1:][inside] = ord("1")
    shapes = Cells.of(np.array(data.tobytes().decode("utf-8", "surrogatepass").split("\0"), dtype=object))
    return shapes.distinct, shapes.codes


def used(shapes, codes):
    """(shapes, codes) without the shapes that no code has."""
    there = np.bincount(codes, minlength=len(shapes)) > 0
    return list(itertools.compress(shapes, there)), (np.cumsum(there) - 1)[codes]
