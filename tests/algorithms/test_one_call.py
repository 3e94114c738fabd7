"""An iteration in one kernel call is that of the recipe, bit by bit; and it is one call only where it may be."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.algorithms import next as recipe
from dnnext.algorithms import one_call as kinds
from dnnext.algorithms.damping import FixedTau, SecantRule
from dnnext.algorithms.one_call import OneCall, one_call
from dnnext.local import Backprop, FullLinearization, PartialLinearization, solvers
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
    objective,
)  # fmt: skip
from dnnext.runs.state import State

AGENTS = 6
LOSSES = {SquaredError: 2, Huber: 1, Logistic: 1, Softmax: 3, SquaredHinge: 1}


def make(loss, penalty, activation="tanh", dtype="float64", weighted=False, n_threads=1):
    """A small problem of six agents; one of them is a relay."""
    rng, outputs = np.random.default_rng(0), next(n for kind, n in LOSSES.items() if isinstance(loss, kind))
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


def runs(monkeypatch, problem, network, surrogate=None, refusals=0, iterations=25, **options):
    """(fused, step by step): results of the same run; at most so many iterations may be given back."""
    results = []
    for allowed in (True, False):
        done, prepared = [], []

        class Counted(OneCall):
            def __call__(self, *args, done=done):
                done.append(super().__call__(*args))
                return done[-1]

        def prepare(*parts, prepared=prepared, allowed=allowed):
            prepared.append(one_call(*parts))
            return prepared[-1] if allowed else None

        monkeypatch.setattr(kinds, "OneCall", Counted)
        monkeypatch.setattr(recipe, "one_call", prepare)
        algorithm = NEXT(surrogate or FullLinearization(), **options)
        net = network()
        results.append(algorithm.run(problem, net, max_iter=iterations, warn=False))
        results[-1].state.counted = net.round, net.bytes
        assert all(prepared)  # once, and again after each alarm
        assert len(prepared) <= 1 + 3
        assert len(done) >= results[-1].n_iter if allowed else not done
        assert bool(done.count(False)) == bool(refusals and allowed)
    return results


def assert_same(one, other):
    for name in ("w", "y", "w_bar"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("w_hat", "z", "grad", "values", "tau", "beta", "received", "disagreement", "size", "squares"):
        mine, its = getattr(one.state, name), getattr(other.state, name)
        np.testing.assert_array_equal(mine, its, err_msg=name)
        assert mine.dtype == its.dtype
    for name in set(one.history) - {"seconds"}:
        np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)
    assert one.state.counted == other.state.counted
    assert (one.status, one.warning) == (other.status, other.warning)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=repr)
@pytest.mark.parametrize(
    "penalty", [None, L1(1e-2), L2(1e-2), ElasticNet(1e-2), GroupLasso(1e-2), SparseGroup(1e-2)], ids=repr
)
def test_losses_and_penalties(monkeypatch, loss, penalty, dtype):
    problem = make(loss, penalty, dtype=dtype)
    assert_same(*runs(monkeypatch, problem, lambda: Network(Topology.ring(AGENTS))))


@pytest.mark.parametrize("activation", ["identity", "tanh", "logistic", "relu", "softplus", "square"])
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


@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=repr)
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_partial_linearisation_by_cholesky_with_every_loss(monkeypatch, loss, n_blocks):
    """Roots that are the same everywhere or others at every iteration, and blocks."""
    problem = make(loss, L2(1e-2), weighted=True, n_threads=2)
    surrogate = PartialLinearization(solver="primal", n_blocks=n_blocks)
    assert_same(*runs(monkeypatch, problem, lambda: Network(Topology.ring(AGENTS), n_threads=2), surrogate))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "surrogate",
    [FullLinearization(), *(PartialLinearization(solver=how) for how in ("cg", "primal"))],
    ids=["full", "cg", "primal"],
)
def test_one_agent_alone(monkeypatch, surrogate, n_threads):
    """No rounds; several parts of its rows, so that threads share them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 6))
    shard = x, np.eye(3)[rng.integers(0, 3, len(x))]
    problem = Problem(MLP([6, 12, 3]), Softmax(), L2(1e-2), [shard], n_threads=n_threads)
    assert_same(*runs(monkeypatch, problem, lambda: Network(Topology.complete(1)), surrogate, iterations=6))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("penalty", [None, L2(1e-2)], ids=repr)
