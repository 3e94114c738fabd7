"""One whole iteration, ours beside NumPy: ``python -m bench.speed.iteration [--quick]``.

Every implementation does the same arithmetic on the same data from the same start, Chebyshev rounds and the rule for
tau included, and is first held to the others' weights after five iterations:

* ``step``: `NEXT.step`; ``loop``: the same within the loop (alarm, vote, clock; nothing measured);
* ``batched``: NumPy on arrays of all agents, dense products for gradients and mixing;
* ``agents``: NumPy, a Python loop over the agents.

They take turns of a few iterations from the same start; the figure is the median turn, in CPU time of the one thread,
so that waiting for a core that others use does not count. BLAS runs on one thread, without a pinned OPENBLAS_CORETYPE.
Results: bench/results/iteration.md and iteration.json.
"""

import argparse
import json
import statistics
import time
from itertools import pairwise

import numpy as np

from bench.machine import software, start_again_unpinned
from bench.study import RESULTS, write_table
from dnnext.algorithms import NEXT
from dnnext.algorithms.base import one_blas_thread
from dnnext.kernels.reference_steps import secant_rule
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Problem, SquaredError
from dnnext.runs.interruption import Interruption
from dnnext.runs.loop import Run
from dnnext.runs.result import Limits
from dnnext.runs.state import State

ALPHA = 1e-3
# surrogate and penalty, agents, rows of each, layers
CASES = (
    ("FL + l1", 10, 50, (8, 10, 1)),
    ("FL + l1", 100, 50, (8, 10, 1)),
    ("FL + l1", 10, 500, (30, 30, 1)),
    ("FL + l1", 100, 50, (8, 200, 1)),
    ("PL + l2", 10, 50, (8, 10, 1)),
    ("PL + l2", 100, 50, (8, 10, 1)),
    ("PL + l2", 10, 500, (8, 20, 1)),
)


class Ours:
    """NEXT itself; `within`: in the loop."""

    def __init__(self, name, agents, rows, layers, within=False):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((agents, rows, layers[0]))
        self.x, self.d = x, np.sin(x[..., :1] * 2) + 0.1 * rng.standard_normal((agents, rows, 1))
        full = name.startswith("FL")
        self.problem = Problem(
            MLP(layers), SquaredError(), (L1 if full else L2)(ALPHA), list(zip(self.x, self.d, strict=True))
        )
        graph = Topology.ring(agents) if agents <= 10 else Topology.watts_strogatz(agents, random_state=0)
        self.network = Network(graph)
        self.algorithm = NEXT(FullLinearization() if full else PartialLinearization())
        self.within = within
        self.restart()

    def restart(self):
        start = np.tile(self.problem.model.init(0), (self.problem.n_agents, 1))
        self.s = State.at(self.problem, start)
        self.algorithm.start(self.problem, self.s)
        limits = Limits(10**9, 0.0, 10, 10**9, None)
        self.run = Run(self.algorithm, self.problem, self.network, self.s, limits, ())
        self.run.measure()

    def iterate(self, n):
        if self.within:
            quiet = Interruption()
            for _ in range(n):
                self.run.iterate(quiet)
        else:
            for _ in range(n):
                parts = self.problem, self.network, self.s
                if not self.algorithm.fast_step(*parts):
                    self.algorithm.step(*parts)
                self.s.t += 1

    @property
    def w(self):
        return self.s.w


