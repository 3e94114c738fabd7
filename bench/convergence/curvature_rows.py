"""Own curvature from some rows against all rows: ``python -m bench.convergence.curvature_rows [--quick]``.

Six sets that the rule ``curvature_rows="auto"``, max(128, n_i / 32) rows of every agent, was not tuned on (protein) or
was (adult): 8 agents with iid parts of at most 8000 rows, 10 hidden tanh units, l2 with alpha 1e-3, an Erdos-Renyi
graph, runs of NEXT from the same start until the stationarity is below 1e-5 or 400 iterations are done. CPU seconds of
one thread to 1e-3 above the lower of the two ends, measures left out.

Results: bench/results/curvature_rows.md and .csv.
"""

import argparse
import time
import warnings

import numpy as np

from bench import data
from bench.machine import software, start_again_unpinned
from bench.study import write_table
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.network import Network, Topology

SETS = ("adult", "bikeshare", "california", "magic", "planar_arm", "rf1")
AGENTS, MOST_ROWS, GAP = 8, 8000, 1e-3


def run(name: str, curvature_rows: str, most: int, seed: int = 0) -> dict[str, np.ndarray | bool]:
    """objective and CPU seconds of every iteration, and whether the run converged."""
    found = data.load(name)
    rows = np.sort(np.random.default_rng(seed).permutation(len(found.x))[:MOST_ROWS])
    problem = data.build(found, AGENTS, rows=rows, seed=seed)
    network = Network(Topology.erdos_renyi(AGENTS, p=0.4, random_state=seed))
    seconds, begin = [0.0], time.thread_time()

    def stamp(state, metrics):
        nonlocal begin
        seconds.append(time.thread_time() - begin)
        problem.value(state.w.mean(axis=0))  # as long as what the history measures, which does not count
        begin += 2 * (time.thread_time() - begin - seconds[-1])

    algorithm = NEXT(PartialLinearization(curvature_rows=curvature_rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = algorithm.run(problem, network, max_iter=most, tol=1e-5, random_state=seed, callbacks=[stamp])
    return {"objective": result.history["objective"], "seconds": np.array(seconds), "converged": result.converged}


def row_of(name: str, most: int) -> list[object]:
    """One line of the table."""
    runs = {rows: run(name, rows, most) for rows in ("all", "auto")}
    ends = {rows: float(r["objective"][-1]) for rows, r in runs.items()}
    goal = min(ends.values()) * (1 + GAP)
    cells: list[object] = [name]
    for r in runs.values():
        reached = np.flatnonzero(r["objective"] <= goal)
        cells += [
            float(r["objective"][-1]), len(r["objective"]) - 1, "yes" if r["converged"] else "no",
            float(r["seconds"][reached[0]]) if len(reached) else None,
        ]  # fmt: skip
    return [*cells, (ends["auto"] - ends["all"]) / ends["all"]]


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 iterations, two sets, nothing saved")
    quick = parser.parse_args().quick
    rows = []
    for name in SETS[2:4] if quick else SETS:
        rows.append(row_of(name, 30 if quick else 400))
        print(rows[-1], flush=True)
    if quick:
        return
    each = ["end, {}", "iterations, {}", "converged, {}", "CPU s to 1e-3, {}"]
    header = ["set", *(text.format(rows) for rows in ("all", "auto") for text in each), "auto against all"]
    worst = max(row[-1] for row in rows)  # relative
    notes = (
        f"8 agents, at most {MOST_ROWS} rows, 10 tanh, l2 1e-3, one seed; the worst end of auto is {worst:+.1e} above "
        f"that of all rows. {software()}."
    )
    write_table("curvature_rows", "Own curvature from some rows", header, rows, notes)


if __name__ == "__main__":
    main()
