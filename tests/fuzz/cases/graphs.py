"""Topologies and schedules, and a message over them."""

import inspect

import numpy as np

from dnnext import Schedule, Topology
from dnnext.network import Network

from .data import bulk, dressed
from .draw import need

GRAPHS = ["ring", "path", "grid", "torus", "star", "complete", "hypercube", "exponential", "erdos_renyi",
          "random_geometric", "watts_strogatz", "barabasi_albert"]  # fmt: skip
ODD = [3, 1, 2, 0, 7, -1, 2.5, None, "4", True, np.int64(5), 16, np.nan, 0.3, 1.0, 1e-9]


def graph(d):
    """A topology by name or matrix, perhaps odd."""
    n, weights = (
        d.usual([4, 1, 2, 3, 8, 16, 0, 13]),
        d.pick(["metropolis", "max_degree", "laplacian", "lazy_laplacian"]),
    )
    how = d.pick(["name", "matrix", "mixing", "call"])
    if how == "name":
        return Topology.from_name(d.pick(GRAPHS), n, weights=weights, random_state=d.pick([0, 1, None, -1]))
    if how == "call":
        build = getattr(Topology, d.pick([*GRAPHS, "from_adjacency", "from_mixing"]))
        taken = inspect.signature(build).parameters.values()
        most = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in taken)
        return build(*[d.pick(ODD) for _ in range(d.whole(1, min(2, most)))])
    matrix = d.numbers().random((n, n if not d.chance(8) else n + 1))
    if how == "matrix":
        matrix = np.where(matrix < 0.4, bulk(d, matrix.shape) if d.chance(3) else matrix, 0)
        if n == matrix.shape[1] and not d.chance(6):
            matrix = matrix / 2 + matrix.T / 2 if d.chance(2) else np.maximum(matrix, matrix.T)
        return Topology(dressed(d, matrix), weights=weights)
    for _ in range(30 if matrix.size and n == matrix.shape[1] else 0):
        matrix = matrix / matrix.sum(axis=0)
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
    return Topology.from_mixing(dressed(d, matrix))


def check_graph(net):
    """What every topology owes."""
    dense = net.mixing.toarray()
    need(np.isfinite(dense).all() and (dense >= 0).all(), "mixing not finite or negative")
    need(np.allclose(dense.sum(0), 1) and np.allclose(dense.sum(1), 1), "mixing is not doubly stochastic")
    need(-1 <= net.lambda_n <= net.lambda_2 <= 1, f"eigenvalues {net.lambda_n}, {net.lambda_2}")
    need(len(repr(net)) > 5 and net.n_edges >= 0 and net.diameter >= 0, "no picture of the graph")


def mixed(d, network):
    """Mixing keeps the mean and finite numbers."""
    dtype = d.pick([np.float64, np.float32])
    z = d.numbers().standard_normal((network.n_local, d.pick([3, 1]))).astype(dtype)
    scalars = d.pick([None, np.zeros(network.n_local)])
    for _ in range(2):
        out = network.mix(z, z, scalars=scalars)
        need(np.isfinite(out.arrays[0]).all() and np.isfinite(out.received).all(), "mixing gave NaN")
        need(np.allclose(out.arrays[1].mean(0), z.mean(0), atol=1e-5), "mixing lost the mean")


def topology(d):
    """Topologies, and one message over them."""
    net = graph(d)
    check_graph(net)
    mixed(d, Network(net, mixing_rounds=d.pick(["auto", 1, 4, 0])))
    return "mixed"


def schedule(d):
    """Schedules, and a few messages over them."""
    how = d.pick(["link_failures", "gossip", "one_peer", "alternating", "list", "callable"])
    if how == "link_failures":
        plan = Schedule.link_failures(graph(d), d.usual([0.3, 0, 0.99, 1, -1, np.nan, "p"]), d.usual([0, None, "x"]))
    elif how == "gossip":
        plan = Schedule.gossip(graph(d), d.usual([0, None, -3]))
    elif how == "one_peer":
        plan = Schedule.one_peer_exponential(d.pick(ODD))
    elif how == "alternating":
        plan = Schedule.alternating(graph(d), d.pick(ODD))
    elif how == "list":
        plan = Schedule([graph(d) for _ in range(d.pick([2, 0, 1, 3]))], window=d.usual([None, 1, 3, 0]))
    else:
        given = [d.pick([lambda: graph(d), lambda: bulk(d, (3, 3)), lambda: None])() for _ in range(2)]
        plan = Schedule(lambda k: given[k % 2], window=d.usual([None, 2, 5]))
    for k in range(3):
        check_graph(plan(k))
    mixed(d, Network(plan, mixing_rounds=d.pick(["auto", 1, 4])))
    return "mixed"