@pytest.mark.parametrize("options", [{}, {"tau": 0.5}, {"step": 0.8, "mu": 0.1}], ids=str)
def test_partial_linearisation_by_cholesky(monkeypatch, dtype, n_threads, penalty, options):
    """Uneven parts, a relay; groups of agents smaller than the network too."""
    problem = make(SquaredError(), penalty, dtype=dtype, weighted=penalty is not None, n_threads=n_threads)
    surrogate = PartialLinearization(solver="primal")
    for graph in (Topology.ring(AGENTS), Topology.star(AGENTS)):
        one, other = runs(monkeypatch, problem, lambda g=graph: Network(g, n_threads=n_threads), surrogate, **options)
        assert_same(one, other)
    monkeypatch.setattr(objective, "MEMORY_BUDGET", 2 * problem.n_params**2 * problem.dtype.itemsize)
    assert len(problem.agent_groups(problem.n_params**2)) > 1
    assert_same(one, runs(monkeypatch, problem, lambda: Network(graph, n_threads=n_threads), surrogate, **options)[0])


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=repr)
@pytest.mark.parametrize("options", [{}, {"tau": 0.5, "step": 0.8}], ids=str)
def test_partial_linearisation_by_conjugate_gradients(monkeypatch, loss, n_threads, options):
    """With roots that are the same everywhere, and with others at every iteration."""
    dtype, penalty = ("float32", None) if options else ("float64", L2(1e-2))
    problem = make(loss, penalty, dtype=dtype, weighted=penalty is not None, n_threads=n_threads)
    for surrogate in (PartialLinearization(solver="cg"), PartialLinearization(solver="cg", inner_iter=3)):
        graph = Topology.ring(AGENTS)
        assert_same(*runs(monkeypatch, problem, lambda g=graph: Network(g, n_threads=n_threads), surrogate, **options))


def test_cholesky_is_the_choice_of_auto(monkeypatch):
    problem = make(SquaredError(), L2(1e-2))
    monkeypatch.setattr(solvers, "choose", lambda sub: "primal")
    assert_same(*runs(monkeypatch, problem, lambda: Network(Topology.ring(AGENTS)), PartialLinearization()))
    monkeypatch.setattr(solvers, "choose", lambda sub: "dual")
    problem = make(SquaredError(), L2(1e-2))
    assert not is_one_call(problem, Network(Topology.ring(AGENTS)), PartialLinearization(), FixedTau(1.0))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_failed_cholesky_is_given_back(monkeypatch, dtype):
    """A tau below the rounding of a singular B: iterations fall to the parts, which double tau for the moment."""
    problem = make(SquaredError(), None, "identity", dtype=dtype)
    surrogate = PartialLinearization(solver="primal")
    ring = Topology.ring(AGENTS)
    assert_same(*runs(monkeypatch, problem, lambda: Network(ring), surrogate, refusals=1, tau=1e-30))


def is_one_call(problem, network, surrogate, rule, kind=NEXT, oracle=None):
    """Whether a run takes the kernel's way from its first iteration on."""
    s = State.at(problem, np.tile(problem.model.init(0), (AGENTS, 1)))
    algorithm = kind(surrogate, tau=rule, oracle=oracle)
    algorithm.start(problem, s)
    algorithm.fast_step(problem, network, s)
    return s.scratch["next.one_call"] is not None


class Own(Penalty):
    """0.01 |w|_1 / 2 + ..., written in Python."""

    def value(self, w):
        return float(np.abs(w).sum())

    def prox(self, v, s):
        return np.sign(v) * np.maximum(np.abs(v) - s[:, None], 0)


class MyLoss(Huber):
    """A curvature of its own, written in Python."""

    def curvature_root(self, f, d):
        return np.ones_like(f)


class MyProblem(Problem):
    pass


class MyRule(SecantRule):
    pass


class MySurrogate(FullLinearization):
    pass


class MyOracle(Backprop):
    pass


class MyRecipe(NEXT):
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
        (2, PartialLinearization(solver="dual")),
        (2, PartialLinearization(n_blocks=2)),
        (2, PartialLinearization(exact=True)),
        (2, PartialLinearization(curvature="shared")),
        (2, MySurrogate()),
        (3, MyRule()),
    ]
    primal = PartialLinearization(solver="primal")
    assert is_one_call(make(SquaredError(), L2()), Network(ring), primal, rule)
    assert not is_one_call(make(SquaredError(), L1()), Network(ring), primal, rule)
    assert not is_one_call(make(MyLoss(), L2()), Network(ring), primal, rule)
    for place, other in others:
        assert not is_one_call(*good[:place], other, *good[place + 1 :]), other
    assert not is_one_call(*good, kind=MyRecipe)
    assert not is_one_call(*good, oracle=MyOracle())
