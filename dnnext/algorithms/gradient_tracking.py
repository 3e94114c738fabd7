"""Gradient tracking: the best-known first-order relative of NEXT, proximal, in two forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnnext import _checks
from dnnext.algorithms.base import Algorithm, State
from dnnext.algorithms.damping import FixedTau, SecantRule
from dnnext.local import FullLinearization, Oracle
from dnnext.local.oracles import check_oracle

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem


class GradientTracking(Algorithm):
    """Proximal gradient descent on a tracked gradient.

    With ``a`` the step on the scale of the objective U and ``prox = prox_{a r}``,

    ``form="atc":     w_i <- sum_j c_ij prox(w_j - a A y_j)``    (adapt, then combine [1]_; NEXT, fully linearised)

    ``form="diging":  w_i <- prox(sum_j c_ij w_j - a A y_i)``    (combine while adapting [2]_)

    and ``y_i <- sum_j c_ij y_j + grad_i(new) - grad_i(old)`` in both.

    Parameters
    ----------
    step : "auto" or float
        a; "auto" adapts ``1 / a`` by the secant rule of NEXT with full linearisation.
    form : {"atc", "diging"}
    oracle : Oracle or None
        Gives the gradient (`dnnext.local.oracles`); None is `Backprop()`.

    Raises
    ------
    ValueError
        If step is not positive or form is unknown.

    References
    ----------
    .. [1] J. Xu, S. Zhu, Y. C. Soh, L. Xie, Augmented distributed gradient methods for multi-agent optimization under
       uncoordinated constant stepsizes, CDC 2015.
    .. [2] A. Nedic, A. Olshevsky, W. Shi, Achieving geometric convergence for distributed optimization over
       time-varying graphs, SIAM J. Optim. 27 (2017).

    Examples
    --------
    >>> GradientTracking(step=0.1, form="diging")
    GradientTracking(step=0.1, form='diging')
    """

    def __init__(self, step: str | float = "auto", form: str = "atc", oracle: Oracle | None = None) -> None:
        _checks.check_choice("form", form, ("atc", "diging"))
        if not _checks.is_word(step, "auto"):
            _checks.check_positive("step", step, words=("auto",))
        self.first_step, self.form = step, form
        self.oracle_given, self.oracle = oracle, check_oracle(oracle)
        self.surrogate = FullLinearization()
        self.damping = SecantRule() if isinstance(step, str) else FixedTau(1 / step)

    def start(self, problem: Problem, s: State) -> None:
        """tau = 1 / a at the start."""
        self.damping.start(problem, self.surrogate, s)

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration: a proximal gradient step and a mixing of w and y, in the order of `form`."""
        s.step, model = 1 / s.tau, self.surrogate.at(problem, s)
        if self.form == "atc":
            model.argmin(out=s.z)
            s.mix(network)
        else:
            push = (problem.n_agents / s.tau).astype(s.w.dtype)[:, None] * s.y
            s.z[...] = s.w
            s.mix(network)
            s.w = problem.prox(s.w - push, (1 / s.tau).astype(s.w.dtype))
        s.track(self.oracle(problem, s.w, s.spare, s.memory))
        self.damping.update(s, model)
