"""``python -m bench.study [a b c d e f] [--quick] [--fresh]``: figures, tables and whether the claims hold.

Finished runs are kept in bench/results/cache and not run again, so that an interrupted study goes on where it stopped;
``--fresh`` runs them anew, ``--kept`` shows what is finished so far and runs nothing. On a machine that others use,
``--untimed`` leaves out what measures seconds, and ``--for 60`` starts nothing new after 60 seconds: what is left can
be run in idle moments. ``--quick`` takes less data, fewer seeds and iterations, runs everything anew, and ends with
exit code 1 if a claim is missed.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import software
from dnnext.display.frame import STYLE, look

RESULTS = Path(__file__).parent / "results"
CACHE = RESULTS / "cache"
DISTURBED = 0.25  # cores that others may use while the clock runs
STUDIES = {
    "a": "convergence.methods", "b": "rivals.sparsity", "c": "convergence.blocks", "d": "convergence.networks",
    "e": "rivals.partitions", "f": "rivals.large",
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured, and whether it holds."""

    text: str
    measured: str
    holds: bool

    def __str__(self) -> str:
        return f"[{'ok' if self.holds else 'MISSED'}] {self.text}: {self.measured}"


class NotRun(RuntimeError):
    """A run that was not kept, and that may not be started now."""


class Keeping:
    """What `kept` may start: nothing (`only`), nothing after `until` (time.monotonic), no measurement of `clocks`."""

    only = False
    until = float("inf")
    clocks = True


def kept(
    experiment: str, settings: dict[str, Any], run: Callable[[], dict[str, Any]], fresh: bool = False,
    clock: bool = False,
) -> Any:  # fmt: skip
    """The result of a run: from its file if it was done before, else run it and keep it; so a study can be resumed.

    clock: the run measures seconds, is left out where the machine is marked as busy, and is done once more if others
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
    RESULTS.mkdir(exist_ok=True)
    table = markdown(header, rows)
    print(f"\n{title}\n\n{table}\n\n{notes}\n", flush=True)
    (RESULTS / f"{name}.md").write_text(f"# {title}\n\n{table}\n\n{notes}\n")
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([["" if c is None else c for c in row] for row in rows])


def save_figure(figure: Any, name: str, facts: str, versions: str | None = None) -> None:
    """Save a figure as PNG with its facts (data, agents, graph, seeds, versions) in small print below.

    versions: those of the runs, where they were made before; None is what is installed now.
    """
    import textwrap

    width = int(figure.get_figwidth() * 20)
    text = "\n".join(textwrap.wrap(f"{facts}. {software() if versions is None else versions}", width))
    figure.text(0.01, -0.01, text, fontsize=6.5, va="top", ha="left", color="0.35")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"{name}.png", dpi=130, bbox_inches="tight")


def finished(what: str, run: Callable[[], Any], missing: list[str]) -> Any:
    """What run() returns; None, and `what` added to missing, where only kept runs are wanted and one is not."""
    try:
        return run()
    except NotRun:
        missing.append(what)
        return None


def line_style(name: str, place: int) -> dict[str, Any]:
    """The style of `dnnext.display.frame.look`; PL, partial linearisation, is what dnnext does by default."""
    return look("dnnext" if name.startswith(("PL", "ours", "decentralised")) else name, place)


def not_finished(missing: Sequence[str]) -> str:
    """A sentence for the notes, empty if all was run."""
    return f" NOT RUN YET: {'; '.join(missing)}." if missing else ""


def mean_sd(values: Sequence[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})"


def plots(rows: int, columns: int, width: float = 4.2, height: float = 3.2, **options: Any) -> tuple[Any, Any]:
    """Figure and axes, drawn off screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def publish(
    name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], facts: str, fig: Any, quick: bool,
    notes: str = "",
) -> None:  # fmt: skip
    """Table and figure under one name; those of a quick run go to results/quick, which is not kept."""
    if quick:
        (RESULTS / "quick").mkdir(parents=True, exist_ok=True)
    name = f"quick/{name}" if quick else name
    write_table(name, title, header, rows, f"{notes}\n\n{facts}. {software()}".strip())
    if fig is not None:
        fig.suptitle(title)
        save_figure(fig, name, facts)


def keep_claims(letter: str, claims: Sequence[Claim]) -> None:
    """Put the claims of one study into the table of all, bench/results/claims."""
    path = RESULTS / "claims.csv"
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if row[0] != letter]
    rows += [[letter, claim.text, claim.measured, "yes" if claim.holds else "NO"] for claim in claims]
    rows.sort(key=lambda row: row[0])
    held = sum(row[3] == "yes" for row in rows)
    header = ["experiment", "claim", "measured", "holds"]
    write_table("claims", "Claims", header, rows, f"{held} of {len(rows)} claims hold.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="a-f", help="experiments; all by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="run again what was kept")
    parser.add_argument("--kept", action="store_true", help="tables and figures of finished runs only")
    parser.add_argument("--untimed", action="store_true", help="leave out what measures seconds")
    parser.add_argument("--for", type=float, metavar="SECONDS", dest="most", help="start no run after so many seconds")
    args = parser.parse_args()
    Keeping.only, Keeping.clocks = args.kept, not args.untimed
    if args.most is not None:
        Keeping.until = time.monotonic() + args.most
    unknown = [w for w in args.which if w not in STUDIES]
    if unknown:
        parser.error(f"experiments are {', '.join(STUDIES)}, got {', '.join(unknown)}")
    missed = 0
    for letter in args.which or STUDIES:
        begin = time.perf_counter()
        try:
            claims = import_module(f"bench.{STUDIES[letter]}").study(args.quick, args.fresh or args.quick)
        except NotRun as error:
            print(f"experiment {letter} is not finished: {error}\n", flush=True)
            continue
        print(*claims, sep="\n")
        if not args.quick:
            keep_claims(letter, claims)
        missed += sum(not claim.holds for claim in claims)
        print(f"experiment {letter} took {time.perf_counter() - begin:.0f} s\n", flush=True)
    print("all claims hold" if not missed else f"{missed} claims missed")
    return 1 if missed and args.quick else 0


if __name__ == "__main__":
    sys.exit(import_module("bench.study").main())  # not __main__: the studies import this module by its name
