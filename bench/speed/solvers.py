"""The choice of the solver measured: every solver on a grid of shapes, beside the prediction of the model.

python -m bench.speed.solvers [--quick] [--dtype float32] [--save]

Each subproblem is that of the fourth iteration of a run on made data (tanh networks, a noisy teacher), with the tau and
the warm start of that iteration. A solver that the model takes for more than eight times dearer than the cheapest is
not timed. Times are medians of the processor's time of interleaved calls on one thread, per call for all agents.
With --save the table goes to bench/results/choice.md and .csv.
"""

import argparse
import math
import os
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from bench.machine import software, start_again_unpinned
from bench.study import markdown, write_table
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.local.choice import choose, costs
from dnnext.local.solvers import SOLVERS, Subproblem, cut_blocks
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Problem, Softmax, SquaredError

# layers, loss, rows of an agent
GRID = [
    ((8, 10, 1), SquaredError, (10, 30, 70, 100, 150, 300, 1000, 5000)),
    ((13, 20, 1), SquaredError, (10, 50, 200, 300, 500, 2000)),
    ((30, 20, 1), SquaredError, (10, 100, 200, 300, 1000, 4000)),
    ((8, 100, 1), SquaredError, (30, 150, 300, 1000)),
    ((100, 50, 1), SquaredError, (20, 200, 500, 1000)),
    ((16, 20, 5), SquaredError, (5, 20, 40, 200, 1000)),
    ((16, 20, 5), Softmax, (5, 20, 40, 200, 1000)),
    ((64, 30, 10), Softmax, (5, 10, 20, 100, 500)),
    ((784, 30, 10), Softmax, (5, 20, 50)),
    ((20, 20, 20, 3), SquaredError, (10, 50, 100, 500)),
]
SETTINGS = [(1, L2, 1), (10, L2, 1), (10, L1, 1), (4, L2, 8)]  # agents, penalty, n_blocks
QUICK = [((8, 10, 1), SquaredError, (30, 300)), ((16, 20, 5), Softmax, (5, 200)), ((30, 20, 1), SquaredError, (100,))]
WORTH = 8  # modelled costs this far above the cheapest are not timed


def subproblem(layers, loss, rows, agents, penalty, n_blocks, dtype):
    """What the agents solve in the fourth iteration of a run."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((layers[0], 8)) / math.sqrt(layers[0]), rng.standard_normal((8, layers[-1]))
    shards = []
    for _ in range(agents):
        x = rng.standard_normal((rows, layers[0]))
        f = np.tanh(x @ first) @ second + 0.1 * rng.standard_normal((rows, layers[-1]))
        shards.append((x, np.eye(layers[-1])[np.argmax(f, axis=1)] if loss is Softmax else f))
    problem = Problem(MLP(layers), loss(), penalty(alpha=1e-3), shards, dtype=dtype)
    surrogate = PartialLinearization(n_blocks=n_blocks)
    network = Network(Topology.complete(agents))
    s = NEXT(surrogate).run(problem, network, max_iter=3, monitor_every=3, warn=False).state
    return Subproblem(
        problem, w=s.w.copy(), root=surrogate.scaled_root(problem, s.w), slope=problem.n_agents * s.y,
        tau=s.tau.astype(s.w.dtype), blocks=cut_blocks(problem.model.layout, problem.penalty, n_blocks),
        start=s.w_hat.copy(),
    )  # fmt: skip


def timed(sub, names, seconds):
    """Median microseconds of each solver, called in turn."""
    out, times = np.empty_like(sub.w), {name: [] for name in names}
    for name in names:
        SOLVERS[name](sub, out)
    end = time.thread_time() + seconds
    while len(times[names[0]]) < 3 or (time.thread_time() < end and len(times[names[0]]) < 200):
        for name in names:
            start = time.thread_time()
            SOLVERS[name](sub, out)
            times[name].append((time.thread_time() - start) * 1e6)
    return {name: statistics.median(mine) for name, mine in times.items()}


def measured(grid, settings, dtype, seconds):
    """One row of the table for every shape."""
    for layers, loss, all_rows in grid:
        for rows in all_rows:
            for agents, penalty, n_blocks in settings:
                sub = subproblem(layers, loss, rows, agents, penalty, n_blocks, dtype)
                model = {name: cost / 1e3 for name, cost in costs(sub).items()}
                names = [name for name in model if model[name] <= WORTH * min(model.values())]
                times, chosen = timed(sub, names, seconds), choose(sub)
                best = min(times, key=times.get)
                shape = "-".join(map(str, layers)), type(sub.problem.loss).__name__, type(sub.problem.penalty).__name__
                each = [f"{times[n]:.0f} ({model[n]:.0f})" if n in times else None for n in SOLVERS]
                row = (*shape, n_blocks, agents, rows, rows * sub.root.shape[-1], sub.problem.n_params)
                yield (*row, chosen, best, round(times[chosen] / times[best], 2), *each), times, model


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few shapes, under half a minute")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--save", action="store_true", help="write the table to bench/results")
    given = parser.parse_args()
    header = ["layers", "loss", "penalty", "blocks", "agents", "rows", "rows of J", "P", "chosen", "best", "ratio"]
    header += [f"{name} us (model)" for name in SOLVERS]
    rows, errors = [], {name: [] for name in SOLVERS}
    with threadpool_limits(1, user_api="blas"):
        for row, times, model in measured(QUICK if given.quick else GRID, SETTINGS, given.dtype, 0.02):
            rows.append(row)
            for name, value in times.items():
                errors[name].append(math.log(model[name] / value))
    ratios = sorted(row[10] for row in rows)
    spread = ", ".join(
        f"{name} {math.exp(statistics.mean(e)):.2f} times ({math.exp(statistics.pstdev(e)):.2f})"
        for name, e in errors.items()
        if e
    )
    notes = (
        f"{len(rows)} subproblems, {given.dtype}. The chosen solver against the best one timed: median ratio "
        f"{statistics.median(ratios):.2f}, worst {ratios[-1]:.2f}, above 1.3 in {sum(r > 1.3 for r in ratios)}. "
        f"Model over measurement, geometric mean (spread): {spread}. Conjugate gradients take 10 steps, the other "
        f"quadratic solvers are exact. Load average at the end {os.getloadavg()[0]:.1f}. {software()}."
    )
    if given.save:
        name = "choice" if given.dtype == "float64" else "choice_float32"
        write_table(name, "The choice of the solver against measurement", header, rows, notes)
    else:
        print(f"{markdown(header, rows)}\n\n{notes}")


if __name__ == "__main__":
    main()
