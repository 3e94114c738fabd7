"""What the tangent term is worth on digits: ``python -m bench.convergence.tangents [--quick]``.

A perceptron (64-40-10, tanh, squared error, L2 1e-4) on some of the first 1000 of scikit-learn's digits, pixels in
[0, 1]; directions are shifts down and to the right (`ImageShifts`), targets zero. Shares of the last 797 digits that
are right, and the mean of |DF v|^2 there, summed over the directions; means over eight starts and choices of rows, the
same for every mu. "Pooled" is L-BFGS, at most 300 iterations. "Four agents" are a ring, NEXT with full linearisation
and every parameter at its default, 300 iterations: agent i sees its rows turned by an angle of its own, -30, -10, 10 or
30 degrees, directions are shifts and a rotation by ten degrees, and all 797 are tested at all four angles. Runs are
kept. Writes bench/results/tangents.md and .csv; ends with 1 if mu = .1 gains less than .01 at 100 or 200 pooled rows or
does not divide |DF v|^2 by 2.5 there, or if the four agents do not gain.

P. Simard, B. Victorri, Y. LeCun, J. Denker, Tangent prop, NeurIPS 4 (1991).
"""

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import rotate
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from bench.machine import software
from bench.study import kept, write_table
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import MLP
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, ImageRotations, ImageShifts, Problem, SquaredError, Tangents

STRENGTHS, SEEDS, ANGLES = (0.0, 0.01, 0.1, 0.3, 1.0), 8, (-30, -10, 10, 30)
POOLED, AGENTS = (50, 100, 200), 400
MODEL, SHIFTS = MLP([64, 40, 10]), ImageShifts((8, 8))
Array = np.ndarray[Any, Any]


class Motions(ImageShifts):
    """Shifts, and a rotation by ten degrees."""

    def __call__(self, x: Array) -> Array:
        return np.concatenate([super().__call__(x), 10 * ImageRotations(self.shape)(x)])


def digits(n: int, seed: int) -> tuple[Array, Array, Array, Array]:
    """n rows to train, 797 to test."""
    x, y = load_digits(return_X_y=True)
    own = np.random.default_rng(seed).permutation(1000)[:n]
    return x[own] / 16, y[own], x[1000:] / 16, y[1000:]


def turned(x: Array, angle: float) -> Array:
    """The images at an angle in degrees, as rows again."""
    return np.asarray(rotate(x.reshape(-1, 8, 8), angle, axes=(2, 1), reshape=False, order=1).reshape(len(x), -1))


def looked_at(w: Array, x: Array, y: Array, directions: Any) -> dict[str, float]:
    """Share right, and mean |DF v|^2."""
    rows = Rows.of(x)
    moved = MODEL.tangent(w[None], rows, directions(x))
    right = np.mean(MODEL.forward(w[None], rows).argmax(axis=1) == y)
    return {"right": float(right), "moved": float(np.mean(np.sum(moved**2, axis=(0, 2))))}


def pooled(n: int, mu: float, seed: int) -> dict[str, float]:
    """All rows in one place."""
    x, y, x_test, y_test = digits(n, seed)
    tangents = Tangents(mu, SHIFTS) if mu else None
    problem = Problem(MODEL, SquaredError(), L2(1e-4), [(x, np.eye(10)[y])], tangents=tangents, n_threads=1)

    def cost(w: Array) -> tuple[float, Array]:
        value, slope = problem.smooth_value_grad(w)
        return value + problem.penalty.value(w), slope + problem.penalty.quadratic * w

    w = minimize(cost, MODEL.init(seed), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return looked_at(w, x_test, y_test, SHIFTS)


def agents(n: int, mu: float, seed: int) -> dict[str, float]:
    """Four agents, each with its angle."""
    x, y, x_test, y_test = digits(n, seed)
    motions = Motions((8, 8))
    shards = [(turned(x[i::4], angle), np.eye(10)[y[i::4]]) for i, angle in enumerate(ANGLES)]
    tangents = Tangents(mu, motions) if mu else None
    problem = Problem(MODEL, SquaredError(), L2(1e-4), shards, tangents=tangents, n_threads=1)
    options = {"max_iter": 300, "monitor_every": 300, "warn": False}
    run = NEXT(FullLinearization()).run(problem, Network(Topology.ring(4)), w0=MODEL.init(seed), **options)
    everywhere = np.concatenate([turned(x_test, angle) for angle in ANGLES])
    return looked_at(run.w_bar, everywhere, np.tile(y_test, 4), motions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, too few for a claim, and two strengths; nothing is written"
    )
    quick = parser.parse_args().quick
    strengths, seeds = ((0.0, 0.1), 2) if quick else (STRENGTHS, SEEDS)
    table, bad = list[list[str]](), list[str]()
    with threadpool_limits(1):
        for kind, n in [*((pooled, n) for n in POOLED), (agents, AGENTS)]:
            found = {}
            for mu in strengths:
                settings = [{"kind": kind.__name__, "n": n, "mu": mu, "seed": seed} for seed in range(seeds)]
                runs = [kept("tangents", s, partial(kind, n, mu, s["seed"])) for s in settings]
                found[mu] = {key: np.array([run[key] for run in runs]) for key in runs[0]}
            gains = found[0.1]["right"] - found[0.0]["right"]
            ratio = found[0.0]["moved"].mean() / found[0.1]["moved"].mean()
            who = "pooled" if kind is pooled else "four agents"
            shares = [f"{found[mu]['right'].mean():.4f}" for mu in strengths]
            moved = " → ".join(f"{found[mu]['moved'].mean():.3f}" for mu in (0.0, 0.1))
            table.append([who, str(n), *shares, f"{gains.mean():+.4f} ({np.sum(gains > 0)} of {seeds})", moved])
            print(" | ".join(table[-1]), flush=True)
            least = 0.01 if kind is pooled and n > 50 else 0
            if not quick and (gains.mean() < least or (n in (100, 200) and ratio < 2.5)):
                bad.append(f"{who}, {n} rows: {gains.mean():+.4f}, |DF v|^2 divided by {ratio:.2f}")
    if not quick:
        header = ("rows", "n", *(f"mu = {mu:g}" for mu in strengths), "gain at .1 (seeds)", "(DF v)², mu = 0 → .1")
        notes = f"{(__doc__ or '').split(chr(10), 2)[2].strip()}\n\n{software()}"
        write_table("tangents", "What the tangent term is worth", header, table, notes)
    print(*(bad or ["nothing claimed" if quick else "the gains hold"]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
