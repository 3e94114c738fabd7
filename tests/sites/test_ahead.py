"""Between sites the votes of an iteration travel while the next one is computed: the bits are those of one process."""

import numpy as np
import pytest
from site_job import GRAPHS, shard, train

from dnnext.algorithms import DGD, NEXT, GradientTracking, Newton
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Logistic, Problem, SquaredError
from dnnext.runs import checkpoint, loop
from dnnext.runs.alarm import Alarm
from dnnext.runs.callbacks import Checkpoint, History
from dnnext.runtime import BadMessage, InProcess, Runtime, threads
from dnnext.sites.links import memory_links
from dnnext.sites.over_sites import run_sites

COLUMNS = ("iteration", "round", "bytes", "objective", "stationarity", "disagreement", "tracking_error", "tau", "step")


def run_here_and_there(program, n=3, ranks=None):
    """program(runtime) in one process and at n sites, or by ranks(n, ...): the same bits; the result of one process."""
    alone = program(InProcess(n))

    def at_site(comm):
        runtime = Runtime(n, comm)
        return runtime.agents, program(runtime)

    found = ranks(n, at_site) if ranks else run_sites(memory_links(n), at_site, late=0.05, timeout=30.0)
    for agents, result in found:
        for name in ("w", "y"):
            np.testing.assert_array_equal(getattr(result, name), getattr(alone, name)[agents.start : agents.stop])
        np.testing.assert_array_equal(result.w_bar, alone.w_bar)
        assert (result.status, result.n_iter, result.warning) == (alone.status, alone.n_iter, alone.warning)
        for name in COLUMNS:
            np.testing.assert_array_equal(result.history[name], alone.history[name], err_msg=name)
        assert result.state.t == alone.state.t
    return alone


def solve(runtime, recipe, **options):
    problem = Problem(MLP([4, 3, 1]), Logistic(), L2(0.01), [shard(i, float) for i in runtime.agents], runtime=runtime)
    network = Network(GRAPHS["ring"](runtime.n_agents), runtime=runtime)
    return recipe.run(problem, network, random_state=0, warn=False, **{"max_iter": 60, **options})


@pytest.mark.parametrize("recipe", [
    NEXT(), NEXT(FullLinearization()), NEXT(PartialLinearization(curvature="exact")), Newton(), GradientTracking(),
    DGD(),
], ids=lambda recipe: type(recipe).__name__)  # fmt: skip
def test_a_run_that_converges(recipe):
    result = run_here_and_there(lambda runtime: solve(runtime, recipe, tol=0.05, n_iter_no_change=3, monitor_every=2))
    assert result.status == "converged"


@pytest.mark.parametrize("ranks", [None, threads.run], ids=["sites", "ranks"])
def test_a_callback_ends_the_run(ranks):
    class At:
        only_looks = True

        def __init__(self, runtime):
            self.is_here = runtime.agents[0] == 0

        def __call__(self, state, metrics):
            return self.is_here and state.t == 7

    result = run_here_and_there(
        lambda runtime: solve(runtime, NEXT(), callbacks=[At(runtime)], monitor_every=1), ranks=ranks
    )
    assert (result.status, result.n_iter) == ("callback", 7)


def test_ranks_agree_on_whether_callbacks_only_look():
    def program(comm):
        callback = History() if comm.rank == 0 else lambda state, metrics: None
        return solve(Runtime(3, comm), NEXT(), callbacks=[callback], max_iter=3)

    with pytest.raises(ValueError, match="whether all callbacks have only_looks = True"):
        threads.run(3, program, timeout=30.0)


@pytest.mark.parametrize("ranks", [None, threads.run], ids=["sites", "ranks"])
def test_ranks_converge_as_one_process(ranks):
    result = run_here_and_there(lambda runtime: solve(runtime, NEXT(), tol=0.05, n_iter_no_change=3), ranks=ranks)
    assert result.status == "converged"


def test_a_callback_must_not_change_the_state_between_sites():
    def write(state, metrics):
        state.w[0] = 0.0

    def replace(state, metrics):
        state.tau = 2 * state.tau

    for change, what in ((write, "writes to an array"), (replace, "replaces tau")):

        def program(comm, change=change, what=what):
            with pytest.raises(ValueError, match=f"a callback must not change the state .* Got a callback that {what}"):
                train(Runtime(3, comm), Topology.ring(3), np.float64, max_iter=20, callbacks=[change])

        run_sites(memory_links(3), program, late=0.05, timeout=30.0)


def test_callbacks_look_at_every_iteration():
    seen = {}

    def program(runtime):
        rows = seen.setdefault((runtime.is_distributed, runtime.rank), [])

        def look(state, metrics):
            rows.append((state.t, metrics["iteration"], state.w[0].tolist(), state.tau[0], state.values[0]))

        return solve(runtime, NEXT(), callbacks=[look], max_iter=9, monitor_every=2)

    run_here_and_there(program)
    assert len(seen[False, 0]) == 9
    assert seen[True, 0] == seen[False, 0]


