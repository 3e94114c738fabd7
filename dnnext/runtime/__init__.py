"""Where the agents live: all in this process, or in blocks on many ranks."""

from dnnext.runtime.agents import AgentsLost, BadMessage, ExchangePlan, Runtime, split_agents
from dnnext.runtime.alone import InProcess

__all__ = ["AgentsLost", "BadMessage", "ExchangePlan", "InProcess", "Runtime", "split_agents"]
