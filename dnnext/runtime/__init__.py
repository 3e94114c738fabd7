"""Ranks and what they can do together; agents on them, all in this process or in blocks on many ranks."""

from dnnext.runtime.agents import AgentsLost, BadMessage, InProcess, Runtime
from dnnext.runtime.alone import Alone
from dnnext.runtime.blocks import ExchangePlan, split_agents
from dnnext.runtime.communicator import Communicator, RanksLost, Tally
from dnnext.runtime.threads import Threads

__all__ = [
    "AgentsLost",
    "Alone",
    "BadMessage",
    "Communicator",
    "ExchangePlan",
    "InProcess",
    "RanksLost",
    "Runtime",
    "Tally",
    "Threads",
    "split_agents",
]
