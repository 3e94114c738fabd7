"""Model files and pickles."""

import contextlib
import io
import json
import pickle
import tracemalloc

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Schedule, Topology
from dnnext.estimators.files import read_notes, save
from dnnext.problem import L1

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 8, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}
NAMES = np.array(["setosa", "versicolor", "virginica"])


def equal(one, other, inputs):
    assert np.array_equal(one.predict(inputs), other.predict(inputs))
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))
    assert one.history_.keys() == other.history_.keys()
    assert all(np.array_equal(one.history_[key], other.history_[key]) for key in one.history_)
    assert one.get_params() == other.get_params()
    assert one.n_iter_ == other.n_iter_
    assert [v.n_samples for v in one.agents_] == [v.n_samples for v in other.agents_]
    assert [v.label for v in one.agents_] == [v.label for v in other.agents_]
    assert all(np.array_equal(a.coefs_[0], b.coefs_[0]) for a, b in zip(one.agents_, other.agents_, strict=True))


def test_classifier_comes_back(tmp_path):
    clf = DecentralizedMLPClassifier((5, 3), alpha=[1e-3, 1e-3, 1e-2], **QUICK)
    clf.fit(X, NAMES[Y], agent=np.array(list("abc") * 50), eval_set=(X, NAMES[Y]))
    clf.save(tmp_path / "m.npz")
    again = dnnext.load(tmp_path / "m.npz")
    equal(clf, again, X)
    assert again.topology_.hash == clf.topology_.hash
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.npz"]


@pytest.mark.parametrize("width", [1, 2])
def test_regressor_comes_back_and_goes_on(tmp_path, width):
    inputs, y = load_diabetes(return_X_y=True)
    targets = y if width == 1 else np.column_stack([y, y**2])
    reg = DecentralizedMLPRegressor((5,), dtype="float32", **QUICK).fit(inputs, targets)
    reg.save(tmp_path / "m")
    again = dnnext.load(tmp_path / "m")
    equal(reg, again, inputs)
    reg.partial_fit(inputs[:99], targets[:99])
    again.partial_fit(inputs[:99], targets[:99])
    assert np.array_equal(reg.coefs_[0], again.coefs_[0])


def test_an_agents_view_comes_back(tmp_path):
    view = DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y).agents_[2]
    view.save(tmp_path / "m.npz")
    again = dnnext.load(tmp_path / "m.npz")
    assert np.array_equal(again.predict_proba(X), view.predict_proba(X))
    assert (again.label, again.n_samples) == (2, view.n_samples)
    assert not hasattr(again, "agents_")


def test_objects_that_a_file_cannot_hold_are_warned_of(tmp_path):
    sched = Schedule.link_failures(Topology.complete(4), p=0.3, random_state=0)
    clf = DecentralizedMLPClassifier((5,), penalty=L1(1e-3), **{**QUICK, "topology": sched}).fit(X, Y)
    clf.save(tmp_path / "m.npz")
    with pytest.warns(UserWarning, match="topology=<Schedule"):
        again = dnnext.load(tmp_path / "m.npz")
    assert np.array_equal(again.predict(X), clf.predict(X))
    assert again.penalty.fingerprint() == L1(1e-3).fingerprint()  # an object of the package is held
    with pytest.raises(UserWarning, match="cannot hold"):  # where warnings are errors: no damaged file
        dnnext.load(tmp_path / "m.npz")


def test_feature_names_and_notes(tmp_path):
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y)
    clf.feature_names_in_ = np.array(list("abcd"), dtype=object)
    save(clf, tmp_path / "m.npz", notes={"target": "kind"})
    assert dnnext.load(tmp_path / "m.npz").feature_names_in_.tolist() == list("abcd")
    assert read_notes(tmp_path / "m.npz") == {"target": "kind"}


def test_no_pickle_inside(tmp_path):
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X, NAMES[Y].astype(object))
    clf.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
    assert dnnext.load(tmp_path / "m.npz").classes_.tolist() == NAMES.tolist()


