"""Ranks and what they can do together; agents on them, all in this process or in blocks on many ranks."""

from dnnext.runtime.agents import AgentsLost, BadMessage, InProcess, Runtime
from dnnext.runtime.alone import Alone
from dnnext.runtime.blocks import ExchangePlan, split_agents
from dnnext.runtime.communicator import Communicator, RanksLost, Tally, WrongMessage
from dnnext.runtime.grid import Cube, Grid, Square
from dnnext.runtime.threads import Threads

__all__ = [
    "AgentsLost",
    "Alone",
    "BadMessage",
    "Communicator",
    "Cube",
    "ExchangePlan",
    "Grid",
    "InProcess",
    "RanksLost",
    "Runtime",
    "Square",
    "Tally",
    "Threads",
    "WrongMessage",
    "split_agents",
]
