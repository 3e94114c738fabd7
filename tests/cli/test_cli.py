"""The command line as a user meets it: what it prints, writes, and how mistakes end."""

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

import dnnext
from dnnext.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, names, *columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))


def iris_file(path="iris.csv"):
    X, y = load_iris(return_X_y=True)
    write(path, ["sl", "sw", "pl", "pw", "kind"], *X.T, np.array(["setosa", "versicolor", "virginica"])[y])
    return X, y


def refused(capsys, *words):
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("dnnext: ")
    assert err.count("\n") == 1
    return err


def test_train_then_predict(here, capsys):
    X, y = iris_file()
    assert main(["train", "iris.csv", "--target", "kind", "--agents", "4", "--topology", "ring", "--out", "m.npz"]) == 0
    out, err = capsys.readouterr()
    assert "classification of 'kind' from 4 columns, 112 rows to train on, 38 to test on" in out
    assert "iteration    1/200" in err
    assert "iteration " not in out
    assert "; always 'versicolor': 0." in out or "; always 'setosa': 0." in out or "; always 'virginica': 0." in out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  "))
    assert sum(int(rows[kind].split()[0]) for kind in ("setosa", "versicolor", "virginica")) == 38
    assert rows["setosa"].split()[1] == "1.000"
    accuracy = float(out.split("test accuracy ")[1].split()[0])
    assert accuracy > 0.9
    write("new.csv", ["pw", "extra", "sl", "pl", "sw"], X[:, 3], y, X[:, 0], X[:, 2], X[:, 1])
    assert main(["predict", "m.npz", "new.csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["kind"]
    assert np.mean([row[0] for row in rows[1:]] == np.array(["setosa", "versicolor", "virginica"])[y]) > 0.9
    assert main(["predict", "m.npz", "new.csv", "--proba"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["kind", "p(setosa)", "p(versicolor)", "p(virginica)"]
    assert sum(map(float, rows[1][1:])) == pytest.approx(1)


def test_regression_figure_and_agents_by_column(here, capsys):
    X, y = load_diabetes(return_X_y=True)
    write("d.csv", [*(f"x{k}" for k in range(10)), "site", "y"], *X.T, ["north", "south"] * 221, y)
    words = ["--agent-column", "site", "--plot", "run.png", "--quiet", "--hidden", "5", "--max-iter", "30"]
    assert main(["train", "d.csv", "--target", "y", "--tol", "1e-3", *words]) == 0
    out = capsys.readouterr().out
    assert "regression of 'y' from 10 columns" in out
    assert "2 agents" in out
    assert "iteration " not in out
    assert float(out.split("test R2 ")[1].split()[0]) > 0.2
    assert (here / "run.png").read_bytes().startswith(b"\x89PNG")
    assert [view.label for view in dnnext.load("model.npz").agents_] == ["north", "south"]


def test_numbers_as_classes_stay_numbers(here, capsys):
    X, y = load_breast_cancer(return_X_y=True)
    write("b.csv", [*(f"x{k}" for k in range(30)), "y"], *X.T, y)
    assert main(["train", "b.csv", "--target", "y", "--quiet", "--max-iter", "10", "--tol", "0"]) == 0
    capsys.readouterr()
    main(["predict", "model.npz", "b.csv"])
    assert set(capsys.readouterr().out.split()) == {"y", "0", "1"}


def test_options_from_a_file(here, capsys):
    iris_file()
    (here / "run.toml").write_text(
        'target = "kind"\nagents = 3\nhidden = [5, 4]\nmax-iter = 9\nquiet = true\ntol = 0\n'
    )
    assert main(["train", "iris.csv", "--config", "run.toml", "--agents", "8", "--out", "m.npz"]) == 0
    model = dnnext.load("m.npz")
    assert (model.n_agents_, model.hidden_layer_sizes, model.n_iter_) == (8, (5, 4), 9)
    (here / "run.toml").write_text("colour = 1\n")
    assert "unknown option 'colour'" in refused(capsys, "train", "iris.csv", "--config", "run.toml")
    (here / "run.toml").write_text("target = \n")
    assert "not valid TOML" in refused(capsys, "train", "iris.csv", "--config", "run.toml")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--timeout", "5"], "--timeout needs --engine mpi"),
        (["--on-failure", "shrink"], "--on-failure needs --engine mpi"),
        (["--checkpoint-every", "5"], "--checkpoint-every 5 needs --checkpoint"),
        (["--test-fraction", "0.999"], "--test-fraction must leave rows to train on, got 0.999 of 150 rows"),
        (["--loss", "poisson"], "'poisson' is a loss of a regressor"),
    ],
)
def test_options_that_have_no_effect_or_do_not_fit_are_refused(here, capsys, words, sentence):
    iris_file()
    assert sentence in refused(capsys, "train", "iris.csv", "--target", "kind", *words)


BAD_FILES = {
    "missing value": ("a,b,y\n1,2,0\n3,,1\n5,6,0\n7,8,1\n", "column 'b' has a missing value (in line 3)"),
    "missing values": (
        "a,b,y\n1,NA,0\n3,nan,1\n5,6,0\n7,8,1\n",
        "column 'b' has 2 missing values (the first in line 2)",
    ),
    "missing target value": ("a,b,y\n1,2,0\n3,4,\n5,6,0\n7,8,1\n", "column 'y' has a missing value (in line 3)"),
    "numbers and text": (
        "a,b,y\n1,2,0\n3,blue,1\n5,red,0\n7,red,1\n",
        "column 'b' holds numbers and text ('2' in line 2, 'blue' in line 3)",
    ),
    "a column of nothing": (
        "a,b,y\n1,,0\n3,,1\n5,,0\n7,,1\n",
        "column 'b' has no value at all; leave it out with --drop",
    ),
    "infinite": ("a,b,y\n1,inf,0\n3,1,1\n5,2,0\n7,1,1\n", "column 'b' is inf in line 2"),
    "no target": ("a,b,z\n1,2,0\n3,4,1\n", "no column 'y' (--target)"),
    "one class": ("a,b,y\n1,2,yes\n3,4,yes\n5,6,yes\n7,8,yes\n", "the target 'y' has one class only (yes)"),
    "one number": ("a,b,y\n1,2,3\n3,4,3\n5,6,3\n7,8,3\n", "the target 'y' has one class only (3)"),
    "no header": ("1,2,0\n3,4,1\n", "first line must hold the names"),
    "no rows": ("a,b,y\n", "no rows below the header"),
    "empty": ("", "the file is empty"),
    "ragged": ("a,b,y\n1,2,0\n3,4\n", "line 3 has 2 cells, the header has 3"),
    "twice": ("a,a,y\n1,2,0\n3,4,1\n", "the column name 'a' comes 2 times"),
    "nameless": ("a,,y\n1,2,0\n3,4,1\n", "column 2 has no name ('2' in line 2); name it"),
    "only the target": ("y\n0\n1\n0\n1\n", "no column is left to learn from"),
    "quotes": ('a,b,y\n"1,2,0\n', "not valid CSV"),
    "few rows": ("a,y\n1,0\n2,1\n", "2 rows are too few"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_sentence(here, capsys, case):
    text, sentence = BAD_FILES[case]
    (here / "f.csv").write_text(text)
    assert sentence in refused(capsys, "train", "f.csv", "--target", "y")
    assert sorted(os.listdir()) == ["f.csv"]


def test_other_mistakes_are_one_sentence(here, capsys):
    iris_file()
    train = ["train", "iris.csv", "--target", "kind"]
    assert "none.csv: No such file" in refused(capsys, "train", "none.csv", "--target", "y")
    assert "--target is missing" in refused(capsys, "train", "iris.csv")
    assert "give one file, or --local-data" in refused(capsys, "train", "--target", "kind")
    assert "--local-data needs --engine mpi" in refused(capsys, *train[:1], *train[2:], "--local-data", "{rank}.csv")
    assert "topology" in refused(capsys, *train, "--topology", "donut")
    assert "--hidden" in refused(capsys, *train, "--hidden", "big")
    assert "--alpha" in refused(capsys, *train, "--alpha", "big")
    assert "alpha must be" in refused(capsys, *train, "--alpha", "-1")
    assert "penalty" in refused(capsys, *train, "--penalty", "l7")
    assert "--test-fraction" in refused(capsys, *train, "--test-fraction", "1.5")
    assert "regression is impossible" in refused(capsys, *train, "--task", "regression")
    assert "no column 'zip' (--drop)" in refused(capsys, *train, "--drop", "zip")
    assert "no column 'site' (--agent-column)" in refused(capsys, *train, "--agent-column", "site")
    assert "not a complete dnnext model file" in refused(capsys, "predict", "iris.csv", "iris.csv")
    (here / "binary.csv").write_bytes(bytes(range(256)))
    assert "UTF-8" in refused(capsys, "train", "binary.csv", "--target", "y")
    assert "must end in one of" in refused(capsys, *train, "--plot", "run.xyz")


def test_a_new_file_that_lacks_a_column(here, capsys):
    iris_file()
    main(
        ["train", "iris.csv", "--target", "kind", "--quiet", "--max-iter", "2", "--tol", "0", "--loss", "squared_hinge"]
    )
    write("new.csv", ["sl", "sw", "pl"], [1], [2], [3])
    capsys.readouterr()
    assert "no column 'pw' (an input of model.npz)" in refused(capsys, "predict", "model.npz", "new.csv")
    assert "no probabilities" in refused(capsys, "predict", "model.npz", "iris.csv", "--proba")


def test_debug_shows_the_traceback(here):
    with pytest.raises(FileNotFoundError):
        main(["train", "none.csv", "--target", "y", "--debug"])


def test_unknown_words_are_exit_code_2(capsys):
    for words in (["fly"], [], ["predict"], ["topology", "ring", "many"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    capsys.readouterr()


def test_separators_and_a_byte_order_mark(here, capsys):
    X, y = load_iris(return_X_y=True)
    lines = ["a;b;c;d;y", *(";".join(map(str, [*row, label])) for row, label in zip(X, y, strict=True))]
    (here / "f.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert main(["train", "f.csv", "--target", "y", "--quiet", "--max-iter", "3", "--tol", "0"]) == 0
    assert "from 4 columns" in capsys.readouterr().out


def test_topology(capsys):
    assert main(["topology", "ring", "6"]) == 0
    out = capsys.readouterr().out
    assert "ring, 6 agents, 6 links" in out
    assert "degree           2 to 2" in out
    assert "spectral gap     0.333333" in out
    assert "0  o # . . . #" in out
    assert "donut" in refused(capsys, "topology", "donut", "4")
    assert "n_agents" in refused(capsys, "topology", "ring", "0")
    assert "agents must be at most" in refused(capsys, "topology", "ring", "100000")
    for name, shape in (("grid", "path"), ("torus", "ring")):
        assert main(["topology", name, "7"]) == 0
        assert f"a {name} of 7 agents has one row, so it is a {shape}" in capsys.readouterr().err
        assert main(["topology", name, "8"]) == 0
        assert capsys.readouterr().err == ""


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("dnnext", "numpy", "scipy", "scikit-learn", "blas", "MPI"):
        assert word in out


def test_demo(here, capsys):
    assert main(["demo", "--data", "wine", "--agents", "5", "--max-iter", "8", "--dir", "out"]) == 0
    out, err = capsys.readouterr()
    assert "iteration    8/8" in err
    assert "wine: 124 rows to train on, 54 to test on, 13 inputs, 3 classes; 5 agents" in out
    for words in ("no row is sent", "scikit-learn's MLPClassifier", "one agent alone"):
        assert words in out
    assert sorted(os.listdir("out")) == ["dnnext-demo.npz", "dnnext-demo.png"]
    assert dnnext.load("out/dnnext-demo.npz").n_agents_ == 5
    assert "--agents" in refused(capsys, "demo", "--agents", "0")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_leaves_a_model(here):
    iris_file()
    words = ["train", "iris.csv", "--target", "kind", "--max-iter", "1000000", "--tol", "0", "--out", "m.npz"]
    run = subprocess.Popen(
        [sys.executable, "-m", "dnnext", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **apart(here)
    )
    try:
        seen = [run.stderr.readline() for _ in range(3)]
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert seen[1].startswith("iteration")
    assert run.returncode == 130
    assert "interrupted: the best model so far is kept" in out
    assert "Traceback" not in err
    assert dnnext.load("m.npz").status_ == "interrupted"


def apart(tmp_path):
    """Where and with which paths a new process finds this package."""
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path(dnnext.__file__).parents[1])}, "text": True}


def test_import_is_light(tmp_path):
    code = "import sys, dnnext; print([m for m in ('sklearn', 'matplotlib', 'mpi4py', 'networkx') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60, **apart(tmp_path))
    assert run.stdout.strip() == "[]"


def refused_on_options(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_unknown_options_get_a_suggestion(capsys):
    assert "did you mean --agents?" in refused_on_options(capsys, "train", "a.csv", "--agnets", "3")
    assert "did you mean --max-categories?" in refused_on_options(capsys, "train", "a.csv", "--max-categoris=3")
    assert "--help lists the options" in refused_on_options(capsys, "train", "a.csv", "--xyzzy")
    assert "write --target=VALUE" in refused_on_options(capsys, "train", "a.csv", "--target", "-y")


def test_help_lists_what_there_is(capsys):
    from dnnext.estimators.choices import ALGORITHMS, LOSSES, PARTITIONS
    from dnnext.kernels import ACTIVATIONS
    from dnnext.models.risks import REGIMES
    from dnnext.network.topology import TOPOLOGIES
    from dnnext.problem import PENALTIES

    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    words = [*TOPOLOGIES, *ACTIVATIONS, *ALGORITHMS, *PARTITIONS, *LOSSES["classifier"], *LOSSES["regressor"]]
    for word in (*words, *REGIMES, *(name for name in PENALTIES if name)):
        assert word in text
    with pytest.raises(SystemExit):
        main(["--help"])
    assert 'DecentralizedClassifier(model=Cube(...), engine="mpi")' in capsys.readouterr().out


def never_trains(capsys, *words):
    err = refused(capsys, *words)
    assert "iteration" not in err
    return err


def test_places_are_looked_at_before_training(here, capsys):
    iris_file()
    train = ["train", "iris.csv", "--target", "kind", "--max-iter", "2", "--tol", "0", "--quiet"]
    assert "there is no folder 'no'" in never_trains(capsys, *train, "--out", "no/m.npz")
    assert "--out must be a file, got the folder '.'" in never_trains(capsys, *train, "--out", ".")
    before = (here / "iris.csv").read_bytes()
    assert "is no model file of dnnext; it is not overwritten" in never_trains(capsys, *train, "--out", "iris.csv")
    assert "there is no folder 'no'" in never_trains(capsys, *train, "--plot", "no/run.png")
    (here / "cat.png").write_bytes(b"\x89PNG of a cat")
    assert "is no figure of dnnext; it is not overwritten" in never_trains(capsys, *train, "--plot", "cat.png")
    assert "--plot must be another file than --out" in never_trains(capsys, *train, "--out", "r.png", "--plot", "r.png")
    assert "--checkpoint must be a folder" in never_trains(capsys, *train, "--checkpoint", "iris.csv")
    assert "make it first" in never_trains(capsys, *train, "--checkpoint", "no/such/run")
    assert "No such file" in never_trains(capsys, *train, "--config", "no.toml")
    (here / "others").mkdir()
    (here / "others" / "x.npz").write_bytes(b"")
    assert "holds files of others (x.npz)" in never_trains(capsys, *train, "--checkpoint", "others")
    assert (here / "iris.csv").read_bytes() == before
    assert (here / "cat.png").read_bytes() == b"\x89PNG of a cat"
    assert not (here / "model.npz").exists()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_what_is_ours_is_overwritten(here, capsys, ending):
    iris_file()
    words = ["--out", "model.pkl", "--plot", f"run.{ending}", "--checkpoint", "run"]
    for _ in range(2):
        assert main(["train", "iris.csv", "--target", "kind", "--max-iter", "2", "--tol", "0", "--quiet", *words]) == 0
    assert "model.pkl will be an npz file in spite of its name" in capsys.readouterr().err
    assert dnnext.load("model.pkl").n_agents_ == 8


def test_names_and_seeds_of_any_kind(here, capsys):
    X, _ = load_iris(return_X_y=True)
    write("d.csv", ["a", "-x", "-y"], *X.T[:3])
    (here / "c.toml").write_text('target = "-y"\ndrop = ["-x"]\nmax-iter = 2\nquiet = true\nseed = 5000000000\n')
    assert main(["train", "d.csv", "--config", "c.toml"]) == 0
    assert "regression of '-y' from 1 column, " in capsys.readouterr().out
    assert main(["train", "d.csv", "--target=-y", "--drop=-x", "--max-iter", "2", "--quiet", "--seed", str(2**80)]) == 0
    capsys.readouterr()
    assert "--seed must be a whole number of at least 0" in refused(
        capsys, "train", "d.csv", "--target=-y", "--seed=-1"
    )
    assert "--seed must be a whole number of at least 0" in refused(capsys, "demo", "--seed=-1")


def test_more_options_reach_the_estimator(here, capsys):
    iris_file()
    words = ["--class-weight", "balanced", "--l1-ratio", "0.3", "--mixing", "lazy_metropolis", "--dtype", "float32"]
    words += [
        "--max-time",
        "60",
        "--regime",
        "features",
        "--penalty",
        "elasticnet",
        "--max-iter",
        "2",
        "--tol",
        "0",
        "--quiet",
    ]
    assert main(["train", "iris.csv", "--target", "kind", *words]) == 0
    model = dnnext.load("model.npz")
    assert (model.class_weight, model.l1_ratio, model.mixing) == ("balanced", 0.3, "lazy_metropolis")
    assert (model.dtype, model.max_time, model.regime) == ("float32", 60, "features")
