"""How one agent improves its own copy: strongly convex models of its cost (surrogates) and the solvers behind them."""

from dnnext.local.feedback import Feedback, alignment
from dnnext.local.oracles import Backprop, Oracle
from dnnext.local.surrogates import FullLinearization, PartialLinearization, Surrogate

__all__ = ["Backprop", "Feedback", "FullLinearization", "Oracle", "PartialLinearization", "Surrogate", "alignment"]
