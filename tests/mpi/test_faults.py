"""When a rank gets into trouble the job ends in seconds, says why, and what was written can be resumed."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from dnnext import checkpoint
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


TROUBLES = {
    "exception": "the last rank's own trouble",
    "kill": "",  # the launcher has its own words
    "stop": r"agents 4 to 5 (rank 2) gave no sign of life for 5 s in iteration 13, round",
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