@pytest.mark.parametrize("ranks", [None, threads.run], ids=["sites", "ranks"])
@pytest.mark.parametrize("most", [1, 3])
def test_alarms_take_all_back(most, ranks):
    recipe = GradientTracking(step=20.0 if most == 1 else 1e6)
    result = run_here_and_there(lambda runtime: solve(runtime, recipe, max_iter=25, monitor_every=1), ranks=ranks)
    assert "began to diverge" in result.warning
    assert (result.status == "diverged") == (most == 3)


def test_an_interruption(monkeypatch):
    class Asked:
        def __init__(self):
            self.reads = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        @property
        def is_asked(self):
            self.reads += 1
            return self.reads == 5

    monkeypatch.setattr(loop, "Interruption", Asked)
    result = run_here_and_there(lambda runtime: solve(runtime, NEXT(), monitor_every=10))
    assert (result.status, result.n_iter) == ("interrupted", 5)


def test_a_resumed_run(tmp_path):
    whole = solve(InProcess(3), NEXT(), max_iter=12, monitor_every=5)

    def program(comm):
        runtime = Runtime(3, comm)
        solve(runtime, NEXT(), max_iter=8, monitor_every=1, callbacks=[Checkpoint(tmp_path, every=7)])
        saved = checkpoint.read(tmp_path, runtime)
        return runtime.agents, solve(runtime, NEXT(), max_iter=12, monitor_every=5, resume=saved)

    for agents, result in run_sites(memory_links(3), program, late=0.05, timeout=30.0):
        np.testing.assert_array_equal(result.w, whole.w[agents.start : agents.stop])
        np.testing.assert_array_equal(result.w_bar, whole.w_bar)


def test_a_message_that_is_not_finite_is_refused_everywhere():
    def program(comm):
        runtime, count, states = Runtime(3, comm), [0], []
        honest = runtime.exchange

        def exchange(rows, plan):
            honest(rows, plan)
            if comm.rank == 0 and count[0] == 4:
                rows[0][plan.n_local] = np.inf
            count[0] += 1

        def keep(state, metrics):
            states[:] = [state, state.w.copy(), state.y.copy()]

        runtime.exchange = exchange
        with pytest.raises(BadMessage, match="agent 1 sent agent 0 a message that is not finite in round 4"):
            train(runtime, Topology.ring(3), np.float64, max_iter=20, callbacks=[keep])
        state, w, y = states  # those of the iteration before
        np.testing.assert_array_equal(state.w, w)
        np.testing.assert_array_equal(state.y, y)
        return count[0], state.t

    assert len(set(run_sites(memory_links(3), program, late=0.05, timeout=30.0))) == 1


def test_votes_are_read_after_the_rounds_of_the_next_iteration():
    events, rounds = [], 2

    def program(comm):
        if comm.rank == 0:
            start, exchange = comm.start_allgather, comm.exchange

            def started(*args):
                wait, number = start(*args), sum(kind == "sent" for kind, _ in events)
                events.append(("sent", number))
                return lambda: (wait(), events.append(("read", number)))

            def exchanged(out, into):
                exchange(out, into)
                events.append(("round", 0))

            comm.start_allgather, comm.exchange = started, exchanged
        train(Runtime(4, comm), GRAPHS["ring"](4), np.float64, max_iter=4, monitor_every=10)

    run_sites(memory_links(4), program, timeout=30.0)
    a_step = [("round", 0)] * rounds
    wanted = [*a_step, ("sent", 0)]
    for t in range(3):
        wanted += [*a_step, ("read", t), ("sent", t + 1)]
    assert events == [*wanted, ("read", 3)]


@pytest.mark.parametrize("recipe", [Newton(), NEXT(PartialLinearization(curvature="exact"), tau="signed")])
def test_an_alarm_at_one_site_is_that_of_one_process_where_sums_are_kept(monkeypatch, recipe):
    check = Alarm.check

    def raised_once(alarm, s):
        raised, agents = check(alarm, s), alarm.problem.runtime.agents
        if s.t == 4 and not alarm.raised and 1 in agents:
            raised[1 - agents.start] = True
        return raised

    monkeypatch.setattr(Alarm, "check", raised_once)

    def program(runtime):
        rng = np.random.default_rng(0)
        shards = [(x, x @ [1.0, 2, 3, 4]) for x in rng.standard_normal((3, 8, 4))]
        problem = Problem(MLP([4, 1]), SquaredError(), L2(0.01), [shards[i] for i in runtime.agents], runtime=runtime)
        network = Network(Topology.ring(3), runtime=runtime)
        return recipe.run(problem, network, random_state=0, warn=False, max_iter=8, monitor_every=3)

    result = run_here_and_there(program)
    assert "once, at agent 1 in iteration 4" in result.warning
