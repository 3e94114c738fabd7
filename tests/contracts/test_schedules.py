"""Every schedule: doubly stochastic in each round, without a state, jointly connected, contracting."""

import numpy as np
import pytest

from dnnext.network import SCHEDULES, Network, Schedule, Topology

N = 8
GRAPH = Topology.erdos_renyi(N, random_state=0)


def user_matrix(k):
    """A ring whose links turn off in a pattern of their own."""
    adjacency = Topology.ring(N).adjacency.toarray().astype(float)
    off = (3 * k) % N
    adjacency[off, (off + 1) % N] = adjacency[(off + 1) % N, off] = 0
    return Topology(adjacency).mixing


ARGUMENTS = {
    "link_failures": {"topology": GRAPH, "p": 0.5, "random_state": 3},
    "gossip": {"topology": GRAPH, "random_state": 3},
    "one_peer_exponential": {"n_agents": N},
    "alternating": {"topology": GRAPH, "n_parts": 3},
}
BUILDERS = {
    **{name: (lambda name=name: SCHEDULES[name](**ARGUMENTS[name])) for name in SCHEDULES},
    "list": lambda: Schedule([Topology.ring(N), Topology.star(N)]),
    "callable": lambda: Schedule(user_matrix),
    "one_peer_exponential, odd": lambda: Schedule.one_peer_exponential(N - 1),
    "one_peer_exponential, alone": lambda: Schedule.one_peer_exponential(1),
}


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


def test_every_round_is_doubly_stochastic_and_inside_the_union(build):
    schedule = build()
    n, union = schedule.n_agents, schedule.union.adjacency.toarray() | np.eye(schedule.n_agents, dtype=bool)
    for k in range(40):
        mixing = schedule(k).mixing.toarray()
        np.testing.assert_allclose(mixing.sum(axis=0), 1, rtol=0, atol=1e-14)
        np.testing.assert_allclose(mixing.sum(axis=1), 1, rtol=0, atol=1e-14)
        assert mixing.min() >= 0
        assert mixing.shape == (n, n)
        assert not mixing[~union].any()
        np.testing.assert_array_equal(schedule.mixing(k).toarray(), mixing)


def test_rounds_have_no_state(build):
    schedule, other = build(), build()
    rounds = [schedule(k).mixing.toarray() for k in range(12)]
    for k in (11, 3, 7, 0, 3):
        np.testing.assert_array_equal(schedule(k).mixing.toarray(), rounds[k])
        np.testing.assert_array_equal(other(k).mixing.toarray(), rounds[k])
    assert schedule.hash == other.hash
    if schedule.period is not None:
        for k in range(12):
            np.testing.assert_array_equal(rounds[k], rounds[k % schedule.period])


def test_the_window_joins_all_agents(build):
    schedule = build()
    met = sum(schedule(k).adjacency.astype(int) for k in range(schedule.window))
    assert Topology(met).is_connected


def test_one_call_of_mix_contracts(build):
    schedule = build()
    n = schedule.n_agents
    network = Network(schedule)
    for t in range(3):
        first = network.round
        mixed = network.mix(np.eye(n), t=t).arrays[0]
        product = np.eye(n)
        for k in range(first, network.round):
            product = schedule(k).mixing.toarray() @ product
        np.testing.assert_allclose(mixed, product, rtol=0, atol=1e-14)
        assert np.linalg.norm(product - 1 / n, 2) <= 0.25 + 1e-12


def test_a_new_schedule_needs_a_line_here():
    assert set(ARGUMENTS) == set(SCHEDULES)
