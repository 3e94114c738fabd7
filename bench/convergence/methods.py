"""a. Objective and test error against rounds, bytes and CPU seconds: ours untouched, every rival tuned on a grid.

The grid is searched with seed 0 for the lowest final objective; the other seeds run the winner only. DEFAULT is what
`fit` and `fit_agents` do; PL is own curvature, which is what private rows get.
"""

from typing import Any

import numpy as np

from bench import data
from bench.cases import Case, erdos_renyi, first, run
from bench.rivals import baselines as rivals
from bench.study import Claim, finished, kept, line_style, not_finished, plots, publish, save_figure
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.display.frame import GAP, OURS, PALETTE
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.local.sharing import choose_curvature

GOAL = 0.1  # gap, where costs are compared
SETS = {"california": (20,), "magic": (20,), "penbased": (20,), "breast_cancer": (10,)}
GRIDS: dict[str, list[dict[str, Any]]] = {
    "tracking": [{"step": s, "mixing_rounds": m} for s in (0.05, 0.1, 0.2, 0.4, 0.8) for m in ("auto", 1)],
    "DGD": [{"step": s, "mu": m / s} for s in (0.05, 0.1, 0.2, 0.4, 0.8) for m in (0.01, 0.1)],
    "DGD, constant": [{"step": s, "mu": 0.0} for s in (0.025, 0.05, 0.1, 0.2, 0.4)],
    "L-BFGS": [{"memory": m} for m in (10, 30)],
    "Adam": [{"lr": lr} for lr in (1e-3, 3e-3, 1e-2, 3e-2)],
}
DEFAULT = "dnnext, default"
DECENTRAL = (DEFAULT, "PL", "FL", "tracking", "DGD", "DGD, constant")
METHODS = (*DECENTRAL, "central LM", "central SCA", "L-BFGS", "Adam")
PAIRS = (("PL", "FL"), ("FL", "DGD"))  # the first is ahead by rounds
QUICK_MARGIN, QUICK_STEP = (1.5, 1.2), 0.2  # how many times fewer rounds; the shortest step of the quick grids
LOOKS = {"PL": OURS | {"color": PALETTE[1], "lw": 1.4}, "FL": OURS | {"color": PALETTE[2], "lw": 1.4}}


def one(case: Case, method: str, setting: dict[str, Any], budget: dict[str, int], seed: int) -> dict[str, list[float]]:
    """One run: DECENTRAL methods for `rounds` rounds, the others for `iterations` iterations or `epochs`."""
    n = case.problem.n_agents
    network = erdos_renyi(n, seed, setting.get("mixing_rounds", "auto"))
    if method.startswith("DGD"):
        network = erdos_renyi(n, seed, 1)
    n_iter = budget["rounds"] // max(network.rounds_per_mix or 1, 1)
    if method == DEFAULT:  # its iterations may take more rounds than the network knows before the run
        return run(case, NEXT(PartialLinearization(curvature="auto")), network, n_iter, seed, budget["rounds"])
    if method == "PL":
        return run(case, NEXT(), network, n_iter, seed)
    if method == "FL":
        return run(case, NEXT(FullLinearization()), network, n_iter, seed)
    if method == "tracking":
        return run(case, GradientTracking(step=setting["step"]), network, n_iter, seed)
    if method.startswith("DGD"):
        return run(case, DGD(**setting), network, n_iter, seed)
    if method in ("central LM", "central SCA"):
        central = CentralizedSCA(damping=method.removeprefix("central ").lower())
        return run(case.pooled(), central, erdos_renyi(1, seed), budget["iterations"], seed)
    if method == "L-BFGS":
        return rivals.lbfgs(case.pooled(), budget["iterations"], seed, **setting)
    return rivals.adam(case.pooled(), epochs=budget["epochs"], seed=seed, **setting)


