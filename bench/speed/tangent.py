"""The neural tangent kernel of a network, beside torch.func and JAX on the same CPU: ``python -m bench.speed.tangent``.

One thread each, float64; every rival is compiled and warmed up first, forms rows of the Jacobian by vectorised reverse
mode, then multiplies them, as their documentation shows it; NumPy multiplies explicit Jacobians from our own kernel.
Medians of runs in turn. Results: bench/results/tangent.md and .csv; ends with 1 if a kernel is off by 1e-12 of its
largest entry, or a rival is ahead.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.study import write_table
from dnnext import kernels
from dnnext.models import MLP, NeuralTangentKernel

SHAPES = {
    "one output": ((20, 50, 1), 200),
    "wide": ((20, 512, 1), 200),
    "ten outputs": ((64, 100, 10), 60),
    "deep": ((64, 64, 64, 64, 1), 200),
    "images": ((784, 100, 1), 200),
}
Kernel = Callable[[], Any]


def single_threaded() -> None:
    """For torch's and JAX's libraries, which are loaded later."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def explicit(model: MLP, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    j = np.empty((len(x) * model.n_outputs, model.n_params))
    root = np.ones((len(x), model.n_outputs))
    kernels.mlp_jacobian(j, w[None], x, root, model.layers, model.activation_code)
    return j @ j.T


def by_torch(model: MLP, w: np.ndarray, x: np.ndarray) -> Kernel | None:
    try:
        import torch
        from torch.func import jacrev, vmap
    except ImportError:
        return None
    torch.set_num_threads(1)
    parts = tuple(torch.tensor(a) for pair in model.unpack(w) for a in pair)
    rows = torch.tensor(x)

    def output(parts: Any, row: Any) -> Any:
        a = row
        for k in range(0, len(parts), 2):
            a = a @ parts[k] + parts[k + 1]
            if k + 2 < len(parts):
                a = torch.tanh(a)
        return a

    def kernel() -> Any:
        with torch.no_grad():
            jacobians = vmap(jacrev(output), (None, 0))(parts, rows)
            flat = [j.flatten(2) for j in jacobians]
            return sum(torch.einsum("nap,mbp->namb", j, j) for j in flat).reshape(len(x) * model.n_outputs, -1).numpy()

    return kernel


def by_jax(model: MLP, w: np.ndarray, x: np.ndarray) -> Kernel | None:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    parts = [jnp.asarray(a) for pair in model.unpack(w) for a in pair]

    def output(parts: Any, row: Any) -> Any:
        a = row
        for k in range(0, len(parts), 2):
            a = a @ parts[k] + parts[k + 1]
            a = jnp.tanh(a) if k + 2 < len(parts) else a
        return a

    @jax.jit
    def kernel(parts: Any, rows: Any) -> Any:
        jacobians = jax.vmap(jax.jacrev(output), (None, 0))(parts, rows)
        flat = [j.reshape(len(x) * model.n_outputs, -1) for j in jacobians]
        return sum(j @ j.T for j in flat)

    rows = jnp.asarray(x)
    return lambda: np.asarray(kernel(parts, rows))


def main() -> int:
    single_threaded()
    table: list[list[Any]] = []
    failures: list[str] = []
    for name, (layers, n) in SHAPES.items():
        model, rng = MLP(layers), np.random.default_rng(0)
        w, x = model.init(0), rng.standard_normal((n, layers[0]))
        kernel = NeuralTangentKernel(model, w)
        runs: dict[str, Kernel | None] = {
            "dnnext": lambda kernel=kernel, x=x: kernel(x), "NumPy": lambda m=model, w=w, x=x: explicit(m, w, x),
            "torch.func": by_torch(model, w, x), "JAX": by_jax(model, w, x),
        }  # fmt: skip
        present = {rival: run for rival, run in runs.items() if run is not None}
        wanted = explicit(model, w, x)
        off = {rival: np.max(np.abs(run() - wanted)) / np.max(np.abs(wanted)) for rival, run in present.items()}
        seconds: dict[str, list[float]] = {rival: [] for rival in present}
        for _ in range(9):
            for rival, run in present.items():
                begin = time.perf_counter()
                run()
                seconds[rival].append(time.perf_counter() - begin)
        medians = {rival: float(np.median(took)) for rival, took in seconds.items()}
        row = [name, str(layers), n, *(round(1e3 * medians[r], 3) if r in medians else None for r in runs)]
        ahead = min((medians[r] / medians["dnnext"] for r in ("torch.func", "JAX") if r in medians), default=None)
        table.append([*row, ahead and round(ahead, 1), f"{off['dnnext']:.1e}"])
        if off["dnnext"] > 1e-12 or (ahead is not None and ahead < 1):
            failures.append(name)
    clocks = [f"{rival} (ms)" for rival in ("dnnext", "NumPy", "torch.func", "JAX")]
    header = ["shape", "layers", "rows", *clocks, "ahead of the better", "distance to J J'"]
    write_table("tangent", "The neural tangent kernel", header, table, __doc__.split("\n\n", 1)[1])
    print("behind, or off:" if failures else "ahead everywhere", *failures)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
