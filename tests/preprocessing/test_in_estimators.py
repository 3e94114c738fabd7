"""`preprocess="auto"`: data frames with text, categories and gaps in every way of fitting and predicting."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import dnnext
from dnnext import (
    DecentralizedClassifier,
    DecentralizedMLPClassifier,
    DecentralizedMLPRegressor,
    DecentralizedRegressor,
)
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.preprocessing import NetworkPreprocessor

pandas = pytest.importorskip("pandas")
OPTIONS = {
    "hidden_layer_sizes": (3,),
    "max_iter": 8,
    "tol": 0,
    "n_agents": 3,
    "topology": "complete",
    "random_state": 0,
}


def patients(n=60, seed=0):
    rng = np.random.default_rng(seed)
    frame = pandas.DataFrame({"age": rng.normal(50, 10, n), "ward": rng.choice(["north", "south", "west"], n)})
    frame["smoker"] = pandas.Categorical(rng.choice(["yes", "no"], n))
    y = np.where(frame["age"] + 10 * (frame["ward"] == "west") > 53, "ill", "well")
    frame.loc[[3, 7], "age"], frame.loc[5, "ward"] = np.nan, None
    return frame, y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestPreprocess:
    def test_it_is_the_transformer_before_the_estimator(self):
        X, y = patients()
        clf = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit(X, y)
        ready = NetworkPreprocessor(standardize=False).fit(X)
        plain = DecentralizedMLPClassifier(**OPTIONS).fit(ready.transform(X), y)
        for ours, theirs in zip(clf.coefs_, plain.coefs_, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(ready.transform(X)))
        assert clf.n_features_in_ == 3
        assert clf.feature_names_in_.tolist() == ["age", "ward", "smoker"]
        assert clf.preprocessor_.get_feature_names_out()[1:4].tolist() == ["ward=north", "ward=south", "ward=west"]
        assert clf.agents_[0].predict(X).shape == (60,)
        with pytest.raises(ValueError, match="feature names"):
            clf.predict(X[["ward", "age", "smoker"]])
        assert clf.to_sklearn().feature_names_in_.tolist() == ready.get_feature_names_out().tolist()

    def test_agents_bring_frames(self):
        X, y = patients()
        parts = [(X[k::3], y[k::3]) for k in range(3)]
        turned = [(X[k::3][["smoker", "age", "ward"][:: (-1) ** k]] if k else X[k::3], y[k::3]) for k in range(3)]
        one = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit(X, y, agent=np.arange(60) % 3)
        for agents in (parts, turned):
            each = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit_agents(agents)
            np.testing.assert_array_equal(each.coefs_[0], one.coefs_[0])
            assert each.preprocessor_.columns_ == one.preprocessor_.columns_
        with pytest.raises(ValueError, match=r"agents\[1\] must have the columns of agents\[0\]"):
            DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit_agents([parts[0], (X[["age"]], y)])

    def test_models_are_kept_without_pickle(self, tmp_path):
        X, y = patients()
        for preprocess in ("auto", NetworkPreprocessor(impute="median", standardize=False, handle_unknown="ignore")):
            clf = DecentralizedMLPClassifier(preprocess=preprocess, **OPTIONS).fit(X, y)
            clf.save(tmp_path / "m.npz")
            again = dnnext.load(tmp_path / "m.npz")
            np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
            assert repr(again.get_params()) == repr(clf.get_params())
            assert repr(clone(again)) == repr(again)
        new = X.assign(ward="east")
        assert again.predict(new).shape == (60,)  # unknown wards count as none

    def test_regression_scores_held_out_rows_and_searches(self):
        X, _ = patients()
        y = X["age"].fillna(50).to_numpy() + 5 * (X["ward"] == "west")
        reg = DecentralizedMLPRegressor(preprocess="auto", early_stopping=True, **OPTIONS).fit(X, y, eval_set=(X, y))
        assert "validation_score" in reg.history_
        assert len(cross_val_score(reg, X, y, cv=3)) == 3

    def test_rows_one_by_one(self):
        X, y = patients()
        clf = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS)
        for rows in (X, X[::-1]):
            clf.partial_fit(rows, y[rows.index], classes=["ill", "well"])
        assert clf.predict(X).shape == (60,)

    def test_a_fit_without_it_forgets_it(self):
        X, y = patients()
        clf = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit(X, y)
        clf.set_params(preprocess=None).fit(X[["age"]].fillna(0), y)
        assert not hasattr(clf, "preprocessor_")
        assert clf.feature_names_in_.tolist() == ["age"]

    @pytest.mark.parametrize("kind", [DecentralizedClassifier, DecentralizedRegressor])
    def test_any_model_takes_frames(self, kind, tmp_path):
        X, y = patients()
        y = y if kind is DecentralizedClassifier else (y == "ill") * 1.0
        options = {**{k: v for k, v in OPTIONS.items() if k != "hidden_layer_sizes"}, "preprocess": "auto"}
        fitted = kind(Chain([Dense(3, "tanh"), Dense()]), **options).fit(X, y, eval_set=(X, y))
        fitted.save(tmp_path / "m.npz")
        np.testing.assert_array_equal(dnnext.load(tmp_path / "m.npz").predict(X), fitted.predict(X))
        images = np.zeros((60, 8, 8))
        net = Chain([Conv2d(2, 3), AvgPool2d(2), Flatten(), Dense()])
        with pytest.raises(ValueError, match=r"X must be a table \(n, d\) here, got shape \(60, 8, 8\)"):
            kind(net, **options).fit(images, y)

    def test_several_labels_per_row_and_counts(self):
        X, y = patients()
        labels = np.stack([y == "ill", X["smoker"] == "yes"], axis=1) * 1
        ready = NetworkPreprocessor(standardize=False).fit(X).transform(X)
        parts = [(X[k::3], labels[k::3]) for k in range(3)]
        for kind, target, loss in (
            (DecentralizedMLPClassifier, labels, "log_loss"),
            (DecentralizedMLPRegressor, labels.sum(axis=1), "poisson"),
        ):
            fitted = kind(preprocess="auto", loss=loss, **OPTIONS).fit(X, target)
            plain = kind(loss=loss, **OPTIONS).fit(ready, target)
            np.testing.assert_array_equal(fitted.predict(X), plain.predict(ready))
            assert fitted.score(X, target) == plain.score(ready, target)
        each = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS).fit_agents(parts)
        assert each.predict(X).shape == labels.shape

    def test_float32_stays_float32(self):
        X, y = patients()
        numbers = X[["age"]].assign(dose=np.arange(60.0))
        narrow = numbers.astype(np.float32)
        clf = DecentralizedMLPClassifier(preprocess="auto", **OPTIONS)
        for rows in (narrow, narrow.to_numpy()):
            fitted = clf.fit(rows, y)
            assert fitted.coefs_[0].dtype == np.float32
            assert fitted.predict(rows).shape == (60,)
        assert clf.fit_agents([(narrow[k::3], y[k::3]) for k in range(3)]).coefs_[0].dtype == np.float32
        assert clone(clf).partial_fit(narrow, y, classes=["ill", "well"]).coefs_[0].dtype == np.float32
        for rows in (numbers, X, X.assign(age=X["age"].astype(np.float32))):
            assert clf.fit(rows, y).coefs_[0].dtype == np.float64

    def test_what_is_no_preprocessor_is_refused(self):
        X, y = patients()
        for value in ("all", 3, NetworkPreprocessor):
            with pytest.raises(ValueError, match="preprocess must be None, 'auto' or a NetworkPreprocessor"):
                DecentralizedMLPClassifier(preprocess=value).fit(X, y)
        with pytest.raises(ValueError, match=r"could not convert|dtype|strings"):
            DecentralizedMLPClassifier().fit(X, y)
