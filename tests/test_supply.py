"""What SECURITY.md promises of files, of dependencies, and of what messages tell."""

import ast
import contextlib
import io
import re
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest

import dnnext
from dnnext import DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint

PACKAGE = Path(dnnext.__file__).parent
ROOT = PACKAGE.parent
RNG = np.random.default_rng(0)

# What runs code that a file holds, or unpacks to places that a file names.
FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "eval", "exec", "compile", "extract", "extractall",
    "unpack_archive", "popen", "os.system",
}  # fmt: skip


def called(tree):
    """Names of all functions called and of all modules imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (((node.module or "").split(".")[0], node), *((alias.name, node) for alias in node.names))
        elif isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""), node
            yield ast.unparse(node.func), node


def test_nothing_in_the_package_can_run_what_a_file_holds():
    for path in PACKAGE.rglob("*.py"):
        for name, node in called(ast.parse(path.read_text(encoding="utf-8"))):
            bare = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if name == "compile" and bare:  # re.compile
                continue
            assert name not in FORBIDDEN, f"{path.name}:{node.lineno}: {name}"
            if name in ("load", "read_array") and isinstance(node, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                numpy = ast.unparse(node.func).startswith("np.")
                assert not numpy or given.get("allow_pickle") == "False", f"{path.name}:{node.lineno}"


def run(**options):
    shards = [(RNG.standard_normal((4, 2)), RNG.standard_normal(4)) for _ in range(2)]
    problem = Problem(MLP([2, 2, 1]), SquaredError(), L2(0.1), shards)
    return problem, NEXT().run(problem, Network(Topology.ring(2)), max_iter=3, warn=False, **options)


@pytest.mark.parametrize("evil", ["../evil.npy", "/tmp/evil.npy", "..\\evil.npy", "a/../../evil.npy"])
def test_paths_in_an_archive_lead_nowhere(tmp_path, evil):
    """Members are read by name, never unpacked; a foreign one is refused, for models and for checkpoints."""
    folder = tmp_path / "inside"
    folder.mkdir()
    problem, _ = run(callbacks=[Checkpoint(folder, every=1)])
    model = DecentralizedMLPRegressor((2,), n_agents=2, max_iter=2, tol=0, n_jobs=1).fit(
        RNG.standard_normal((8, 2)), np.arange(8)
    )
    model.save(folder / "model.npz")
    files = sorted(folder.rglob("*.npz"))
    array = io.BytesIO()
    np.lib.format.write_array(array, np.zeros(3))
    for path in files:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(evil, array.getvalue())
    before = sorted(tmp_path.rglob("*"))
    for load in (lambda: dnnext.load(folder / "model.npz"), lambda: checkpoint.read(folder, problem.runtime)):
        with contextlib.suppress(ValueError):
            load()
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/evil.npy").exists()


def test_dependencies_are_bounded_on_both_sides():
    needed = [line for line in requires("dnnext") or [] if "extra ==" not in line]
    if (ROOT / "pyproject.toml").exists():
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert len(needed) == 5
    for line in needed:
        assert re.search(r">=\d", line), line
        assert re.search(r"<\d", line), line


# What an honest but curious neighbour learns: the two leaks that SECURITY.md names are real


def test_the_first_message_of_an_agent_with_one_row_tells_the_row():
    model, secret = MLP([3, 4, 1]), np.array([0.3, -1.7, 2.2])
    problem = Problem(model, SquaredError(), L2(0.1), [(secret[None], [0.5]), (np.eye(3), np.ones(3))])
    w = model.init(0)
    y = problem.grad(np.repeat(w[None], 2, axis=0))  # what travels first: y_i = grad_i
    (weights, biases), _ = model.unpack(y[0])
    np.testing.assert_allclose(weights[:, 0] / biases[0], secret, rtol=1e-12)


def test_who_hears_all_neighbours_of_an_agent_follows_its_gradient():
    """On a path agent 0 has one neighbour, which hears y_0 and knows its own: grad_0 follows from sums of changes."""
    rows = [(RNG.standard_normal((4, 2)), RNG.standard_normal(4)) for _ in range(3)]
    problem = Problem(MLP([2, 2, 1]), SquaredError(), L2(0.1), rows)
    net, told, true = Topology.path(3), [], []

    def keep(state, _):
        told.append(state.y[:2].copy())
        true.append(state.grad[0].copy())

    NEXT(step=0.5).run(problem, Network(net, mixing_rounds=1), max_iter=12, warn=False, callbacks=[keep])
    c = net.mixing.toarray()[0]
    guess = true[0].copy()  # known from the first message, which is grad_0 itself
    for t in range(1, len(told)):
        guess += told[t][0] - (c[0] * told[t - 1][0] + c[1] * told[t - 1][1])
        np.testing.assert_allclose(guess, true[t], rtol=1e-9, atol=1e-12)
