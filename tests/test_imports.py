"""Importing a module of the project changes nothing of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = ("docs/gallery/", "bench/rivals/peers/run_", "bench/speed/kernels/child_", "bench/rivals/large_child")
PROGRAMS += ("tests/mpi/in_", "tests/mpi/job", "tests/mpi/faults")  # run by name in processes of their own
PROGRAMS += ("dnnext/sites/flare.py", "dnnext/estimators/flare.py")  # need nvflare; FLARE's processes import them
FOREIGN = """docutils.nodes hypothesis joblib matplotlib.pyplot mpi4py networkx numpy onnx pandas pyarrow pytest rich
scipy.optimize scipy.sparse.linalg scipy.special sklearn.datasets sklearn.experimental sklearn.neural_network sphinx
sklearn.utils.estimator_checks threadpoolctl"""

# Packages of others may change the process while they are imported, so they come first.
CODE = """
import importlib, importlib.util, json, locale, os, random, signal, sys, warnings

def load(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("dnnext", "bench", "tests", "docs"):
            raise

names, foreign = json.load(sys.stdin)
for name in foreign:
    load(name)
import matplotlib, numpy, threadpoolctl

def facts():
    return {
        "os.environ": dict(os.environ),
        "folder": os.getcwd(),
        "sys.path": list(sys.path),
        "warnings": [str(entry) for entry in warnings.filters],
        "numpy.errstate": numpy.geterr(),
        "numpy.random": str(numpy.random.get_state()),
        "numpy.printoptions": str(numpy.get_printoptions()),
        "random": random.getstate(),
        "threads": {p["filepath"]: p["num_threads"] for p in threadpoolctl.threadpool_info()},
        "matplotlib": dict(matplotlib.rcParams),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [sys.excepthook, sys.displayhook, *sys.meta_path],
        "locale": locale.setlocale(locale.LC_ALL),
        "files": sorted(os.listdir(".")),
    }

for name in names:
    before = facts()
    load(name)
    after = facts()
    for what, value in before.items():
        if what == "threads":  # libraries may come, those that were here keep their threads
            after[what] = {library: after[what].get(library) for library in value}
        if after[what] != value:
            print(f"{name} changes {what}: {value} before, {after[what]} after")
"""


def modules(folder):
    """Dotted names of the files below a folder of the root, in no package or in one."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(PROGRAMS) and name != "dnnext/__main__.py" and "/_build/" not in name:
            yield name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("folder", ["dnnext", "bench", "docs", "tests"])
def test_importing_changes_nothing(folder, tmp_path):
    names = list(modules(folder))
    assert names or not (ROOT / folder).exists()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path / "mpl")}
    environment |= {"OPENBLAS_CORETYPE": "Haswell"}  # what is there must stay, too
    given = json.dumps([names, FOREIGN.split()])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], input=given, env=environment, cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "", done.stdout[:4000]
