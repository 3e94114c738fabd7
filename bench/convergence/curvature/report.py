"""Table, figure and verdict of the finished scenarios."""

from typing import Any

import numpy as np

from bench.convergence.curvature.methods import CONTRACTION, GAPS, GT, METHODS, MOST
from bench.convergence.curvature.scenarios import SETS, Scenario, kind_of
from bench.data import load
from bench.study import line_style, plots, publish

Run = dict[str, Any]
Done = list[tuple[Scenario, dict[str, Run]]]
COLUMNS = ("iteration", "round", "bytes", "seconds")
TARGETS = ((0.1, 0.03), 1.5, 1e-4)
SHARED = ("shared", "shared + QN")


def best(result: dict[str, Run]) -> float:
    """The lowest objective that any method found on the scenario."""
    return min(min(result[name]["objective"]) for name in METHODS)


def needed(result: dict[str, Run], method: str, gap: float, what: str = "iteration") -> float:
    """Iterations (rounds, ...) to the relative gap to the best objective; infinite if it was not reached."""
    run = result[method]
    reached = np.flatnonzero(np.asarray(run["objective"]) <= (1 + gap) * best(result))
    return float(run[what][reached[0]]) if len(reached) else np.inf


def rise(run: Run) -> float:
    """The highest that the objective stood above an earlier value, relative to the start."""
    u = np.asarray(run["objective"])
    return float(np.max(u - np.minimum.accumulate(u)) / u[0])


def near(done: Done, method: str, gap: float, factor: float, central: str) -> tuple[int, int]:
    """(scenarios where the method took at most factor times the centralised iterations, scenarios that count)."""
    pairs = [(needed(r, method, gap), needed(r, central, gap)) for _, r in done]
    pairs = [(a, b) for a, b in pairs if np.isfinite(b) or np.isfinite(a)]
    return sum(a <= factor * b for a, b in pairs), len(pairs)


def _share(counts: tuple[int, int]) -> str:
    return f"{counts[0]}/{counts[1]}" + (f" ({100 * counts[0] / counts[1]:.0f} %)" if counts[1] else "")


def paired(done: Done, method: str, gap: float) -> str:
    """Costs of the method over those of 'own', in the scenarios where both reached the gap."""
    both = [r for _, r in done if np.isfinite(needed(r, method, gap)) and np.isfinite(needed(r, "own", gap))]
    ratios = {w: [needed(r, method, gap, w) / needed(r, "own", gap, w) for r in both] for w in ("iteration", "round")}
    measured = ", ".join(f"{np.median(values):.2f} times the {what}s" for what, values in ratios.items() if values)
    return f"gap {gap}: {measured} ({len(both)} scenarios)"


def cost_rows(done: Done) -> list[list[Any]]:
    """Method by method: at each gap how often it was reached, and medians over the scenarios where it was."""
    rows = []
    for method in METHODS:
        for gap in GAPS:
            reached = [r for _, r in done if np.isfinite(needed(r, method, gap))]
            row: list[Any] = [method, gap, f"{len(reached)}/{len(done)}"]
            for what in COLUMNS:
                values = [needed(r, method, gap, what) for r in reached]
                row.append(float(np.median(values)) if values else None)
            rows.append(row)
    return rows


def verdict_rows(done: Done) -> list[list[Any]]:
    """The targets, for all scenarios and for parts of them."""
    kinds = {s.data: kind_of(load(s.data)) for s, _ in done}
    parts = {"all": done}
    parts |= {f"inputs {k}": [d for d in done if kinds[d[0].data] == k] for k in ("near", "heavy-tailed", "binary")}
    for name, levels in (("how", ("iid", "label", "dirichlet")), ("n_agents", (10, 25, 50))):
        parts |= {f"{level} {'agents' if name == 'n_agents' else ''}".strip(): [
            d for d in done if getattr(d[0], name) == level] for level in levels}  # fmt: skip
    for net in ("ring", "star", "geometric", "failing links"):
        parts[net] = [d for d in done if d[0].net == net]
    rows = []
    for words, some in parts.items():
        for method in ("own", *SHARED) if some else ():
            gaps, factor, height = TARGETS
            ok = [_share(near(some, method, gap, factor, "centralised")) for gap in gaps]
            strict = _share(near(some, method, gaps[1], factor, "centralised, signed"))
            flat = sum(rise(r[method]) <= height for _, r in some), len(some)
            bad = sum(not r[method]["finite"] for _, r in some), sum(r[method]["retreated"] for _, r in some)
            rows.append([words, method, *ok, strict, _share(flat), max(rise(r[method]) for _, r in some), *bad])
    return rows


