"""What stands under every figure: software versions, processor path and where tables, figures and runs are kept."""

import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
CACHE = RESULTS / "cache"
DISTURBED = 0.25  # cores that others may use while the clock runs


class NotRun(RuntimeError):
    """A run that was not kept, and that may not be started now."""


class Keeping:
    """What `kept` may start: nothing (`only`), nothing after `until` (time.monotonic), no measurement of `clocks`."""

    only = False
    until = float("inf")
    clocks = True


class Others:
    """How many cores other processes used meanwhile, `with Others() as others: ...; others.cores` (Linux, else nan)."""

    def __enter__(self) -> "Others":
        self.begin, self.cores = self._now(), float("nan")
        return self

    def __exit__(self, *error: object) -> None:
        now = self._now()
        if now and self.begin:
            wall, busy, own = (b - a for a, b in zip(self.begin, now, strict=True))
            self.cores = max(0.0, (busy - own) / wall)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """(seconds, CPU seconds of the machine, CPU seconds of this process and its ended children)."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        ticks = [int(v) for v in path.read_text().splitlines()[0].split()[1:8]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), busy, sum(u.ru_utime + u.ru_stime for u in both)


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment for a child, without a pinned, older BLAS path (it would flatter our ratios)."""
    return {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | more


def start_again_unpinned() -> None:
    """First call of a `main` that measures: begin anew where a BLAS path is pinned, since BLAS reads that at import."""
    if "OPENBLAS_CORETYPE" in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], child_environment())


def software(*packages: str) -> str:
    """Versions of dnnext, of what it stands on and of the named packages; BLAS, processor path and cores."""
    from threadpoolctl import threadpool_info

    import dnnext
    from dnnext import kernels

    words = [f"dnnext {dnnext.__version__}", f"Python {platform.python_version()}"]
    for name in ("numpy", "scipy", "scikit-learn", *packages):
        try:
            words.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            words.append(f"{name} missing")
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            words.append(f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip())
            break
    info = getattr(kernels, "info", dict)()
    words.append(f"kernels {info.get('cpu_path', 'NumPy twins')}, {info.get('compiler', '')}".rstrip(", "))
    words.append(f"{platform.machine()}, {os.cpu_count()} cores")
    return "; ".join(words)


def kept(
    experiment: str, settings: dict[str, Any], run: Callable[[], dict[str, Any]], fresh: bool = False,
    clock: bool = False,
) -> Any:  # fmt: skip
    """The result of a run: from its file if it was done before, else run it and keep it; so a study can be resumed.

    clock: the run measures seconds, is left out where the machine is said to be busy, and is done once more if others
    used more than a quarter of a core (its result's "others"); the less disturbed one is kept. A sentence (str) in
    place of a result, a peer that is missing, is not kept.
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    path = CACHE / experiment / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    forbidden = Keeping.only or time.monotonic() > Keeping.until or (clock and not Keeping.clocks)
    before = json.loads(path.read_text())["result"] if path.exists() and not fresh else None
    if before is not None and (forbidden or not clock or not before.get("others", 0) > DISTURBED):
        return before
    if forbidden:
        raise NotRun(text)
    result = run()
    if isinstance(result, str):
        return result
    if before is not None and result["others"] >= before["others"]:
        return before
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"settings": settings, "result": result}, default=_plain))
    partial.replace(path)
    return json.loads(path.read_text())["result"]


def _plain(value: Any) -> Any:
    """Arrays and NumPy numbers as JSON knows them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def history(result: Any, most: int = 400) -> dict[str, list[float]]:
    """The history of a Result, thinned to `most` rows that keep both ends, as lists."""
    n = len(result.history["iteration"])
    rows = np.unique(np.round(np.linspace(0, n - 1, min(n, most))).astype(int))
    return {name: column[rows].tolist() for name, column in result.history.items()}


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, columns aligned so that the source reads as well."""
    cells = [[str(c) for c in header], *[[_text(c) for c in row] for row in rows]]
    width = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, width, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
    return "\n".join(lines)


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def write_table(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], notes: str) -> None:
    """Print the table; save it as CSV and as Markdown with its title and notes in bench/results."""
    import csv

    RESULTS.mkdir(exist_ok=True)
    table = markdown(header, rows)
    print(f"\n{title}\n\n{table}\n\n{notes}\n", flush=True)
    (RESULTS / f"{name}.md").write_text(f"# {title}\n\n{table}\n\n{notes}\n")
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([["" if c is None else c for c in row] for row in rows])


def save_figure(figure: Any, name: str, facts: str) -> None:
    """Save a figure as PNG with its facts (data, agents, graph, seeds, versions) in small print below."""
    import textwrap

    width = int(figure.get_figwidth() * 20)
    text = "\n".join(textwrap.wrap(f"{facts}. {software()}", width))
    figure.text(0.01, -0.01, text, fontsize=6.5, va="top", ha="left", color="0.35")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"{name}.png", dpi=130, bbox_inches="tight")
