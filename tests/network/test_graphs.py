"""The built-in graphs: shapes by hand, networkx as a second opinion, connected draws."""

import networkx
import numpy as np
import pytest
import scipy.sparse as sp

from dnnext.network import Topology

NETWORKX = {
    "path": networkx.path_graph,
    "ring": networkx.cycle_graph,
    "star": lambda n: networkx.star_graph(n - 1),
    "complete": networkx.complete_graph,
}


def pattern(topology):
    return topology.adjacency.toarray()


def of(graph):
    graph = networkx.convert_node_labels_to_integers(graph, ordering="sorted")
    return networkx.to_numpy_array(graph, nodelist=range(len(graph)), weight=None) > 0


@pytest.mark.parametrize("name", NETWORKX)
@pytest.mark.parametrize("n", [3, 4, 9])
def test_simple_graphs_agree_with_networkx(name, n):
    np.testing.assert_array_equal(pattern(Topology.from_name(name, n)), of(NETWORKX[name](n)))


@pytest.mark.parametrize(("rows", "cols"), [(1, 5), (2, 2), (3, 4), (2, 5), (5, 5)])
@pytest.mark.parametrize("periodic", [False, True])
def test_grids_agree_with_networkx(rows, cols, periodic):
    expected = of(networkx.grid_2d_graph(rows, cols, periodic=periodic))
    np.fill_diagonal(expected, False)
    np.testing.assert_array_equal(pattern(Topology.grid(rows, cols, periodic=periodic)), expected)


def test_grid_of_a_number_is_the_most_square_one():
    np.testing.assert_array_equal(pattern(Topology.grid(12)), pattern(Topology.grid(3, 4)))
    np.testing.assert_array_equal(pattern(Topology.grid(7)), pattern(Topology.path(7)))
    np.testing.assert_array_equal(pattern(Topology.torus(5)), pattern(Topology.ring(5)))


def test_hypercube_agrees_with_networkx():
    expected = networkx.hypercube_graph(4)
    np.testing.assert_array_equal(pattern(Topology.hypercube(16)), of(expected))


def test_exponential_hops_are_powers_of_two():
    i, j = np.nonzero(pattern(Topology.exponential(11)))
    assert set(((j - i) % 11).tolist()) == {1, 2, 4, 8, 10, 9, 7, 3}


@pytest.mark.parametrize("name", ["erdos_renyi", "random_geometric", "watts_strogatz", "barabasi_albert"])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 60])
def test_random_graphs_are_connected_and_repeat(name, n):
    net = Topology.from_name(name, n, random_state=4)
    assert net.is_connected
    assert net.n_agents == n
    assert Topology.from_name(name, n, random_state=4).hash == net.hash
    if n == 60:
        assert Topology.from_name(name, n, random_state=5).hash != net.hash
    assert Topology.from_name(name, n, random_state=np.random.default_rng(0)).is_connected
    assert Topology.from_name(name, n).is_connected


def test_erdos_renyi_default_probability():
    counts = [Topology.erdos_renyi(40, random_state=seed).n_edges for seed in range(20)]
    p = max(0.3, 2 * np.log(40) / 40)
    assert abs(np.mean(counts) / (40 * 39 / 2) - p) < 0.02


def test_random_geometric_joins_near_points():
    net = Topology.random_geometric(50, 0.3, random_state=1)
    points = np.random.default_rng(np.random.SeedSequence(1)).random((50, 2))
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= 0.3
    np.fill_diagonal(near, False)
    np.testing.assert_array_equal(pattern(net), near)


def test_watts_strogatz_keeps_the_number_of_edges():
    lattice = Topology.watts_strogatz(20, k=4, p=0, random_state=0)
    np.testing.assert_array_equal(lattice.neighbours(0), [1, 2, 18, 19])
    for p in (0.3, 1.0):
        moved = Topology.watts_strogatz(20, k=4, p=p, random_state=0)
        assert moved.n_edges == 40
        assert (pattern(moved) != pattern(lattice)).any()


def test_barabasi_albert_has_hubs():
    net = Topology.barabasi_albert(200, m=2, random_state=0)
    assert net.n_edges == 2 + 2 * 197
    assert net.degree.min() >= 1
    assert net.degree.max() > 5 * np.median(net.degree)


def test_from_networkx_keeps_the_order_of_nodes():
    graph = networkx.Graph([("c", "a"), ("a", "b")])
    graph.add_edge("a", "a")
    net = Topology.from_networkx(graph, weights="max_degree")
    np.testing.assert_array_equal(net.degree, [1, 2, 1])
    assert net.name == "networkx"
    assert Topology.from_networkx(networkx.petersen_graph()).name == "Petersen Graph"
    multi = networkx.MultiGraph([(0, 1), (0, 1)])
    assert Topology.from_networkx(multi).n_edges == 1


def test_from_adjacency_takes_dense_and_sparse_and_ignores_the_diagonal():
    dense = np.array([[2.0, 0.5, 0], [0.5, 0, 3], [0, 3, 1]])
    for adjacency in (dense, dense.tolist(), sp.csr_matrix(dense), sp.coo_array(dense), dense > 0):
        np.testing.assert_array_equal(pattern(Topology.from_adjacency(adjacency)), pattern(Topology.path(3)))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Topology.ring(0), "n_agents must be a whole number of at least 1, got 0"),
        (lambda: Topology.grid(2, 0), "cols must be a whole number of at least 1, got 0"),
        (lambda: Topology.hypercube(6), "must be a power of two, got 6; take 4 or 8 agents"),
        (lambda: Topology.erdos_renyi(5, p=1.5), "p must be a number between 0 and 1, got 1.5"),
        (lambda: Topology.erdos_renyi(30, p=0.001, random_state=0), "connected in 100 draws; p = 0.001 is too small"),
        (lambda: Topology.random_geometric(30, 0.01, random_state=0), "radius = 0.01 is too small"),
        (lambda: Topology.random_geometric(30, -1), "radius must be a finite number above 0, got -1"),
        (lambda: Topology.watts_strogatz(10, k=3), "k must be even"),
        (lambda: Topology.barabasi_albert(10, m=0), "m must be a whole number of at least 1"),
        (lambda: Topology.from_name("rnig", 5), "topology must be one of .* Did you mean 'ring'"),
        (lambda: Topology.from_name("ring", 5, weights="metro"), "weights must be one of 'metropolis'"),
        (lambda: Topology.from_networkx(networkx.DiGraph([(0, 1)])), "graph must be undirected"),
        (lambda: Topology.from_networkx(networkx.Graph()), "graph must have at least one node"),
        (lambda: Topology.from_networkx("ring"), "graph must be a networkx graph, got str"),
        (lambda: Topology([[0, 1], [0, 0]]), "adjacency must be symmetric, got an edge from 0 to 1 and none back"),
        (lambda: Topology([[0, 1]]), r"adjacency must be a square matrix .* got shape \(1, 2\)"),
        (lambda: Topology(np.zeros((0, 0))), r"adjacency must be a square matrix .* got shape \(0, 0\)"),
        (lambda: Topology([[0, np.nan], [np.nan, 0]]), "adjacency must hold finite numbers"),
        (lambda: Topology([[0, -1], [-1, 0]]), r"adjacency must hold no negative number, got -1 at \(0, 1\)"),
        (lambda: Topology("ring"), "adjacency must be a square matrix of numbers, got str"),
        (lambda: Topology.ring(4).neighbours(4), "i must be the number of an agent, 0 to 3, got 4"),
    ],
)  # fmt: skip
def test_bad_graphs_are_sentences(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
