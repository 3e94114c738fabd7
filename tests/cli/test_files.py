"""Files as people have them: separators, line ends, compression, encodings, Parquet; rows keep their places."""

import bz2
import gzip
import io
import lzma
import re
import sys
import zipfile

import numpy as np
import pytest

import dnnext
from dnnext.cli import make_parser
from dnnext.cli.columns import study
from dnnext.cli.table import read_table

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 60)).round(3).tolist()
Y = [round(2 * a - b, 3) for a, b in zip(A, B, strict=True)]
KIND = ["ill" if y > 0 else "well" for y in Y]


def text_of(columns, sep=",", eol="\n"):
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(sep.join(map(str, row)) + eol for row in rows)


TABLE = {"a": A, "b": B, "y": Y}
READ_ALIKE = {
    "pandas, shuffled": lambda t: text_of({"": [7 * k % 60 for k in range(60)], **t}).encode(),
    "R without quotes": lambda t: text_of({"r": range(1, 61), **t}, sep="\t")[2:].encode(),
    "sep= and carriage returns": lambda t: ("sep=;\r" + text_of(t, sep=";", eol="\r")).encode(),
    "sep= in quotes below a mark": lambda t: b'\xef\xbb\xbf"sep=;"\n' + text_of(t, sep=";").encode(),
    "UTF-32": lambda t: text_of(t).encode("utf-32"),
    "UTF-16 in gzip": lambda t: gzip.compress(text_of(t).encode("utf-16")),
    "gzip in gzip": lambda t: gzip.compress(gzip.compress(text_of(t).encode())),
    "lzma": lambda t: lzma.compress(text_of(t).encode(), lzma.FORMAT_ALONE),
    "the end of a DOS file": lambda t: text_of(t).encode() + b"\x1a",
    "letters of no width": lambda t: text_of({f"\u200b{n}": [f"{v}\u200b" for v in c] for n, c in t.items()}).encode(),
    "empty lines above": lambda t: b"\n\n" + text_of(t).encode(),
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


def inputs_of(path, *words):
    """(inputs by name, notes) of the study of a file whose target is y."""
    found = study(read_table(path), make_parser().parse_args(["train", path, "--target", "y", *words]))
    return found.frame().assign(y=found.target.values(found.table.column("y"))), found.notes


@pytest.mark.parametrize("case", READ_ALIKE)
@pytest.mark.parametrize("pipe", [False, True])
def test_these_files_hold_the_same_table(shell, monkeypatch, case, pipe):
    plain = {"a": A, "b": B, "y": Y}
    data = READ_ALIKE[case](plain)
    shell.save(data)
    if pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    frame, _ = inputs_of("-" if pipe else "t.csv")
    assert list(frame) == ["a", "b", "y"]
    np.testing.assert_array_equal(frame, np.array([A, B, Y]).T)


REFUSED_FILES = {
    "a name too few": (text_of(TABLE).replace("a,b,y", "a,b"), "line 2 has 3 cells, the header has 2"),
    "a cell more in every row": (
        text_of(TABLE, eol=",9\n").replace("y,9", "y"),
        "line 2 has 4 cells, the header has 3",
    ),
    "UTF-16 without a mark": (text_of(TABLE).encode("utf-16-le"), "holds a NUL byte"),
    "NUL bytes": (text_of(TABLE) + "\0\0", "line 62 holds a NUL byte"),
    "a web page": ("<!DOCTYPE html><p>" + text_of(TABLE), "a web page, XML or JSON"),
    "JSON": ('[{"a":1,"y":2},{"a":2,"y":3}]', "a web page, XML or JSON"),
    "JSON lines": ('{"a":1,"y":2}\n{"a":1,"y":3}\n', "a web page, XML or JSON"),
    "single quotes": (text_of({"'a'": ["'1'"], "'y'": ["'2'"]}), "the names stand in single quotes"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a workbook"),
    "a database": (b"SQLite format 3\0", "a database"),
    "a tar archive": (b"\0" * 257 + b"ustar\0", "a tar archive"),
    "half a bzip2": (bz2.compress(text_of(TABLE).encode())[:-9], "t.csv: a compressed file that is damaged"),
    "half an xz": (lzma.compress(text_of(TABLE).encode())[:-9], "t.csv: a compressed file that is damaged"),
    "blanks between columns": (text_of(TABLE, sep=" "), "no comma, semicolon, tab or bar, so there is one column"),
    "only a hint": ("sep=;\n", "no line with the names"),
    "only a hint and a carriage return": ("sep=;\r\r", "no line with the names"),
    "half a Parquet file": (b"PAR1" + b"\0" * 40, "not a complete Parquet file"),
    "two columns without names": (text_of({"": A, "b": B, "y": Y}), "column 1 has no name"),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_these_files_are_refused_with_what_they_are(shell, case):
    data, sentence = REFUSED_FILES[case]
    shell.save(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(ValueError, match=re.escape(sentence)):
        inputs_of("t.csv")


NOTES = {
    "letters": (["Red", "red"], "holds 'Red' and 'red', which count as different"),
    "blanks": (["a b", "a  b"], "which count as different"),
    "accents": (["\u00e9", "e\u0301"], "which count as different"),
    "codes": (["01", "1"], "begin with 0, so it is read as words"),
    "powers": (["1E5", "2E7"], "is read as powers of ten"),
    "constant": (["5"], "has the same value in every row"),
    "units": (["1 kg", "2 kg", "3 kg"], "holds 3 numbers with a unit or mark"),
    "digits": ([f"0x{k:x}" for k in range(12)], "holds 12 words that begin with digits"),
    "fractions": ([f"{k}/7" for k in range(12)], "holds 12 words that begin with digits"),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_may_be_meant_otherwise_is_noted(shell, case):
    cells, sentence = NOTES[case]
    shell.save({"a": A, "x": (cells * 60)[:60], "y": Y})
    _, notes = inputs_of("t.csv")
    assert len(notes) == 1
    assert sentence in notes[0]
    shell.save({"a": A, "x": A, "y": (cells * 60)[:60]})
    if case in ("letters", "blanks", "accents", "units"):
        assert sentence in inputs_of("t.csv")[1][0]


def test_a_class_of_one_row_is_trained_on(shell):
    shell.save({"a": A, "b": B, "y": ["x"] * 59 + ["z"]})
    assert shell.train("y")[0] == 0
    assert dnnext.load("model.npz").classes_.tolist() == ["x", "z"]


def test_a_column_with_values_in_test_rows_only(shell):
    shell.save({"a": A, "x": ["5", *[""] * 59], "b": B, "y": Y})
    seeds = [shell.train("y", "--impute", "mean", "--seed", str(seed)) for seed in range(6)]
    assert {code for code, _, _ in seeds} == {0, 2}
    assert all("kept for testing only" in err for code, _, err in seeds if code == 2)


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


PARQUET_TEXT = {
    "decimal comma": ([f"{k % 30},5" for k in range(60)], "stands for numbers"),
    "percent": ([f"{k % 30}%" for k in range(60)], "stands for numbers"),
    "dates": ([f"2024-01-{k % 28 + 1:02d}" for k in range(60)], "dates"),
    "one N.D.": ([*[f"{k % 15}" for k in range(59)], "N.D."], "numbers and text"),
    "units": ([f"{k % 20} kg" for k in range(60)], "numbers with a unit"),
}


@pytest.mark.parametrize("case", PARQUET_TEXT)
def test_text_of_a_parquet_file_may_stand_for_numbers(shell, case):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    cells, sentence = PARQUET_TEXT[case]
    for name, columns in (("x", {"x": cells, "y": Y}), ("y", {"a": A, "y": cells})):
        pandas.DataFrame(columns).to_parquet("t.parquet")
        with pytest.raises(ValueError, match=f"'{name}' holds .*{sentence}"):
            inputs_of("t.parquet")


def test_parquet_by_another_name_and_text_that_is_text(shell):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    columns = {"zip": ["01234", "1234"] * 30, "mixed": ["1", "A"] * 30, "digits": ["1", "2"] * 30, "y": Y}
    pandas.DataFrame(columns).to_parquet("t.csv", engine="pyarrow")
    frame, notes = inputs_of("t.csv")
    for name in ("zip", "mixed", "digits"):
        assert frame[name].tolist() == columns[name]
    assert any("'digits' is text in the file, though its cells are numbers" in note for note in notes)


def test_names_that_come_twice_or_are_missing(shell):
    rows = "".join(f"{a},{b},{y},\n" for a, b, y in zip(A, B, Y, strict=True))
    shell.save(("a,a,y,\n" + rows).encode())
    assert "the column name 'a' comes 2 times" in shell.train("y")[2]
    assert "no column is left" in shell.train("y", "--drop", "a")[2]
    shell.save(("a,,y,\n" + rows).encode())
    assert "column 2 has no name" in shell.train("y")[2]
    for words in (["--drop", ""], ["--drop", "#2"]):
        assert "from 1 column," in shell.train("y", *words)[1]


def test_reading_needs_pandas_and_says_so(shell, monkeypatch):
    shell.save({"a": A, "y": Y})
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert shell.train("y")[2] == "dnnext: reading tables needs pandas: pip install pandas pyarrow.\n"
