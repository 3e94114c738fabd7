"""What a column holds is decided by its cells: numbers as the world writes them, dates, units, codes, words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext.cli.cells import Rules, look
from dnnext.cli.dates import are_dates
from dnnext.cli.distinct import Cells, shapes_of, used
from dnnext.cli.writing import CODE, INFINITE, NEAR, PLAIN, is_numeric, written_number


def column(*cells):
    return np.array(cells * (40 // len(cells) + 1), dtype=object)


# cells, what they are without --decimal, the number that the first one is with ".", and with ","
WRITTEN = [
    ("1.234,56", "written", None, 1234.56), ("1.234.567", "written", None, 1234567),
    ("1,234.56", "written", 1234.56, None), ("1,234,567", "written", 1234567, None),
    ("12,34,567.5", "written", 1234567.5, None), ("1'234.5", "written", 1234.5, None),
    ("1\u2019234,5", "written", None, 1234.5), ("1 234,5", "written", None, 1234.5),
    ("1\u00a0234", "written", 1234, 1234), ("1\u202f234,5", "written", None, 1234.5),
    ("1\u2009234.5", "written", 1234.5, None), ("-7,5", "written", None, -7.5),
    ("\u22127.5", "written", -7.5, None), ("\u20137", "written", -7, -7), ("7.5-", "written", -7.5, None),
    ("(5)", "written", -5, -5), ("(1,234.50)", "written", -1234.5, None), ("$(5)", "written", -5, -5),
    ("-$5.25", "written", -5.25, None), ("$-5", "written", -5, -5), ("12 %", "written", 12, 12),
    ("%12", "written", 12, 12), ("12,5\u00a0%", "written", None, 12.5), ("3\u2030", "written", 3, 3),
    ("\u00a35", "written", 5, 5), ("\u20ac1.234,5", "written", None, 1234.5), ("5 \u20ac", "written", 5, 5),
    ("USD 5", "written", 5, 5), ("5 USD", "written", 5, 5), ("US$5", "written", 5, 5),
    ("R$ 1.234,50", "written", None, 1234.5), ("A$5", "written", 5, 5), ("CHF 1'234.50", "written", 1234.5, None),
    ("Fr. 5.50", "written", 5.5, None), ("Rs. 1,23,456", "written", 123456, None), ("5 kr", "written", 5, 5),
    ("1 234,50 z\u0142", "written", None, 1234.5), ("\u20ba5", "written", 5, 5), ("1,5e3", "written", None, 1500),
    ("1,5", "written", None, 1.5), (",5", "written", None, 0.5), ("1,2345", "written", None, 1.2345),
    ("1e5", "numbers", 1e5, 1e5), ("1.5E+05", "numbers", 1.5e5, None), (".5", "numbers", 0.5, None),
    ("5.", "numbers", 5, None), ("+5", "numbers", 5, 5), ("1.500", "numbers", 1.5, 1500),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "kind", "point", "comma"), WRITTEN, ids=[w[0] for w in WRITTEN])
def test_numbers_as_the_world_writes_them(cell, kind, point, comma):
    cells = column(cell, cell.replace("5", "6").replace("1", "2").replace("3", "4").replace("7", "8"))
    assert look(cells, Rules()).kind == kind
    for mark, value in ((".", point), (",", comma)):
        one = look(cells, Rules(mark))
        assert one.kind == ("mark" if value is None else "numbers")
        if value is not None:
            assert one.numbers[0] == value
            assert one.values(Cells.of(cells))[0] == value


DATES = [
    "2024-03-14", "2024/3/4", "2024.03.14", "14.3.2024", "3/14/2024", "14-03-24", "14-Mar-24", "14 Mar 2024",
    "14. M\u00e4rz 2024", "14 f\u00e9vrier 2024", "3 de mayo de 2024", "March 14, 2024", "Mar 14th, 2024",
    "Thu, 14 Mar 2024", "2024-Mar-14", "2024-03-14 12:00", "2024-03-14T12:00:01.5Z", "2024-03-14 12:00:00+02:00",
    "2024-03-14 12:00 CET", "14/03/2024 1:02 PM", "Thu Mar 14 12:00:00 2024", "20240314T120000Z", "12:30",
    "12:30:15.25", "3:05 pm", "100 days 02:03:04", "PT5M", "P1DT2H", "2024-03", "03/2024", "2024/03", "Mar 2024",
    "March 2024", "Mar-24", "2024 Mar", "2024Q2", "Q2 2024", "2024-W03", "2024\u5e743\u670814\u65e5",
]  # fmt: skip


@pytest.mark.parametrize("cell", DATES)
def test_dates_times_and_durations(cell):
    assert look(column(cell), Rules()).kind == "dates"
    others = [cell.replace("14", str(d)).replace("03", f"{d % 9 + 1:02d}") for d in range(10, 22)]
    one = look(column(*others, "unknown", "later"), Rules())
    assert one.kind == "dates" if len(set(others)) > 2 else one.kind in ("words", "dates")


@pytest.mark.parametrize("cell", ["20240314", "202403141230", "20240314123059"])
def test_dates_without_marks(cell):
    cells = [cell[:6] + f"{d}" + cell[8:] for d in range(10, 25)]
    assert look(column(*cells), Rules()).kind == "dates"
    assert look(column(*cells, "99999999"), Rules()).kind == "numbers"


UNITS = [
    "{} kg",
    "{}.5kg",
    "{}\u00b0C",
    "{} mm/h",
    "<{}",
    "~{}",
    "{}+",
    "#{}",
    "No. {}",
    "'{}",
    '="{}"',
    "{}L",
    "{}*",
    "{} pcs.",
]


@pytest.mark.parametrize("how", UNITS)
def test_numbers_with_a_unit_or_mark(how):
    many = [how.format(k) for k in range(1, 21)]
    for cells in (many, [*many, "unknown"]):
        assert look(column(*cells), Rules()).kind == "units"
    assert look(column(*many[:4]), Rules()).kind == "words"  # few of them may be classes


def test_numbers_with_several_units():
    assert look(column(*[f"{k}{'kMG'[k % 3]}" for k in range(20)]), Rules()).kind == "units"
    assert look(column(*[f"{k}{('st', 'nd', 'rd', 'th')[k % 4]}" for k in range(20)]), Rules()).kind == "units"
    assert look(column(*[f"{k}{'ABC'[k % 3]}" for k in range(20)]), Rules()).kind == "words"  # seats


WORDS = [
    "2020_01", "0110", "1_000", "\u0967\u0968", "\u0661\u0662", "\uff11\uff12", "0x10", "1/2", "1:2", "18-24",
    "1.2.3.4", "True", "T", "yes", "1+2j", "5\u00b2", "\u00bd", "[1, 2]", "a b", "it's", "Q", "P-0001", "None",
    "mar", "May Day", "inf.",
]  # fmt: skip


@pytest.mark.parametrize("cell", WORDS)
def test_words_stay_words(cell):
    for mark in (None, ".", ","):
        one = look(column(cell, "other"), Rules(mark))
        assert one.kind == "words"
        assert one.values(Cells.of(column(cell, "other")))[:2].tolist() == [cell, "other"]


MIXED = [
    "N.D.",
    "-",
    "--",
    ".",
    "n.a.",
    "k.A.",
    "#DIV/0!",
    "#VALUE!",
    "1.#QNAN",
    "missing",
    "\u221e",
    "5.1*",
    "<0.1",
    "true",
    "\\N",
    "0x10",
]


@pytest.mark.parametrize("cell", MIXED)
def test_one_cell_of_text_among_numbers(cell):
    cells = np.array([*[f"{k}.5" for k in range(40)], cell], dtype=object)
    one = look(cells, Rules())
    assert (one.kind, one.first, one.second) == ("mixed", 0, 40)
    assert look(cells, Rules(missing=frozenset({cell}))).kind == "numbers"


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "#N/A", "nan", "NaN", "?", "null", "NULL", "None", "<NA>", "NaT"])
def test_words_for_gaps_among_numbers(cell):
    one = look(np.array(["1", cell, "2.5"], dtype=object), Rules())
    assert one.kind == "numbers"
    np.testing.assert_array_equal(one.values(Cells.of(np.array(["1", cell, "2.5"], dtype=object))), [1, np.nan, 2.5])


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400", "+INF"])
def test_what_is_not_finite_is_named(cell):
    one = look(np.array(["1", "2", cell], dtype=object), Rules())
    assert (one.kind, one.first) == ("infinite", 2)


TEXT = st.text(st.sampled_from("0012345.,-+eE%()$ x'_\u00a0\u20ac\x00\n"), max_size=9)


@given(st.lists(TEXT, min_size=1, max_size=12))
def test_rules_say_the_same_of_a_cell_and_of_its_shape(cells):
    shapes, of = shapes_of(cells)
    assert len(set(shapes)) == len(shapes)
    for cell, shape in zip(cells, np.array(shapes, dtype=object)[of], strict=True):
        for rule in (PLAIN, CODE, INFINITE):
            assert bool(rule.fullmatch(cell)) == bool(rule.fullmatch(shape))
        assert bool(NEAR.match(cell)) == bool(NEAR.match(shape))
        assert is_numeric(cell) == is_numeric(shape)
        for mark in ".,":
            ours, theirs = written_number(cell, mark), written_number(shape, mark)
            assert (ours is None) == (theirs is None)
            assert ours is None or (ours[1] == theirs[1] and np.signbit(ours[0]) == np.signbit(theirs[0]))


@given(st.lists(TEXT, min_size=1, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_distinct_cells_stand_for_all(cells, keep):
    whole = np.array(cells, dtype=object)
    held = Cells.of(whole)
    assert held.array().tolist() == cells
    assert held.distinct == list(dict.fromkeys(cells))
    assert [held[k] for k in range(len(held))] == cells
    keep = np.array(keep[: len(cells)])
    assert held.take(keep).distinct == list(dict.fromkeys(whole[keep].tolist()))
    assert held.stripped().array().tolist() == [cell.strip() for cell in cells]
    assert held.count(",") == sum(cell.count(",") for cell in cells)
    assert held.rows("").tolist() == [cell == "" for cell in cells]
    shapes, of = shapes_of(held.distinct)
    left, codes = used(shapes, of[::2])
    assert [left[k] for k in codes] == [shapes[k] for k in of[::2]]


def test_letters_of_no_width_are_blanks():
    assert Cells.of(np.array(["\u200b5 ", "\ufeff6"], dtype=object)).stripped().distinct == ["5", "6"]


def test_a_date_of_a_month_is_in_this_era():
    for cells, there in ((["1000-01", "1000-02", "1000-03"], False), (["2024-13"] * 3, False), (["1999-12"] * 3, True)):
        shapes, of = shapes_of(cells)
        assert are_dates(cells, shapes, of) == there
