"""What the files for ranks share: graphs, recipes, problems, and how a rank is held against one process."""

import numpy as np
from mpi4py import MPI

from dnnext.algorithms import DGD, NEXT, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import (
    L1,
    L2,
    MLP,
    Logistic,
    Problem,
    Softmax,
    SquaredError,
    SquaredHinge,
)  # fmt: skip

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
N_AGENTS = 9
NET = Topology.erdos_renyi(N_AGENTS, random_state=3)

GRAPHS = {
    "fixed": NET,
    "ring": Topology.ring(N_AGENTS),
    "failing": Schedule.link_failures(NET, p=0.4, random_state=0),
    "gossip": Schedule.gossip(NET, random_state=0),
    "one_peer": Schedule.one_peer_exponential(N_AGENTS),
    "turns": Schedule.alternating(NET, 3),
    "open": Schedule(lambda k: Topology.ring(N_AGENTS) if k % 2 else Topology.star(N_AGENTS)),
}
SHARED = NEXT(PartialLinearization(curvature="shared"))
ALGORITHMS = {
    "next": NEXT(),
    "full": NEXT(FullLinearization()),
    "blocks": NEXT(PartialLinearization(n_blocks=3)),
    "fista": NEXT(PartialLinearization(solver="fista"), step=0.5, mu=0.02),
    "tracking": GradientTracking(),
    "diging": GradientTracking(form="diging"),
    "dgd": DGD(),
    "shared": SHARED,
}
EXACT = NEXT(PartialLinearization(curvature="exact"))
PENALTIES = {"l1": L1(alpha=1e-2), "l2": L2(alpha=1e-2)}


def make_shard(agent, loss, width=3, uneven=False):
    rng = np.random.default_rng([7, agent])
    x = rng.standard_normal((3 if uneven and agent < 5 else 90 if uneven else 8 + agent % 4, width))
    z = np.sin(x @ np.linspace(-1, 1, width * 3).reshape(width, 3)) + 0.1 * rng.standard_normal((len(x), 3))
    if isinstance(loss, Softmax):
        return x, np.eye(3)[z.argmax(axis=1)]
    if isinstance(loss, SquaredHinge):
        return x, np.sign(z[:, :1])
    return (x, (z[:, :1] > 0) * 1.0) if isinstance(loss, Logistic) else (x, z[:, :1])


def make_problem(runtime, loss=None, penalty=None, relays=(), uneven=False, **options):
    loss = SquaredError() if loss is None else loss
    shards = [make_shard(agent, loss, uneven=uneven) for agent in runtime.agents]
    shards = [(x[:0], d[:0]) if i in relays else (x, d) for i, (x, d) in zip(runtime.agents, shards, strict=True)]
    layers = (3, 4, 3 if isinstance(loss, Softmax) else 1)
    return Problem(
        MLP(layers), loss, L2(alpha=1e-2) if penalty is None else penalty, shards, runtime=runtime, **options
    )


def run(runtime, algorithm=None, graph=NET, mixing_rounds="auto", run=None, **options):
    problem = make_problem(runtime, **options)
    network = Network(graph, runtime=runtime, mixing_rounds=mixing_rounds)
    algorithm = NEXT() if algorithm is None else algorithm
    return algorithm.run(problem, network, **{"max_iter": 12, "warn": False, **(run or {})})


def assert_same(result, whole, runtime):
    """This rank's part of one process' result, bit for bit."""
    mine = slice(runtime.agents.start, runtime.agents.stop)
    np.testing.assert_array_equal(result.w, whole.w[mine])
    np.testing.assert_array_equal(result.y, whole.y[mine])
    np.testing.assert_array_equal(result.w_bar, whole.w_bar)
    assert (result.status, result.n_iter, result.warning) == (whole.status, whole.n_iter, whole.warning)
    assert list(result.history) == list(whole.history)
    for name in set(whole.history) - {"seconds", "bytes_wire"}:
        np.testing.assert_array_equal(result.history[name], whole.history[name], err_msg=name)
