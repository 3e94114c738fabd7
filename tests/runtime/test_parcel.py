"""What travels is laid out for one message per pair of ranks, and a wait has an end."""

import itertools
import time

import numpy as np
import pytest

from dnnext.runtime import ExchangePlan
from dnnext.runtime.blocks import check_bounds
from dnnext.runtime.parcel import Parcel
from dnnext.runtime.waiting import YIELDING, wait_until


def make_plan(n_local, ghosts, send_rows, send_counts, recv_counts):
    counts = [np.array(given, dtype=np.int64) for given in (ghosts, send_rows, send_counts, recv_counts)]
    return ExchangePlan(n_local, len(ghosts), counts[0], tuple(range(len(send_counts))), *counts[1:], "key")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("widths", [(4, 4, 1), (3,), (2, 0, 5), (1, 1, 0)])
def test_rows_side_by_side_and_back(dtype, widths):
    plan = make_plan(3, [7, 8], [2, 0, 2], [1, 2], [1, 1])
    numbers = itertools.count(1)
    rows = [np.array([[next(numbers) for _ in range(w)] for _ in range(5)], dtype=dtype).reshape(5, w) for w in widths]
    before, parcel = [array.copy() for array in rows], Parcel()
    parcel.pack(rows, plan)
    np.testing.assert_array_equal(parcel.out, np.concatenate(rows, axis=1)[[2, 0, 2]])
    assert parcel.out.dtype == dtype
    assert [(peer, a.shape) for peer, a in parcel.to_peers] == [(0, (1, sum(widths))), (1, (2, sum(widths)))]
    assert [(peer, a.shape) for peer, a in parcel.from_peers] == [(0, (1, sum(widths))), (1, (1, sum(widths)))]
    parcel.received[...] = -np.arange(2 * sum(widths)).reshape(2, -1)
    parcel.unpack(rows)
    np.testing.assert_array_equal(np.concatenate(rows, axis=1)[3:], parcel.received)
    for array, old in zip(rows, before, strict=True):
        np.testing.assert_array_equal(array[:3], old[:3])


def test_plans_and_messages_may_take_turns():
    parcel, rng = Parcel(), np.random.default_rng(0)
    plans = [make_plan(2, [5], [1], [1], [1]), make_plan(2, [], [], [0], [0]), make_plan(2, [4, 5], [0, 1], [2], [2])]
    for k in range(12):
        plan, width = plans[k % 3], 1 + k % 4
        rows = [rng.standard_normal((4, width)).astype(np.float32 if k % 5 == 0 else np.float64)]
        parcel.pack(rows, plan)
        np.testing.assert_array_equal(parcel.out, rows[0][plan.send_rows])
        assert parcel.received.shape == (plan.n_ghost, width)


def test_a_wait_ends_with_the_last_answer():
    answers = iter([False] * 100 + [True])
    assert wait_until(lambda: next(answers), 60)
    begin = time.monotonic()
    assert not wait_until(lambda: False, 5 * YIELDING)
    assert time.monotonic() - begin >= 5 * YIELDING


def test_bounds_given_and_made():
    np.testing.assert_array_equal(check_bounds(None, 5, 2), [0, 3, 5])
    np.testing.assert_array_equal(check_bounds([0, 1, 5], 5, 2), [0, 1, 5])
    for wrong in ([0, 5], [0, 0, 5], [1, 2, 5], [0, 5, 5], [0, 2, 4]):
        with pytest.raises(ValueError, match="bounds must rise from 0 to 5 with at least one agent on each of 2 ranks"):
            check_bounds(wrong, 5, 2)
