"""A run on ranks in which the last one gets into trouble; test_faults.py starts it: faults.py TROUBLE FOLDER."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import dnnext.runs.checkpoint
from dnnext.algorithms import NEXT
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import InProcess

N_AGENTS, NET, AT = 6, Topology.ring(6), 12


def solve(runtime, net=NET, **options):
    shards = []
    for agent in runtime.agents:
        rng = np.random.default_rng([3, agent])
        shards.append((rng.standard_normal((10, 3)), rng.standard_normal((10, 1))))
    problem = Problem(MLP((3, 4, 1)), SquaredError(), L2(alpha=1e-2), shards, runtime=runtime)
    return NEXT().run(problem, Network(net, runtime=runtime), warn=False, **options)


def fail_to_write(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def trouble(kind, runtime, folder):
    """What happens after iteration AT."""
    last = runtime.rank == runtime.n_ranks - 1
    if last:
        (folder / "pid").write_text(str(os.getpid()))
    if kind == "exception" and last:
        raise RuntimeError("the last rank's own trouble")
    if (kind in ("kill", "apart") or "shrink" in kind) and last:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stop" and last:
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "full" and last:
        dnnext.runs.checkpoint.os.fsync = fail_to_write
    if kind == "exit" and last:
        sys.exit(3)


def main(kind, folder):
    from dnnext.runtime.mpi import OverMPI

    folder = Path(folder)
    runtime = OverMPI(N_AGENTS, timeout=5, on_failure="shrink" if kind == "apart" or "shrink" in kind else "stop")

    def watch(state, metrics):
        if state.t == AT:
            trouble(kind, runtime, folder)
        if kind == "interrupt":
            (folder / f"at-{runtime.rank}").write_text(str(state.t))
            time.sleep(0.01)

    length = 10**6 if kind == "interrupt" else 30
    net = Topology(Topology.star(N_AGENTS).adjacency[::-1, ::-1]) if kind == "apart" else NET
    try:
        result = solve(runtime, net, max_iter=length, callbacks=[watch, Checkpoint(folder / "run", every=5)])
    except dnnext.runtime.AgentsLost:
        # mpiexec of Open MPI 5 may hang, or return 0, where two ranks call MPI_Abort at once after a third has died
        time.sleep(1.5 * runtime.rank if kind == "apart" else 0)
        raise
    print(result.status, result.n_iter, flush=True)
    if "shrink" in kind:
        left = result.problem.runtime
        invariant = left.sum_agents(result.y) - left.sum_agents(result.problem.grad(result.w))
        rows = left.max_agents(np.full((len(left.agents), 2), len(result.history["iteration"])) * [1, -1])
        print(result.agents.tolist(), float(np.abs(invariant).max()) < 1e-12, rows[0] == -rows[1], flush=True)
        print(result.warning, result.history["objective"].tolist(), flush=True)

    if kind == "shrink, then an error" and runtime.rank == 0:
        raise RuntimeError("an error of the script")
    if kind == "shrink, then silence":
        (folder / f"pid-{runtime.rank}").write_text(str(os.getpid()))
        if runtime.rank == 0:  # has no farewell to say until the other is gone
            for _ in range(300):
                time.sleep(0.1)
                if (folder / "pid-1").exists() and not Path("/proc", (folder / "pid-1").read_text()).exists():
                    print("the other did not wait for ever", flush=True)
                    break


def resume(folder, max_iter):
    """The rest of the run in one process."""
    runtime = InProcess(N_AGENTS)
    return solve(runtime, max_iter=max_iter, resume=dnnext.runs.checkpoint.read(Path(folder) / "run", runtime))


if __name__ == "__main__":
    main(*sys.argv[1:])
