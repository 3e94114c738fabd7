"""Checkpoints: a run written down while it goes on, so that another can continue it with the same numbers.

Design
------
* A checkpoint is a folder. Each rank writes its own agents into one file, ``000007-agents-00000-00002.npz``: beside its
  place first, then moved, so that no half file ever bears the name. The number in front counts checkpoints.
* A checkpoint is whole when all agents have their file; only then is the one before the previous removed. There are
  always two, and a crash in the middle of writing leaves the previous one.
* A file holds arrays (npz, no pickle) and a JSON header: what every agent needs, and what all agents share. Any number
  of ranks can read what any other number wrote.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import secrets
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.runs.state import Snapshot

if TYPE_CHECKING:
    from dnnext.runtime import Runtime

__all__ = ["notes_of", "read", "read_archive", "write", "write_archive"]

Array = np.ndarray[Any, np.dtype[Any]]

# What a damaged file can make its readers raise.
FAILURES = (
    ValueError, KeyError, TypeError, IndexError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
RATIO = 20  # no member of an archive is larger than so many times the file
SMALL = 2**22  # bytes that may be read whatever the size of the file
CHARACTERS = 16  # of a header per list or dict in it, at least
FORMAT, VERSION = "dnnext checkpoint", 1
NAME = re.compile(r"(\d{6,})-agents-(\d{5,})-(\d{5,})\.npz")


def write(path: str | os.PathLike[str], snapshot: Snapshot, runtime: Runtime, notes: dict[str, Any]) -> None:
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
        Values JSON can hold, for whoever resumes.

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
    ...     again, told = read(folder, InProcess(2)), notes_of(folder)
    >>> again.numbers, told
    ({'t': 7}, (2, {'who': 'me'}))
    """
    folder, own = Path(path), runtime.agents
    with runtime.together():
        folder.mkdir(parents=True, exist_ok=True)
        seen = max([number for number, *_ in _files(folder)], default=0)
    number = 1 + int(runtime.max_agents(np.full(len(own), seen)))
    header = {
        "format": FORMAT, "version": VERSION, "n_agents": runtime.n_agents, "agents": [own.start, own.stop],
        "numbers": snapshot.numbers, "notes": notes,
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
    for old, first, _, name in _files(folder):
        if old < number - 1 and first in own:
            (folder / name).unlink(missing_ok=True)


def read(path: str | os.PathLike[str], runtime: Runtime) -> Snapshot:
    """The newest whole checkpoint in the folder `path`, for the agents held here. Collective.

    Parameters
    ----------
    path : str or path
        The folder that `write` (or the callback `Checkpoint`) filled.
    runtime : Runtime
        Where the agents live now: any number of ranks.

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
    own = runtime.agents
    with runtime.together():
        whole = _covering(Path(path), own.start, own.stop)
    common = set.intersection(*[set(json.loads(text)) for text in runtime.all_ranks(json.dumps(sorted(whole)))])
    if not common:
        raise ValueError(
            f"{os.fspath(path)!r} holds no checkpoint with all {runtime.n_agents} agents. Every rank must see the "
            "files of its agents: on several machines without a shared disk, start the same number of ranks on the "
            "same machines."
        )
    with runtime.together():
        parts = [_checked(file, runtime.n_agents) for file in whole[max(common)]]
        try:
            snapshot = _joined(parts, own)
        except FAILURES as error:
            raise ValueError(f"the files of checkpoint {max(common)} do not fit together: {error!r}.") from error
    return snapshot


def notes_of(path: str | os.PathLike[str]) -> tuple[int, dict[str, Any]]:
    """(number of agents, notes) of the newest checkpoint whose files this process can see.

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
    files = _files(Path(path))
    if not files:
        raise ValueError(f"{os.fspath(path)!r} is a folder without a dnnext checkpoint.")
    header, _ = read_archive(Path(path) / files[-1][3], FORMAT, VERSION)
    return int(header["n_agents"]), dict(header["notes"])


def write_archive(
    path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, Array], *, compressed: bool = False
) -> None:
    """One npz file with a JSON header: written beside its place, flushed to the disk, then moved there.

    Parameters
    ----------
    path : str or path
        The file.
    header : dict
        Values JSON can hold; ``format`` and ``version`` are what `read_archive` looks for.
    arrays : dict of name to array
        No arrays of objects.
    compressed : bool
        Smaller and slower.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_archive(folder + "/a.npz", {"format": "mine", "version": 1}, {"x": np.arange(3)})
    ...     read_archive(folder + "/a.npz", "mine", 1)
    ({'format': 'mine', 'version': 1}, {'x': array([0, 1, 2])})
    """
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    beside = Path(path).absolute().parent / f"{os.getpid()}-{secrets.token_hex(8)}.part"
    handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in {"header": text, **arrays}.items():
                _write_array(archive, name, np.asanyarray(array), compressed)
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def read_archive(path: str | os.PathLike[str], format_: str, version: int) -> tuple[dict[str, Any], dict[str, Array]]:
    """(header, arrays) of a file that `write_archive` wrote; nothing in it is ever executed.

    Parameters
    ----------
    path : str or path
        The file.
    format_ : str
        What the header must call itself.
    version : int
        The newest version that can be read.

    Raises
    ------
    ValueError
        If the file is of another format, damaged, or of a newer version.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_archive(folder + "/a.npz", {"format": "mine", "version": 2}, {})
    ...     read_archive(folder + "/a.npz", "mine", 1)
    Traceback (most recent call last):
    ValueError: ... has mine format 2, this dnnext reads up to 1: update dnnext.
    """
    name = os.fspath(path)
    file = open(path, "rb")  # noqa: SIM115 - an OSError from here is the caller's, one from below is a damaged file
    try:
        with file, zipfile.ZipFile(file) as archive:
            _check_size(archive, os.fstat(file.fileno()).st_size)
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            if "header" not in members:
                raise ValueError("it has no header")
            text = _array(archive, "header").tobytes()
            if text.count(b"[") + text.count(b"{") > 1000 + len(text) / CHARACTERS:
                raise ValueError("its header is no header")
            header = json.loads(text)
            if not isinstance(header, dict) or header.get("format") != format_:
                raise ValueError("its header is of another format")
            if header.get("version", 0) <= version:
                return header, {member: _array(archive, member) for member in members if member != "header"}
    except Exception as error:  # what a damaged file can make its readers raise has no end
        raise ValueError(f"{name!r} is not a complete {format_} file: {error}.") from error
    raise ValueError(
        f"{name!r} has {format_} format {header['version']}, this dnnext reads up to {version}: update dnnext."
    )


