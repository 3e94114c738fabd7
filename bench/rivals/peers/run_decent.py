"""decent-bench's ATC-Tracking (AGPL; used, not copied) with a NumPy cost.

decent-bench asks for Python 3.13. In an environment of an older Python it runs once the type parameters in its sources
are rewritten; that touches no algorithm, and the answer notes it.
"""

import sys
from importlib.metadata import version

import networkx as nx
import numpy as np
from decent_array import interoperability as iop
from decent_bench.agents import Agent
from decent_bench.algorithms.p2p import ATC_Tracking
from decent_bench.costs import Cost
from decent_bench.networks import P2PNetwork
from shared import answer, task, timed

iop.set_backend("numpy")


class NumPyCost(Cost):
    """g_i of the task."""

    def __init__(self, t, i):
        self.t, self.i = t, i

    shape = property(lambda self: self.t.w0.shape)
    m_smooth = property(lambda self: np.nan)
    m_cvx = property(lambda self: np.nan)

    def gradient(self, x, **options):
        return iop.from_numpy(self.t.gradient(self.i, iop.to_numpy(x)))

    def function(self, x, **options):
        raise NotImplementedError

    hessian = proximal = __add__ = function


def main():
    t = task()
    graph = nx.from_numpy_array((t.mixing > 0) & ~np.eye(t.n_agents, dtype=bool))
    network = P2PNetwork(graph, [Agent(NumPyCost(t, i), state_snapshot_period=10**9) for i in range(t.n_agents)])
    network.weights = iop.from_numpy(t.mixing)
    algorithm = ATC_Tracking(step_size=t.step * t.n_agents, x0=iop.from_numpy(t.w0))
    algorithm.initialize(network)
    ms, seconds = timed(lambda k: algorithm.step(network, k), t.n_iter)
    w = [iop.to_numpy(agent.x) for agent in network.agents()]
    rewritten = "" if sys.version_info >= (3, 13) else ", annotations rewritten for this older Python"
    answer(ms, seconds, w, f"decent-bench {version('decent-bench')}{rewritten}")


if __name__ == "__main__":
    main()
