"""``python -m bench.rivals.peers [--quick] [--install] [--kept]``: one problem, graph, start and step for every peer.

Correctness first: after the same iterations of gradient tracking all weights must agree with ours to 1e-10 (relative);
if they do not, the exit code is 1. Then milliseconds per iteration, and rounds, bytes and seconds to one goal. Every
peer runs in processes and an environment of its own on one thread, three times in turns, and the fastest counts
(``DNNEXT_PEERS`` names the folder of the environments, ``--install`` makes them). Runs are kept and resumed as in
bench.study; ``--for 60`` starts nothing new after 60 seconds. Results: bench/results/peers.md, peers_goal.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.machine import Others, software
from bench.rivals.peers import environments
from bench.study import RESULTS, Claim, Keeping, finished, keep_claims, kept, not_finished, write_table
from dnnext.algorithms import NEXT, GradientTracking
from dnnext.local import FullLinearization
from dnnext.network import Network, Topology
from dnnext.problem import MLP, Problem, SquaredError

HERE = Path(__file__).parent
# agents, rows each, inputs, hidden; what bench.speed.kernels is to reach on such shapes beside the best peer here
SHAPES = {"tiny": (10, 50, 8, 10), "small": (10, 800, 8, 20), "medium": (10, 1000, 30, 30)}
REACH = {"tiny": 2.5, "small": 2.5, "medium": 2.0}
FOUR = {"four agents": (4, 2000, 8, 20)}
STEP, REPEATS = 0.1, 3
# name -> (environment, script, arguments, the run of ours it must agree with)
RUNS = {
    "dnnext, tracking ATC": ("dnnext", "run_dnnext.py", ("atc",), None),
    "dnnext, FL with tau = 1/step": ("dnnext", "run_dnnext.py", ("FL",), "dnnext, tracking ATC"),
    "decent-bench, ATC tracking": ("decent", "run_decent.py", (), "dnnext, tracking ATC"),
    "PyTorch, eager": ("torch", "run_torch.py", (), "dnnext, tracking ATC"),
    "PyTorch, vmapped": ("torch", "run_torch.py", ("vmap",), "dnnext, tracking ATC"),
    "JAX, vmapped and jitted": ("jax", "run_jax.py", (), "dnnext, tracking ATC"),
    "scikit-learn, pooled gradient only": ("sklearn", "run_sklearn.py", (), "the pooled gradient"),
}
OVER_MPI = {
    "dnnext, tracking DIGing": ("dnnext", "run_dnnext.py", ("diging",), None),
    "disropt, 4 ranks": ("disropt", "run_disropt.py", (), "dnnext, tracking DIGing"),
}
WHY = (
    "On tiny problems a jitted step has no Python between two iterations, while ours asks the alarm, the callbacks and "
    "the stopping rules after each. Who runs thousands of tiny iterations of plain tracking on equal shards in one "
    "place and needs none of that should take JAX."
)


def make_task(path: Path, shape: tuple[int, int, int, int], n_iter: int) -> Problem:
    """The task file, and the same problem of ours: planar arm, no penalty."""
    n_agents, rows, inputs, hidden = shape
    arm = data.planar_arm(n_agents * rows, n_joints=inputs)
    x, y = data.standardised(arm.x), data.standardised(arm.y)
    model = MLP([inputs, hidden, 1])
    parts = x.reshape(n_agents, rows, inputs), y.reshape(n_agents, rows)
    mixing = Topology.erdos_renyi(n_agents, random_state=0).mixing.toarray()
    np.savez(path, x=parts[0], y=parts[1], mixing=mixing, w0=model.init(0), step=STEP, hidden=hidden, n_iter=n_iter)
    return Problem(model, SquaredError(), None, list(zip(*parts, strict=True)))


def launch(name: str, runs: dict[str, Any], path: Path, n_agents: int) -> Any:
    """A peer's answer, or the sentence why there is none."""
    peer, script, args, _ = runs[name]
    launcher: tuple[str, ...] = ()
    if peer == "disropt":
        python = environments.interpreter(peer)
        mpiexec = Path(python).with_name("mpiexec") if python else Path()
        if python and not mpiexec.exists():
            return f"missing: no mpiexec in the environment {peer}"
        launcher = (str(mpiexec), "-n", str(n_agents), "--oversubscribe", "--allow-run-as-root")
    return environments.run(peer, HERE / script, str(path), *args, timeout=900, launcher=launcher)


