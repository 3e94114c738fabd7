"""Partitions, shards, moments, seeds."""

import numpy as np
import pytest

from dnnext.estimators.data import Moments, Seeds, held_out, network_moments, spread_rows
from dnnext.problem.shards import Stack
from dnnext.runtime import InProcess


def rows(n=57, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, 4, n), rng.uniform(0.1, 2, n)


def test_streams_depend_on_seed_and_use_and_nothing_else():
    one, same, other = Seeds(3), Seeds(3), Seeds(4)
    assert one.integer("topology") == same.integer("topology")
    assert len({one.integer("topology"), other.integer("topology"), one.integer("weights")}) == 3
    assert one.generator("validation", 1).random() != one.generator("validation", 2).random()


@pytest.mark.parametrize("how", ["iid", "label", "dirichlet"])
@pytest.mark.parametrize("n_agents", [1, 2, 5, 57, 80])
def test_every_row_has_an_owner_and_every_agent_a_row(how, n_agents):
    _, y, _ = rows()
    owner = spread_rows(how, y, n_agents, Seeds(0))
    assert owner.shape == y.shape
    assert np.array_equal(np.unique(owner), np.arange(min(n_agents, 57)))
    assert np.array_equal(owner, spread_rows(how, y, n_agents, Seeds(0)))


@pytest.mark.parametrize("how", ["iid", "label"])
def test_equal_parts(how):
    _, y, _ = rows()
    counts = np.bincount(spread_rows(how, y, 5, Seeds(0)))
    assert counts.max() - counts.min() <= 1


def test_label_parts_are_sorted_and_skewed_parts_are_skewed():
    _, y, _ = rows()
    owner = spread_rows("label", y, 5, Seeds(0))
    tops = [y[owner == i].max() for i in range(5)]
    assert all(y[owner == i].min() >= tops[i - 1] for i in range(1, 5))
    y = np.repeat(np.arange(4), 200)
    skewed = spread_rows("dirichlet", y, 5, Seeds(0))
    shares = np.array([np.bincount(y[skewed == i], minlength=4) for i in range(5)]) / 200
    assert shares.std() > 3 * 0.5 / np.sqrt(200)


def test_continuous_targets_are_cut_at_deciles():
    y = np.random.default_rng(0).normal(size=(300, 2))
    owner = spread_rows("dirichlet", y, 6, Seeds(1))
    means = [y[owner == i, 0].mean() for i in range(6)]
    assert np.std(means) > 0.1


def test_a_stack_keeps_order_within_an_agent():
    x, y, weight = rows(8)
    owner = np.array([2, 0, 2, 0, 3, 3, 0, 2])
    stack = Stack.of_owner(x, y, weight, owner, 5)
    assert stack.offsets.tolist() == [0, 3, 3, 6, 8, 8]
    assert stack.n_rows.tolist() == [3, 0, 3, 2, 0]
    np.testing.assert_array_equal(stack.x[:3], x[[1, 3, 6]])
    np.testing.assert_array_equal(stack.sums(stack.weight), np.bincount(owner, weight, minlength=5))
    some = Stack.of_owner(x, y, weight, owner, 5, first=7, dtype=np.float32, keep=owner != 0)
    assert (some.offsets.tolist(), some.first, some.x.dtype) == ([0, 0, 0, 3, 5, 5], 7, np.float32)
    np.testing.assert_array_equal(some.target, y[[0, 2, 7, 4, 5]])
    own = stack.of_agents(range(2, 4))
    assert (own.offsets.tolist(), own.first) == ([0, 3, 5], 2)
    assert np.shares_memory(own.x, stack.x)


def test_hold_out_leaves_a_row_at_every_agent():
    owner = np.array([0] + [1] * 2 + [2] * 17)
    held = held_out(owner, 4, 0.5, Seeds(0))
    assert np.bincount(owner[~held]).tolist()[:2] == [1, 1]
    assert held[owner == 2].sum() in (8, 9)


def test_many_small_agents_hold_out_the_fraction_of_all():
    assert 25 < held_out(np.arange(400) // 2, 200, 0.1, Seeds(0)).sum() < 55
    with pytest.warns(UserWarning, match="held out 3 of 6 rows, more than validation_fraction=0.1"):
        held_out(np.arange(6) // 2, 3, 0.1, Seeds(0))


def test_nothing_to_hold_out_is_refused():
    with pytest.raises(ValueError, match="early_stopping=True needs an agent with at least two rows"):
        held_out(np.arange(3), 3, 0.5, Seeds(0))


@pytest.mark.parametrize("n_agents", [1, 4])
def test_moments_are_those_of_the_pooled_rows(n_agents):
    x, y, weight = rows()
    x[:, 1] = 7.1
    x[:, 2] = 1e9 + 1e-3 * x[:, 2]
    stack = Stack.of_owner(x, y, weight, spread_rows("label", y, n_agents, Seeds(0)), n_agents + 1)
    ((mean, scale),) = network_moments({"X": stack.x}, stack, InProcess(n_agents + 1))
    wanted = np.average(x, axis=0, weights=weight)
    np.testing.assert_allclose(mean, wanted, rtol=1e-14)
    spread = np.sqrt(np.average((x - wanted) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(scale[0], spread[0], rtol=1e-13)
    assert scale[1] == 1
    np.testing.assert_allclose(scale[2], spread[2], rtol=1e-3)


def test_moments_that_overflow_are_refused_by_column():
    x, y, weight = rows()
    x[:, 2] *= 1e200
    stack = Stack.of_owner(x, y, weight, np.zeros(len(x), int), 1)
    with pytest.raises(ValueError, match="X has values in column 2 that are too large"):
        network_moments({"X": stack.x}, stack, InProcess(1))


def test_no_moments_change_nothing():
    x, _, _ = rows()
    assert np.array_equal(Moments.none(3, 1).inputs(x), x)
