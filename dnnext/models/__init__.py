"""Models: ``f(w; x)``, one flat row of weights per agent."""

from dnnext.models.mlp import MLP

__all__ = ["MLP"]
