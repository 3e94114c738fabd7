"""A run that was cut and resumed gives the same bits, callbacks and ends included."""

from functools import partial

import numpy as np
import pytest
from short_runs import RING, Stop, assert_same, killed_at, make_problem

from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.local import FullLinearization
from dnnext.network import Network, Schedule
from dnnext.problem import L1, L2
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint, EarlyStopping, History
from dnnext.runtime import InProcess

ALGORITHMS = [NEXT(), NEXT(FullLinearization()), NEXT(step=0.5, mu=0.05), GradientTracking(), DGD()]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)], ids=["l2", "l1"])
@pytest.mark.parametrize("graph", [RING, Schedule.link_failures(RING, p=0.3, random_state=0)], ids=["ring", "failing"])
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, algorithm, penalty, graph):
    problem = make_problem(penalty=penalty)
    whole = algorithm.run(problem, Network(graph), max_iter=37, warn=False)
    with pytest.raises(Stop):
        algorithm.run(problem, Network(graph), max_iter=37, callbacks=[Checkpoint(tmp_path, every=11), killed_at(29)])
    saved = checkpoint.read(tmp_path, problem.runtime)
    assert saved.numbers["t"] == 22
    assert_same(algorithm.run(problem, Network(graph), max_iter=37, resume=saved, warn=False), whole)


def test_an_alarm_before_the_break_is_remembered(tmp_path):
    problem, algorithm = make_problem(), NEXT(FullLinearization(), tau=0.05)
    whole = algorithm.run(problem, Network(RING), max_iter=60, warn=False)
    assert "diverge" in whole.warning
    with pytest.raises(Stop):
        algorithm.run(problem, Network(RING), max_iter=60, callbacks=[Checkpoint(tmp_path, every=7), killed_at(45)])
    again = algorithm.run(
        problem, Network(RING), max_iter=60, resume=checkpoint.read(tmp_path, problem.runtime), warn=False
    )
    assert_same(again, whole)
    assert again.warning == whole.warning


def test_single_precision(tmp_path):
    problem = make_problem(dtype="float32")
    whole = NEXT().run(problem, Network(RING), max_iter=20)
    with pytest.raises(Stop):
        NEXT().run(problem, Network(RING), max_iter=20, callbacks=[Checkpoint(tmp_path, every=5), killed_at(14)])
    assert_same(NEXT().run(problem, Network(RING), max_iter=20, resume=checkpoint.read(tmp_path, InProcess(6))), whole)


def test_another_number_of_ranks_may_go_on(tmp_path, lockstep):
    whole = NEXT().run(make_problem(), Network(RING), max_iter=30)

    def until_killed(runtime):
        callbacks = [Checkpoint(tmp_path, every=8), killed_at(20)]
        with pytest.raises(Stop):
            NEXT().run(make_problem(runtime), Network(RING, runtime=runtime), max_iter=30, callbacks=callbacks)

    def go_on(runtime):
        saved = checkpoint.read(tmp_path, runtime)
        return NEXT().run(make_problem(runtime), Network(RING, runtime=runtime), max_iter=30, resume=saved)

    lockstep(6, 3, until_killed)
    assert len(list(tmp_path.glob("*.npz"))) == 6
    for n_ranks in (2, 4):
        parts = lockstep(6, n_ranks, go_on)
        np.testing.assert_array_equal(np.concatenate([part.w for part in parts]), whole.w)
    assert_same(go_on(InProcess(6)), whole)


def test_the_end_of_a_run_is_written_and_can_be_lengthened(tmp_path):
    problem, network = make_problem(), Network(RING)
    NEXT().run(problem, network, max_iter=15, callbacks=[Checkpoint(tmp_path, every=100)])
    longer = NEXT().run(problem, network, max_iter=30, resume=checkpoint.read(tmp_path, problem.runtime))
    assert_same(longer, NEXT().run(problem, network, max_iter=30))


def test_two_checkpoints_are_kept_and_a_new_run_comes_after_an_old_one(tmp_path):
    problem, network = make_problem(), Network(RING)
    for _ in range(2):
        NEXT().run(problem, network, max_iter=20, callbacks=[Checkpoint(tmp_path / "deep" / "run", every=4)])
    names = sorted(path.name for path in (tmp_path / "deep" / "run").iterdir())
    assert names == ["000009-agents-00000-00005.npz", "000010-agents-00000-00005.npz"]


