"""Files as people have them: separators, line ends, compression, encodings, Parquet; rows keep their places."""

import bz2
import gzip
import io
import lzma
import sys
import zipfile

import numpy as np
import pytest

import dnnext
from dnnext.cli.table import read_table

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 60)).round(3).tolist()
Y = [round(2 * a - b, 3) for a, b in zip(A, B, strict=True)]
KIND = ["ill" if y > 0 else "well" for y in Y]


def text_of(columns, sep=",", eol="\n"):
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(sep.join(map(str, row)) + eol for row in rows)


READ_ALIKE = {
    "pandas": lambda t: text_of({"": range(60), **t}).encode(),
    "R": lambda t: text_of({'""': [f'"{k + 1}"' for k in range(60)], **{f'"{n}"': c for n, c in t.items()}}).encode(),
    "R's write.table": lambda t: text_of({"r": [f'"{k}"' for k in range(60)], **t}, sep="\t")[2:].encode(),
    "separators at line ends": lambda t: text_of(t, eol=",\n").encode(),
    "separators at line ends below the header": lambda t: text_of(t, eol=",\n").replace("y,\n", "y\n", 1).encode(),
    "sep=": lambda t: ("sep=;\n" + text_of(t, sep=";")).encode(),
    "empty rows": lambda t: text_of(t, eol="\n\n").encode(),
    "rows of separators": lambda t: text_of(t).encode() + b",,\n,,\n",
    "tabs": lambda t: text_of(t, sep="\t").encode(),
    "bars": lambda t: text_of(t, sep="|").encode(),
    "carriage returns": lambda t: text_of(t, eol="\r").encode(),
    "carriage returns and line feeds": lambda t: text_of(t, eol="\r\n").encode(),
    "byte order mark": lambda t: b"\xef\xbb\xbf" + text_of(t).encode(),
    "UTF-16": lambda t: text_of(t, sep="\t").encode("utf-16"),
    "UTF-16 big": lambda t: b"\xfe\xff" + text_of(t).encode("utf-16-be"),
    "gzip": lambda t: gzip.compress(text_of(t).encode()),
    "bzip2": lambda t: bz2.compress(text_of(t).encode()),
    "xz": lambda t: lzma.compress(text_of(t).encode()),
    "quotes": lambda t: text_of({f'"{n}"': [f'"{v}"' for v in c] for n, c in t.items()}, sep=", ").encode(),
    "no line end": lambda t: text_of(t).rstrip("\n").encode(),
}  # fmt: skip


