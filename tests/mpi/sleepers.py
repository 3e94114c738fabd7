"""Ranks of which the last one sleeps somewhere; test_timeouts.py starts it: sleepers.py WHERE."""

import sys
import time
import warnings

import numpy as np
from mpi4py import MPI

from dnnext import DecentralizedMLPRegressor
from dnnext.runtime import AgentsLost, Runtime
from dnnext.runtime.mpi import MPICommunicator, OverMPI

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
TIMEOUT = 6.0


def sleep():
    """Longer than the others wait; they end the job."""
    if RANK == SIZE - 1:
        time.sleep(60)


def fit(x, y):
    options = {"max_iter": 3, "tol": 0.0, "topology": "ring", "engine_options": {"timeout": TIMEOUT}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DecentralizedMLPRegressor((3,), engine="mpi", random_state=0, **options).fit_local(x, y)


def main(where):
    rng = np.random.default_rng(RANK)
    x, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    begin = time.monotonic()
    try:
        if where == "fit_local":
            sleep()
            fit(x, y)
        if where == "score_local":
            model = fit(x, y)
            begin = time.monotonic()
            sleep()
            model.score_local(x, y)
        if where == "constructor":
            sleep()
            OverMPI(SIZE, timeout=TIMEOUT)
        if where == "split":
            comm = MPICommunicator(timeout=TIMEOUT)
            begin = time.monotonic()
            sleep()
            comm.split(0)
        if where == "close":
            runtime = Runtime(SIZE, MPICommunicator(timeout=TIMEOUT))
            begin = time.monotonic()
            sleep()
            runtime.close()
    except (AgentsLost, RuntimeError) as error:
        print(f"{type(error).__name__}: {error} after {time.monotonic() - begin:.1f} s", flush=True)
        raise


if __name__ == "__main__":
    main(sys.argv[1])
