"""Draws docs/figures/feedback.png: the angles that the example plot_feedback records.

python docs/figures/feedback.py
"""

import runpy
from pathlib import Path

import matplotlib as mpl

if __name__ == "__main__":
    mpl.use("agg")
    example = Path(__file__).parents[1] / "gallery" / "plot_feedback.py"
    names = runpy.run_path(str(example))
    display = names["AlignmentDisplay"].from_callback(names["angles"])
    display.figure_.savefig(Path(__file__).with_suffix(".png"))
