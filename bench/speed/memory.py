"""Peak memory of a fit as a multiple of the data: ``python -m bench.speed.memory [--quick]``.

Every case in a process of its own that has fitted a small problem before. Counted are resident bytes at the highest
point of `fit` above those just before it, divided by the bytes of X: what the fit takes beside the rows that the caller
holds. The network is small, so that rows are what counts. The claim is at most 2.5, whatever the method.

Results: bench/results/fit-memory.md.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.machine import child_environment, software
from bench.study import write_table
from dnnext import DecentralizedMLPClassifier

MOST = 2.5
# what is done, precision of X
CASES = (
    ("fit", "float32"),
    ("fit", "float64"),
    ("fit, early stopping", "float32"),
    ("fit, sample weights", "float32"),
    ("fit_agents", "float32"),
    ("partial_fit", "float32"),
)


def resident() -> int:
    """Resident bytes now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(what: str, dtype: str, n_rows: int, n_columns: int) -> float:
    """Peak of one fit in multiples of X; to be run in a fresh process."""
    rng = np.random.default_rng(0)
    params = {"hidden_layer_sizes": (4,), "n_agents": 10, "topology": "ring", "tol": 0, "random_state": 0, "n_jobs": 1}
    small = rng.standard_normal((100, n_columns))
    DecentralizedMLPClassifier(**params, max_iter=1).fit(small, small[:, 0] > 0)
    x = np.empty((n_rows, n_columns), dtype)
    for start in range(0, n_rows, 1000):
        x[start : start + 1000] = rng.standard_normal((min(1000, n_rows - start), n_columns))
    y = (x[:, 0] > 0).astype(np.int64)
    clf = DecentralizedMLPClassifier(**params, max_iter=2, early_stopping="early" in what)
    before = resident()
    if what == "fit_agents":
        clf.fit_agents(list(zip(np.array_split(x, 10), np.array_split(y, 10), strict=True)))
    elif what == "partial_fit":
        clf.partial_fit(x, y, classes=[0, 1])
    else:
        clf.fit(x, y, sample_weight=rng.uniform(size=n_rows) if "weights" in what else None)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / x.nbytes


def main(argv: list[str] | None = None) -> int:
    """Run all cases; 1 if one of them takes more than MOST."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        print(measure(*json.loads(args.case)))
        return 0
    shape, rows = (200_000 if args.quick else 1_000_000, 100), []
    for case in CASES:
        command = [sys.executable, "-m", "bench.speed.memory", "--case", json.dumps([*case, *shape])]
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True, timeout=600)
        times = float(done.stdout)
        rows.append([*case, times, "yes" if times <= MOST else "NO"])
    notes = f"X is {shape[0]} x {shape[1]}, 10 agents on a ring. {software()}"
    header = ["method", "X", "peak / bytes of X", f"at most {MOST}"]
    if args.quick:
        print("\n".join(map(str, rows)))
    else:
        write_table("fit-memory", "Peak memory of a fit, beside the rows that the caller holds", header, rows, notes)
    return int(any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
