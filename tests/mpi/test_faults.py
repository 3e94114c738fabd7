"""When a rank gets into trouble the job ends in seconds, says why, and what was written can be resumed."""

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dnnext.runs import checkpoint
from dnnext.runtime import InProcess

SCRIPT = Path(__file__).parent / "faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("dnnext_tests_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_gone(pid):
    """Whether the process has ended (a zombie has)."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.fixture
def ulfm(launch):
    """Options of a launcher that keeps the others when a rank dies; only Open MPI's has them."""
    command = [launch.mpiexec(), "--version"]
    if "Open MPI" not in subprocess.run(command, capture_output=True, text=True, timeout=20).stdout:
        pytest.skip("on_failure='shrink' needs Open MPI")
    return ("--with-ft", "ulfm")


TROUBLES = {
    "exception": "the last rank's own trouble",
    "kill": "",  # the launcher has its own words
    "stop": r"agents 4 to 5 (rank 2) gave no sign of life for 5 s in iteration 12, round",
    "full": "checkpoint 3 could not be written",
    "exit": "",
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_trouble_of_one_rank_ends_all_and_the_checkpoint_is_good(launch, tmp_path, faults, kind):
    begin = time.monotonic()
    code, out, err = launch(3, SCRIPT, kind, tmp_path, timeout=60)
    assert code != 0, out
    assert TROUBLES[kind] in err, err
    assert "max_iter" not in out
    assert time.monotonic() - begin < 40
    if (tmp_path / "pid").exists():
        assert is_gone(int((tmp_path / "pid").read_text()))
    assert checkpoint.read(tmp_path / "run", InProcess(6)).numbers["t"] == 10
    again, whole = faults.resume(tmp_path, 30), faults.solve(InProcess(6), max_iter=30)
    np.testing.assert_array_equal(again.w, whole.w)
    np.testing.assert_array_equal(again.history["objective"], whole.history["objective"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_ctrl_c_leaves_a_checkpoint_of_the_same_iteration_on_all_ranks(launch, tmp_path, faults, number):
    def interrupt(process):
        for _ in range(600):
            if all((tmp_path / f"at-{rank}").exists() for rank in range(3)):
                break
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)

    code, _, err = launch(3, SCRIPT, "interrupt", tmp_path, timeout=60, on_start=interrupt)
    assert code != 0 or number == signal.SIGINT, err  # mpich hands Ctrl-C on as it is: the script itself goes on
    reached = max(int((tmp_path / f"at-{rank}").read_text()) for rank in range(3))
    saved = checkpoint.read(tmp_path / "run", InProcess(6))
    assert reached - 1 <= saved.numbers["t"] <= reached + 1
    again = faults.resume(tmp_path, reached + 10)
    whole = faults.solve(InProcess(6), max_iter=reached + 10)
    np.testing.assert_array_equal(again.w, whole.w)


def test_the_others_go_on_without_the_agents_of_a_dead_rank(launch, ulfm, tmp_path, faults):
    code, out, err = launch(3, SCRIPT, "shrink", tmp_path, timeout=60, launcher=ulfm)
    lines = out.splitlines()
    assert code == 0, err
    assert lines.count("max_iter 30") == 2, out
    assert lines.count("[0, 1, 2, 3] True True") == 2
    told = [line for line in lines if line.startswith("agents 4 to 5 (rank 2) died in iteration ")]
    assert len(told) == 2
    assert "The run went on with 4 agents." in told[0]
    objective = [float(number) for number in told[0].split("[")[1].rstrip("]").split(",")]
    assert objective[-1] < objective[0]
    assert len(objective) >= 29
    assert checkpoint.notes_of(tmp_path / "run")[0] == 4


def test_an_error_after_a_loss_still_ends_all(launch, ulfm, tmp_path):
    code, _, err = launch(3, SCRIPT, "shrink, then an error", tmp_path, timeout=60, launcher=ulfm)
    assert code == 1, err
    assert "an error of the script" in err


def test_nobody_waits_for_ever_at_the_end(launch, ulfm, tmp_path):
    _, out, err = launch(3, SCRIPT, "shrink, then silence", tmp_path, timeout=90, launcher=ulfm)
    assert out.count("max_iter 30") == 2, err
    assert "the other did not wait for ever" in out


def test_a_graph_that_falls_apart_ends_the_run(launch, ulfm, tmp_path):
    code, _, err = launch(3, SCRIPT, "apart", tmp_path, timeout=60, launcher=ulfm)
    assert code != 0
    assert "The graph is not connected without them" in err
