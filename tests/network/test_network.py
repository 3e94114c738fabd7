"""Mixing against dense algebra: rounds, what is received, disagreement, bytes, buffers, sentences."""

import numpy as np
import pytest

from dnnext.network import Network, Schedule, Topology
from dnnext.network.lanes import change_of
from dnnext.runtime import InProcess

GRAPH = Topology.erdos_renyi(10, random_state=0)


def draw(n=10, width=7, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(dtype)


def chebyshev_matrix(net, rounds):
    """T_K(M) / T_K(x) by the polynomial itself, on the eigenvectors of C."""
    values, vectors = np.linalg.eigh(net.mixing.toarray())
    d, s = net.lambda_2 - net.lambda_n, net.lambda_2 + net.lambda_n
    polynomial = np.polynomial.chebyshev.Chebyshev.basis(rounds)
    return vectors @ np.diag(polynomial((2 * values - s) / d) / polynomial((2 - s) / d)) @ vectors.T


@pytest.mark.parametrize("name", ["ring", "path", "star", "grid", "erdos_renyi", "watts_strogatz"])
@pytest.mark.parametrize("n", [6, 12, 40])
def test_chebyshev_rounds_are_the_chebyshev_polynomial(name, n):
    net = Topology.from_name(name, n, random_state=1)
    network, z = Network(net), draw(n)
    mixed = network.mix(z).arrays[0]
    np.testing.assert_allclose(mixed, chebyshev_matrix(net, network.round) @ z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ring", "path", "star", "erdos_renyi"])
def test_the_worst_disagreement_shrinks_by_exactly_one_over_a_k(name):
    """Column by column of the identity: the norm of the whole map is 1 / a_K up to the outward rounding."""
    net = Topology.from_name(name, 14, random_state=1)
    network = Network(net)
    effective = network.mix(np.eye(14)).arrays[0]
    norm = np.linalg.norm(effective - 1 / 14, 2)
    assert norm <= network.contraction <= 0.25
    assert norm >= network.contraction * (1 - 1e-3)


@pytest.mark.parametrize("name", ["ring", "star", "complete", "hypercube", "erdos_renyi"])
def test_the_mean_is_kept_and_a_constant_stays(name):
    net = Topology.from_name(name, 16, random_state=0)
    for rounds in ("auto", 1, 4):
        z = draw(16)
        mixed = Network(net, mixing_rounds=rounds).mix(z).arrays[0]
        np.testing.assert_allclose(mixed.mean(axis=0), z.mean(axis=0), rtol=0, atol=1e-14)
        same = np.full((16, 3), 1.7)
        np.testing.assert_allclose(Network(net, mixing_rounds=rounds).mix(same).arrays[0], same, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_plain_rounds_are_powers(rounds):
    network, z = Network(GRAPH, mixing_rounds=rounds), draw()
    power = np.linalg.matrix_power(GRAPH.mixing.toarray(), rounds)
    np.testing.assert_allclose(network.mix(z).arrays[0], power @ z, rtol=0, atol=1e-14)
    assert (network.rounds_per_mix, network.round) == (rounds, rounds)
    assert network.contraction == pytest.approx(GRAPH.sigma_2**rounds)


@pytest.mark.parametrize("weights", ["metropolis", "lazy_metropolis"])
@pytest.mark.parametrize("n", [2, 6])
def test_a_complete_graph_averages_in_one_round(n, weights):
    network, z = Network(Topology.complete(n, weights=weights)), draw(n)
    assert network.rounds_per_mix == 1
    np.testing.assert_allclose(network.mix(z).arrays[0], np.tile(z.mean(axis=0), (n, 1)), rtol=0, atol=1e-15)


def test_a_matrix_that_is_not_symmetric_takes_plain_rounds():
    matrix = 0.5 * np.eye(6) + 0.5 * np.roll(np.eye(6), 1, axis=1)
    network, z = Network(Topology(Topology.ring(6).adjacency, weights=matrix)), draw(6)
    mixed = network.mix(z).arrays[0]
    np.testing.assert_allclose(mixed, np.linalg.matrix_power(matrix, network.round) @ z, rtol=0, atol=1e-14)
    assert network.contraction <= 0.25


def test_one_agent_talks_to_nobody():
    z = draw(1)
    for source in (Topology.ring(1), Schedule([Topology.ring(1)]), Schedule(lambda k: np.eye(1))):
        for rounds in ("auto", 3):
            network = Network(source, mixing_rounds=rounds)
            mixed = network.mix(z, scalars=np.array([5.0]))
            np.testing.assert_array_equal(mixed.arrays[0], z)
            assert mixed.arrays[0] is not z
            assert (network.round, network.bytes, network.rounds_per_mix) == (0, 0, 0)
            np.testing.assert_array_equal(mixed.received, [0.0])
            np.testing.assert_array_equal(mixed.disagreement, [0.0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_travel_together_as_they_would_alone(dtype):
    z, y = draw(dtype=dtype), draw(width=3, seed=1, dtype=dtype)
    together = Network(GRAPH).mix(z, y, scalars=np.arange(10.0))
    assert [a.dtype for a in together.arrays] == [dtype, dtype]
    np.testing.assert_array_equal(together.arrays[0], Network(GRAPH).mix(z).arrays[0])
    np.testing.assert_array_equal(together.arrays[1], Network(GRAPH).mix(y).arrays[0])
    assert all(a.flags.c_contiguous for a in together.arrays)


def brute_received(net, scalars):
    return np.array([scalars[net.neighbours(i)].max(axis=0, initial=0) for i in range(net.n_agents)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_heard_is_the_largest_of_the_neighbours(dtype):
    scalars = np.random.default_rng(0).random(10)
    received = Network(GRAPH).mix(draw(dtype=dtype), scalars=scalars).received
    assert received.shape == (10,)
    np.testing.assert_array_equal(received, brute_received(GRAPH, scalars.astype(dtype)))
    star = Network(Topology.star(10)).mix(draw(), scalars=scalars).received
    np.testing.assert_array_equal(star, [scalars[1:].max()] + [scalars[0]] * 9)


def test_several_scalars_may_ride():
    scalars = np.random.default_rng(0).random((10, 3))
    mixed = Network(GRAPH).mix(draw(), scalars=scalars)
    np.testing.assert_array_equal(mixed.received, brute_received(GRAPH, scalars))
    np.testing.assert_array_equal(Network(GRAPH).mix(draw()).received, np.zeros(10))


def test_scalars_are_heard_as_they_are_even_below_zero():
    scalars = -1.0 - np.arange(4.0)
    np.testing.assert_array_equal(Network(Topology.path(4)).mix(draw(4), scalars=scalars).received, [-2, -1, -2, -3])


@pytest.mark.parametrize("source", ["link_failures", "gossip"])
def test_a_schedule_hears_over_all_rounds_of_the_call(source):
    schedule = Schedule.link_failures(GRAPH, 0.7, random_state=0) if source != "gossip" else Schedule.gossip(GRAPH, 0)
    scalars = np.random.default_rng(0).random(10)
    for rounds in (1, "auto"):
        network = Network(schedule, mixing_rounds=rounds)
        for _ in range(3):
            first = network.round
            received = network.mix(draw(), scalars=scalars).received
            each = [brute_received(schedule(k), scalars) for k in range(first, network.round)]
            np.testing.assert_array_equal(received, np.max(each, axis=0))


@pytest.mark.parametrize("rounds", ["auto", 1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_disagreement_is_that_of_the_first_plain_round(rounds, dtype):
    z, y = draw(dtype=dtype), draw(seed=1, dtype=dtype)
    z[4] = 0
    found = Network(GRAPH, mixing_rounds=rounds).mix(z, y).disagreement
    gap = z - GRAPH.mixing.toarray() @ z
    size = np.linalg.norm(z.astype(np.float64), axis=1)
    expected = np.where(size > 0, np.linalg.norm(gap, axis=1) / np.where(size > 0, size, 1), 0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == np.float64 else 1e-5, atol=0)


def test_disagreement_of_a_schedule():
    schedule, z = Schedule.gossip(GRAPH, random_state=0), draw()
    network = Network(schedule)
    network.round = 5
    gap = z - schedule(5).mixing.toarray() @ z
    expected = np.linalg.norm(gap, axis=1) / np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(network.mix(z).disagreement, expected, rtol=1e-12, atol=1e-16)


def test_numbers_that_are_none_show_as_infinite_disagreement():
    z = draw(6)
    z[2, 0] = np.nan
    with np.errstate(invalid="ignore"):
        found = Network(Topology.path(6), mixing_rounds=1).mix(z).disagreement
    assert np.isinf(found[1:4]).all()
    assert np.isfinite(found[[0, 4, 5]]).all()


@pytest.mark.parametrize("width", [1, 5, 100, 4097, 49152])
def test_relative_change_of_a_row_depends_on_that_row_alone(width):
    z, v = draw(6, width), draw(6, width, seed=1)

    def change(rows):
        return change_of(z[rows], v[rows], 1.0, 1)

    whole, size = change(slice(None))
    for rows in (slice(0, 1), slice(1, 4), slice(2, 6), slice(5, 6)):
        np.testing.assert_array_equal(change(rows)[0], whole[rows])
    expected = np.linalg.norm(z - v, axis=1) / np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    np.testing.assert_allclose(size, np.linalg.norm(z, axis=1), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounds_and_bytes_are_counted(dtype):
    network = Network(GRAPH)
    row = 12 * np.dtype(dtype).itemsize
    z, y = draw(dtype=dtype), draw(width=4, dtype=dtype)
    for call in range(1, 4):
        network.mix(z, y, scalars=np.ones(10))
        assert network.round == call * GRAPH.mixing_rounds
        assert network.bytes == 2 * GRAPH.n_edges * row * network.round
    network.mix(y)
    assert network.bytes == 2 * GRAPH.n_edges * (row * 3 + 4 * np.dtype(dtype).itemsize) * GRAPH.mixing_rounds


def test_bytes_of_a_schedule_count_active_edges():
    schedule = Schedule.link_failures(GRAPH, 0.5, random_state=0)
    network = Network(schedule)
    for _ in range(4):
        network.mix(draw(width=3), scalars=np.ones(10))
    assert network.bytes == sum(2 * schedule(k).n_edges for k in range(network.round)) * 4 * 8
    one_way = Network(Schedule.one_peer_exponential(5), mixing_rounds=1)
    one_way.mix(draw(5, 2))
    assert one_way.bytes == 5 * 2 * 8


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.link_failures(GRAPH, 0.5, random_state=0),
        Schedule.gossip(GRAPH, random_state=0),
        Schedule.alternating(GRAPH, 4),
        Schedule.one_peer_exponential(10),
        Schedule([Topology.path(10), Topology.star(10)]),
    ],
    ids=lambda schedule: schedule.name,
)
def test_schedules_contract_and_resume(schedule):
    network = Network(schedule)
    z, marks = draw(), [0]
    for t in range(5):
        before = z - z.mean(axis=0)
        z = network.mix(z, t=t).arrays[0]
        assert np.linalg.norm(z - z.mean(axis=0), 2) <= 0.25 * np.linalg.norm(before, 2) + 1e-15
        marks.append(network.round)
    resumed = Network(schedule)
    resumed.round = marks[3]
    again = draw(seed=4)
    network.round = marks[3]
    np.testing.assert_array_equal(resumed.mix(again).arrays[0], network.mix(again).arrays[0])
    assert resumed.round == marks[4]
    assert (network.is_static, network.rounds_per_mix, network.contraction) == (False, None, 0.25)
    assert network.topology is schedule.union


def test_plain_rounds_of_a_schedule():
    schedule, z = Schedule.gossip(GRAPH, random_state=0), draw()
    network = Network(schedule, mixing_rounds=3)
    expected = z
    for k in range(6):
        expected = schedule(k).mixing.toarray() @ expected
    for _ in range(2):
        z = network.mix(z).arrays[0]
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-14)
    assert (network.round, network.rounds_per_mix, network.contraction) == (6, 3, None)


def test_large_schedules_use_probes():
    schedule = Schedule.link_failures(Topology.erdos_renyi(250, random_state=0), 0.3, random_state=0)
    network, z = Network(schedule), draw(250)
    mixed = network.mix(z).arrays[0]
    assert np.linalg.norm(mixed - mixed.mean(axis=0)) <= 0.3 * np.linalg.norm(z - z.mean(axis=0))


def test_a_schedule_that_stops_connecting_is_named():
    schedule = Schedule(lambda k: np.full((4, 4), 0.25) if k < 3 else np.eye(4))
    network = Network(schedule)
    for t in range(3):
        network.mix(draw(4), t=t)
    with pytest.raises(ValueError, match=r"more after 400 rounds of iteration 3 .* not jointly connected often enough"):
        network.mix(draw(4), t=3)


@pytest.mark.parametrize("rounds", ["auto", 1, 2, 3])
@pytest.mark.parametrize(
    "source", [Topology.ring(10), Schedule.gossip(GRAPH, random_state=0)], ids=["static", "gossip"]
)
def test_results_stay_valid_until_the_next_but_one_call(source, rounds):
    network = Network(source, mixing_rounds=rounds)
    z, y = draw(), draw(seed=1)
    first = network.mix(z, y).arrays
    copies = [a.copy() for a in first]
    given = [z.copy(), y.copy()]
    second = network.mix(z, y).arrays
    for array, copy in zip([*first, z, y], [*copies, *given], strict=True):
        np.testing.assert_array_equal(array, copy)
    kept = [a.copy() for a in second]
    third = network.mix(*second).arrays
    for array, copy in zip(second, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not any(np.shares_memory(a, b) for a in third for b in second)


@pytest.mark.parametrize("rounds", ["auto", 1, 2])
def test_an_older_result_may_come_back_in_any_place(rounds):
    net = Topology.ring(10)
    clean = [Network(net, mixing_rounds=rounds) for _ in range(3)]
    network = Network(net, mixing_rounds=rounds)
    old = network.mix(draw(), draw(seed=1)).arrays
    network.mix(draw(seed=2), draw(seed=3))
    swapped = old[1].copy(), old[0].copy()
    mixed = network.mix(old[1], old[0]).arrays
    for array, given, other in zip(mixed, swapped, clean, strict=False):
        np.testing.assert_array_equal(array, other.mix(given).arrays[0])


def test_the_same_array_twice():
    z = draw()
    first, second = Network(GRAPH).mix(z, z).arrays
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)


def test_read_only_and_strided_input():
    wide = draw(10, 14)
    view = wide[:, ::2]
    expected = Network(GRAPH).mix(view.copy()).arrays[0]
    view.setflags(write=False)
    np.testing.assert_array_equal(Network(GRAPH).mix(view).arrays[0], expected)
    frozen = view.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(Network(GRAPH).mix(frozen).arrays[0], expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("source", [Topology.ring(40), Schedule.gossip(Topology.ring(40), 0)], ids=["static", "gossip"])
def test_threads_change_nothing(source, dtype):
    z, y = draw(40, 300, dtype=dtype), draw(40, 300, seed=1, dtype=dtype)
    one, two, three = (Network(source, mixing_rounds=4, n_threads=n).mix(z, y, scalars=z[:, 0]) for n in (1, 2, 3))
    for other in (two, three):
        for a, b in zip([*one.arrays, *one[1:3]], [*other.arrays, *other[1:3]], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_network_says_what_it_is():
    network = Network(Topology.ring(4), mixing_rounds=2)
    assert repr(network) == "<Network of <Topology ring: 4 agents, 4 edges>, mixing_rounds=2>"
    assert (network.is_static, network.schedule, network.topology.name) == (True, None, "ring")
    assert (network.n_agents, network.n_local) == (4, 4)


PARTS = Topology([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
SWAP = Topology([[0, 1], [1, 0]], weights=[[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Network("ring"), "topology must be a Topology or a Schedule, got str"),
        (lambda: Network(PARTS), "topology must be connected, got custom with 4 agents in 2 parts"),
        (lambda: Network(PARTS, mixing_rounds=2), "topology must be connected"),
        (lambda: Network(SWAP, mixing_rounds=1), "must contract, got sigma_2 = 1"),
        (lambda: Network(GRAPH, mixing_rounds=0), "'auto' or a whole number of at least 1, got 0"),
        (lambda: Network(GRAPH, mixing_rounds=1.5), "mixing_rounds must be 'auto' or a whole number"),
        (lambda: Network(GRAPH, mixing_rounds="fast"), "'auto' or a whole number of at least 1, got 'fast'"),
        (lambda: Network(GRAPH, n_threads=0), "n_threads must be a whole number of at least 1"),
        (lambda: Network(GRAPH, runtime=InProcess(9)), "got 9 agents for 10 nodes"),
        (lambda: Network(GRAPH).mix(), "mix needs at least one array"),
        (lambda: Network(GRAPH).mix(draw(9)), r"array 0 must have shape \(n_local, P\) .* got \(9, 7\)"),
        (lambda: Network(GRAPH).mix(draw(), np.ones(10)), r"array 1 must have shape"),
        (lambda: Network(GRAPH).mix(np.ones((10, 0))), r"array 0 must have shape"),
        (lambda: Network(GRAPH).mix(np.ones((10, 2), dtype=int)), "must be float64 or float32 alike, got int64"),
        (lambda: Network(GRAPH).mix(draw(), draw(dtype=np.float32)), "alike, got float64 and float32"),
        (lambda: Network(GRAPH).mix(draw(), scalars=np.ones(3)), r"scalars must have shape .* got \(3,\)"),
        (lambda: Network(GRAPH).mix(draw(), scalars=1.0), r"scalars must have shape .* got \(\)"),
    ],
)  # fmt: skip
def test_bad_networks_are_sentences(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
