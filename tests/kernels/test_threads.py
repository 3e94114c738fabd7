"""No bit depends on the number of threads, on the neighbours in memory, or on how agents are split."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from dnnext import kernels
from dnnext.models import Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows

DTYPES = [np.float64, np.float32]
# Enough work for every thread: many equal agents, few agents, one that holds nearly all rows, and none at all.
SHARES = [(4000,) * 5, (30000,), (15000, 9000), (20000, 10, 0, 7), (0, 0)]


def bits(name, outputs, arguments):
    """The same outputs from 1, 2, 3 and 4 threads."""
    results = []
    for n_threads in (1, 2, 3, 4):
        out = [np.full_like(o, 7) for o in outputs]
        getattr(kernels, name)(*out, *arguments, n_threads=n_threads)
        results.append(out)
    for other in results[1:]:
        for mine, its in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(mine, its)
    return results[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", SHARES)
@pytest.mark.parametrize("layers", [(9, 13, 2), (5, 8, 7, 3), (70, 4)])
def test_mlp_kernels(network, layers, rows, dtype):
    p = network(0, layers, rows, dtype)
    net = (p.offsets, p.layers, p.activation)
    value, grad = np.empty(p.agents), np.empty((p.agents, p.params), dtype)
    bits("mlp_loss_grad", [value, grad], (p.w, p.x, p.target, p.weight, *net, p.loss, 1.0, 0.5))
    bits("mlp_forward", [p.u], (p.w, p.x, *net))
    bits("mlp_jv", [p.u], (p.w, p.x, p.v, *net))
    bits("mlp_jtu", [grad], (p.w, p.x, p.u, *net))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [(700,) * 5, (2000,), (1500, 0, 40), (0,)])
@pytest.mark.parametrize("blocks", [(0,), (0, 40, 41, 42, 300), range(361)], ids=["one", "some", "all"])
@pytest.mark.parametrize("layers", [(9, 30, 2), (4, 60, 1)], ids=["from pairs", "from J"])
def test_gauss_newton(network, layers, rows, blocks, dtype):
    p = network(0, layers, rows, dtype)
    blocks = np.array([*blocks, p.params])
    out = np.empty((p.agents, int(np.sum(np.diff(blocks) ** 2))), dtype)
    tail = (p.offsets, p.layers, p.activation, blocks)
    bits("mlp_gauss_newton", [out], (p.w, p.x, p.u, *tail))
    bits("mlp_gauss_newton_product", [p.v], (p.w, p.x, p.real(p.n, p.outputs, 2), p.v, *tail))
    one = p.real(p.n * p.outputs, p.params)
    bits("mlp_jacobian", [one], (p.w[:1], p.x, p.u, p.layers, p.activation))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("agents", [1, 2, 7])
@pytest.mark.parametrize("blocks", [(0, 500), (0, 150, 151, 400, 500), range(501)], ids=["one", "some", "all"])
def test_solves(agents, blocks, dtype):
    rng, blocks = np.random.default_rng(0), np.array(blocks)
    b = np.concatenate([np.eye(size).ravel() for size in np.diff(blocks)])
    b = (b + 1e-3 * rng.random((agents, len(b)))).astype(dtype)
    v = rng.standard_normal((agents, 500)).astype(dtype)
    bits("block_product", [v], (b, v, blocks))
    first = None
    for n_threads in (1, 2, 3):
        out, status, worn = np.empty_like(v), np.empty(agents, np.int64), b.copy()
        kernels.spd_solve(out, status, worn, np.full_like(v, 40), v, blocks, n_threads)
        first = out if first is None else first
        np.testing.assert_array_equal(out, first)
    penalty = (np.full(500, 0.1, dtype), np.full(500, 0.1, dtype), np.empty((0, 2), np.int64), np.empty(0, dtype))
    for n_threads in (1, 2, 3):
        out, done = v.copy(), np.empty(agents, np.int64)
        kernels.descent_solve(out, done, b, np.ones(agents, dtype), v, v, *penalty, blocks, 30, 0.0, n_threads)
        first = (out, done) if n_threads == 1 else first
        np.testing.assert_array_equal(out, first[0])
        np.testing.assert_array_equal(done, first[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [9000, 20011])
def test_rows(columns, dtype):
    rng = np.random.default_rng(0)
    matrix = sp.random_array((40, 44), density=0.2, format="csr", rng=rng)
    rows = rng.standard_normal((44, columns)).astype(dtype)
    csr = (matrix.indptr, matrix.indices, matrix.data.astype(dtype))
    bits("csr_mix", [rows[:40]], (rows, *csr, None, 1.0, 0.0, 0.0))
    groups = np.arange(0, columns, 7)[:-1, None] + [0, 5]
    flat = np.full(columns, 0.1, dtype)
    strength = np.full(len(groups), 0.4, dtype)
    bits("penalty_prox", [rows], (rows, np.ones(44, dtype), flat, flat, groups, strength))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_column_mixes_the_same_wherever_it_stands(dtype):
    rng = np.random.default_rng(0)
    matrix = sp.random_array((6, 6), density=0.7, format="csr", rng=rng)
    csr = (matrix.indptr, matrix.indices, matrix.data.astype(dtype))
    column, previous = rng.standard_normal((2, 6, 1)).astype(dtype)
    for n in range(1, 150):
        out = np.empty((6, n), dtype)
        copies = np.repeat(column, n, axis=1), np.repeat(previous, n, axis=1)
        kernels.csr_mix(out, copies[0], *csr, copies[1], 1.3, -0.3, -0.7)
        first = out[:, :1] if n == 1 else first  # noqa: F821
        np.testing.assert_array_equal(out, np.repeat(first, n, axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_agent_computes_the_same_alone(network, dtype):
    p = network(0, (9, 13, 2), (300, 0, 1, 2000), dtype)
    grad, value = np.empty((4, p.params), dtype), np.empty(4)
    tail = (p.layers, p.activation, p.loss, 1.0, 0.5)
    kernels.mlp_loss_grad(value, grad, p.w, p.x, p.target, None, p.offsets, *tail)
    for i in range(4):
        rows = slice(p.offsets[i], p.offsets[i + 1])
        alone, one = np.empty((1, p.params), dtype), np.empty(1)
        offsets = np.array([0, rows.stop - rows.start])
        kernels.mlp_loss_grad(one, alone, p.w[i : i + 1], p.x[rows], p.target[rows], None, offsets, *tail)
        np.testing.assert_array_equal(alone[0], grad[i])
        assert one[0] == value[i]


def test_large_work_space_is_kept_for_the_next_call():
    """Not handed out by the system page by page again; what lies in it, and calls at the same time, change no bit."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    model = Chain(
        [Conv2d(16, 3, activation="tanh"), Conv2d(16, 3, activation="tanh"), Flatten(), Dense(2)], (3, 32, 32)
    )
    x, target, w = rng.random((16, 3, 32, 32)), rng.random((16, 2)), model.init(0)[None]

    def call():
        value, grad = np.empty(1), np.empty_like(w)
        rows = Rows(x, np.array([0, 16]), 6)  # space for six threads, of which one is used
        model.loss_grad(w, rows, target, None, kernels.LOSSES["squared_error"], 0.0, 1.0, value, grad)
        return grad

    first, faults = call(), []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.testing.assert_array_equal(call(), first)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < 300, faults  # some 2000 pages are used
    with ThreadPoolExecutor(3) as pool:
        for grad in pool.map(lambda _: call(), range(6)):
            np.testing.assert_array_equal(grad, first)


