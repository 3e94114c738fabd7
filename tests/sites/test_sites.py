"""Sites in one process over links that lose, copy and reorder: the same bits, faults named, nobody left waiting."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from site_job import GRAPHS, train

from dnnext.network import Topology
from dnnext.runtime import AgentsLost, InProcess, RanksLost, Runtime, WrongMessage
from dnnext.sites import check_engine
from dnnext.sites.links import MemoryLink, memory_links
from dnnext.sites.over_sites import OverSites, run_sites
from dnnext.sites.wire import ENDED, Head, pack_head

QUICK = {"late": 0.05, "away": 0.3, "timeout": 30.0}


@pytest.mark.parametrize(
    ("n_agents", "n_sites", "graph", "dtype", "faults"),
    [
        (2, 2, "ring", np.float64, {}),
        (4, 4, "schedule", np.float64, {}),
        (4, 4, "ring", np.float64, {"seed": 1, "lost": 0.1, "copied": 0.1, "held": 0.1}),
        (5, 2, "star", np.float32, {"seed": 2, "copied": 0.3}),
        (8, 8, "ring", np.float64, {}),
    ],
)
def test_bits_are_those_of_one_process(n_agents, n_sites, graph, dtype, faults):
    alone = train(InProcess(n_agents), GRAPHS[graph](n_agents), dtype)
    bounds = [0, 1, 5] if n_agents == 5 else None

    def program(comm):
        runtime = Runtime(n_agents, comm, bounds)
        return runtime.agents, train(runtime, GRAPHS[graph](n_agents), dtype)

    for agents, result in run_sites(memory_links(n_sites, **faults), program, **QUICK):
        np.testing.assert_array_equal(result.w, alone.w[agents.start : agents.stop])
        np.testing.assert_array_equal(result.w_bar, alone.w_bar)
        for name in ("objective", "stationarity", "disagreement", "tracking_error"):
            np.testing.assert_array_equal(result.history[name], alone.history[name])


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 3), st.integers(0, 1000), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.3),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
)  # fmt: skip
def test_every_message_arrives_once_and_in_order(n, seed, lost, copied, held, sizes):
    def program(comm):
        received = []
        for k, size in enumerate(sizes):
            a = np.full(size, 10.0 * k + comm.rank)
            every = np.empty((comm.size, size))
            comm.allgather(a, every)
            comm.broadcast(a, k % comm.size)  # its root does not wait
            received.append((every.copy(), a.copy()))
        return received

    links = memory_links(n, seed=seed, lost=lost, copied=copied, held=held)
    for received in run_sites(links, program, late=0.02, timeout=30.0):
        for k, (every, a) in enumerate(received):
            np.testing.assert_array_equal(every, np.repeat(10.0 * k + np.arange(n), sizes[k]).reshape(n, -1))
            np.testing.assert_array_equal(a, 10.0 * k + k % n)


def test_an_error_at_one_site_ends_all_at_once():
    ends = {}

    def program(comm):
        begin = time.monotonic()
        try:
            with Runtime(3, comm) as runtime:
                if comm.rank == 1:
                    raise ValueError("the disk is full")
                runtime.max_agents(np.ones(1))
        except (AgentsLost, ValueError) as error:
            ends[comm.rank] = f"{type(error).__name__}: {error}", time.monotonic() - begin
            raise

    with pytest.raises((AgentsLost, ValueError)):
        run_sites(memory_links(3), program, timeout=60.0)
    assert ends[1][0] == "ValueError: the disk is full"
    for rank in (0, 2):
        assert ends[rank][0] == "AgentsLost: agent 1 (rank 1) ended the run: ValueError: the disk is full"
        assert ends[rank][1] < 20


def test_a_silent_site_is_late_away_and_lost():
    notices = {r: [] for r in range(3)}
    go_on = threading.Event()

    def program(comm):
        if comm.rank == 2:
            comm._delivery.link.is_cut = True
            go_on.wait(20)
            return None
        with pytest.raises(RanksLost) as caught:
            comm.allgather(np.ones(1), np.ones((3, 1)))
        return caught.value

    def notice(rank):
        return lambda *what: notices[rank].append(what)

    results = {}

    def work(link):
        comm = OverSites(link, late=0.05, away=0.2, timeout=0.6, notice=notice(link.rank))
        results[link.rank] = program(comm)
        if link.rank == 2:
            comm.close()
        elif len([r for r in results if r != 2]) == 2:
            go_on.set()

    threads = [threading.Thread(target=work, args=(link,)) for link in memory_links(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [results[r].ranks for r in (0, 1)] == [(2,), (2,)]
    assert str(results[0]) == "rank 2 gave no sign of life for 0.6 s"
    about = [(state, sentence) for site, state, sentence in notices[0] if site == "site-2"]
    assert [state for state, _ in about] == ["late", "away", "lost"]
    assert about[1][1].startswith("waiting for site-2 since ")
    assert about[1][1].endswith(", operation 2")


def test_on_failure_stop_ends_when_a_site_is_away():
    def program(comm):
        if comm.rank == 1:
            time.sleep(0.8)
            return
        with pytest.raises(RanksLost, match=r"rank 1 gave no sign of life for 0\.2 s, and on_failure is 'stop'"):
            comm.broadcast(np.ones(1), 1)

    run_sites(memory_links(2), program, late=0.05, away=0.2, timeout=60.0, on_failure="stop")


def test_a_link_that_was_cut_is_made_good():
    def program(comm):
        link, total = comm._delivery.link, 0.0
        for k in range(6):
            if k == 3 and comm.rank == 0:
                link.is_cut = True
                threading.Timer(0.3, setattr, (link, "is_cut", False)).start()
            a = np.array([float(k)])
            comm.allreduce(a)
            total += a[0]
        return total

    assert run_sites(memory_links(3), program, **QUICK) == [45.0] * 3


def test_the_others_go_on_without_a_lost_site():
    graph = Topology.complete(4)
    gone = threading.Event()

    def program(comm):
        runtime = Runtime(4, comm)

        def leave(state, metrics):
            if comm.rank == 3 and state.t == 2:
                comm._delivery.link.is_cut = True
                gone.wait(20)
                raise KeyboardInterrupt

        try:
            result = train(runtime, graph, np.float64, max_iter=6, callbacks=[leave], warn=False)
        except KeyboardInterrupt:
            return None
        if comm.rank == 0:
            gone.set()
        return result

    results = run_sites(memory_links(4), program, late=0.05, away=0.2, timeout=1.5, on_failure="shrink")
    assert results[3] is None
    for result in results[:3]:
        assert result.agents.tolist() == [0, 1, 2]
        assert result.n_iter == 6
        assert "agent 3 (rank 3) gave no sign of life" in result.warning
        np.testing.assert_array_equal(result.w_bar, results[0].w_bar)


def test_those_who_are_left_hear_of_the_next_error():
    ends = {}

    def program(comm):
        if comm.rank == 1:
            raise ValueError("first")
        with pytest.raises(RanksLost) as caught:
            comm.allgather(np.ones(1), np.ones((3, 1)))
        assert caught.value.ranks == (1,)
        rest = comm.survivors()
        rest.texts("both know who is left")
        if rest.rank == 0:
            raise ValueError("second")
        begin = time.monotonic()
        with pytest.raises(RanksLost) as caught:
            rest.allgather(np.ones(1), np.ones((2, 1)))
        ends["what"], ends["seconds"] = str(caught.value), time.monotonic() - begin

    with pytest.raises(ValueError, match=r"first|second"):
        run_sites(memory_links(3), program, late=0.05, away=5.0, timeout=20.0, on_failure="shrink")
    assert ends["what"] == "rank 0 ended the run: ValueError: second"
    assert ends["seconds"] < 15


def test_an_interruption_while_sites_are_awaited_reaches_all():
    links, ends, before = memory_links(2), [], set(threading.enumerate())

    def interrupt(introductions):
        raise KeyboardInterrupt

    links[1].meet = interrupt

    def work():
        with pytest.raises(RanksLost, match="rank 1 ended the run: KeyboardInterrupt") as caught:
            OverSites(links[0], late=0.05, timeout=20.0).broadcast(np.ones(1), 1)
        ends.append(caught.value)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        OverSites(links[1], late=0.05, timeout=20.0)
    thread.join(30)
    assert len(ends) == 1
    assert {t for t in threading.enumerate() if t.name == "site-1 receives"} <= before


def test_a_part_names_its_own_ranks():
    def program(comm):
        part = comm.split(int(comm.rank > 0))
        if comm.rank == 2:
            comm._delivery.link.send(1, "x", b"short")
            time.sleep(0.2)
        elif comm.rank == 1:
            with pytest.raises(WrongMessage, match="a message of site-2 is 5 bytes long") as caught:
                part.broadcast(np.ones(2), 1)
            assert caught.value.rank == 1

    run_sites(memory_links(3), program, late=0.05, timeout=5.0)


class SealedLink(MemoryLink):
    """Seals by one more byte."""

    def seal(self, to, head, body):
        return b"S" + body

    def unseal(self, source, head, body):
        if body[:1] != b"S":
            raise ValueError("was not sealed")
        return body[1:]


def test_an_end_that_is_not_sealed_is_refused():
    def program(comm):
        comm.texts("sealed")
        comm.texts("opened")
        if comm.rank == 1:
            comm._delivery.link.send(0, "end", pack_head(Head(ENDED, "|u1", 0, 1, 0, 1, 3)) + b"end")
            time.sleep(0.2)
            return
        with pytest.raises(WrongMessage, match="a message of site-1 was not sealed"):
            comm.broadcast(np.ones(2), 1)

    links = memory_links(2)
    run_sites([SealedLink(link._boxes, link.rank) for link in links], program, late=0.05, timeout=5.0)


def test_every_message_that_leaves_is_recorded_even_the_last():
    left = []

    def program(comm):
        comm._record = lambda **what: left.append((comm.rank, what["to"], what["what"]))
        if comm.rank == 1:
            raise ValueError("the disk is full")
        comm.broadcast(np.ones(1), 1)

    with pytest.raises((RanksLost, ValueError)):
        run_sites(memory_links(2), program, late=0.05, timeout=5.0)
    assert sorted(left) == [(0, "site-1", "end"), (1, "site-0", "end")]


def test_an_audit_that_cannot_be_written_ends_all():
    def program(comm):
        if comm.rank == 1:

            def fail(**what):
                raise OSError(28, "No space left on device")

            comm._record = fail
            with pytest.raises(OSError, match="No space left"):
                comm.broadcast(np.ones(1), 1)
            comm.end(OSError(28, "No space left on device"))
            return
        with pytest.raises(RanksLost, match="rank 1 ended the run: its audit cannot be written"):
            comm.broadcast(np.ones(1), 1)

    run_sites(memory_links(2), program, late=0.05, timeout=5.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"timeout": 0}, "timeout"), ({"on_failure": "hope"}, "on_failure .*must be"), ({"late": -1}, "late")],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        OverSites(memory_links(1)[0], **options)
    with pytest.raises(ValueError, match=sentence):
        check_engine("nats", options)
    with pytest.raises(ValueError, match="notice in engine_options must be a function, got 3"):
        check_engine("nats", {"notice": 3})


def test_a_site_that_blames_another_is_named_itself():
    """Site 2 ends and says that site 1 did so first, which is not true: site 1 is there."""

    def program(comm):
        comm.texts("here")
        if comm.rank == 2:
            comm._delivery.cause = 1, "ValueError: made up"
            comm.end(ValueError("x"))
            return None
        with pytest.raises(RanksLost) as caught:
            comm.broadcast(np.ones(1), 2)
        return caught.value

    first, second, _ = run_sites(memory_links(3), program, late=0.1, timeout=20.0)
    assert first.ranks == (2,)
    assert str(first) == "rank 2 ended the run, which says that site-1 did so first: ValueError: made up"
    assert second.ranks == (2,)


def test_a_flood_is_refused_and_its_sender_named():
    def program(comm):
        comm._delivery.most = 100_000
        comm.texts("here")
        if comm.rank == 1:
            for _ in range(50):
                comm.broadcast(np.ones(1000), 1)
            time.sleep(0.5)
            return 0
        if comm.rank == 2:
            time.sleep(0.5)
            return 0
        with pytest.raises(
            WrongMessage, match="site-1 sent 0 MB in messages that no operation here has asked for"
        ) as caught:
            comm.broadcast(np.ones(1), 2)
        held = comm._delivery.peers[1].held
        comm._delivery.most = 1 << 30
        assert caught.value.rank == 1
        return held

    assert run_sites(memory_links(3), program, late=0.05, timeout=5.0)[0] < 120_000


def test_a_long_backlog_is_read_as_it_is_asked_for():
    def program(comm):
        total = 0.0
        comm._delivery.most = 30_000
        for k in range(40):
            a = np.full(1000, float(k))
            comm.broadcast(a, 0)  # site 0 does not wait
            total += a[0]
        return total

    assert run_sites(memory_links(2), program, late=0.05, timeout=20.0) == [780.0] * 2
