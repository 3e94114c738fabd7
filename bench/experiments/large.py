"""f. Large data: time to a stated score on two cores, beside scikit-learn's MLP and PyTorch on pooled rows; memory."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.experiments.common import Claim, plots, publish
from bench.peers import environments
from bench.provenance import kept

CHILD = Path(__file__).with_name("large_child.py")
GOALS = {"adult": ("accuracy", 0.85), "protein": ("average precision", 0.87)}
AGENTS, HIDDEN, THREADS = 10, 20, 2
CONTESTANTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "dnnext PL": ("dnnext", [{"surrogate": "PL", "agents": AGENTS}]),
    "dnnext FL": ("dnnext", [{"surrogate": "FL", "agents": AGENTS}]),
    "scikit-learn": ("sklearn", [{"lr": lr, "batch": b} for lr in (1e-2, 1e-3) for b in (200, 1000)]),
    "PyTorch": ("torch", [{"lr": lr, "batch": b} for lr in (1e-2, 1e-3) for b in (200, 1000)]),
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
    most, seconds = (6000, 4.0) if quick else (10**9, 40.0)
    rows, claims, drawn = [], list[Claim](), dict[str, dict[str, Any]]()
    for found in data.load_all(("adult",) if quick else GOALS):
        name, (score, goal) = found.name, GOALS[found.name]
        goal = goal - 0.02 if quick else goal
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.npz"
            n_train = tables(name, most, path)
            drawn[name] = contest(name, score, n_train, seconds, path, fresh)
        for who, tried in drawn[name].items():
            rows.append(line(name, score, goal, who, tried))
        ours = [r["trace"] for who in ("dnnext PL", "dnnext FL") for _, r in drawn[name][who] if isinstance(r, dict)]
        best = max((max(s for _, _, s in trace) for trace in ours), default=0.0)
        claims.append(Claim(f"{name}: ours reaches {score} {goal}", f"{best:.4f}", best >= goal))
    header = ["set", "goal", "who", "setting", "s to goal", "CPU s to goal", "best score", "MB above data"]
    facts = (
        f"Data: {', '.join(drawn)} (at most {most:,} rows, three quarters to train), {HIDDEN} tanh units, "
        f"{THREADS} threads, seed 0; ours: {AGENTS} agents, iid parts, Erdos-Renyi, alpha 5/N, float64, untuned; "
        f"rivals: pooled rows, Adam, best of a grid by time to the goal; {seconds:.0f} s each; load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    notes = (
        "Ours splits the rows over ten agents that exchange weights; the rivals see all of them. Seconds include "
        "whatever else the machine was doing (see the load); CPU seconds count all threads. Where a rival is faster, "
        "a user who may pool the data should take the rival."
    )
    publish("f_large", "Large data: time to a score", header, rows, facts, picture(drawn), quick, notes)
    return claims


def contest(
    name: str, score: str, n_train: int, seconds: float, path: Path, fresh: bool
) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """who -> (setting, result or the sentence why there is none)."""
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    for who, (peer, grid) in CONTESTANTS.items():
        for setting in grid[:1] if seconds < 10 else grid:
            if environments.interpreter(peer) is None:
                found.setdefault(who, []).append((setting, f"missing: no environment {peer}"))
                continue
            told = {**setting, "score": score, "seconds": seconds, "hidden": HIDDEN, "threads": THREADS}
            text = json.dumps(told)
            run = lambda p=peer, t=text: environments.run(  # noqa: E731
                p, CHILD, p, str(path), t, timeout=20 * seconds + 120, threads=THREADS
            )
            result = kept("f", {"set": name, "who": who, "rows": n_train, **told}, run, fresh)
            found.setdefault(who, []).append((setting, result))
    return found


def line(name: str, score: str, goal: float, who: str, tried: list[tuple[dict[str, Any], Any]]) -> list[Any]:
    """One row: the setting that reached the goal first, else the one with the best score."""
    done = [(setting, r) for setting, r in tried if isinstance(r, dict)]
    if not done:
        return [name, f"{score} {goal:g}", who, tried[0][1], None, None, None, None]

    def rank(entry: tuple[dict[str, Any], Any]) -> tuple[float, float]:
        reached = time_to(entry[1]["trace"], goal)
        return (reached[0] if reached else np.inf, -max(s for _, _, s in entry[1]["trace"]))

    setting, result = min(done, key=rank)
    reached = time_to(result["trace"], goal)
    wall, used = reached if reached else ("never", "never")
    said = ", ".join(f"{k} {v}" for k, v in setting.items() if k != "agents")
    return [name, f"{score} {goal:g}", who, said, wall, used, max(s for _, _, s in result["trace"]), result["mb"]]


def picture(drawn: dict[str, dict[str, Any]]) -> Any:
    fig, axes = plots(1, max(len(drawn), 1), 5.5, 3.6)
    for ax, (name, found) in zip(axes[0], drawn.items(), strict=False):
        for k, (who, tried) in enumerate(found.items()):
            first = True
            for _, result in tried:
                if isinstance(result, dict):
                    trace = np.array(result["trace"])
                    ax.plot(trace[:, 0], np.maximum.accumulate(trace[:, 2]), color=f"C{k}", lw=1.2, marker=".",
                            label=who if first else None)  # fmt: skip
                    first = False
        score, goal = GOALS[name]
        ax.axhline(goal, color="k", lw=0.8, ls=":")
        ax.set(xscale="log", xlabel="seconds", ylabel=f"best {score} so far", title=name)
        low = {"adult": 0.74, "protein": 0.0}[name]
        ax.set_ylim(low, None)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    return fig
