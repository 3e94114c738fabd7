"""Links that fail, take turns or gossip end where a fixed graph ends: each mixing quarters the disagreement."""

from functools import cache

import numpy as np
import pytest

from bench import data
from dnnext.algorithms import NEXT
from dnnext.network import Network, Schedule, Topology

SETS = ("wine", "breast_cancer", "diabetes")
NETWORKS = {
    "fixed": lambda graph, seed: graph,
    "half of the links fail": lambda graph, seed: Schedule.link_failures(graph, 0.5, random_state=seed),
    "alternating halves": lambda graph, seed: Schedule.alternating(graph, 2),
    "gossip pairs": lambda graph, seed: Schedule.gossip(graph, random_state=seed),
}


@cache
def objectives(name, network, seed):
    """U(w_bar) along a run of 10 agents on an Erdos-Renyi graph: hidden (10,), l2 with alpha 1e-3, iid parts."""
    graph = Topology.erdos_renyi(10, random_state=seed)
    problem = data.build(data.load(name), 10, hidden=(10,), seed=seed)
    n_iter = 300 if seed == 0 else 60
    network = Network(NETWORKS[network](graph, seed))
    return NEXT().run(problem, network, max_iter=n_iter, random_state=seed).history["objective"]


@pytest.mark.parametrize("name", SETS)
def test_after_60_iterations_all_are_within_three_per_cent_of_the_fixed_graph(name):
    end = {network: np.mean([objectives(name, network, seed)[60] for seed in range(3)]) for network in NETWORKS}
    for network, u in end.items():
        assert u == pytest.approx(end["fixed"], rel=0.03), network


@pytest.mark.parametrize("name", SETS)
def test_after_300_iterations_all_are_within_one_per_cent(name):
    end = {network: objectives(name, network, 0)[300] for network in NETWORKS}
    for network, u in end.items():
        assert u == pytest.approx(end["fixed"], rel=0.01), network
