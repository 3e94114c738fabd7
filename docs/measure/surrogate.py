"""Partial against full linearisation, per iteration and per second, on four sets: writes figures/surrogate.{png,csv}.

Run as ``python -m docs.measure.surrogate`` in the checkout; about a minute.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from bench.data import planar_arm
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.display.frame import PALETTE, STYLE, STYLES
from dnnext.local import FullLinearization, PartialLinearization

FIGURES = Path(__file__).parents[1] / "figures"
N_AGENTS = 5
SURROGATES = {"partial": PartialLinearization(), "full": FullLinearization()}
BUDGET = {"partial": 100, "full": 2000}  # iterations
TARGET = 0.1  # gap of the table


def sets():
    """(name, X, y, estimator, hidden layers)."""
    yield "diabetes", *load_diabetes(return_X_y=True), DecentralizedMLPRegressor, (5,)
    yield "breast cancer", *load_breast_cancer(return_X_y=True), DecentralizedMLPClassifier, (10,)
    yield "digits", *load_digits(return_X_y=True), DecentralizedMLPClassifier, (10,)
    arm = planar_arm()
    yield "planar arm (synthetic)", arm.x, arm.y.ravel(), DecentralizedMLPRegressor, (10,)


def first(history, column, target):
    """The column's value where the objective first is at most target; NaN if never."""
    hit = np.flatnonzero(history["objective"] <= target)
    return float(history[column][hit[0]]) if len(hit) else np.nan


def fit(X, y, family, hidden):
    """Histories of both surrogates from one start, and the number of weights."""
    histories = {}
    for surrogate, max_iter in BUDGET.items():
        model = family(
            hidden, algorithm=NEXT(SURROGATES[surrogate]), n_agents=N_AGENTS, topology="ring", max_iter=max_iter,
            tol=0.0, n_jobs=1, random_state=0,
        )  # fmt: skip
        histories[surrogate] = model.fit(X, y).history_
    return histories, sum(w.size for w in (*model.coefs_, *model.intercepts_))


def main():
    rows = []
    with plt.rc_context(STYLE | {"figure.dpi": 100}):
        figure, axes = plt.subplots(2, 4, figsize=(7.2, 3.6), layout="constrained", sharey="col")
        for column, (name, X, y, family, hidden) in enumerate(sets()):
            histories, n_params = fit(X, y, family, hidden)
            best = min(history["objective"].min() for history in histories.values())
            target = (1 + TARGET) * best
            row = {"set": name, "rows per agent": len(X) // N_AGENTS, "weights": n_params}
            for k, (label, history) in enumerate(histories.items()):
                gap = history["objective"] / best - 1
                look = {"color": PALETTE[k], "ls": STYLES[k], "label": label}
                for ax, unit in zip(axes[:, column], ("iteration", "seconds"), strict=True):
                    shown = (history[unit] > 0) & (gap > 1e-4)
                    ax.plot(history[unit][shown], gap[shown], **look)
                row[f"iterations, {label}"] = f"{first(history, 'iteration', target):.0f}"
                row[f"milliseconds, {label}"] = f"{1e3 * first(history, 'seconds', target):.0f}"
            rows.append(row)
            axes[0, column].set_title(f"{name}\n{row['rows per agent']} rows per agent,\n{n_params} weights")
        for ax in axes.ravel():
            ax.set(xscale="log", yscale="log")
            ax.minorticks_off()
        axes[0, 0].set_ylabel("gap to the lowest\nobjective of both")
        axes[1, 0].set_ylabel("gap to the lowest\nobjective of both")
        for ax in axes[0]:
            ax.set_xlabel("iterations")
        for ax in axes[1]:
            ax.set_xlabel("seconds, one core")
        axes[0, 2].legend(loc="lower left")
        FIGURES.mkdir(exist_ok=True)
        figure.savefig(FIGURES / "surrogate.png")
    with open(FIGURES / "surrogate.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
