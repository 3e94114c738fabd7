"""``python -m bench.rivals.levenberg [--quick] [--fresh] [--kept]``: central LM beside torch-levenberg-marquardt.

One model, objective (squared error and l2) and start for both; iterations, trials that were taken back included, and
CPU seconds of one thread to relative gaps of the best objective that any run found from that start. The package runs
in an environment of its own (`bench.rivals.peers --install`) with its defaults but for Cholesky in place of QR, in each
of its three damping modes. Results: bench/results/levenberg.md and .csv.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.cases import Case, erdos_renyi
from bench.machine import Clock
from bench.rivals.peers import environments
from bench.study import Keeping, finished, kept, not_finished, publish
from dnnext.algorithms import CentralizedSCA
from dnnext.problem import Problem

SETS = ("diabetes", "boston", "wine_red", "california", "planar_arm", "bikeshare")
MODES = ("standard", "adaptive", "fletcher")
HIDDEN, MOST_ROWS, GAPS = 10, 2000, (0.1, 0.03, 0.01)
SCRIPT = Path(__file__).parent / "peers" / "run_torch_lm.py"
OURS = {'dnnext, damping="lm"': CentralizedSCA(damping="lm"), 'dnnext, damping="sca"': CentralizedSCA()}
Run = dict[str, list[float]]


def ours(case: Case, algorithm: CentralizedSCA, n_iter: int, seed: int) -> Run:
    """Objective and CPU seconds at every iteration; an iteration that is taken back leaves the objective."""
    problem, clock = case.pooled().problem, Clock()
    start = problem.model.init(seed)
    looked: Run = {"trial": [0.0], "objective": [problem.value(start)], "cpu": [0.0]}

    def callback(state: Any, metrics: dict[str, float]) -> None:
        cpu = clock.cpu
        with clock.stopped():
            for name, value in (("trial", state.t), ("objective", problem.value(state.w[0])), ("cpu", cpu)):
                looked[name].append(float(value))

    clock.start()
    algorithm.run(problem, erdos_renyi(1, seed), w0=start, max_iter=n_iter, monitor_every=n_iter, warn=False,
                  callbacks=[callback])  # fmt: skip
    return looked


def theirs(problem: Problem, alpha: float, mode: str, n_iter: int, seed: int) -> Run | str:
    """The same of the package, or the sentence why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        w0, one = problem.model.init(seed), np.ones((1, 1))
        np.savez(path, x=problem.x[None], y=problem.target.reshape(1, -1), mixing=one, w0=w0, step=0.0, hidden=HIDDEN,
                 n_iter=n_iter, alpha=alpha)  # fmt: skip
        found = environments.run("torch_lm", SCRIPT, str(path), mode, timeout=300)
    if isinstance(found, str):
        return found
    objective = [problem.value(np.array(w)) for w in found["path"]]
    if abs(found["loss"] / objective[0] - 1) > 1e-12:
        raise ValueError(f"the package's objective at the start must be ours, {objective[0]}, got {found['loss']}.")
    return {"trial": found["trials"], "objective": objective, "cpu": found["cpu"]}


def runs(name: str, seed: int, n_iter: int, fresh: bool) -> dict[str, Any]:
    """All methods from one start."""
    case = Case.of(data.load(name).head(MOST_ROWS, seed), 1, hidden=(HIDDEN,), seed=seed)
    alpha = 5 / case.problem.n_samples
    settings = {"set": name, "seed": seed, "n_iter": n_iter, "hidden": HIDDEN, "rows": MOST_ROWS}
    found: dict[str, Any] = {}
    for method, algorithm in OURS.items():
        own = partial(ours, case, algorithm, n_iter, seed)
        found[method] = kept("levenberg", settings | {"method": method}, own, fresh)
    for mode in MODES:
        peer = partial(theirs, case.problem, alpha, mode, n_iter, seed)
        found[f"package, {mode}"] = kept("levenberg", settings | {"method": mode}, peer, fresh)
    return found


def to_gap(run: Run, best: float, gap: float, what: str) -> float:
    """Trials or CPU seconds to the relative gap; infinite if never."""
    reached = np.flatnonzero(np.asarray(run["objective"]) <= (1 + gap) * best)
    return float(run[what][reached[0]]) if len(reached) else np.inf


def middle(values: list[float], digits: int) -> str:
    """The median, "-" where most never arrive."""
    median = float(np.median(values))
    return f"{median:.{digits}f}" if np.isfinite(median) else "-"


def row(name: str, method: str, found: list[dict[str, Any]]) -> list[Any]:
    """Medians over the starts, and how many of them arrive."""
    if isinstance(found[0][method], str):
        return [name, method, found[0][method], *[None] * 3]
    best = [min(min(r["objective"]) for r in each.values() if isinstance(r, dict)) for each in found]
    cells: list[Any] = [name, method]
    for what, digits in (("trial", 0), ("cpu", 3)):
        each = [[to_gap(f[method], b, gap, what) for f, b in zip(found, best, strict=True)] for gap in GAPS]
        cells.append(" / ".join(middle(values, digits) for values in each))
        if what == "trial":
            cells.append(" / ".join(str(int(np.isfinite(values).sum())) for values in each))
    cells.append(float(np.median([min(f[method]["objective"]) / b - 1 for f, b in zip(found, best, strict=True)])))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rivals.levenberg", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sets, one start")
    parser.add_argument("--fresh", action="store_true", help="run again what was kept")
    parser.add_argument("--kept", action="store_true", help="the table of finished runs only")
    given = parser.parse_args()
    Keeping.only = given.kept
    n_iter, seeds = (40, range(1)) if given.quick else (300, range(5))
    sets, rows, missing = (
        [d.name for d in data.load_all(SETS[:2] if given.quick else SETS)],
        list[list[Any]](),
        list[str](),
    )
    version = next((p for p in environments.PACKAGES["torch_lm"] if "levenberg" in p), "").replace("==", " ")
    for name in sets:
        tried = [
            finished(f"{name}, start {s}", partial(runs, name, s, n_iter, given.fresh or given.quick), missing)
            for s in seeds
        ]
        found = [each for each in tried if each is not None]
        if found:
            rows += [row(name, method, found) for method in found[0]]
    header = ["set", "method", f"iterations to {'/'.join(map(str, GAPS))}", f"of {len(seeds)} starts there",
              "CPU s to them", "gap at the end"]  # fmt: skip
    facts = (
        f"At most {MOST_ROWS} rows, three quarters to train, {HIDDEN} tanh units, squared error, l2 alpha 5/N without "
        f"biases, starts and splits of seeds {list(seeds)}, {n_iter} iterations, one thread, float64, on a machine "
        f"that others used; package: {version}"
    )
    notes = (
        "Medians over the starts; - where most of them do not get there; gaps relative to the lowest objective of all "
        "rows of this table from that start. Iterations are trials: those that were taken back count, though the "
        "package does not form its matrix again for them. It stops by itself where its damping reaches its bound."
    ) + not_finished(missing)
    title = "The centralised method of Levenberg and Marquardt beside torch-levenberg-marquardt"
    publish("levenberg", title, header, rows, facts, None, given.quick, notes)


if __name__ == "__main__":
    main()
