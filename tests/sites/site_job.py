"""What the files for sites share: graphs, and a short run of NEXT."""

import numpy as np

from dnnext.algorithms import NEXT
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import L2, MLP, Logistic, Problem

GRAPHS = {
    "ring": lambda n: Topology.ring(n),
    "star": lambda n: Topology.star(n),
    "schedule": lambda n: Schedule.alternating(Topology.complete(n), 2),
}


def shard(agent, dtype):
    rng = np.random.default_rng([3, agent])
    x = rng.standard_normal((6 + agent % 3, 4)).astype(dtype)
    return x, (x[:, 0] > 0).astype(dtype)


def train(runtime, graph, dtype, max_iter=4, **options):
    shards = [shard(i, dtype) for i in runtime.agents]
    problem = Problem(MLP([4, 3, 1]), Logistic(), L2(0.01), shards, runtime=runtime, dtype=dtype)
    network = Network(graph, runtime=runtime)
    return NEXT().run(problem, network, random_state=0, max_iter=max_iter, tol=0, **options)