@pytest.mark.parametrize("case", READ_ALIKE)
@pytest.mark.parametrize("pipe", [False, True])
def test_these_files_hold_the_same_table(shell, monkeypatch, case, pipe):
    plain = {"a": A, "b": B, "y": Y}
    shell.save(plain, "plain.csv")
    assert shell.train("y", "--out", "plain.npz", file="plain.csv")[0] == 0
    data = READ_ALIKE[case](plain)
    shell.save(data)
    if pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    code, out, err = shell.train("y", file="-" if pipe else "t.csv")
    assert code == 0, err
    assert "from 2 columns, 45 rows" in out
    for ours, theirs in zip(dnnext.load("model.npz").coefs_, dnnext.load("plain.npz").coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_zip_archive_holds_one_file(shell):
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.writestr("t.csv", text_of({"a": A, "y": Y}))
    assert shell.train("y", file="t.csv.zip")[0] == 0
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    assert "a zip archive of 2 files" in shell.train("y", file="t.csv.zip")[2]
    with zipfile.ZipFile("t.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    assert "save the sheet as CSV" in shell.train("y", file="t.xlsx")[2]
    shell.save(gzip.compress(text_of({"a": A, "y": Y}).encode())[:-20])
    assert "damaged or not whole" in shell.train("y")[2]


ODD_CELLS = {
    "line separator": "re\u2028check",
    "next line": "re\u0085check",
    "vertical tab": "re\x0bcheck",
    "form feed": "re\x0ccheck",
    "file separator": "re\x1ccheck",
    "line end in quotes": '"re\ncheck"',
    "separator in quotes": '"re, check"',
    "quotes in quotes": '"re ""check"""',
    "an inch": '5" pipe',
    "a separator of others": "re;check",
}


@pytest.mark.parametrize("case", ODD_CELLS)
def test_a_cell_stays_one_cell(shell, case):
    shell.save({"a": A, "note": [ODD_CELLS[case] if k % 3 else "late" for k in range(60)], "y": Y})
    code, out, err = shell.train("y")
    assert code == 0, err
    assert "note (2)" in out
    table = read_table("t.csv")
    assert len(table.lines) == 60
    word = ODD_CELLS[case]
    assert table.column("note")[1] == (word[1:-1].replace('""', '"') if word[0] == '"' else word)
    assert table.lines[-1] == 61 + (39 if "\n" in word else 0)


def test_separators_in_quoted_names_count_for_nothing(shell):
    shell.save({'"Weight, kg"': A, '"Height, cm"': B, "y": Y}, sep=";")
    assert shell.train("y")[0] == 0
    assert dnnext.load("model.npz").feature_names_in_.tolist() == ["Weight, kg", "Height, cm"]


def test_a_text_file_may_be_in_another_encoding(shell):
    shell.save("größe,y\n".encode("latin-1") + text_of({"a": A, "y": Y}).split("\n", 1)[1].encode())
    code, _, err = shell.train("y")
    assert code == 2
    assert "not a text file in UTF-8" in err
    assert "--encoding" in err
    assert shell.train("y", "--encoding", "latin-1")[0] == 0
    assert dnnext.load("model.npz").feature_names_in_.tolist() == ["größe"]
    assert "--encoding must be the name of one" in shell.train("y", "--encoding", "martian")[2]


def test_predictions_stand_beside_their_rows(shell):
    shell.save({"x": A, "y": Y})
    assert shell.train("y")[0] == 0
    for text, line in (("x\n1.0\n\n-1.0\n", 3), ("x\n1.0\n\n", 3), ('x\n1\n""\n', 3)):
        shell.save(text.encode(), "new.csv")
        code, _, err = shell.run("predict", "model.npz", "new.csv")
        assert code == 2
        assert f"column 'x' has a missing value (in line {line})" in err
    shell.save({"x": [*A[:30], "", *A[31:]], "y": Y})
    assert shell.train("y", "--impute", "mean")[0] == 0
    shell.save(b"x\n1.0\n\n-1.0\n", "new.csv")
    assert len(shell.predicted("new.csv")) == 3
    shell.save({"x": A, "z": B, "y": Y})
    assert shell.train("y")[0] == 0
    shell.save(b"x,z\n1,2\n\n3,4\n\n", "new.csv")
    code, _, err = shell.run("predict", "model.npz", "new.csv")
    assert code == 2
    assert "column 'x' has a missing value (in line 3)" in err


def test_parquet_types_are_kept(shell):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {"a": A, "when": pandas.date_range("2024-01-01", periods=60), "zip": ["1234", "5678"] * 30}
    )
    frame["label"] = [["1234", "5678"][y > 0] for y in Y]
    frame.to_parquet("t.parquet")
    code, _, err = shell.train("label", file="t.parquet")
    assert code == 2
    assert "column 'when' holds dates" in err
    for words in (["--drop", "when"], ["--date", "drop"]):
        code, out, _ = shell.train("label", *words, file="t.parquet")
        assert code == 0
        assert "zip (2); 3 inputs in all" in out
    assert dnnext.load("model.npz").classes_.dtype.kind == "U"
    assert len(shell.predicted("t.parquet")) == 60


def test_names_that_come_twice_or_are_missing(shell):
    rows = "".join(f"{a},{b},{y},\n" for a, b, y in zip(A, B, Y, strict=True))
    shell.save(("a,a,y,\n" + rows).encode())
    assert "the column name 'a' comes 2 times" in shell.train("y")[2]
    assert "no column is left" in shell.train("y", "--drop", "a")[2]
    shell.save(("a,,y,\n" + rows).encode())
    assert "column 2 has no name" in shell.train("y")[2]
    for words in (["--drop", ""], ["--drop", "#2"]):
        assert "from 1 columns" in shell.train("y", *words)[1]


def test_reading_needs_pandas_and_says_so(shell, monkeypatch):
    shell.save({"a": A, "y": Y})
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert shell.train("y")[2] == "dnnext: reading tables needs pandas: pip install 'dnnext[table]'.\n"
