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
from bench.study import RESULTS
from dnnext.display.frame import PALETTE

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


def table(rows):
    """The measurements as Markdown, one line per n_blocks."""
    lines = [
        "| n_blocks | ms, 1 thread | 2 threads | gain | memory MB, 1 thread | 2 threads | objective |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n_blocks in N_BLOCKS:
        one, two = (next(r for r in rows if (r["n_blocks"], r["threads"]) == (n_blocks, k)) for k in THREADS)
        assert one["objective"] == two["objective"], "results must not depend on the number of threads"
        gain = one["ms"] / two["ms"]
        lines.append(
            f"| {n_blocks} | {one['ms']:.1f} | {two['ms']:.1f} | {gain:.2f} | {one['mb']:.0f} | {two['mb']:.0f} "
            f"| {one['objective']:.4f} |"
        )
    return "\n".join(lines)


def draw(rows, path):
    """Time per iteration against n_blocks, one line per number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(3.5, 2.6), layout="constrained")
    for threads, colour, marker in zip(THREADS, PALETTE[1::-1], "os", strict=True):
        own = [r for r in rows if r["threads"] == threads]
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        axes.loglog([r["n_blocks"] for r in own], [r["ms"] for r in own], marker=marker, color=colour, label=label)
    axes.set(xlabel="blocks of the 2001 weights", ylabel="time per iteration (ms)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)


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
    text = table(rows)
    print(text)
    if not given.quick:
        RESULTS.mkdir(exist_ok=True)
        policy = os.environ.get("OMP_WAIT_POLICY", "")
        about = (
            "P = 2001 (8-200-1, tanh), 2000 rows, one agent, squared error + l2, median time per iteration, "
            f"OMP_WAIT_POLICY {policy or 'not set'}.\n\n"
        )
        name = f"blocks-{policy}" if policy else "blocks"
        (RESULTS / f"{name}.md").write_text(about + text + "\n")
        draw(rows, RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
