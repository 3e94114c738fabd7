"""Every kernel beside its NumPy twin, one thread: medians of interleaved calls, in microseconds.

python -m bench.speed.kernels [--only WORD] [--threads N] [--seconds S]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from threadpoolctl import ThreadpoolController, threadpool_limits

from bench.machine import start_again_unpinned
from dnnext import kernels
from dnnext.kernels import reference

# agents, rows per agent, layers
SHAPES = {
    "tiny": (10, 50, (8, 10, 1)),
    "small": (10, 500, (8, 20, 1)),
    "deep": (4, 1000, (20, 20, 20, 3)),
    "medium": (2, 1000, (30, 30, 2)),
    "large": (1, 5000, (64, 100, 10)),
    "mnist": (1, 6000, (784, 100, 10)),
}
Call = tuple[str, str, tuple[object, ...]]


def mlp_calls(name: str, dtype: type) -> Iterator[Call]:
    """Calls on one shape of network and data."""
    agents, rows, layers = SHAPES[name]
    rng = np.random.default_rng(0)
    real = lambda *shape: (rng.standard_normal(shape) * 0.5).astype(dtype)  # noqa: E731
    params = sum((a + 1) * b for a, b in pairwise(layers))
    n, outputs = agents * rows, layers[-1]
    x, w, v, u, target = (
        real(n, layers[0]),
        real(agents, params),
        real(agents, params),
        real(n, outputs),
        real(n, outputs),
    )
    offsets = np.arange(agents + 1, dtype=np.int64) * rows
    net = (offsets, layers, kernels.ACTIVATIONS["tanh"])
    one_hot = np.eye(outputs, dtype=dtype)[rng.integers(0, outputs, n)]
    loss, goal = (("squared_error", target), ("softmax", one_hot))[outputs > 1]
    code = kernels.LOSSES[loss]
    yield "mlp_forward", name, (np.empty_like(u), w, x, *net)
    yield (
        "mlp_loss_grad",
        f"{name} {loss}",
        (np.empty(agents), np.empty_like(w), w, x, goal, None, *net, code, 1.0, 1 / n),
    )
    yield "mlp_jv", name, (np.empty_like(u), w, x, v, *net)
    yield "mlp_jtu", name, (np.empty_like(w), w, x, u, *net)
    if params > 3000:
        return
    whole, fine = np.array([0, params]), np.arange(params + 1)
    for blocks, word in ((whole, "one block"), (fine, "diagonal")):
        packed = int(np.sum(np.diff(blocks) ** 2))
        yield "mlp_gauss_newton", f"{name} {word}", (np.empty((agents, packed), dtype), w, x, u, *net, blocks)
        yield "mlp_gauss_newton_product", f"{name} {word}", (np.empty_like(w), w, x, u, v, *net, blocks)
    yield (
        "mlp_jacobian",
        name,
        (np.empty((rows * outputs, params), dtype), w[:1], x[:rows], u[:rows], layers, net[2]),
    )


def row_calls(agents: int, params: int, dtype: type) -> Iterator[Call]:
    """Calls on rows of parameters."""
    rng = np.random.default_rng(0)
    real = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    name = f"A={agents} P={params}"
    v, l1, l2 = real(agents, params), np.full(params, 0.1, dtype), np.full(params, 0.1, dtype)
    none = np.empty((0, 2), np.int64)
    start = np.arange(0, params - 9, 10, dtype=np.int64)
    groups = np.stack([start, start + 10], axis=1)
    s = np.full(agents, 0.5, dtype)
    yield "penalty_prox", f"{name} elastic net", (np.empty_like(v), v, s, l1, l2, none, np.empty(0, dtype))
    yield (
        "penalty_prox",
        f"{name} groups",
        (np.empty_like(v), v, s, l1, l2, groups, np.full(len(groups), 0.1, dtype)),
    )
    near = sp.random_array((agents, agents), density=min(1.0, 6 / agents), format="csr", rng=rng)
    csr = (near.indptr.astype(np.int64), near.indices.astype(np.int64), near.data.astype(dtype))
    yield "csr_mix", name, (np.empty_like(v), v, *csr, real(agents, params), 1.5, -0.5, -0.2)


def solve_calls(agents: int, params: int, n_blocks: int, dtype: type) -> Iterator[Call]:
    """Calls on block matrices."""
    rng = np.random.default_rng(0)
    blocks = np.linspace(0, params, n_blocks + 1).astype(np.int64)
    parts = []
    for size in np.diff(blocks):
        half = rng.standard_normal((agents, size + 5, size))
        parts.append((half.transpose(0, 2, 1) @ half / size).reshape(agents, -1))
    b = np.ascontiguousarray(np.concatenate(parts, axis=1), dtype)
    real = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    name = f"A={agents} P={params} blocks={n_blocks}"
    rhs, diag = real(agents, params), np.ones((agents, params), dtype)
    yield "block_product", name, (np.empty_like(rhs), b, rhs, blocks)
    # b is overwritten: each call starts from what the last one left, plus a large diagonal, and stays positive definite
    yield "spd_solve", name, (np.empty_like(rhs), np.empty(agents, np.int64), b.copy(), diag * params, rhs, blocks)
    small = np.full(params, 0.1, dtype)
    none = np.empty((0, 2), np.int64)
    yield (
        "descent_solve",
        name,
        (rhs.copy(), np.empty(agents, np.int64), b, diag[:, 0].copy(), rhs, rhs, small, small, none,
         np.empty(0, dtype), blocks, 2, 0.0),
    )  # fmt: skip


def calls(dtype: type) -> Iterator[Call]:
    """Everything that is measured."""
    for name in SHAPES:
        yield from mlp_calls(name, dtype)
    for agents, params in ((10, 101), (10, 2000), (100, 2000)):
        yield from row_calls(agents, params, dtype)
    for agents, params, n_blocks in ((10, 101, 1), (4, 600, 1), (4, 600, 8)):
        yield from solve_calls(agents, params, n_blocks, dtype)


def interleaved(functions: list[Callable[[], object]], seconds: float) -> list[float]:
    """Median microseconds of each function, called in turn."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for function, mine in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            mine.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(mine) for mine in times]


def main() -> None:
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="kernels or shapes whose row contains this word")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each row")
    arguments = parser.parse_args()
    for library in ThreadpoolController().info():
        if library["user_api"] == "blas":
            print(f"{library['internal_api']} {library['version']} {library['architecture']}: {library['filepath']}")
    print(kernels.info())
    print(f"{'kernel':26}{'shape':28}{'dtype':9}{'ours us':>12}{'NumPy us':>12}{'ratio':>8}")
    with threadpool_limits(1):
        for dtype in (np.float64, np.float32):
            for kernel, name, given in calls(dtype):
                row = f"{kernel:26}{name:28}{np.dtype(dtype).name:9}"
                if arguments.only not in row:
                    continue
                ours, twin = getattr(kernels, kernel), getattr(reference, kernel)
                pair = [lambda: ours(*given, n_threads=arguments.threads), lambda: twin(*given)]  # noqa: B023
                mine, numpy = interleaved(pair, arguments.seconds)
                print(f"{row}{mine:12.1f}{numpy:12.1f}{numpy / mine:8.2f}", flush=True)


if __name__ == "__main__":
    main()
