"""All the cores of an agent: ``python -m bench.speed.cores [--quick] [--only WORDS]``.

Whole iterations of NEXT, and every kernel within them, on one thread and on two. Time is CPU time, that of the busiest
thread: what two free cores would take, whoever else uses this machine. With the time ``t_1`` on one thread and ``t_2``
of the busier of two,

``serial share  s = 2 t_2 / t_1 - 1``,  ``forecast on n threads  t_n = t_1 (s + (1 - s) / n)``  (Amdahl).

What no kernel does, NumPy and Python, counts as serial. The forecast of an iteration adds up those of its parts; it
knows nothing of memory that cores share, nor of waking threads. Threads of a team take whatever part is next, so on a
busy machine one of them may do the work of two, and the share that looks serial is too large where calls are short:
every call of the three iterations counts with its best time, of three times at least and as many as 2 seconds hold.

Results: bench/results/cores.md.
"""

import argparse
import os
import statistics
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bench.machine import Others, software, start_again_unpinned
from bench.study import write_table
from dnnext import kernels
from dnnext.algorithms import NEXT
from dnnext.algorithms.base import one_blas_thread
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Logistic, Problem, Softmax, SquaredError
from dnnext.runs.state import State

# name, surrogate, agents, rows of each, layers
CASES = (
    ("FL", FullLinearization(), 16, 1000, (30, 30, 2)),
    ("PL cg", PartialLinearization(solver="cg"), 16, 500, (8, 20, 1)),
    ("PL cg", PartialLinearization(solver="cg"), 16, 500, (64, 30, 10)),
    ("PL 16 blocks", PartialLinearization(n_blocks=16, solver="primal"), 1, 2000, (64, 30, 10)),
    ("FL", FullLinearization(), 1, 20000, (30, 60, 2)),
    ("PL primal", PartialLinearization(solver="primal"), 1, 20000, (8, 20, 1)),
    ("PL cg", PartialLinearization(solver="cg"), 1, 5000, (64, 30, 10)),
    ("PL 16 blocks", PartialLinearization(n_blocks=16, solver="primal"), 1, 5000, (64, 30, 10)),
    ("PL primal", PartialLinearization(solver="primal"), 1, 5000, (30, 60, 2)),
)
THREADS = (1, 2)
FORECAST = 16
ITERATIONS, LEAST = 3, 3  # of them, so many times
WORTH = 0.02  # kernels below this share of an iteration are not listed


def make(surrogate, agents, rows, layers, n_threads):
    """(algorithm, problem, network)."""
    rng = np.random.default_rng(0)
    outputs, shards = layers[-1], []
    for _ in range(agents):
        x = rng.standard_normal((rows, layers[0]))
        d = np.sin(2 * x[:, :outputs])
        if outputs > 2:
            d = np.eye(outputs)[d.argmax(axis=1)]
        shards.append((x, (d > 0).astype(float) if outputs == 1 else d))
    loss = Logistic() if outputs == 1 else Softmax() if outputs > 2 else SquaredError()
    problem = Problem(MLP(layers), loss, L2(1e-3), shards, n_threads=n_threads)
    graph = Topology.complete(1) if agents == 1 else Topology.watts_strogatz(agents, random_state=0)
    return NEXT(surrogate), problem, Network(graph, n_threads=n_threads)


def other_threads():
    """CPU seconds of every thread of this process but the one that asks; Linux, else none."""
    tasks, own = Path("/proc/self/task"), threading.get_native_id()
    if not tasks.exists():
        return {}
    clocks = {int(t): (~int(t) << 3) | 6 for t in os.listdir(tasks) if int(t) != own}
    return {t: time.clock_gettime(clock) for t, clock in clocks.items()}


def timed(call):
    """(result, seconds of the thread that computed most); looking at the others' clocks does not count."""
    before, begin = other_threads(), time.thread_time()
    result = call()
    own = time.thread_time() - begin
    return result, max(own, *(t - before.get(k, 0.0) for k, t in other_threads().items()), 0.0)


@contextmanager
def watched(seconds):
    """Every call of a kernel adds its busiest thread's seconds to the list `seconds[name]`.

    What this thread computed in kernels and in looking at clocks adds up in the list that is yielded.
    """
    inside = []
    names = [name for name in kernels.__all__ if callable(getattr(kernels, name)) and name != "info"]
    plain = {name: getattr(kernels, name) for name in names if not isinstance(getattr(kernels, name), type)}

    def watch(name, kernel):
        def call(*args, **more):
            begin = time.thread_time()
            result, taken = timed(partial(kernel, *args, **more))
            seconds.setdefault(name, []).append(taken)
            inside.append(time.thread_time() - begin)
            return result

        return call

    for name, kernel in plain.items():
        setattr(kernels, name, watch(name, kernel))
    try:
        yield inside
    finally:
        for name, kernel in plain.items():
            setattr(kernels, name, kernel)


