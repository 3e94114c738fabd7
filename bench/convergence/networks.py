"""d. The network: topology, number of agents, density, links that fail or take turns."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench import data
from bench.cases import Case, first, run
from bench.study import Claim, kept, plots, publish
from dnnext.algorithms import NEXT
from dnnext.display.frame import GAP, PALETTE, STYLES
from dnnext.network import Network, Schedule, Topology

AGENTS = 16
TOPOLOGIES: dict[str, Callable[[int], Topology]] = {
    "path": lambda s: Topology.path(AGENTS),
    "ring": lambda s: Topology.ring(AGENTS),
    "star": lambda s: Topology.star(AGENTS),
    "grid 4 x 4": lambda s: Topology.grid(4, 4),
    "torus 4 x 4": lambda s: Topology.torus(4, 4),
    "hypercube": lambda s: Topology.hypercube(AGENTS),
    "exponential": lambda s: Topology.exponential(AGENTS),
    "Erdos-Renyi": lambda s: Topology.erdos_renyi(AGENTS, random_state=s),
    "random geometric": lambda s: Topology.random_geometric(AGENTS, random_state=s),
    "Watts-Strogatz": lambda s: Topology.watts_strogatz(AGENTS, random_state=s),
    "Barabasi-Albert": lambda s: Topology.barabasi_albert(AGENTS, random_state=s),
    "complete": lambda s: Topology.complete(AGENTS),
}
SCHEDULES: dict[str, Callable[[Topology, int], Any]] = {
    "fixed": lambda g, s: g,
    "10 % of links fail": lambda g, s: Schedule.link_failures(g, 0.1, random_state=s),
    "30 % fail": lambda g, s: Schedule.link_failures(g, 0.3, random_state=s),
    "50 % fail": lambda g, s: Schedule.link_failures(g, 0.5, random_state=s),
    "70 % fail": lambda g, s: Schedule.link_failures(g, 0.7, random_state=s),
    "alternating halves": lambda g, s: Schedule.alternating(g, 2),
    "gossip pairs": lambda g, s: Schedule.gossip(g, random_state=s),
    "one-peer exponential": lambda g, s: Schedule.one_peer_exponential(g.n_agents),
}
SIZES, DENSITIES = (5, 10, 20, 50, 100), (0.15, 0.2, 0.3, 0.5, 0.8)
SETS = {"planar_arm": 8192, "breast_cancer": 569}


class Study:
    """Runs of one set over networks; curves are kept."""

    def __init__(self, name: str, quick: bool, fresh: bool) -> None:
        self.name, self.fresh = name, fresh
        self.rows = 2000 if quick else SETS[name]
        self.n_iter, self.seeds = 60 if quick else 300, range(1 if quick else 3)

    def curves(self, label: str, n_agents: int, network: Callable[[int], Any], how: str = "iid") -> list[Any]:
        """One curve per seed."""

        def one(seed: int) -> dict[str, list[float]]:
            case = Case.of(data.load(self.name).head(self.rows), n_agents, hidden=(10,), how=how, seed=seed)
            return run(case, NEXT(), Network(network(seed)), self.n_iter, seed)

        settings = {"set": self.name, "rows": self.rows, "n_iter": self.n_iter, "label": label, "agents": n_agents,
                    "how": how}  # fmt: skip
        return [kept("d", {**settings, "seed": s}, lambda s=s: one(s), self.fresh) for s in self.seeds]


def row(kind: str, label: str, graph: Topology | None, cs: list[Any], best: list[float]) -> list[Any]:
    """One row: what the graph is like, what a gap of 0.1 costs, where the run ends."""
    cost = {}
    for what, unit in (("iteration", 1), ("round", 1), ("bytes", 1e6)):
        reached = [first(c, what, 1.1 * b) for c, b in zip(cs, best, strict=True)]
        cost[what] = "never" if any(r is None for r in reached) else f"{np.mean([r / unit for r in reached if r]):.4g}"
    gap = float(np.mean([c["objective"][-1] / b - 1 for c, b in zip(cs, best, strict=True)]))
    return [kind, label, graph.n_edges if graph else "", round(graph.sigma_2, 3) if graph else "", *cost.values(),
            gap, float(np.mean([c["error"][-1] for c in cs]))]  # fmt: skip


def study(quick: bool, fresh: bool) -> list[Claim]:
    sets = ["planar_arm"] if quick else list(SETS)
    claims: list[Claim] = []
    for name in sets:
        s = Study(name, quick, fresh)
        groups = runs(s, quick)
        curves = [cs for group in groups.values() for cs in group.values()]
        best = [min(min(cs[k]["objective"]) for cs in curves) for k in range(len(s.seeds))]
        table = []
        for kind, group in groups.items():
            for label, cs in group.items():
                table.append(row(kind, label, graph_of(kind, label), cs, best))
        header = ["varied", "network", "links", "sigma_2", "iterations to gap 0.1", "rounds", "MB", "gap at the end",
                  "test error"]  # fmt: skip
        facts = (
            f"Data: {name} ({s.rows} rows, three quarters to train), iid parts unless stated otherwise, 10 tanh units, "
            f"l2 alpha 5/N, {AGENTS} agents on Erdos-Renyi graphs unless varied, Metropolis, PL untuned, {s.n_iter} "
            f"iterations, seeds {list(s.seeds)}"
        )
        notes = (
            "Gap: (U - best) / best, best: the lowest of this table on the rows of that seed. Links and sigma_2 of the "
            "graph of seed 0. Every iteration mixes until a quarter of the disagreement is left; schedules by plain "
            "rounds, fixed graphs by Chebyshev."
        )
        publish(f"d_networks_{name}", f"Networks: {name}", header, table, facts, picture(groups, best), quick, notes)
        claims += judge(name, groups, s.n_iter)
    return claims


def graph_of(kind: str, label: str) -> Topology | None:
    if kind == "topology":
        return TOPOLOGIES[label](0)
    if kind == "agents":
        return Topology.erdos_renyi(int(label), random_state=0)
    if kind == "density":
        return Topology.erdos_renyi(AGENTS, p=float(label), random_state=0)
    return None


def runs(s: Study, quick: bool) -> dict[str, dict[str, list[Any]]]:
    """kind -> label -> curves."""
    topologies = dict(list(TOPOLOGIES.items())[1::4]) if quick else TOPOLOGIES
    sizes = (5, 20) if quick else SIZES if s.rows > 2000 else SIZES[:-1]
    schedules = {k: SCHEDULES[k] for k in ("fixed", "50 % fail", "gossip pairs")} if quick else SCHEDULES
    groups: dict[str, dict[str, list[Any]]] = {"topology": {}, "agents": {}, "density": {}, "schedule": {}}
    for label, make in topologies.items():
        groups["topology"][label] = s.curves(label, AGENTS, make)
    for n in sizes:
        make = lambda seed, n=n: Topology.erdos_renyi(n, random_state=seed)  # noqa: E731
        groups["agents"][str(n)] = s.curves("Erdos-Renyi", n, make)
    for p in DENSITIES[1::2] if quick else DENSITIES:
        make = lambda seed, p=p: Topology.erdos_renyi(AGENTS, p=p, random_state=seed)  # noqa: E731
        groups["density"][str(p)] = s.curves(f"Erdos-Renyi {p}", AGENTS, make)
    for how in ("iid",) if quick else ("iid", "label"):
        groups[f"schedule, {how}"] = {}
        for label, schedule in schedules.items():
            make = lambda seed, f=schedule: f(Topology.erdos_renyi(AGENTS, random_state=seed), seed)  # noqa: E731
            groups[f"schedule, {how}"][label] = s.curves(label, AGENTS, make, how)
    del groups["schedule"]
    return groups


def judge(name: str, groups: dict[str, dict[str, list[Any]]], n_iter: int) -> list[Claim]:
    """All schedules end together; every topology trains."""
    claims = []
    for how in ("iid", "label"):
        group = groups.get(f"schedule, {how}")
        if group is None:
            continue
        at60, at_end = [], []
        for label, cs in group.items():
            for c, fixed in zip(cs, group["fixed"], strict=True):
                if label != "fixed":
                    at60.append(abs(_at(c, 60) / _at(fixed, 60) - 1))
                    at_end.append(abs(c["objective"][-1] / fixed["objective"][-1] - 1))
        found = f"largest {max(at60):.2%}, mean {np.mean(at60):.2%} of {len(at60)} runs"
        claims.append(Claim(f"{name}, {how}: schedules within 3 % of the fixed graph after 60 iterations, mean", found,
                            bool(np.mean(at60) <= 0.03)))  # fmt: skip
        if n_iter >= 300:
            found = f"largest {max(at_end):.2%}, mean {np.mean(at_end):.2%}"
            claims.append(
                Claim(f"{name}, {how}: within 1 % after {n_iter}, mean", found, bool(np.mean(at_end) <= 0.01))
            )
    ends = {label: np.mean([c["objective"][-1] for c in cs]) for label, cs in groups["topology"].items()}
    spread = max(ends.values()) / min(ends.values()) - 1
    worst = max(ends, key=lambda k: ends[k])
    claims.append(
        Claim(f"{name}: every topology ends within 15 % of the best", f"{worst} {spread:.1%}", spread <= 0.15)
    )
    return claims


def _at(curve: dict[str, list[float]], iteration: int) -> float:
    """Objective at the last look up to an iteration."""
    seen = np.searchsorted(curve["iteration"], iteration, side="right") - 1
    return float(curve["objective"][seen])


def picture(groups: dict[str, dict[str, list[Any]]], best: list[float]) -> Any:
    """Gap against rounds (upper) and iterations (lower), one column per group, the curve of the middle seed."""
    fig, axes = plots(2, len(groups), 3.7, 2.9)
    for column, (kind, group) in enumerate(groups.items()):
        for k, (label, cs) in enumerate(group.items()):
            c = cs[len(cs) // 2]
            gap = np.maximum(np.array(c["objective"]) / best[len(cs) // 2] - 1, 1e-4)
            style = {"color": PALETTE[k % len(PALETTE)], "lw": 1.1, "ls": STYLES[k // len(PALETTE) % len(STYLES)]}
            axes[0, column].plot(c["round"][1:], gap[1:], label=label, **style)
            axes[1, column].plot(c["iteration"][1:], gap[1:], **style)
        for ax, x in zip(axes[:, column], ("rounds", "iterations"), strict=True):
            ax.set(xscale="log", yscale="log", xlabel=x, ylim=(1e-3, 30))
            ax.grid(alpha=0.3)
        title = {"agents": "number of agents", "density": "Erdos-Renyi p"}.get(kind, kind)
        axes[0, column].set_title(title, fontsize=9)
        axes[0, column].legend(fontsize=5.5, ncol=1 + (len(group) > 8))
    for ax in axes[:, 0]:
        ax.set_ylabel(GAP)
    return fig
