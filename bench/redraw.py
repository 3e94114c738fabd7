"""``python -m bench.redraw``: figures that follow from the kept tables alone, drawn anew without running anything.

A table holds mean and standard deviation of the seeds; two values with that mean and deviation stand for them. Figures
of whole curves need their runs (`bench.study --kept` draws them where the runs are kept).
"""

import csv
import re

import numpy as np

from bench.convergence import lazy
from bench.rivals import partitions, sparsity
from bench.speed import blocks, scaling
from bench.study import RESULTS, save_figure
from dnnext import AlignmentDisplay

# column of bench/results/b_sparsity.csv: what the figure calls it
SPARSITY = {"zero weights": "zeros", "inputs off": "off", "test accuracy": "accuracy"}


def rows(name):
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def spread(cell):
    """Two values with the mean and the deviation of "0.380 (0.049)"."""
    mean, deviation = map(float, re.fullmatch(r"(\S+) \((\S+)\)", cell).groups())
    return np.array([mean - deviation, mean + deviation])


def facts_of(name):
    """(facts, versions) of the runs, as the table's page states them: its last paragraph."""
    text = re.sub(r"\s+", " ", (RESULTS / f"{name}.md").read_text().strip().split("\n\n")[-1])
    facts, mark, versions = text.partition("dnnext 0.")
    return facts.strip(" .;"), mark + versions.strip()


def draw_partitions():
    numbers = {
        (row["set"], row["partition"]): {k: spread(v) for k, v in row.items() if k not in ("set", "partition") and v}
        for row in rows("e_partitions")
    }
    figure = partitions.picture(numbers)
    figure.suptitle("Test scores by what agents share")
    save_figure(figure, "e_partitions", *facts_of("e_partitions"))


def draw_sparsity():
    numbers = {
        (row["set"], row["penalty"], float(row["alpha"])): {to: spread(row[at]) for at, to in SPARSITY.items()}
        for row in rows("b_sparsity")
    }
    figure = sparsity.picture(list(dict.fromkeys(name for name, _, _ in numbers)), numbers)
    figure.suptitle("Zeros against accuracy")
    save_figure(figure, "b_sparsity", *facts_of("b_sparsity"))


def draw_scaling():
    curves = {}
    for row in rows("scaling"):
        pairs = (pair.split(": ") for pair in row["size: ms per iteration"].split(", "))
        curves[row["grows"], row["method"]] = [(float(size), float(ms) / 1e3) for size, ms in pairs]
    scaling.draw(curves, facts_of("scaling")[1])


def draw_lazy():
    found = [row | {"N/d": float(row["N/d"]), "risk": float(row["risk"])} for row in rows("lazy") if row["N/d"]]
    facts = f"square activation, {lazy.ROWS} rows at {lazy.AGENTS} agents on a ring, scored on {lazy.TESTS} others"
    save_figure(lazy.figure(found), "lazy", facts, "Runs of bench/results/lazy.csv")


def draw_bottleneck():
    table = rows("feedback_bottleneck")
    widths, angle = ([float(row[at]) for row in table] for at in ("k", "alignment of layer 1"))
    labels = ["DFA", "backpropagation"]
    score = [[float(row[label]) for label in labels] for row in table]
    shown = AlignmentDisplay.from_bottleneck(widths, angle, score, score_labels=labels)
    facts = "digits, 128-k-128, tanh, two seeds"
    save_figure(shown.figure_, "feedback_bottleneck", facts, "Runs of bench/results/feedback_bottleneck.csv")


def draw_blocks(name):
    measured = [
        {"n_blocks": int(row["n_blocks"]), "threads": threads, "ms": float(row[column])}
        for row in rows(name)
        for threads, column in ((1, "ms, 1 thread"), (2, "ms, 2 threads"))
    ]
    blocks.draw(measured, name, *facts_of(name))


if __name__ == "__main__":
    draw_blocks("blocks")
    draw_blocks("blocks-active")
    draw_bottleneck()
    draw_partitions()
    draw_sparsity()
    draw_scaling()
    draw_lazy()
