"""What is minimised: ``U(w) = sum_i g_i(w) + r(w)``, the network, the losses, the penalties."""

from dnnext.models.mlp import MLP
from dnnext.problem.losses import Huber, Logistic, Loss, Softmax, SquaredError, SquaredHinge
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

__all__ = [
    "L1",
    "L2",
    "MLP",
    "PENALTIES",
    "ElasticNet",
    "GroupLasso",
    "Huber",
    "Logistic",
    "Loss",
    "NoPenalty",
    "Penalty",
    "Problem",
    "Softmax",
    "SparseGroup",
    "SquaredError",
    "SquaredHinge",
    "make_penalty",
]
