"""``python -m bench.convergence.depth [--quick]``: residual networks of 64 layers beside an MLP, on digits and peaks.

Eight agents on a ring, gradients by backpropagation, NEXT with full linearisation: accuracy on rows that nobody trained
on and CPU seconds of the fit on one thread, means of three seeds. Writes bench/results/depth.md.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from bench.machine import software
from bench.study import RESULTS, markdown
from dnnext import DecentralizedClassifier
from dnnext.algorithms import NEXT
from dnnext.datasets import make_peaks
from dnnext.local import FullLinearization
from dnnext.models import MLP, ResNet

MODELS = {
    "MLP, one layer of 50": MLP([None, 50, None]),
    "MLP, three layers of 16": MLP([None, 16, 16, 16, None]),
    "ResNet, 64 layers of 16, T = 2": ResNet(64, 16, 2.0),
    "ResNet, 8 layers of 16, T = 2": ResNet(8, 16, 2.0),
}


def rows(name, seed):
    """(train X, test X, train y, test y)."""
    if name == "digits":
        return train_test_split(*load_digits(return_X_y=True), test_size=0.4, random_state=seed)
    (x, y), (x_new, y_new) = make_peaks(200, seed), make_peaks(200, 1000 + seed)
    return x, x_new, y, y_new


def one(model, data, seed, max_iter):
    """(accuracy, CPU seconds)."""
    x, x_new, y, y_new = data
    clf = DecentralizedClassifier(
        model, n_agents=8, topology="ring", algorithm=NEXT(FullLinearization()), max_iter=max_iter, tol=0, alpha=1e-4,
        monitor_every=20, n_jobs=1, random_state=seed,
    )  # fmt: skip
    begin = time.process_time()
    clf.fit(x, y)
    return clf.score(x_new, y_new), time.process_time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer iterations, nothing written")
    quick, table = parser.parse_args().quick, []
    for name in ("digits", "peaks"):
        for label, model in MODELS.items():
            found = [one(model, rows(name, s), s, 20 if quick else 300) for s in range(1 if quick else 3)]
            accuracy, seconds = np.mean(found, axis=0)
            table.append([name, label, f"{accuracy:.3f}", f"{seconds:.1f}"])
            print(" | ".join(table[-1]), flush=True)
    if not quick:
        text = markdown(("data", "model", "accuracy on new rows", "CPU seconds"), table)
        words = (__doc__ or "").split("\n", 2)[2].strip()
        (RESULTS / "depth.md").write_text(
            f"# Deep residual networks beside an MLP\n\n{words}\n\n{text}\n\n{software()}.\n"
        )


if __name__ == "__main__":
    main()
