"""``python -m bench.convergence.curvature.seconds``: time of an iteration with each curvature, nothing else running."""

import statistics

from bench.cases import Case
from bench.convergence.curvature.methods import DECENTRAL
from bench.data import load
from bench.machine import software
from bench.study import write_table
from dnnext.network import Network, Topology

CASES = (
    ("california", 10, 10),
    ("satimage", 10, 10),
    ("spambase", 10, 10),
    ("california", 50, 10),
    ("spambase", 10, 17),
)
NAMES = ("own", "shared", "shared + QN")
ITERATIONS, TIMES = 8, 3


def milliseconds(case: Case, name: str, n_agents: int) -> float:
    """Median over repeats of one iteration, pairs of the correction filled, measures not counted."""
    make, options = DECENTRAL[name]
    found = []
    for _ in range(TIMES):
        network = Network(Topology.ring(n_agents), **options)
        seconds = make().run(case.problem, network, max_iter=ITERATIONS, warn=False).history["seconds"]
        found.append(1e3 * (seconds[-1] - seconds[3]) / (ITERATIONS - 3))
    return statistics.median(found)


def main() -> None:
    rows = []
    for data, n_agents, hidden in CASES:
        case = Case.of(load(data).head(4000), n_agents, hidden=(hidden,))
        took = [milliseconds(case, name, n_agents) for name in NAMES]
        words = f"{data}, {len(case.problem.x)} rows, {n_agents} agents"
        rows.append([words, case.problem.n_params, *took, *[f"{t / took[0]:.1f}" for t in took[1:]]])
    header = ["problem", "P", *[f"{name}, ms" for name in NAMES], *[f"{name} / own" for name in NAMES[1:]]]
    notes = (
        f"One iteration on a ring, mixing included, one thread, median of {TIMES} runs of {ITERATIONS} iterations, the "
        f"first three left out. {software()}"
    )
    write_table("curvature_seconds", "Seconds per iteration with shared curvature", header, rows, notes)


if __name__ == "__main__":
    main()
