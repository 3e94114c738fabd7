"""From the bytes of a file to its text: compression and encoding are known by the first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib

UNPACK = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
    b"\x5d\x00\x00": lzma.decompress,
}
MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
STRANGE = {
    b"\xd0\xcf\x11\xe0": "a workbook of a spreadsheet program; save the sheet as CSV (UTF-8)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, which is not read; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"\x89HDF": "an HDF5 file; save the table as CSV or Parquet",
    b"ARROW1": "an Arrow file; save the table as CSV or Parquet",
    b"SQLite": "a database; save the table as CSV or Parquet",
    b"\x93NUMPY": "an array of NumPy; save it as CSV with names of columns",
    b"\x80\x04\x95": "a pickle, which is not read; save the table as CSV or Parquet",
}
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)
MOST_LAYERS = 3


def unpacked(shown, data):
    """The bytes without gzip, bzip2, xz, lzma or zip.

    Raises
    ------
    ValueError
        If they are damaged, an archive of several files, or known to be no text.
    """
    for _ in range(MOST_LAYERS):
        unpack = next((each for start, each in UNPACK.items() if data.startswith(start)), None)
        if data.startswith(b"PK\x03\x04"):
            data = _from_zip(shown, data)
            continue
        if unpack is None:
            break
        try:
            data = unpack(data)
        except DAMAGE as error:
            raise _damaged(shown, error) from None
    for start, what in STRANGE.items():
        if data.startswith(start):
            raise ValueError(f"{shown}: {what}.")
    if data[257:262] == b"ustar":
        raise ValueError(f"{shown}: a tar archive; unpack it first.")
    return data


def _from_zip(shown, data):
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            held = archive.read(files[0]) if len(files) == 1 else b""
    except DAMAGE as error:
        raise _damaged(shown, error) from None
    if "[Content_Types].xml" in files or "mimetype" in files:
        raise ValueError(f"{shown}: a workbook of a spreadsheet program; save the sheet as CSV (UTF-8).")
    if len(files) != 1:
        raise ValueError(f"{shown}: a zip archive of {len(files)} files; it must hold one CSV.")
    return held


def _damaged(shown, error):
    return ValueError(f"{shown}: a compressed file that is damaged or not whole ({error}).")


def text_of(shown, data, encoding):
    """The text of bytes; encoding None is UTF-8, a byte order mark goes before either.

    Raises
    ------
    ValueError
        If there is no such encoding, or the bytes are no text in it.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), encoding)
    try:
        text = data.decode(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"--encoding must be the name of one, such as utf-8 or latin-1, got {encoding!r}.") from None
    except UnicodeDecodeError:
        raise ValueError(
            f"{shown}: not a text file in {encoding or 'UTF-8'}; save it as CSV (UTF-8), or name what it is, such as "
            "--encoding cp1252 (Windows) or latin-1."
        ) from None
    text = text.removesuffix("\x1a")  # how DOS ended a file
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{shown}: line {line} holds a NUL byte: a damaged file, or no text in {encoding or 'UTF-8'}; name what it "
            "is, such as --encoding utf-16-le."
        )
    return text
