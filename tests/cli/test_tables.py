"""Columns as people have them: what is refused with the option that settles it, labels as written."""

import csv
import io

import numpy as np
import pytest

import dnnext
from dnnext.cli.cells import Rules, look

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 60)).round(3).tolist()
Y = [round(2 * a - b, 3) for a, b in zip(A, B, strict=True)]
KIND = ["ill" if y > 0 else "well" for y in Y]


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
def test_a_target_that_is_no_column_of_numbers_is_refused(shell, case):
    cells, sentence = REFUSED_TARGETS[case]
    shell.save({"a": A, "b": B, "y": cells})
    code, out, err = shell.train("y")
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
def test_labels_come_back_as_they_are_written(shell, case):
    labels = LABELS[case]
    shell.save({"a": A, "b": B, "y": [labels[y > 0] for y in Y]})
    assert shell.train("y")[0] == 0
    assert set(shell.predicted()) <= set(labels)
    assert [str(label) for label in dnnext.load("model.npz").classes_] == sorted(labels, key=lambda w: (len(w), w)) or (
        [str(label) for label in dnnext.load("model.npz").classes_] == sorted(labels)
    )


def test_numbers_become_labels_on_request(shell):
    shell.save({"a": A, "b": B, "y": [["1.5", "0110"][y > 0] for y in Y]})
    for words in (["--task", "classification"], ["--categorical", "y"]):
        assert shell.train("y", *words)[0] == 0
        assert set(shell.predicted()) <= {"1.5", "0110"}
    assert dnnext.load("model.npz").classes_.dtype.kind == "U"


def test_words_for_gaps_can_be_named(shell):
    words = ["NA", "null", "DE"]
    shell.save({"a": A, "b": B, "y": [words[k % 3] for k in range(60)]})
    code, _, err = shell.train("y")
    assert code == 2
    assert "'NA' counts as a gap; --missing lists the words that do" in err
    assert shell.train("y", "--missing", "")[0] == 0
    assert dnnext.load("model.npz").classes_.tolist() == sorted(words)
    shell.save({"a": [*A[:20], "-9", "unknown", *A[22:]], "y": Y})
    assert "numbers and text" in shell.train("y")[2]
    code, out, _ = shell.train("y", "--missing=-9,unknown", "--impute", "mean")
    assert code == 0
    assert "in 2 rows" in out
    shell.save({"a": ["1", "-9", "NA"]}, "new.csv")
    code, _, err = shell.run("predict", "model.npz", "new.csv")
    assert code == 2
    assert "column 'a' holds text ('NA' in line 4)" in err


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
    "units": ([f"{k}.5 kg" for k in range(60)], "numbers with a unit or mark ('0.5 kg'", ["--drop", "x"]),
    "text": ([f"note {k}" for k in range(60)], "60 categories", ["--max-categories", "60"]),
    "mixed signs": (["12%", "13"] * 30, "with a percent sign", ["--categorical", "x"]),
    "wide": ([str(2**60 + k) for k in range(60)], "beyond 2**53", ["--drop", "x"]),
    "every row its own word": (
        [f"Ann {chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(60)],
        "60 categories",
        ["--drop", "x"],
    ),
    "trailing minus": ([f"{abs(a)}-" for a in A], "with a minus at the end", ["--decimal", "."]),
    "another exponent": ([f"{a:.3e}".replace("e", "D") for a in A], "text that begins with numbers", ["--drop", "x"]),
    "below a limit": ([f"<{k}.5" for k in range(60)], "numbers with a unit or mark ('<0.5'", ["--drop", "x"]),
    "mixture": (["1", "A"] * 30, "numbers and text ('1' in line 2, 'A' in line 3)", ["--categorical", "x"]),
}


@pytest.mark.parametrize("case", REFUSED_INPUTS)
def test_an_input_that_may_be_read_in_two_ways_is_refused_with_what_settles_it(shell, case):
    cells, sentence, settle = REFUSED_INPUTS[case]
    shell.save({"a": range(60), "x": cells, "y": KIND})
    code, out, err = shell.train("y")
    assert code == 2
    assert sentence in err
    assert settle[0] in err
    assert "iterations" not in out
    assert shell.train("y", *settle)[0] == 0
    assert len(shell.predicted()) == 60


