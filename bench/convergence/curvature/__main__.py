"""``python -m bench.convergence.curvature [--quick] [--part K/N] [--report]``: run what is missing, then report.

Every finished scenario is kept in bench/results/cache/curvature, so the study can be stopped and resumed, and several
processes may work on it (``--part 0/2`` and ``--part 1/2``). ``--report`` runs nothing.
"""

import argparse
import time

from bench.convergence.curvature.methods import run_scenario
from bench.convergence.curvature.report import report
from bench.convergence.curvature.scenarios import sample
from bench.study import Keeping, NotRun, kept


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.convergence.curvature", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three scenarios")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th scenario from the K-th on")
    parser.add_argument("--report", action="store_true", help="run nothing")
    given = parser.parse_args()
    first, step = map(int, given.part.split("/"))
    scenarios = sample()
    if given.quick:
        scenarios = [s for s in scenarios if s.data in ("iris", "pima", "boston")][:3]
    Keeping.only = given.report
    done = []
    for k, scenario in enumerate(scenarios):
        mine = k % step == first
        begin = time.perf_counter()
        Keeping.only = given.report or not mine
        try:
            done.append((scenario, kept("curvature", scenario.settings, lambda s=scenario: run_scenario(s))))
        except NotRun:
            continue
        if time.perf_counter() - begin > 0.5:
            print(f"{scenario} {time.perf_counter() - begin:.0f} s", flush=True)
    if done:
        report(done, len(scenarios), given.quick)


if __name__ == "__main__":
    main()
