"""An iteration in one kernel call is that of the recipe, bit by bit; and it is one call only where it may be."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.algorithms import next as recipe
from dnnext.algorithms.damping import SecantRule
from dnnext.algorithms.fused import is_one_call
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Faults, KnownLoss, Network, Schedule, Topology
from dnnext.problem import (
    L1,
    L2,
    MLP,
    ElasticNet,
    GroupLasso,
    Huber,
    Logistic,
    Penalty,
    Problem,
    Softmax,
    SparseGroup,
    SquaredError,
    SquaredHinge,
)  # fmt: skip

AGENTS = 6
LOSSES = {SquaredError: 2, Huber: 1, Logistic: 1, Softmax: 3, SquaredHinge: 1}


def make(loss, penalty, activation="tanh", dtype="float64", weighted=False, n_threads=1):
    """A small problem of six agents; one of them is a relay."""
    rng, outputs = np.random.default_rng(0), LOSSES[type(loss)]
    shards = []
    for n in (7, 0, 30, 11, 4, 9):
        x = rng.standard_normal((n, 5))
        target = {
            "Logistic": rng.integers(0, 2, (n, 1)), "SquaredHinge": rng.choice([-1, 1], (n, 1)),
            "Softmax": np.eye(outputs)[rng.integers(0, outputs, n)],
        }.get(type(loss).__name__, np.sin(x[:, :outputs]))  # fmt: skip
        shards.append((x, target, rng.random(n) + 0.1) if weighted else (x, target))
    model = MLP([5, 6, outputs], activation=activation)
    return Problem(model, loss, penalty, shards, dtype=dtype, n_threads=n_threads)


def runs(monkeypatch, problem, network, **options):
    """(fused, step by step): results of the same run."""
    results = []
    for allowed in (True, False):
        used = []

        def may(*parts, allowed=allowed, used=used):
            used.append(is_one_call(*parts))
            return used[-1] and allowed

        monkeypatch.setattr(recipe, "is_one_call", may)
        algorithm = NEXT(FullLinearization(), **options)
        results.append(algorithm.run(problem, network(), max_iter=25, warn=False))
        assert all(used)
    return results


def assert_same(one, other):
    for name in ("w", "y", "w_bar"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("w_hat", "z", "grad", "values", "tau", "beta", "heard", "disagreement", "size", "squares"):
        mine, its = getattr(one.state, name), getattr(other.state, name)
        np.testing.assert_array_equal(mine, its, err_msg=name)
        assert mine.dtype == its.dtype
    for name in set(one.history) - {"seconds"}:
        np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)
    assert (one.status, one.warning) == (other.status, other.warning)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=repr)
@pytest.mark.parametrize(
    "penalty", [None, L1(1e-2), L2(1e-2), ElasticNet(1e-2), GroupLasso(1e-2), SparseGroup(1e-2)], ids=repr
)
def test_losses_and_penalties(monkeypatch, loss, penalty, dtype):
    problem = make(loss, penalty, dtype=dtype)
    assert_same(*runs(monkeypatch, problem, lambda: Network(Topology.ring(AGENTS))))


@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "relu", "softplus"])
@pytest.mark.parametrize("rounds", ["auto", 1, 4])
def test_activations_and_rounds(monkeypatch, activation, rounds):
    problem = make(SquaredError(), L1(1e-2), activation, weighted=True, n_threads=2)
    graphs = Topology.path(AGENTS), Topology.star(AGENTS), Topology.complete(AGENTS)
    for graph in graphs:
        assert_same(*runs(monkeypatch, problem, lambda g=graph: Network(g, mixing_rounds=rounds, n_threads=2)))


@pytest.mark.parametrize("options", [{"tau": 3.0}, {"step": 0.5}, {"step": 0.8, "mu": 0.1}, {"tau": 1e-3}], ids=str)
def test_rules_and_steps(monkeypatch, options):
    """The smallest tau diverges: alarms go back and on with the same bits too."""
    problem = make(SquaredError(), L1(1e-2))
    one, other = runs(monkeypatch, problem, lambda: Network(Topology.ring(AGENTS)), **options)
    assert_same(one, other)
    assert (one.warning is not None) == (options == {"tau": 1e-3})


class Own(Penalty):
    """0.01 |w|_1 / 2 + ..., written in Python."""

    def value(self, w):
        return float(np.abs(w).sum())

    def prox(self, v, s):
        return np.sign(v) * np.maximum(np.abs(v) - s[:, None], 0)


class MyProblem(Problem):
    pass


class MyRule(SecantRule):
    pass


class MySurrogate(FullLinearization):
    pass


def test_whatever_is_replaced_is_asked():
    problem, ring, rule, full = make(SquaredError(), L1()), Topology.ring(AGENTS), SecantRule(), FullLinearization()
    good = problem, Network(ring), full, rule
    assert is_one_call(*good)
    others = [
        (0, make(SquaredError(), Own())),
        (0, MyProblem(problem.model, SquaredError(), None, [(np.ones((2, 5)), np.ones((2, 2)))] * AGENTS)),
        (1, Network(Schedule([ring, Topology.star(AGENTS)]))),
        (1, KnownLoss(ring, Faults(loss=0.1))),
        (1, Network(Topology.ring(1))),
        (2, PartialLinearization()),
        (2, MySurrogate()),
        (3, MyRule()),
    ]
    for place, other in others:
        assert not is_one_call(*good[:place], other, *good[place + 1 :]), other
