"""The choice of the solver measured: every solver on a grid of shapes, beside the prediction of the model.

python -m bench.speed.solvers [--quick] [--dtype float32] [--save]

Each subproblem is that of the fourth iteration of a run on made data (tanh networks, a noisy teacher), with the warm
start of that iteration and tau at its unit b, where it is after some thirty iterations: the choice is made once for a
run, and conjugate gradients take all their steps there. A solver that the model takes for more than eight times dearer
than the cheapest is not timed. Times are medians of the processor's time of interleaved calls on one thread, per call
for all agents. Conjugate gradients end before they are exact, and count 1.3 times as dear when the solver is chosen;
how many iterations runs with them need is counted, too.
With --save the table goes to bench/results/choice.md and .csv. choice_before.csv there has the choices of the first
model, fitted when a product took two to eight times as long, for the same grid.
"""

import argparse
import csv
import itertools
import math
import os
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from bench.machine import software, start_again_unpinned
from bench.study import RESULTS, markdown, write_table
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.local.choice import EARLY, choose, costs
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
    ((10, 4, 1), SquaredError, (20, 60, 200, 600, 2000, 5000)),
    ((5, 7, 2), SquaredError, (20, 60, 200, 600, 2000, 5000)),
    ((20, 10, 10), Softmax, (20, 60, 200, 600, 2000)),
    ((20, 10, 10), SquaredError, (20, 60, 200, 600)),
    ((40, 40, 1), SquaredError, (20, 200, 700, 1500, 3000)),
    ((50, 90, 1), SquaredError, (20, 200, 700, 1500, 3000, 5000)),
    ((30, 60, 10), Softmax, (20, 60, 200, 700)),
    ((60, 60, 3), SquaredError, (20, 100, 400, 1200)),
    ((10, 20, 20, 10, 1), SquaredError, (20, 100, 400, 1200, 5000)),
    ((20, 30, 30, 2), Softmax, (20, 100, 400, 1200, 5000)),
]
RUNS = [((8, 20, 1), SquaredError, 100), ((12, 20, 3), SquaredError, 200), ((16, 10, 4), Softmax, 50)]
SETTINGS = [(1, L2, 1), (10, L2, 1), (10, L1, 1), (4, L2, 8)]  # agents, penalty, n_blocks
QUICK = [((8, 10, 1), SquaredError, (30, 300)), ((16, 20, 5), Softmax, (5, 200)), ((30, 20, 1), SquaredError, (100,))]
SMALL = 100  # parameters that are not cut into blocks
WORTH = 8  # modelled costs this far above the cheapest are not timed


def make_problem(layers, loss, rows, agents, penalty, dtype, seed=0):
    """Rows of a noisy teacher."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((layers[0], 8)) / math.sqrt(layers[0]), rng.standard_normal((8, layers[-1]))
    shards = []
    for _ in range(agents):
        x = rng.standard_normal((rows, layers[0]))
        f = np.tanh(x @ first) @ second + 0.1 * rng.standard_normal((rows, layers[-1]))
        shards.append((x, np.eye(layers[-1])[np.argmax(f, axis=1)] if loss is Softmax else f))
    return Problem(MLP(layers), loss(), penalty, shards, dtype=dtype)


def subproblem(layers, loss, rows, agents, penalty, n_blocks, dtype):
    """What the agents solve in the fourth iteration of a run, with the tau that is usual later."""
    problem = make_problem(layers, loss, rows, agents, penalty(alpha=1e-3), dtype)
    surrogate = PartialLinearization(n_blocks=n_blocks)
    network = Network(Topology.complete(agents))
    s = NEXT(surrogate).run(problem, network, max_iter=3, monitor_every=3, warn=False).state
    return Subproblem(
        problem, w=s.w.copy(), root=surrogate.scaled_root(problem, s.w), slope=problem.n_agents * s.y,
        tau=np.full(agents, s.unit, s.w.dtype), blocks=cut_blocks(problem.model.layout, problem.penalty, n_blocks),
        start=s.w_hat.copy(), takes_inexact=True,
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


def before():
    """What the first model chose, by shape."""
    with (RESULTS / "choice_before.csv").open() as file:
        return {tuple(row[:-1]): row[-1] for row in list(csv.reader(file))[1:]}


def measured(grid, settings, dtype, seconds):
    """One row of the table for every shape, its times and the model's, and how much slower the first choice is."""
    first = before()
    for (layers, loss, all_rows), (agents, penalty, n_blocks) in itertools.product(grid, settings):
        for rows in all_rows:
            shape = "-".join(map(str, layers)), loss.__name__, penalty.__name__, n_blocks, agents, rows
            if n_blocks > 1 and sum((d + 1) * h for d, h in itertools.pairwise(layers)) < SMALL:
                continue
            sub = subproblem(layers, loss, rows, agents, penalty, n_blocks, dtype)
            model, earlier = {name: cost / 1e3 for name, cost in costs(sub).items()}, first[tuple(map(str, shape))]
            names = [name for name in model if name == earlier or model[name] <= WORTH * min(model.values())]
            times, chosen = timed(sub, names, seconds), choose(sub)
            best = min(times, key=times.get)
            model["cg"] = model.get("cg", 0.0) / EARLY[True]
            each = [f"{times[n]:.0f} ({model[n]:.0f})" if n in times else None for n in SOLVERS]
            row = *shape, rows * sub.root.shape[-1], sub.problem.n_params, chosen, best
            yield (*row, round(times[chosen] / times[best], 2), *each), times, model, times[earlier] / times[best]


