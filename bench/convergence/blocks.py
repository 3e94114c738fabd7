"""c. Block-parallel: convergence and time per iteration against the number of blocks, on one and two threads.

`bench.speed.blocks` measures one large agent, memory included; here ten agents train together.
"""

import time
from typing import Any

import numpy as np

from bench import data
from bench.cases import Case, erdos_renyi, first, run
from bench.machine import Others
from bench.study import Claim, finished, kept, not_finished, plots, publish
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.problem import Problem

AGENTS, HIDDEN = 10, (40,)


def blocks_of(case: Case) -> list[int]:
    return [1, 2, 4, 8, case.problem.n_params]


def seconds_per_iteration(case: Case, n_blocks: int, n_threads: int, n_iter: int = 30) -> dict[str, float]:
    """Median and fastest seconds of an iteration with the model formed and factored; cores that others used."""
    p = case.problem
    shards = [(p.x[a:b], p.target[a:b]) for a, b in zip(p.offsets[:-1], p.offsets[1:], strict=True)]
    problem = Problem(p.model, p.loss, p.penalty, shards, n_threads=n_threads)
    clock: list[float] = []
    with Others() as others:
        NEXT(PartialLinearization(n_blocks=n_blocks, solver="primal")).run(
            problem, erdos_renyi(AGENTS, 0), max_iter=n_iter, monitor_every=n_iter, warn=False,
            callbacks=[lambda s, m: clock.append(time.perf_counter())],
        )  # fmt: skip
    each = np.diff(clock[1:])
    return {"s": float(np.median(each)), "fastest": float(np.min(each)), "others": others.cores}


def runs(case: Case, n_iter: int, seeds: range, fresh: bool, missing: list[str]) -> tuple[dict[int, Any], Any]:
    """(n_blocks -> one curve per seed, (n_blocks, threads) -> times), as far as they are run."""
    curves: dict[int, list[Any]] = {}
    times: dict[tuple[int, int], dict[str, float]] = {}
    rows = len(case.data.x)
    for n_blocks in blocks_of(case):
        surrogate = PartialLinearization(n_blocks=n_blocks)
        for seed in seeds:
            settings = {"blocks": n_blocks, "seed": seed, "rows": rows, "n_iter": n_iter}
            curve = lambda s=seed, r=surrogate: run(case, NEXT(r), erdos_renyi(AGENTS, s), n_iter, s)  # noqa: E731
            what = f"{n_blocks} blocks, seed {seed}"
            found = finished(what, lambda t=settings, c=curve: kept("c", t, c, fresh), missing)
            curves.setdefault(n_blocks, []).extend([found] if found else [])
        for threads in (1, 2):
            timing = lambda b=n_blocks, t=threads: seconds_per_iteration(case, b, t)  # noqa: E731
            settings = {"clock": n_blocks, "threads": threads, "rows": rows}
            what = f"time of {n_blocks} blocks on {threads}"
            found = finished(what, lambda t=settings, c=timing: kept("c", t, c, fresh, clock=True), missing)
            if found:
                times[n_blocks, threads] = found
    return {n: cs for n, cs in curves.items() if cs}, times


