"""What left a site: one JSON line per message, each with the hash of the line before it."""

import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dnnext._checks import short

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["Audit", "summary"]

WHAT = {
    "exchange": "weights and trackers to neighbours",
    "allgather": "numbers to all sites",
    "allreduce": "numbers to all sites",
    "reduce_scatter": "numbers to all sites",
    "broadcast": "numbers to all sites",
    "texts": "settings to all sites",
    "send": "numbers to one site",
    "end": "why the run ended",
    "model": "the trained model to the hub",
}


class Audit:
    """A file to which every message that leaves adds one line.

    Parameters
    ----------
    path : path
        The file; lines are added at its end.
    most : int, optional
        Numbers of the largest message to neighbours.

    Raises
    ------
    ValueError
        From `message`, if a message to neighbours is larger.
    OSError
        If it cannot be written, from every method: what cannot be recorded does not leave.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     audit = Audit(f"{folder}/audit.jsonl")
    ...     audit.note(job="trial-1")
    ...     audit.message(to="site-b", operation=1, what="exchange", data=b"rows")
    ...     print(summary(f"{folder}/audit.jsonl"))
    2 lines, 1 message, 4 bytes; the lines are whole.
    to site-b: 1 message, 4 bytes
    weights and trackers to neighbours: 1 message, 4 bytes
    ...
    """

    def __init__(self, path: str | os.PathLike[str], most: int | None = None) -> None:
        self.path, self.most = Path(path), most
        self._before, self._size = "", 0  # of the file as this process knows it

    def note(self, **fields: Any) -> None:
        """Add a line with these fields."""
        with self.path.open("a+", encoding="utf-8") as file:
            if fcntl is not None:  # another process may write, too; closing ends the lock
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_size != self._size:
                file.seek(0)
                lines = file.read().splitlines()
                self._before = _hash(lines[-1]) if lines else ""
            line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "before": self._before, **fields})
            file.write(line + "\n")
            file.flush()
            self._before, self._size = _hash(line), os.fstat(file.fileno()).st_size

    def message(self, *, to: str, operation: int, what: str, data: bytes, numbers: int = 0) -> None:
        """Add the line of one message of so many numbers."""
        if what == "exchange" and self.most is not None and numbers > self.most:
            raise ValueError(
                f"a message to {to} must have at most {self.most} numbers, as max_weights of dnnext.toml allows, got "
                f"{numbers}."
            )
        sha = hashlib.sha256(data).hexdigest()
        self.note(to=to, operation=operation, what=WHAT.get(what, what), bytes=len(data), sha256=sha)


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:32]


def summary(path: str | os.PathLike[str]) -> str:
    """What an audit file holds, in words: messages and bytes by receiver, kind and day.

    Raises
    ------
    ValueError
        If a line is no JSON, or a line before it was changed or is missing.
    """
    before, messages, size = "", 0, 0
    counts: dict[str, Counter[str]] = {"to": Counter(), "what": Counter(), "day": Counter()}
    sizes: dict[str, Counter[str]] = {"to": Counter(), "what": Counter(), "day": Counter()}
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            follows = entry["before"] == before
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"line {number} of {os.fspath(path)!r} must be a line of an audit, got {short(line)}."
            ) from None
        if not follows:
            raise ValueError(
                f"line {number} of {os.fspath(path)!r} must follow the line before it, which was changed, or lines are "
                "missing."
            )
        before = _hash(line)
        if "sha256" in entry:
            messages, size = messages + 1, size + entry["bytes"]
            for name, key in (("to", f"to {entry['to']}"), ("what", entry["what"]), ("day", entry["at"][:10])):
                counts[name][key] += 1
                sizes[name][key] += entry["bytes"]
    words = [f"{len(lines)} lines, {_messages(messages)}, {size} bytes; the lines are whole."]
    for name in ("to", "what", "day"):
        words += [f"{key}: {_messages(n)}, {sizes[name][key]} bytes" for key, n in sorted(counts[name].items())]
    return "\n".join(words)


def _messages(n: int) -> str:
    return f"{n} message{'s' * (n != 1)}"