class Bench:
    """Runs of peers on one shape; kept, each the faster of two."""

    def __init__(self, shape_name: str, n_iter: int, folder: Path, fresh: bool, missing: list[str]) -> None:
        self.name, self.n_iter, self.fresh, self.missing = shape_name, n_iter, fresh, missing
        self.shape = (SHAPES | FOUR)[shape_name]
        self.path = folder / f"{shape_name.split()[0]}.npz"
        self.problem = make_task(self.path, self.shape, n_iter)
        self.found: dict[tuple[str, str], Any] = {}

    def kept(self, what: str, name: str, run: Any, **more: Any) -> Any:
        """A kept run with the cores that others used meanwhile; None if it is not to be started now."""

        def clocked() -> Any:
            with Others() as others:
                result = run()
            return result if isinstance(result, str) else {**result, "others": others.cores}

        key = what, name, *more.values()
        if key not in self.found:
            settings = {"what": what, "shape": self.shape, "name": name, "n_iter": self.n_iter, **more}
            once = lambda: kept("peers", settings, clocked, self.fresh, clock=True)  # noqa: E731
            self.found[key] = finished(f"{self.name}, {name}", once, self.missing)
        return self.found[key]

    @property
    def busy(self) -> float:
        """The most cores that others used during a run."""
        return max((r["others"] for r in self.found.values() if isinstance(r, dict)), default=float("nan"))

    def repeat(self, runs: dict[str, Any]) -> None:
        """Every run REPEATS times, in turns, so that a slow moment of the machine meets all of them."""
        for k in range(REPEATS):
            for name in runs:
                self.once(name, runs, k)

    def once(self, name: str, runs: dict[str, Any], k: int) -> Any:
        def run() -> Any:
            print(f"  {self.name}: {name}", flush=True)
            return launch(name, runs, self.path, self.shape[0])

        return self.kept("same", name, run, repeat=k)

    def peer(self, name: str, runs: dict[str, Any]) -> Any:
        """The fastest of a peer's answers; a sentence or None where there is none."""
        tried = [self.once(name, runs, k) for k in range(REPEATS)]
        done = [result for result in tried if isinstance(result, dict)]
        return min(done, key=lambda result: float(result["ms"])) if done else tried[0]

    def side_by_side(self, runs: dict[str, Any]) -> list[list[Any]]:
        """One row per run: agreement, milliseconds per iteration, how many times ours, what is to be reached."""
        n_agents, n_rows, inputs, hidden = self.shape
        named = f"{self.name}: {n_agents} agents x {n_rows} rows, {inputs}-{hidden}-1, P = {self.problem.n_params}"
        reference = {"the pooled gradient": self.problem.grad(self.problem.model.init(0)).sum(axis=0)}
        rows, ours = [], None
        for name, (peer, _, _, against) in runs.items():
            result = self.peer(name, runs)
            if not isinstance(result, dict):
                rows.append([named, name, result or "not run yet", None, None, None, None])
                continue
            distance = difference(result["w"], reference[against]) if against in reference else None
            ours = result["ms"] if ours is None else ours
            reference.setdefault(name, np.array(result["w"]))
            ratio = result["ms"] / ours
            goal = REACH.get(self.name) if peer != "dnnext" else None
            rows.append([named, name, result["version"], distance, result["ms"], ratio, reached(ratio, goal)])
        return rows

    def to_a_goal(self, form: str, runs: dict[str, Any]) -> list[list[Any]]:
        """Rounds, bytes and seconds to the objective that tracking has after n_iter iterations."""
        goal = self.kept("goal", form, lambda: self.ours(GradientTracking(STEP, form=form), 1, None, self.n_iter))
        if not isinstance(goal, dict):
            return []
        level = goal["objective"]
        named = f"{self.name}, U = {level:.4g}"
        rows = [[named, f"dnnext, tracking {form}, 1 round", *(goal[k] for k in ("iterations", "rounds", "mb", "s"))]]
        for name, algorithm in (("FL, automatic", NEXT(FullLinearization())), ("PL, automatic", NEXT())):
            run = lambda a=algorithm: self.ours(a, "auto", level, 10 * self.n_iter)  # noqa: E731
            result = self.kept("goal", name, run)
            if isinstance(result, dict):
                rows.append([named, f"dnnext, {name}", *(result[k] for k in ("iterations", "rounds", "mb", "s"))])
        for name, (peer, *_) in runs.items():
            if peer in ("dnnext", "sklearn"):
                continue
            result = self.peer(name, runs)
            same = (*rows[0][2:5], result["seconds"]) if isinstance(result, dict) else (result, None, None, None)
            rows.append([named, f"{name} (same iterates)", *same])
        return rows

    def ours(self, algorithm: Any, rounds: Any, goal: float | None, most: int) -> dict[str, Any]:
        """Run to the goal looking at every iteration, then as many iterations again by the clock, without looking."""
        w0, graph = self.problem.model.init(0), Topology.erdos_renyi(self.problem.n_agents, random_state=0)
        stop = [] if goal is None else [lambda s, m: m["objective"] <= goal]
        network = Network(graph, mixing_rounds=rounds)
        found = algorithm.run(self.problem, network, w0=w0, max_iter=most, callbacks=stop, warn=False)
        end, n = float(found.history["objective"][-1]), found.n_iter
        clock: list[float] = []
        network = Network(graph, mixing_rounds=rounds)
        mark = [lambda s, m: clock.append(time.perf_counter())]
        algorithm.run(self.problem, network, w0=w0, max_iter=n, monitor_every=n, callbacks=mark, warn=False)
        each = np.diff(clock)
        return {"objective": end, "iterations": n if goal is None or end <= goal else f"> {n}", "rounds": network.round,
                "mb": network.bytes / 1e6, "s": float(each.sum() * n / max(len(each), 1))}  # fmt: skip