def saved(folder):
    DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y).save(folder / "m.npz")
    return (folder / "m.npz").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_files(tmp_path, share):
    whole = saved(tmp_path)
    (tmp_path / "m.npz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="not a complete dnnext model file"):
        dnnext.load(tmp_path / "m.npz")


def test_damaged_files(tmp_path):
    whole = bytearray(saved(tmp_path))
    for place in range(200, len(whole) - 400, max(1, len(whole) // 40)):
        spoilt = bytes(whole[:place]) + bytes(255 - b for b in whole[place : place + 16]) + bytes(whole[place + 16 :])
        (tmp_path / "m.npz").write_bytes(spoilt)
        try:
            dnnext.load(tmp_path / "m.npz").predict(X)
        except ValueError as error:
            assert "model" in str(error)  # noqa: PT017


def test_foreign_files(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="not a complete dnnext model file"):
        dnnext.load(path)
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="no header"):
        dnnext.load(path)
    path.write_bytes(npy(np.ones(3)))
    with pytest.raises(ValueError, match="not a complete dnnext model file"):
        dnnext.load(path)
    header = np.frombuffer(b'{"format": "dnnext model", "version": 99}', dtype=np.uint8)
    np.savez(path, header=header)
    with pytest.raises(ValueError, match="model format 99"):
        dnnext.load(path)
    header = np.frombuffer(b'{"format": "dnnext model", "version": 1}', dtype=np.uint8)
    np.savez(path, header=header)
    with pytest.raises(ValueError, match="damaged"):
        dnnext.load(path)
    with pytest.raises(FileNotFoundError):
        dnnext.load(tmp_path / "none.npz")


def inflated(path, change):
    """The file with another header: change(header), with its checksums right."""
    arrays = dict(np.load(path))
    header = change(json.loads(arrays.pop("header").tobytes()))
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)


def swollen(header):
    return {**header, "more": ["x" * 100] * 90_000}


def deep(header):
    return {**header, "more": json.loads("[" * 900 + "]" * 900)}


INFLATIONS = {
    "agents": lambda h: {**h, "counts": {**h["counts"], "n_agents_": 3 * 10**8}},
    "outputs": lambda h: {**h, "counts": {**h["counts"], "n_outputs_": 10**12}},
    "features": lambda h: {**h, "counts": {**h["counts"], "n_features_in_": 10**12}},
    "parameter": lambda h: {**h, "params": {**h["params"], "n_agents": 3 * 10**8}},
    "hidden units": lambda h: {**h, "params": {**h["params"], "hidden_layer_sizes": [10**9]}},
    "layers": lambda h: {**h, "model": {"class": "MLP", "params": {"layers": {"tuple": [4, 10**9, 3]}}}},
    "rows": lambda h: {**h, "agents": {"labels": [0, 1, 2, 3], "rows": [10**12] * 4}},
    "9 MB": swollen,
    "deep": deep,
}


@pytest.mark.parametrize("kind", INFLATIONS)
def test_no_header_makes_a_load_take_much_memory(tmp_path, kind):
    saved(tmp_path)
    inflated(tmp_path / "m.npz", INFLATIONS[kind])
    size = (tmp_path / "m.npz").stat().st_size
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            dnnext.load(tmp_path / "m.npz")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 6 * size + 4e6


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y)
    clf.save(tmp_path / "m.npz")
    before = (tmp_path / "m.npz").read_bytes()
    clf.classes_ = np.array([0, "a", None], dtype=object)
    with pytest.raises(ValueError, match="classes_ must hold text, booleans or numbers"):
        clf.save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == before


def test_pickle_and_joblib(tmp_path):
    clf = DecentralizedMLPClassifier((5,), **QUICK).fit(X, Y)
    equal(clf, pickle.loads(pickle.dumps(clf)), X)
    joblib.dump(clf, tmp_path / "m.joblib")
    equal(clf, joblib.load(tmp_path / "m.joblib"), X)
