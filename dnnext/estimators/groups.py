"""Estimators whose agents are groups of ranks, each rank with a part of the weights (`dnnext.models.Cube`).

# Design:
#   In a run the model is a `SpreadModel` on the ranks of the agent, and rows of weights are this rank's parts. A fitted
#   estimator keeps its part, without the communicator; `gather_weights` opens one again and makes the model whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnext.estimators.fitted import FittedNetwork
from dnnext.estimators.inputs import checked
from dnnext.estimators.rows import check_weight
from dnnext.models import Cube, Layout
from dnnext.models.spread_model import SpreadModel
from dnnext.runtime import Grid, Runtime

__all__ = [
    "Parted",
    "everyone",
    "fitted_network",
    "gather_weights",
    "grid_of",
    "on_ranks",
    "one_per_group",
    "ranks_per_agent",
    "rows_of_agents",
    "score_local",
]


@dataclass(frozen=True)
class _Part:
    """What is known of a spread model once its ranks are gone: the layout of the part held here."""

    cube: Cube
    layout: Layout
    offers = frozenset[str]()  # none: a part has no coefs_ of its own

    @property
    def n_outputs(self) -> int:
        return self.cube.n_outputs

    def fingerprint(self) -> str:
        return self.cube.fingerprint()


class Parted(FittedNetwork):
    """A fitted network of which this rank holds a part."""

    def raw(self, x: Any) -> Any:
        """Refused: predictions need all parts."""
        raise ValueError(
            "the weights of this model are spread over ranks: call gather_weights() on every rank first, or use "
            "score_local."
        )


def ranks_per_agent(estimator: Any) -> int:
    """Ranks of one agent: one, except for models that are spread."""
    return getattr(estimator._open_model(), "ranks_per_agent", 1)


def grid_of(estimator: Any, comm: Any, n_agents: int | None) -> Grid:
    """The agents as groups of ranks; None for one agent per group."""
    m = ranks_per_agent(estimator)
    if comm.size % m:
        raise ValueError(
            f"model={estimator.model!r} needs {m} ranks for every group of agents, got {comm.size} in all: start with "
            f"engine='mpi' and `mpiexec -n {m}`, or a multiple of it."
        )
    return Grid(comm, comm.size // m if n_agents is None else n_agents, inner=m)


def one_per_group(estimator: Any, ranks: Any) -> Any:
    """The runtime of one agent per group of ranks, from that of one per rank: itself where agents are single ranks."""
    with ranks.together():
        m = ranks_per_agent(estimator)
    ranks.agree("the ranks of one agent", m)
    if m == 1:
        return ranks
    ranks.stop_gathering()
    return grid_of(estimator, ranks.comm, None).agents


def everyone(ranks: Any) -> Any:
    """The runtime of one agent per rank, of all ranks."""
    return ranks if ranks.inner.size == 1 else Runtime(ranks.whole.size, ranks.whole)


def on_ranks(estimator: Any, model: Any, runtime: Any) -> Any:
    """The model that is trained: on the ranks of its agent, if it is one to be spread."""
    if not isinstance(model, Cube):
        return model
    if estimator.regime != "full" or estimator.warm_start:
        raise ValueError(
            f"regime must be 'full' and warm_start False for weights that are spread over ranks, got "
            f"regime={estimator.regime!r}, warm_start={estimator.warm_start!r}."
        )
    return model.on(runtime.inner)


def fitted_network(estimator: Any, model: Any, row: Any, moments: Any) -> FittedNetwork:
    """What a fit leaves of a model, its weights (P,) and moments."""
    if isinstance(model, SpreadModel):
        cube = estimator._open_model().sized(model.n_inputs, model.n_outputs)
        if model.shards.size == 1:
            return FittedNetwork(cube.model, model.whole(row), moments)
        return Parted(_Part(cube, model.layout), row, moments)
    return FittedNetwork(model, row, moments)


def rows_of_agents(model: Any, rows: Any) -> Any:
    """Weights (n, P) of agents as `fitted_network` keeps one row of them: whole where one rank holds all."""
    is_whole = isinstance(model, SpreadModel) and model.shards.size == 1
    return np.stack([model.whole(row) for row in rows]) if is_whole else rows


def gather_weights(estimator: Any, comm: Any) -> tuple[FittedNetwork, Any]:
    """The fitted network and the agents' rows, whole on every rank. Collective."""
    network = estimator._network
    model = network.model.cube.on(grid_of(estimator, comm, estimator.n_agents_).inner)
    rows = np.stack([model.whole(row) for row in estimator._agent_rows])
    return FittedNetwork(network.model.cube.model, model.whole(network.row), network.moments), rows


def score_local(estimator: Any, X: Any, y: Any, sample_weight: Any, comm: Any) -> float:
    """The score on the rows of all agents' groups; the ranks of a group bring the same rows. Collective."""
    network, targets, grid = estimator._network, estimator._y, grid_of(estimator, comm, None)
    with comm.together():
        x, y = checked(estimator, X, y)
        codes, weight = targets.codes(y, "y"), check_weight(sample_weight, x.shape[0])
    grid.inner.agree_on({"y": codes, "sample_weight": weight})
    raw = FittedNetwork(network.model.cube.on(grid.inner), network.row, network.moments).raw(x)
    columns = targets.score_columns(raw, codes, network.moments)
    own = np.sum(columns * weight.reshape(-1, *[1] * (columns.ndim - 1)), axis=0)
    return float(targets.score_of(grid.agents.sum_agents(own[None])))
