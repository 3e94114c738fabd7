"""Labels of every kind, and rows of agents that must fit together."""

import threading

import numpy as np
import pytest
from sklearn.datasets import load_iris
from threadpoolctl import threadpool_info

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.estimators.rows import check_agent, joined_labels, plain_labels

X, Y = load_iris(return_X_y=True)
QUICK = {"hidden_layer_sizes": (4,), "max_iter": 5, "tol": 0, "random_state": 0}
PLAIN = [
    *(np.arange(3, dtype=kind) for kind in ("u1", "u2", "u4", "u8", "i1", "i8", "f2", "f4", "f8")),
    np.arange(3, dtype=np.uint64) + np.uint64(2**63),
    np.arange(3) + 2**53,
    np.array([2.0**24, 2.0**24 + 2, 2.0**24 + 4], np.float32),
    np.array(["a", "bb", "c"]),
    np.array(["a", "bb", "c"], dtype=object),
]


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: f"{kind.dtype}-{kind[0]}")
def test_fit_agents_keeps_labels_as_fit_does(kind):
    y = kind[Y]
    one = DecentralizedMLPClassifier(**QUICK).fit(X, y, agent=np.arange(150) % 3)
    two = DecentralizedMLPClassifier(**QUICK).fit_agents([(X[i::3], y[i::3]) for i in range(3)])
    np.testing.assert_array_equal(one.classes_, two.classes_)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


@pytest.mark.parametrize(
    "kinds",
    [
        (np.array([0.0, 1.0]), np.array(["0", "1"])),
        (np.array([0, 1]), np.array(["0", "1"])),
        (np.array([0, 1]), np.array([0.0, 1.0])),
        (np.array([False, True]), np.array([0, 1])),
    ],
    ids=lambda kinds: "-".join(str(k.dtype) for k in kinds),
)
def test_labels_of_unlike_kinds_are_refused(kinds):
    parts = [(X[50 * k : 50 * k + 100], kinds[k][(Y[50 * k : 50 * k + 100] > k).astype(int)]) for k in range(2)]
    with pytest.raises(ValueError, match=r"the kind of labels in y must be the same .* of agents\[1\]"):
        DecentralizedMLPClassifier(**QUICK).fit_agents(parts)


def test_integers_join_without_loss_or_are_refused():
    small, large, negative = np.array([1, 2], np.int64), np.array([2**63], np.uint64), np.array([-1])
    assert joined_labels([small, np.array([3], np.uint64)], "ab").dtype == np.int64
    assert joined_labels([small, large], "ab").tolist() == [1, 2, 2**63]
    with pytest.raises(ValueError, match=r"some below 0 and some of 2\^63"):
        joined_labels([negative, large], "ab")
    with pytest.raises(ValueError, match="y must hold text"):
        plain_labels("y", np.array([1, "a"], dtype=object))


def test_columns_of_agents_are_matched_by_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    orders = [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "a", "d", "c"]]
    good = DecentralizedMLPClassifier(**QUICK).fit_agents([(frame[i::3], Y[i::3]) for i in range(3)])
    same = DecentralizedMLPClassifier(**QUICK).fit_agents([(frame[i::3][o], Y[i::3]) for i, o in enumerate(orders)])
    np.testing.assert_array_equal(good.predict_proba(frame), same.predict_proba(frame))
    assert same.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        same.predict(frame[orders[1]])
    numbered = pd.DataFrame(X)
    turned = [(numbered[::2], Y[::2]), (numbered[1::2][[3, 2, 1, 0]], Y[1::2])]
    mixed = DecentralizedMLPClassifier(**QUICK).fit_agents(turned)
    assert not hasattr(mixed, "feature_names_in_")
    other = frame.rename(columns={"d": "e"})
    for parts in ([(frame, Y), (other, Y)], [(frame, Y), (X, Y)], [(X, Y), (frame, Y)]):
        with pytest.raises(ValueError, match=r"X of agents\[1\] must"):
            DecentralizedMLPClassifier(**QUICK).fit_agents(parts)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_agent_of_a_value_that_is_not_finite_is_named(value):
    x = X.copy()
    x[137, 2] = value
    with pytest.raises(ValueError, match=r"Input X of agents\[17\] contains"):
        DecentralizedMLPClassifier().fit_agents([(x[i::30], Y[i::30]) for i in range(30)])
    y = x[:, 2]
    with pytest.raises(ValueError, match=r"y of agents\[17\]"):
        DecentralizedMLPRegressor().fit_agents([(X[i::30], y[i::30]) for i in range(30)])


@pytest.mark.parametrize("kind", ["string", "object", "category", "Int64", "Float64"])
def test_a_gap_in_agent_is_refused_by_row(kind):
    pd = pytest.importorskip("pandas")
    values = [1, None, 2] if kind in ("Int64", "Float64") else ["north", None, "south"]
    with pytest.raises(ValueError, match="agent has no label in row 1"):
        check_agent(pd.Series(values * 50, dtype=kind), 150)
    with pytest.raises(ValueError, match="agent has no label in row 1"):
        check_agent(np.ma.masked_equal(np.arange(3), 1), 3)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_fits_that_overlap_leave_the_threads_of_blas_as_they_were():
    before, inside, go_on = blas_threads(), threading.Event(), threading.Event()

    def hold(state, metrics):
        inside.set()
        return not go_on.wait(30)

    quick = {**QUICK, "max_iter": 1}
    long = threading.Thread(target=DecentralizedMLPClassifier(**quick, callbacks=[hold]).fit, args=(X, Y))
    long.start()
    assert inside.wait(30)
    DecentralizedMLPClassifier(**quick).fit(X, Y)  # begins later, ends earlier
    assert set(blas_threads()) == {1}
    go_on.set()
    long.join(30)
    assert blas_threads() == before
