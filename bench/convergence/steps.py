"""How many rounds of messages a given precision costs: PL, FL and tuned gradient tracking on the planar arm.

``python -m bench.convergence.steps [--quick] [--fresh]``: 8192 x 8, 10 hidden tanh units, squared error, l2 with alpha
1e-3, 10 agents, iid parts, Erdos-Renyi p = 0.3. Gap of w: (U(w_bar) - best) / best, with best the lowest objective of
ten L-BFGS restarts and of all runs; every mixing round counts. PL and FL run with the automatic rule, untouched;
gradient tracking is tuned over 15 settings: five steps, for its two forms with one round per iteration and for ATC with
the Chebyshev rounds that PL and FL use. Results: bench/results/convergence.md, .csv, .png.
"""

import argparse
import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize

from bench import data
from bench.study import history, kept, line_style, save_figure, write_table
from dnnext.algorithms import NEXT, Algorithm, GradientTracking
from dnnext.display.frame import GAP as GAP_LABEL
from dnnext.local import FullLinearization
from dnnext.network import Network, Topology
from dnnext.problem import Problem

ALPHA, AGENTS, GAP, P_EDGE = 1e-3, 10, 0.03, 0.3
STEPS = (0.0625, 0.125, 0.25, 0.5, 1.0)
TRACKING = (("atc", "auto"), ("atc", 1), ("diging", 1))
CAP = 6000  # rounds after which a run ends


def the_problem() -> Problem:
    return data.build(data.load("planar_arm"), AGENTS)


def lbfgs(problem: Problem, seed: int, max_iter: int = 3000) -> float:
    """The objective that L-BFGS reaches from a start of its own."""

    def value_grad(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = problem.smooth_value_grad(w)
        return value + problem.penalty.value(w), slope + ALPHA * problem.model.mask * w

    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-8}
    return float(minimize(value_grad, problem.model.init(seed), jac=True, method="L-BFGS-B", options=options).fun)


