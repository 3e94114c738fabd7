"""Tables as people have them: what is read, what is refused with the option that settles it, labels as written."""

import bz2
import csv
import gzip
import io
import lzma
import sys
import zipfile

import numpy as np
import pytest

import dnnext
from dnnext.cli import main
from dnnext.cli.cells import Rules, look
from dnnext.cli.table import read_table

QUICK = ["--quiet", "--max-iter", "3", "--tol", "0", "--hidden", "2", "--agents", "2"]
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 60)).round(3).tolist()
Y = [round(2 * a - b, 3) for a, b in zip(A, B, strict=True)]
KIND = ["ill" if y > 0 else "well" for y in Y]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text_of(columns, sep=",", eol="\n"):
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(sep.join(map(str, row)) + eol for row in rows)


def save(columns, path="t.csv", **how):
    data = columns if isinstance(columns, bytes) else text_of(columns, **how).encode()
    with open(path, "wb") as file:
        file.write(data)


def train(capsys, target, *words, file="t.csv"):
    """(exit code, standard output, standard error)."""
    capsys.readouterr()
    code = main(["train", file, "--target", target, *QUICK, *words])
    return code, *capsys.readouterr()


def predicted(capsys, file="t.csv", *words):
    capsys.readouterr()
    assert main(["predict", "model.npz", file, *words]) == 0
    return [row[0] for row in list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]]


# targets

REFUSED_TARGETS = {
    "one N.D.": ([*Y[:30], "N.D.", *Y[31:]], "the target 'y' holds numbers and text"),
    "one below": ([*Y[:30], "<0.1", *Y[31:]], "holds numbers and text"),
    "one dash": ([*Y[:30], "-", *Y[31:]], "holds numbers and text"),
    "currency": (
        [f'"${1000 + k:,}"' for k in range(60)],
        "holds text that stands for numbers, with a currency sign and a",
    ),
    "percent": ([f"{y:.1f}%" for y in Y], "with a percent sign"),
    "one percent": ([*Y[:30], "3.1%", *Y[31:]], "with a percent sign"),
    "decimal comma": ([f'"{y}"'.replace(".", ",") for y in Y], "with a decimal comma"),
    "units": ([f"{y} kg" for y in Y], "numbers with a unit"),
    "dates": ([f"2024-01-{1 + k % 28:02d}" for k in range(60)], "holds text that looks like dates"),
    "few dates": ([f"0{1 + k % 3}.02.2024" for k in range(60)], "holds text that looks like dates"),
    "days": ([f"202401{10 + k % 3}" for k in range(60)], "holds text that looks like dates"),
    "identifiers": ([f"P-{k:04d}" for k in range(60)], "holds text, 60 different words in 60 rows"),
    "long identifiers": ([str(9234567890123456789 + k) for k in range(60)], "looks like identifiers"),
    "codes": ([f"{k:05d}" for k in range(60)], "60 different words"),
    "a gap": ([*Y[:30], "", *Y[31:]], "column 'y' has a missing value (in line 32); the target is never filled"),
    "one way or the other": (["1", "1.0", "2"] * 20, "writes one number as '1' and as '1.0'"),
    "infinite": ([*Y[:30], "1e400", *Y[31:]], "is 1e400 in line 32; it must be finite"),
}


@pytest.mark.parametrize("case", REFUSED_TARGETS)
def test_a_target_that_is_no_column_of_numbers_is_refused(capsys, case):
    cells, sentence = REFUSED_TARGETS[case]
    save({"a": A, "b": B, "y": cells})
    code, out, err = train(capsys, "y")
    assert code == 2
    assert sentence in err
    assert "iterations" not in out
    if case not in ("a gap", "infinite"):
        assert "--task classification" in err


