"""The cost of growth: ``python -m bench.speed.scaling [--quick]``.

Time per iteration of NEXT, fully (FL) and partially linearised (PL), against samples per agent, agents and parameters,
and the slope of its logarithm over the larger half: 1 is linear. In theory it is linear in samples and agents; in
parameters too, for FL and for PL while an agent has fewer rows than parameters (the dual solver, rows^2 P). Mixing
takes a fixed number of rounds, so that the graph's spectrum plays no part. One thread, and its CPU time: waiting for a
core that others use does not count.

Peak memory, each case in a process of its own that has run a small problem before (BLAS has its buffers): resident
bytes above the data during `run`, beside the bound
``8 A P 14 + 16 threads min(P, rows)^2 + buffers`` with 2 MB of buffers per thread for chunks and strips.

Results: bench/results/scaling.md, scaling-memory.md and scaling.png.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.machine import child_environment, software, start_again_unpinned
from bench.study import save_figure, write_table
from dnnext.algorithms import NEXT
from dnnext.algorithms.base import one_blas_thread
from dnnext.display.frame import STYLE
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Problem, SquaredError
from dnnext.runs.state import State

ROUNDS = 4
# what grows: [(agents, rows of each, hidden units)], 8 inputs, one output
GROWTH = {
    "samples per agent": [(10, n, 20) for n in (25, 100, 400, 1600, 6400)],
    "agents": [(a, 50, 20) for a in (10, 30, 100, 300, 1000, 10_000)],
    "parameters": [(10, 50, h) for h in (10, 40, 160, 640, 2500, 10000)],
}
# method, agents, rows, hidden units
MEMORY = (
    ("FL", 1000, 50, 200),
    ("PL", 1000, 50, 200),
    ("FL", 10, 50, 10000),
    ("PL", 10, 3000, 100),
    ("PL primal", 10, 3000, 100),
    ("PL primal", 4, 4000, 220),
    ("PL primal", 100, 500, 30),
    ("FL", 100_000, 5, 5),
    ("PL", 100_000, 5, 5),
)
BUFFERS = 2 * 2**20


def make(method, agents, rows, hidden, threads=1):
    """(algorithm, problem, network)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((agents, rows, 8))
    shards = [(xi, np.sin(2 * xi[:, :1])) for xi in x]
    penalty = L1(1e-3) if method == "FL" else L2(1e-3)
    problem = Problem(MLP([8, hidden, 1]), SquaredError(), penalty, shards, n_threads=threads)
    graph = Topology.ring(agents) if agents <= 10 else Topology.watts_strogatz(agents, random_state=0)
    partial = PartialLinearization(solver="primal" if method == "PL primal" else "auto")
    surrogate = FullLinearization() if method == "FL" else partial
    return NEXT(surrogate), problem, Network(graph, mixing_rounds=ROUNDS, n_threads=threads)


def seconds_per_iteration(case, budget):
    """Median over iterations within `budget` seconds, at least three."""
    algorithm, problem, network = make(*case)
    with one_blas_thread(), np.errstate(all="ignore"):
        s = State.at(problem, np.tile(problem.model.init(0), (problem.n_agents, 1)))
        algorithm.start(problem, s)
        times, end = [], time.perf_counter() + budget
        while len(times) < 4 or (time.perf_counter() < end and len(times) < 300):
            begin = time.thread_time()
            if not algorithm.fast_step(problem, network, s):
                algorithm.step(problem, network, s)
            times.append(time.thread_time() - begin)
            s.t += 1
    return statistics.median(times[1:]), problem.n_params


def slope(sizes, times):
    """Of log(time) over log(size), upper half."""
    k = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[k:]), np.log(times[k:]), 1)[0])


def growth(budget):
    """Table rows, and the curves of the figure."""
    rows, curves = [], {}
    for what, sizes in GROWTH.items():
        for method in ("FL", "PL"):
            found = []
            for case in sizes:
                if method == "PL" and case[2] > 2500:
                    continue
                seconds, params = seconds_per_iteration((method, *case), budget)
                size = {"samples per agent": case[1], "agents": case[0], "parameters": params}[what]
                found.append((size, seconds))
            grown, times = zip(*found, strict=True)
            curves[what, method] = found
            cells = ", ".join(f"{size}: {seconds * 1e3:.3g}" for size, seconds in found)
            rows.append([what, method, cells, slope(grown, times)])
            print(rows[-1], flush=True)
    return rows, curves


