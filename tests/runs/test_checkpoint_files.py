"""Files of checkpoints: what cannot be resumed is a sentence, and nothing is lost."""

import errno
import json
import os

import numpy as np
import pytest
from short_runs import RING, Stop, assert_same, killed_at, make_problem

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.network import Network
from dnnext.runs import archive, checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import InProcess


@pytest.fixture
def written(tmp_path):
    problem = make_problem()
    callbacks = [Checkpoint(tmp_path / "run", every=10)]
    NEXT().run(problem, Network(RING), max_iter=20, callbacks=callbacks, notes={"who": "test"})
    return tmp_path / "run"


def newest(folder):
    return sorted(folder.glob("*.npz"))[-1]


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign", "text", "other npz"])
def test_a_damaged_file_is_named_and_the_one_before_still_there(written, damage):
    file = newest(written)
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    new = {"truncated": data[:-100], "empty": b"", "flipped": data, "text": b"hello\n"}
    if damage in new:
        file.write_bytes(bytes(new[damage]))
    elif damage == "foreign":
        archive.write_archive(file, {"format": "something else"}, {})
    else:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ValueError, match=r"000002-agents.*not a complete dnnext checkpoint.*Remove it to go on"):
        checkpoint.read(written, InProcess(6))
    file.unlink()
    assert checkpoint.read(written, InProcess(6)).numbers["t"] == 10


