"""Files of every kind for the command line and for `dnnext.load`."""

import contextlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

from .data import bulk, labels
from .draw import need
from .fits import sound


def damaged(d, data):
    """Bytes cut, flipped, doubled, foreign."""
    rng = d.numbers()
    how = d.usual(["as it is", "cut", "flip", "zeros", "double", "foreign", "empty", "insert"])
    at = int(rng.integers(0, max(1, len(data))))
    if how == "cut":
        return data[:at]
    if how == "flip" and data:
        spoilt = bytearray(data)
        for place in rng.integers(0, len(data), d.pick([1, 3, 20])):
            spoilt[place] ^= 1 << int(rng.integers(8))
        return bytes(spoilt)
    if how == "zeros":
        return data[:at] + bytes(64) + data[at + 64 :]
    if how == "double":
        return data + data[at:]
    if how == "foreign":
        return d.pick([b"PK\x03\x04" + rng.bytes(200), b"%PDF-1.4", rng.bytes(300), b"\x89PNG\r\n\x1a\n" + bytes(50)])
    if how == "empty":
        return b""
    if how == "insert":
        return data[:at] + d.pick([b"\x00", b"\n", b'"', b",", b"\xff\xfe", b"nan", b"1e999", b"[[["]) + data[at:]
    return data


def csv_bytes(d):
    """A small CSV file."""
    n, width = d.usual([12, 1, 0, 4, 30]), d.pick([3, 1, 2])
    separator, end = d.usual([",", ";", "\t"]), d.usual(["\n", "\r\n", "\r"])
    X, y = bulk(d, (n, width)), np.asarray(labels(d, n)).ravel()
    words = d.usual(
        [[], ["red", "green"], ["red", "", "NA"], ["1", "red"], [f"w{k}" for k in range(60)], ["\u00e9 \u2028"]]
    )
    more = [[words[k % len(words)]] if words else [] for k in range(n)]
    lines = [separator.join([*[f"x{j}" for j in range(width)], *(["word"] if words else []), "y"])]
    lines += [
        separator.join([*map(repr, map(float, row)), *word, str(label)])
        for row, word, label in zip(X, more, y, strict=True)
    ]
    if d.chance(4):
        lines.insert(d.whole(0, len(lines)), d.pick(["", ",", "a,b", '"open', "1;2;3", "x0,x0,y", "#", "é\u2028b"]))
    return (d.usual(["", "\ufeff"]) + end.join(lines) + d.pick(["", end])).encode()


def parquet_file(d, folder):
    """A small Parquet file, perhaps damaged; without pyarrow any bytes will do."""
    path = folder / "data.parquet"
    path.write_bytes(b"PAR1")
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        n = d.usual([12, 0, 1, 30])
        word = pyarrow.array([("red", None, "blue")[k % 3] for k in range(n)], pyarrow.string())
        kinds = [word, word.dictionary_encode(), pyarrow.array([[k] for k in range(n)]), pyarrow.nulls(n)]
        columns = {"x0": bulk(d, (n, 1))[:, 0].astype(float), "word": d.pick(kinds), "y": [k % 2 for k in range(n)]}
        parquet.write_table(pyarrow.table(columns), path)
    path.write_bytes(damaged(d, path.read_bytes()))
    return path


TOML = [
    *["", "max-iter = 2", "agents = 2\nhidden = [2, 2]", "agents = -1", "agents = 'two'", "seed = 1.5", "hidden = []"],
    *[
        "quiet = true",
        "alpha = nan",
        "alpha = inf",
        "target = 'nobody'",
        "drop = ['x0']",
        "drop = 'x0'",
        "nonsense = 1",
    ],
    *["[table]\na = 1", "early-stopping = 1", "config = 'x'", "tol = [1, 2]", "topology = 1979-05-27", "max-iter = 0"],
    *["plot = true", "file = 'a'", "debug = true", "help = true", "test-fraction = 2", "jobs = 0", "task = 'odd'"],
    *["out = '/nowhere/at/all/m.npz'", "penalty = 'none'", "agents = 99999999999999999999"],
]
OPTIONS = [
    option.split("=")
    for option in [
        "--task=regression",
        "--task=classification",
        "--test-fraction=0",
        "--test-fraction=2",
        "--agents=0",
        "--agents=40",
        "--hidden=",
        "--hidden=a",
        "--hidden=0",
        "--alpha=-1",
        "--topology=donut",
        "--agent-column=x0",
        "--agent-column=q",
        "--drop=x0",
        "--drop=y",
        "--early-stopping",
        "--loss=huber",
        "--penalty=group",
        "--max-iter=-1",
        "--seed=-1",
        "--tol=nan",
        "--jobs=0",
        "--target=x0",
        "--out=",
        "--test-fraction=nan",
        "--algorithm=dgd",
        "--algorithm=centralized",
        "--partition=odd",
        "--impute=mean",
        "--impute=median",
        "--impute=most_frequent",
        "--impute=odd",
        "--categorical=x0",
        "--categorical=q",
        "--max-categories=1",
    ]
]


