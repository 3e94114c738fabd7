"""Preparation learnt from sums over agents: the same bits however the rows are spread."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from dnnext.preprocessing import Column, NetworkPreprocessor
from dnnext.preprocessing.columns import numbers_or_words

COLOURS = np.array(["red", "green", "blue", None], dtype=object)


def rows(n, seed=0, gaps=0.1):
    """n rows of two columns of numbers and one of colours, with gaps."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(0, 3, (n, 2)) * rng.choice([-1, 1], (n, 2)) * [1, 1e9]
    numbers[rng.random((n, 2)) < gaps] = np.nan
    X = np.empty((n, 3), dtype=object)
    X[:, :2], X[:, 2] = numbers, COLOURS[rng.integers(0, 4, n)]
    X[0] = [1.5, 2.5, "red"]
    return X


@pytest.mark.parametrize(
    "options", [{}, {"impute": "median", "clip": 0.1}, {"impute": "most_frequent", "standardize": False}]
)
def test_scikit_learn_finds_a_transformer(options):
    check_estimator(NetworkPreprocessor(**options), on_skip=None)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99), st.sampled_from(["mean", "median"]))
def test_agents_and_pool_agree_bit_for_bit(sizes, seed, impute):
    X = rows(sum(sizes), seed)
    pooled = NetworkPreprocessor(impute=impute).fit(X)
    cuts = np.cumsum(sizes)[:-1]
    assert NetworkPreprocessor(impute=impute).fit_agents(np.split(X, cuts)).columns_ == pooled.columns_
    assert NetworkPreprocessor(impute=impute).fit(X[np.random.default_rng(seed).permutation(len(X))]).columns_ == (
        pooled.columns_
    )


@pytest.mark.parametrize("n_ranks", [2, 3])
@pytest.mark.parametrize(("impute", "clip"), [("mean", 0.0), ("median", 0.0), ("mean", 0.2)])
def test_ranks_and_pool_agree_bit_for_bit(lockstep, n_ranks, impute, clip):
    X = rows(40, 3)
    pooled = NetworkPreprocessor(impute=impute, clip=clip).fit(X)
    parts = [X[:7], X[7:8], X[8:]] if n_ranks == 3 else [X[:30], X[30:]]

    def program(runtime):
        return NetworkPreprocessor(impute=impute, clip=clip).fit_local(parts[runtime.rank], runtime=runtime).columns_

    for columns in lockstep(n_ranks, n_ranks, program):
        assert columns == pooled.columns_


@pytest.mark.parametrize("clip", [0.005, 0.25])
def test_clipped_columns_end_at_the_quantiles(clip):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_t(2, 1003), rng.integers(0, 2, 1003), np.arange(1003) == 3]).astype(float)
    X[5, 0] = np.nan
    prepared = NetworkPreprocessor(clip=clip).fit(X)
    known = np.sort(X[np.isfinite(X[:, 0]), 0])
    wanted = np.quantile(known, [clip, 1 - clip], method="inverted_cdf")
    np.testing.assert_array_equal([prepared.columns_[0].low, prepared.columns_[0].high], wanted)
    ends = np.clip(known, *wanted)
    out = prepared.transform(X)
    np.testing.assert_allclose(np.sort(np.delete(out[:, 0], 5)), (ends - ends.mean()) / ends.std(), atol=1e-12)
    assert out[5, 0] == 0  # the mean of what is left
    np.testing.assert_array_equal(
        prepared.transform([[1e9, 0, 0], [-1e9, 1, 1]])[:, 0],
        out[:, 0][[X[:, 0].tolist().index(wanted[1]), X[:, 0].tolist().index(wanted[0])]],
    )
    assert prepared.columns_[2].low is None  # one row differs, and stays
    assert len(np.unique(out[:, 2])) == 2
    again = NetworkPreprocessor.from_dict(json.loads(json.dumps(prepared.to_dict())))
    np.testing.assert_array_equal(again.transform(X), out)