def test_early_stopping_remembers_over_the_break(tmp_path):
    problem = make_problem()
    stop = {"patience": 12, "tol": 5e-3}
    whole = NEXT().run(problem, Network(RING), max_iter=500, callbacks=[EarlyStopping(**stop)])
    assert whole.status == "callback"
    assert whole.n_iter > 25
    kill = killed_at(whole.n_iter - 4)
    callbacks = [EarlyStopping(**stop), Checkpoint(tmp_path, every=6), kill]
    with pytest.raises(Stop):
        NEXT().run(problem, Network(RING), max_iter=500, callbacks=callbacks)
    saved = checkpoint.read(tmp_path, problem.runtime)
    assert_same(
        NEXT().run(problem, Network(RING), max_iter=500, callbacks=[EarlyStopping(**stop)], resume=saved), whole
    )


def make_callbacks():
    """Two of one class, and one that comes after the checkpoint in the list."""
    return [
        EarlyStopping("stationarity", patience=1000), EarlyStopping("objective", patience=6, tol=0.05),
        History(largest=lambda s, m: float(np.abs(s.w).max())),
    ]  # fmt: skip


@pytest.mark.parametrize("first", [True, False], ids=["checkpoint first", "checkpoint last"])
def test_resuming_is_exact_with_two_callbacks_of_one_class(tmp_path, first):
    problem = make_problem()
    alone = make_callbacks()
    whole = NEXT().run(problem, Network(RING), max_iter=80, callbacks=alone, warn=False)
    assert whole.status == "callback"
    cut = make_callbacks()
    cut.insert(0 if first else 3, Checkpoint(tmp_path, every=7))
    NEXT().run(problem, Network(RING), max_iter=7, callbacks=cut, warn=False)
    rest = make_callbacks()
    saved = checkpoint.read(tmp_path, problem.runtime)
    assert_same(NEXT().run(problem, Network(RING), max_iter=80, callbacks=rest, resume=saved, warn=False), whole)
    assert [c.best_iteration for c in rest[:2]] == [c.best_iteration for c in alone[:2]]
    assert rest[2].rows == alone[2].rows


def test_what_a_callback_had_ended_stays_ended_unless_it_is_left_out(tmp_path):
    problem, network = make_problem(), Network(RING)
    for _ in range(3):
        watch = [EarlyStopping("objective", patience=3, tol=0.05), Checkpoint(tmp_path, every=5)]
        options = {"resume": checkpoint.read(tmp_path, problem.runtime)} if list(tmp_path.iterdir()) else {}
        result = NEXT().run(problem, network, max_iter=80, callbacks=watch, warn=False, **options)
        assert result.status == "callback"
        assert result.n_iter == result.history["iteration"][-1]
    whole = NEXT().run(problem, network, max_iter=80, callbacks=[EarlyStopping("objective", 3, 0.05)], warn=False)
    assert_same(result, whole)
    saved = checkpoint.read(tmp_path, problem.runtime)
    longer = NEXT().run(problem, network, max_iter=result.n_iter + 5, resume=saved, warn=False)
    assert longer.n_iter == result.n_iter + 5


def test_what_had_converged_stays_converged(tmp_path):
    problem, network, options = make_problem(), Network(RING), {"max_iter": 500, "tol": 1e-3, "warn": False}
    whole = NEXT().run(problem, network, callbacks=[Checkpoint(tmp_path, every=1000)], **options)
    assert whole.status == "converged"
    assert_same(NEXT().run(problem, network, resume=checkpoint.read(tmp_path, problem.runtime), **options), whole)


def test_the_centralised_method_is_resumed(tmp_path):
    problem, network, method = make_problem(), Network(RING), CentralizedSCA()
    whole = method.run(problem, network, max_iter=20, warn=False)
    method.run(problem, network, max_iter=9, callbacks=[Checkpoint(tmp_path, every=4)], warn=False)
    written = partial(checkpoint.read, tmp_path)  # of the runtime
    assert_same(method.run(problem, network, max_iter=20, resume=written, warn=False), whole)
