"""f. Large data: CPU seconds to three scores beside scikit-learn's MLP and PyTorch on pooled rows; rounds and bytes.

Time is CPU time, that of the busiest thread where there are two: what free cores would take, whoever else uses this
machine. Settings, the rivals' and ours, are searched with one seed; the seeds that are shown took no part in it. The
goals of a run are shares of the highest score that scikit-learn's best setting reached on the same rows.
"""

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.machine import Others
from bench.rivals.peers import environments
from bench.study import Claim, finished, kept, line_style, not_finished, plots, publish
from dnnext.preprocessing import NetworkPreprocessor

CHILD = Path(__file__).with_name("large_child.py")
CLIPPED = "california, clip 0.005"
SETS = {  # score, CPU seconds of a run
    "adult": ("accuracy", 3.0),
    "protein": ("average precision", 4.0),
    "california": ("R2", 2.0),
    CLIPPED: ("R2", 2.0),
    "magic": ("accuracy", 2.0),
    "letter": ("accuracy", 3.0),
}
SHARES = (0.9, 0.97, 1.0)  # of the way from the trivial score to scikit-learn's highest
AGENTS, HIDDEN, SEARCHED = 10, 20, 0
GRID = [{"lr": 1e-2, "batch": 200}, {"lr": 1e-2, "batch": 1000}, {"lr": 1e-3, "batch": 200}]
CHOICE = "dnnext, as fit chooses"
OURS: dict[str, dict[str, Any]] = {
    CHOICE: {"surrogate": "PL", "curvature": "auto"},
    "dnnext PL": {"surrogate": "PL", "rows": "all"},
    "dnnext PL, some rows": {"surrogate": "PL", "rows": "auto"},
    "dnnext FL": {"surrogate": "FL"},
}
ALPHAS = (5.0, 0.5)  # times 1 / N: the grid of ours; 5 is the default of the estimators
DASHES = {CHOICE: {"ls": "-.", "lw": 1.5}, "dnnext PL": {"ls": "--", "lw": 1.2}, "dnnext FL": {"ls": ":", "lw": 1.8}}
RIVALS = {"scikit-learn": "sklearn", "PyTorch": "torch"}
ONE = "float32"
RUNS = [(7, ONE, 1), (8, ONE, 1), (9, ONE, 1), (7, "float64", 1), (7, ONE, 2)]  # seed, precision, threads


def tables(name: str, seed: int, most: int, path: Path) -> float:
    """Standardised rows of a set into an npz file; the trivial score."""
    found = data.load(name.partition(",")[0]).head(most)
    train, test = data.split(found, seed)
    clip = 0.005 if name == CLIPPED else 0.0
    prepared = NetworkPreprocessor(clip=clip).fit(found.x[train])
    y = found.y
    if found.task == "regression":
        y = (y - y[train].mean()) / y[train].std()
    x, x_test = (prepared.transform(found.x[rows]) for rows in (train, test))
    np.savez(path, x=x, y=y[train], x_test=x_test, y_test=y[test])
    return 0.0 if SETS[name][0] != "accuracy" else float(np.bincount(found.y[test]).max() / len(test))


def time_to(trace: list[list[float]], goal: float) -> list[float] | None:
    """[CPU seconds, score, rounds, bytes] when the score first reached the goal."""
    return next((row for row in trace if row[1] >= goal), None)


def best_score(trace: list[list[float]]) -> float:
    return max(row[1] for row in trace)


