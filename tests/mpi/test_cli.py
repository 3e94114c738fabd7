"""`dnnext train --engine mpi`: one rank speaks, the model is that of one process, mistakes end all with code 2."""

import csv

import numpy as np
import pytest
from sklearn.datasets import load_iris

import dnnext
from dnnext.cli import main

X, Y = load_iris(return_X_y=True)
OPTIONS = ["--target", "kind", "--quiet", "--max-iter", "6", "--tol", "0", "--hidden", "4"]
AGENTS = ["--agents", "4"]


@pytest.fixture
def tables(tmp_path):
    """all.csv, and the same rows in part-0.csv and part-1.csv."""
    rows = [[*x, ["a", "b", "c"][y]] for x, y in zip(X.tolist(), Y, strict=True)]
    for name, part in (("all", rows), ("part-0", rows[::2]), ("part-1", rows[1::2])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["sl", "sw", "pl", "pw", "kind"], *part])
    return tmp_path


def test_train_on_ranks(launch, tables, monkeypatch, capsys):
    words = ["train", str(tables / "all.csv"), *OPTIONS, *AGENTS]
    code, out, err = launch(
        2, "-m", "dnnext", *words, "--engine", "mpi", "--out", tables / "ranks.npz", "--checkpoint", tables / "run"
    )
    assert code == 0, err
    assert out.count("model written to") == 1
    assert out.count("rows to train on") == 1
    monkeypatch.chdir(tables)
    assert main([*words, "--out", "one.npz"]) == 0
    capsys.readouterr()
    ranks, one = dnnext.load(tables / "ranks.npz"), dnnext.load(tables / "one.npz")
    np.testing.assert_array_equal(ranks.coefs_[0], one.coefs_[0])
    assert len(ranks.agents_) == 4
    assert len(list((tables / "run").glob("*.npz"))) == 2


def test_every_rank_has_its_own_file(launch, tables):
    words = ["train", *OPTIONS, "--engine", "mpi", "--local-data", tables / "part-{rank}.csv", "--topology", "complete"]
    code, out, err = launch(2, "-m", "dnnext", *words, "--out", tables / "m.npz")
    assert code == 0, err
    assert "over the rows of all ranks" in out
    assert dnnext.load(tables / "m.npz").n_agents_ == 2


def test_ranks_agree_on_categories_and_fill_values(launch, tmp_path):
    head = ["colour", "size", "y"]
    parts = [[["red", 1, 3], ["green", "", 5], ["red", 2, 3]] * 6, [["blue", 6, 9], ["blue", 5, 9], ["", 7, 3]] * 6]
    for rank, rows in enumerate(parts):
        with (tmp_path / f"part-{rank}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    words = ["train", "--target", "y", "--task", "regression", "--engine", "mpi", "--topology", "complete", "--quiet"]
    words += ["--local-data", tmp_path / "part-{rank}.csv", "--max-iter", "5", "--tol", "0", "--test-fraction", "0"]
    code, _, err = launch(2, "-m", "dnnext", *words, "--impute", "mean", "--out", tmp_path / "m.npz")
    assert code == 0, err
    colour, size = [c.as_dict() for c in dnnext.load(tmp_path / "m.npz").preprocessor_.columns_]
    assert (colour["name"], colour["categories"], colour["fill"]) == ("colour", ["blue", "green", "red"], "blue")
    assert size["fill"] == 21 / 5  # the mean over both ranks
    code, _, err = launch(2, "-m", "dnnext", *words, "--impute", "median", "--out", tmp_path / "m.npz", timeout=60)
    assert code == 0, err
    assert [c.as_dict() for c in dnnext.load(tmp_path / "m.npz").preprocessor_.columns_][1]["fill"] == 5
    code, _, err = launch(2, "-m", "dnnext", *words, "--impute", "most_frequent", timeout=60)
    assert code == 2
    assert "over ranks use 'mean' or 'median'" in err


def test_a_rank_may_hold_one_class_or_one_row(launch, tmp_path):
    X, y = [[k, (3 * k) % 7] for k in range(20)], ["ill" if k > 9 else "well" for k in range(20)]
    options = ["--engine", "mpi", "--topology", "complete", "--quiet", "--max-iter", "3", "--out", tmp_path / "m.npz"]
    for cut in (10, 1):
        for rank, rows in enumerate((slice(cut), slice(cut, 20))):
            with (tmp_path / f"part-{rank}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([["a", "b", "y"], *([*x, k] for x, k in zip(X[rows], y[rows], strict=True))])
        words = ["train", "--target", "y", *options, "--local-data", tmp_path / "part-{rank}.csv"]
        code, out, err = launch(2, "-m", "dnnext", *words, timeout=60)
        assert code == 0, err
        assert ("no test score: a rank has no rows to spare" in out) == (cut == 1)
        assert dnnext.load(tmp_path / "m.npz").classes_.tolist() == ["ill", "well"]
    code, out, err = launch(2, "-m", "dnnext", *words[:2], "b", *words[3:], "--task", "regression", "--drop", "y")
    assert code == 0, err


def test_a_missing_part_ends_all_with_code_2(launch, tables):
    (tables / "part-1.csv").unlink()
    words = ["train", *OPTIONS, "--engine", "mpi", "--local-data", tables / "part-{rank}.csv"]
    code, _, err = launch(2, "-m", "dnnext", *words, timeout=60)
    assert code == 2
    assert "part-1.csv" in err
    assert "No such file" in err
