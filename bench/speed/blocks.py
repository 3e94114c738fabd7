"""Block-parallel local solves: time and memory of one iteration against the number of blocks, on one and two threads.

``python -m bench.speed.blocks [--quick]`` trains one agent with P = 2001 weights (8 inputs, 200 hidden units) on 2000
rows of a planar-arm regression, squared error with l2, for n_blocks in 1, 2, 4, 8, 64, P. Each setting runs in a
process of its own, so that its peak memory is its own. Smaller blocks save work by themselves (only diagonal blocks are
formed, and factored at cubic cost); what the second core adds is the ratio of one to two threads at the same n_blocks.
Idle OpenMP threads sleep unless OMP_WAIT_POLICY is set; with OMP_WAIT_POLICY=active they spin, which helps
short regions on an otherwise idle machine. Results: bench/results/blocks.md and .png; with the latter, blocks-active.*.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from bench.data import planar_arm, standardised
from bench.machine import child_environment
from bench.study import line_style, plots, save_figure, write_table
from dnnext.display.frame import count

N_BLOCKS = (1, 2, 4, 8, 64, 2001)
THREADS = (1, 2)


def measure(n_blocks, n_threads, n_iter):
    """Milliseconds per iteration (median), peak memory above the data in MB, and the objective reached."""
    from dnnext.algorithms import NEXT
    from dnnext.local import PartialLinearization
    from dnnext.network import Network, Topology
    from dnnext.problem import L2, MLP, Problem, SquaredError

    data = planar_arm(2000)
    x, d = standardised(data.x), standardised(np.asarray(data.y, dtype=float).reshape(-1, 1))
    problem = Problem(MLP([8, 200, 1]), SquaredError(), L2(alpha=1e-3), [(x, d)], n_threads=n_threads)
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    algorithm = NEXT(PartialLinearization(n_blocks=n_blocks, solver="primal"))
    result = algorithm.run(
        problem, Network(Topology.complete(1)), max_iter=n_iter, monitor_every=n_iter, warn=False,
        callbacks=[lambda s, m: clock.append(time.perf_counter())],
    )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "n_blocks": n_blocks,
        "threads": n_threads,
        "ms": 1e3 * float(np.median(np.diff(clock))),
        "mb": (peak - before) / 1024,
        "objective": float(result.history["objective"][-1]),
    }


def in_a_process_of_its_own(n_blocks, n_threads, n_iter):
    """`measure` in a fresh interpreter."""
    command = [sys.executable, "-m", "bench.speed.blocks", "--one", str(n_blocks), str(n_threads), str(n_iter)]
    environment = child_environment()
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=1800)
    return json.loads(out.stdout.splitlines()[-1])


HEADER = ("n_blocks", "ms, 1 thread", "ms, 2 threads", "gain", "MB, 1 thread", "MB, 2 threads", "objective")


def table(rows):
    """The measurements, one row per n_blocks."""
    for n_blocks in N_BLOCKS:
        one, two = (next(r for r in rows if (r["n_blocks"], r["threads"]) == (n_blocks, k)) for k in THREADS)
        assert one["objective"] == two["objective"], "results must not depend on the number of threads"
        times = (f"{t:.{d}f}" for t, d in ((one["ms"], 1), (two["ms"], 1), (one["ms"] / two["ms"], 2)))
        yield [n_blocks, *times, f"{one['mb']:.0f}", f"{two['mb']:.0f}", f"{one['objective']:.4f}"]


def draw(rows, name, facts, versions=None):
    """Time per iteration against n_blocks, one line per number of threads."""
    figure, axes = plots(1, 1)
    for threads, marker in zip(THREADS, "os", strict=True):
        own = [r for r in rows if r["threads"] == threads]
        look = line_style("ours" if threads > 1 else "", 0) | {"marker": marker, "label": count(threads, "thread")}
        axes[0, 0].loglog([r["n_blocks"] for r in own], [r["ms"] for r in own], **look)
    axes[0, 0].set(xlabel="blocks of the 2001 weights", ylabel="time per iteration (ms)")
    axes[0, 0].legend(frameon=False)
    save_figure(figure, name, facts, versions)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three iterations per setting instead of fifteen")
    parser.add_argument("--one", nargs=3, type=int, metavar=("N_BLOCKS", "THREADS", "ITER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one)))
        return
    n_iter = 4 if given.quick else 15
    rows = [in_a_process_of_its_own(b, k, n_iter) for b in N_BLOCKS for k in THREADS]
    if given.quick:
        print(*table(rows), sep="\n")
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    about = (
        "P = 2001 (8-200-1, tanh), 2000 rows, one agent, squared error + l2, median time per iteration, "
        f"OMP_WAIT_POLICY {policy or 'not set'}"
    )
    name = f"blocks-{policy}" if policy else "blocks"
    write_table(name, "Blocks of weights on two threads", HEADER, list(table(rows)), about)
    draw(rows, name, about)


if __name__ == "__main__":
    main()