def summary(ratios):
    """How good choices are whose solvers take so many times as long as the quickest."""
    counts = [sum(r <= 1 for r in ratios), sum(r > 1.1 for r in ratios), sum(r > 1.3 for r in ratios)]
    return [counts[0], len(ratios), round(statistics.mean(ratios), 2), round(max(ratios), 2), *counts[1:]]


def iterations(runs, seeds, n_iter=200):
    """How many times as many iterations runs with conjugate gradients take to what exact ones reach in n_iter / 2."""
    ratios, network = [], Network(Topology.ring(10))
    for (layers, loss, rows), alpha, seed in itertools.product(runs, (1e-3, 1e-5), seeds):
        problem, found = make_problem(layers, loss, rows, 10, L2(alpha), np.float64, seed), []
        for solver in ("primal", "cg"):
            algorithm = NEXT(PartialLinearization(solver=solver))
            options = {"max_iter": n_iter, "monitor_every": 1, "random_state": seed, "warn": False}
            history = algorithm.run(problem, network, **options).history
            found.append(np.minimum.accumulate(history["objective"]))
        reached = np.flatnonzero(found[1] <= found[0][n_iter // 2])
        ratios.append(reached[0] / (n_iter // 2) if len(reached) else math.inf)
    return ratios


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few shapes, under half a minute")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--save", action="store_true", help="write the table to bench/results")
    given = parser.parse_args()
    header = ["layers", "loss", "penalty", "blocks", "agents", "rows", "rows of J", "P", "chosen", "best", "ratio"]
    header += [f"{name} us (model)" for name in SOLVERS]
    rows, earlier, errors = [], [], {name: [] for name in SOLVERS}
    with threadpool_limits(1, user_api="blas"):
        for row, times, model, ratio in measured(QUICK if given.quick else GRID, SETTINGS, given.dtype, 0.02):
            rows.append(row)
            earlier.append(ratio)
            for name, value in times.items():
                errors[name].append(math.log(model[name] / value))
        needed = iterations(RUNS[:1] if given.quick else RUNS, range(1 if given.quick else 3))
    spread = ", ".join(
        f"{name} {math.exp(statistics.mean(e)):.2f} times ({math.exp(statistics.pstdev(e)):.2f})"
        for name, e in errors.items()
        if e
    )
    words = ["model", "quickest chosen", "of", "mean ratio", "worst ratio", "above 1.1", "above 1.3"]
    ends = [["first", *summary(earlier)], ["now", *summary([row[10] for row in rows])]]
    notes = (
        f"The chosen solver against the quickest, {given.dtype}:\n\n{markdown(words, ends)}\n\n"
        f"The model was fitted to times of this grid. Model over measurement, geometric mean (spread): {spread}. "
        "Conjugate gradients take 10 steps, the other quadratic solvers are exact: to the objective that "
        f"{len(needed)} exact runs reach in 100 iterations, runs with conjugate gradients take "
        f"{statistics.median(needed):.2f} times as many (median; {min(needed):.2f} to {max(needed):.2f}). "
        f"Load average at the end {os.getloadavg()[0]:.1f}. {software()}."
    )
    if given.save:
        name = "choice" if given.dtype == "float64" else "choice_float32"
        write_table(name, "The choice of the solver against measurement", header, rows, notes)
    else:
        print(f"{markdown(header, rows)}\n\n{notes}")


if __name__ == "__main__":
    main()
