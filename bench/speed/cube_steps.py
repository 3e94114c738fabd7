"""Seconds of a step of layers over ranks, and the share of it that ranks wait for each other.

    mpiexec -n 8 python -m mpi4py -m bench.speed.cube_steps

A step is forward and backward of an MLP (h, 4h, h) on the cube of 2^3 ranks and on a row of 8, beside the same on one
of the ranks alone. The weights' gradients are summed while the next product is computed; the last column makes each
rank wait for that sum at once instead. Writes bench/results/cube_steps.md on rank 0. Where ranks share cores, waiting
for a message is mostly waiting for a core: no gain can exist there, and none is claimed.
"""

import argparse
import time
from itertools import pairwise

import numpy as np

from bench.machine import software
from bench.study import write_table
from dnnext.models.cube import CubeLinear, Linear1D
from dnnext.models.layer import adjoint_all, forward_all
from dnnext.models.layers import Dense
from dnnext.runtime import Cube

WIDTHS = ((64, 512), (128, 1024), (256, 2048))  # h, rows


class Clock:
    """Seconds inside the communicators of a group: their methods are wrapped in place."""

    def __init__(self, groups):
        self.seconds = 0.0
        for comm in groups:
            for name in ("allgather", "start_reduce_scatter", "allreduce", "broadcast"):
                setattr(comm, name, self.timed(getattr(comm, name)))

    def timed(self, method):
        def call(*args, **kwargs):
            begin = time.perf_counter()
            found = method(*args, **kwargs)
            self.seconds += time.perf_counter() - begin
            return self.timed(found) if callable(found) else found

        return call


def layers_of(layout, comm, sizes):
    """(layers without biases, communicators of all their groups)."""
    pairs = list(pairwise(sizes))
    if layout == "3-D":
        cube = Cube(comm, 2)
        layers = [CubeLinear(cube, k, n, "tanh", swapped=bool(i % 2), bias=False) for i, (k, n) in enumerate(pairs)]
        return layers, [*cube.along.values(), *cube.plane.values()]
    row = comm.split(0)
    splits = ("columns", "rows")
    return [Linear1D(row, k, n, "tanh", split=splits[i % 2], bias=False) for i, (k, n) in enumerate(pairs)], [row]


def at_once(layer):
    """The layer, made to wait for the sum of its weights' gradient before the next product."""
    start = layer.start_weight_adjoints

    def waited(pairs):
        found = start(pairs)()
        return lambda: found

    layer.start_weight_adjoints = waited


def step_seconds(layers, x, w, steps, clock=None):
    """(seconds of a step, share inside communicators)."""
    times, shares = [], []
    for number in range(steps + 1):
        keeps, before, begin = [{} for _ in layers], clock.seconds if clock else 0.0, time.perf_counter()
        y = forward_all(layers, w, x, keeps)
        adjoint_all(layers, w, keeps, y, None)
        if number:
            times.append(time.perf_counter() - begin)
            shares.append((clock.seconds - before) / times[-1] if clock else 0.0)
    return float(np.median(times)), float(np.median(shares))


def on_ranks(layout, comm, h, m, steps, waits):
    """`step_seconds` of a layout."""
    layers, groups = layers_of(layout, comm, (h, 4 * h, h))
    for layer in layers if waits else ():
        at_once(layer)
    rng = np.random.default_rng(0)
    w = [a for layer in layers for a in layer.init(rng)]
    return step_seconds(layers, layers[0].spread_input(np.ones((m, h))), w, steps, Clock(groups))


def alone(h, m, steps):
    """Seconds of a step on one rank."""
    layers = [Dense(n, "tanh").sized((k,)) for k, n in pairwise((h, 4 * h, h))]
    w = [a for layer in layers for a in layer.init(np.random.default_rng(0))]
    return step_seconds(layers, np.ones((m, h)), w, steps)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest width, nothing written")
    quick = parser.parse_args().quick
    from dnnext.runtime.mpi import MPICommunicator

    table = []
    with MPICommunicator(timeout=120) as comm:
        for h, m in WIDTHS[:1] if quick else WIDTHS:
            steps = 3 if quick else 8
            one = np.array(alone(h, m, steps) if comm.rank == 0 else 0.0)
            comm.broadcast(one, 0)
            for layout in ("3-D", "1-D"):
                seconds, share = on_ranks(layout, comm, h, m, steps, waits=False)
                waited, _ = on_ranks(layout, comm, h, m, steps, waits=True)
                row = [layout, str(h), str(m), *(f"{1e3 * t:.1f}" for t in (float(one), seconds))]
                table.append([*row, f"{share:.0%}", f"{1e3 * waited:.1f}"])
                if comm.rank == 0:
                    print(" | ".join(table[-1]), flush=True)
        if comm.rank == 0 and not quick:
            header = ("layout", "h", "rows", "one rank ms", "8 ranks ms", "waiting", "sum at once ms")
            words = (__doc__ or "").split("\n\n", 2)[2].strip()
            write_table("cube_steps", "Steps of layers over ranks", header, table, f"{words}\n\n{software()}.")


if __name__ == "__main__":
    main()
