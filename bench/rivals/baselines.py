"""Short baselines of our own: minibatch Adam and SGD on pooled rows, L-BFGS, federated averaging.

One pass of NumPy per batch, for networks of any depth with tanh units; the objective is that of the Problem.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize

from bench.cases import Case, marks
from bench.machine import Clock
from dnnext.problem import Problem


def batch_grad(problem: Problem, w: np.ndarray, x: np.ndarray, target: np.ndarray, alpha: float) -> np.ndarray:
    """The gradient of the mean loss over the batch plus alpha/2 |w|^2 (without biases), (P,)."""
    layers = problem.model.unpack(w)
    hidden = [x]
    for weight, bias in layers[:-1]:
        hidden.append(np.tanh(hidden[-1] @ weight + bias))
    weight, bias = layers[-1]
    back = problem.loss.grad(hidden[-1] @ weight + bias, target) / len(x)
    slopes: list[np.ndarray] = []
    for k in range(len(layers) - 1, -1, -1):
        slopes = [(hidden[k].T @ back).ravel(), back.sum(axis=0), *slopes]
        if k:
            back = (back @ layers[k][0].T) * (1 - hidden[k] ** 2)
    return np.concatenate(slopes) + alpha * problem.model.mask * w


class Adam:
    """Adam (Kingma & Ba 2015), one state."""

    def __init__(self, lr: float, n_params: int) -> None:
        self.lr, self.t = lr, 0
        self.m, self.v = np.zeros(n_params), np.zeros(n_params)

    def step(self, w: np.ndarray, grad: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m += 0.1 * (grad - self.m)
        self.v += 0.001 * (grad * grad - self.v)
        size = self.lr * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        return w - size * self.m / (np.sqrt(self.v) + 1e-8)


def strength(problem: Problem) -> float:
    """alpha of an l2 penalty."""
    return float(problem.penalty.quadratic.max())


def adam(case: Case, lr: float, epochs: int, seed: int, batch: int = 64) -> dict[str, list[float]]:
    """Adam on the pooled rows; an iteration is an epoch."""
    p, looked = case.problem, Looks(case, marks(epochs, 60))
    w = p.model.init(seed)
    looked(0, w)
    alpha, rng, state = strength(p), np.random.default_rng(seed), Adam(lr, p.n_params)
    for epoch in range(1, epochs + 1):
        order = rng.permutation(p.n_samples)
        for k in range(0, len(order), batch):
            rows = order[k : k + batch]
            w = state.step(w, batch_grad(p, w, p.x[rows], p.target[rows], alpha))
        looked(epoch, w)
    return looked.rows


def lbfgs(case: Case, n_iter: int, seed: int, memory: int = 10) -> dict[str, list[float]]:
    """L-BFGS on the pooled rows; an iteration is one of its own (about one gradient)."""
    p, looked = case.problem, Looks(case, marks(n_iter))
    alpha, count = strength(p), [0]
    w = p.model.init(seed)
    looked(0, w)

    def value_grad(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = p.smooth_value_grad(w)
        return value + p.penalty.value(w), slope + alpha * p.model.mask * w

    def callback(w: np.ndarray) -> None:
        count[0] += 1
        looked(count[0], w)

    options = {"maxiter": n_iter, "maxfun": 3 * n_iter, "maxcor": memory, "ftol": 0, "gtol": 1e-9}
    minimize(value_grad, w, jac=True, method="L-BFGS-B", callback=callback, options=options)
    return looked.rows


def federated(
    case: Case, lr: float, rounds: int, seed: int, epochs: int = 5, batch: int = 32
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Federated averaging (McMahan et al. 2017): a server, E local epochs of SGD per round, means weighted by rows.

    Every agent sends and receives P numbers per round.
    """
    p, looked = case.problem, Looks(case, marks(rounds, 40))
    w, alpha, rng = p.model.init(seed), strength(p), np.random.default_rng([seed, 1])
    share = p.agent_weight / p.n_total
    looked(0, w)
    for k in range(1, rounds + 1):
        total = np.zeros_like(w)
        for i in np.flatnonzero(share):
            x, target = (a[p.offsets[i] : p.offsets[i + 1]] for a in (p.x, p.target))
            v = w
            for _ in range(epochs):
                order = rng.permutation(len(x))
                for at in range(0, len(order), batch):
                    rows = order[at : at + batch]
                    v = v - lr * batch_grad(p, v, x[rows], target[rows], alpha)
            total += share[i] * v
        w = total
        if not np.all(np.isfinite(w)):
            break
        looked(k, w)
    return w, looked.rows


class Looks:
    """Objective and test error at the wanted iterations; looking does not count as time."""

    def __init__(self, case: Case, wanted: set[int]) -> None:
        self.case, self.wanted = case, wanted | {0}
        self.rows: dict[str, list[float]] = {}
        self.clock = Clock()
        self.clock.start()

    def __call__(self, iteration: int, w: np.ndarray) -> None:
        if iteration not in self.wanted:
            return
        row: dict[str, Any] = {"iteration": iteration, "seconds": self.clock.seconds, "cpu": self.clock.cpu}
        with self.clock.stopped():
            with np.errstate(all="ignore"):
                row["objective"], row["error"] = self.case.problem.value(w), self.case.error(w)
            for name, value in row.items():
                self.rows.setdefault(name, []).append(float(value))