class Batched:
    """The same in NumPy, all agents at once; one hidden layer of tanh, one output, squared error."""

    def __init__(self, ours):
        problem, network = ours.problem, ours.network
        self.ours, self.x, self.d = ours, ours.x, ours.d
        self.agents, self.rows = self.x.shape[:2]
        self.layers, self.scale = problem.model.layers, 1 / (self.agents * self.rows)
        self.mask = problem.model.mask
        self.mixing = network.topology.mixing.toarray()
        self.near = np.where((self.mixing != 0) & ~np.eye(self.agents, dtype=bool), 0.0, -np.inf)
        self.rounds = [c for _, c in network._fixed]
        self.full = isinstance(ours.algorithm.surrogate, FullLinearization)
        self.growth, self.decay = ours.algorithm.surrogate.growth, ours.algorithm.surrogate.decay
        self.restart()

    def restart(self):
        self.ours.restart()
        s = self.ours.s
        self.w, self.y, self.grad = s.w.copy(), s.y.copy(), s.grad.copy()
        self.tau, self.beta, self.unit = s.tau.copy(), s.beta.copy(), s.unit

    def parts(self, w):
        start, views = 0, []
        for a, b in pairwise(self.layers):
            views += [w[..., start : start + a * b].reshape(*w.shape[:-1], a, b)]
            start += a * b
            views += [w[..., None, start : start + b]]
            start += b
        return views

    def forward(self, x, w):
        w1, b1, w2, b2 = self.parts(w)
        a = np.tanh(x @ w1 + b1)
        return a, a @ w2 + b2, w2

    def gradient(self, x, d, w):
        a, f, w2 = self.forward(x, w)
        u = (f - d) * self.scale
        back = (u @ w2.swapaxes(-1, -2)) * (1 - a * a)
        parts = x.swapaxes(-1, -2) @ back, back.sum(axis=-2), a.swapaxes(-1, -2) @ u, u.sum(axis=-2)
        return np.concatenate([p.reshape(*w.shape[:-1], -1) for p in parts], axis=-1)

    def curvature(self, x, w):
        """kappa J'J / N = J'J / N_i."""
        a, _, w2 = self.forward(x, w)
        slope = (1 - a * a) * w2.swapaxes(-1, -2)
        outer = (x[..., :, None] * slope[..., None, :]).reshape(*x.shape[:-1], -1)
        j = np.concatenate([outer, slope, a, np.ones_like(a[..., :1])], axis=-1)
        return j.swapaxes(-1, -2) @ j / self.rows

    def respond(self, x, w, y, tau):
        """(w_hat, the model's curvature or None)."""
        if self.full:
            v, s = w - (self.agents / tau)[..., None] * y, 1 / tau
            return np.sign(v) * np.maximum(np.abs(v) - s[..., None] * ALPHA * self.mask, 0), None
        b = self.curvature(x, w)
        slope = self.agents * y + ALPHA * self.mask * w
        damped = b + (tau[..., None] + ALPHA * self.mask)[..., None] * np.eye(w.shape[-1])
        return w - np.linalg.solve(damped, slope[..., None])[..., 0], b

    def iterate(self, n):
        for _ in range(n):
            w_hat, b = self.respond(self.x, self.w, self.y, self.tau)
            before = now = np.concatenate([self.w + 1.0 * (w_hat - self.w), self.y], axis=1)
            for k, (scale, shift, memory) in enumerate(self.rounds):
                after = scale * (self.mixing @ now) + shift * now
                if k and memory:
                    after += memory * before
                before, now = now, after
            received = (self.near + self.beta).max(axis=1)
            p = self.w.shape[1]
            w, y = now[:, :p], now[:, p:]
            grad = self.gradient(self.x, self.d, w)
            y = y + grad - self.grad
            model = None if b is None else (b @ (w - self.w)[..., None])[..., 0]
            secant_rule(
                self.tau, self.beta, received, w, self.w, y, self.y, model, self.agents, self.growth, self.decay,
                1e-4 * self.unit, 1e4 * self.unit,
            )  # fmt: skip
            self.w, self.y, self.grad = w, y, grad


