"""Sums along a spanning tree: least depth, messages of neighbours only, the same bits on every split into ranks."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnext.network import Network, Schedule, Topology
from dnnext.network import tree as tree_module
from dnnext.network.tree import SpanningTree
from dnnext.runtime import InProcess


@st.composite
def graphs(draw):
    n = draw(st.integers(2, 9))
    graph = nx.random_labeled_tree(n, seed=draw(st.integers(0, 99)))
    for a, b in draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=6)):
        if a != b:
            graph.add_edge(a, b)
    return graph


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_the_tree_spans_the_graph_with_the_least_depth(graph):
    topology = Topology.from_networkx(graph)
    tree = SpanningTree(topology, InProcess(topology.n_agents), (), "")
    assert tree.radius == nx.radius(graph) == tree.depth.max()
    for agent, parent in enumerate(tree.parent):
        assert agent == parent == tree.root or graph.has_edge(agent, parent)
        assert tree.depth[agent] == tree.depth[parent] + (agent != tree.root)
    values = np.random.default_rng(0).standard_normal((topology.n_agents, 3))
    network = Network(topology)
    np.testing.assert_allclose(network.sum(values), values.sum(axis=0), rtol=1e-12, atol=1e-14)
    assert network.round == 2 * tree.radius
    assert network.bytes == 2 * (topology.n_agents - 1) * 3 * 8


@pytest.mark.parametrize("name", ["path", "ring", "star", "grid", "erdos_renyi", "watts_strogatz", "barabasi_albert"])
def test_of_many_agents_a_few_are_searched(name, monkeypatch):
    drawn = {"random_state": 1} if name not in ("path", "ring", "star", "grid") else {}
    topology = Topology.from_name(name, 400, **drawn)
    least = SpanningTree(topology, InProcess(400), (), "")
    monkeypatch.setattr(tree_module, "MOST_SEARCHED", 0)
    tree = SpanningTree(topology, InProcess(400), (), "")
    assert tree.radius == least.radius
    assert (tree.depth[tree.parent] == tree.depth - (np.arange(400) != tree.root)).all()


@pytest.mark.parametrize(
    "graph", [Topology.path(7), Topology.star(7), Topology.erdos_renyi(7, random_state=0)], ids=repr
)
def test_every_rank_has_the_bits_of_one_process(graph, lockstep):
    values = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    whole = Network(graph).sum(values)
    assert whole.dtype == np.float32

    def run(runtime):
        network = Network(graph, runtime=runtime)
        return network.sum(values[runtime.agents.start : runtime.agents.stop]), network.round, network.bytes

    for n_ranks in (2, 3, 7):
        for total, *counts in lockstep(7, n_ranks, run):
            np.testing.assert_array_equal(total, whole)
            assert counts == [2 * nx.radius(nx.Graph(graph.adjacency)), 12 * 5 * 4]


def test_what_is_not_finite_is_refused_and_named(lockstep):
    values = np.ones((4, 2))
    values[3] = np.nan

    def run(runtime):
        network = Network(Topology.path(4), runtime=runtime)
        total = network.sum(values[runtime.agents.start : runtime.agents.stop])
        return total, network.refused

    first, second = lockstep(4, 2, run)
    assert first[1].agent == 2  # who sent the sum that agent 3 spoilt
    assert np.isfinite(first[0]).all()
    assert second[1] is None


def test_a_graph_that_changes_has_no_tree():
    network = Network(Schedule.alternating(Topology.complete(4), 2))
    with pytest.raises(ValueError, match="because a sum along a tree needs that, got <Network"):
        network.sum(np.ones((4, 1)))
