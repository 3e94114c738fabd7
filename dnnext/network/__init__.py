"""Who talks to whom: graphs, mixing weights, schedules, and the mixing itself."""

from dnnext.network.network import Mixed, Network
from dnnext.network.schedules import SCHEDULES, Schedule
from dnnext.network.topology import TOPOLOGIES, Topology
from dnnext.network.weights import (
    WEIGHTS,
    laplacian,
    lazy_laplacian,
    lazy_max_degree,
    lazy_metropolis,
    max_degree,
    metropolis,
)

__all__ = [
    "SCHEDULES",
    "TOPOLOGIES",
    "WEIGHTS",
    "Mixed",
    "Network",
    "Schedule",
    "Topology",
    "laplacian",
    "lazy_laplacian",
    "lazy_max_degree",
    "lazy_metropolis",
    "max_degree",
    "metropolis",
]
