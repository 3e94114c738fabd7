"""What a site's administrator allows, in the file dnnext.toml of the site's folder."""

import json
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from dnnext import _checks
from dnnext._checks import short

__all__ = ["AUDIT", "PERMISSION", "Permission", "read_permission", "write_permission"]

PERMISSION, AUDIT = "dnnext.toml", "audit.jsonl"


@dataclass(frozen=True)
class Permission:
    """What jobs may use and do at a site.

    Parameters
    ----------
    data, target : str
        The file of rows, and the column to predict.
    min_rows : int
        The site takes part with no fewer rows.
    allow : tuple of str
        Class names of estimators.
    max_weights : int
        Parameters of the largest model.
    max_iter : int
        Most iterations of a job.

    Raises
    ------
    ValueError
        If a value is unfit.

    Examples
    --------
    >>> Permission("rows.csv", "y").max_iter
    1000
    """

    data: str
    target: str
    min_rows: int = 50
    allow: tuple[str, ...] = ("DecentralizedMLPClassifier", "DecentralizedMLPRegressor")
    max_weights: int = 200_000
    max_iter: int = 1000

    def __post_init__(self) -> None:
        for name in ("data", "target"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be a text, got {short(getattr(self, name))}.")
        for name in ("min_rows", "max_weights", "max_iter"):
            _checks.check_count(name, getattr(self, name))
        if not isinstance(self.allow, tuple) or not all(isinstance(name, str) for name in self.allow):
            raise ValueError(f"allow must be a list of class names, got {short(self.allow)}.")

    @property
    def max_numbers(self) -> int:
        """Numbers of the largest message to a neighbour for one agent, in any precision: weights, tracker and a few."""
        return 2 * self.max_weights + 64


def read_permission(folder: str | os.PathLike[str]) -> Permission | None:
    """The site's permission, or None if it has none.

    Raises
    ------
    ValueError
        If the file is unfit.
    """
    path = Path(folder) / PERMISSION
    if not path.exists():
        return None
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{PERMISSION} must be a TOML file, got {str(path)!r}: {error}.") from None
    known = {field.name for field in fields(Permission)}
    wrong = set(found) - known
    if wrong or not {"data", "target"} <= set(found):
        raise ValueError(f"{PERMISSION} must have data, target and only {sorted(known)}, got {short(sorted(found))}.")
    if isinstance(found.get("allow"), list):
        found["allow"] = tuple(found["allow"])
    return Permission(**found)


def write_permission(folder: str | os.PathLike[str], permission: Permission) -> Path:
    """Write the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_permission(folder, Permission("rows.csv", "y", max_iter=7))
    ...     read_permission(folder).max_iter
    7
    """
    path = Path(folder) / PERMISSION
    values = {field.name: getattr(permission, field.name) for field in fields(permission)}
    lines = [f"{name} = {json.dumps(list(v) if isinstance(v, tuple) else v)}" for name, v in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
