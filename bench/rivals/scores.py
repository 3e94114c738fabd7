"""Test scores with nothing tuned: ten agents beside scikit-learn's MLP on the pooled data, five splits.

python -m bench.rivals.scores [--splits 5] [--agents 10] [--partition iid] [--only digits]

Hidden sizes are the rival's, all else is the default. The rival sees all rows in one place, standardised (targets too),
and trains for at most 800 iterations. The table goes to bench/results/scores.txt.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

SETS = {"digits": (20,), "breast_cancer": (20,), "wine": (20,), "iris": (20,), "diabetes": (10,)}
ALLOWED_GAP = {"accuracy": 0.02, "R2": 0.03}
RESULTS = Path(__file__).parents[1] / "results" / "scores.txt"


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
    """(our scores, the rival's scores, our seconds, our iterations), one entry per split."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    hidden, regression = SETS[name], name == "diabetes"
    rows = []
    for seed in range(args.splits):
        stratify = None if regression else y
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=stratify)
        begin = time.perf_counter()
        model = ours(hidden, regression, seed, args).fit(X_train, y_train)
        seconds = time.perf_counter() - begin
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
    lines = [
        f"{args.agents} agents, {args.partition} parts, Erdos-Renyi, defaults; mean over {args.splits} splits (sd)",
        f"{'set':14s} {'score':9s} {'dnnext':>16s} {'scikit-learn':>16s} {'gap':>8s} {'allowed':>8s} "
        f"{'iterations':>11s} {'s per fit':>10s}",
    ]
    print("\n".join(lines), flush=True)
    for name in [args.only] if args.only else SETS:
        mine, theirs, seconds, iterations = compare(name, args)
        score = "R2" if name == "diabetes" else "accuracy"
        lines.append(
            f"{name:14s} {score:9s} {mine.mean():8.4f} ({mine.std():.4f}) {theirs.mean():8.4f} ({theirs.std():.4f}) "
            f"{mine.mean() - theirs.mean():+8.4f} {-ALLOWED_GAP[score]:+8.3f} {iterations.mean():11.0f} "
            f"{seconds.mean():10.2f}"
        )
        print(lines[-1], flush=True)
    if args.only is None:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