def run(problem: Problem, algorithm: Algorithm, seed: int, mixing_rounds: str | int) -> dict[str, list[float]]:
    """One run from the start and on the graph of this seed, until CAP rounds."""
    graph = Topology.erdos_renyi(AGENTS, p=P_EDGE, random_state=seed)
    network = Network(graph, mixing_rounds=mixing_rounds)
    per_iteration = graph.mixing_rounds if mixing_rounds == "auto" else int(mixing_rounds)
    every = 1 if isinstance(algorithm, NEXT) else 5 // per_iteration or 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a step that is too long diverges, is stopped by the alarm, and warns
        result = algorithm.run(problem, network, max_iter=CAP // per_iteration, monitor_every=every, random_state=seed)
    return history(result, most=4000)


def rounds_to(curve: dict[str, list[float]], best: float, gap: float, of_start: bool = False) -> int | None:
    """First measured round with (U - best) <= gap best; of_start: <= gap (U[0] - best)."""
    u = np.asarray(curve["objective"])
    reached = np.flatnonzero(u - best <= gap * ((u[0] - best) if of_start else best))
    return int(curve["round"][reached[0]]) if len(reached) else None


def study(seeds: range, fresh: bool) -> tuple[dict[str, list[dict[str, list[float]]]], float]:
    """(curves of every method, one per seed; the best objective known)."""
    problem, curves = the_problem(), dict[str, list[Any]]()

    def one(name: str, algorithm: Algorithm, mixing_rounds: str | int) -> None:
        for seed in seeds:
            settings = {"method": name, "seed": seed, "cap": CAP, "problem": repr(problem)}
            curve = kept("convergence", settings, lambda s=seed: run(problem, algorithm, s, mixing_rounds), fresh)
            curves.setdefault(name, []).append(curve)

    one("PL", NEXT(), "auto")
    one("FL", NEXT(FullLinearization()), "auto")
    for form, mixing_rounds in TRACKING:
        for step in STEPS:
            name = f"tracking {form}, {'Chebyshev' if mixing_rounds == 'auto' else '1 round'}, step {step:g}"
            one(name, GradientTracking(step=step, form=form), mixing_rounds)
    restarts = [
        kept("convergence", {"lbfgs": s, "problem": repr(problem)}, lambda s=s: {"u": lbfgs(problem, s)}, fresh)["u"]
        for s in range(10)
    ]
    lowest = min(min(c["objective"]) for cs in curves.values() for c in cs)
    print(f"L-BFGS, ten restarts: {min(restarts):.6f} to {max(restarts):.6f}; lowest of all runs: {lowest:.6f}")
    return curves, min(*restarts, lowest)


def shown(counts: list[int | None]) -> str:
    return ", ".join(f"> {CAP}" if c is None else str(c) for c in counts)


def mean(counts: list[int | None]) -> float:
    return float(np.mean([CAP if c is None else c for c in counts]))


def ratio(counts: list[int | None], reference: list[int | None]) -> str:
    """How many times more rounds, seed by seed, the median; a run that never arrived makes it a lower bound."""
    times = [(CAP if c is None else c) / r for c, r in zip(counts, reference, strict=True) if r]
    bound = "> " if sum(c is None for c in counts) * 2 > len(counts) else ""
    return f"{bound}{np.median(times):.1f}" if times else "-"


def table(curves: dict[str, list[Any]], best: float) -> tuple[list[list[Any]], str, str]:
    """(one row per method, the name of the best tracking setting for either goal)."""
    to = {name: [rounds_to(c, best, GAP) for c in cs] for name, cs in curves.items()}
    start = {name: [rounds_to(c, best, GAP, of_start=True) for c in cs] for name, cs in curves.items()}
    rows = []
    for name, cs in curves.items():
        lowest = ", ".join(f"{min(c['objective']):.4f}" for c in cs)
        rows.append([name, shown(to[name]), ratio(to[name], to["PL"]),
                     shown(start[name]), ratio(start[name], start["PL"]), lowest])  # fmt: skip
    settings = [name for name in curves if name.startswith("tracking")]
    tuned = min(settings, key=lambda n: (mean(to[n]), mean(start[n])))
    easier = min(settings, key=lambda n: (mean(start[n]), mean(to[n])))
    return rows, tuned, easier


def figure(curves: dict[str, list[Any]], best: float, tuned: str, facts: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    styles = {"PL": line_style("PL", 0), "FL": line_style("FL", 0), tuned: line_style("tracking", 1)}
    for ax, x in zip(axes, ("round", "bytes"), strict=True):
        for name in curves:
            for k, curve in enumerate(curves[name]):
                gap = np.maximum((np.array(curve["objective"]) - best) / best, 1e-4)
                label = {"PL": "PL, automatic", "FL": "FL, automatic", tuned: f"best {tuned}"}.get(name)
                style = styles[name] if label else {"color": "0.85", "lw": 0.7}
                if not label and "other tracking settings" not in ax.get_legend_handles_labels()[1]:
                    label = "other tracking settings"
                values = np.array(curve[x], float) / (1e6 if x == "bytes" else 1)
                ax.plot(np.maximum(values, values[1] / 2), gap, label=label if k == 0 else None, **style)
        ax.axhline(GAP, color="k", lw=0.8, ls=":")
        ax.set(xscale="log", yscale="log", xlabel={"round": "rounds", "bytes": "megabytes sent by all agents"}[x])
        ax.set_ylim(3e-3, 30)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(GAP_LABEL)
    axes[0].annotate(f"gap {GAP}", (1.5, GAP * 1.1), fontsize=8)
    axes[1].legend(fontsize=8)
    fig.suptitle("Planar arm, 10 agents: objective against rounds and bytes")
    save_figure(fig, "convergence", facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed instead of five")
    parser.add_argument("--fresh", action="store_true", help="run again what was kept")
    args = parser.parse_args()
    seeds = range(1) if args.quick else range(5)
    curves, best = study(seeds, args.fresh)
    rows, tuned, easier = table(curves, best)
    facts = (
        f"Data: planar arm (synthetic, 8192 x 8), 10 tanh units, squared error, l2 alpha {ALPHA:g}, {AGENTS} agents, "
        f"iid parts, Erdos-Renyi p = {P_EDGE}, Metropolis, graphs and starts of seeds {list(seeds)}, best objective "
        f"{best:.6f}"
    )
    header = [
        "method",
        f"rounds to gap {GAP}",
        "times PL",
        f"rounds to {GAP} of the start's gap",
        "times PL",
        "lowest U",
    ]
    note = (
        f"{facts}. Gap: (U - best) / best; beside it, an easier goal: {GAP} of the gap at the start. One number per "
        f"seed; times PL: median over seeds of the ratio. Best of 15 tracking settings: {tuned} for the first goal, "
        f"{easier} for the second. A step that is too long is corrected by the alarm, which divides it by ten."
    )
    write_table("convergence", "Rounds to a relative gap, planar arm", header, rows, note)
    figure(curves, best, tuned, facts)
    by_name = {row[0]: row for row in rows}
    print(f"FL needs {by_name['FL'][2]} times PL's rounds (wanted 3), tracking {by_name[tuned][2]} times (wanted 6).")


if __name__ == "__main__":
    main()