class Contest:
    """All contestants on one set."""

    def __init__(self, name: str, most: int, limits: dict[str, Any], fresh: bool, missing: list[str]) -> None:
        self.name, self.most, self.fresh, self.missing = name, most, fresh, missing
        self.score, seconds = SETS[name]
        self.common = {"score": self.score, "hidden": HIDDEN, "agents": AGENTS, "seconds": seconds, **limits}
        self.settings: dict[str, dict[str, Any]] = {}

    def once(self, who: str, setting: dict[str, Any], seed: int, dtype: str, threads: int) -> Any:
        """One run: a result, a sentence where the peer is missing, None where it is not to be run now."""
        given = {**self.common, **setting, "seed": seed, "dtype": dtype, "threads": threads}

        def run() -> Any:
            with tempfile.TemporaryDirectory() as folder, Others() as others:
                path = Path(folder) / "rows.npz"
                trivial = tables(self.name, seed, self.most, path)
                peer = RIVALS.get(who, "dnnext")
                result = environments.run(peer, CHILD, peer, str(path), json.dumps(given), timeout=900, threads=threads)
            return result if isinstance(result, str) else {**result, "trivial": trivial, "others": others.cores}

        settings = {"set": self.name, "who": who, "most": self.most, **given}
        words = f"{self.name}, {who}, seed {seed}, {dtype}, {threads} threads"
        return finished(words, lambda: kept("f", settings, run, self.fresh), self.missing)

    def search(self, quick: bool) -> None:
        """The best setting of each: soonest at a score that all but one reach."""
        grids = {who: [{**one, "alpha": alpha} for alpha in ALPHAS] for who, one in OURS.items()}
        for who, every in (grids | dict.fromkeys(RIVALS, GRID)).items():
            grid = every[: 1 if quick else None]
            tried = [(setting, self.once(who, setting, SEARCHED, "float32", 1)) for setting in grid]
            done = [(setting, result) for setting, result in tried if isinstance(result, dict)]
            if done:
                goal = sorted(best_score(result["trace"]) for _, result in done)[-2:][0]
                self.settings[who] = min(done, key=lambda one: (time_to(one[1]["trace"], goal) or [np.inf])[0])[0]

    def rows(self, seed: int, dtype: str, threads: int) -> list[list[Any]]:
        """A row per contestant of one seed, precision and number of threads; empty without scikit-learn's run."""
        results = {who: self.once(who, setting, seed, dtype, threads) for who, setting in self.settings.items()}
        found = {who: result for who, result in results.items() if isinstance(result, dict)}
        if "scikit-learn" not in found:
            return []
        top, trivial = best_score(found["scikit-learn"]["trace"]), found["scikit-learn"]["trivial"]
        goals = [trivial + share * (top - trivial) for share in SHARES]
        lines = []
        for who, result in found.items():
            reached = [time_to(result["trace"], goal) for goal in goals]
            last = next((r for r in reversed(reached) if r), None)
            sent = [None, None] if who in RIVALS or last is None else [int(last[2]), last[3] / 1e6]
            chosen = self.settings[who]
            setting = (
                ", ".join(f"{k} {v}" for k, v in chosen.items()) if who in RIVALS else f"alpha {chosen['alpha']:g}/N"
            )
            seconds = [r[0] if r else "never" for r in reached]
            lines.append([self.name, seed, dtype, threads, who, setting, *seconds, best_score(result["trace"]), *sent,
                          result["mb"], [f"{g:.4f}" for g in goals]])  # fmt: skip
        return lines


def study(quick: bool, fresh: bool) -> list[Claim]:
    most, limits = (4000, {"looks": 12}) if quick else (10**9, {})
    names = ("magic",) if quick else tuple(SETS)
    missing: list[str] = []
    rows: list[list[Any]] = []
    here = {found.name for found in data.load_all({name.partition(",")[0] for name in names})}
    contests = [Contest(n, most, limits, fresh, missing) for n in names if n.partition(",")[0] in here]
    for contest in contests:
        contest.search(quick)
    for run, contest in product(RUNS[: 1 if quick else None], contests):
        rows += contest.rows(*run)
    rows.sort(key=lambda row: (list(SETS).index(row[0]), row[1], row[3], row[2]))
    header = ["set", "seed", "precision", "threads", "who", "setting", *(f"s to {s:g}" for s in SHARES), "best score",
              "rounds", "MB sent", "MB above data"]  # fmt: skip
    facts = (
        f"{HIDDEN} tanh units, three quarters of the rows train; ours: {AGENTS} agents, iid parts, Erdos-Renyi, alpha "
        f"the better of 5/N and 0.5/N; rivals: pooled rows, Adam, lr and batch the best of {len(GRID)}; all searched "
        f"with seed {SEARCHED} in float32; CPU seconds, of the busier thread where there are two, at most "
        f"{', '.join(f'{name} {seconds:g}' for name, (_, seconds) in SETS.items())}"
    )
    publish("f_large", "Large data: time to a score", header, [row[:-1] for row in rows], facts,
            picture(contests) if rows else None, quick, summary(rows) + not_finished(missing[:3]))  # fmt: skip
    return [] if quick else claims(rows)  # one small set says nothing about seconds