def difference(w: Any, reference: np.ndarray) -> float:
    """max |w - reference| / max |reference|."""
    return float(np.max(np.abs(np.asarray(w) - reference)) / np.max(np.abs(reference)))


def reached(ratio: float, goal: float | None) -> str | None:
    """In words: whether a peer takes as many times ours as planned."""
    if goal is None:
        return None
    return f"{goal:g}: {'yes' if ratio >= goal else 'NO' if ratio >= 1 else 'NO, the peer wins'}"


def short(rows: list[list[Any]]) -> str:
    """Which peers were faster, and which came nearer than planned."""
    near = {True: [], False: []}
    for row in rows:
        if row[6] and row[6].count("NO"):
            near[row[5] < 1].append(f"{row[1]} ({row[0].split(':')[0]}, {row[5]:.2f})")
    text = f" Faster than ours: {', '.join(near[True]) or 'none'}. "
    if near[False]:
        text += f"Slower than ours, but by less than the plan: {', '.join(near[False])}. "
    return text + WHY * any("JAX" in word for word in near[True])


def claims(rows: list[list[Any]]) -> list[Claim]:
    """Same numbers, faster than every peer, and by as much as was planned."""
    off = [row[3] for row in rows if row[3] is not None]
    peers = [row for row in rows if row[5] is not None and not row[1].startswith("dnnext")]
    near = min(peers, key=lambda row: row[5])
    short = [row for row in peers if row[6] and "NO" in row[6]]
    missed = "; ".join(f"{row[1]}, {row[0].split(':')[0]}: {row[5]:.2f}" for row in short)
    named = f"{near[1]} on {near[0].split(':')[0]}: {near[5]:.2f} times ours"
    return [
        Claim("all peers that could be installed agree with ours to 1e-10", f"largest {max(off):.1e}",
              max(off) <= 1e-10),
        Claim("every peer takes longer per iteration", f"nearest {named}", near[5] > 1),
        Claim("every peer in one process takes 2.5 times as long on tiny and small, twice on medium shapes",
              f"less: {missed or 'none'}", not short),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer iterations, the tiny shape only, run anew")
    parser.add_argument("--install", action="store_true", help="make the environments of all peers, then stop")
    parser.add_argument("--fresh", action="store_true", help="run again what was kept")
    parser.add_argument("--kept", action="store_true", help="tables of finished runs only")
    parser.add_argument("--for", type=float, metavar="SECONDS", dest="most", help="start no run after so many seconds")
    args = parser.parse_args()
    if args.install:
        environments.install(list(environments.PACKAGES))
        return 0
    Keeping.only = args.kept
    Keeping.until = np.inf if args.most is None else time.monotonic() + args.most
    missing: list[str] = []
    n_iter, fresh = 50 if args.quick else 300, args.fresh or args.quick
    with tempfile.TemporaryDirectory() as folder:
        shapes = ("tiny",) if args.quick else SHAPES
        benches = {shape: Bench(shape, n_iter, Path(folder), fresh, missing) for shape in (*shapes, *FOUR)}
        for name, bench in benches.items():
            bench.repeat(OVER_MPI if name in FOUR else RUNS)
        rows = [row for shape in shapes for row in benches[shape].side_by_side(RUNS)]
        rows += benches["four agents"].side_by_side(OVER_MPI)
        goal = benches["tiny" if args.quick else "small"].to_a_goal("atc", RUNS)
        goal += benches["four agents"].to_a_goal("diging", OVER_MPI)
    busy = max(bench.busy for bench in benches.values())
    facts = (
        f"Planar arm (synthetic), one hidden layer of tanh units, squared error, no penalty, Erdos-Renyi of seed 0, "
        f"Metropolis, one mixing round, step {STEP:g}, common start of seed 0, {n_iter} iterations, float64, one "
        f"thread per process, the fastest of {REPEATS} processes by the median of its iterations; others used at most "
        f"{busy:.2f} cores meanwhile. {software()}"
    )
    notes = "Difference: largest of the final weights to ours (scikit-learn: of the pooled gradient), relative. Reach: "
    notes += "how many times ours a peer in one process should take, as planned for the gradient of such shapes; "
    notes += "scikit-learn's is a gradient alone, without mixing."
    notes += short(rows) + not_finished(list(dict.fromkeys(missing)))
    prefix = "quick/" if args.quick else ""
    (RESULTS / prefix).mkdir(parents=True, exist_ok=True)
    header = ["problem", "who", "version", "difference", "ms per iteration", "times ours", "reach"]
    write_table(f"{prefix}peers", "Peers: the same iterations, side by side", header, rows, f"{notes}\n\n{facts}")
    header = ["problem, goal", "who", "iterations", "rounds", "MB", "seconds"]
    note = f"The goal is the objective of tracking after {n_iter} iterations. Seconds exclude looking at the objective."
    write_table(f"{prefix}peers_goal", "Peers: what one goal costs", header, goal, f"{note}\n\n{facts}")
    if not args.quick:
        keep_claims("peers", claims(rows))
    wrong = [row[1] for row in rows if row[3] is not None and row[3] > 1e-10]
    print("all that ran agree to 1e-10" if not wrong else f"DISAGREE: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
