"""What parts of a run need of each other is compared in one place, with one vocabulary, before the first iteration."""

import numpy as np
import pytest

from dnnext import algorithms, local, models, problem
from dnnext._needs import WORDS
from dnnext.algorithms import DGD, NEXT, GradientTracking, Newton
from dnnext.algorithms.damping import SecantRule
from dnnext.local import Backprop, FullLinearization
from dnnext.models import MLP, Chain, Dense
from dnnext.network import Faults, Network, RunningSums, Topology
from dnnext.problem import L2, Problem, SquaredError

RING = Topology.ring(3)


def words(value):
    """The words that a part states, unless its class computes them."""
    return value if isinstance(value, frozenset) else frozenset()


@pytest.mark.parametrize("room", [algorithms, local, models, problem], ids=lambda room: room.__name__)
def test_every_word_is_in_the_vocabulary(room):
    for name in room.__all__:
        part = getattr(room, name)
        for stated in ("needs", "offers"):
            assert words(getattr(part, stated, None)) <= set(WORDS), f"{name}.{stated}"


class Rule(SecantRule):
    needs = frozenset({"square"})


class Model(FullLinearization):
    needs = frozenset({"tree"})


class Oracle(Backprop):
    needs = frozenset({"gauss_newton"})
    calls = 0

    def __call__(self, *args):
        type(self).calls += 1
        return super().__call__(*args)


@pytest.mark.parametrize(
    ("algorithm", "sentence"),
    [
        (DGD(), r"network must mix any number of arrays .*, because DGD\(.* needs that, got <RunningSums"),
        (Newton(), r"(network|model) must .*, because Newton\(\) needs that"),
        (NEXT(FullLinearization(), tau=Rule()), r"penalty must be a sum .* tau=Rule\(\) needs that, got .*L1"),
        (NEXT(Model()), r"network must add rows up .*, because surrogate=Model\(\) needs that"),
        (GradientTracking(oracle=Oracle()), r"model must form Gauss-Newton .*, because oracle=Oracle\(\) needs that"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_part_is_asked_before_the_first_gradient(algorithm, sentence):
    shards = [(np.ones((2, 2)), np.ones(2))] * 3
    chain = Problem(Chain([Dense(2, "tanh"), Dense(1)], 2), SquaredError(), problem.L1(0.1), shards)
    with pytest.raises(ValueError, match=sentence):
        algorithm.run(chain, RunningSums(RING, Faults()), max_iter=1)
    assert Oracle.calls == 0
    whole = Problem(MLP([2, 2, 1]), SquaredError(), L2(0.1), shards)
    assert algorithm.run(whole, Network(RING), max_iter=1, warn=False).n_iter == 1
    Oracle.calls = 0
