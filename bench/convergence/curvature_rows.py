"""Own curvature from some rows against all rows: ``python -m bench.convergence.curvature_rows [--quick]``.

Six sets that the rule ``curvature_rows="auto"``, max(128, n_i / 32) rows of every agent, was not tuned on: 8 agents
with iid parts of at most 8000 rows, 10 hidden tanh units, l2 with alpha 1e-3, an Erdos-Renyi graph, runs of NEXT from
the same start until the objective has fallen by less than 2e-5 of itself in 280 iterations, 4000 are done, or 10 CPU
seconds of one thread are used up, measures left out. "fixed" and "fresh" are `curvature_slices`. The cost has many
minima, so that two converged runs may end in different ones, either of them lower.

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

STARTS = (  # set, seed of rows, parts, graph and weights
    ("bikeshare", 0), ("california", 0), ("california", 2), ("magic", 0), ("magic", 1), ("magic", 2), ("phoneme", 0),
    ("phoneme", 1), ("planar_arm", 0), ("rf1", 0),
)  # fmt: skip
AGENTS, MOST_ROWS, SECONDS, EVERY, WINDOW, LEAST, GAP = 8, 8000, 10.0, 20, 14, 2e-5, 1e-3
KINDS: dict[str, dict[str, str]] = {
    "all": {},
    "fixed": {"curvature_rows": "auto"},
    "fresh": {"curvature_rows": "auto", "curvature_slices": "fresh"},
}


def run(name: str, seed: int, kind: str, seconds: float) -> dict[str, Any]:
    """CPU seconds, iteration and objective of every measure."""
    found = data.load(name)
    rows = np.sort(np.random.default_rng(seed).permutation(len(found.x))[:MOST_ROWS])
    problem = data.build(found, AGENTS, rows=rows, seed=seed)
    network = Network(Topology.erdos_renyi(AGENTS, p=0.4, random_state=seed))
    trace: list[tuple[float, int, float]] = []
    used, mark = 0.0, time.thread_time()

    def look(state, metrics):
        nonlocal used, mark
        used += time.thread_time() - mark
        if state.t % EVERY == 0:
            trace.append((used, state.t, problem.value(state.w.mean(axis=0))))
        mark = time.thread_time()
        return used > seconds or has_converged([objective for *_, objective in trace])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NEXT(PartialLinearization(**KINDS[kind])).run(
            problem, network, max_iter=4000, monitor_every=100_000, random_state=seed, callbacks=[look]
        )
    return {"trace": trace}


def has_converged(objective: list[float]) -> bool:
    return len(objective) > WINDOW and objective[-1 - WINDOW] - objective[-1] < LEAST * abs(objective[-1])


def rows_of(name: str, seed: int, seconds: float) -> list[list[Any]]:
    """A line per kind of rows."""
    ends: dict[str, float] = {}
    lines: list[list[Any]] = []
    for kind in KINDS:
        settings = {"set": name, "seed": seed, "kind": kind, "seconds": seconds}
        trace = kept("curvature_rows", settings, lambda kind=kind: run(name, seed, kind, seconds))["trace"]
        trace = [row for row in trace if row[0] <= seconds]
        objective = [row[2] for row in trace]
        ends[kind] = objective[-1]
        reached = [row[0] for row in trace if row[2] <= ends["all"] * (1 + GAP)]
        lines.append([
            name, seed, kind, ends[kind], ends[kind] / ends["all"] - 1, trace[-1][1], trace[-1][0],
            "yes" if has_converged(objective) else "no", reached[0] if reached else "never",
        ])  # fmt: skip
    return lines


def main() -> None:
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a second each, one set, nothing saved")
    quick = parser.parse_args().quick
    if quick:
        print(*rows_of("phoneme", 0, 0.5), sep="\n")
        return
    lines: list[list[Any]] = []
    for name, seed in STARTS:
        lines += rows_of(name, seed, SECONDS)
    header = ["set", "seed", "rows", "end", "against all", "iterations", "CPU s", "converged", "CPU s to 1e-3 of all"]
    words = []
    for kind in ("fixed", "fresh"):
        gaps = [line[4] for line in lines if line[2] == kind]
        good = sum(gap <= GAP for gap in gaps)
        words.append(
            f"{kind}: {good} of {len(gaps)} ends at most 1e-3 above that of all rows, median {np.median(gaps):+.1e}, "
            f"worst {max(gaps):+.1e}, best {min(gaps):+.1e}"
        )
    notes = f"8 agents, at most {MOST_ROWS} rows, 10 tanh, l2 1e-3. {'; '.join(words)}. {software()}."
    write_table("curvature_rows", "Own curvature from some rows", header, lines, notes)


if __name__ == "__main__":
    main()
