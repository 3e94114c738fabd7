"""A fixed tau against the automatic rule: writes figures/tau.{png,csv}.

Run as ``python -m docs.measure.tau`` in the checkout; about a minute.
"""

import csv
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.display.convergence import plain_numbers
from dnnext.display.frame import PALETTE, STYLE, STYLES

FIGURES = Path(__file__).parents[1] / "figures"
SETS = (
    ("diabetes", load_diabetes, DecentralizedMLPRegressor),
    ("wine", load_wine, DecentralizedMLPClassifier),
    ("breast cancer", load_breast_cancer, DecentralizedMLPClassifier),
    ("digits", load_digits, DecentralizedMLPClassifier),
)
TAUS = np.geomspace(1e-4, 10.0, 11)
ITERATIONS = 40


def fit(load, family, tau):
    X, y = load(return_X_y=True)
    model = family(
        (10,), algorithm=NEXT(tau=tau), n_agents=10, topology="erdos_renyi", partition="label",
        max_iter=ITERATIONS, tol=0.0, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def main():
    rows = []
    with plt.rc_context(STYLE | {"figure.dpi": 100}):
        figure, ax = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
        for k, (name, load, family) in enumerate(SETS):
            fixed = [fit(load, family, float(tau)) for tau in TAUS]
            automatic = fit(load, family, "auto").history_["objective"]
            ends = np.array([model.history_["objective"][-1] for model in fixed]) / automatic[-1]
            ended = np.array([model.status_ == "diverged" for model in fixed])
            raised = np.array([model.history_["tau"][-1] > 2 * tau for model, tau in zip(fixed, TAUS, strict=True)])
            ax.plot(TAUS, ends, color=PALETTE[k], ls=STYLES[k], label=name)
            ax.plot(TAUS[ended], ends[ended], "x", color=PALETTE[k], ms=6, mew=1.5)
            raised_only = raised & ~ended
            ax.plot(TAUS[raised_only], ends[raised_only], "o", color=PALETTE[k], mfc="white", ms=4.5)
            kept = np.flatnonzero(~raised & ~ended)
            best = kept[np.argmin(ends[kept])]
            rows.append(
                {
                    "set": name,
                    "of 11 fixed tau: stopped by the alarm": int(ended.sum()),
                    "tau raised by the alarm": int(raised_only.sum()),
                    "untouched": len(kept),
                    "best untouched tau": f"{TAUS[best]:.2g}",
                    "objective with it": f"{ends[best] * automatic[-1]:.4f}",
                    "objective, automatic": f"{automatic[-1]:.4f}",
                }
            )
        ax.axhline(1.0, color="0.3", lw=0.9, zorder=0)
        ax.annotate("automatic", (TAUS[0], 1.0), xytext=(0, -3), textcoords="offset points", va="top", fontsize=7.5)
        ax.set(xscale="log", yscale="log", xlabel=r"fixed $\tau$", ylabel="objective / automatic rule's")
        ax.set_ylim(bottom=0.8)
        plain_numbers(ax)
        marks = [
            ax.plot([], [], "x", color="0.3", ms=6, mew=1.5, label="stopped by the alarm")[0],
            ax.plot([], [], "o", color="0.3", mfc="white", ms=4.5, label=r"$\tau$ raised by the alarm")[0],
        ]
        lines = [line for line in ax.lines if not line.get_label().startswith("_") and line not in marks]
        ax.legend(handles=[*lines, *marks])
        FIGURES.mkdir(exist_ok=True)
        figure.savefig(FIGURES / "tau.png")
    with open(FIGURES / "tau.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
