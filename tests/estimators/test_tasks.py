"""scikit-learn's own callbacks reach into a fit."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV

from dnnext import DecentralizedClassifier, DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.models import Chain, Dense

callback = pytest.importorskip("sklearn.callback")

X, Y = load_iris(return_X_y=True)
QUICK = {"max_iter": 5, "tol": 0.0, "n_agents": 3, "random_state": 0}


class Listener:
    """Counts tasks; asks for the fitted estimator; ends the run after some iterations."""

    def __init__(self, last=None):
        self.begun, self.ended, self.scores, self.last = [], [], [], last
        self.set_up = self.torn_down = 0

    def setup(self, estimator, context):
        self.set_up += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.ended.append(context.task_name)
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y))
        return self.last is not None and self.ended.count("iteration") >= self.last

    def teardown(self, estimator, context):
        self.torn_down += 1


def test_a_task_per_fit_and_a_subtask_per_iteration():
    listener = Listener()
    clf = DecentralizedMLPClassifier((4,), **QUICK).set_callbacks(listener).fit(X, Y)
    assert listener.begun == ["fit", *["iteration"] * 5]
    assert listener.ended == [*["iteration"] * 5, "fit"]
    assert (listener.set_up, listener.torn_down) == (1, 1)
    assert listener.scores[-1] == clf.score(X, Y)
    assert "_fit_task" not in vars(clf)
    plain = DecentralizedMLPClassifier((4,), **QUICK).fit(X, Y)
    assert all(np.array_equal(a, b) for a, b in zip(plain.coefs_, clf.coefs_, strict=True))


def test_a_network_of_layers_has_tasks_too():
    listener = Listener()
    clf = DecentralizedClassifier(Chain([Dense(4, "tanh"), Dense()]), **QUICK).set_callbacks(listener).fit(X, Y)
    assert listener.ended == [*["iteration"] * 5, "fit"]
    assert listener.scores[-1] == clf.score(X, Y)


def test_a_true_answer_ends_the_run():
    clf = DecentralizedMLPClassifier((4,), **QUICK).set_callbacks(Listener(last=2)).fit(X, Y)
    assert (clf.n_iter_, clf.status_) == (2, "callback")


def test_a_failed_fit_is_torn_down():
    listener = Listener()
    clf = DecentralizedMLPClassifier((4,), **QUICK | {"max_iter": -1}).set_callbacks(listener)
    with pytest.raises(ValueError, match="max_iter"):
        clf.fit(X, Y)
    assert listener.torn_down == 1
    assert "_callback_fit_ctx" not in vars(clf)


def test_the_scoring_monitor_follows_a_regressor():
    inputs, y = load_diabetes(return_X_y=True)
    monitor = callback.ScoringMonitor(scoring="r2")
    reg = DecentralizedMLPRegressor((4,), **QUICK).set_callbacks(monitor).fit(inputs, y)
    scores = [row["r2"] for row in monitor.get_logs().data if row["task_name"] == "iteration"]
    assert len(scores) == 5
    assert scores[-1] == pytest.approx(reg.score(inputs, y))


def test_a_search_hands_its_bar_down(capsys):
    pytest.importorskip("rich")
    search = GridSearchCV(DecentralizedMLPClassifier((3,), **QUICK), {"alpha": [1e-3, 1e-1]}, cv=2)
    search.set_callbacks(callback.ProgressBar()).fit(X, Y)
    assert search.best_score_ > 0.3
    assert "DecentralizedMLPClassifier" in capsys.readouterr().out


def test_callbacks_stay_with_clones_but_not_in_the_way_of_pickles():
    clf = DecentralizedMLPClassifier((3,), **QUICK).set_callbacks(Listener())
    assert clone(clf).fit(X, Y).n_iter_ == 5
    assert pickle.loads(pickle.dumps(DecentralizedMLPClassifier((3,), **QUICK).fit(X, Y))).n_iter_ == 5
