"""f. Large data: time to a stated score on two cores, beside scikit-learn's MLP and PyTorch on pooled rows; memory.

The rivals' settings are searched first, by CPU seconds to the goal on one thread, which a busy machine disturbs little;
then every contestant's best runs once more against the clock on two threads.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.machine import Others
from bench.rivals.peers import environments
from bench.study import Claim, finished, kept, line_style, not_finished, plots, publish

CHILD = Path(__file__).with_name("large_child.py")
GOALS = {"adult": ("accuracy", 0.85), "protein": ("average precision", 0.87)}
AGENTS, HIDDEN, THREADS, SECONDS = 10, 20, 2, 40.0
RATES, BATCHES = (1e-2, 1e-3), (200, 1000)
GRID = [{"lr": lr, "batch": batch} for lr in RATES for batch in BATCHES]
CONTESTANTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "dnnext PL": ("dnnext", [{"surrogate": "PL", "agents": AGENTS}]),
    "dnnext FL": ("dnnext", [{"surrogate": "FL", "agents": AGENTS}]),
    "scikit-learn": ("sklearn", GRID),
    "PyTorch": ("torch", GRID),
}


def tables(name: str, most: int, path: Path) -> int:
    """Standardised rows of a set into an npz file; how many train."""
    found = data.load(name).head(most)
    train, test = data.split(found, 0)
    mean, scale = found.x[train].mean(axis=0), found.x[train].std(axis=0)
    x = (found.x - mean) / np.where(scale > 0, scale, 1)
    np.savez(path, x=x[train], y=found.y[train], x_test=x[test], y_test=found.y[test])
    return len(train)


def time_to(trace: list[list[float]], goal: float) -> tuple[float, float] | None:
    """(seconds, CPU seconds) when the score first reached the goal."""
    for wall, used, score in trace:
        if score >= goal:
            return wall, used
    return None


def study(quick: bool, fresh: bool) -> list[Claim]:
    most, limits = (6000, {"looks": 25}) if quick else (10**9, {})
    rows, claims, drawn = [], list[Claim](), dict[str, dict[str, Any]]()
    missing: list[str] = []
    for found in data.load_all(("adult",) if quick else GOALS):
        name, (score, goal) = found.name, GOALS[found.name]
        goal = goal - 0.02 if quick else goal
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(name, score, goal, limits, fresh, Path(folder) / "rows.npz", most, missing)
            drawn[name] = {who: contest.run(who, quick) for who in CONTESTANTS}
        for who, (setting, result) in drawn[name].items():
            rows.append(line(name, score, goal, who, setting, result))
        ours = [r["trace"] for who in ("dnnext PL", "dnnext FL") if isinstance(r := drawn[name][who][1], dict)]
        best = max((max(s for _, _, s in trace) for trace in ours), default=0.0)
        claims.append(Claim(f"{name}: ours reaches {score} {goal:g}", f"{best:.4f}", best >= goal))
    header = ["set", "goal", "who", "setting", "s to goal", "CPU s to goal", "best score", "MB above data"]
    results = [r for found in drawn.values() for _, r in found.values() if isinstance(r, dict)]
    busy = max((r["others"] for r in results), default=float("nan"))
    facts = (
        f"Data: {', '.join(f'{n} ({len(data.load(n).head(most).x)} rows)' for n in drawn)}, three quarters to train, "
        f"{HIDDEN} tanh units, {THREADS} threads, seed 0; ours: {AGENTS} agents, iid parts, Erdos-Renyi, alpha 5/N, "
        f"float64, untuned; rivals: pooled rows, Adam, lr in {RATES}, batch in {BATCHES}, the best by CPU seconds to "
        f"the goal on one thread (at most {SECONDS:.0f} each), PyTorch in float32; seconds: one run each, others used "
        f"at most {busy:.2f} cores meanwhile"
    )
    publish("f_large", "Large data: time to a score", header, rows, facts, picture(drawn), quick,
            summary(rows) + not_finished(missing))  # fmt: skip
    return claims


def summary(rows: list[list[Any]]) -> str:
    """A sentence about the rows: which tool was first."""
    words = [
        "Ours spreads the rows over ten agents that exchange weights; the rivals see all of them. Seconds exclude "
        "looking at the score; CPU seconds count all threads, waiting ones included."
    ]
    for name in dict.fromkeys(row[0] for row in rows):
        reached = [row for row in rows if row[0] == name and isinstance(row[4], float)]
        if reached:
            first = min(reached, key=lambda row: row[4])
            words.append(f"{name}: {first[2]} is first.")
    words.append("Where a rival is faster, a user who may pool the data should take the rival.")
    return " ".join(words)


class Contest:
    """The contestants of one set."""

    def __init__(
        self, name: str, score: str, goal: float, limits: dict[str, Any], fresh: bool, path: Path, most: int,
        missing: list[str],
    ) -> None:  # fmt: skip
        self.name, self.fresh, self.path, self.missing = name, fresh, path, missing
        self.common = {"score": score, "goal": goal, "hidden": HIDDEN, "seconds": SECONDS, **limits}
        self.n_train = tables(name, most, path)

    def once(self, who: str, setting: dict[str, Any], what: str) -> Any:
        """One run: a result, a sentence where the peer is missing, None where it is not to be run now."""
        peer, threads = CONTESTANTS[who][0], 1 if what == "search" else THREADS
        given = {**self.common, **setting, "what": what, "threads": threads}

        def run() -> Any:
            with Others() as others:
                result = environments.run(peer, CHILD, peer, str(self.path), json.dumps(given), timeout=900,
                                          threads=threads)  # fmt: skip
            return result if isinstance(result, str) else {**result, "others": others.cores}

        settings = {"set": self.name, "who": who, "rows": self.n_train, **given}
        words = f"{self.name}, {who}, {what}"
        return finished(words, lambda: kept("f", settings, run, self.fresh, clock=what == "clock"), self.missing)

    def run(self, who: str, quick: bool) -> tuple[dict[str, Any], Any]:
        """(setting, result against the clock) of the best setting."""
        grid = CONTESTANTS[who][1][: 1 if quick else None]
        if len(grid) > 1:
            tried = [(setting, self.once(who, setting, "search")) for setting in grid]
            done = [(setting, r) for setting, r in tried if isinstance(r, dict)]
            if len(done) < len(grid):
                return grid[0], next((r for _, r in tried if isinstance(r, str)), None)
            grid = [min(done, key=lambda entry: self.rank(entry[1]))[0]]
        return grid[0], self.once(who, grid[0], "clock")

    def rank(self, result: dict[str, Any]) -> tuple[float, float]:
        """CPU seconds to the goal, else the best score."""
        reached = time_to(result["trace"], self.common["goal"])
        return (reached[1] if reached else np.inf, -max(s for _, _, s in result["trace"]))


def line(name: str, score: str, goal: float, who: str, setting: dict[str, Any], result: Any) -> list[Any]:
    """One row of the table."""
    words = ", ".join(f"{k} {v}" for k, v in setting.items() if k not in ("agents", "surrogate")) or "untuned"
    if not isinstance(result, dict):
        return [name, f"{score} {goal:g}", who, result or "not run yet", None, None, None, None]
    wall, used = time_to(result["trace"], goal) or ("never", "never")
    return [name, f"{score} {goal:g}", who, words, wall, used, max(s for _, _, s in result["trace"]), result["mb"]]


def picture(drawn: dict[str, dict[str, Any]]) -> Any:
    fig, axes = plots(1, max(len(drawn), 1), 5.5, 3.6)
    for ax, (name, found) in zip(axes[0], drawn.items(), strict=False):
        for k, (who, (_, result)) in enumerate(found.items()):
            if isinstance(result, dict):
                trace = np.array(result["trace"])
                best = np.maximum.accumulate(trace[:, 2])
                ax.plot(trace[:, 0], best, marker=".", ms=4, label=who, **line_style(who, k))
        score, goal = GOALS[name]
        ax.axhline(goal, color="k", lw=0.8, ls=":")
        ax.set(xscale="log", xlabel="seconds", ylabel=f"best {score} so far", title=name)
        low = {"adult": 0.74, "protein": 0.0}[name]
        ax.set_ylim(low, None)
        ax.grid(alpha=0.3)
        if ax.lines[1:]:
            ax.legend(fontsize=7)
    return fig