@pytest.mark.parametrize("clip", [0.5, -0.1, np.nan, "a"])
def test_clip_is_a_share(clip):
    with pytest.raises(ValueError, match="clip must be a number between"):
        NetworkPreprocessor(clip=clip).fit([[1.0], [2.0]])


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (np.array([["a", "b"]], dtype=object), "'x0' holds numbers on one rank and text on another"),
        (np.array([[1.0, 2.0, 3.0]]), "the columns must be equal on all ranks"),
        (np.array([[1.0, np.inf]]), "rank 1"),
    ],
)
def test_ranks_that_do_not_fit_are_named_everywhere(lockstep, other, sentence):
    parts = [np.array([[1.0, 2.0], [3.0, 5.0]]), other]

    def program(runtime):
        with pytest.raises(ValueError, match=sentence):
            NetworkPreprocessor().fit_local(parts[runtime.rank], runtime=runtime)

    lockstep(2, 2, program)


def test_the_values_are_those_of_scikit_learn():
    X = rows(200, 5)
    numbers = X[:, :2].astype(float)
    for how in ("mean", "median"):
        ours = NetworkPreprocessor(impute=how).fit(X[:, :2])
        theirs = SimpleImputer(strategy=how).fit(numbers).statistics_
        np.testing.assert_allclose([c.fill for c in ours.columns_], theirs, rtol=1e-12)
    full = numbers[~np.isnan(numbers).any(axis=1)]
    np.testing.assert_allclose(
        NetworkPreprocessor().fit_transform(full), StandardScaler().fit_transform(full), rtol=1e-9, atol=1e-12
    )
    words = X[X[:, 2] != None][:, 2:]  # noqa: E711 - elementwise
    np.testing.assert_array_equal(
        NetworkPreprocessor().fit_transform(words), OneHotEncoder(sparse_output=False).fit_transform(words)
    )


@given(st.lists(st.integers(1, 4), min_size=3, max_size=12), st.integers(0, 99))
def test_a_weight_of_two_is_a_row_that_stands_twice(weights, seed):
    X = np.random.default_rng(seed).normal(size=(len(weights), 2)).round(1)
    for how in ("mean", "median", "most_frequent"):
        once = NetworkPreprocessor(impute=how).fit(X, sample_weight=weights)
        twice = NetworkPreprocessor(impute=how).fit(np.repeat(X, weights, axis=0))
        for a, b in zip(once.columns_, twice.columns_, strict=True):
            assert a.fill == pytest.approx(b.fill, rel=1e-13 if how == "mean" else 0, abs=1e-15)
            assert a.mean == pytest.approx(b.mean, rel=1e-13, abs=1e-15)
            assert a.scale == pytest.approx(b.scale, rel=1e-12)


def test_rows_of_weight_zero_give_their_categories_only():
    X = np.array([["red", 1.0], ["red", 3.0], ["blue", 100.0]], dtype=object)
    fitted = NetworkPreprocessor(standardize=False).fit(X, sample_weight=[1, 1, 0])
    assert fitted.columns_ == [Column("x0", ["blue", "red"], "red"), Column("x1", None, 2.0)]


def test_data_frames_with_text_categories_and_gaps():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "age": [30, None, 50, 40],
            "sex": pandas.Categorical(["f", "m", None, "f"]),
            "smoker": [True, False, True, True],
            "zip": ["01234", "01234", "99999", "1234"],
            "dose": pandas.array([1, None, 3, 2], dtype="Int64"),
            "ward": [1, 2, 2, 1],
        }
    )
    prepared = NetworkPreprocessor(standardize=False, categorical=["ward"]).fit(frame)
    assert prepared.get_feature_names_out().tolist() == [
        *("age", "sex=f", "sex=m", "smoker", "zip=01234", "zip=1234", "zip=99999", "dose", "ward=1", "ward=2"),
    ]
    np.testing.assert_array_equal(prepared.transform(frame)[2], [50, 1, 0, 1, 0, 0, 1, 3, 0, 1])
    np.testing.assert_array_equal(prepared.transform(frame)[1], [40, 0, 1, 0, 1, 0, 0, 2, 0, 1])
    halves = NetworkPreprocessor(standardize=False, categorical=["ward"]).fit_agents([frame[:2], frame[2:]])
    assert halves.columns_ == prepared.columns_
    with pytest.raises(ValueError, match="feature names"):
        prepared.transform(frame[["sex", "age", "smoker", "zip", "dose", "ward"]])
    with pytest.raises(ValueError, match="'when' holds dates"):
        NetworkPreprocessor().fit(pandas.DataFrame({"when": pandas.date_range("2024-01-01", periods=3)}))
    polars = pytest.importorskip("polars")
    same = polars.DataFrame({"age": [1.0, None, 3.0], "sex": ["f", None, "m"]})
    np.testing.assert_array_equal(
        NetworkPreprocessor(standardize=False).fit_transform(same), [[1, 1, 0], [2, 1, 0], [3, 0, 1]]
    )