LABELS = {
    "long": ["1234567890123456789", "9234567890123456789"],
    "beyond 64 bits": ["-9234567890123456789", "18446744073709551616"],
    "leading zeros": ["0110", "0220"],
    "digit separators": ["1_1", "1_2"],
    "signs": ["+1", "-1"],
    "points": ["1.0", "2.0"],
    "exponents": ["1e3", "2E3"],
    "other digits": ["\u0661", "\u0662"],
    "words": ["None", "Some"],
    "minus zero": ["-0", "1"],
    "plain": ["3", "7"],
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_come_back_as_they_are_written(capsys, case):
    labels = LABELS[case]
    save({"a": A, "b": B, "y": [labels[y > 0] for y in Y]})
    assert train(capsys, "y")[0] == 0
    assert set(predicted(capsys)) <= set(labels)
    assert [str(label) for label in dnnext.load("model.npz").classes_] == sorted(labels, key=lambda w: (len(w), w)) or (
        [str(label) for label in dnnext.load("model.npz").classes_] == sorted(labels)
    )


def test_numbers_become_labels_on_request(capsys):
    save({"a": A, "b": B, "y": [["1.5", "0110"][y > 0] for y in Y]})
    for words in (["--task", "classification"], ["--categorical", "y"]):
        assert train(capsys, "y", *words)[0] == 0
        assert set(predicted(capsys)) <= {"1.5", "0110"}
    assert dnnext.load("model.npz").classes_.dtype.kind == "U"


def test_words_for_gaps_can_be_named(capsys):
    words = ["NA", "null", "DE"]
    save({"a": A, "b": B, "y": [words[k % 3] for k in range(60)]})
    code, _, err = train(capsys, "y")
    assert code == 2
    assert "'NA' counts as a gap; --missing lists the words that do" in err
    assert train(capsys, "y", "--missing", "")[0] == 0
    assert dnnext.load("model.npz").classes_.tolist() == sorted(words)
    save({"a": [*A[:20], "-9", "unknown", *A[22:]], "y": Y})
    assert "numbers and text" in train(capsys, "y")[2]
    code, out, _ = train(capsys, "y", "--missing=-9,unknown", "--impute", "mean")
    assert code == 0
    assert "in 2 rows" in out
    save({"a": ["1", "-9", "NA"]}, "new.csv")
    capsys.readouterr()
    assert main(["predict", "model.npz", "new.csv"]) == 2
    assert "column 'a' holds text ('NA' in line 4)" in capsys.readouterr().err


# inputs

REFUSED_INPUTS = {
    "decimal comma": ([f'"{a:.1f}"'.replace(".", ",") for a in A], "with a decimal comma", ["--decimal", ","]),
    "thousands": ([f'"{1000 * (k + 1):,}"' for k in range(60)], "with a comma ('1,000' in line 2)", ["--decimal", "."]),
    "percent": ([f"{a:.1f}%" for a in A], "with a percent sign", ["--decimal", "."]),
    "currency": ([f"\u20ac{abs(a):.2f}" for a in A], "with a currency sign", ["--decimal", "."]),
    "blanks": ([f"{k + 1}\u00a0000" for k in range(60)], "with a no-break space", ["--decimal", ","]),
    "apostrophes": ([f"{k + 1}'000.5" for k in range(60)], "with an apostrophe", ["--decimal", "."]),
    "minus": ([f"{a:.2f}".replace("-", "\u2212") for a in A], "U+2212", ["--decimal", "."]),
    "dates": ([f"{1 + k % 28}/{1 + k % 12}/2023" for k in range(60)], "holds dates", ["--date", "drop"]),
    "times": ([f"2023-03-04T12:{k:02d}:00Z" for k in range(60)], "holds dates", ["--drop", "x"]),
    "months": ([f"{1 + k % 28} Mar 2023" for k in range(60)], "holds dates", ["--categorical", "x"]),
    "units": ([f"{k}.5 kg" for k in range(60)], "numbers with a unit ('0.5 kg'", ["--drop", "x"]),
    "text": ([f"note {k}" for k in range(60)], "60 categories", ["--max-categories", "60"]),
    "mixed signs": (["12%", "13"] * 30, "with a percent sign", ["--categorical", "x"]),
    "wide": ([str(2**60 + k) for k in range(60)], "beyond 2**53", ["--drop", "x"]),
    "every row its own word": (
        [f"Ann {chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(60)],
        "60 categories",
        ["--drop", "x"],
    ),
    "trailing minus": ([f"{abs(a)}-" for a in A], "text that begins with numbers", ["--drop", "x"]),
    "another exponent": ([f"{a:.3e}".replace("e", "D") for a in A], "text that begins with numbers", ["--drop", "x"]),
    "below a limit": ([f"<{k}.5" for k in range(60)], "text that begins with numbers", ["--drop", "x"]),
    "mixture": (["1", "A"] * 30, "numbers and text ('1' in line 2, 'A' in line 3)", ["--categorical", "x"]),
}


@pytest.mark.parametrize("case", REFUSED_INPUTS)
def test_an_input_that_may_be_read_in_two_ways_is_refused_with_what_settles_it(capsys, case):
    cells, sentence, settle = REFUSED_INPUTS[case]
    save({"a": range(60), "x": cells, "y": KIND})
    code, out, err = train(capsys, "y")
    assert code == 2
    assert sentence in err
    assert settle[0] in err
    assert "iterations" not in out
    assert train(capsys, "y", *settle)[0] == 0
    assert len(predicted(capsys)) == 60


def test_few_rows_with_a_word_each_and_what_stands_above_a_header(capsys):
    save({"x": [f"{chr(97 + k)}x" for k in range(20)], "a": A[:20], "y": Y[:20]})
    assert "holds 20 words, every row its own, as identifiers have" in train(capsys, "y")[2]
    assert train(capsys, "y", "--categorical", "x")[0] == 0
    save(b"A report\n" + text_of({"a": A, "y": Y}).encode())
    assert "line 2 has 2 cells, the header has 1" in train(capsys, "y")[2]


def test_numbers_are_read_as_the_decimal_mark_says():
    cells = np.array(["1.234,5", "1234,5", "\u20ac2,5", "-3,5"], dtype=object)
    assert look(cells, Rules(",")).kind == "mixed"  # one with a currency sign, the others without
    assert list(look(cells[[0, 1, 3]], Rules(",")).numbers.values()) == [1234.5, 1234.5, -3.5]
    cells = np.array(["(1,234.5)", "12", "$"], dtype=object)
    assert list(look(cells[:2], Rules(".")).numbers.values()) == [-1234.5, 12.0]
    assert look(cells, Rules(".")).kind == "mixed"
    assert look(np.array(["1.5", "2,5"], dtype=object), Rules(",")).kind == "mark"
    assert look(np.array(["12,34", "5"], dtype=object), Rules(".")).kind == "mark"


def test_an_excel_file_of_another_country(capsys):
    thousands = [f"{1000 * (y + 9):,.1f}".translate({44: ".", 46: ","}) for y in Y]
    save({"a": [f"{a:.2f}".replace(".", ",") for a in A], "y": thousands}, sep=";")
    code, _, err = train(capsys, "y")
    assert code == 2
    assert "t.csv has 2 problems" in err
    code, out, _ = train(capsys, "y", "--decimal", ",")
    assert code == 0
    assert "regression of 'y' from 1 columns" in out
    save({"a": ["1,5", "-2"]}, "new.csv", sep=";")
    assert len(predicted(capsys, "new.csv")) == 2  # the model remembers the decimal mark


def test_codes_are_words_and_are_named(capsys):
    save({"x": [f"{2020 + k % 3}_{k % 4:02d}" for k in range(60)], "z": [f"0{k % 3}" for k in range(60)], "y": Y})
    code, out, err = train(capsys, "y")
    assert code == 0
    assert "one input per category: x (12), z (3)" in out
    assert "column 'z' has numbers that begin with 0, so it is read as words" in err
    assert "2 columns" in train(capsys, "y", "--numeric", "z")[1]


def test_every_problem_is_named_at_once(capsys):
    save({"id": range(60), "when": ["2024-01-01"] * 60, "w": ["5%"] * 60, "a": [*A[:59], ""], "y": [*Y[:59], "N.D."]})
    code, out, err = train(capsys, "y", "--drop", "zip")
    assert code == 2
    assert out == ""
    for words in ("t.csv has 6 problems", "'zip' (--drop)", "'y' holds numbers and text", "'id' looks like an index"):
        assert words in err
    for words in (
        "'when' holds dates",
        "'w' holds text that stands for numbers",
        "'a' has a missing value (in line 61)",
    ):
        assert words in err


def test_identifiers_are_named_before_training(capsys):
    save({"customer_id": [7 * k % 60 for k in range(60)], "a": A, "y": Y})
    assert "looks like an index or identifier" in train(capsys, "y")[2]
    for words in (["--drop", "customer_id"], ["--index", "customer_id"]):
        assert "from 1 columns" in train(capsys, "y", *words)[1]
    assert "from 2 columns" in train(capsys, "y", "--numeric", "customer_id")[1]
    save({"t": range(60), "store_id": [k % 4 for k in range(60)], "y": Y})
    code, _, err = train(capsys, "y")
    assert code == 0
    assert "column 't' counts the rows (0 to 59)" in err
    assert "column 'store_id' is used as a number (--categorical 'store_id'" in err


def test_predictions_may_stand_beside_their_row_labels(capsys):
    save({"id": [f"p{k}" for k in range(60)], "a": A, "y": KIND})
    assert train(capsys, "y", "--index", "id")[0] == 0
    capsys.readouterr()
    assert main(["predict", "model.npz", "t.csv", "--index", "id"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["id", "y"]
    assert rows[60][0] == "p59"


# files

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
def test_these_files_hold_the_same_table(capsys, monkeypatch, case, pipe):
    plain = {"a": A, "b": B, "y": Y}
    save(plain, "plain.csv")
    assert train(capsys, "y", "--out", "plain.npz", file="plain.csv")[0] == 0
    data = READ_ALIKE[case](plain)
    save(data)
    if pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    code, out, err = train(capsys, "y", file="-" if pipe else "t.csv")
    assert code == 0, err
    assert "from 2 columns, 45 rows" in out
    for ours, theirs in zip(dnnext.load("model.npz").coefs_, dnnext.load("plain.npz").coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_zip_archive_holds_one_file(capsys):
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.writestr("t.csv", text_of({"a": A, "y": Y}))
    assert train(capsys, "y", file="t.csv.zip")[0] == 0
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    assert "a zip archive of 2 files" in train(capsys, "y", file="t.csv.zip")[2]
    with zipfile.ZipFile("t.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    assert "save the sheet as CSV" in train(capsys, "y", file="t.xlsx")[2]
    save(gzip.compress(text_of({"a": A, "y": Y}).encode())[:-20])
    assert "damaged or not whole" in train(capsys, "y")[2]


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
def test_a_cell_stays_one_cell(capsys, case):
    save({"a": A, "note": [ODD_CELLS[case] if k % 3 else "late" for k in range(60)], "y": Y})
    code, out, err = train(capsys, "y")
    assert code == 0, err
    assert "note (2)" in out
    table = read_table("t.csv")
    assert len(table.lines) == 60
    word = ODD_CELLS[case]
    assert table.column("note")[1] == (word[1:-1].replace('""', '"') if word[0] == '"' else word)
    assert table.lines[-1] == 61 + (39 if "\n" in word else 0)


def test_separators_in_quoted_names_count_for_nothing(capsys):
    save({'"Weight, kg"': A, '"Height, cm"': B, "y": Y}, sep=";")
    assert train(capsys, "y")[0] == 0
    assert dnnext.load("model.npz").feature_names_in_.tolist() == ["Weight, kg", "Height, cm"]


def test_a_text_file_may_be_in_another_encoding(capsys):
    save("größe,y\n".encode("latin-1") + text_of({"a": A, "y": Y}).split("\n", 1)[1].encode())
    code, _, err = train(capsys, "y")
    assert code == 2
    assert "not a text file in UTF-8" in err
    assert "--encoding" in err
    assert train(capsys, "y", "--encoding", "latin-1")[0] == 0
    assert dnnext.load("model.npz").feature_names_in_.tolist() == ["größe"]
    assert "--encoding must be the name of one" in train(capsys, "y", "--encoding", "martian")[2]


def test_predictions_stand_beside_their_rows(capsys):
    save({"x": A, "y": Y})
    assert train(capsys, "y")[0] == 0
    for text, line in (("x\n1.0\n\n-1.0\n", 3), ("x\n1.0\n\n", 3), ('x\n1\n""\n', 3)):
        save(text.encode(), "new.csv")
        capsys.readouterr()
        assert main(["predict", "model.npz", "new.csv"]) == 2
        assert f"column 'x' has a missing value (in line {line})" in capsys.readouterr().err
    save({"x": [*A[:30], "", *A[31:]], "y": Y})
    assert train(capsys, "y", "--impute", "mean")[0] == 0
    save(b"x\n1.0\n\n-1.0\n", "new.csv")
    assert len(predicted(capsys, "new.csv")) == 3
    save({"x": A, "z": B, "y": Y})
    assert train(capsys, "y")[0] == 0
    save(b"x,z\n1,2\n\n3,4\n\n", "new.csv")
    capsys.readouterr()
    assert main(["predict", "model.npz", "new.csv"]) == 2
    assert "column 'x' has a missing value (in line 3)" in capsys.readouterr().err


def test_parquet_types_are_kept(capsys):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {"a": A, "when": pandas.date_range("2024-01-01", periods=60), "zip": ["1234", "5678"] * 30}
    )
    frame["label"] = [["1234", "5678"][y > 0] for y in Y]
    frame.to_parquet("t.parquet")
    code, _, err = train(capsys, "label", file="t.parquet")
    assert code == 2
    assert "column 'when' holds dates" in err
    for words in (["--drop", "when"], ["--date", "drop"]):
        code, out, _ = train(capsys, "label", *words, file="t.parquet")
        assert code == 0
        assert "zip (2); 3 inputs in all" in out
    assert dnnext.load("model.npz").classes_.dtype.kind == "U"
    assert len(predicted(capsys, "t.parquet")) == 60


def test_names_that_come_twice_or_are_missing(capsys):
    rows = "".join(f"{a},{b},{y},\n" for a, b, y in zip(A, B, Y, strict=True))
    save(("a,a,y,\n" + rows).encode())
    assert "the column name 'a' comes 2 times" in train(capsys, "y")[2]
    assert "no column is left" in train(capsys, "y", "--drop", "a")[2]
    save(("a,,y,\n" + rows).encode())
    assert "column 2 has no name" in train(capsys, "y")[2]
    for words in (["--drop", ""], ["--drop", "#2"]):
        assert "from 1 columns" in train(capsys, "y", *words)[1]


def test_reading_needs_pandas_and_says_so(capsys, monkeypatch):
    save({"a": A, "y": Y})
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert train(capsys, "y")[2] == "dnnext: reading tables needs pandas: pip install 'dnnext[table]'.\n"
