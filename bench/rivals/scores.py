"""Test scores with nothing tuned: ten agents beside scikit-learn's MLP on the pooled data, five splits.

python -m bench.rivals.scores [--splits 5] [--agents 10] [--partition iid] [--only digits]

Hidden sizes are the rival's, all else is the default. The rival sees all rows in one place, standardised (targets too),
and trains for at most 800 iterations. The table goes to bench/results/scores.md.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.study import mean_sd, write_table
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

SETS = {"digits": (20,), "breast_cancer": (20,), "wine": (20,), "iris": (20,), "diabetes": (10,)}
ALLOWED_GAP = {"accuracy": 0.02, "R2": 0.03}
HEADER = ("set", "score", "dnnext", "scikit-learn", "gap", "allowed", "iterations", "CPU s per fit")


def rival(hidden, regression, seed):
    options = {"hidden_layer_sizes": hidden, "activation": "tanh", "max_iter": 800, "random_state": seed}
    if regression:
        pipeline = make_pipeline(StandardScaler(), MLPRegressor(**options))
        return TransformedTargetRegressor(pipeline, transformer=StandardScaler())
    return make_pipeline(StandardScaler(), MLPClassifier(**options))


def ours(hidden, regression, seed, args):
    kind = DecentralizedMLPRegressor if regression else DecentralizedMLPClassifier
    return kind(hidden, n_agents=args.agents, partition=args.partition, random_state=seed)


def compare(name, args):
    """(our scores, the rival's scores, our CPU seconds, our iterations), one entry per split."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    hidden, regression = SETS[name], name == "diabetes"
    rows = []
    for seed in range(args.splits):
        stratify = None if regression else y
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=stratify)
        begin = time.process_time()
        model = ours(hidden, regression, seed, args).fit(X_train, y_train)
        seconds = time.process_time() - begin
        peer = rival(hidden, regression, seed).fit(X_train, y_train)
        rows.append((model.score(X_test, y_test), peer.score(X_test, y_test), seconds, model.n_iter_))
    return np.array(rows).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--partition", default="iid")
    parser.add_argument("--only", choices=SETS)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    for name in [args.only] if args.only else SETS:
        mine, theirs, seconds, iterations = compare(name, args)
        score = "R2" if name == "diabetes" else "accuracy"
        gap, allowed = f"{mine.mean() - theirs.mean():+.4f}", f"{-ALLOWED_GAP[score]:+.3f}"
        means = mean_sd(mine, 4), mean_sd(theirs, 4), gap, allowed, f"{iterations.mean():.0f}", f"{seconds.mean():.2f}"
        rows.append([name, score, *means])
        print(" | ".join(rows[-1]), flush=True)
    if args.only is None:
        about = (
            f"{args.agents} agents, {args.partition} parts, Erdos-Renyi, defaults; mean over {args.splits} splits (sd)."
        )
        write_table("scores", "Scores with nothing tuned", HEADER, rows, about)


if __name__ == "__main__":
    main()
