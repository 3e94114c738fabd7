"""Who talks to whom: graphs, mixing weights, schedules, and the mixing itself."""

from dnnext.network.faults import Faults, KnownLoss, RunningSums
from dnnext.network.messages import Refusal
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
    "Faults",
    "KnownLoss",
    "Mixed",
    "Network",
    "Refusal",
    "RunningSums",
    "Schedule",
    "Topology",
    "laplacian",
    "lazy_laplacian",
    "lazy_max_degree",
    "lazy_metropolis",
    "max_degree",
    "metropolis",
]
