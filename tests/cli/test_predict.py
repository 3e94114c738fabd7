"""Files to predict: read as in training, refused by what the command can settle."""

import numpy as np
import pytest

from dnnext.cli import make_parser
from dnnext.cli.cells import Rules
from dnnext.cli.predict import _frame
from dnnext.cli.table import read_table
from dnnext.preprocessing import Column

NUMBER, WORD = Column("x"), Column("c", ["01", "None", "blue", "red"])
FILLED = Column("x", None, 1.5)


def frame_of(shell, text, columns=(NUMBER,), decimal=None, unknown="refuse", signs=None):
    """(data frame for the model, notes) of a file."""
    shell.save(text if isinstance(text, bytes) else text.encode(), "n.csv")
    args = make_parser().parse_args(["predict", "m.npz", "n.csv", "--unknown", unknown])
    table = read_table("n.csv")
    return _frame(table, list(columns), Rules(decimal), args, signs or {}), table.notes


REFUSED = {
    "text": ("x,z\nabc,1\n", {}, "column 'x' holds text ('abc' in line 2); it must be numbers"),
    "hexadecimal": ("x,z\n0x10,1\n", {}, "holds text"),
    "underscore": ("x,z\n1_0,1\n", {}, "holds text"),
    "other digits": ("x,z\n\u0967,1\n", {}, "holds text"),
    "true": ("x,z\nTrue,1\n", {}, "holds text"),
    "a date": ("x,z\n2024-01-01,1\n", {}, "holds text"),
    "infinite": ("x,z\n1e400,1\n", {}, "is 1e400 in line 2"),
    "a gap": ("x,z\n1,1\n,2\n3,3\n", {}, "has a missing value (in line 3); the model was trained without --impute"),
    "a word for a gap": ("x,z\nNA,1\n", {}, "so fill it first; 'NA' counts as a gap."),
    "decimal comma": ('x,z\n"1,5",1\n', {}, "with a decimal comma ('1,5' in line 2); training had plain numbers"),
    "percent": ("x,z\n5%,1\n", {}, "numbers with a percent sign"),
    "a point": ("x;z\n1.5;1\n", {"decimal": ","}, "another decimal mark ('1.5' in line 2); training had --decimal ,"),
    "a sign more": ("x;z\n5%;1\n", {"decimal": ",", "signs": {"x": ""}}, "the sign '%' beside its numbers"),
    "another sign": ("x;z\n$5;1\n", {"decimal": ".", "signs": {"x": "%"}}, "the sign '$' beside its numbers"),
    "twice": ("x,x\n1,2\n", {}, "the column name 'x' comes 2 times"),
    "other letters": ("X,z\n1,2\n", {}, "there is no column 'x'"),
    "a new word": ("c,z\ngreen,1\n", {"columns": [WORD]}, "holds 'green' in line 2, which the model has not seen"),
    "a word in other letters": ("c,z\nRed,1\n", {"columns": [WORD]}, "holds 'Red' in line 2"),
    "no code": ("c,z\n1,1\n", {"columns": [WORD]}, "holds '1' in line 2"),
    "all of them": ("x,c\nabc,green\n", {"columns": [NUMBER, WORD]}, "has 2 problems"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_predicted_is_named(shell, case):
    text, how, sentence = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        frame_of(shell, text, **how)
    assert sentence in str(caught.value)
    assert "--missing lists" not in str(caught.value)
    assert "--numeric" not in str(caught.value)


READ = {
    "plain": ("x,z\n1,a\n-2.5,b\n", {}, [1, -2.5]),
    "reordered, with more": ("z,q,q,x\n1,2,3,1\n4,5,6,-2.5\n", {}, [1, -2.5]),
    "blanks": (" x , z\n 1 , 2\n +2.5,1\n", {}, [1, 2.5]),
    "codes are numbers": ("x,z\n007,1\n", {}, [7]),
    "row labels": (",x\n0,1\n1,-2.5\n", {}, [1, -2.5]),
    "as in training": ("x;z\n1.234,5;1\n5;2\n", {"decimal": ",", "signs": {"x": ""}}, [1234.5, 5]),
    "with the sign of training": ("x;z\n5,5%;1\n", {"decimal": ",", "signs": {"x": "%"}}, [5.5]),
    "gaps that are filled": ("x,z\n,1\nNA,2\n3,3\n", {"columns": [FILLED]}, [np.nan, np.nan, 3]),
    "nothing but gaps": ("x,z\n,1\n", {"columns": [FILLED]}, [np.nan]),
    "an empty line": ("x,z\n1,1\n\n3,3\n", {"columns": [FILLED]}, [1, np.nan, 3]),
}


@pytest.mark.parametrize("case", READ)
def test_every_row_of_a_file_is_predicted(shell, case):
    text, how, values = READ[case]
    frame, _ = frame_of(shell, text, **how)
    np.testing.assert_array_equal(frame["x"].to_numpy(dtype=float), values)


def test_known_words_are_no_gaps(shell):
    frame, _ = frame_of(shell, "c,z\nNone,1\n01,2\nNone,3\n", [WORD])
    assert frame["c"].tolist() == ["None", "01", "None"]
    frame, _ = frame_of(shell, "c,z\nNone,1\nNone,3\n", [WORD])
    assert frame["c"].tolist() == ["None", "None"]
    frame, _ = frame_of(shell, "c,z\ngreen,1\nred,3\n", [WORD], unknown="ignore")
    assert frame["c"].tolist() == ["green", "red"]
    frame, _ = frame_of(shell, "c,z\nNA,1\nDE,3\n", [Column("c", ["DE", "NA"])])
    assert frame["c"].tolist() == ["NA", "DE"]


def test_rows_of_separators_at_the_end_are_noted(shell):
    frame, notes = frame_of(shell, "x,z\n1,1\n,\n\n , \n\n")
    assert len(frame) == 1
    assert notes == ["2 rows of separators at the end left out"]
    assert frame_of(shell, "x,z\n1,1\n\n\n")[1] == []
