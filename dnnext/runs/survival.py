"""Going on without agents whose rank has died.

# Design
# The survivors may have been at different places when they noticed the death, so nothing is taken from the broken
# iteration: each keeps its last weights, and together they begin again as from a common start with other agents. The
# lost agents leave the graph, Metropolis weights, A and N are formed anew, trackers are y = grad: mean y = mean grad
# holds from there on. The penalty keeps its strength per sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext.network import Topology
from dnnext.runs.alarm import Alarm
from dnnext.runtime import AgentsLost, Runtime

if TYPE_CHECKING:
    from dnnext.problem import Problem
    from dnnext.runs.standing import Standing


def go_on_without(run: Standing, loss: AgentsLost) -> None:
    """Re-form the run on the agents that are left.

    Raises
    ------
    AgentsLost
        If the graph changes from round to round, or is not connected without them.
    """
    network, runtime, s = run.network, run.network.runtime.survivors(), run.s
    if "shrinks" not in network.offers:
        raise AgentsLost(f"{loss} on_failure='shrink' goes on on fixed graphs only.", loss.ranks, loss.agents)
    kept = np.flatnonzero(~np.isin(run.agents, loss.agents))
    adjacency = network.topology.adjacency[kept][:, kept]
    graph = Topology(adjacency, name=f"{network.topology.name} without {list(loss.agents)}")
    if not graph.is_connected:
        raise AgentsLost(f"{loss} The graph is not connected without them.", loss.ranks, loss.agents)
    problem = run.problem = _moved(run.problem, runtime)
    options: dict[str, Any] = {"mixing_rounds": network.mixing_rounds, "contract_to": network.contract_to}
    run.network = type(network)(graph, runtime=runtime, n_threads=network.n_threads, **options)
    counts = [s.t, network.round, network.bytes, -len(run.history["iteration"])]
    most = runtime.max_agents(np.tile(counts, (problem.n_local, 1)))
    s.t, run.network.round, run.network.bytes, n_rows = (int(count) for count in most)
    for column in run.history.rows.values():
        del column[-n_rows:]  # rows that some ranks lack
    s.restart(problem, s.w, s.tau, run.recipe.oracle)
    run.alarm, run.best, run.is_whole = Alarm(problem, s), None, True
    run.agents = run.agents[kept]
    run.losses.append(str(loss))


def _moved(problem: Problem, runtime: Runtime) -> Problem:
    """The same rows on another runtime."""
    rows = [slice(a, b) for a, b in zip(problem.offsets[:-1], problem.offsets[1:], strict=True)]
    weight = problem.weight
    shards = [(problem.x[r], problem.target[r], None if weight is None else weight[r]) for r in rows]
    options: dict[str, Any] = {"runtime": runtime, "n_threads": problem.n_threads, "dtype": problem.dtype}
    options["tangents"] = problem.tangents
    return type(problem)(*problem._args, shards, **options)