def iterate(algorithm, problem, network, s):
    if not algorithm.fast_step(problem, network, s):
        algorithm.step(problem, network, s)
    s.t += 1


def measure(case, n_threads, budget):
    """Seconds of ITERATIONS iterations by kernel, "rest" included, each call at its best; and the weights after them.

    They are taken again and again from the same state: conjugate gradients need fewer steps as a run goes on.
    """
    algorithm, problem, network = make(*case, n_threads)
    found = []
    with one_blas_thread(), np.errstate(all="ignore"):
        start = State.at(problem, np.tile(problem.model.init(0), (problem.n_agents, 1)))
        algorithm.start(problem, start)
        end = time.perf_counter() + budget
        while len(found) < LEAST or time.perf_counter() < end:
            s, seconds = start.copy(), {}
            iterate(algorithm, problem, network, s)  # lays out what stays
            for _ in range(ITERATIONS):
                with watched(seconds) as inside:
                    begin = time.thread_time()
                    iterate(algorithm, problem, network, s)
                    own = time.thread_time() - begin
                seconds.setdefault("rest", []).append(max(0.0, own - sum(inside)))
            found.append(seconds)
    best = {name: sum(map(min, zip(*(one[name] for one in found), strict=True))) for name in found[0]}
    return {name: t / ITERATIONS for name, t in best.items()}, s.w


def serial_share(one, two):
    """s of Amdahl's law, from the times on one thread and on two."""
    return float(np.clip(2 * two / one - 1, 0, 1)) if one > 0 else 1.0


def forecast(one, share, n):
    """Time on n threads."""
    return one * (share + (1 - share) / n)


def title_of(case):
    name, _, agents, rows, layers = case
    return f"**{name}** {agents} x ({rows}, {'-'.join(map(str, layers))})"


def rows_of(case, budget):
    """Rows of the table: the iteration, then its kernels."""
    _, *rest = case
    (one, w_one), (two, w_two) = (measure(rest, k, budget) for k in THREADS)
    assert np.array_equal(w_one, w_two), "the number of threads must not change a bit"
    two["rest"] = one["rest"]
    parts = [(part, t, two.get(part, t), serial_share(t, two.get(part, t))) for part, t in one.items()]
    total, both = sum(one.values()), sum(min(t, two.get(part, t)) for part, t in one.items())
    later = sum(forecast(t, share, FORECAST) for _, t, _, share in parts)
    whole = serial_share(total, both)
    rows = [[title_of(case), total * 1e3, both * 1e3, total / both, whole, total / later]]
    for part, t, t_2, share in sorted(parts, key=lambda row: -row[1]):
        if t >= WORTH * total:
            rows.append([part, t * 1e3, t_2 * 1e3, t / max(t_2, 1e-12), share, t / forecast(t, share, FORECAST)])
    return rows


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little time per case, nothing saved")
    parser.add_argument("--only", default="", metavar="WORDS", help="cases with these words, nothing saved")
    args = parser.parse_args()
    rows = []
    with Others() as others:
        for case in (case for case in CASES if args.only in title_of(case)):
            found = rows_of(case, 0.1 if args.quick else 2)
            rows += found
            print(*found, sep="\n", flush=True)
    gains = statistics.geometric_mean(row[3] for row in rows if row[0].startswith("**"))
    print(f"two threads, geometric mean of the iterations: {gains:.2f}")
    print(f"other processes used {others.cores:.1f} cores meanwhile")
    if args.quick or args.only:
        return
    header = ["", "ms, 1 thread", "ms, 2 threads", "gain", "serial share", f"gain forecast on {FORECAST}"]
    notes = (
        f"Bold: a whole iteration, agents x (rows of each, layers); below it its kernels of at least {WORTH:.0%}, and "
        "what no kernel does (rest). CPU time of the busiest thread, every call at its best; the forecast is Amdahl's "
        f"law per kernel. Other processes used {others.cores:.1f} cores meanwhile. {software()}."
    )
    write_table("cores", "All the cores of an agent", header, rows, notes)


if __name__ == "__main__":
    main()