def test_pickles_are_never_read(written):
    file = newest(written)
    header = archive.read_archive(file, checkpoint.FORMAT, checkpoint.VERSION)[0]
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(file, header=text, **{"agents.w": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="not a complete dnnext checkpoint"):
        checkpoint.read(written, InProcess(6))


def test_an_unfinished_checkpoint_is_passed_over(written, lockstep):
    lockstep(6, 2, lambda runtime: checkpoint.write(written, checkpoint.read(written, runtime), runtime, {}))
    newest(written).unlink()  # the second rank never came to write its own
    assert checkpoint.read(written, InProcess(6)).numbers["t"] == 20


def test_places_without_a_checkpoint(tmp_path, written):
    with pytest.raises(ValueError, match="there is no checkpoint at"):
        checkpoint.read(tmp_path / "nowhere", InProcess(6))
    with pytest.raises(ValueError, match="is a file; a checkpoint is a folder"):
        checkpoint.read(newest(written), InProcess(6))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no checkpoint with all 6 agents"):
        checkpoint.read(tmp_path / "empty", InProcess(6))
    with pytest.raises(ValueError, match="folder without a dnnext checkpoint"):
        checkpoint.notes_of(tmp_path / "empty")
    with pytest.raises(ValueError, match="of a network of 6 agents, not of 5"):
        checkpoint.read(written, InProcess(5))
    assert checkpoint.notes_of(written) == (6, {"who": "test"})


def test_a_newer_format_asks_for_an_update(written):
    header, arrays = archive.read_archive(newest(written), checkpoint.FORMAT, checkpoint.VERSION)
    archive.write_archive(newest(written), {**header, "version": checkpoint.VERSION + 1}, arrays)
    with pytest.raises(ValueError, match="update dnnext"):
        checkpoint.read(written, InProcess(6))


def test_other_data_or_another_model_is_refused(written):
    saved = checkpoint.read(written, InProcess(6))
    with pytest.raises(ValueError, match="the rows of agent 0 are not those"):
        NEXT().run(make_problem(seed=1), Network(RING), max_iter=30, resume=saved)
    with pytest.raises(ValueError, match=r"holds weights \(6, 21\) float64, but the problem has \(6, 26\)"):
        NEXT().run(make_problem(layers=(3, 5, 1)), Network(RING), max_iter=30, resume=saved)


class FullDisk:
    """A file that takes some bytes and then says what a full disk says."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_full_disk_ends_the_run_on_every_rank_and_loses_nothing(tmp_path, monkeypatch, lockstep, n_ranks):
    def run(runtime):
        callbacks = [Checkpoint(tmp_path, every=5), lambda s, m: s.t == 12 and fill()]
        NEXT().run(make_problem(runtime), Network(RING, runtime=runtime), max_iter=30, callbacks=callbacks)

    def fill():
        real = os.fdopen
        monkeypatch.setattr(checkpoint.os, "fdopen", lambda handle, mode: FullDisk(real(handle, mode), 3000))
        return False

    def failing(runtime):
        with pytest.raises(
            OSError, match=r"checkpoint 3 could not be written to .*No space left.*checkpoint 2 is still"
        ):
            run(runtime)
        return True

    if n_ranks == 1:
        assert failing(InProcess(6))
    else:
        assert lockstep(6, n_ranks, failing) == [True] * n_ranks
    monkeypatch.undo()
    assert checkpoint.read(tmp_path, InProcess(6)).numbers["t"] == 10
    assert not list(tmp_path.glob("*.part"))


def test_a_directory_that_points_before_the_file_is_damage(tmp_path):
    path = tmp_path / "a.npz"
    archive.write_archive(path, {"format": "mine", "version": 1}, {"a": np.arange(3.0)})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")  # the end of the directory: where it starts, at 16:20
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    data[end + 16 : end + 20] = (start + 7).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a complete mine file"):
        archive.read_archive(path, "mine", 1)


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        archive.read_archive(tmp_path / "none.npz", "mine", 1)
    with pytest.raises(FileNotFoundError, match=r"none.run\.npz'$"):  # not the file that is written beside it
        archive.write_archive(tmp_path / "none" / "run.npz", {}, {})


def test_two_runs_in_one_folder_are_never_mixed(tmp_path, lockstep):
    """The second run was cut before all its agents were written: notes and state are those of the first."""
    network = Network(RING)
    first = [Checkpoint(tmp_path, every=4)]
    NEXT().run(make_problem(), network, max_iter=12, callbacks=first, notes={"who": "first"})

    def cut(runtime):
        watch = [Checkpoint(tmp_path, every=4), killed_at(5)]
        mine = make_problem(runtime), Network(RING, runtime=runtime)
        with pytest.raises(Stop):
            NEXT(tau=5.0).run(*mine, max_iter=12, callbacks=watch, notes={"who": "second"})

    lockstep(6, 2, cut)
    numbers = sorted(checkpoint.NAME.fullmatch(path.name)[1] for path in tmp_path.glob("*.npz"))
    for path in tmp_path.glob(f"{numbers[-1]}-agents-00003-*.npz"):
        path.unlink()
    assert checkpoint.notes_of(tmp_path) == (6, {"who": "first"})
    run = checkpoint.run_of(tmp_path)
    saved = checkpoint.read(tmp_path, InProcess(6), run)
    again = NEXT().run(make_problem(), network, max_iter=20, resume=saved, warn=False)
    assert_same(again, NEXT().run(make_problem(), network, max_iter=20, warn=False))
    with pytest.raises(ValueError, match="no checkpoint of the newest run"):
        checkpoint.read(tmp_path, InProcess(6), "another")


def test_files_of_two_runs_with_one_number_are_passed_over(written):
    saved = checkpoint.read(written, InProcess(6))
    file = newest(written)
    number = int(checkpoint.NAME.fullmatch(file.name)[1])
    header, arrays = archive.read_archive(file, checkpoint.FORMAT, checkpoint.VERSION)
    for run, (start, stop) in (("one", (0, 3)), ("two", (3, 6))):
        part = {k: v[start:stop] if k.startswith("agents.") else v for k, v in arrays.items()}
        name = f"{number + 1:06d}-agents-{start:05d}-{stop - 1:05d}.npz"
        archive.write_archive(written / name, {**header, "run": run, "agents": [start, stop]}, part)
    again = checkpoint.read(written, InProcess(6))
    assert again.numbers == saved.numbers
    assert checkpoint.run_of(written) == header["run"]


def test_a_checkpoint_of_the_first_format_is_read(tmp_path):
    problem, algorithm = make_problem(), NEXT(FullLinearization(), tau=0.05)
    whole = algorithm.run(problem, Network(RING), max_iter=60, warn=False)
    algorithm.run(problem, Network(RING), max_iter=45, callbacks=[Checkpoint(tmp_path, every=45)], warn=False)
    header, arrays = archive.read_archive(newest(tmp_path), checkpoint.FORMAT, checkpoint.VERSION)
    old = {new: name for name, new in checkpoint.RENAMED.items()}
    old_numbers = {new: name for name, new in checkpoint.RENAMED_NUMBERS.items()}
    numbers = {old_numbers.get(name, name): value for name, value in header["numbers"].items()}
    numbers = {k: v for k, v in numbers.items() if k != "ended_by"} | {"has_retreated": False}
    header = {**header, "version": 1, "numbers": numbers}
    del header["run"]
    archive.write_archive(newest(tmp_path), header, {old.get(name, name): a for name, a in arrays.items()})
    saved = checkpoint.read(tmp_path, InProcess(6))
    assert checkpoint.run_of(tmp_path) is None
    assert_same(algorithm.run(problem, Network(RING), max_iter=60, resume=saved, warn=False), whole)


def test_a_snapshot_that_lacks_something_is_damaged(written):
    problem = make_problem()
    for name in ("w", "tau", "alarm.size", "alarm.0.tau"):
        saved = checkpoint.read(written, problem.runtime)
        del saved.agents[name]
        with pytest.raises(ValueError, match="checkpoint is damaged"):
            NEXT().run(problem, Network(RING), max_iter=40, resume=saved)
