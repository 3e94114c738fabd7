"""Several target columns: labels of which a row may have any number, or several numbers."""

import csv
import io

import numpy as np
import pytest

import dnnext

A, B = np.random.default_rng(0).normal(size=(2, 60)).round(3)
TABLE = {"a": A, "b": B, "y": (2 * A - B).round(3), "z": B, "k": ["x", "w"] * 30}
LABELS = {"p": (A > 0).astype(int), "q": A > B, "r": np.where(B > 0, "yes", "no")}


def test_labels_are_learnt_reported_and_written_as_they_were(shell):
    shell.save({"a": A, "b": B, **LABELS})
    code, out, err = shell.train("p, q,r", "--max-iter", "60", "--alpha", "1e-4")
    assert code == 0, err
    assert "classification of 'p', 'q', 'r' from 2 columns" in out
    assert "always the commonest labels: 0." in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert sum(int(rows[name][0]) for name in "pqr") > 0
    code, out, _ = shell.run("predict", "model.npz", "t.csv", "--proba")
    assert code == 0
    header, *found = csv.reader(io.StringIO(out))
    assert header == ["p", "q", "r", "p(p)", "p(q)", "p(r)"]
    for k, column in enumerate(LABELS.values()):
        assert np.mean([row[k] for row in found] == np.array([str(v) for v in column])) > 0.9
    frame = pytest.importorskip("pandas").DataFrame({"a": A, "b": B})
    assert dnnext.load("model.npz").predict(frame).shape == (60, 3)


def test_classes_of_every_label_are_weighted(shell):
    shell.save({"a": A, "b": B, "p": (A > 1).astype(int), "q": B > 0})
    frame, means = pytest.importorskip("pandas").DataFrame({"a": A, "b": B}), []
    for words in ([], ["--class-weight", "balanced"]):
        code, _, err = shell.train("p,q", "--max-iter", "20", *words)
        assert code == 0, err
        means.append(dnnext.load("model.npz").predict_proba(frame)[:, 0].mean())
    assert dnnext.load("model.npz").class_weight == "balanced"
    assert means[1] > means[0] + 0.01


def test_several_numbers(shell):
    shell.save(TABLE)
    code, out, _ = shell.train("y,z", "--drop", "k", "--max-iter", "60", "--alpha", "1e-4")
    assert code == 0
    assert "regression of 'y', 'z' from 2 columns" in out
    assert "mean absolute error  always the mean" in out
    header, *found = csv.reader(io.StringIO(shell.run("predict", "model.npz", "t.csv")[1]))
    assert header == ["y", "z"]
    np.testing.assert_allclose(np.array(found, dtype=float), np.stack([TABLE["y"], B], axis=1), atol=0.5)


def test_a_column_may_have_a_comma_in_its_name(shell):
    shell.save({"a": A, '"b,c"': B})
    assert "regression of 'b,c' from 1 column," in shell.train("b,c")[1]


def test_a_model_of_python_has_one_column_per_output(shell):
    X = np.stack([A, B], axis=1)
    dnnext.DecentralizedMLPRegressor((2,), n_agents=2, max_iter=3, tol=0).fit(X, X).save("model.npz")
    shell.save({"a": A, "b": B})
    code, out, _ = shell.run("predict", "model.npz", "t.csv")
    assert code == 0
    assert out.splitlines()[0] == "prediction 1,prediction 2"


REFUSED = {
    "words": ("k,y", [], "the target 'k' holds words"),
    "no column": ("y,no", [], "there is no column 'no' (--target)"),
    "twice": ("y,y", [], "must name every column once"),
    "dropped": ("y,z", ["--drop", "z"], "--drop names the target 'z'"),
    "numbers as labels": ("y,z", ["--task", "classification"], "'y' must hold 0 and 1 only"),
    "weights of numbers": ("y,z", ["--class-weight", "balanced", "--drop", "g", "--drop", "n"], "which has no classes"),
    "words as numbers": ("q,p", ["--task", "regression"], "'q' holds text, so regression is impossible"),
    "a gap": ("p,g", [], "column 'g' has a missing value (in line 2); the target is never filled"),
    "one N.D.": ("y,n", [], "the target 'n' holds numbers and text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_targets_that_do_not_fit_are_named(shell, case):
    target, words, sentence = REFUSED[case]
    shell.save({**TABLE, **LABELS, "g": ["", *["1", "0"] * 29, "1"], "n": ["N.D.", *A[1:]]})
    code, out, err = shell.train(target, *words)
    assert code == 2
    assert sentence in err
    assert "iterations" not in out
