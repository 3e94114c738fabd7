"""Parquet files, read by pyarrow: every column knows its kind, and what cannot be used may still be left out."""

from __future__ import annotations

import numpy as np

from dnnext.cli.distinct import Cells


def read_parquet(path, data):
    """What `dnnext.cli.table.Table` holds of the bytes of a Parquet file; the path is for sentences.

    Raises
    ------
    ValueError
        If pyarrow is not installed, or the file is damaged or has no rows.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            f"{path}: Parquet files need pyarrow (pip install pyarrow); or save the file as CSV."
        ) from None
    try:
        table = parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True).read()
    except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError) as error:
        what = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"{path}: not a complete Parquet file ({what}).") from None
    places = [k for k, name in enumerate(table.column_names) if not name.startswith("__index_level_")]  # pandas' rows
    if not table.num_rows:
        raise ValueError(f"{path}: there are no rows.")
    names = [table.column_names[k] or f"#{k + 1}" for k in places]
    kinds = {name: _kind(table.column(k).type, pyarrow.types) for name, k in zip(names, places, strict=True)}
    columns = [_texts(path, name, table.column(k), kinds[name], pyarrow) for name, k in zip(names, places, strict=True)]
    return str(path), names, columns, np.arange(1, table.num_rows + 1), "row", kinds


def _kind(type_, test):
    """The word numbers, words or dates, or the name of a type that cannot be used."""
    if test.is_dictionary(type_):
        type_ = type_.value_type
    if test.is_integer(type_) or test.is_floating(type_) or test.is_decimal(type_):
        return "numbers"
    if test.is_boolean(type_) or test.is_string(type_) or test.is_large_string(type_) or test.is_string_view(type_):
        return "words"
    if test.is_temporal(type_):
        return "dates"
    return "nothing" if test.is_null(type_) else str(type_)


def _texts(path, name, column, kind, pyarrow):
    """The cells as the text a CSV would hold; no value is no text."""
    if kind not in ("numbers", "words"):
        return Cells(np.zeros(len(column), dtype=np.int64), [""])
    try:
        held = column.combine_chunks()
        held = held if pyarrow.types.is_dictionary(held.type) else held.dictionary_encode()
        words = ["" if value is None else str(value) for value in held.dictionary.to_pylist()]
        codes = held.indices.fill_null(len(words)).to_numpy(zero_copy_only=False).astype(np.int64)
    except (pyarrow.ArrowException, ValueError) as error:  # damaged text
        raise ValueError(f"{path}: column {name!r} cannot be read ({error}).") from None
    return Cells.of(np.array([*words, ""], dtype=object)[codes]).stripped()