def _write_array(archive: zipfile.ZipFile, name: str, array: Array, compressed: bool) -> None:
    """One member; what would shrink to less than a share of `RATIO` is stored as it is, as `_check_size` wants it."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    data = buffer.getbuffer()
    shrinks = compressed and len(zlib.compress(data[: 2**20], 1)) * RATIO > min(len(data), 2**20)
    archive.writestr(f"{name}.npy", data, zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED)


def _check_size(archive: zipfile.ZipFile, n_bytes: int) -> None:
    """ValueError if the members say that they are far larger than the file: reading would take memory at will."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > SMALL + RATIO * n_bytes:
        raise ValueError("its members are many times larger than the file")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("a member stands in it twice")


def _array(archive: zipfile.ZipFile, member: str) -> Array:
    """One array, never more memory than the archive says the member has."""
    name = member + ".npy"
    if name not in archive.namelist():
        raise ValueError(f"it holds {member!r}, which is no array")
    with archive.open(name) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
            raise ValueError(f"{member!r} is shorter than its header says")
    with archive.open(name) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to the end, where the checksum is compared
    return array


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


def _checked(file: Path, n_agents: int) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        header, arrays = read_archive(file, FORMAT, VERSION)
        held = header["n_agents"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{error} Remove it to go on from the checkpoint before.") from error
    if held != n_agents:
        raise ValueError(f"{os.fspath(file)!r} is of a network of {held} agents, not of {n_agents}.")
    return header, arrays
