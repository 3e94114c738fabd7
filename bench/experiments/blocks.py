"""c. Block-parallel: convergence and time per iteration against the number of blocks, on one and two threads.

`bench.blocks` measures one large agent, memory included; here ten agents train together.
"""

import os
import time
from typing import Any

import numpy as np

from bench import data
from bench.experiments.common import Case, Claim, erdos_renyi, first, plots, publish, run
from bench.provenance import kept
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.problem import Problem

AGENTS, HIDDEN = 10, (40,)


def blocks_of(case: Case) -> list[int]:
    return [1, 2, 4, 8, case.problem.n_params]


def seconds_per_iteration(case: Case, n_blocks: int, n_threads: int, n_iter: int = 30) -> float:
    """The fastest iteration (others may be using the machine); the model is formed and factored."""
    p = case.problem
    shards = [(p.x[a:b], p.target[a:b]) for a, b in zip(p.offsets[:-1], p.offsets[1:], strict=True)]
    problem = Problem(p.model, p.loss, p.penalty, shards, n_threads=n_threads)
    clock: list[float] = []
    NEXT(PartialLinearization(n_blocks=n_blocks, solver="primal")).run(
        problem, erdos_renyi(AGENTS, 0), max_iter=n_iter, monitor_every=n_iter, warn=False,
        callbacks=[lambda s, m: clock.append(time.perf_counter())],
    )  # fmt: skip
    return float(np.min(np.diff(clock[1:])))


def study(quick: bool, fresh: bool) -> list[Claim]:
    found = data.planar_arm(2000 if quick else 8192)
    case, n_iter, seeds = Case.of(found, AGENTS, hidden=HIDDEN), 60 if quick else 300, range(1 if quick else 3)
    curves: dict[int, list[Any]] = {}
    rows, times = [], {}
    for n_blocks in blocks_of(case):
        surrogate = PartialLinearization(n_blocks=n_blocks)
        for seed in seeds:
            settings = {"blocks": n_blocks, "seed": seed, "rows": len(found.x), "n_iter": n_iter}
            curve = lambda s=seed, r=surrogate: run(case, NEXT(r), erdos_renyi(AGENTS, s), n_iter, s)  # noqa: E731
            curves.setdefault(n_blocks, []).append(kept("c", settings, curve, fresh))
        for threads in (1, 2):
            timing = lambda b=n_blocks, t=threads: {"s": seconds_per_iteration(case, b, t)}  # noqa: E731
            settings = {"fastest": n_blocks, "threads": threads, "rows": len(found.x)}
            times[n_blocks, threads] = kept("c", settings, timing, fresh)["s"]
    goal = float(np.median([c["objective"][-1] for c in curves[1]])) * 1.25
    for n_blocks, cs in curves.items():
        reached = [first(c, "iteration", goal) for c in cs]
        one, two = times[n_blocks, 1], times[n_blocks, 2]
        rows.append([n_blocks, float(np.mean([c["objective"][-1] for c in cs])),
                     ", ".join("never" if r is None else f"{r:.0f}" for r in reached),
                     1e3 * one, 1e3 * two, one / two])  # fmt: skip
    header = ["blocks", f"objective after {n_iter}", "iterations to 1.25 of one block's end", "ms, 1 thread",
              "ms, 2 threads", "1 over 2 threads"]  # fmt: skip
    facts = (
        f"Data: planar arm (synthetic, {len(found.x)} x 8, three quarters to train), {AGENTS} agents, iid parts, "
        f"Erdos-Renyi, {HIDDEN[0]} tanh units (P = {case.problem.n_params}), squared error, l2 alpha 5/N, PL, seeds "
        f"{list(seeds)}; load of the machine while measuring {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    notes = (
        "Smaller blocks save work by themselves (only diagonal blocks are formed and factored); the parallel gain is "
        "the last column. Milliseconds: the fastest of 30 iterations; if the machine was busy (see the load) even that "
        "favours one thread."
    )
    publish("c_blocks", "Block-parallel local solves", header, rows, facts, picture(curves, times), quick, notes)
    ends = [np.mean([c["objective"][-1] for c in cs]) for cs in curves.values()]
    starts = [c["objective"][0] for cs in curves.values() for c in cs]
    return [
        Claim("every number of blocks trains", f"worst end {max(ends):.4f} of start {min(starts):.2f}",
              bool(max(ends) < 0.35 * min(starts))),
        Claim("smaller blocks cost less per iteration", f"{times[1, 1] * 1e3:.1f} ms to {rows[-1][3]:.1f} ms",
              times[blocks_of(case)[-1], 1] < times[1, 1]),
    ]  # fmt: skip


def picture(curves: dict[int, list[Any]], times: dict[tuple[int, int], float]) -> Any:
    fig, axes = plots(1, 3, 4.0, 3.2)
    for k, (n_blocks, cs) in enumerate(curves.items()):
        for i, c in enumerate(cs):
            label = f"{n_blocks} blocks" if i == 0 else None
            axes[0, 0].plot(c["iteration"][1:], c["objective"][1:], color=f"C{k}", lw=1.2, label=label)
            seconds = np.array(c["iteration"][1:]) * times[n_blocks, 2]
            axes[0, 1].plot(seconds, c["objective"][1:], color=f"C{k}", lw=1.2)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="iterations", ylabel="objective")
    axes[0, 1].set(xscale="log", yscale="log", xlabel="iterations x seconds of one, 2 threads", ylabel="objective")
    axes[0, 0].legend(fontsize=7)
    at = np.arange(len(curves))
    for threads in (1, 2):
        values = [1e3 * times[n, threads] for n in curves]
        axes[0, 2].bar(at + 0.4 * (threads - 1.5), values, 0.38, label=f"{threads} thread{'s' * (threads > 1)}")
    axes[0, 2].set_xticks(at, [str(n) for n in curves])
    axes[0, 2].set(xlabel="blocks", ylabel="ms per iteration", yscale="log")
    axes[0, 2].legend(fontsize=7)
    for ax in axes[0]:
        ax.grid(alpha=0.3)
    return fig
