"""A direction by feedback beside a gradient by backpropagation: ``python -m bench.speed.feedback [--quick]``.

Every shape of the kernel table and four deep networks, both precisions, one thread: CPU time of a call, the least of
many, both ways in turn. With one hidden layer both multiply the same shapes, B in place of W_2, so equal is all there
is to have, and 2 % is the noise of the measurement; with more, feedback has no products between hidden layers. Writes
bench/results/feedback_speed.md and .csv; ends with 1 if feedback is dearer than backpropagation by more than 2 %, or
not cheaper in a deep network.
"""

import argparse
import sys
from typing import Any

import numpy as np

from bench.machine import software
from bench.speed.kernels import gradient
from bench.speed.layers import least
from bench.study import write_table
from dnnext import kernels
from dnnext.local import Feedback
from dnnext.problem import MLP

DEEP = {
    "3x128": (1, 1400, (64, *[128] * 3, 10)),
    "6x64": (1, 1400, (64, *[64] * 6, 10)),
    "8x256": (1, 2000, (100, *[256] * 8, 10)),
    "16x128": (1, 1400, (64, *[128] * 16, 10)),
}
NOISE = 1.02
HEADER = ("shape", "agents x rows, layers", "dtype", "backpropagation us", "feedback us", "feedback / backpropagation")


def measured(agents: int, n: int, layers: tuple[int, ...], dtype: Any, seconds: float) -> list[float]:
    """Microseconds of both calls."""
    model, rng = MLP(layers), np.random.default_rng(0)
    w = np.tile(model.init(0).astype(dtype), (agents, 1))
    x, d = (rng.standard_normal((agents * n, size)).astype(dtype) for size in (layers[0], layers[-1]))
    b = np.ascontiguousarray(np.concatenate([np.empty((0, layers[-1])), *Feedback(0).matrices(model)]), dtype)
    value, grad = np.empty(agents), np.empty((agents, model.n_params), dtype)
    tail = (d, None, n * np.arange(agents + 1), layers, model.activation_code, 0, 0.0, 1 / n)
    return least(
        [
            lambda: kernels.mlp_loss_grad(value, grad, w, x, *tail),
            lambda: kernels.mlp_feedback(value, grad, w, x, b, *tail),
        ],
        seconds,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less time, nothing written")
    options, _ = parser.parse_known_args()
    rows, bad = [], []
    for name, (agents, n, layers) in {**{k: s[:3] for k, s in gradient.SHAPES.items()}, **DEEP}.items():
        for dtype in (np.float64, np.float32):
            bp, dfa = measured(agents, n, layers, dtype, 0.2 if options.quick else 1.5)
            cells = [f"{bp:.1f}", f"{dfa:.1f}", f"{dfa / bp:.3f}"]
            rows.append([name, f"{agents} x {n}, {layers}", np.dtype(dtype).name, *cells])
            print(" | ".join(rows[-1]), flush=True)
            if dfa > (1.0 if name in DEEP else NOISE) * bp:
                bad.append(rows[-1])
    if not options.quick:
        notes = f"{(__doc__ or '').split(chr(10), 2)[2].strip()}\n\n{software()}"
        write_table("feedback_speed", "A direction by feedback beside a gradient", HEADER, rows, notes)
    print(*(["dearer than it may be:", *bad] if bad else ["feedback is nowhere dearer"]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
