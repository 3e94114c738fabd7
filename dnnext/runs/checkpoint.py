"""Checkpoints: a run written down while it goes on, so that another can continue it with the same numbers.

Design
------
* A checkpoint is a folder. Each rank writes its own agents into one file, ``000007-agents-00000-00002.npz``: beside its
  place first, then moved, so that no half file ever bears the name. The number in front counts checkpoints.
* A checkpoint is whole when all agents have their file; only then is the one before the previous removed. There are
  always two, and a crash in the middle of writing leaves the previous one.
* A file holds arrays (npz, no pickle) and a JSON header: what every agent needs, and what all agents share. Any number
  of ranks can read what any other number wrote.
* Where an agent is a group of ranks, each place in the group has a folder of its own, ``place-000``; groups of as many
  ranks read them again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext._checks import check_path
from dnnext.runs.archive import read_archive, read_header, write_archive
from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from dnnext.runtime import Runtime

__all__ = ["notes_of", "read", "run_id", "run_of", "write"]

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT, VERSION = "dnnext checkpoint", 2
DAMAGED = "damaged"  # stands for the run of a file whose header cannot be read
# Names of the first format, and those of now.
RENAMED = {"agents.heard": "agents.received"}
RENAMED_NUMBERS = {"alarm.heard": "alarm.raised", "alarm.said": "alarm.outcome", "has_retreated": "retreats"}
NAME = re.compile(r"(\d{6,})-agents-(\d{5,})-(\d{5,})\.npz")


def run_id(runtime: Runtime) -> str:
    """A new name of a run, equal on every rank. Collective."""
    return runtime.all_ranks(secrets.token_hex(8))[0]


def write(
    path: str | os.PathLike[str], snapshot: Snapshot, runtime: Runtime, notes: dict[str, Any], run: str = ""
) -> None:
    """Add a checkpoint to the folder `path`, and remove all but this and the one before. Collective.

    Parameters
    ----------
    path : str or path
        A folder; it is made if it is missing.
    snapshot : Snapshot
        Where the run stands on this rank.
    runtime : Runtime
        Whose agents they are.
    notes : dict
        Values JSON can hold, kept for `resume`.
    run : str
        Which run it is, see `run_id`: checkpoints of different runs are never mixed.

    Raises
    ------
    OSError
        On every rank, if one of them cannot write; earlier checkpoints are left alone.

    Examples
    --------
    >>> from dnnext.runtime import InProcess
    >>> snapshot = Snapshot({"w": np.ones((2, 3))}, {}, {"t": 7})
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, snapshot, InProcess(2), {"who": "me"})
    ...     again, notes = read(folder, InProcess(2)), notes_of(folder)
    >>> again.numbers["t"], notes
    (7, (2, {'who': 'me'}))
    """
    folder, own = _own_folder(path, runtime), runtime.agents
    with runtime.together():
        folder.mkdir(parents=True, exist_ok=True)
        seen = max([number for number, *_ in _files(folder)], default=0)
    number = 1 + int(runtime.max_agents(np.full(len(own), seen)))
    header = {
        "format": FORMAT, "version": VERSION, "n_agents": runtime.n_agents, "agents": [own.start, own.stop],
        "numbers": snapshot.numbers, "notes": notes, "run": run, "inner": runtime.inner.size,
    }  # fmt: skip
    arrays = {f"agents.{name}": array for name, array in snapshot.agents.items()}
    arrays |= {f"shared.{name}": array for name, array in snapshot.shared.items()}
    file = folder / f"{number:06d}-agents-{own.start:05d}-{own.stop - 1:05d}.npz"
    with runtime.together():
        try:
            write_archive(file, header, arrays)
        except OSError as error:
            kept = f"; checkpoint {seen} is still there" if seen else ""
            sentence = f"checkpoint {number} could not be written to {folder}: {error.strerror or error}{kept}"
            raise OSError(error.errno, sentence) from error
    for old, _, _, name in _files(folder):
        if old < number - 1:  # whole or not, and whatever agents it holds: every rank has written a newer one
            (folder / name).unlink(missing_ok=True)


def read(path: str | os.PathLike[str], runtime: Runtime, run: str | None = None) -> Snapshot:
    """The newest whole checkpoint in the folder `path`, for the agents held here. Collective.

    Parameters
    ----------
    path : str or path
        The folder that `write` (or the callback `Checkpoint`) filled.
    runtime : Runtime
        Where the agents live now: any number of ranks.
    run : str or None
        Only checkpoints of this run; None takes the newest whole one of any run.

    Raises
    ------
    ValueError
        On every rank, if there is no whole checkpoint, a file is damaged or foreign, or it is of another network.

    Examples
    --------
    >>> from dnnext.runtime import InProcess
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read(folder, InProcess(2))
    Traceback (most recent call last):
    ValueError: ... holds no checkpoint with all 2 agents. ...
    """
    own, folder = runtime.agents, _own_folder(path, runtime)
    with runtime.together():
        whole = _covering(folder, own.start, own.stop)
        runs = {str(number): _run_of(files) for number, files in whole.items()}
    common = _common([json.loads(text) for text in runtime.everyone(json.dumps(runs))], run)
    if not common:
        what = "checkpoint" if run is None else "checkpoint of the newest run"
        raise ValueError(
            f"{os.fspath(path)!r} holds no {what} with all {runtime.n_agents} agents. Every rank must see the "
            "files of its agents: on several machines without a shared disk, start the same number of ranks on the "
            "same machines."
        )
    with runtime.together():
        parts = [_checked(file, runtime) for file in whole[max(common)]]
        try:
            snapshot = _joined(parts, own)
        except Exception as error:
            raise ValueError(f"the files of checkpoint {max(common)} do not fit together: {error!r}.") from error
    return snapshot


def notes_of(path: str | os.PathLike[str]) -> tuple[int, dict[str, Any]]:
    """(number of agents, notes) of the newest checkpoint whose files this process can see, a whole one if any is.

    Parameters
    ----------
    path : str or path
        The folder that `write` (or the callback `Checkpoint`) filled.

    Raises
    ------
    ValueError
        If there is none, or its file is damaged or foreign.

    Examples
    --------
    >>> from dnnext.runtime import InProcess
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, Snapshot({"w": np.ones((2, 3))}, {}, {}), InProcess(2), {"who": "me"})
    ...     notes_of(folder)
    (2, {'who': 'me'})
    """
    folder = _first_folder(check_path("path", path, "a folder of checkpoints", "it comes first, before X and y"))
    files = _files(folder)
    if not files:
        raise ValueError(f"{os.fspath(path)!r} is a folder without a dnnext checkpoint.")
    name = _newest(folder, files)
    header = read_header(folder / name, FORMAT)
    try:
        return int(header["n_agents"]), dict(header["notes"])
    except Exception as error:
        raise ValueError(f"{os.fspath(folder / name)!r} is not a complete {FORMAT} file: {error!r}.") from error


def run_of(path: str | os.PathLike[str]) -> str | None:
    """The run that `notes_of` speaks of, for `read`; None for checkpoints of the first format."""
    folder = _first_folder(path)
    files = _files(folder)
    header = read_header(folder / _newest(folder, files), FORMAT) if files else {}
    return str(header.get("run") or "") or None


def _own_folder(path: str | os.PathLike[str], runtime: Runtime) -> Path:
    """Where this rank writes."""
    inner = runtime.inner
    return Path(path) if inner.size == 1 else Path(path) / f"place-{inner.rank:03d}"


def _first_folder(path: str | os.PathLike[str]) -> Path:
    """Where the first rank of every agent wrote."""
    first = Path(path) / "place-000"
    return first if first.is_dir() and not _files(Path(path)) else Path(path)


def _files(folder: Path) -> list[tuple[int, int, int, str]]:
    """(number, first agent, last agent, name) of every checkpoint file, oldest first."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{os.fspath(folder)!r} is a file; a checkpoint is a folder.")
    if not folder.exists():
        return []
    matches = [NAME.fullmatch(name) for name in os.listdir(folder)]
    return sorted([(int(m[1]), int(m[2]), int(m[3]), m[0]) for m in matches if m])


