"""Full linearisation: the surrogate without curvature, a proximal step along the tracked gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dnnext import _checks, kernels
from dnnext._checks import short
from dnnext.local.growing import Growing
from dnnext.local.local_model import At, LocalModel, OneFactor, Surrogate
from dnnext.local.riesz import RieszModel, metric_scale
from dnnext.local.unit import mean_curvature, own_shares, some_rows
from dnnext.models.inner_products import InnerProduct
from dnnext.problem import row_parts

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["FullLinearization", "LinearModel"]

Array = np.ndarray[Any, np.dtype[Any]]


class LinearModel(LocalModel):
    """``G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v)``: no curvature of its own."""

    def argmin(self, out: Array) -> None:
        """prox_{r / tau_i}(w_i - A y_i / tau_i)."""
        problem, r = self.problem, self.problem.penalty
        if "terms" in r.offers:
            terms = (r.l1, r.l2, r.groups, r.strength)
            kernels.proximal_step(None, out, self.w, self.y, self.tau, 1.0, problem.n_agents, *terms, problem.n_threads)
            return
        tau = self.tau.astype(self.w.dtype)
        out[...] = problem.prox(self.w - (problem.n_agents / tau)[:, None] * self.y, 1 / tau)


class FullLinearization(Surrogate):
    """Everything but the penalty is linearised (FL): a proximal gradient step along the tracked gradient.

    ``w_hat_i = prox_{r / tau_i}(w_i - G_i / tau_i)`` with ``G_i = A y_i`` [1]_, eq. 13. Closed form for every penalty.

    With a metric M of the weights the model is ``G_i'(v - w_i) + tau_i/2 |v - w_i|_M^2`` and the step is along the
    Riesz gradient ``M^-1 (G_i + dr)`` [2]_; the penalty must be a sum of squares of single weights (L2) or none, and is
    linearised, too. Agents may have metrics of their own: they mix weights and gradients, which are covectors, never
    Riesz gradients.

    Parameters
    ----------
    metric : InnerProduct or None
        One of `dnnext.models.inner_products`; None is the Euclidean one, with the prox of every penalty.
    growth : float or None
        None takes every gradient from all rows. A factor above 1 takes the first ones from a sixteenth of every agent's
        rows, and every 8 iterations from so many times more, until all are in; the trackers are carried on. It is
        short for the oracle ``Growing(growth=growth)`` (`dnnext.local.Growing`), which sets other stages, too. It saves
        time where a gradient is most of an iteration, and costs rounds and bytes.

    Raises
    ------
    ValueError
        If metric is no inner product, or growth not above 1; in a run, if metric does not fit the model, or the penalty
        is no sum of squares of single weights.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).
    .. [2] A. L. Caterini, D. E. Chang, A geometric framework for convolutional neural networks, arXiv 1608.04374
       (2016).

    Examples
    --------
    >>> from dnnext.local import FullLinearization
    >>> FullLinearization()
    FullLinearization()

    Gradients of ever more rows, for large data:

    >>> from dnnext.algorithms import NEXT
    >>> NEXT(FullLinearization(growth=2.0)).oracle
    Growing()
    """

    growth, decay = 3.0, 1.2  # of the rule for tau
    _kept: ClassVar[dict[str, str]] = {"growth": "row_growth"}

    def __init__(self, metric: InnerProduct | None = None, growth: float | None = None) -> None:
        if metric is not None and not isinstance(metric, InnerProduct):
            raise ValueError(f"metric must be an object of dnnext.models.inner_products or None, got {short(metric)}.")
        if growth is not None:
            _checks.check_positive("growth", growth, above=1, words=(None,))
        self.metric, self.row_growth = metric, growth
        self.oracle = None if growth is None else Growing(growth=growth)
        if metric is not None:
            self.needs |= {"square", "whole_rows"}

    def at(self, problem: Problem, s: At) -> LocalModel:
        """The linear model at s.w."""
        return LinearModel(self, problem, s) if self.metric is None else RieszModel(self, self.metric, problem, s)

    def in_one_call(self, problem: Problem, s: At) -> OneFactor | None:
        """One proximal step, without a metric."""
        return OneFactor() if self.metric is None else None

    def scale(self, problem: Problem, w: Array) -> float:
        """``b = |grad G(w + e) - grad G(w)| / |e|``, e along the gradient, at least the mean curvature there.

        e has length 1e-3, or what rounding needs beside long weights. The mean curvature (`mean_curvature`) is that of
        at most 256 rows of every agent.
        With a metric: `dnnext.local.riesz.metric_scale`.
        """
        if self.metric is not None:
            return metric_scale(self.metric, problem, w)
        some = some_rows(problem)
        least = mean_curvature(some, w, own_shares(some))
        start = (problem.runtime.sum_agents(w) / problem.n_agents).astype(w.dtype)
        slope = problem.smooth_value_grad(start)[1]
        norm = float(row_parts.norms(problem, slope[None])[0])
        if norm == 0:
            return least
        length = max(1e-3, np.sqrt(np.finfo(w.dtype).eps) * float(row_parts.norms(problem, start[None])[0]))
        moved = (start + (length / norm) * slope).astype(w.dtype)
        e = moved.astype(np.float64) - start
        change = problem.smooth_value_grad(moved)[1] - slope
        return max(least, float(row_parts.norms(problem, change[None])[0] / row_parts.norms(problem, e[None])[0]))
