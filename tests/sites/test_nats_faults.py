"""Sites over a relay on the loopback interface: the bits of one process, whatever graph, and whatever fails."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nats")
pytest.importorskip("cryptography")

from cut import Cuttable
from hub import Hub
from site_job import GRAPHS, train

from dnnext.runtime import InProcess, Runtime
from dnnext.sites.over_sites import OverSites, run_sites

QUICK = {"late": 0.5, "away": 5.0, "timeout": 60.0}
EIGHT = tuple(f"site-{letter}" for letter in "abcdefgh")


def links(hub, run, n=4):
    """The links of all sites, opened together."""
    made = {}
    threads = [threading.Thread(target=lambda r=r: made.update({r: hub.link(r, run)}), daemon=True) for r in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [made[r] for r in range(n)]


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    hub = Hub(tmp_path_factory.mktemp("eight"), EIGHT)
    yield hub
    hub.stop()


def test_bits_are_those_of_one_process(hub):
    alone = train(InProcess(4), GRAPHS["ring"](4), np.float64, max_iter=6)

    def program(comm):
        runtime = Runtime(4, comm)
        return train(runtime, GRAPHS["ring"](4), np.float64, max_iter=6)

    for rank, result in enumerate(run_sites(links(hub, "bits"), program, **QUICK)):
        np.testing.assert_array_equal(result.w, alone.w[[rank]])
        np.testing.assert_array_equal(result.w_bar, alone.w_bar)


@pytest.mark.parametrize(
    ("graph", "n_agents", "dtype"), [("star", 8, np.float64), ("schedule", 8, np.float32), ("ring", 11, np.float32)]
)
def test_eight_sites_have_the_bits_of_one_process(eight, graph, n_agents, dtype):
    alone = train(InProcess(n_agents), GRAPHS[graph](n_agents), dtype)

    def program(comm):
        runtime = Runtime(n_agents, comm)
        return runtime.agents, train(runtime, GRAPHS[graph](n_agents), dtype)

    results = run_sites(links(eight, f"{graph}-{n_agents}", 8), program, **QUICK)
    assert sorted(agent for agents, _ in results for agent in agents) == list(range(n_agents))
    for agents, result in results:
        np.testing.assert_array_equal(result.w, alone.w[list(agents)])


def on_sites(hub, run, program, ranks=(0, 1, 2, 3), **options):
    """program(runtime) on these sites, each in a thread; the others are elsewhere."""
    results = {}

    def work(rank):
        with Runtime(4, OverSites(hub.link(rank, run), **{**QUICK, **options})) as runtime:
            results[rank] = program(runtime)

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    return threads, results


def train_12(runtime, callbacks=None):
    callbacks = callbacks or [lambda state, metrics: None]  # as many as the others have
    return train(runtime, GRAPHS["ring"](4), np.float64, max_iter=12, callbacks=callbacks)


@pytest.fixture(scope="module")
def alone():
    return train_12(InProcess(4))


def start_site(hub, rank, run, last, path):
    options = {name: str(value) if isinstance(value, Path) else value for name, value in hub.options(rank, run).items()}
    command = [sys.executable, str(Path(__file__).with_name("one_site.py")), json.dumps(options), str(last), str(path)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_site_that_is_killed_and_started_again_goes_on_with_the_same_bits(hub, alone, tmp_path):
    threads, results = on_sites(hub, "killed", train_12, (0, 1, 3))
    first = start_site(hub, 2, "killed", 4, tmp_path / "w.npy")
    output, _ = first.communicate(timeout=60)
    assert first.returncode == -9, output.decode()
    second = start_site(hub, 2, "killed", 0, tmp_path / "w.npy")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output.decode()
    for thread in threads:
        thread.join(60)
    np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), alone.w[[2]])
    for rank, result in results.items():
        np.testing.assert_array_equal(result.w, alone.w[[rank]])
    assert sorted(results) == [0, 1, 3]


def test_the_relay_is_killed_and_comes_back_and_one_site_starts_late(hub, alone):
    def program(runtime):
        def stop(state, metrics):
            if runtime.rank == 0 and state.t == 5:
                hub.stop()
                threading.Timer(0.5, hub.start).start()

        return train_12(runtime, [stop])

    threads, results = on_sites(hub, "relay", program, (0, 1, 2))
    time.sleep(1.0)
    late, more = on_sites(hub, "relay", program, (3,))
    for thread in [*threads, *late]:
        thread.join(60)
    results |= more
    assert sorted(results) == [0, 1, 2, 3]
    for rank, result in results.items():
        np.testing.assert_array_equal(result.w, alone.w[[rank]])


def test_a_site_that_is_cut_off_for_three_seconds_goes_on_with_the_same_bits(hub, alone):
    way, results, cuts = Cuttable(hub.port), {}, []

    def cut(state, metrics):
        if state.t == 5:
            cuts.append(time.monotonic())
            way.cut(3.0)

    def work(rank):
        link = hub.link(rank, "cut", **({"relay": f"tls://127.0.0.1:{way.listens}"} if rank == 2 else {}))
        with Runtime(4, OverSites(link, **QUICK)) as runtime:
            results[rank] = train_12(runtime, [cut] if rank == 2 else None)
            if rank == 2:
                cuts.append(time.monotonic())

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    way.stop()
    assert sorted(results) == [0, 1, 2, 3]
    assert cuts[1] - cuts[0] > 3  # the run waited for it
    for rank, result in results.items():
        np.testing.assert_array_equal(result.w, alone.w[[rank]])
