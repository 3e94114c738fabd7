"""Long tables of plain text are read by pyarrow: the same cells as pandas reads, or pandas does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnext.cli import table


@settings(max_examples=150)
@given(data=st.data())
def test_both_readers_of_plain_text_agree(data):
    pytest.importorskip("pyarrow")
    width, separator = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(table.SEPARATORS))
    letters = "a0.-#N'\u2028\u00a0\u00e9" + data.draw(st.sampled_from(["", "", " ,;|\t", '"\r\n\0\ufeff']))
    cell = st.text(st.sampled_from(letters), max_size=3)
    row = st.lists(cell, min_size=width, max_size=width + (data.draw(st.integers(0, 9)) == 0))
    lines = data.draw(st.lists(row, min_size=1, max_size=6))
    text = "\n".join(separator.join(one) for one in lines) + data.draw(st.sampled_from(["", "\n"]))
    found = table.plain_cells(text, separator)
    if found is not None:
        body = table._read("here", text, separator, text)
        wanted = [table.Cells.of(body[k].to_numpy(dtype=object)) for k in range(body.shape[1])]
        assert [cells.distinct for cells in found] == [cells.distinct for cells in wanted]
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_long_tables_are_read_by_the_second_reader(monkeypatch, tmp_path):
    pytest.importorskip("pyarrow")
    text = "a,b\n" + "".join(f"{k % 7},{k}.50\n" for k in range(1000))
    (tmp_path / "t.csv").write_text(text)
    slow = table.read_table(tmp_path / "t.csv")
    monkeypatch.setattr(table, "MANY", 100)
    header = table._read
    monkeypatch.setattr(table, "_read", lambda *given: header(*given))  # of the first line only: the rest has options
    fast = table.read_table(tmp_path / "t.csv")
    assert fast.names == slow.names
    for ours, theirs in zip(fast.columns, slow.columns, strict=True):
        assert ours.array().tolist() == theirs.array().tolist()