def draw(done: Done) -> Any:
    """How many scenarios are at gap .03 (and .1) after so many iterations, and after so many rounds."""
    fig, axes = plots(1, 3, width=4.6, height=3.8)
    for axis, (what, gap) in zip(axes[0], (("iteration", 0.1), ("iteration", 0.03), ("round", 0.03)), strict=True):
        for method in METHODS:
            if what == "round" and method.startswith("centralised"):
                continue
            values = np.sort([needed(r, method, gap, what) for _, r in done])
            values = np.maximum(values[np.isfinite(values)], 1)
            height = 100 * np.arange(1, len(values) + 1) / len(done)
            look = line_style("ours" if method == "shared + QN" else method, list(METHODS).index(method))
            axis.step(values, height, where="post", label=method, **look)
        axis.set(xscale="log", xlabel=f"{what}s", ylabel="scenarios at the gap (%)", ylim=(0, 101))
        axis.set_title(f"gap {gap} to the lowest objective of all runs")
        axis.grid(alpha=0.25)
    for axis in axes[0][:2]:
        ticks = [3, 5, 10, 20, 40, 80]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, fontsize=8, loc="outside right center")
    return fig


def report(done: Done, n_wanted: int, quick: bool) -> None:
    """bench/results/curvature.md, curvature_costs.md and curvature.png."""
    facts = (
        f"{len(done)} of {n_wanted} scenarios of a seeded sample (full grid {len(SETS) * 108}): {len(SETS)} sets that "
        "took no part in the design, at most 2000 rows, 10 hidden tanh units (4 above 30 inputs), alpha 5/N; 10, 25 or "
        "50 agents; iid, label-sorted, Dirichlet parts; ring, star, random geometric, geometric with links that fail "
        f"with probability 0.3; seeds 0-2. At most {MOST} iterations; contraction {CONTRACTION} with shared curvature, "
        "0.25 otherwise. Gaps are relative to the lowest objective any method found"
    )
    title = f"Shared curvature on held-out data ({len(done)} scenarios)"
    header = ["scenarios", "method", "<= 1.5x centralised at .1", "at .03", "at .03, of signed", "no rise > 1e-4",
              "largest rise", "not finite", "fell back"]  # fmt: skip
    notes = (
        "Counts of scenarios. A run counts at a gap if it took at most 1.5 times the iterations of the centralised "
        "method with the automatic rule ('of signed': with the signed rule, which is faster); "
        "scenarios where neither reached the gap do not count. Not finite: objective or weights; fell back: to own "
        "curvature after three alarms."
    )
    publish("curvature", title, header, verdict_rows(done), facts, draw(done), quick, notes)
    header = [
        "method",
        "gap",
        "reached",
        *[f"{what}s, median" if what[-1] != "s" else f"{what}, median" for what in COLUMNS],
    ]
    notes = (
        f"Medians over the scenarios where the method reached the gap, which are not the same for all. {GT}: the best "
        "of three step sizes. Seconds come from a loaded machine. shared + QN beside own, medians over scenarios where "
        f"both got there: {'; '.join(paired(done, 'shared + QN', gap) for gap in GAPS[:2])}."
    )
    publish("curvature_costs", "Costs to a relative gap", header, cost_rows(done), facts, None, quick, notes)
