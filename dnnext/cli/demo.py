"""`dnnext demo`: ten agents, real data, and what it is worth."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings

import numpy as np

from dnnext.cli.places import check_figure, check_model
from dnnext.cli.report import notes_on_stderr
from dnnext.cli.train import split_seed

MODEL, FIGURE = "dnnext-demo.npz", "dnnext-demo.png"


def demo(args):
    """Train over the network, compare with pooled data and with one agent alone, write model and figure."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    from dnnext import DecentralizedMLPClassifier

    begin = time.perf_counter()
    os.makedirs(args.dir, exist_ok=True)
    check_model(os.path.join(args.dir, MODEL), "--dir")
    if importlib.util.find_spec("matplotlib") is not None:
        check_figure(os.path.join(args.dir, FIGURE), "--dir")
    X, y = getattr(datasets, f"load_{args.data}")(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=split_seed(args.seed), stratify=y)
    agent = _owners(y, args)
    print(
        f"{args.data}: {len(X)} rows to train on, {len(X_test)} to test on, {X.shape[1]} inputs, "
        f"{len(np.unique(y))} classes; {args.agents} agents on a graph ({args.topology}), rows spread {args.partition}"
    )
    together = DecentralizedMLPClassifier(
        (20,), topology=args.topology, max_iter=args.max_iter, verbose=1, random_state=args.seed
    )
    with notes_on_stderr():
        together.fit(X, y, agent=agent, eval_set=(X_test, y_test))
    if together.status_ == "interrupted":
        print("interrupted: the best model so far is kept")
    net, history = together.topology_, together.history_
    print(
        f"{net.n_edges} links, spectral gap {net.spectral_gap:.3f}; {history['round'][-1]} rounds, "
        f"{history['bytes'][-1] / 1e6:.1f} MB sent in all"
    )
    pooled, alone = _pooled(X, y, X_test, y_test, args.seed), _alone(X, y, agent, X_test, y_test, args)
    views = [view.score(X_test, y_test) for view in together.agents_]
    print("\ntest accuracy")
    print(f"  {together.score(X_test, y_test):.4f}  {args.agents} agents: no row is sent (dnnext)")
    print(f"  {min(views):.4f}  the same, the worst agent's own copy")
    print(f"  {pooled:.4f}  all rows in one place, scikit-learn's MLPClassifier")
    print(f"  {alone:.4f}  one agent alone, on its own {np.sum(agent == 0)} rows\n")
    references = [("all rows in one place, scikit-learn", pooled), ("one agent alone", alone)]
    _write(together, args, references)
    print(f"{time.perf_counter() - begin:.1f} s")
    return 130 if together.status_ == "interrupted" else 0


def _write(together, args, references):
    """The model file, and the figure where matplotlib is."""
    model, figure = (os.path.join(args.dir, name) for name in (MODEL, FIGURE))
    together.save(model)
    print(f"model written to {model}")
    if importlib.util.find_spec("matplotlib") is None:
        print("no figure: matplotlib is not installed (pip install matplotlib)")
        return
    from dnnext.cli.figure import draw_run

    title = f"{args.data}: {args.agents} agents, {args.topology.replace('_', '-')} graph"
    draw_run(together.history_, figure, title=title, score_name="test accuracy", references=references)
    print(f"figure written to {figure}")


def _owners(y, args):
    """Which agent holds each row."""
    from dnnext.estimators.choices import PARTITIONS
    from dnnext.estimators.data import Seeds, spread_rows

    if args.partition not in PARTITIONS:
        raise ValueError(f"--partition must be one of {', '.join(PARTITIONS)}, got {args.partition!r}.")
    if not 1 <= args.agents <= len(y):
        raise ValueError(f"--agents must be between 1 and the number of rows ({len(y)}), got {args.agents}.")
    return spread_rows(args.partition, y, args.agents, Seeds(args.seed))


def _pooled(X, y, X_test, y_test, seed):
    """Accuracy of scikit-learn's network on all rows in one place."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlp = MLPClassifier((20,), activation="tanh", max_iter=800, random_state=seed)
    return make_pipeline(StandardScaler(), mlp).fit(X, y).score(X_test, y_test)


def _alone(X, y, agent, X_test, y_test, args):
    """Accuracy of the first agent when it trains on its own rows only."""
    from dnnext import DecentralizedMLPClassifier

    mine = agent == 0
    if len(np.unique(y[mine])) < 2:
        return float(np.mean(y_test == y[mine][0]))
    alone = DecentralizedMLPClassifier((20,), n_agents=1, max_iter=args.max_iter, random_state=args.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return alone.fit(X[mine], y[mine]).score(X_test, y_test)
