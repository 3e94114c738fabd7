"""Targets and weights in the types of data frames; unfit rows are named by their agents."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from dnnext import DecentralizedMLPClassifier
from dnnext.estimators.rows import check_weight, plain_targets

pandas = pytest.importorskip("pandas")
X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 2, "tol": 0, "n_agents": 3, "random_state": 0}
KINDS = {
    "Int64": (pandas.array(Y, dtype="Int64"), np.int64),
    "Int8": (pandas.Series(Y, dtype="Int8"), np.int8),
    "boolean": (pandas.array(Y > 0, dtype="boolean"), np.bool_),
    "string": (pandas.array(Y.astype(str), dtype="string"), object),
    "category": (pandas.Categorical(Y.astype(str)), object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_keep_the_dtype_that_numpy_has_for_them(kind):
    y, dtype = KINDS[kind]
    clf = DecentralizedMLPClassifier(**QUICK).fit(X, y)
    assert clf.classes_.dtype == dtype
    np.testing.assert_array_equal(clf.classes_, np.unique(np.asarray(y)))
    parts = [(X[k::3], y[k::3]) for k in range(3)]
    each = DecentralizedMLPClassifier(**QUICK).fit_agents(parts)
    np.testing.assert_array_equal(each.classes_, clf.classes_)
    assert 0 <= clf.score(X, y) <= 1


@pytest.mark.parametrize("kind", ["Int64", "boolean", "string"])
def test_a_row_without_a_target_is_named(kind):
    y = KINDS[kind][0].copy()
    y[7] = pandas.NA
    with pytest.raises(ValueError, match=r"contains NaN or NA: row 7 has no target"):
        DecentralizedMLPClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match=r"agents\[1\] contains NaN or NA: row 2 has no target"):
        DecentralizedMLPClassifier(**QUICK).fit_agents([(X[k::3], y[k::3]) for k in range(3)])


def test_text_of_any_length_is_text():
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy 1")
    assert plain_targets("y", np.array(["a", "b"], dtype=dtypes.StringDType())).tolist() == ["a", "b"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named_with_its_agent(value):
    wrong = X.copy()
    wrong[8, 1] = value
    agent = np.array(["north", "south", "west"] * 50)
    with pytest.raises(ValueError, match="in row 8, of agent 'west'"):
        DecentralizedMLPClassifier(**QUICK).fit(wrong, Y, agent=agent)


@pytest.mark.parametrize("value", [1e-200, 1e200])
def test_weights_whose_squares_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="in row 1; weights must be 0 or between"):
        check_weight([1.0, value, 0.0], 3)
