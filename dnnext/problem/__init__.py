"""What is minimised: ``U(w) = sum_i g_i(w) + r(w)``, the network, the losses, the penalties."""

from dnnext.models.mlp import MLP
from dnnext.problem.losses import Huber, Logistic, Loss, Poisson, Softmax, SquaredError, SquaredHinge
from dnnext.problem.objective import Problem
from dnnext.problem.penalties import (
    L1,
    L2,
    PENALTIES,
    ElasticNet,
    GroupLasso,
    NoPenalty,
    Penalty,
    SparseGroup,
    make_penalty,
)
from dnnext.problem.tangents import FeatureDirections, ImageRotations, ImageShifts, Tangents

__all__ = [
    "L1",
    "L2",
    "MLP",
    "PENALTIES",
    "ElasticNet",
    "FeatureDirections",
    "GroupLasso",
    "Huber",
    "ImageRotations",
    "ImageShifts",
    "Logistic",
    "Loss",
    "NoPenalty",
    "Penalty",
    "Poisson",
    "Problem",
    "Softmax",
    "SparseGroup",
    "SquaredError",
    "SquaredHinge",
    "Tangents",
    "make_penalty",
]
