"""10^5 iterations without growth of memory or file handles, the drift of the tracker, and checkpoints that are killed.

nice python -m bench.robustness.soak [--iterations 100000] [--kills 50] [--minutes 30] [--only "fixed graph"]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.robustness.report import RESULTS, write_page
from dnnext.algorithms import NEXT
from dnnext.network import Faults, KnownLoss, Network, RunningSums, Schedule, Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint

A = 4
NET = Topology.ring(A)
SINGLE = "fixed graph, float32"
NETWORKS = {
    "fixed graph": lambda: Network(NET),
    SINGLE: lambda: Network(NET),
    "schedule, links fail": lambda: Network(Schedule.link_failures(NET, 0.3, random_state=0), mixing_rounds=2),
    "known loss 20 %": lambda: KnownLoss(NET, Faults(0.2, random_state=0)),
    "running sums, loss 20 %": lambda: RunningSums(NET, Faults(0.2, delay=1, duplicate=0.1, random_state=0)),
}
PLACE = RESULTS / "soak.json"


def a_problem(dtype="float64"):
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((12, 3)), rng.standard_normal(12)) for _ in range(A)]
    return Problem(MLP([3, 3, 1]), SquaredError(), L2(1e-3), shards, dtype=dtype)


def memory():
    """Resident megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def files():
    return len(os.listdir("/proc/self/fd"))


def soak(name, iterations, seconds):
    """One long run."""
    problem, network, seen = a_problem("float32" if name == SINGLE else "float64"), NETWORKS[name](), []

    def watch(state, metrics):
        if state.t % max(1, iterations // 20) == 0:
            if isinstance(network, RunningSums):
                gap = network.tracked(state.y)[0] / A - state.grad.mean(0)
            else:
                gap = state.y.mean(0, dtype=np.float64) - state.grad.mean(0, dtype=np.float64)
            seen.append((memory(), files(), float(np.abs(gap).max())))

    w0 = problem.model.init(0)[None].repeat(A, 0).astype(problem.dtype)
    start = np.abs(problem.grad(w0).mean(0)).max()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = NEXT(step=0.5).run(
            problem, network, max_iter=iterations, monitor_every=1000, max_time=seconds, warn=False,
            callbacks=[watch, Checkpoint(folder, every=1000)],
        )  # fmt: skip
    first = seen[min(2, len(seen) - 1)]
    return {
        "network": name, "iterations": result.n_iter, "memory_first": first[0], "memory_last": seen[-1][0],
        "files_first": first[1], "files_last": seen[-1][1], "drift": max(gap for *_, gap in seen) / float(start),
        "seconds": time.perf_counter() - begin, "status": result.status,
    }  # fmt: skip


ITERATIONS = 400


def victim(folder):
    """The run that is killed: a checkpoint after every iteration."""
    NEXT().run(a_problem(), Network(NET), max_iter=ITERATIONS, warn=False, callbacks=[Checkpoint(folder, every=1)])


def kill(n):
    """What is left of a run that is killed at a random moment."""
    rng, whole = random.Random(0), NEXT().run(a_problem(), Network(NET), max_iter=ITERATIONS, warn=False)
    count = {"kills": 0, "loaded": 0, "none": 0, "broken": 0, "resumed": 0, "bitwise": 0}
    for _ in range(n):
        with tempfile.TemporaryDirectory() as folder:
            child = subprocess.Popen([sys.executable, "-m", "bench.robustness.soak", "--victim", folder])
            while child.poll() is None and not any(name.endswith(".npz") for name in os.listdir(folder)):
                time.sleep(0.002)  # until there is a first one
            time.sleep(rng.uniform(0, 0.6))
            child.send_signal(signal.SIGKILL)
            child.wait()
            count["kills"] += 1
            try:
                snapshot = checkpoint.read(folder, a_problem().runtime)
            except ValueError as error:
                written = [name for name in os.listdir(folder) if name.endswith(".npz")]
                count["broken" if written else "none"] += 1
                print(error)
                continue
            count["loaded"] += 1
            problem = a_problem()
            if snapshot.numbers["t"] < ITERATIONS:
                rest = NEXT().run(problem, Network(NET), max_iter=ITERATIONS, resume=snapshot, warn=False)
                count["resumed"] += 1
                count["bitwise"] += bool((rest.w == whole.w).all() and (rest.y == whole.y).all())
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--only", choices=list(NETWORKS), help="this network alone; the others' figures stay")
    parser.add_argument("--victim", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.victim:
        return victim(args.victim)
    kept = json.loads(PLACE.read_text()) if PLACE.exists() and args.only else {"runs": []}
    end = time.monotonic() + args.minutes * 60
    if args.kills:
        kept["kills"] = kill(args.kills)
        print(kept["kills"], flush=True)
    names = [args.only] if args.only else list(NETWORKS)
    for k, name in enumerate(names):
        run = soak(name, args.iterations, (end - time.monotonic()) / (len(names) - k))
        kept["runs"] = [other for other in kept["runs"] if other["network"] != name] + [run]
        kept["runs"].sort(key=lambda run: list(NETWORKS).index(run["network"]))
        print(run, flush=True)
        PLACE.write_text(json.dumps(kept, indent=1))
    write_page()
    return None


if __name__ == "__main__":
    sys.exit(main())
