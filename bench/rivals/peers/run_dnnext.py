"""The same iterations by dnnext (argument: atc, diging or FL), one thread."""

import sys
import time

import numpy as np
from shared import answer, task

import dnnext
from dnnext.algorithms import NEXT, GradientTracking
from dnnext.local import FullLinearization
from dnnext.network import Network, Topology
from dnnext.problem import MLP, Problem, SquaredError


def main():
    t, form = task(), sys.argv[2]
    problem = Problem(MLP([t.n_inputs, t.hidden, 1]), SquaredError(), None, list(zip(t.x, t.y, strict=True)))
    network = Network(Topology.from_mixing(t.mixing), mixing_rounds=1)
    algorithm = NEXT(FullLinearization(), tau=1 / t.step) if form == "FL" else GradientTracking(t.step, form=form)
    clock = [time.perf_counter()]
    result = algorithm.run(
        problem, network, w0=t.w0, max_iter=t.n_iter, monitor_every=t.n_iter, warn=False,
        callbacks=[lambda s, m: clock.append(time.perf_counter())],
    )  # fmt: skip
    each = np.diff(clock[1:])  # the first holds the measurement of the start
    answer(1e3 * float(np.median(each)), float(each.sum()), result.w, f"dnnext {dnnext.__version__}, {form}",
           bytes=network.bytes)  # fmt: skip


if __name__ == "__main__":
    main()
