"""The recipes, one file each, and the loop around them."""

from dnnext.algorithms.base import Algorithm, ConvergenceWarning, Result, Snapshot, State
from dnnext.algorithms.centralized import CentralizedSCA
from dnnext.algorithms.dgd import DGD
from dnnext.algorithms.gradient_tracking import GradientTracking
from dnnext.algorithms.newton import Newton
from dnnext.algorithms.next import NEXT
from dnnext.problem.final_step import final_prox

__all__ = [
    "DGD",
    "NEXT",
    "Algorithm",
    "CentralizedSCA",
    "ConvergenceWarning",
    "GradientTracking",
    "Newton",
    "Result",
    "Snapshot",
    "State",
    "final_prox",
]
