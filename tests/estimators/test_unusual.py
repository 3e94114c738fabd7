"""Numbers that stand for gaps, and inputs that reach far: noted, never changed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning

from dnnext.estimators import DecentralizedMLPRegressor
from dnnext.estimators.unusual import far_columns, note_stand_ins, stand_in
from dnnext.preprocessing import NetworkPreprocessor


def rows(n=3000, far=None, gap=None):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3))
    y = x[:, 0] + 0.1 * rng.standard_normal(n)
    if far is not None:
        x[5, 1] = far
    if gap is not None:
        x[:9, 2] = gap
    return x, y


@pytest.mark.parametrize(("values", "found"), [
    ([3.0, -999.0, 12.0], -999.0), ([3.0, 9999.0, -9.0], 9999.0), ([1.0, 5.0, 99.0], 99.0), ([3.0, 99.0, 80.0], None),
    ([0.0, 41310.0, 99999.0], None), ([-999.0], None), ([2.0, 9.0], None), ([0.1, 0.999], None), ([1.0, 1e30], None),
    ([3.0, -1000.0], None),
])  # fmt: skip
def test_a_stand_in_is_of_nines_and_far_from_all_others(values, found):
    assert stand_in(np.array(values)) == found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.sampled_from([-99999.0, -999.0, 999.0, 9999.0]))
def test_a_stand_in_is_found_wherever_it_stands(values, gap):
    assert stand_in(np.array([*values[:1], gap, *values[1:]])) == gap
    assert stand_in(np.array(values)) is None


def test_the_rows_and_the_fit_are_as_they_were():
    x, y = rows(200, gap=-999)
    model = DecentralizedMLPRegressor((4,), n_agents=3, callbacks=[lambda state, metrics: True], random_state=0)
    before = x.copy()
    with pytest.warns(UserWarning, match="far outside") as caught:
        model.fit(x, y)
    assert [str(w.message)[:28] for w in caught] == ["column 2 holds -999 in 9 rows"[:28]]
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(x, before)


def test_names_stand_in_the_sentence_and_a_single_number_is_no_stand_in():
    x = rows(50, gap=-999)[0]
    with pytest.warns(UserWarning, match="column 'temp' holds -999"):
        note_stand_ins(x, ["a", "b", "temp"])
    with pytest.warns(UserWarning, match="column 'temp' holds a number of nines, far outside"):
        note_stand_ins(x, ["a", "b", "temp"], is_private=True)
    x[1:9, 2] = 0.0
    note_stand_ins(x, None)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_ordinary_sets_are_passed_over(name):
    x = getattr(datasets, f"load_{name}")().data
    note_stand_ins(x, None)  # a warning would be an error
    assert far_columns(np.vstack([x] * 20), None) == ""


def test_inputs_that_reach_far_are_named_in_verbose_and_beside_a_warning(capsys):
    x, y = rows(far=4000.0)
    model = DecentralizedMLPRegressor((4,), n_agents=3, max_iter=2, verbose=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"still falling.*: 1 \(55\)\. preprocess=NetworkPreprocessor\(clip="):
        model.fit(x, y)
    assert "Some inputs reach many standard deviations" in capsys.readouterr().out
    prepared = NetworkPreprocessor(clip=0.005).fit(x).transform(x)
    assert far_columns(prepared, None) == ""
    assert far_columns(np.where(np.arange(9000)[:, None] < 9, 1.0, 0.0), None) == ""  # rare, not far
    assert far_columns(x[:2000], None) == ""


def test_far_columns_are_few_words():
    x = np.tile(rows(far=4000.0)[0][:, 1:2], (1, 5))
    assert "0 (55), 1 (55), 2 (55) and 2 more" in far_columns(x, None)
