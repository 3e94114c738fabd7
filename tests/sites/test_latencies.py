"""How many collective calls a fit takes, each of which is one latency between sites."""

import threading
from collections import Counter

import numpy as np
import pytest
from site_job import GRAPHS, train
from sklearn.datasets import make_classification

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.runtime import Runtime, communicator, engines, threads
from dnnext.sites.links import memory_links
from dnnext.sites.over_sites import run_sites

X, Y = make_classification(80, 6, n_informative=4, n_classes=3, random_state=0)
OWNER = np.repeat(np.arange(4), 20)


@pytest.fixture
def on_sites(monkeypatch):
    """fit(make, target, **options): estimators fitted on four sites of this process, and the calls of the first."""
    comms = {}
    engine = engines.Engine(lambda **_: comms[threading.get_ident()], (), True)
    monkeypatch.setitem(engines.ENGINES, "memory", engine)

    def fit(make, target, **options):
        layers = options.pop("hidden_layer_sizes", (4,))

        def program(comm):
            comms[threading.get_ident()] = comm
            mine = comm.rank == OWNER
            made = make(layers, topology="ring", engine="memory", random_state=0, tol=0.0, **options)
            made.fit_local(X[mine], target[mine])
            return made, dict(comm.tally.calls)

        return run_sites(memory_links(4), program, timeout=60.0)

    return fit


def bookkeeping(calls):
    return sum(calls.values()) - calls["exchange"]


@pytest.mark.filterwarnings("ignore:.*still falling")
def test_few_calls_before_the_first_round_and_one_per_iteration(on_sites):
    rounds = 2  # of Chebyshev on a ring of four
    for make, target, most in ((DecentralizedMLPClassifier, Y, 7), (DecentralizedMLPRegressor, X[:, 0], 6)):
        short, long, often = (
            on_sites(make, target, max_iter=n, monitor_every=every)[0][1] for n, every in ((2, 100), (7, 100), (7, 1))
        )
        assert set(short) <= {"texts", "allgather", "exchange"}
        assert long["exchange"] - short["exchange"] == 5 * rounds
        assert bookkeeping(long) - bookkeeping(short) == 5  # one vote per iteration
        assert bookkeeping(often) == bookkeeping(long)  # none more where it is measured
        # the end: a vote for each of two iterations, one measure, the mean of the weights
        assert bookkeeping(short) - 4 == most


@pytest.mark.parametrize("engine", ["sites", "ranks"])
def test_one_call_per_iteration_whatever_is_measured_and_asked(engine):
    class MayEnd:
        only_looks = True

        def __call__(self, state, metrics):
            return False

    def calls(n, comm):
        before = Counter(comm.tally.calls)
        train(Runtime(4, comm), GRAPHS["ring"](4), np.float64, max_iter=n, monitor_every=1, callbacks=[MayEnd()])
        return Counter(comm.tally.calls) - before

    def program(comm):
        few, many = calls(5, comm), calls(15, comm)
        return many["exchange"] - few["exchange"], bookkeeping(many) - bookkeeping(few)

    found = run_sites(memory_links(4), program) if engine == "sites" else threads.run(4, program)
    assert found == [(2 * 10, 10)] * 4


@pytest.mark.filterwarnings("ignore:.*still falling")
@pytest.mark.parametrize(("make", "target"), [(DecentralizedMLPClassifier, Y), (DecentralizedMLPRegressor, X[:, 0])])
def test_large_models_take_few_calls_before_the_first_round_too(on_sites, make, target):
    calls = on_sites(make, target, hidden_layer_sizes=(150,), max_iter=2, monitor_every=100)[0][1]
    assert bookkeeping(calls) - 4 <= 8


@pytest.mark.filterwarnings("ignore:.*still falling")
def test_the_model_is_that_of_one_process(on_sites):
    own = {"algorithm": NEXT()}  # what fit_local does unless more may be sent
    alone = DecentralizedMLPClassifier((4,), topology="ring", random_state=0, tol=0.0, max_iter=4, **own)
    alone.fit_agents([(X[i == OWNER], Y[i == OWNER]) for i in range(4)])
    for made, _ in on_sites(DecentralizedMLPClassifier, Y, max_iter=4):
        for here, there in zip(made.coefs_ + made.intercepts_, alone.coefs_ + alone.intercepts_, strict=True):
            np.testing.assert_array_equal(here, there)
        np.testing.assert_array_equal(made.history_["objective"], alone.history_["objective"])


@pytest.mark.filterwarnings("ignore:.*still falling")
def test_an_error_at_one_site_is_raised_at_all(on_sites, monkeypatch):
    monkeypatch.setitem(globals(), "X", np.where(np.arange(80)[:, None] == 70, np.nan, X))
    with pytest.raises(ValueError, match=r"rank 3: .*NaN"):
        on_sites(DecentralizedMLPClassifier, Y, max_iter=4)


def test_small_arrays_ride_with_checks():
    def program(comm):
        before = sum(comm.tally.calls.values())
        with comm.gathering():
            comm.agree_on({"a": 1})
            with comm.together():
                pass
            get = comm.later(f"text {comm.rank}")
            every = np.empty((comm.size, 2))
            comm.allgather(np.full(2, float(comm.rank)), every)
            large = np.zeros((comm.size, communicator.SMALL))
            comm.agree_on({"b": 2})
            comm.allgather(np.full(communicator.SMALL, 1.0), large)
        return sum(comm.tally.calls.values()) - before, get(), every[:, 0].tolist(), large.sum()

    for calls, texts, every, total in run_sites(memory_links(3), program, timeout=30.0):
        assert calls == 3  # the first checks with the small array, the second, the large array
        assert texts == ["text 0", "text 1", "text 2"]
        assert every == [0.0, 1.0, 2.0]
        assert total == 3 * communicator.SMALL


def test_no_message_shows_a_whole_array():
    def program(comm):
        with pytest.raises(ValueError, match="w must be equal on all ranks") as caught:
            comm.agree_on({"w": np.arange(400.0) + comm.rank})
        return str(caught.value)

    for sentence in run_sites(memory_links(2), program, timeout=30.0):
        assert "399" not in sentence
        assert "4.0" not in sentence
        assert len(sentence) < 300


def test_checks_that_travel_together_name_rank_and_field():
    def compare(comm):
        with comm.gathering():
            comm.agree_on({"a": 0})
            comm.agree_on({"b": comm.rank})
            comm.agree_on({"c": comm.rank})

    def fail(comm):
        with comm.gathering():
            with comm.together():
                if comm.rank == 1:
                    raise OSError("no file")
            comm.agree_on({"a": 0})
            comm.exchange([(1 - comm.rank, np.zeros(1))], [(1 - comm.rank, np.zeros(1))])

    def program(comm):
        with pytest.raises(ValueError, match="b must be equal on all ranks, got 1 on rank 1 and 0 on rank 0"):
            compare(comm)
        with pytest.raises(OSError, match="rank 1: no file"):
            fail(comm)
        assert comm.texts("x") == ["x", "x"]

    run_sites(memory_links(2), program, timeout=30.0)
