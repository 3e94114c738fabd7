"""Ranks that would minimise different problems refuse to begin, whatever `repr` shows."""

import numpy as np
import pytest

from dnnext.models import MLP
from dnnext.problem import L1, Huber, Loss, Penalty, Problem, SquaredError


class Box(Penalty):
    """Weights in ``[-size, size]``; its repr hides the size."""

    def __init__(self, size):
        self._size = size

    def value(self, w):
        return 0.0 if np.all(np.abs(w) <= self._size) else np.inf

    def prox(self, v, s):
        return np.clip(v, -self._size, self._size)


class Scaled(Loss):
    """A multiple of the squared error; its repr hides the factor."""

    def __init__(self, factor):
        self._factor = factor

    def value(self, f, d):
        return self._factor / 2 * np.sum(np.square(f - d), axis=1)

    def grad(self, f, d):
        return self._factor * (f - d)

    def curvature_root(self, f, d):
        return np.full_like(f, np.sqrt(self._factor))

    def __repr__(self):
        return "Scaled()"


class Doubled(MLP):
    """A network of another kind with the same repr."""


def together(lockstep, model=None, loss=None, penalty=None, n_threads=(1, 1)):
    """Problems on two ranks, which get the first and the second of every pair."""

    def on(runtime):
        r = runtime.rank
        parts = [MLP([2, 1]) if model is None else model[r], SquaredError() if loss is None else loss[r]]
        shard = (np.ones((2, 2)), np.ones(2))
        return Problem(*parts, penalty and penalty[r], [shard], runtime=runtime, n_threads=n_threads[r])

    return lockstep(2, 2, on)


@pytest.mark.parametrize(
    "parts",
    [
        {"penalty": (Box(1.0), Box(2.0))},
        {"penalty": (L1(0.1), L1(np.nextafter(0.1, 1)))},
        {"penalty": (L1(np.array([0.1])), L1(np.array([0.2])))},
        {"loss": (Scaled(1.0), Scaled(2.0))},
        {"loss": (Huber(1.0), Huber(1.0 + 1e-9))},
        {"model": (MLP([2, 1]), Doubled([2, 1]))},
    ],
    ids=lambda parts: repr(next(iter(parts.values()))),
)
def test_hidden_differences_are_refused(lockstep, parts):
    with pytest.raises(ValueError, match=r"the problem .* must be equal on all ranks"):
        together(lockstep, **parts)


def test_equal_parts_agree_bound_or_not_and_with_other_threads(lockstep):
    bound = together(lockstep, penalty=(Box(1.0), Box(np.float64(1.0))), loss=(Scaled(2), Scaled(2)), n_threads=(1, 2))
    assert bound[0].penalty.fingerprint() == bound[1].penalty.fingerprint() == Box(1.0).fingerprint()
    terms = together(lockstep, penalty=(L1(0.1), L1(0.1).bind(MLP([2, 1]).layout, n_threads=3)))
    assert terms[0].penalty.fingerprint() == L1(0.1).fingerprint()