class Agents(Batched):
    """The same, one agent after another."""

    def iterate(self, n):
        agents, csr = range(self.agents), self.ours.network.topology.mixing
        near = [csr.indices[csr.indptr[i] : csr.indptr[i + 1]] for i in agents]
        weight = [csr.data[csr.indptr[i] : csr.indptr[i + 1]] for i in agents]
        for _ in range(n):
            now, models = [], []
            for i in agents:
                w_hat, b = self.respond(self.x[i], self.w[i], self.y[i], self.tau[i])
                models.append(b)
                now.append(np.concatenate([self.w[i] + 1.0 * (w_hat - self.w[i]), self.y[i]]))
            before = now
            for k, (scale, shift, memory) in enumerate(self.rounds):
                after = []
                for i in agents:
                    total = sum(c * now[j] for c, j in zip(weight[i], near[i], strict=True))
                    after.append(scale * total + shift * now[i] + (memory * before[i] if k and memory else 0))
                before, now = now, after
            p, old_beta = self.w.shape[1], self.beta.copy()
            w, y, grad = np.empty_like(self.w), np.empty_like(self.y), np.empty_like(self.grad)
            for i in agents:
                w[i], y[i] = now[i][:p], now[i][p:]
                grad[i] = self.gradient(self.x[i], self.d[i], w[i])
                y[i] += grad[i] - self.grad[i]
                received, one = np.array([max(old_beta[j] for j in near[i] if j != i)]), slice(i, i + 1)
                model = None if models[i] is None else (models[i] @ (w[i] - self.w[i]))[None]
                secant_rule(
                    self.tau[one], self.beta[one], received, w[one], self.w[one], y[one], self.y[one], model,
                    self.agents, self.growth, self.decay, 1e-4 * self.unit, 1e4 * self.unit,
                )  # fmt: skip
            self.w, self.y, self.grad = w, y, grad


def check(case, others):
    """All of them reach the same weights."""
    ours = others[0]
    for each in others:
        each.restart()
        each.iterate(5)
    for each in others[1:]:
        gap = np.abs(each.w - ours.w).max() / np.abs(ours.w).max()
        if not gap < 1e-9:
            raise SystemExit(f"{case}: {type(each).__name__} differs by {gap:.1e} after five iterations.")


def turns(others, seconds):
    """Median microseconds per iteration of each, taking turns."""
    times = [[] for _ in others]
    sizes = []
    for each in others:
        each.restart()
        each.iterate(2)
        begin = time.thread_time()
        each.iterate(1)
        sizes.append(max(1, min(60, int(2e-3 / (time.thread_time() - begin)))))
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for each, mine, n in zip(others, times, sizes, strict=True):
            each.restart()
            each.iterate(1)
            begin = time.thread_time()
            each.iterate(n)
            mine.append((time.thread_time() - begin) / n * 1e6)
    return [statistics.median(mine) for mine in times]


def main():
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second per case, nothing saved")
    parser.add_argument("--seconds", type=float, default=6.0, help="time per case")
    arguments = parser.parse_args()
    rows, kept = [], []
    with one_blas_thread(), np.errstate(all="ignore"):
        for case in CASES:
            step = Ours(*case)
            others = [step, Ours(*case, within=True), Batched(Ours(*case)), Agents(Ours(*case))]
            check(case, others)
            found = turns(others, 1.0 if arguments.quick else arguments.seconds)
            name, agents, n, layers = case
            p, best = step.problem.n_params, min(found[2:])
            rows.append([f"{name}, {'-'.join(map(str, layers))}", agents, n, p, *found, best / found[0]])
            kept.append(
                dict(zip(("case", "A", "N", "P", "step", "loop", "batched", "agents", "ratio"), rows[-1], strict=True))
            )
            print(rows[-1], flush=True)
    header = ["case", "A", "N", "P", "step", "loop", "batched", "agents", "best peer / step"]
    notes = (
        "Microseconds of CPU time per iteration, medians of interleaved turns, one thread, float64; ring of 10 agents, "
        f"Watts-Strogatz graph of 100, Chebyshev rounds as needed. {software()}."
    )
    if arguments.quick:
        print(header, *rows, notes, sep="\n")
        return
    write_table("iteration", "One iteration, ours beside NumPy", header, rows, notes)
    (RESULTS / "iteration.csv").unlink()
    (RESULTS / "iteration.json").write_text(json.dumps({"rows": kept, "software": software()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