def test_copies_of_a_work_space_are_empty():
    workspace = kernels.StepWorkspace()
    for twin in (copy.deepcopy(workspace), pickle.loads(pickle.dumps(workspace))):
        assert isinstance(twin, kernels.StepWorkspace)
        assert twin is not workspace


@pytest.mark.parametrize("path", [path for path in kernels.info()["cpu_paths"] if path != kernels.info()["cpu_path"]])
def test_other_cpu_paths(path):
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "DNNEXT_CPU": path, "CI": "1", "PYTHONSAFEPATH": "1", "PYTEST_ADDOPTS": ""}
    names = ("twins", "elementary", "gradient", "chains", "threads", "conjugate", "steps", "residual_pass")
    same = "cpu_path", "fewer_threads", "waiting_threads", "after_fork"  # do not depend on the path
    dear = "solves", "gauss_newton_", "layers1-rows", "states_that_grow", "shape0"
    selection = ["-k", " and ".join(f"not {word}" for word in same + dear)]
    result = subprocess.run(
        [*command, *selection, *(str(here / f"test_{name}.py") for name in names)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=here.parents[1],
    )
    assert result.returncode == 0, result.stdout[-3000:]


def test_fewer_threads_than_asked_for():
    """A limit on threads changes nothing but the time."""
    code = """
import hashlib, numpy as np
from dnnext import kernels
x = np.random.default_rng(0).standard_normal((3000, 9))
w = np.random.default_rng(1).standard_normal((1, 331))
out, blocks = np.empty((1, 331**2)), np.array([0, 331])
tail = (np.array([0, 3000]), (9, 30, 1), 1, blocks, 3)
kernels.mlp_gauss_newton(out, w, x, np.ones((3000, 1)), *tail)
print(hashlib.sha256(out.tobytes()).hexdigest())
"""
    outputs = []
    for limit in ("1", "2", "8"):
        environment = {**os.environ, "OMP_THREAD_LIMIT": limit, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code]
        outputs.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert outputs[0] == outputs[1] == outputs[2] != ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_one_thread_after_fork():
    """A child of a process that has used several threads computes on one, however many are asked for, and ends."""
    code = """
import os, numpy as np
from dnnext import kernels
x, w = np.random.default_rng(0).standard_normal((30000, 9)), np.ones((1, 331))
out, grad = np.empty(1), np.empty((1, 331))
call = (out, grad, w, x, np.ones((30000, 1)), None, np.array([0, 30000]), (9, 30, 1), 1, 0, 1.0, 1.0)
kernels.mlp_loss_grad(*call, 3)
before = grad.copy()
pid = os.fork()
if pid == 0:
    kernels.mlp_loss_grad(*call, 3)
    os._exit(0 if np.array_equal(before, grad) else 1)
print(os.waitpid(pid, 0)[1])
"""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "0\n"


def test_unknown_cpu_path_is_named():
    environment = {**os.environ, "DNNEXT_CPU": "pentium", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", "import dnnext.kernels"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "DNNEXT_CPU must be one of" in result.stderr
    assert "pentium" in result.stderr


def test_waiting_threads_sleep_and_nothing_leaks():
    """OpenMP is asked to wait asleep while it is loaded; the user's own wish stands, and no child inherits ours."""
    code = "import os; from dnnext import kernels; print({k: v for k, v in os.environ.items() if k in {NAMES}})"
    code = code.replace("{NAMES}", "('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')")
    for wish in ({}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}):
        clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        environment = {**clean, **wish, "PYTHONSAFEPATH": "1", "OMP_DISPLAY_ENV": "verbose"}
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert result.stdout.strip() == str(wish)
        if not wish and "GOMP_SPINCOUNT" in result.stderr:
            assert "GOMP_SPINCOUNT = '1000'" in result.stderr
