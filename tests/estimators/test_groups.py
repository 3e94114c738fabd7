"""Estimators whose agents are cubes of ranks: fitted as in one process, checkpoints per rank, weights gathered."""

import threading

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score

import dnnext
from dnnext import DecentralizedClassifier, DecentralizedRegressor
from dnnext.algorithms import NEXT
from dnnext.callbacks import Checkpoint
from dnnext.local import FullLinearization
from dnnext.models import MLP, Cube
from dnnext.runtime import engines, threads

X, Y = load_iris(return_X_y=True)
X, Y = X[::3], Y[::3]
OPTIONS = {"n_agents": 2, "max_iter": 6, "tol": 0.0, "random_state": 0, "n_jobs": 1}
FULL = NEXT(FullLinearization())


@pytest.fixture
def on_threads(monkeypatch):
    """Run a program on so many ranks; engine="mpi" is the threads there."""
    here = threading.local()
    engine = engines.Engine(lambda **options: here.comm, ("timeout",), True)
    monkeypatch.setitem(engines.ENGINES, "mpi", engine)

    def run(n_ranks, program):
        def work(comm):
            here.comm = comm
            return program(comm)

        return threads.run(n_ranks, work)

    return run


def spread(**options):
    return DecentralizedClassifier(Cube(MLP([None, 5, None]), p=2), engine="mpi", **(OPTIONS | options))


def test_a_fit_on_cubes_is_that_of_one_process(on_threads, tmp_path):
    whole = DecentralizedClassifier(MLP([None, 5, None]), algorithm=FULL, **OPTIONS).fit(X, Y)

    def program(comm):
        clf = spread(algorithm=FULL).fit(X, Y)
        with pytest.raises(ValueError, match=r"spread over ranks: call gather_weights\(\) on every rank"):
            clf.predict(X)
        with pytest.raises(ValueError, match=r"save\(\) needs whole weights"):
            clf.save(tmp_path / "model.npz")
        held, half = clf._network.row.size, slice(comm.rank // 8, None, 2)  # the rows of this rank's group
        score = clf.score_local(X[half], Y[half])
        clf.gather_weights().gather_weights()
        for mine, other in zip(clf.coefs_ + clf.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)
        np.testing.assert_allclose(clf.agents_[1].coefs_[0], whole.agents_[1].coefs_[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(clf.history_["objective"], whole.history_["objective"], rtol=1e-9)
        np.testing.assert_array_equal(clf.predict(X), whole.predict(X))
        if comm.rank == 0:
            clf.save(tmp_path / "model.npz")
        return held, score

    found = on_threads(16, program)
    assert max(held for held, _ in found) <= 16 < len(whole._network.row) == 43  # with padding: 4, 5, 3 by 4
    assert [score for _, score in found] == [whole.score(X, Y)] * 16
    np.testing.assert_array_equal(dnnext.load(tmp_path / "model.npz").predict(X), whole.predict(X))


def test_rows_of_groups_are_those_of_agents_in_one_process(on_threads):
    parts = [(X[::2], Y[::2]), (X[1::2], Y[1::2])]
    options = {"algorithm": FULL, "class_weight": "balanced", "random_state": None}
    whole = DecentralizedClassifier(MLP([None, 5, None]), **OPTIONS | {"algorithm": FULL, "max_iter": 3})
    whole.fit_agents(parts)

    def program(comm):
        clf = spread(algorithm=FULL, max_iter=3).fit_local(*parts[comm.rank // 8])
        assert clf.score_local(*parts[comm.rank // 8]) == whole.score(X, Y)
        assert [view.n_samples for view in clf.agents_] == [25]
        both = spread(**options, max_iter=1, n_agents=2)  # two agents of each group, starts of the first rank
        assert both.fit_local(X, Y, agent=np.arange(len(X)) % 2).n_agents_ == 4
        return clf.gather_weights().coefs_, both.gather_weights().coefs_

    found = on_threads(16, program)
    for mine, other in zip(found[0][0], whole.coefs_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)
    for one in found[1:]:
        for mine, other in zip(one[0] + one[1], found[0][0] + found[0][1], strict=True):
            np.testing.assert_array_equal(mine, other)


def test_two_agents_on_one_cube_stop_early_and_resume(on_threads, tmp_path):
    def program(comm):
        options = {"algorithm": FULL, "early_stopping": True, "callbacks": [Checkpoint(tmp_path, every=3)]}
        clf = spread(max_iter=3, **options).fit(X, Y)
        assert len(clf.history_["validation_score"]) == len(clf.history_["objective"])
        again = dnnext.resume(tmp_path, X, Y, max_iter=6)
        whole = spread(**options | {"callbacks": None}).fit(X, Y)
        np.testing.assert_array_equal(again._network.row, whole._network.row)
        return again.n_iter_

    assert on_threads(8, program) == [6] * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"place-{place:03d}" for place in range(8)]


def test_the_surrogate_is_chosen_by_the_whole_model(on_threads):
    def program(comm):
        reg = DecentralizedRegressor(Cube(MLP([None, 5, None]), p=2), engine="mpi", **OPTIONS | {"max_iter": 2})
        return reg.fit(X[:, :3], X[:, 3]).gather_weights().score(X[:, :3], X[:, 3])

    assert len(set(on_threads(8, program))) == 1


def test_one_rank_holds_whole_weights():
    clf = DecentralizedClassifier(Cube(MLP([None, 5, None]), p=1), algorithm=FULL, **OPTIONS)
    whole = DecentralizedClassifier(MLP([None, 5, None]), algorithm=FULL, **OPTIONS)
    scores = cross_val_score(clf, X, Y, cv=2, error_score="raise")
    np.testing.assert_allclose(scores, cross_val_score(whole, X, Y, cv=2))
    views = zip(clf.fit(X, Y).agents_, whole.fit(X, Y).agents_, strict=True)
    assert all(np.allclose(mine.coefs_[0], other.coefs_[0], rtol=0, atol=1e-9) for mine, other in views)


def test_what_does_not_fit_is_refused_on_every_rank(on_threads):
    with pytest.raises(ValueError, match="needs 8 ranks for every group of agents, got 1 in all"):
        DecentralizedClassifier(Cube(MLP([None, 5, None]), p=2), **OPTIONS).fit(X, Y)
    with pytest.raises(ValueError, match="model must be an MLP"):
        Cube(None)

    def program(comm):
        with pytest.raises(ValueError, match=r"(?s)X must be equal on all ranks, .* on rank 5"):
            spread().fit_local(X + (comm.rank % 8 == 5), Y)
        with pytest.raises(ValueError, match=r"(?s)the ranks of one agent must be equal on all ranks, .* on rank 3"):
            (DecentralizedClassifier(engine="mpi") if comm.rank == 3 else spread()).fit_local(X, Y)
        with pytest.raises(ValueError, match="max_iter"):
            spread(max_iter=6 + (comm.rank == 9)).fit_local(X, Y)
        for options in ({"warm_start": True}, {"regime": "tangent"}):
            with pytest.raises(ValueError, match="warm_start False for weights that are spread"):
                spread(**options).fit(X, Y)
        with pytest.raises(ValueError, match=r"(?s)X must be equal on all ranks, .* on rank 5"):
            spread().fit(X + (comm.rank == 5), Y)
        with pytest.raises(ValueError, match="agents must be at least 2, one for each group"):
            spread(n_agents=1).fit(X, Y)

    on_threads(16, program)
