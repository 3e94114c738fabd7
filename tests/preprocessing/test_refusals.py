"""Columns are taken by name or refused, and what is no table of numbers is named with its place."""

import datetime
import json

import numpy as np
import pytest

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.preprocessing import NetworkPreprocessor

pandas = pytest.importorskip("pandas")
OPTIONS = {"hidden_layer_sizes": (2,), "n_agents": 2, "max_iter": 1, "tol": 0, "random_state": 0}
X = np.random.default_rng(0).normal(size=(12, 3))
y = np.arange(12) % 2


def frame(labels="abc", **more):
    return pandas.DataFrame(X, columns=list(labels)).assign(**more)


def models(**options):
    for preprocess in (None, "auto"):
        yield DecentralizedMLPClassifier(preprocess=preprocess, **OPTIONS, **options)


@pytest.mark.parametrize("labels", ["abc", [0, 1, 2], [7, 3, 5], [("u", 1), ("u", 2), ("v", 1)]], ids=str)
def test_columns_in_another_order_are_never_taken_as_they_are(labels, tmp_path):
    own = pandas.DataFrame(dict(enumerate(X.T)))
    own.columns = pandas.MultiIndex.from_tuples(labels) if isinstance(labels[0], tuple) else list(labels)
    turned = own.iloc[:, ::-1]
    for model in models():
        model.fit(own, y).save(tmp_path / "m.npz")
        for held in (model, dnnext.load(tmp_path / "m.npz")):
            np.testing.assert_array_equal(held.predict_proba(own), model.predict_proba(own))
            with pytest.raises(
                ValueError, match=r"The fit had \['a', 'b', 'c'\], X has \['c'|the columns of X must be"
            ):
                held.predict(turned)
            with pytest.raises(ValueError, match="order"):
                held.score(turned, y)
        together = model.fit_agents([(own[:6], y[:6]), (turned[6:], y[6:])]).predict_proba(own)
        np.testing.assert_array_equal(
            together, model.fit_agents([(own[:6], y[:6]), (own[6:], y[6:])]).predict_proba(own)
        )
        with pytest.raises(ValueError, match="order"):
            model.predict(turned)
        for other in (X[6:], own[6:].iloc[:, :2], pandas.concat([own, own.iloc[:, :1]], axis=1)[6:]):
            with pytest.raises(ValueError, match=r"X of agents\[1\] must"):
                model.fit_agents([(own[:6], y[:6]), (other, y[6:])])
    made = NetworkPreprocessor().fit_agents([own[:6], turned[6:]])
    np.testing.assert_array_equal(made.transform(own), NetworkPreprocessor().fit(own).transform(own))
    again = NetworkPreprocessor.from_dict(json.loads(json.dumps(made.to_dict())))
    if labels != "abc":  # scikit-learn's names are kept by the estimator
        with pytest.raises(ValueError, match="the columns of X must be those of the fit"):
            again.transform(turned)


def test_numbers_of_columns_are_no_names():
    for model in models():
        model.fit(pandas.DataFrame(X, columns=[4, 5, 6]), y)
        assert model.predict(pandas.DataFrame(X)).shape == (12,)