SENTENCES = {
    "numbers and text": ([[1.0], ["x"]], {}, r"'x0' holds numbers and text \(1.0 in row 0, 'x' in row 1\)"),
    "too many": ([["a"], ["b"], ["c"]], {"max_categories": 2}, "has 3 categories, more than max_categories=2"),
    "nothing": ([[None], [None]], {}, "'x0' has no value at all"),
    "a gap": ([[1.0], [np.nan]], {"impute": None}, "holds NaN or None in 1 row"),
    "a choice": ([[1.0]], {"impute": "magic"}, "impute must be one of"),
    "no column": ([[1.0]], {"categorical": ["x7"]}, "categorical must name columns of X"),
    "infinite": (np.array([[1.0], [np.inf]], dtype=object), {}, "'x0' is inf in row 1"),
    "large": ([[1e200], [2e200]], {}, "at most 1e150; rescale"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_cannot_be_prepared_is_a_sentence(case):
    X, options, sentence = SENTENCES[case]
    with pytest.raises(ValueError, match=sentence):
        NetworkPreprocessor(**options).fit(np.array(X, dtype=object))


def test_new_categories_are_refused_or_count_as_none():
    X = np.array([["a"], ["b"]], dtype=object)
    new = np.array([["b"], ["c"]], dtype=object)
    with pytest.raises(ValueError, match=r"holds 'c' in row 1, which the fit has not seen \(it knows a, b\)"):
        NetworkPreprocessor().fit(X).transform(new)
    np.testing.assert_array_equal(NetworkPreprocessor(handle_unknown="ignore").fit(X).transform(new), [[0, 1], [0, 0]])


def test_it_is_held_by_json_and_by_pickle():
    fitted = NetworkPreprocessor(impute="median").fit(rows(30))
    again = NetworkPreprocessor.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again.get_params() == fitted.get_params()
    for other in (again, pickle.loads(pickle.dumps(fitted))):
        assert other.columns_ == fitted.columns_
        np.testing.assert_array_equal(other.transform(rows(30)), fitted.transform(rows(30)))
    good = fitted.to_dict()
    column = good["columns"][2]
    changes = [{"categories": w} for w in ([], ["b", "a"], ["a", "a"], [1], "ab")] + [{"fill": "z"}, {"scale": 0.0}]
    bad = [None, 3, {}, {**good, "columns": 3}, *[{**good, "columns": [{**column, **change}]} for change in changes]]
    for notes in bad:
        with pytest.raises(ValueError, match="damaged model file"):
            NetworkPreprocessor.from_dict(notes)


def test_it_stands_in_a_pipeline_before_an_estimator():
    from dnnext import DecentralizedMLPClassifier

    X = rows(60)
    y = np.where(X[:, 2] == "red", "warm", "cold")
    clf = make_pipeline(
        NetworkPreprocessor(), DecentralizedMLPClassifier((4,), n_agents=3, max_iter=60, random_state=0)
    ).fit(X, y)
    assert clf.score(X, y) > 0.9


def test_words_of_whole_floats_are_those_of_whole_numbers():
    kind, words = numbers_or_words("a", np.array([1.0, 2.5, np.nan]), True)
    assert (kind, words.tolist()) == ("words", ["1", "2.5", None])