def shell(words):
    """(exit code, stderr) of the command line in this process."""
    from dnnext.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:  # argparse
            code = end.code or 0
    return code, err.getvalue()


def cli(d):
    """`dnnext train` and `dnnext predict` on files that may be anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, model = folder / "data.csv", folder / "m.npz"
        data.write_bytes(damaged(d, csv_bytes(d)) if d.chance(3) else csv_bytes(d))
        if d.chance(6):
            data = parquet_file(d, folder)
        words = ["train", str(data), "--target", "y", "--agents", "3", "--hidden", "2", "--max-iter", "2", "--quiet",
                 "--jobs", "1", "--out", str(model)]  # fmt: skip
        if d.chance(3):
            (folder / "run.toml").write_bytes(damaged(d, d.pick(TOML).encode()))
            words += ["--config", str(folder / "run.toml")]
        for _ in range(d.usual([0, 1, 2])):
            words += d.pick(OPTIONS)
        ends = [ended(shell(words), words)]
        if model.exists():
            model.write_bytes(damaged(d, model.read_bytes()))
            new = folder / "new.csv"
            new.write_bytes(damaged(d, data.read_bytes()))
            proba = ["--proba"] if d.chance(3) else []
            proba += ["--unknown", "ignore"] if d.chance(3) else []
            ends.append(ended(shell(["predict", str(model), str(new), *proba]), ["predict"]))
    return ", ".join(ends)


def ended(result, words):
    """Exit code 0 or 2, one sentence, no traceback."""
    code, err = result
    need(code in (0, 2), f"exit code {code} of {' '.join(words[:1])}: {err}")
    need("Traceback" not in err, f"a traceback: {err}")
    noise = [line for line in err.splitlines() if "Warning" in line]
    need(not noise, f"a warning: {noise}")
    need(code == 0 or err.strip(), "exit code 2 without a word")
    return f"exit {code}"


_FILES = {}


def model_bytes(d):
    """A model file, from one of a few fitted models."""
    which = d.pick(["classifier", "regressor", "view", "text"])
    if which not in _FILES:
        X = np.random.default_rng(0).standard_normal((12, 2))
        y = np.array(["a", "b", "c"] * 4) if which == "text" else np.arange(12) % 3
        kind = DecentralizedMLPRegressor if which == "regressor" else DecentralizedMLPClassifier
        model = kind((2,), n_agents=2, max_iter=2, n_jobs=1, random_state=0).fit(X, y)
        with tempfile.TemporaryDirectory() as folder:
            (model.agents_[0] if which == "view" else model).save(os.path.join(folder, "m.npz"))
            _FILES[which] = Path(folder, "m.npz").read_bytes()
    return _FILES[which]


def rewritten(d, data):
    """The archive with one member changed: what a flipped bit cannot reach behind the checksums."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = d.pick(sorted(arrays))
    how = d.pick(["header", "shape", "dtype", "values", "missing", "object", "big"])
    a = arrays[name]
    if how == "header" or name == "header":
        arrays["header"] = np.frombuffer(damaged(d, arrays["header"].tobytes()), dtype=np.uint8)
    elif how == "shape":
        arrays[name] = d.pick([a[..., None], a.ravel()[:-1], a[None], np.empty((0, *a.shape[1:]), a.dtype)])
    elif how == "dtype":
        arrays[name] = a.astype(d.pick(["U8", "f4", "bool", "c16", "i1"])) if a.dtype.kind in "fiub" else a.astype("S4")
    elif how == "values" and a.dtype.kind in "fi":
        arrays[name] = (
            a * 0 + d.pick([-1, 10**6, 0, 127]) if a.dtype.kind == "i" else a * d.pick([np.nan, np.inf, 1e300])
        )
    elif how == "missing":
        del arrays[name]
    elif how == "object":
        arrays[name] = np.array([{}], dtype=object)
    elif how == "big":
        arrays[name] = np.zeros(10**5, a.dtype)
    target = io.BytesIO()
    np.savez(target, allow_pickle=True, **arrays)
    return target.getvalue()


def model_file(d):
    """load of a file that may be anything; what loads also predicts."""
    data = model_bytes(d)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = rewritten(d, data) if d.chance(2) else damaged(d, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.npz")
        path.write_bytes(data)
        model = dnnext.load(path)
    sound(model, np.zeros((2, model.n_features_in_)))
    return "loaded"
