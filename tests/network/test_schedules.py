"""Schedules round by round: what is active, what is averaged, what is refused."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from dnnext.network import Schedule, Topology

RING = Topology.ring(8)
HALVES = [
    Topology([[0, 1, 0], [1, 0, 0], [0, 0, 0]], name="left"),
    Topology([[0, 0, 0], [0, 0, 1], [0, 1, 0]], name="right"),
]


def dense(schedule, k):
    return schedule(k).mixing.toarray()


def test_failed_links_get_metropolis_weights_of_what_is_left():
    net = Topology.erdos_renyi(12, random_state=0)
    schedule = Schedule.link_failures(net, 0.5, random_state=3)
    for k in range(20):
        alive = schedule(k)
        assert not (alive.adjacency.toarray() & ~net.adjacency.toarray()).any()
        np.testing.assert_array_equal(alive.mixing.toarray(), Topology(alive.adjacency).mixing.toarray())


def test_links_fail_as_often_as_asked():
    net = Topology.complete(20)
    schedule = Schedule.link_failures(net, 0.3, random_state=0)
    share = np.mean([schedule(k).n_edges for k in range(50)]) / net.n_edges
    assert abs(share - 0.7) < 0.02
    assert Schedule.link_failures(net, 0.0, random_state=0)(4).n_edges == net.n_edges


def test_an_isolated_agent_keeps_its_value():
    schedule = Schedule.link_failures(RING, 0.8, random_state=0)
    alone = [(k, i) for k in range(10) for i in np.flatnonzero(schedule(k).degree == 0)]
    assert alone
    for k, i in alone:
        np.testing.assert_array_equal(dense(schedule, k)[i], np.eye(8)[i])


@pytest.mark.parametrize(
    "net", [RING, Topology.star(7), Topology.complete(9), Topology.erdos_renyi(30, random_state=1)]
)
def test_gossip_is_a_maximal_matching(net):
    schedule = Schedule.gossip(net, random_state=0)
    for k in range(10):
        now = schedule(k)
        assert now.degree.max() == 1
        assert not (now.adjacency.toarray() & ~net.adjacency.toarray()).any()
        free = now.degree == 0
        assert not net.adjacency.toarray()[np.ix_(free, free)].any()
        assert set(now.mixing.data.tolist()) <= {0.5, 1.0}


def test_gossip_takes_edges_in_a_random_order():
    """The bulk matching equals the greedy one over edges sorted by their turn."""
    schedule = Schedule.gossip(Topology.complete(10), random_state=5)
    rule = schedule._rule
    for k in range(5):
        turn = rule.rng(k).permutation(45)
        busy, chosen = set(), np.zeros(45, dtype=bool)
        for edge in np.argsort(turn):
            ends = {int(rule.low[edge]), int(rule.high[edge])}
            if not ends & busy:
                chosen[edge] = True
                busy |= ends
        np.testing.assert_array_equal(rule._matching(k), chosen)


@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_one_peer_averages_exactly_for_a_power_of_two(n):
    schedule = Schedule.one_peer_exponential(n)
    product = np.eye(n)
    for k in range(n.bit_length() - 1):
        matrix = dense(schedule, k)
        np.testing.assert_array_equal(matrix, matrix.T)
        assert (schedule(k).degree == 1).all()
        product = matrix @ product
    np.testing.assert_array_equal(product, np.full((n, n), 1 / n))


@pytest.mark.parametrize("n", [3, 5, 12])
def test_one_peer_otherwise_goes_one_way(n):
    schedule = Schedule.one_peer_exponential(n)
    assert schedule.window == schedule.period == (n - 1).bit_length()
    for k in range(2 * schedule.period):
        hop = 1 << (k % schedule.period)
        expected = 0.5 * np.eye(n) + 0.5 * np.roll(np.eye(n), -hop % n, axis=1)
        np.testing.assert_array_equal(dense(schedule, k), expected)
        assert dense(schedule, k)[hop % n, 0] == 0.5  # agent 0 sends to agent hop
        assert schedule(k).n_messages == n


def test_alternating_parts_are_disjoint_and_complete():
    net = Topology.erdos_renyi(15, random_state=0)
    schedule = Schedule.alternating(net, 3)
    parts = [schedule(k).adjacency.toarray().astype(int) for k in range(3)]
    np.testing.assert_array_equal(sum(parts), net.adjacency.toarray().astype(int))
    np.testing.assert_array_equal(dense(schedule, 4), dense(schedule, 1))
    sizes = [part.sum() // 2 for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_topologies_take_turns():
    schedule = Schedule(HALVES)
    assert (schedule.window, schedule.period, schedule.n_agents, schedule.name) == (2, 2, 3, "cycle")
    assert schedule(5).n_edges == 1
    np.testing.assert_array_equal(dense(schedule, 4), HALVES[0].mixing.toarray())
    np.testing.assert_array_equal(dense(schedule, 7), HALVES[1].mixing.toarray())
    assert schedule.union.n_edges == 2


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.coo_array, lambda m: Topology.from_mixing(m)])
def test_a_callable_may_return_any_matrix(form):
    matrices = [net.mixing.toarray() for net in HALVES]
    schedule = Schedule(lambda k: form(matrices[k % 2]))
    np.testing.assert_array_equal(dense(schedule, 3), matrices[1])
    assert (schedule.window, schedule.period, schedule.is_open) == (2, None, True)
    assert schedule.union.n_edges == 3


def test_a_callable_on_a_known_graph():
    matrices = [net.mixing for net in HALVES]
    schedule = Schedule(lambda k: matrices[k % 2], union=Topology.path(3), window=4)
    assert (schedule.window, schedule.is_open, schedule.union.name) == (4, False, "path")
    outside = Schedule(lambda k: matrices[k % 2] if k < 5 else np.full((3, 3), 1 / 3), union=Topology.path(3))
    with pytest.raises(ValueError, match=r"the matrix of round 5 must fit the graph, got a weight at \(0, 2\)"):
        outside(5)


@pytest.mark.parametrize(
    ("late", "sentence"),
    [
        (np.eye(3) * 0.9, "the matrix of round 7 must be doubly stochastic .* got 0.9 for row 0"),
        ([[0.5, 0.5, 0], [0.5, 0, 0.5], [0.5, 0, 0.5]], "round 7 must be doubly stochastic .* for column 0"),
        ([[1.5, -0.5, 0], [-0.5, 1.5, 0], [0, 0, 1]], "round 7 must hold no negative number"),
        (np.full((3, 3), np.nan), "round 7 must hold finite numbers"),
        (np.eye(2), "round 7 must have one row per agent, got 2 rows for 3 agents"),
        (np.ones((3, 2)), r"round 7 must be a square matrix .* got shape \(3, 2\)"),
        (None, "round 7 must be a square matrix"),
        ("late", "round 7 must be a square matrix of numbers, got str"),
    ],
)
def test_a_callable_is_checked_in_each_round(late, sentence):
    schedule = Schedule(lambda k: late if k == 7 else np.full((3, 3), 1 / 3))
    assert schedule(6).n_edges == 3
    with pytest.raises(ValueError, match=sentence):
        schedule(7)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Schedule([HALVES[0], HALVES[0]]), "cycle must connect all 3 agents jointly, got 2 separate parts"),
        (lambda: Schedule(HALVES, window=1), "got 2 separate parts in the union of rounds 0 to 0"),
        (lambda: Schedule(lambda k: np.eye(4)), "callable must connect all 4 agents jointly, got 4 separate parts"),
        (lambda: Schedule([]), "must have at least one topology, got an empty list"),
        (lambda: Schedule([RING, "ring"]), "must be a list of Topology, got str at 1"),
        (lambda: Schedule([RING, Topology.ring(4)]), "same number of agents, got 8 at 0 and 4 at 1"),
        (lambda: Schedule("gossip"), "must be a list of Topology or a function .* got str"),
        (lambda: Schedule(RING), "must be a list of Topology or a function .* got Topology"),
        (lambda: Schedule(HALVES, union=Topology.path(3)), "union must be None for a list"),
        (lambda: Schedule(lambda k: np.eye(1), union="path"), "union must be a Topology or None, got str"),
        (lambda: Schedule(HALVES, window=0), "window must be a whole number of at least 1"),
        (lambda: Schedule.link_failures(RING, 1.0), r"p must be a number between 0 and 1 \(not included\), got 1.0"),
        (lambda: Schedule.link_failures(RING, -0.1), "p must be a number between 0 and 1"),
        (lambda: Schedule.link_failures("ring", 0.1), "topology must be a Topology, got str"),
        (lambda: Schedule.link_failures(HALVES[0], 0.1), "topology must be connected, got left with 3 agents in 2"),
        (lambda: Schedule.link_failures(RING, 1 - 1e-9, random_state=0), "lower the failure probability"),
        (lambda: Schedule.gossip(HALVES[0]), "topology must be connected"),
        (lambda: Schedule.gossip(RING, "seed"), "random_state must be None"),
        (lambda: Schedule.alternating(RING, 9), "n_parts must be at most the number of edges, got 9 parts of 8 edges"),
        (lambda: Schedule.alternating(HALVES[0], 1), "must connect all 3 agents jointly"),
        (lambda: Schedule.one_peer_exponential(0), "n_agents must be a whole number of at least 1"),
        (lambda: Schedule.gossip(RING)(-1), "k must be a whole number of at least 0"),
    ],
)  # fmt: skip
def test_bad_schedules_are_sentences(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_weights_of_the_base_graph_do_not_matter_when_links_fail():
    swap = Topology([[0, 1], [1, 0]], weights=[[0, 1], [1, 0]])
    assert Schedule.link_failures(swap, 0.1, random_state=0)(0).n_agents == 2


def test_fingerprints_tell_schedules_apart():
    hashes = {
        Schedule.link_failures(RING, 0.3, random_state=0).hash,
        Schedule.link_failures(RING, 0.3, random_state=1).hash,
        Schedule.link_failures(RING, 0.4, random_state=0).hash,
        Schedule.link_failures(Topology.star(8), 0.3, random_state=0).hash,
        Schedule.gossip(RING, random_state=0).hash,
        Schedule.alternating(RING, 2).hash,
        Schedule.alternating(RING, 3).hash,
        Schedule.one_peer_exponential(8).hash,
        Schedule(lambda k: RING).hash,
    }
    assert len(hashes) == 9


def test_built_in_schedules_travel():
    schedule = Schedule.link_failures(RING, 0.3, random_state=0)
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        np.testing.assert_array_equal(dense(other, 11), dense(schedule, 11))
        assert other.hash == schedule.hash
    assert "link_failures(p=0.3): 8 agents, jointly connected in" in repr(schedule)


def test_the_window_is_the_first_round_that_joins_everyone():
    schedule = Schedule.link_failures(Topology.path(9), 0.7, random_state=1)
    met = sum(schedule(k).adjacency.astype(int) for k in range(schedule.window))
    assert Topology(met).is_connected
    before = sum((schedule(k).adjacency.astype(int) for k in range(schedule.window - 1)), sp.csr_array((9, 9)))
    assert not Topology(before).is_connected
