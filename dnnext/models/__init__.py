"""Models: ``f(w; x)``, one flat row of weights per agent."""

from dnnext.models.chain import Chain
from dnnext.models.images import AvgPool2d, Conv2d, MaxPool2d
from dnnext.models.layers import Dense, Flatten, Residual
from dnnext.models.layout import Layout, Part
from dnnext.models.linearised import Frozen, Linearised
from dnnext.models.mgrit import MGRIT
from dnnext.models.mlp import MLP
from dnnext.models.model import Curved, Fused, Model, Rows
from dnnext.models.over_ranks import Cube
from dnnext.models.resnet import ResNet
from dnnext.models.tangent_kernel import NeuralTangentKernel

__all__ = [
    "MGRIT",
    "MLP",
    "AvgPool2d",
    "Chain",
    "Conv2d",
    "Cube",
    "Curved",
    "Dense",
    "Flatten",
    "Frozen",
    "Fused",
    "Layout",
    "Linearised",
    "MaxPool2d",
    "Model",
    "NeuralTangentKernel",
    "Part",
    "ResNet",
    "Residual",
    "Rows",
]