def study(quick: bool, fresh: bool) -> list[Claim]:
    found = data.planar_arm(2000 if quick else 8192)
    case, n_iter, seeds = Case.of(found, AGENTS, hidden=HIDDEN), 60 if quick else 300, range(1 if quick else 3)
    missing: list[str] = []
    curves, times = runs(case, n_iter, seeds, fresh, missing)
    goal = float(np.median([c["objective"][-1] for c in curves[1]])) * 1.25
    rows = [line(n, cs, times, goal) for n, cs in curves.items()]
    header = ["blocks", f"objective after {n_iter}", "iterations to 1.25 of one block's end", "ms, 1 thread",
              "ms, 2 threads", "1 over 2 threads"]  # fmt: skip
    busy = max((t["others"] for t in times.values()), default=float("nan"))
    facts = (
        f"Data: planar arm (synthetic, {len(found.x)} x 8, three quarters to train), {AGENTS} agents, iid parts, "
        f"Erdos-Renyi, {HIDDEN[0]} tanh units (P = {case.problem.n_params}), squared error, l2 alpha 5/N, PL, seeds "
        f"{list(seeds)}; times: medians of 29 iterations of seed 0, others used at most {busy:.2f} cores meanwhile"
    )
    notes = (
        "Smaller blocks save work by themselves (only diagonal blocks are formed and factored); the parallel gain is "
        "the last column. One number per seed."
    )
    publish("c_blocks", "Block-parallel local solves", header, rows, facts, picture(curves, times), quick,
            notes + not_finished(missing))  # fmt: skip
    return claims(curves, times, quick)


def line(n_blocks: int, cs: list[Any], times: dict[tuple[int, int], dict[str, float]], goal: float) -> list[Any]:
    """One row of the table."""
    reached = [first(c, "iteration", goal) for c in cs]
    one, two = (times.get((n_blocks, threads), {"s": float("nan")})["s"] for threads in (1, 2))
    words = ", ".join("never" if r is None else f"{r:.0f}" for r in reached)
    return [n_blocks, float(np.mean([c["objective"][-1] for c in cs])), words, 1e3 * one, 1e3 * two, one / two]


def claims(curves: dict[int, Any], times: dict[tuple[int, int], dict[str, float]], quick: bool) -> list[Claim]:
    """Seconds are judged in the full study only."""
    ends = [np.mean([c["objective"][-1] for c in cs]) for cs in curves.values()]
    starts = [c["objective"][0] for cs in curves.values() for c in cs]
    measured = f"worst end {max(ends):.4f} of start {min(starts):.2f}"
    found = [Claim("every number of blocks trains", measured, bool(max(ends) < 0.35 * min(starts)))]
    most = max(curves)
    if not quick and (1, 1) in times and (most, 1) in times:
        whole, small = times[1, 1]["s"], times[most, 1]["s"]
        measured = f"{whole * 1e3:.1f} ms to {small * 1e3:.1f} ms"
        found.append(Claim("smaller blocks cost less per iteration", measured, small < whole))
    return found


def picture(curves: dict[int, list[Any]], times: dict[tuple[int, int], dict[str, float]]) -> Any:
    fig, axes = plots(1, 3, 4.0, 3.2)
    for k, (n_blocks, cs) in enumerate(curves.items()):
        for i, c in enumerate(cs):
            label = f"{n_blocks} blocks" if i == 0 else None
            axes[0, 0].plot(c["iteration"][1:], c["objective"][1:], color=f"C{k}", lw=1.2, label=label)
            if (n_blocks, 2) in times:
                seconds = np.array(c["iteration"][1:]) * times[n_blocks, 2]["s"]
                axes[0, 1].plot(seconds, c["objective"][1:], color=f"C{k}", lw=1.2)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="iterations", ylabel="objective")
    log = "log" if times else "linear"
    axes[0, 1].set(xscale=log, yscale=log, xlabel="iterations x seconds of one, 2 threads", ylabel="objective")
    axes[0, 0].legend(fontsize=7)
    at = np.arange(len(curves))
    for threads in (1, 2):
        values = [1e3 * times[n, threads]["s"] if (n, threads) in times else np.nan for n in curves]
        axes[0, 2].bar(at + 0.4 * (threads - 1.5), values, 0.38, label=f"{threads} thread{'s' * (threads > 1)}")
    axes[0, 2].set_xticks(at, [str(n) for n in curves])
    axes[0, 2].set(xlabel="blocks", ylabel="ms per iteration", yscale=log)
    axes[0, 2].legend(fontsize=7)
    for ax in axes[0]:
        ax.grid(alpha=0.3)
    return fig
