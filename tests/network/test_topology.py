"""Spectra in closed form, weights, and what a Topology says about itself."""

import copy
import math
import pickle

import networkx
import numpy as np
import pytest
import scipy.sparse as sp

from dnnext.network import WEIGHTS, Topology, metropolis
from dnnext.network.spectrum import Product, chebyshev, extreme_eigenvalues, round_outward, spectral_norm

GRID = 1.1e-6  # eigenvalues are rounded outward to 1e-6


def close(net, lambda_n, lambda_2):
    assert net.lambda_2 == pytest.approx(lambda_2, abs=GRID)
    assert net.lambda_n == pytest.approx(lambda_n, abs=GRID)
    assert net.lambda_2 >= lambda_2 - 1e-9
    assert net.lambda_n <= lambda_n + 1e-9


@pytest.mark.parametrize("n", [4, 10, 25, 400])
def test_ring_spectrum(n):
    angle = 2 * np.pi * np.arange(1, n) / n
    values = (1 + 2 * np.cos(angle)) / 3
    close(Topology.ring(n), values.min(), values.max())


@pytest.mark.parametrize("n", [3, 10, 350])
def test_path_spectrum(n):
    values = (1 + 2 * np.cos(np.pi * np.arange(1, n) / n)) / 3  # I - L / 3 when every inner weight is 1/3
    close(Topology.path(n, weights="max_degree"), values.min(), values.max())
    close(Topology.path(n), values.min(), values.max())


@pytest.mark.parametrize("n", [2, 8, 64, 512])
def test_hypercube_spectrum(n):
    bits = n.bit_length() - 1
    values = 1 - 2 * np.arange(1, bits + 1) / (bits + 1)
    close(Topology.hypercube(n), values.min(), values.max())


@pytest.mark.parametrize("n", [2, 5, 30, 320])
def test_complete_spectrum(n):
    net = Topology.complete(n)
    assert (net.lambda_2, net.lambda_n, net.sigma_2, net.spectral_gap, net.mixing_rounds) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize("n", [3, 12, 310])
def test_star_spectrum(n):
    close(Topology.star(n), 0.0, 1 - 1 / n)


@pytest.mark.parametrize("name", ["erdos_renyi", "watts_strogatz", "barabasi_albert", "random_geometric"])
def test_sparse_and_dense_eigenvalues_agree(name):
    net = Topology.from_name(name, 330, random_state=0)
    values = np.linalg.eigvalsh(net.mixing.toarray())
    low, high = extreme_eigenvalues(net.mixing, 1.0)
    assert low == pytest.approx(values[0], abs=1e-9)
    assert high == pytest.approx(values[-2], abs=1e-9)


def test_large_ring_still_contracts():
    net = Topology.ring(6000)
    assert 1 - 2e-6 < net.sigma_2 < 1
    assert 1000 < net.mixing_rounds < 4000


def test_rounding_is_outward_and_leaves_neat_numbers():
    assert round_outward(0.5 + 1e-15, up=True) == 0.5
    assert round_outward(0.5 - 1e-15, up=False) == 0.5
    assert round_outward(0.12345678, up=True) == 0.123457
    assert round_outward(0.12345678, up=False) == 0.123456
    assert round_outward(-0.12345678, up=False) == -0.123457
    assert 1 - 1e-8 < round_outward(1 - 1e-8, up=True) < 1
    assert math.copysign(1, round_outward(-1e-17, up=True)) == 1


