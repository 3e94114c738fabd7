"""Words and modelled time of the linear layers of a transformer block over P ranks: 1-D, 2-D and 3-D.

    python -m bench.tensor_parallel

Formulas for P = 8 to 4096 at the sizes of large models, beside words counted by ranks (threads) that run small ones. No
time is measured: see the notes under the table for the machine that is assumed.
"""

import argparse
from itertools import pairwise

import numpy as np

from bench.study import save_figure, write_table
from dnnext.display.frame import MUTED, OURS
from dnnext.models import volumes
from dnnext.models.cube import CubeLinear, Linear1D, Linear2D
from dnnext.models.layer import adjoint_all, forward_all
from dnnext.runtime import Cube, Square, threads

SHAPES = ((3072, 12288), (8192, 8192), (2048, 32768))  # width h, rows M = batch x sequence
RANKS = (8, 16, 64, 256, 512, 1024, 4096)
LAYOUTS = ("1d", "2d", "3d")
ALPHA, BETA, GAMMA = 5e-6, 2 / 6e9, 1 / 50e12  # 5 us per message, 6 GB/s in half precision, 50 Tflop/s


def block(h):
    """(1-D split, inputs, outputs) of the four linear layers: attention's two, then the two of the MLP."""
    return (("columns", h, 3 * h), ("rows", h, h), ("columns", h, 4 * h), ("rows", 4 * h, h))


def fits(layout, P):
    """Whether P ranks are a square or a cube, where the layout needs one."""
    power = {"1d": 1, "2d": 2, "3d": 3}[layout]
    return round(P ** (1 / power)) ** power == P


def total(layout, h, m, P, what):
    """Words, or modelled seconds, of one block, forward and backward; None where P does not fit."""
    if not fits(layout, P):
        return None
    found = 0
    for split, k, n in block(h):
        kind = f"1d-{split}" if layout == "1d" else layout
        if what == "words":
            found += volumes.words(kind, m, k, n, P).both
        else:
            found += volumes.step_time(kind, m, k, n, P, alpha=ALPHA, beta=BETA, gamma=GAMMA)
    return found


def build(layout, comm, P, sizes):
    """(group with a tally, layers) on P ranks, without biases."""
    pairs = list(pairwise(sizes))
    if layout == "3d":
        cube = Cube(comm, round(P ** (1 / 3)))
        return cube, [CubeLinear(cube, k, n, swapped=bool(i % 2), bias=False) for i, (k, n) in enumerate(pairs)]
    if layout == "2d":
        square = Square(comm, round(P**0.5))
        return square, [Linear2D(square, k, n, bias=False) for k, n in pairs]
    row = comm.split(0)
    return row, [Linear1D(row, k, n, split=("columns", "rows")[i % 2], bias=False) for i, (k, n) in enumerate(pairs)]


def counted(layout, P, h, m):
    """Words that every rank received in the MLP of a block (h, 4h, h), forward and backward, as its tally has them."""
    sizes = (h, 4 * h, h)

    def program(comm):
        group, layers = build(layout, comm, P, sizes)
        w = [a for layer in layers for a in layer.init(np.random.default_rng(0))]
        x, keeps = layers[0].spread_input(np.ones((m, h))), [{} for _ in layers]
        before = sum(group.tally.words.values())
        y = forward_all(layers, w, x, keeps)
        adjoint_all(layers, w, keeps, y, None)
        return sum(group.tally.words.values()) - before

    words = set(threads.run(P, program))
    assert len(words) == 1, "ranks received different numbers of words"
    kinds = ("1d-columns", "1d-rows") if layout == "1d" else (layout, layout)
    formula = sum(volumes.words(kind, m, k, n, P).both for kind, (k, n) in zip(kinds, pairwise(sizes), strict=True))
    return words.pop(), formula


def rows_of_formulas():
    """One row per shape and P."""
    rows = []
    for h, m in SHAPES:
        for P in RANKS:
            words = [total(layout, h, m, P, "words") for layout in LAYOUTS]
            times = [total(layout, h, m, P, "seconds") for layout in LAYOUTS]
            ratios = [None if None in (one, words[2]) else one / words[2] for one in words[:2]]
            mega = [None if number is None else number / 1e6 for number in words]
            rows.append([h, m, P, *mega, *ratios, *[None if t is None else 1e3 * t for t in times]])
    return rows


def rows_of_counts():
    """One row per layout and number of threads."""
    rows = []
    for layout, numbers in (("1d", (2, 4, 8)), ("2d", (4, 9, 16)), ("3d", (1, 8, 27))):
        rows += [[layout, P, *counted(layout, P, 36, 144)] for P in numbers]
    return rows


def figure(facts):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    (h, m), styles = (
        SHAPES[0],
        {"1d": (MUTED[0], ":", "s"), "2d": (MUTED[1], "--", "^"), "3d": (OURS["color"], "-", "o")},
    )
    every = sorted({*RANKS, *[q**2 for q in range(3, 65)], *[p**3 for p in range(2, 17)]})
    for ax, what, scale in zip(axes, ("words", "seconds"), (1e-6, 1e3), strict=True):
        for layout, (colour, line, mark) in styles.items():
            at = [P for P in every if fits(layout, P)]
            values = [scale * total(layout, h, m, P, what) for P in at]
            ax.loglog(at, values, line, color=colour, marker=mark, ms=3, label=f"{layout[0]}-D")
        ax.set(xlabel="ranks P")
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="million words received per rank", title="Words")
    axes[1].set(ylabel="milliseconds", title="Modelled time of a step")
    axes[0].legend(frameon=False)
    save_figure(fig, "tensor_parallel", facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="count on few ranks; nothing is written")
    args = parser.parse_args()
    if args.quick:
        for layout, P in (("1d", 2), ("2d", 4), ("3d", 8)):
            words, formula = counted(layout, P, 8, 16)
            assert words == formula, f"{layout}: counted {words}, formula {formula}"
            print(f"{layout}, {P} ranks: {words} words, as by the formula")
        return
    counts = rows_of_counts()
    assert all(words == formula for *_, words, formula in counts)
    header = [
        "h",
        "M",
        "P",
        "1-D Mwords",
        "2-D Mwords",
        "3-D Mwords",
        "1-D/3-D",
        "2-D/3-D",
        "1-D ms",
        "2-D ms",
        "3-D ms",
    ]
    shapes = "four linear layers of a transformer block (h to 3h, h to h, h to 4h, 4h to h), forward and backward"
    machine = "5 us per message, 6 GB/s per rank, 2 bytes per word, 50 Tflop/s per rank"
    seen = "; ".join(f"{layout[0]}-D on {P} ranks {words}" for layout, P, words, _ in counts)
    notes = (
        f"Words received per rank (millions) and modelled milliseconds per step of the {shapes}; {machine}. 2-D needs "
        "a square, 3-D a cube of ranks.\n\nCounted by ranks that ran an MLP of widths 36, 144, 36 on 144 rows, and "
        f"equal to the formulas: {seen} words."
    )
    write_table("tensor_parallel", "Words of one, two and three dimensions", header, rows_of_formulas(), notes)
    figure(f"h = {SHAPES[0][0]}, M = {SHAPES[0][1]}, {shapes}; {machine}.")


if __name__ == "__main__":
    main()
