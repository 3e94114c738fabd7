"""`dnnext.resume` gives the model of the run without the break, or refuses with the reason."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Topology
from dnnext.algorithms import NEXT
from dnnext.estimators import choices, training
from dnnext.network import Network
from dnnext.problem import L1, L2, MLP, Problem, SquaredError
from dnnext.runs.callbacks import Checkpoint, History

X, Y = load_iris(return_X_y=True)
COMMON = {"hidden_layer_sizes": (4,), "n_agents": 4, "max_iter": 20, "tol": 0.0}


class Stop(Exception):
    pass


def stop(state, metrics):
    if state.t == 8:
        raise Stop


def cut(estimator, folder, *data, **options):
    estimator.set_params(callbacks=[Checkpoint(folder, every=5), stop])
    with pytest.raises(Stop):
        estimator.fit(*data, **options)


def assert_same(model, other):
    for mine, whole in zip(model.coefs_ + model.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(mine, whole)
    for name in set(other.history_) - {"seconds"}:
        np.testing.assert_array_equal(model.history_[name], other.history_[name], err_msg=name)
    assert model.get_params()["hidden_layer_sizes"] == other.get_params()["hidden_layer_sizes"]


@pytest.mark.parametrize("options", [{}, {"penalty": "l1", "dtype": "float32"}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("random_state", [0, None, "generator"])
def test_the_model_is_that_of_the_whole_run(tmp_path, options, random_state):
    options = {**COMMON, **options}
    seed = np.random.default_rng(5) if random_state == "generator" else random_state
    cut(DecentralizedMLPClassifier(**options, random_state=seed), tmp_path, X, Y)
    again = dnnext.resume(tmp_path, X, Y, callbacks=[])
    if random_state != 0:  # the seed that was drawn cannot be drawn again: a second resume must agree
        other = dnnext.resume(tmp_path, X, Y, callbacks=[])
    else:
        other = DecentralizedMLPClassifier(**options, random_state=0).fit(X, Y)
    assert_same(again, other)


def test_a_checkpoint_of_before_the_choice_of_curvature_goes_on_with_own_curvature(tmp_path, monkeypatch):
    """Its notes do not have what the default may send; its run began with each agent's own curvature."""
    today = training.notes

    def earlier(*args):
        return {name: value for name, value in today(*args).items() if name != "share"}

    with monkeypatch.context() as then:
        then.setattr(training, "notes", earlier)
        then.setitem(choices.SHARE, "fit", None)
        cut(DecentralizedMLPClassifier(**COMMON, random_state=0), tmp_path, X, Y)
    again = dnnext.resume(tmp_path, X, Y, callbacks=[Checkpoint(tmp_path, every=5)])
    assert_same(again, DecentralizedMLPClassifier(**COMMON, random_state=0, algorithm=NEXT()).fit(X, Y))
    assert "curvature" not in dnnext.resume(tmp_path, X, Y, max_iter=22).history_  # goes on from the resumed run
    chosen = dnnext.resume(tmp_path, X, Y, algorithm="next", max_iter=24)
    assert chosen.history_["curvature"][-1] == 2


def test_owners_weights_and_objects_are_given_again(tmp_path):
    x, y = load_diabetes(return_X_y=True)
    rows = {"agent": np.arange(len(x)) % 5, "sample_weight": 1.0 + np.arange(len(x)) % 2}
    objects = {"topology": Topology.star(5), "penalty": L1(alpha=1e-3)}
    whole = DecentralizedMLPRegressor(**COMMON, **objects, random_state=1).fit(x, y, **rows)
    cut(DecentralizedMLPRegressor(**COMMON, **objects, random_state=1), tmp_path, x, y, **rows)
    with pytest.raises(ValueError, match=r"give resume the parameters topology \(was"):
        dnnext.resume(tmp_path, x, y, callbacks=[], **rows)
    with pytest.raises(ValueError, match=r"had the callbacks .*stop"):
        dnnext.resume(tmp_path, x, y, **objects, **rows)
    assert_same(dnnext.resume(tmp_path, x, y, callbacks=[History()], **objects, **rows), whole)
    with pytest.raises(ValueError, match="rows of agent 0 are not those"):
        dnnext.resume(tmp_path, x, y, callbacks=[], **objects)


def test_a_resumed_run_goes_on_writing(tmp_path):
    clf = DecentralizedMLPClassifier(**COMMON, random_state=0, callbacks=[Checkpoint(tmp_path, every=5)]).fit(X, Y)
    longer = dnnext.resume(tmp_path, X, Y, max_iter=30)
    assert longer.callbacks[0].every == 5
    assert (clf.n_iter_, longer.n_iter_) == (20, 30)
    assert dnnext.resume(tmp_path, X, Y, max_iter=31).n_iter_ == 31


def test_other_rows_or_layers_are_refused(tmp_path):
    cut(DecentralizedMLPClassifier(**COMMON, random_state=0), tmp_path, X, Y)
    with pytest.raises(ValueError, match=r"rows of agent . are not those"):
        dnnext.resume(tmp_path, X + 1e-3 * Y[:, None], Y, callbacks=[])
    with pytest.raises(ValueError, match="the checkpoint holds weights"):
        dnnext.resume(tmp_path, X, Y, callbacks=[], hidden_layer_sizes=(5,))


def test_a_checkpoint_without_an_estimator(tmp_path):
    shards = [(X[:5], X[:5, 0]), (X[5:10], X[5:10, 0])]
    problem = Problem(MLP([4, 1]), SquaredError(), L2(alpha=1e-2), shards)
    NEXT().run(problem, Network(Topology.ring(2)), max_iter=3, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="not written by an estimator's run"):
        dnnext.resume(tmp_path, X, Y)
    with pytest.raises(ValueError, match="without a dnnext checkpoint"):
        dnnext.resume(tmp_path / "nowhere", X, Y)
