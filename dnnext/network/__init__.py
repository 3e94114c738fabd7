"""Which agents exchange messages: graphs, mixing weights, schedules, and the mixing itself."""

from dnnext.network.faults import Faults
from dnnext.network.known_loss import KnownLoss
from dnnext.network.messages import Refusal
from dnnext.network.mixer import Mixed, Mixer, MixerState
from dnnext.network.network import Network
from dnnext.network.running_sums import RunningSums
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
    "Mixer",
    "MixerState",
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
