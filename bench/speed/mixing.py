"""Mixing rounds beside SciPy's sparse and NumPy's dense product: ``python -m bench.speed.mixing [--quick]``.

One plain round, and the Chebyshev rounds of one iteration, of (agents, P) rows in float64 and float32. All do the same
arithmetic and are compared first. ``limit``: copying the rows once, what a call takes at least that reads and writes
them; medians of interleaved calls in CPU time of one thread. Results: bench/results/mixing.md.
"""

import argparse
import itertools
import statistics
import time

import numpy as np
import scipy.sparse as sp

from bench.machine import software, start_again_unpinned
from bench.study import RESULTS, write_table
from dnnext import kernels
from dnnext.algorithms.base import one_blas_thread
from dnnext.network import Network, Topology

CASES = (
    ("Erdos-Renyi", 10, 101), ("Erdos-Renyi", 10, 2000), ("Erdos-Renyi", 32, 2000), ("complete", 32, 2000),
    ("geometric", 100, 2000), ("small world", 100, 20000), ("small world", 1000, 2000),
)  # fmt: skip


def graph_of(name, agents):
    """The graph of a case."""
    return {
        "Erdos-Renyi": lambda: Topology.erdos_renyi(agents, random_state=0),
        "complete": lambda: Topology.complete(agents),
        "geometric": lambda: Topology.random_geometric(agents, random_state=0),
        "small world": lambda: Topology.watts_strogatz(agents, random_state=0),
    }[name]()


def with_product(product, rows, rounds, spare):
    """The rounds in NumPy: product(v) is C times v, an array that may be written to; spare: memory for one more."""
    before, now = None, rows
    for scale, shift, memory in rounds:
        after = product(now)
        if (scale, shift, memory) != (1, 0, 0):
            after *= scale
            after += np.multiply(now, shift, out=spare)
        if before is not None and memory:
            after += np.multiply(before, memory, out=spare)
        before, now = now, after
    return now


def dense_product(dense, like):
    """Into three arrays that take turns."""
    turns = itertools.cycle([np.empty_like(like) for _ in range(3)])
    return lambda v: np.matmul(dense, v, out=next(turns))


def medians(functions, seconds):
    """Median microseconds of each, called in turn; short ones many times."""
    counts = []
    for function in functions:
        function()
        begin = time.thread_time()
        function()
        counts.append(max(1, int(1e-3 / max(1e-6, time.thread_time() - begin))))
    times = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for function, mine, count in zip(functions, times, counts, strict=True):
            begin = time.thread_time()
            for _ in range(count):
                function()
            mine.append((time.thread_time() - begin) / count * 1e6)
    return [statistics.median(mine) for mine in times]


def measure(name, agents, params, dtype, seconds):
    """Two table rows: one round, and those of an iteration."""
    network = Network(graph_of(name, agents))
    mixing = network.topology.mixing
    csr = mixing.indptr.astype(np.int64), mixing.indices.astype(np.int64), mixing.data.astype(dtype)
    sparse, dense = sp.csr_array(mixing.astype(dtype)), mixing.toarray().astype(dtype)
    z = np.random.default_rng(0).standard_normal((agents, params)).astype(dtype)
    out, held = np.empty_like(z), np.empty_like(z)
    cases = [np.array([[1.0, 0.0, 0.0]])]
    if network.rounds_per_mix > 1:
        cases.append(network._coefficients)
    for rounds in cases:
        numbers, spare, product = rounds.tolist(), np.empty_like(z), dense_product(dense, z)
        functions = [
            lambda: kernels.network_mix(out, None, None, z, *csr, rounds),  # noqa: B023
            lambda: with_product(sparse.__matmul__, z, numbers, spare),  # noqa: B023
            lambda: with_product(product, z, numbers, spare),  # noqa: B023
            lambda: np.copyto(held, z),
        ]
        functions[0]()
        gap = max(np.abs(out - f()).max() for f in functions[1:3])
        if not gap < (1e-12 if dtype is np.float64 else 1e-5):
            raise SystemExit(f"{name} {agents} x {params}: results differ by {gap:.1e}.")
        found = medians(functions, seconds)
        ratio = min(found[1:3]) / found[0]
        yield [
            name, agents, params, np.dtype(dtype).name, len(csr[1]) / agents, len(rounds), *found, ratio,
            found[3] / found[0],
        ]  # fmt: skip


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little time per case, nothing saved")
    arguments = parser.parse_args()
    rows = []
    with one_blas_thread():
        for name, agents, params in CASES:
            for dtype in (np.float64, np.float32):
                for row in measure(name, agents, params, dtype, 0.2 if arguments.quick else 0.6):
                    rows.append(row)
                    print(row, flush=True)
    header = [
        "graph", "A", "P", "dtype", "stored per row", "rounds", "ours", "scipy csr", "dense", "copy",
        "best peer / ours", "copy / ours",
    ]  # fmt: skip
    if not arguments.quick:
        notes = f"Microseconds of CPU time, medians of interleaved calls, one thread. {software()}."
        write_table("mixing", "Mixing rounds beside NumPy and SciPy", header, rows, notes)
        (RESULTS / "mixing.csv").unlink()


if __name__ == "__main__":
    main()
