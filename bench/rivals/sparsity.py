"""b. Sparsity: weights and inputs that l1 and group penalties switch off, against test accuracy."""

import warnings
from typing import Any

import numpy as np

from bench import data
from bench.study import Claim, finished, kept, mean_sd, not_finished, plots, publish

PENALTIES = ("l1", "group", "sparse_group")
ALPHAS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SETS = {"breast_cancer": 569, "ionosphere": 351, "spambase": 2000}  # rows at most
QUICK = {"l1": (1e-3,), "group": (1e-2,)}
AGENTS, HIDDEN = 10, (10,)


def fit(name: str, penalty: str, alpha: float, fold: int) -> dict[str, float]:
    """Zeros, inputs off, hidden units left and test accuracy of one fit on one of five stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    from dnnext import DecentralizedMLPClassifier
    from dnnext.algorithms import NEXT

    found = data.load(name).head(SETS[name])
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(found.x, found.y))
    train, test = folds[fold]
    model = DecentralizedMLPClassifier(
        HIDDEN, penalty=penalty, alpha=alpha, n_agents=AGENTS, random_state=fold, n_jobs=1, monitor_every=5,
        algorithm=NEXT(),
    )  # fmt: skip
    model.fit(found.x[train], found.y[train])
    weights = np.concatenate([w.ravel() for w in model.coefs_])
    return {
        "zeros": float(np.mean(weights == 0)),
        "off": float(1 - model.active_inputs_.mean()),
        "units": float(model.n_active_units_),
        "accuracy": float(model.score(found.x[test], found.y[test])),
    }


def fits(name: str, penalty: str, alpha: float, folds: range, fresh: bool) -> list[dict[str, float]]:
    """One result per fold."""
    runs = []
    for fold in folds:
        settings = {"set": name, "penalty": penalty, "alpha": alpha, "fold": fold}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs.append(kept("b", settings, lambda f=fold: fit(name, penalty, alpha, f), fresh))
    return runs


def study(quick: bool, fresh: bool) -> list[Claim]:
    sets = ["breast_cancer"] if quick else [d.name for d in data.load_all(SETS)]
    folds = range(2 if quick else 5)
    numbers: dict[tuple[str, str, float], dict[str, np.ndarray]] = {}
    missing: list[str] = []
    for name in sets:
        for penalty in QUICK if quick else (*PENALTIES, "l2"):
            for alpha in QUICK[penalty] if quick else (ALPHAS if penalty != "l2" else (1e-3,)):
                runs = finished(
                    f"{name}, {penalty}", lambda n=name, p=penalty, a=alpha: fits(n, p, a, folds, fresh), missing
                )
                if runs:
                    numbers[name, penalty, alpha] = {k: np.array([r[k] for r in runs]) for k in runs[0]}
    rows = [[name, penalty, f"{alpha:g}", *[mean_sd(v) for v in n.values()]] for (name, penalty, alpha), n in
            numbers.items()]  # fmt: skip
    header = ["set", "penalty", "alpha", "zero weights", "inputs off", "hidden units left", "test accuracy"]
    facts = (
        f"Data: {', '.join(f'{n} (at most {SETS[n]} rows)' for n in sets)}; {AGENTS} agents, iid parts, Erdos-Renyi, "
        f"{HIDDEN} tanh units, PL with own curvature (`NEXT()`), 200 iterations; means over {len(folds)} stratified "
        "splits, the seed is the number of the split"
    )
    notes = "Shares of exact zeros among coefs_ (without biases) and of inputs with no weight at all: mean (sd)."
    notes += not_finished(list(dict.fromkeys(missing)))
    publish("b_sparsity", "Zeros against accuracy", header, rows, facts, picture(sets, numbers), quick, notes)
    return claims(numbers)


def claims(numbers: dict[tuple[str, str, float], dict[str, np.ndarray]]) -> list[Claim]:
    l1, group = numbers["breast_cancer", "l1", 1e-3], numbers["breast_cancer", "group", 1e-2]
    return [
        Claim("breast_cancer, l1, alpha 1e-3: 70 % zeros at accuracy 0.95",
              f"{l1['zeros'].mean():.1%} at {l1['accuracy'].mean():.3f}",
              bool(l1["zeros"].mean() >= 0.7 and l1["accuracy"].mean() >= 0.95)),
        Claim("breast_cancer, group, alpha 1e-2: half of the inputs off at 0.94",
              f"{group['off'].mean():.1%} at {group['accuracy'].mean():.3f}",
              bool(group["off"].mean() >= 0.5 and group["accuracy"].mean() >= 0.94)),
    ]  # fmt: skip


def picture(sets: list[str], numbers: dict[tuple[str, str, float], dict[str, np.ndarray]]) -> Any:
    """Accuracy against zeros and against inputs off, one line per penalty, one row per set."""
    fig, axes = plots(len(sets), 2, 4.6, 3.0)
    for line, name in zip(axes, sets, strict=True):
        for ax, what in zip(line, ("zeros", "off"), strict=True):
            for k, penalty in enumerate((*PENALTIES, "l2")):
                points = [(a, n) for (s, p, a), n in numbers.items() if s == name and p == penalty]
                if not points:
                    continue
                x, y = ([n[key].mean() for _, n in points] for key in (what, "accuracy"))
                spread = [n["accuracy"].std() for _, n in points]
                look = {"marker": "o", "ms": 4, "lw": 1.4, "elinewidth": 0.5, "color": f"C{k}"}
                ax.errorbar(x, y, spread, label=penalty.replace("_", " "), **look)
                if penalty == {"zeros": "l1", "off": "group"}[what]:
                    for a, b, (alpha, _) in zip(x, y, points, strict=True):
                        ax.annotate(f"{alpha:g}", (a, b), fontsize=7, xytext=(3, 4), textcoords="offset points")
            ax.set(xlabel={"zeros": "share of weights that are zero", "off": "share of inputs off"}[what])
            ax.set(ylabel="test accuracy", title=name.replace("_", " "), xlim=(-0.05, 1.05))
            ax.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=7, loc="lower left")
    return fig
