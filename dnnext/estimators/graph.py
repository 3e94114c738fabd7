"""Which graph the agents form, and which of its nodes owns each row.

# Design:
#   A topology given by name grows to fit the data: one node per agent label, or min(n_agents, rows) nodes. A graph
#   given as an object is taken as it is: its nodes are the agents, labels in `agent` are its node names (a networkx
#   graph) or numbers 0..A-1 (anything else), and a node that owns no row is a relay. Nothing is matched by sorting:
#   a cross-validation fold that misses a label must not rename the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from dnnext._checks import check_choice, short
from dnnext.estimators.data import spread_rows
from dnnext.estimators.notices import warn_user
from dnnext.network import WEIGHTS, Schedule, Topology
from dnnext.network.graphs import one_row


@dataclass(frozen=True)
class Graph:
    """topology (Topology or Schedule) and the agents' labels, one per node."""

    topology: Any
    labels: list[Any]

    @property
    def n_agents(self):
        """Number of nodes."""
        return len(self.labels)


def make_graph(topology, mixing, n_agents, agent, n_rows, seeds):
    """Graph for the data: `agent` is None or checked labels, n_rows the rows that count."""
    if isinstance(topology, str):
        labels = list(range(min(int(n_agents), n_rows))) if agent is None else np.unique(agent).tolist()
        return Graph(_named(topology, mixing, len(labels), seeds), labels)
    if isinstance(topology, (Topology, Schedule)):
        if not (isinstance(mixing, str) and mixing == "metropolis"):
            raise ValueError(
                f"mixing must be 'metropolis', the default, beside a {type(topology).__name__}, that carries its own "
                f"weights, got {short(mixing)}: build the {type(topology).__name__} with weights=... instead."
            )
        return Graph(topology, list(range(topology.n_agents)))
    _check_word(mixing)
    if hasattr(topology, "nodes") and hasattr(topology, "edges"):
        return Graph(Topology.from_networkx(topology, weights=mixing), list(topology.nodes))
    if scipy.sparse.issparse(topology) or isinstance(topology, np.ndarray):
        net = Topology.from_adjacency(topology, weights=mixing)
        return Graph(net, list(range(net.n_agents)))
    raise ValueError(
        f"topology must be a name such as 'ring' or 'erdos_renyi', a networkx graph, an adjacency matrix, a Topology "
        f"or a Schedule, got {short(topology)}."
    )


def warn_of_shape(topology, n_agents):
    """A warning if a graph asked for by name is another one at so many agents."""
    sentence = one_row(topology if isinstance(topology, str) else "", n_agents)
    if sentence:
        warn_user(f"{sentence}, or topology={'path' if topology == 'grid' else 'ring'!r}.")


def _check_word(mixing):
    """ValueError for a word that names no weights; a matrix is the topology's business."""
    if isinstance(mixing, str):
        check_choice("mixing, the weights of neighbours,", mixing, WEIGHTS)


def _named(name, mixing, n_agents, seeds):
    if not isinstance(mixing, str):
        raise ValueError(
            f"mixing must be a word where topology={name!r} is one, whose graph is drawn in fit, got {short(mixing)}: "
            "pass a Topology built with weights=your matrix instead."
        )
    _check_word(mixing)
    return Topology.from_name(name, n_agents, weights=mixing, random_state=seeds.integer("topology"))


def survivors(problem, graph, result):
    """(Problem, Graph) that a run ended with: smaller ones if agents were lost on the way."""
    if not problem.runtime.is_distributed or result.problem is None or result.problem.n_agents == problem.n_agents:
        return problem, graph
    labels = [graph.labels[i] for i in result.agents] if graph.n_agents == problem.n_agents else graph.labels
    return result.problem, Graph(result.network.topology, labels)


def owners(graph, agent, y, partition, seeds):
    """The node of every row, (n,): from the labels, or spread by `partition`.

    Raises
    ------
    ValueError
        If a label is not a node of the graph.
    """
    if agent is None:
        return spread_rows(partition, y, graph.n_agents, seeds)
    node = {label: i for i, label in enumerate(graph.labels)}
    unknown = [label for label in np.unique(agent).tolist() if label not in node]
    if unknown:
        nodes = f"{graph.labels[0]!r} to {graph.labels[-1]!r}" if graph.labels else "none"
        raise ValueError(
            f"agent holds the label {short(unknown[0])}, which is no node of the graph ({graph.n_agents} nodes, "
            f"{nodes}): labels must be node names."
        )
    return np.array([node[label] for label in agent.tolist()], dtype=np.int64)
