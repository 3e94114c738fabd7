"""disropt's GradientTracking (GPL; used, not copied) over MPI, one rank per agent, with a NumPy cost."""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
from disropt.agents import Agent
from disropt.algorithms.gradient_tracking import GradientTracking
from mpi4py import MPI
from shared import answer, task, timed


def main():
    t, comm = task(), MPI.COMM_WORLD
    i = comm.Get_rank()
    neighbours = [int(j) for j in np.flatnonzero(t.mixing[i]) if j != i]
    weights = t.mixing[i].tolist()
    agent = Agent(in_neighbors=neighbours, out_neighbors=list(neighbours), in_weights=weights, auto_local=False)
    agent.problem = SimpleNamespace(
        objective_function=SimpleNamespace(subgradient=lambda w: t.gradient(i, w.ravel()).reshape(w.shape))
    )
    algorithm = GradientTracking(agent, t.w0.reshape(-1, 1).copy())
    comm.Barrier()
    ms, seconds = timed(lambda k: algorithm.iterate_run(stepsize=t.step * t.n_agents), t.n_iter)
    rows = comm.gather(algorithm.x.ravel(), root=0)
    if i == 0:
        answer(ms, seconds, rows, f"disropt {version('disropt')}")


if __name__ == "__main__":
    main()
