"""``python -m bench.speed.layers [--quick]``: convolutions beside PyTorch on the CPU, dense chains beside the MLP.

A call is loss and gradient of a small net: two convolutions 3 x 3 with tanh, mean 2 x 2, dense, squared error. All are
timed in turn in one process, arrays made before. One thread: CPU time, the least of many calls, which a shared host
changes little; two threads: time of the clock, the least, which counts on an idle machine only.
The last columns are the flops of the call beside those of a 1000^3 product, and the cost of a direction of the inputs:
values, tangents and both adjoints beside plain backpropagation. PyTorch is optional. Writes bench/results/layers.md.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bench.machine import software
from bench.study import RESULTS, markdown
from dnnext import kernels
from dnnext.models import MLP, AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows

try:
    import torch
except ImportError:
    torch = None

IMAGES = [(1, 8, 8, 16, 256), (1, 16, 16, 16, 128), (8, 16, 32, 32, 64), (1, 28, 8, 16, 128), (3, 32, 16, 32, 64)]
DENSE = [((64, 40, 10), 500), ((784, 50, 10), 500), ((30, 50, 50, 3), 1000)]


def least(calls: list[Callable[[], Any]], seconds: float, threads: int = 1) -> list[float]:
    """Microseconds of every call, the least of many, in turn."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    best, stop = [np.inf] * len(calls), time.perf_counter() + seconds
    for call in calls:
        call()
    while time.perf_counter() < stop or max(best) == np.inf:
        for k, call in enumerate(calls):
            start = clock()
            call()
            best[k] = min(best[k], 1e6 * (clock() - start))
    return best


def peak(dtype: Any, threads: int, seconds: float) -> float:
    """Flops per nanosecond of NumPy's 1000^3 product."""
    a = np.ones((1000, 1000), dtype)
    out = np.empty_like(a)
    with threadpool_limits(threads, user_api="blas"):
        return 2e6 / least([lambda: np.matmul(a, a, out=out)], seconds, threads)[0]


def theirs(shape: tuple[int, ...], x: Any, target: Any, threads: int) -> Callable[[], Any]:
    """The same net and loss in PyTorch."""
    channels, size, first, second, _ = shape
    kind = torch.float32 if x.dtype == np.float32 else torch.float64
    torch.set_num_threads(threads)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(channels, first, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(first, second, 3, padding=1),
        torch.nn.Tanh(), torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(second * (size // 2) ** 2, 10),
    ).to(kind)  # fmt: skip
    images, wanted, parts = torch.from_numpy(x), torch.from_numpy(target), list(net.parameters())

    def call() -> Any:
        loss = 0.5 * (net(images) - wanted).pow(2).sum()
        return torch.autograd.grad(loss, parts)

    return call


def image_row(shape: tuple[int, ...], dtype: Any, threads: int, top: float, seconds: float) -> list[str]:
    channels, size, first, second, n = shape
    rng = np.random.default_rng(0)
    layers = [Conv2d(first, 3, padding=1, activation="tanh"), Conv2d(second, 3, padding=1, activation="tanh")]
    net = Chain([*layers, AvgPool2d(2), Flatten(), Dense(10)], (channels, size, size))
    x, target = rng.random((n, channels, size, size)).astype(dtype), rng.random((n, 10)).astype(dtype)
    w, rows, v = net.init(0, dtype)[None], Rows(x, np.array([0, n]), threads), rng.random((1, *x.shape)).astype(dtype)
    value, grad = np.empty(1), np.empty_like(w)
    rest = (target, None, kernels.LOSSES["squared_error"], 0.0, 1.0, value, grad)
    calls = [lambda: net.loss_grad(w, rows, *rest), lambda: net.tangent_loss_grad(w, rows, v, None, 0.1, *rest)]
    if torch is not None:
        calls.append(theirs(shape, x, target, threads))
    found = least(calls, seconds, threads)
    flops = 2 * n * size**2 * 9 * (2 * channels * first + 3 * first * second) + 6 * n * second * size**2 / 4 * 10
    peer = ["-", "-"] if torch is None else [f"{found[2]:.0f}", f"{found[0] / found[2]:.2f}"]
    name = f"{channels} x {size} x {size}, {first} and {second} filters, {n} rows"
    fraction = flops / found[0] / 1e3 / top
    ends = [f"{fraction:.0%}", f"{found[1] / found[0]:.2f}"]
    return [name, np.dtype(dtype).name, str(threads), f"{found[0]:.0f}", *peer, *ends]


def dense_row(layers: tuple[int, ...], n: int, dtype: Any, seconds: float) -> list[str]:
    rng = np.random.default_rng(0)
    mlp = MLP(layers)
    chain = Chain([*(Dense(h, "tanh") for h in layers[1:-1]), Dense(layers[-1])], layers[0])
    x, target = rng.random((n, layers[0])).astype(dtype), rng.random((n, layers[-1])).astype(dtype)
    w, rows, v = mlp.init(0, dtype=dtype)[None], Rows(x, np.array([0, n])), rng.random((1, *x.shape)).astype(dtype)
    rest = (target, None, kernels.LOSSES["squared_error"], 0.0, 1.0, np.empty(1), np.empty_like(w))
    found = least(
        [
            lambda: mlp.loss_grad(w, rows, *rest),
            lambda: chain.loss_grad(w, rows, *rest),
            lambda: chain.tangent_loss_grad(w, rows, v, None, 0.1, *rest),
        ],
        seconds,
    )
    cells = [f"{found[0]:.0f}", f"{found[1]:.0f}", f"{found[1] / found[0]:.2f}", f"{found[2] / found[1]:.2f}"]
    return [str(layers), np.dtype(dtype).name, str(n), *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less time, nothing written")
    seconds = 0.3 if parser.parse_args().quick else 2.0
    images, dense = [], []
    with threadpool_limits(1, user_api="blas"):
        for dtype in (np.float32, np.float64):
            for threads in (1, 2):
                top = peak(dtype, threads, 1.0)
                for shape in IMAGES:
                    images.append(image_row(shape, dtype, threads, top, seconds))
                    print(" | ".join(images[-1]), flush=True)
            for layers, n in DENSE:
                dense.append(dense_row(layers, n, dtype, seconds))
                print(" | ".join(dense[-1]), flush=True)
    if seconds < 1:
        return
    header = (
        "images",
        "dtype",
        "threads",
        "ours us",
        "PyTorch us",
        "ours / PyTorch",
        "of a product",
        "with a direction",
    )
    other = ("layers", "dtype", "rows", "MLP us", "chain us", "chain / MLP", "with a direction")
    tables = f"{markdown(header, images)}\n\n{markdown(other, dense)}"
    facts = f"{software()}; kernels: {kernels.info()['cpu_path']}; PyTorch {torch.__version__ if torch else 'absent'}"
    words = (__doc__ or "").split("\n", 2)[2].strip()
    (RESULTS / "layers.md").write_text(f"# Layers beside their peers\n\n{words}\n\n{tables}\n\n{facts}.\n")


if __name__ == "__main__":
    main()