def curves(
    name: str, n_agents: int, budget: dict[str, int], seeds: range, fresh: bool, quick: bool = False
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """(method -> one curve per seed, method -> the setting that won)."""
    found, chosen = dict[str, list[Any]](), dict[str, str]()
    rows = data.load(name).head(budget.get("rows", 10**9))
    cases = {seed: Case.of(rows, n_agents, hidden=SETS[name], seed=seed) for seed in seeds}

    def at(method: str, setting: dict[str, Any], seed: int) -> Any:
        central = method not in DECENTRAL
        settings = {"set": name, "agents": 0 if central else n_agents, "method": method, **setting, **budget,
                    "seed": seed, "hidden": SETS[name], "clock": "cpu"}  # fmt: skip
        return kept("a", settings, lambda: one(cases[seed], method, setting, budget, seed), fresh)

    for method in METHODS:
        grid = grid_of(method, quick)
        tried = [at(method, setting, seeds[0]) for setting in grid]
        best = int(np.argmin([np.nan_to_num(curve["objective"][-1], nan=np.inf) for curve in tried]))
        chosen[method] = (
            ", ".join(f"{k} {v if isinstance(v, str) else f'{v:.3g}'}" for k, v in grid[best].items()) or "untuned"
        )
        found[method] = [tried[best], *[at(method, grid[best], seed) for seed in seeds[1:]]]
    curvature = choose_curvature(cases[seeds[0]].problem, erdos_renyi(n_agents, seeds[0]), "curvature").curvature
    chosen[DEFAULT] = f"untuned ({curvature} curvature)"
    return found, chosen


def study(quick: bool, fresh: bool) -> list[Claim]:
    """Every data set with 10 and 25 agents."""
    sets = [d.name for d in data.load_all(("magic", "breast_cancer") if quick else SETS)]
    agents = (10,) if quick else (10, 25)
    budget = {"rounds": 900, "iterations": 300, "epochs": 40}
    if quick:
        budget = {"rounds": 600, "iterations": 100, "epochs": 10, "rows": 6000}
    seeds, rows, claims = range(1 if quick else 3), list[list[Any]](), list[Claim]()
    missing, better = list[str](), "At the end, by the mean objective over the seeds,"
    figures = {n: plots(len(sets), 4, 3.6, 2.7) for n in agents}
    for name, n_agents in ((name, n) for name in sets for n in agents):
        what = f"{name} with {n_agents} agents"
        got = finished(what, lambda n=name, a=n_agents: curves(n, a, budget, seeds, fresh, quick), missing)
        if got is None:
            continue
        found, chosen = got
        best = lowest(found)
        rows += [line(name, n_agents, method, chosen[method], cs, best, budget) for method, cs in found.items()]
        draw(figures[n_agents][1][sets.index(name)], name, n_agents, found, best)
        claims += order(name, n_agents, found, QUICK_MARGIN if quick else (1.0, 1.0))
        claims += beside_own(name, n_agents, found, best, ("iteration",) if quick else ("iteration", "round"))
        before = "; ".join(f"ahead of {m}: {ahead(found, m)}" for m in (DEFAULT, "PL", "FL"))
        better += f" {name}, {n_agents} agents: {before}."
    goal = f"to gap {GOAL}"
    header = ["set", "agents", "rows of J per agent / P", "method", "setting", "gap at the end", f"iterations {goal}",
              f"CPU s {goal}", f"rounds {goal}", f"MB {goal}", "test error"]  # fmt: skip
    shown = ", ".join(f"{n} {SETS[n]}" for n in sets)
    facts = (
        f"Data (hidden units): {shown}{', at most 6000 rows' if quick else ''}, three quarters to train; tanh, l2 "
        f"alpha 5/N, iid parts, {[*agents]} agents (a figure for each), Erdos-Renyi, Metropolis; starts, graphs and "
        f"splits of seeds {list(seeds)}; {budget['rounds']} rounds, {budget['iterations']} iterations of the "
        f"centralised methods (central SCA is NEXT with one agent, central LM the method of Levenberg and Marquardt), "
        f"{budget['epochs']} epochs of Adam (batch 64)"
    )
    notes = (
        f"{DEFAULT}: curvature='auto', as in fit and fit_agents; PL: each agent's own curvature; FL: full "
        "linearisation. Gap: (U - best) / best with best the lowest of all runs on the rows of that seed; to a gap: "
        "mean over the seeds, where all get there. These three and central LM and SCA are untuned; rivals took the "
        f"best of a grid by final objective: {grids(quick)}. Iterations of Adam are epochs. CPU seconds of all agents "
        "together, in one process of one thread, on a machine that others used; Adam is of NumPy, L-BFGS of SciPy. "
        f"Error: 1 - accuracy, or 1 - R2. {better}"
    ) + not_finished(missing)
    for n_agents, (fig, axes) in figures.items():
        for ax in axes.flat:
            ax.set_visible(bool(ax.lines))
        axes[-1][3].legend(*axes[-1][2].get_legend_handles_labels(), fontsize=6, loc="lower left", ncols=2)
        title = "Objective and test error, method by method"
        if n_agents == agents[0]:
            publish("a_methods", title, header, rows, facts, fig, quick, notes)
        else:
            fig.suptitle(title)
            save_figure(fig, f"a_methods_{n_agents}", facts)
    return claims


def line(
    name: str, n_agents: int, method: str, setting: str, cs: list[Any], best: list[float], budget: dict[str, int]
) -> list[Any]:
    """One row of the table."""
    case = Case.of(data.load(name).head(budget.get("rows", 10**9)), n_agents, hidden=SETS[name])
    outputs = case.problem.target.shape[1]
    share = case.problem.n_samples * outputs / n_agents / case.problem.n_params
    goals = [(1 + GOAL) * b for b in best]

    def cost(what: str, unit: float = 1.0) -> str:
        return _or_never([first(c, what, goal) for c, goal in zip(cs, goals, strict=True)], unit)

    sent = [cost("round"), cost("bytes", 1e6)] if method in DECENTRAL else ["", ""]
    gap = float(np.mean([c["objective"][-1] / b - 1 for c, b in zip(cs, best, strict=True)]))
    error = float(np.mean([c["error"][-1] for c in cs]))
    return [name, n_agents, round(share, 2), method, setting, gap, cost("iteration"), cost("cpu"), *sent, error]


def grid_of(method: str, quick: bool) -> list[dict[str, Any]]:
    """The settings that are tried; the quick study leaves out short steps, which never won."""
    return [s for s in GRIDS.get(method, [{}]) if not quick or s.get("step", QUICK_STEP) >= QUICK_STEP]


def grids(quick: bool) -> str:
    """The grids in words."""
    every = {name: grid_of(name, quick) for name in GRIDS}
    tried = {name: {key: sorted({s[key] for s in grid}, key=str) for key in grid[0]} for name, grid in every.items()}
    tried["DGD"]["mu"] = ["0.01 / step", "0.1 / step"]
    return "; ".join(f"{name} ({', '.join(f'{k} in {v}' for k, v in keys.items())})" for name, keys in tried.items())


def _or_never(values: list[float | None], unit: float) -> str:
    known = [v / unit for v in values if v is not None]
    return f"{np.mean(known):.4g}" if len(known) == len(values) else "never"


def lowest(found: dict[str, list[Any]]) -> list[float]:
    """The lowest objective of each seed (its rows are its own)."""
    return [min(min(c["objective"]) for c in cs) for cs in zip(*found.values(), strict=True)]


def ahead(found: dict[str, list[Any]], method: str) -> str:
    """The methods that end with a lower mean objective than this one."""
    ends = {m: np.mean([c["objective"][-1] for c in cs]) for m, cs in found.items()}
    return ", ".join(m for m in ends if ends[m] < ends[method]) or "none"


def order(name: str, n_agents: int, found: dict[str, list[Any]], margins: tuple[float, ...]) -> list[Claim]:
    """Per round, PL is ahead of FL and FL of DGD, judged at the objective that the slower one ends with."""
    claims = []
    for (fast, slow), margin in zip(PAIRS, margins, strict=True):
        ratios = []
        for a, b in zip(found[fast], found[slow], strict=True):
            mine = first(a, "round", b["objective"][-1])
            ratios.append(np.inf if mine == 0 else b["round"][-1] / mine if mine else 0.0)
        measured = f"{fast} gets where {slow} ends in {np.median(ratios):.1f} times fewer rounds"
        claims.append(
            Claim(f"{name}, {n_agents} agents: {fast} ahead of {slow}", measured, bool(np.median(ratios) > margin))
        )
    return claims


def beside_own(
    name: str, n_agents: int, found: dict[str, list[Any]], best: list[float], units: tuple[str, ...]
) -> list[Claim]:
    """The default needs fewer iterations, and fewer rounds, to the gap than own curvature does."""
    claims = []
    for unit in units:
        costs = [[first(c, unit, (1 + GOAL) * b) or np.inf for c, b in zip(found[m], best, strict=True)]
                 for m in (DEFAULT, "PL")]  # fmt: skip
        mine, own = np.median(costs, axis=1)
        text = f"{name}, {n_agents} agents: the default ahead of PL by {unit}s to gap {GOAL}"
        claims.append(Claim(text, f"{mine:.0f} against {own:.0f}", bool(mine < own)))
    return claims


def draw(line: Any, name: str, n_agents: int, found: dict[str, list[Any]], best: list[float]) -> None:
    """Gap against rounds, megabytes and CPU seconds, test error against rounds."""
    for ax, x in zip(line, ("round", "bytes", "cpu", "round"), strict=True):
        error = ax is line[-1]
        for method, cs in found.items():
            style = LOOKS.get(method) or line_style(method, METHODS.index(method))
            if x != "cpu" and method not in DECENTRAL:
                ends = [c["error"][-1] if error else c["objective"][-1] / b - 1 for c, b in zip(cs, best, strict=True)]
                level = max(float(np.median(ends)), 1e-4)
                ax.axhline(level, label=method, **style | {"lw": 0.9, "ls": ":"})
                continue
            for k, c in enumerate(cs):
                y = np.array(c["error"] if error else np.maximum(np.array(c["objective"]) / best[k] - 1, 1e-4), float)
                values = np.array(c[x], float) / (1e6 if x == "bytes" else 1)
                ax.plot(values[1:], y[1:], label=method if k == 0 else None, **style)
        ax.set(xscale="log", yscale="log", xlabel={"round": "rounds", "bytes": "megabytes", "cpu": "CPU seconds"}[x])
        ax.set_ylabel("test error" if error else GAP)
        ax.set_title(f"{name}, {n_agents} agents", fontsize=9)
        ax.grid(alpha=0.3)
        if error:
            low = min(min(c["error"]) for cs in found.values() for c in cs)
            ax.set_ylim(max(low * 0.8, 1e-3), max(low * 6, 0.3))
        else:
            ax.set_ylim(1e-3, 30)
