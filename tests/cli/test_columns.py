"""Categories, gaps and Parquet files, from training to prediction."""

import csv
import io
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris

import dnnext
from dnnext.cli import main, make_parser
from dnnext.cli.columns import Problems, study
from dnnext.cli.table import read_table

QUICK = [
    "--quiet",
    "--max-iter",
    "30",
    "--tol",
    "1e-3",
    "--hidden",
    "4",
    "--agents",
    "3",
    "--alpha",
    "1e-4",
    "--out",
    "m.npz",
]
COLOURS = np.array(["red", "green", "blue"])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def coloured(n=60):
    """Columns whose target is 3, 5, 9 for red, green, blue, plus size."""
    rng = np.random.default_rng(0)
    k, size = rng.integers(0, 3, n), rng.uniform(-1, 1, n).round(3)
    return {"colour": COLOURS[k].tolist(), "size": size.tolist(), "y": (np.array([3.0, 5.0, 9.0])[k] + size).tolist()}


def refused(capsys, *words):
    capsys.readouterr()
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("dnnext: ")
    assert err.count("\n") == 1
    return err


def predictions(capsys, *words):
    capsys.readouterr()
    assert main(["predict", "m.npz", *words]) == 0
    return [float(row[0]) for row in list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]]


def test_categories_are_learnt_and_kept_in_the_model(capsys):
    write("a.csv", coloured())
    assert main(["train", "a.csv", "--target", "y", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "regression of 'y' from 2 columns" in out
    assert "one input per category: colour (3); 4 inputs in all" in out
    assert list(dnnext.load("m.npz").preprocessor_.get_feature_names_out()) == [
        "colour=blue",
        "colour=green",
        "colour=red",
        "size",
    ]
    notes = [c.as_dict() for c in dnnext.load("m.npz").preprocessor_.columns_]
    assert notes[0] == {
        "name": "colour",
        "categories": ["blue", "green", "red"],
        "fill": None,
        "mean": 0.0,
        "scale": 1.0,
        "low": None,
        "high": None,
    }
    write("new.csv", {"size": [0, 0, 0], "extra": [1, 2, 3], "colour": ["blue", "red", "green"]})
    assert np.allclose(predictions(capsys, "new.csv"), [9, 3, 5], atol=0.3)


def test_new_categories_are_refused_or_count_as_none(capsys):
    write("a.csv", coloured())
    assert main(["train", "a.csv", "--target", "y", *QUICK]) == 0
    write("new.csv", {"size": [0, 0], "colour": ["red", "violet"]})
    err = refused(capsys, "predict", "m.npz", "new.csv")
    assert "new.csv: column 'colour' holds 'violet' in line 3" in err
    assert "(it knows blue, green, red); --unknown ignore" in err
    known, new = predictions(capsys, "new.csv", "--unknown", "ignore")
    assert known == pytest.approx(3, abs=0.3)
    model = dnnext.load("m.npz")
    model.preprocessor_.handle_unknown = "ignore"
    frame = pytest.importorskip("pandas").DataFrame({"colour": ["violet"], "size": [0.0]})
    assert new == model.predict(frame)[0]  # as scikit-learn's handle_unknown="ignore"


def test_gaps_are_refused_unless_asked_for(capsys):
    table = coloured()
    table["size"][3], table["colour"][5] = "", "NA"
    write("a.csv", table)
    train = ["train", "a.csv", "--target", "y", *QUICK, "--test-fraction", "0"]
    assert main(train) == 2
    both = capsys.readouterr().err
    assert "a.csv has 2 problems:\n  column 'colour' has a missing value (in line 7); fill or remove" in both
    assert "\n  column 'size' has a missing value (in line 5)" in both
    assert "ask for --impute" in refused(capsys, *train, "--drop", "colour")
    assert "--impute must be one of mean, median, most_frequent, got 'magic'" in refused(
        capsys, *train, "--impute", "magic"
    )
    sizes = [size for size in table["size"] if size != ""]
    colours = [colour for colour in table["colour"] if colour != "NA"]
    most = max(sorted(set(colours)), key=colours.count)
    for how, fill in (("mean", np.mean(sizes)), ("median", np.median(sizes))):
        assert main([*train, "--impute", how]) == 0
        assert f"gaps filled: colour with {most!r} in 1 row, size with {fill:.6g} in 1 row" in capsys.readouterr().out
        assert [c.as_dict() for c in dnnext.load("m.npz").preprocessor_.columns_][1]["fill"] == pytest.approx(
            fill, rel=1e-12
        )
    write("new.csv", {"size": ["", repr(float(np.median(sizes)))], "colour": ["red", "red"]})
    filled, same = predictions(capsys, "new.csv")
    assert filled == same


def test_a_model_without_impute_refuses_gaps_in_new_rows(capsys):
    write("a.csv", coloured())
    assert main(["train", "a.csv", "--target", "y", *QUICK]) == 0
    write("new.csv", {"size": ["", 1], "colour": ["red", "red"]})
    err = refused(capsys, "predict", "m.npz", "new.csv")
    assert "column 'size' has a missing value (in line 2); the model was trained without --impute" in err


def test_fill_values_come_from_the_rows_to_train_on(capsys):
    write("a.csv", {"a": [1, 2, 9, "", 5, 7, 8, 4], "y": [1.5, 2, 3, 4, 5, 6, 7, 8]})
    assert main(["train", "a.csv", "--target", "y", *QUICK, "--impute", "mean"]) == 0
    fill = dnnext.load("m.npz").preprocessor_.columns_[0].fill
    assert f"gaps filled: a with {fill:.6g} in 1 row" in capsys.readouterr().out
    assert fill != pytest.approx(36 / 7)


def test_numbers_may_be_categories_and_columns_may_have_too_many(capsys):
    table = coloured() | {"code": [7, 8, 9] * 20}
    write("a.csv", table)
    train = ["train", "a.csv", "--target", "y", *QUICK]
    assert main([*train, "--categorical", "code"]) == 0
    assert "colour (3), code (3); 7 inputs" in capsys.readouterr().out
    assert "--categorical 'zip' is no input" in refused(capsys, *train, "--categorical", "zip")
    assert "column 'colour' has 3 categories (blue, green, red), more than --max-categories 2" in refused(
        capsys, *train, "--max-categories", "2"
    )


def test_parquet_is_read_like_csv(capsys):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    X, y = load_iris(return_X_y=True)
    names = ["setosa", "versicolor", "virginica"]
    site = pyarrow.array(["north", "south"] * 75).dictionary_encode()
    columns = {"sl": X[:, 0], "sw": X[:, 1].astype(np.float32), "big": (10 * X[:, 2]).astype(int), "site": site}
    columns |= {"__index_level_0__": np.arange(150)[::-1]}  # what pandas writes of its row labels is no column
    columns |= {"wide": X[:, 3] > 1, "kind": [names[k] for k in y]}
    parquet.write_table(pyarrow.table(columns), "i.parquet")
    assert main(["train", "i.parquet", "--target", "kind", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "classification of 'kind' from 5 columns" in out
    assert "site (2), wide (2); 7 inputs in all" in out
    capsys.readouterr()
    assert main(["predict", "m.npz", "i.parquet"]) == 0
    told = capsys.readouterr().out.split()[1:]
    assert np.mean(np.array(told) == np.array(names)[y]) > 0.9
    write("i.csv", {name: np.asarray(column).tolist() for name, column in columns.items()})
    assert main(["predict", "m.npz", "i.csv"]) == 0
    assert capsys.readouterr().out.split()[1:] == told


def test_bad_parquet_files_are_one_sentence(capsys, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    train = ["train", "a.parquet", "--target", "y", *QUICK]
    parquet.write_table(pyarrow.table({"a": [[1], [2]], "y": [1, 2]}), "a.parquet")
    assert "column 'a' holds list<element: int64>" in refused(capsys, *train)
    parquet.write_table(pyarrow.table({"a": [1.0, None, 3.0, 4.0], "y": [1, 2, 3, 4]}), "a.parquet")
    assert "a.parquet: column 'a' has a missing value (in row 2)" in refused(capsys, *train)
    parquet.write_table(pyarrow.table({"a": [], "y": []}), "a.parquet")
    assert "there are no rows" in refused(capsys, *train)
    with open("a.parquet", "rb+") as file:
        file.truncate(40)
    assert "not a complete Parquet file" in refused(capsys, *train)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "need pyarrow (pip install pyarrow)" in refused(capsys, *train)


def test_sentences_about_rows_of_one_rank_name_no_cell():
    write("a.csv", {"name": ["Ann", "Bea", "Cid", "Dan"], "code": ["1", "x", "2", "3"], "y": [1, 2, 3, 4]})
    args = make_parser().parse_args(["train", "a.csv", "--target", "y", "--max-categories", "3"])
    with pytest.raises(Problems) as caught:
        study(read_table("a.csv"), args, local=True)
    assert len(caught.value.sentences) == 2
    assert "has 4 categories, more than" in caught.value.sentences[0]
    assert "text (line 2, line 3)" in caught.value.sentences[1]
    assert "Ann" not in str(caught.value)
    assert "'x'" not in str(caught.value)


@pytest.mark.parametrize(("words", "sentence"), [
    ([], "column 'b' holds -999 in 3 rows, far outside of its other numbers (--missing=-999 counts it as a gap, "
         "--numeric 'b' keeps it)"),
    (["--local-data", "a.csv"], "column 'b' holds a number of nines, far outside of its other numbers"),
    (["--numeric", "b"], None), (["--missing=-999", "--impute", "mean"], None),
])  # fmt: skip
def test_numbers_that_probably_stand_for_gaps_are_noted(words, sentence):
    write("a.csv", {"a": range(20, 32), "b": [3.5, -999, 4, 5, -999, 7, 1, -999, 2, 3, 8, 6], "y": [1, 5, 2] * 4})
    found = study(read_table("a.csv"), make_parser().parse_args(["train", "a.csv", "--target", "y", *words]))
    notes = [note for note in found.notes if "far outside" in note]
    assert notes == ([] if sentence is None else [sentence])


def test_a_category_cannot_take_the_name_of_a_column(here, capsys):
    rows = "".join(f"{colour},{k},{k % 2}\n" for k, colour in enumerate(["red", "blue"] * 10))
    (here / "a.csv").write_text("colour,colour=red,y\n" + rows)
    assert main(["train", "a.csv", "--target", "y", *QUICK]) == 2
    assert "columns 'colour' and 'colour=red' would give two inputs one name" in capsys.readouterr().err


def test_the_number_of_agents_is_given_once(capsys):
    write("a.csv", coloured())
    err = refused(capsys, "train", "a.csv", "--target", "y", "--agent-column", "colour", "--agents", "2")
    assert "--agents must be left out beside --agent-column" in err
    err = refused(capsys, "train", "--target", "y", "--local-data", "part-{rank}.csv", "--agents", "2")
    assert "--agents must be left out beside --local-data" in err