def ratios(rows: list[list[Any]], rival: str, place: int = 2) -> dict[str, float]:
    """For every set the median of ours / the rival's seconds to a goal, the best of ours; infinite where never.

    One thread only: PyTorch's threads wait by spinning, which on cores that others use counts as time.
    """
    found: dict[str, list[float]] = {}
    for key in {tuple(row[:4]) for row in rows if row[3] == 1}:
        group = {row[4]: row[6 + place] for row in rows if tuple(row[:4]) == key}
        if rival in group:
            ours = min((group[who] for who in OURS if isinstance(group.get(who), float)), default=np.inf)
            theirs = group[rival] if isinstance(group[rival], float) else np.inf
            found.setdefault(key[0], []).append(np.inf if ours == np.inf else ours / theirs)
    return {name: float(np.median(found[name])) for name in SETS if name in found}


def claims(rows: list[list[Any]]) -> list[Claim]:
    """What the issue of cores asks for."""
    made = []
    for rival, bound, words in (("scikit-learn", 1.0, "ahead of"), ("PyTorch", 1.5, "within 1.5 times of")):
        found = {name: ratio for name, ratio in ratios(rows, rival).items() if name != CLIPPED}
        good = sum(ratio <= bound for ratio in found.values())
        measured = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
        made.append(Claim(f"{words} {rival} at scikit-learn's highest score on 4 of 5 sets", measured, good >= 4))
    return made


def summary(rows: list[list[Any]]) -> str:
    """Who was sooner, by set: medians over seeds and precisions, on one thread."""
    words = [
        f"Ours spreads the rows over {AGENTS} agents that exchange weights; the rivals see all of them. Goals: "
        f"{', '.join(f'{s:g}' for s in SHARES)} of the way from the trivial score to the highest one of scikit-learn's "
        "best setting with the same seed, precision and threads; rounds and MB sent until the last goal that was "
        "reached. Scores are looked at after every epoch of a rival, which may count it an epoch too much, and up to "
        "11 times in a doubling of our iterations; seconds exclude the look. Ratios take the soonest of ours in every "
        "run, and of a rival the one setting that was best with the seed of the search. This was measured on two cores "
        "that others used, too, and "
        "PyTorch's threads wait by spinning: its seconds on two threads say nothing, and ratios are of one thread."
    ]
    for rival in RIVALS:
        for place, share in enumerate(SHARES):
            found = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios(rows, rival, place).items())
            words.append(f"Seconds of the best of ours / {rival}'s to {share:g}: {found or 'not run'}.")
    words.append("Above 1 the rival is sooner: a user who may pool the data should take it.")
    return " ".join(words)


def picture(contests: list[Contest]) -> Any:
    """Scores against CPU seconds, the first seed, float32, one thread."""
    fig, axes = plots(2, (len(contests) + 1) // 2, 4.2, 3.2)
    for ax, contest in zip(axes.ravel(), contests, strict=False):
        low = 1.0
        for k, (who, setting) in enumerate(contest.settings.items()):
            result = contest.once(who, setting, *RUNS[0])
            if isinstance(result, dict):
                trace = np.array(result["trace"])
                ax.plot(trace[:, 0], np.maximum.accumulate(trace[:, 1]), marker=".", ms=3, label=who,
                        **line_style(who, k) | DASHES.get(who, {}))  # fmt: skip
                low = min(low, float(best_score(result["trace"])))
        ax.set(xscale="log", xlabel="CPU seconds", ylabel=f"best {contest.score} so far", title=contest.name)
        ax.set_ylim(0.8 * low, None)
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(fontsize=6)
    return fig