def test_metropolis_by_hand():
    net = Topology([[0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    third, quarter = 1 / 3, 1 / 4
    expected = [
        [1 - 3 * quarter, quarter, quarter, quarter],
        [quarter, 1 - quarter - third, third, 0],
        [quarter, third, 1 - quarter - third, 0],
        [quarter, 0, 0, 1 - quarter],
    ]
    np.testing.assert_allclose(net.mixing.toarray(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["ring", "path", "hypercube", "erdos_renyi", "grid"])
def test_laplacian_is_the_best_constant(name):
    net = Topology.from_name(name, 16, random_state=2, weights="laplacian")
    laplacian = networkx.laplacian_matrix(networkx.from_scipy_sparse_array(net.adjacency.astype(int))).toarray()
    top = net.degree.max()

    def sigma(eps):
        return np.linalg.norm(np.eye(16) - eps * laplacian - 1 / 16, 2)

    trials = [sigma(eps) for eps in np.linspace(1e-3, 1 / top, 400)]
    assert net.sigma_2 <= min(trials) + 1e-4


def test_laplacian_of_a_star_is_not_negative():
    net = Topology.star(9, weights="laplacian")
    assert net.mixing.data.min() >= 0
    assert net.mixing.diagonal()[0] == 0
    assert net.sigma_2 < 1


def test_laplacian_of_two_parts_uses_the_smallest_positive_eigenvalue():
    parts = sp.block_diag([Topology.path(3).adjacency.astype(float)] * 2)
    net = Topology(parts, weights="laplacian")
    np.testing.assert_allclose(net.mixing.toarray()[:3, :3], Topology.path(3, weights="laplacian").mixing.toarray())


@pytest.mark.parametrize("name", ["metropolis", "max_degree", "laplacian"])
def test_lazy_is_half_way_to_the_identity(name):
    plain, lazy = (Topology.barabasi_albert(12, random_state=0, weights=w) for w in (name, f"lazy_{name}"))
    np.testing.assert_allclose(lazy.mixing.toarray(), (np.eye(12) + plain.mixing.toarray()) / 2, atol=1e-15)


def test_own_rule_and_own_matrix():
    base = Topology.ring(5)
    by_rule = Topology(base.adjacency, weights=lambda adjacency: metropolis(adjacency).toarray())
    np.testing.assert_array_equal(by_rule.mixing.toarray(), base.mixing.toarray())
    matrix = 0.5 * np.eye(5) + 0.5 * np.roll(np.eye(5), 1, axis=1)
    one_way = Topology(base.adjacency, weights=matrix)
    np.testing.assert_array_equal(one_way.mixing.toarray(), matrix)
    assert not one_way.is_symmetric
    assert one_way.sigma_2 == pytest.approx(np.linalg.norm(matrix - 0.2, 2), abs=GRID)
    assert one_way.lambda_n == -one_way.lambda_2
    left = np.linalg.norm(np.linalg.matrix_power(matrix, one_way.mixing_rounds) - 0.2, 2)
    assert left <= 0.25
    assert one_way.n_messages == 5


def test_from_mixing_reads_the_graph_off_the_matrix():
    matrix = 0.5 * np.eye(5) + 0.5 * np.roll(np.eye(5), 1, axis=1)
    net = Topology.from_mixing(sp.csr_array(matrix))
    np.testing.assert_array_equal(net.adjacency.toarray(), Topology.ring(5).adjacency.toarray())


def test_matrix_keeps_order_and_diagonal():
    messy = sp.coo_array(([0.5, 0.5, 0.25, 0.25, 0.0, 1.0], ([1, 1, 0, 0, 2, 2], [2, 1, 0, 0, 0, 2])), shape=(3, 3))
    matrix = messy.toarray()
    matrix[:2] = [[0, 1, 0], [1, 0, 0]]
    net = Topology([[0, 1, 0], [1, 0, 1], [0, 1, 0]], weights=sp.csr_matrix(matrix))
    np.testing.assert_array_equal(net.mixing.indptr, [0, 2, 4, 5])
    np.testing.assert_array_equal(net.mixing.indices, [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(net.mixing.data, [0, 1, 1, 0, 1])


RING3 = [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0.9]], "must be doubly stochastic .* got 0.9 for row 2"),
        ([[0.5, 0.5, 0], [0.5, 0, 0.5], [0.5, 0, 0.5]], "must be doubly stochastic .* got 1.5 for column 0"),
        ([[1.5, -0.5, 0], [-0.5, 1.5, 0], [0, 0, 1]], r"must hold no negative number, got -0.5 at \(0, 1\)"),
        ([[1, 0], [0, 1]], "must have one row per agent, got 2 rows for a graph of 3 agents"),
        ([[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]], "must hold finite numbers"),
        (np.ones(3), "must be a square matrix"),
        (lambda adjacency: None, "must be a square matrix"),
    ],
)
def test_bad_matrices_are_sentences(matrix, sentence):
    with pytest.raises(ValueError, match=sentence):
        Topology(RING3, weights=matrix)


def test_a_weight_outside_the_graph():
    with pytest.raises(ValueError, match=r"must fit the graph, got a weight at \(0, 2\) where there is no edge"):
        Topology.path(3, weights=np.full((3, 3), 1 / 3))


def test_rounding_of_a_users_matrix_is_forgiven():
    matrix = np.full((3, 3), 1 / 3) * (1 + 1e-9)
    np.testing.assert_array_equal(Topology(RING3, weights=matrix).mixing.toarray(), matrix)


def test_one_and_two_agents():
    one, two = Topology.ring(1), Topology.ring(2)
    np.testing.assert_array_equal(one.mixing.toarray(), [[1.0]])
    assert (one.n_edges, one.diameter, one.is_connected, one.sigma_2, one.mixing_rounds) == (0, 0, True, 0, 0)
    np.testing.assert_array_equal(two.mixing.toarray(), [[0.5, 0.5], [0.5, 0.5]])
    assert (two.n_edges, two.diameter, two.sigma_2, two.mixing_rounds) == (1, 1, 0, 1)


def test_parts_are_allowed_but_say_so():
    net = Topology(sp.block_diag([np.ones((2, 2)), np.ones((3, 3))]))
    assert not net.is_connected
    assert net.diameter == math.inf
    assert net.sigma_2 == 1
    with pytest.raises(ValueError, match="must be connected, got custom with 5 agents in 2 parts"):
        _ = net.mixing_rounds


def test_a_matrix_that_never_contracts():
    net = Topology([[0, 1], [1, 0]], weights=[[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="must contract, got sigma_2 = 1; give every agent a positive own weight"):
        _ = net.mixing_rounds


@pytest.mark.parametrize("name", ["ring", "grid", "star", "barabasi_albert"])
def test_facts_agree_with_networkx(name):
    net = Topology.from_name(name, 18, random_state=0)
    graph = networkx.from_scipy_sparse_array(net.adjacency.astype(int))
    assert net.n_edges == graph.number_of_edges()
    assert net.diameter == networkx.diameter(graph)
    assert net.n_messages == 2 * net.n_edges
    for i in range(18):
        assert net.degree[i] == graph.degree[i]
        np.testing.assert_array_equal(net.neighbours(i), sorted(graph.neighbors(i)))


def test_a_topology_is_frozen_and_travels():
    net = Topology.ring(6)
    with pytest.raises(AttributeError, match="a Topology cannot be changed, got a new name"):
        net.name = "circle"
    with pytest.raises(ValueError, match="read-only"):
        net.mixing.data[0] = 2
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.hash == net.hash
        assert other.sigma_2 == net.sigma_2
    assert repr(net) == "<Topology ring: 6 agents, 6 edges>"
    assert len({Topology.ring(6, weights=w).hash for w in WEIGHTS}) >= 3


def test_a_thousand_agents(capsys):
    for name in ("ring", "grid", "erdos_renyi", "barabasi_albert", "random_geometric"):
        net = Topology.from_name(name, 1000, random_state=0)
        assert net.sigma_2 < 1
        assert net.mixing_rounds >= 1


def test_chebyshev_rounds_are_the_fewest():
    for high, low in [(0.9, -0.3), (0.5, 0.1), (0.2, -0.9), (0.999, -0.999)]:
        rounds, contraction = chebyshev(high, low)
        assert contraction <= 0.25
        d, s = high - low, high + low
        shorter = 1 / np.cosh((len(rounds) - 1) * np.arccosh((2 - s) / d))
        assert shorter > 0.25
        assert contraction == pytest.approx(1 / np.cosh(len(rounds) * np.arccosh((2 - s) / d)), rel=1e-9)
        for c in rounds:
            assert c.scale + c.shift + c.memory == pytest.approx(1, abs=1e-14)


def test_spectral_norm_of_a_one_way_matrix():
    matrix = np.roll(np.eye(7), 1, axis=1) * 0.6 + np.roll(np.eye(7), 2, axis=1) * 0.4
    assert spectral_norm(sp.csr_array(matrix)) == pytest.approx(np.linalg.norm(matrix - 1 / 7, 2), abs=1e-12)


@pytest.mark.parametrize("name", ["ring", "star", "erdos_renyi", "path"])
def test_product_stops_at_the_same_round_as_the_norm(name):
    net = Topology.from_name(name, 14, random_state=0)
    product, dense, rounds = Product(14), np.eye(14) - 1 / 14, 0
    while not product.contracts():
        assert np.linalg.norm(dense, 2) > 0.25
        product.multiply(net.mixing)
        dense = net.mixing.toarray() @ dense
        rounds += 1
    assert np.linalg.norm(dense, 2) <= 0.25
    assert rounds >= 1


@pytest.mark.parametrize("graph", [Topology.ring(401), Topology.grid(10, 40), Topology.path(400)], ids=lambda g: g.name)
def test_clustered_eigenvalues_are_those_of_the_dense_matrix(graph):
    from dnnext.network.spectrum import _clustered_ends

    dense = np.linalg.eigvalsh(graph.mixing.toarray())
    np.testing.assert_allclose(_clustered_ends(graph.mixing, 1.0), dense[[0, -2]], rtol=0, atol=1e-12)


def test_ten_thousand_agents_need_no_dense_matrix():
    n = 10_000
    graph = Topology.ring(n)
    gap = (2 - 2 * np.cos(2 * np.pi / n)) / 3
    np.testing.assert_allclose(1 - graph.lambda_2, gap / 2, rtol=1e-4)  # an end so near 1 is put half-way inside
    assert graph.lambda_n == pytest.approx(-1 / 3, abs=2e-6)