def _covering(folder: Path, start: int, stop: int) -> dict[int, list[Path]]:
    """For every checkpoint that has all agents start : stop, the files that hold them, in agent order."""
    if not folder.exists():
        raise ValueError(f"there is no checkpoint at {os.fspath(folder)!r}.")
    covering: dict[int, list[Path]] = {}
    reached: dict[int, int] = {}
    for number, first, last, name in _files(folder):
        if last >= start and first < stop and first <= reached.get(number, start):
            covering.setdefault(number, []).append(folder / name)
            reached[number] = last + 1
    return {number: files for number, files in covering.items() if reached[number] >= stop}


def _run_of(files: list[Path]) -> str | None:
    """The run that all these files are of, "" for files of the first format; None if they are of several."""
    runs = set()
    for file in files:
        try:
            runs.add(str(read_header(file, FORMAT).get("run", "")))
        except ValueError:
            runs.add(DAMAGED)  # named when it is read
    known = runs - {DAMAGED}
    return None if len(known) > 1 else min(known, default=DAMAGED)


def _common(ranks: list[dict[str, str | None]], run: str | None) -> set[int]:
    """Numbers of the checkpoints that every rank has, of one run, the wanted one."""
    common = set[int]()
    for number in set.intersection(*[set(each) for each in ranks]):
        runs = {each[number] for each in ranks} - {DAMAGED}
        if None not in runs and len(runs) <= 1 and (run is None or runs <= {run}):
            common.add(int(number))
    return common