def draw(curves, versions=None):
    """One panel per thing that grows, both axes logarithmic, a linear cost dotted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(STYLE)
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(11, 3.6), constrained_layout=True)
    for ax, what in zip(axes, GROWTH, strict=True):
        for method, style in (("PL", "s-"), ("FL", "o--")):
            sizes, times = (np.array(v, float) for v in zip(*curves[what, method], strict=True))
            name = "full linearisation" if method == "FL" else "partial linearisation"
            (line,) = ax.loglog(sizes, times * 1e3, style, label=name)
            ax.loglog(sizes, times[-1] * 1e3 * sizes / sizes[-1], ":", color=line.get_color(), lw=1)
        ax.set_xlabel(what)
    axes[0].set_ylabel("ms per iteration")
    axes[0].plot([], [], "k:", lw=1, label="linear")
    axes[0].legend(frameon=False)
    for ax in axes:
        ax.grid(alpha=0.25, which="major")
    facts = (
        f"Synthetic regression, 8 inputs, tanh, {ROUNDS} mixing rounds, CPU time of one thread. Left: 10 agents, "
        "201 parameters; middle: 50 rows each, 201 parameters; right: 10 agents of 50 rows"
    )
    save_figure(figure, "scaling", facts, versions)


def resident(field):
    """VmRSS or VmHWM of this process, bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak(case, threads):
    """In a process of its own: bytes at the peak of `run` above the data."""
    algorithm, problem, network = make(case[0], 4, 400, 30, threads)  # libraries, their tables, BLAS buffers of threads
    algorithm.run(problem, network, max_iter=3, warn=False)
    algorithm, problem, network = make(*case, threads)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    result = algorithm.run(problem, network, max_iter=12, warn=False)
    objective = result.history["objective"]
    return {
        "bytes": resident("VmHWM") - before, "P": problem.n_params, "first": objective[0], "last": objective[-1],
    }  # fmt: skip


def memory(threads):
    """Table rows: case, bound, measured, ratio."""
    rows = []
    for method, agents, n, hidden in MEMORY:
        settings = json.dumps([[method, agents, n, hidden], threads])
        command = [sys.executable, "-m", "bench.speed.scaling", "--peak", settings]
        environment = child_environment(MALLOC_MMAP_THRESHOLD_="131072")  # what is freed goes back, and does not count
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
        found = json.loads(answer.stdout.splitlines()[-1])
        state, square = 8 * agents * found["P"] * 14, 16 * threads * min(found["P"], n) ** 2
        bound = state + (0 if method == "FL" else square) + threads * BUFFERS
        rows.append([
            method, agents, n, found["P"], bound / 2**20, found["bytes"] / 2**20, found["bytes"] / bound,
            f"{found['first']:.3g} to {found['last']:.3g}",
        ])  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little time per case, nothing saved")
    parser.add_argument("--only", choices=("time", "memory"), help="one half")
    parser.add_argument("--threads", type=int, default=2, help="threads of the memory cases")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        case, threads = json.loads(arguments.peak)
        print(json.dumps(peak(tuple(case), threads)))
        return
    if arguments.only != "memory":
        rows, curves = growth(0.1 if arguments.quick else 0.6)
        if not arguments.quick:
            header = ["grows", "method", "size: ms per iteration", "slope"]
            notes = (
                f"{ROUNDS} mixing rounds, CPU time of one thread; slope of the larger half, 1 is linear. {software()}."
            )
            write_table("scaling", "Time per iteration as the problem grows", header, rows, notes)
            draw(curves)
    if arguments.only != "time":
        rows = memory(arguments.threads)
        header = ["method", "agents", "rows each", "P", "bound MB", "peak MB", "peak / bound", "objective"]
        notes = (
            f"Resident memory above the data at its peak within 12 iterations, {arguments.threads} threads; bound: "
            "8 A P 14 + 16 threads min(P, rows)^2 (PL) + 2 MB per thread. MALLOC_MMAP_THRESHOLD_=131072: left alone, "
            f"glibc keeps up to 25 MB of what was freed. {software()}."
        )
        if not arguments.quick:
            write_table("scaling-memory", "Peak memory beside the bound", header, rows, notes)


if __name__ == "__main__":
    main()
