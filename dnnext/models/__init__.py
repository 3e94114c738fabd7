"""Models: ``f(w; x)``, one flat row of weights per agent."""

from dnnext.models.chain import Chain
from dnnext.models.images import AvgPool2d, Conv2d, MaxPool2d
from dnnext.models.layers import Dense, Flatten, Residual
from dnnext.models.layout import Layout, Part
from dnnext.models.mgrit import MGRIT
from dnnext.models.mlp import MLP
from dnnext.models.model import Curved, Fused, Model, Rows
from dnnext.models.resnet import ResNet

__all__ = [
    "MGRIT",
    "MLP",
    "AvgPool2d",
    "Chain",
    "Conv2d",
    "Curved",
    "Dense",
    "Flatten",
    "Fused",
    "Layout",
    "MaxPool2d",
    "Model",
    "Part",
    "ResNet",
    "Residual",
    "Rows",
]
