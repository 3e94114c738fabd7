"""``python -m bench.peers [--quick] [--install]``: the same problem, graph, start and step for every installed peer.

Correctness first: after the same iterations of gradient tracking all weights must agree with ours to 1e-10 (relative).
Then milliseconds per iteration, and rounds, bytes and seconds to one goal. Every peer runs in a process and environment
of its own on one thread (``DNNEXT_PEERS`` names the folder of the environments, ``--install`` makes them).
Results: bench/results/peers.md, peers_goal.md.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import data
from bench.peers import environments
from bench.provenance import software, write_table
from dnnext.algorithms import NEXT, GradientTracking
from dnnext.local import FullLinearization
from dnnext.network import Network, Topology
from dnnext.problem import MLP, Problem, SquaredError

HERE = Path(__file__).parent
SHAPES = {"tiny": (10, 50, 10), "medium": (10, 800, 20), "four agents": (4, 2000, 20)}  # agents, rows each, hidden
STEP = 0.1
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
WHY = (
    "On tiny problems a jitted step has no Python between two iterations, while ours asks the alarm, the callbacks and "
    "the stopping rules after each. Who runs thousands of tiny iterations of plain tracking on equal shards in one "
    "place and needs none of that should take JAX."
)
OVER_MPI = {
    "dnnext, tracking DIGing": ("dnnext", "run_dnnext.py", ("diging",), None),
    "disropt, 4 ranks": ("disropt", "run_disropt.py", (), "dnnext, tracking DIGing"),
}


def make_task(path: Path, shape: tuple[int, int, int], n_iter: int) -> Problem:
    """The task file, and the same problem of ours: planar arm, no penalty."""
    n_agents, rows, hidden = shape
    arm = data.planar_arm(n_agents * rows)
    x, y = data.standardised(arm.x), data.standardised(arm.y)
    model = MLP([8, hidden, 1])
    parts = x.reshape(n_agents, rows, 8), y.reshape(n_agents, rows)
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


def difference(w: Any, reference: np.ndarray) -> float:
    """max |w - reference| / max |reference|."""
    return float(np.max(np.abs(np.asarray(w) - reference)) / np.max(np.abs(reference)))


def side_by_side(shape_name: str, runs: dict[str, Any], folder: Path, n_iter: int) -> list[list[Any]]:
    """One row per run: agreement, milliseconds per iteration, how many times ours."""
    shape = SHAPES[shape_name]
    path = folder / f"{shape_name.split()[0]}.npz"
    problem = make_task(path, shape, n_iter)
    told = f"{shape_name}: {shape[0]} agents x {shape[1]} rows, P = {problem.n_params}"
    reference = {"the pooled gradient": problem.grad(problem.model.init(0)).sum(axis=0)}
    rows, ours = [], None
    for name in runs:
        print(f"  {shape_name}: {name}", flush=True)
        result = launch(name, runs, path, shape[0])
        if isinstance(result, str):
            rows.append([told, name, result, None, None, None])
            continue
        against = runs[name][3]
        apart = difference(result["w"], reference[against]) if against in reference else None
        if ours is None:
            ours = result["ms"]
        reference.setdefault(name, np.array(result["w"]))
        rows.append([told, name, result["version"], apart, result["ms"], result["ms"] / ours])
    return rows


def to_a_goal(shape_name: str, folder: Path, n_iter: int) -> list[list[Any]]:
    """Rounds, bytes and seconds to the objective that tracking has after n_iter iterations."""
    problem = make_task(folder / "goal.npz", SHAPES[shape_name], n_iter)
    n_agents, w0 = problem.n_agents, problem.model.init(0)
    graph = Topology.erdos_renyi(n_agents, random_state=0)
    rows, goal = [], np.inf
    for name, algorithm, rounds, count in (
        ("tracking ATC, 1 round", GradientTracking(STEP), 1, n_iter),
        ("FL, automatic", NEXT(FullLinearization()), "auto", 10 * n_iter),
        ("PL, automatic", NEXT(), "auto", n_iter),
    ):

        def reached(s: Any, m: dict[str, float], limit: float = goal) -> bool:
            return m["objective"] <= limit

        network = Network(graph, mixing_rounds=rounds)
        callbacks = [] if np.isinf(goal) else [reached]
        result = algorithm.run(problem, network, w0=w0, max_iter=count, callbacks=callbacks, warn=False)
        goal = min(goal, float(result.history["objective"][-1])) if np.isinf(goal) else goal
        done = result.history["objective"][-1] <= goal
        rows.append([f"dnnext, {name}", result.n_iter if done else f"> {count}", network.round, network.bytes / 1e6,
                     float(result.history["seconds"][-1])])  # fmt: skip
    for name in ("decent-bench, ATC tracking", "PyTorch, eager", "PyTorch, vmapped", "JAX, vmapped and jitted"):
        result = launch(name, RUNS, folder / "goal.npz", n_agents)
        if isinstance(result, str):
            rows.append([name, result, None, None, None])
        else:
            row = rows[0]
            rows.append([f"{name} (same iterates)", row[1], row[2], row[3], result["seconds"]])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer iterations, the tiny shape only")
    parser.add_argument("--install", action="store_true", help="make the environments of all peers, then stop")
    args = parser.parse_args()
    if args.install:
        environments.install(list(environments.PACKAGES))
        return
    n_iter = 50 if args.quick else 300
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape in ("tiny",) if args.quick else ("tiny", "medium"):
            rows += side_by_side(shape, RUNS, folder, n_iter)
        rows += side_by_side("four agents", OVER_MPI, folder, n_iter)
        goal = to_a_goal("tiny" if args.quick else "medium", folder, n_iter)
    facts = (
        f"Planar arm (synthetic), one hidden layer of tanh units, squared error, no penalty, Erdos-Renyi of seed 0, "
        f"Metropolis, one mixing round, step {STEP:g}, common start of seed 0, {n_iter} iterations, float64, one "
        f"thread per process; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. {software()}"
    )
    apart = "Difference: largest of the final weights to ours (scikit-learn: of the pooled gradient), relative."
    faster = [f"{row[1]} ({row[0].split(':')[0]})" for row in rows if row[5] is not None and row[5] < 1]
    apart += f" Faster than ours: {', '.join(faster) or 'none'}. " + WHY
    prefix = "quick/" if args.quick else ""
    (Path(environments.__file__).parents[1] / "results" / prefix).mkdir(parents=True, exist_ok=True)
    header = ["problem", "who", "version", "difference", "ms per iteration", "times ours"]
    write_table(f"{prefix}peers", "Peers: the same iterations, side by side", header, rows, f"{apart}\n\n{facts}")
    header = ["who", "iterations", "rounds", "MB", "seconds"]
    note = f"The goal is the objective of tracking after {n_iter} iterations."
    write_table(f"{prefix}peers_goal", "Peers: what one goal costs", header, goal, f"{note}\n\n{facts}")
    wrong = [row[1] for row in rows if row[3] is not None and row[3] > 1e-10]
    print("all that ran agree to 1e-10" if not wrong else f"DISAGREE: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
