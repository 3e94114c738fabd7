"""How one agent improves its own copy: strongly convex models of its cost (surrogates) and the solvers behind them."""

from dnnext.local.feedback import Feedback, alignment
from dnnext.local.growing import Growing
from dnnext.local.layer_parallel import LayerParallel
from dnnext.local.local_model import LocalModel, Surrogate
from dnnext.local.oracles import Backprop, Oracle
from dnnext.local.surrogates import FullLinearization, PartialLinearization

__all__ = [
    "Backprop",
    "Feedback",
    "FullLinearization",
    "Growing",
    "LayerParallel",
    "LocalModel",
    "Oracle",
    "PartialLinearization",
    "Surrogate",
    "alignment",
]
