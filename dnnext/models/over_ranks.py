"""Models that an estimator spreads over the ranks of every agent."""

from __future__ import annotations

from typing import Any

from dnnext import _checks
from dnnext._checks import short
from dnnext._params import Parameters
from dnnext.models.layout import Layout
from dnnext.models.mlp import MLP
from dnnext.models.spread_model import SpreadModel, cube_mlp
from dnnext.runtime import Communicator
from dnnext.runtime import Cube as Ranks

__all__ = ["Cube"]


class Cube(Parameters):
    """A network whose layers lie on a cube of p^3 ranks, for estimators with ``engine="mpi"``.

    Every agent is a group of p^3 ranks, each of which holds a p^3-th part of the weights; see
    `dnnext.models.cube.CubeLinear` and `dnnext.models.spread_model.SpreadModel`.

    Parameters
    ----------
    model : MLP
        The network; its ends may be open.
    p : int, default=2

    Attributes
    ----------
    ranks_per_agent : int
        ``p^3``.
    layout : Layout
        That of the network on one rank.
    n_inputs, n_outputs : int

    Raises
    ------
    ValueError
        If the model is no MLP or p is unfit.

    Examples
    --------
    >>> model = Cube(MLP([None, 20, None]), p=2).sized(4, 3)
    >>> model.ranks_per_agent, model.layout.n_params
    (8, 163)
    """

    def __init__(self, model: MLP, p: int = 2) -> None:
        if type(model) is not MLP:
            raise ValueError(
                f"model must be an MLP, whose layers are dense, to lie on a cube of ranks, got {short(model)}."
            )
        self.model, self.p = model, _checks.check_count("p", p)

    @property
    def ranks_per_agent(self) -> int:
        """Ranks of one agent."""
        return self.p**3

    @property
    def layout(self) -> Layout:
        """Of the whole network."""
        return self.model.layout

    @property
    def n_inputs(self) -> int:
        """Inputs of the network."""
        return self.model.n_inputs

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return self.model.n_outputs

    def sized(self, n_inputs: Any, n_outputs: int) -> Cube:
        """The same with the ends of the network closed.

        Raises
        ------
        ValueError
            If an end was closed before, with another size.
        """
        return Cube(self.model.sized(n_inputs, n_outputs), self.p)

    def on(self, inner: Communicator) -> SpreadModel:
        """The model of an agent on its ranks. Collective among them."""
        return cube_mlp(Ranks(inner, self.p), self.model.layers, self.model.activation)