DAY = datetime.date(2020, 1, 1)
REFUSED = {
    "text": (frame(d="x"), "could not convert string to float: column 'd' holds the text 'x' in row 0"),
    "underscore": (frame(d="1_0"), "column 'd' holds the text '1_0'"),
    "other digits": (np.array([["1", "\u0661"]] * 12, dtype=object), "column 1 holds the text"),
    "gap": (
        frame(a=[0.0] * 5 + [np.nan] * 7),
        r"Input X contains NaN. The first of 7 stands in row 5, column 'a'. prep",
    ),
    "infinite": (frame(b=[np.inf] + [0.0] * 11), "Input X contains infinity .* It stands in row 0, column 'b'"),
    "days": (frame(d=pandas.Timestamp(DAY)), "column 'd' holds dates or times"),
    "objects": (frame(d=DAY), "column 'd' holds dates or times"),
    "array of days": (np.full((12, 2), np.datetime64(DAY)), "dates"),
    "spans": (np.full((12, 2), np.timedelta64(1, "s")), "dates"),
    "complex": (X + 0j, "Complex data not supported: X must hold real numbers, got complex128"),
    "flat": (X[:, 0], r"X has shape \(12,\)\. Reshape your data"),
    "one name twice": (frame("aba"), "column names must differ, got 'a' 2 times"),
    "masked": (np.ma.array(X, mask=X > 1), "Input X contains NaN"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_of_numbers(case):
    table, sentence = REFUSED[case]
    for kind in (DecentralizedMLPClassifier, DecentralizedMLPRegressor):
        with pytest.raises(ValueError, match=sentence) as caught:
            kind(**OPTIONS).fit(table, y)
        assert len(str(caught.value)) < 300
        with pytest.raises(ValueError, match=r"agents\[[01]\]"):
            kind(**OPTIONS).fit_agents([(table if hasattr(table, "columns") else X, y), (table, y)])


def test_masked_values_are_gaps_and_sparse_columns_numbers():
    masked, spread = np.ma.array(X, mask=X > 1), frame().astype(pandas.SparseDtype(float))
    filled = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS)
    gaps = np.where(X > 1, np.nan, X)
    np.testing.assert_array_equal(filled.fit(masked, y).predict_proba(X), filled.fit(gaps, y).predict_proba(X))
    for model in models():
        np.testing.assert_array_equal(model.fit(spread, y).predict(spread), model.fit(frame(), y).predict(frame()))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.array([True, 0] * 6, dtype=object), r"Unknown label type: y must hold .* got objects of \['bool', 'int'\]"),
        (np.array([2**70, 0] * 6, dtype=object), "whole numbers of 64 bits"),
        (np.ma.array(y, mask=y > 0), "row 1 has no target"),
        (y + 0j, "Complex data not supported: Input y holds complex numbers"),
    ],
)
def test_what_is_no_label(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        DecentralizedMLPClassifier(**OPTIONS).fit(X, labels)


def test_targets_that_only_python_takes_for_numbers():
    for text in ("1_0", "\u0661"):
        for labels in (np.array([text, "2"] * 6), np.array([text, "2"] * 6, dtype=object)):
            with pytest.raises(ValueError, match="y must hold real numbers"):
                DecentralizedMLPRegressor(**OPTIONS).fit(X, labels)


def test_tables_of_other_libraries():
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    columns = {name: X[:, k] for k, name in enumerate("abc")}
    for table in (polars.DataFrame(columns), arrow.table(columns)):
        for model in models():
            np.testing.assert_array_equal(model.fit(table, y).predict(table), model.fit(frame(), y).predict(frame()))
            with pytest.raises(ValueError, match="order"):
                model.predict(table.select(["c", "b", "a"]))
            one, two = (table[:6], table[6:]) if hasattr(table, "row") else (table.slice(0, 6), table.slice(6))
            model.fit_agents([(one, y[:6]), (two.select(["c", "b", "a"]), y[6:])])
    with pytest.raises(ValueError, match=r"got a LazyFrame: call collect\(\)"):
        DecentralizedMLPClassifier(**OPTIONS).fit(polars.DataFrame(columns).lazy(), y)


def test_agents_that_are_no_tables_are_named_also_before_a_preprocessor():
    pair = (X, y)
    for agents, sentence in (
        (None, "agents must be a sequence of pairs .* got a NoneType"),
        ({"north": pair}, r"got a dict: pass list\(agents.values\(\)\)"),
        ([X, X], r"agents\[0\] must be \(X, y\)"),
        ([pair, (X[:0], y[:0])], r"agents\[1\]"),
        ([pair, (X[:, 0], y)], r"agents\[1\]"),
        ([], "agents is empty"),
    ):
        for model in models():
            with pytest.raises(ValueError, match=sentence):
                model.fit_agents(agents)


def test_weights_of_agents_count_in_what_fills_gaps():
    gaps, weight = frame(a=np.where(y, np.nan, X[:, 0])), np.arange(12.0)
    model = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS)
    one = model.fit(gaps, y, sample_weight=weight, agent=np.arange(12) // 6).preprocessor_
    many = model.fit_agents([(gaps[:6], y[:6], weight[:6]), (gaps[6:], y[6:], weight[6:])]).preprocessor_
    assert one.columns_ == many.columns_
    assert one.columns_[0].fill == pytest.approx(np.average(X[::2, 0], weights=weight[::2]))
    with pytest.raises(ValueError, match="sample_weight must hold one finite number"):
        NetworkPreprocessor().fit_agents([gaps], [weight[:3]])


def test_nan_is_no_class():
    with pytest.raises(ValueError, match="classes must hold labels, none of them NaN"):
        DecentralizedMLPClassifier(**OPTIONS).partial_fit(X, y, classes=[0, 1, np.nan])
