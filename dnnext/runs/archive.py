"""One file of arrays beside a JSON header: what checkpoints and model files are made of. Nothing in it is executed."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dnnext._checks import check_path

__all__ = ["read_archive", "read_header", "write_archive"]

Array = np.ndarray[Any, np.dtype[Any]]

RATIO = 20  # no member of an archive is larger than so many times the file
SMALL = 2**22  # bytes that may be read whatever the size of the file
CHARACTERS = 16  # of a header per list or dict in it, at least


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
    if os.path.isdir(check_path("path", path)):
        raise ValueError(f"path must be a file to write to, got the folder {os.fspath(path)!r}.")
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    beside = Path(path).absolute().parent / f"{os.getpid()}-{secrets.token_hex(8)}.part"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(beside, flags, 0o666)  # less the umask
    except OSError as error:  # names the file that was asked for
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
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
    name = check_path("path", path)
    file = _opened(name, format_)
    try:
        with file, zipfile.ZipFile(file) as archive:
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            header = _header(archive, os.fstat(file.fileno()).st_size, format_)
            if header.get("version", 0) <= version:
                return header, {member: _array(archive, member) for member in members if member != "header"}
    except Exception as error:  # what a damaged file can make its readers raise has no end
        raise ValueError(f"{name!r} is not a complete {format_} file: {error}.") from error
    raise ValueError(
        f"{name!r} has {format_} format {header['version']}, this dnnext reads up to {version}: update dnnext."
    )


def read_header(path: str | os.PathLike[str], format_: str) -> dict[str, Any]:
    """The header alone; as `read_archive`, but arrays may be damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_archive(folder + "/a.npz", {"format": "mine", "version": 1}, {"x": np.arange(3)})
    ...     read_header(folder + "/a.npz", "mine")
    {'format': 'mine', 'version': 1}
    """
    file = _opened(path, format_)
    try:
        with file, zipfile.ZipFile(file) as archive:
            return _header(archive, os.fstat(file.fileno()).st_size, format_)
    except Exception as error:  # what a damaged file can make its readers raise has no end
        raise ValueError(f"{os.fspath(path)!r} is not a complete {format_} file: {error}.") from error


def _opened(path: str | os.PathLike[str], format_: str) -> BinaryIO:
    """The file; an OSError from here is the caller's, one from reading is a damaged file."""
    if os.path.isdir(path):
        raise ValueError(f"path must be a {format_} file, got the folder {os.fspath(path)!r}.")
    return open(path, "rb")


def _header(archive: zipfile.ZipFile, size: int, format_: str) -> dict[str, Any]:
    """The header of an archive of so many bytes."""
    _check_size(archive, size)
    if "header.npy" not in archive.namelist():
        raise ValueError("it has no header")
    text = _array(archive, "header").tobytes()
    if text.count(b"[") + text.count(b"{") > 1000 + len(text) / CHARACTERS:
        raise ValueError("its header is no header")
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != format_:
        raise ValueError("its header is of another format")
    return header


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