def _newest(folder: Path, files: list[tuple[int, int, int, str]]) -> str:
    """A file of the newest checkpoint with all its agents, or else the newest file."""
    for number in sorted({number for number, *_ in files}, reverse=True):
        own = [name for n, _, _, name in files if n == number]
        try:
            header = read_header(folder / own[0], FORMAT)
            whole = _covering(folder, 0, int(header["n_agents"]))
        except (ValueError, KeyError, TypeError):
            continue
        if number in whole and _run_of(whole[number]) is not None:
            return own[0]
    return files[-1][3]


def _joined(parts: list[tuple[dict[str, Any], dict[str, Array]]], own: range) -> Snapshot:
    """The entries of the agents held here, from files in agent order."""
    header, first = parts[0]
    skip, agents = own.start - int(header["agents"][0]), {}
    for name in [name for name in first if name.startswith("agents.")]:
        joined = np.concatenate([arrays[name] for _, arrays in parts])[skip : skip + len(own)]
        if len(joined) != len(own):
            raise ValueError(f"{name} has {len(joined)} rows for {len(own)} agents")
        agents[name.removeprefix("agents.")] = joined
    shared = {name.removeprefix("shared."): array for name, array in first.items() if name.startswith("shared.")}
    return Snapshot(agents, shared, dict(header["numbers"]))


def _checked(file: Path, runtime: Runtime) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        header, arrays = read_archive(file, FORMAT, VERSION)
        held = header["n_agents"]
        if header["version"] == 1:
            arrays = {RENAMED.get(name, name): array for name, array in arrays.items()}
            numbers = {RENAMED_NUMBERS.get(name, name): value for name, value in header["numbers"].items()}
            header["numbers"] = {"retreats": 0, "ended_by": []} | numbers
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error} Remove it to go on from the checkpoint before.") from error
    if held != runtime.n_agents:
        raise ValueError(f"{os.fspath(file)!r} is of a network of {held} agents, not of {runtime.n_agents}.")
    inner = int(header.get("inner", 1))
    if inner != runtime.inner.size:
        raise ValueError(
            f"{os.fspath(file)!r} is of agents of {inner} ranks each, not of {runtime.inner.size}; go on with the same "
            "grid."
        )
    return header, arrays
