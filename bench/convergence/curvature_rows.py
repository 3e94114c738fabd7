"""Own curvature from some rows against all rows: ``python -m bench.convergence.curvature_rows [--quick]``.

Six sets that the rule ``curvature_rows="auto"``, max(128, n_i / 32) rows of every agent, was not tuned on: 8 agents
with iid parts of at most 4000 rows, 5 hidden tanh units, l2 with alpha 1e-3, an Erdos-Renyi graph, runs of NEXT from
the same start until the objective has fallen by less than 2e-5 of itself in 300 iterations, or 6 CPU seconds of one
thread are used up; what the measures take, every 20 iterations, counts. "fixed" and "fresh" are `curvature_slices`. The
cost has many minima, so that two converged runs may end in different ones, either of them lower.

Results: bench/results/curvature_rows.md and .csv.
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np

from bench import data
from bench.machine import software, start_again_unpinned
from bench.study import kept, write_table
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.network import Network, Topology

SETS = ("bikeshare", "california", "magic", "phoneme", "planar_arm", "rf1")
SEEDS = (0,)
AGENTS, MOST_ROWS, HIDDEN, GAP, SECONDS = 8, 4000, 5, 1e-3, 6.0
KINDS: dict[str, dict[str, str]] = {
    "all": {},
    "fixed": {"curvature_rows": "auto"},
    "fresh": {"curvature_rows": "auto", "curvature_slices": "fresh"},
}


def run(name: str, kind: str, seed: int, seconds: float) -> dict[str, Any]:
    """objective, iteration and CPU seconds of every measure, and whether the run converged."""
    found = data.load(name)
    rows = np.sort(np.random.default_rng(seed).permutation(len(found.x))[:MOST_ROWS])
    problem = data.build(found, AGENTS, hidden=(HIDDEN,), rows=rows, seed=seed)
    network = Network(Topology.erdos_renyi(AGENTS, p=0.4, random_state=seed))
    used, begin = {0: 0.0}, time.thread_time()

    def stamp(state, metrics):
        used[state.t] = time.thread_time() - begin
        return used[state.t] > seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = NEXT(PartialLinearization(**KINDS[kind])).run(
            problem, network, max_iter=100_000, tol=2e-5, n_iter_no_change=300, monitor_every=20, random_state=seed,
            callbacks=[stamp],
        )  # fmt: skip
    measured = result.history["iteration"].astype(int).tolist()
    return {
        "objective": result.history["objective"], "iteration": measured, "converged": result.converged,
        "seconds": [used[t] for t in measured],
    }  # fmt: skip


def rows_of(name: str, seed: int, seconds: float) -> list[list[Any]]:
    """A line per kind of rows."""
    settings = {"set": name, "seed": seed, "seconds": seconds}
    runs = {
        kind: kept("curvature_rows", {**settings, "kind": kind}, lambda kind=kind: run(name, kind, seed, seconds))
        for kind in KINDS
    }
    ends = {kind: float(np.min(r["objective"])) for kind, r in runs.items()}
    lines: list[list[Any]] = []
    for kind, r in runs.items():
        reached = np.flatnonzero(np.array(r["objective"]) <= ends["all"] * (1 + GAP))
        lines.append([
            name, seed, kind, ends[kind], ends[kind] / ends["all"] - 1, r["iteration"][-1], r["seconds"][-1],
            "yes" if r["converged"] else "no", r["seconds"][reached[0]] if len(reached) else "never",
        ])  # fmt: skip
    return lines


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a second each, one set, nothing saved")
    quick = parser.parse_args().quick
    lines: list[list[Any]] = []
    for name in SETS[3:4] if quick else SETS:
        for seed in SEEDS[: 1 if quick else None]:
            lines += rows_of(name, seed, 0.5 if quick else SECONDS)
            print(*lines[-3:], sep="\n", flush=True)
    if quick:
        return
    header = [
        "set",
        "seed",
        "rows",
        "end",
        "against all",
        "iterations",
        "CPU s",
        "converged",
        "CPU s to 1e-3 of all's end",
    ]
    words = []
    for kind in ("fixed", "fresh"):
        gaps = [line[4] for line in lines if line[2] == kind]
        good = sum(gap <= GAP for gap in gaps)
        words.append(
            f"{kind}: median {np.median(gaps):+.1e} against all rows, worst {max(gaps):+.1e}, best {min(gaps):+.1e}, "
            f"{good} of {len(gaps)} within 1e-3 or below"
        )
    notes = f"8 agents, at most {MOST_ROWS} rows, {HIDDEN} tanh, l2 1e-3. {'; '.join(words)}. {software()}."
    write_table("curvature_rows", "Own curvature from some rows", header, lines, notes)


if __name__ == "__main__":
    main()