def test_few_rows_with_a_word_each_and_what_stands_above_a_header(shell):
    shell.save({"x": [f"{chr(97 + k)}x" for k in range(20)], "a": A[:20], "y": Y[:20]})
    assert "holds 20 words, every row its own, as identifiers have" in shell.train("y")[2]
    assert shell.train("y", "--categorical", "x")[0] == 0
    shell.save(b"A report\n" + shell.text_of({"a": A, "y": Y}).encode())
    assert "line 2 has 2 cells, the header has 1" in shell.train("y")[2]


def test_numbers_are_read_as_the_decimal_mark_says():
    cells = np.array(["1.234,5", "1234,5", "\u20ac2,5", "-3,5"], dtype=object)
    assert look(cells, Rules(",")).kind == "mixed"  # one with a currency sign, the others without
    assert look(cells[[0, 1, 3]], Rules(",")).numbers.tolist() == [1234.5, 1234.5, -3.5]
    cells = np.array(["(1,234.5)", "12", "$"], dtype=object)
    assert look(cells[:2], Rules(".")).numbers.tolist() == [-1234.5, 12.0]
    assert look(cells, Rules(".")).kind == "mixed"
    assert look(np.array(["1.5", "2,5"], dtype=object), Rules(",")).kind == "mark"
    assert look(np.array(["12,34", "5"], dtype=object), Rules(".")).kind == "mark"


def test_an_excel_file_of_another_country(shell):
    thousands = [f"{1000 * (y + 9):,.1f}".translate({44: ".", 46: ","}) for y in Y]
    shell.save({"a": [f"{a:.2f}".replace(".", ",") for a in A], "y": thousands}, sep=";")
    code, _, err = shell.train("y")
    assert code == 2
    assert "t.csv has 2 problems" in err
    code, out, _ = shell.train("y", "--decimal", ",")
    assert code == 0
    assert "regression of 'y' from 1 column," in out
    shell.save({"a": ["1,5", "-2"]}, "new.csv", sep=";")
    assert len(shell.predicted("new.csv")) == 2  # the model remembers the decimal mark


def test_codes_are_words_and_are_named(shell):
    shell.save({"x": [f"{2020 + k % 3}_{k % 4:02d}" for k in range(60)], "z": [f"0{k % 3}" for k in range(60)], "y": Y})
    code, out, err = shell.train("y")
    assert code == 0
    assert "one input per category: x (12), z (3)" in out
    assert "column 'z' has numbers that begin with 0, so it is read as words" in err
    assert "2 columns" in shell.train("y", "--numeric", "z")[1]


def test_every_problem_is_named_at_once(shell):
    shell.save(
        {"id": range(60), "when": ["2024-01-01"] * 60, "w": ["5%"] * 60, "a": [*A[:59], ""], "y": [*Y[:59], "N.D."]}
    )
    code, out, err = shell.train("y", "--drop", "zip")
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


def test_identifiers_are_named_before_training(shell):
    shell.save({"customer_id": [7 * k % 60 for k in range(60)], "a": A, "y": Y})
    assert "looks like an index or identifier" in shell.train("y")[2]
    for words in (["--drop", "customer_id"], ["--index", "customer_id"]):
        assert "from 1 column," in shell.train("y", *words)[1]
    assert "from 2 columns" in shell.train("y", "--numeric", "customer_id")[1]
    shell.save({"t": range(60), "store_id": [k % 4 for k in range(60)], "y": Y})
    code, _, err = shell.train("y")
    assert code == 0
    assert "column 't' counts the rows (0 to 59)" in err
    assert "column 'store_id' is used as a number (--categorical 'store_id'" in err


def test_predictions_may_stand_beside_their_row_labels(shell):
    shell.save({"id": [f"p{k}" for k in range(60)], "a": A, "y": KIND})
    assert shell.train("y", "--index", "id")[0] == 0
    code, out, _ = shell.run("predict", "model.npz", "t.csv", "--index", "id")
    assert code == 0
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["id", "y"]
    assert rows[60][0] == "p59"
