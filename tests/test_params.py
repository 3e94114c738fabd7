"""Parameters of objects, and fingerprints that differ for different objects."""

from functools import cached_property

import numpy as np
import pytest
from sklearn.base import clone

from dnnext._params import Parameters, fingerprint
from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten
from dnnext.problem import Penalty, Softmax, Tangents
from dnnext.runtime import threads


class Inner(Parameters):
    def __init__(self, a=1, b=None):
        if a < 0:
            raise ValueError("a must be >= 0")
        self.a, self.b = a, b


class Outer(Parameters):
    def __init__(self, inner=None, c="x"):
        self.inner, self.c = inner, c


class Plain:
    def __init__(self, hidden):
        self.hidden = hidden

    def __repr__(self):
        return "Plain()"


def test_inner_parameters_are_read_and_set():
    outer = Outer(Inner(2))
    assert outer.get_params() == {"inner": outer.inner, "c": "x", "inner__a": 2, "inner__b": None}
    outer.set_params(inner__a=5, c="y")
    assert (outer.inner.a, outer.c) == (5, "y")


@pytest.mark.parametrize("params", [{"d": 1}, {"c__a": 1}, {"inner__a": -1}])
def test_unfit_parameters_are_refused(params):
    with pytest.raises(ValueError, match="must be"):
        Outer(Inner()).set_params(**params)


class Box(Penalty):
    def __init__(self, bound=1.0):
        self.bound = bound

    def value(self, w):
        return 0.0

    def prox(self, v, s):
        return np.clip(v, -self.bound, self.bound)


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(Outer(Inner(3))) == "Outer(inner=Inner(a=3))"
    assert repr([Box(0.5), Box(), Softmax()]) == "[Box(bound=0.5), Box(), Softmax()]"


def shift(by):
    """A function that is another object in every call."""

    def along(x):
        return np.stack([x * 0 + part for part in (by, -by)])

    return along


DIFFERENT = [
    None, 0.1, 1, True, "1", b"1", (1, 2), (2, 1), {"a": 1}, {"a": 2}, np.arange(3), np.arange(3.0), np.arange(4),
    Inner(1), Inner(2), Plain(1), Plain(2), Plain(np.arange(2)), lambda x: x + 1, lambda x: x + 2, np.dtype("float32"),
    Inner, lambda x: np.sin(x), lambda x: np.cos(x), lambda x, k=1: x + k, lambda x, k=2: x + k, np.sin, np.cos,
    lambda x: [np.sin(a) for a in x], lambda x: [np.cos(a) for a in x], Inner(1).set_params, Inner(2).set_params,
    shift(1), shift(2), np.zeros, np.linalg.norm,
]  # fmt: skip


def test_different_values_have_different_fingerprints():
    told = [fingerprint(value) for value in DIFFERENT]
    assert len(set(told)) == len(told)


def test_equal_values_have_equal_fingerprints():
    assert fingerprint(np.float64(0.5)) == fingerprint(0.5)
    assert fingerprint(np.bool_(True)) == fingerprint(True)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(Plain([1, 2])) == fingerprint(Plain((1, 2)))


def test_functions_are_compared_by_their_code_on_ranks():
    def program(comm):
        comm.agree_on({"tangents": Tangents(0.1, shift(1)), "again": Tangents(0.1, lambda x: [[x, x] for _ in "ab"])})
        with pytest.raises(ValueError, match=r"tangents must be equal on all ranks, got .* on rank 1"):
            comm.agree_on({"tangents": Tangents(0.1, shift(1 + comm.rank))})

    threads.run(2, program)


def test_a_circle_ends():
    plain = Plain(None)
    plain.hidden = plain
    assert "..." in fingerprint(plain)


def test_cached_properties_are_no_part_of_it():
    class Cached(Outer):
        @cached_property
        def double(self):
            return [self.c] * 2

    outer = Cached()
    before = outer.fingerprint()
    assert outer.double == ["x", "x"]
    assert outer.fingerprint() == before == Cached().fingerprint()


def test_scikit_learn_clones_an_object_whose_constructor_changes_what_it_is_given():
    chain = Chain(layer for layer in [Conv2d(2, 3), Flatten(), Dense()])
    copy = clone(chain)
    assert copy is not chain
    assert copy.layers[0] is not chain.layers[0]
    assert copy.fingerprint() == chain.fingerprint()
    assert clone(NEXT(PartialLinearization(n_blocks=2))).surrogate.n_blocks == 2
