"""Levenberg and Marquardt's method over a tree: every agent takes the steps of the centralised method.

# Design
# The agents never differ, so there is nothing to mix. One message per link and way carries all that an iteration asks
# of the others: gradient, Gauss-Newton matrix and value of the point that is tried. Every agent then has the same sums,
# takes the same decision, and solves the same system; a process does it once for all its agents.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from dnnext.algorithms.base import Algorithm
from dnnext.algorithms.ratio import ACCEPT, NielsenRule, bounded, gain_ratio, slack_of
from dnnext.kernels.sums import row_norms
from dnnext.local import PartialLinearization, common
from dnnext.runs.state import Measured

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

Array = np.ndarray[Any, np.dtype[Any]]

ANCHOR = "newton.anchor"  # in the scratch of a state
SENT = "rows.newton.sent"  # in its memory, until the rows change
LOST = 1e290  # the cost of a trial that overflows, so that messages stay finite; a sum over agents is, too


class Sums(NamedTuple):
    """G (number), its gradient (P,) and Gauss-Newton matrix (P, P) at one w, equal at every agent."""

    value: float
    slope: Array
    matrix: Array


class Newton(Algorithm):
    """Damped Gauss-Newton steps with gradient, matrix and value of all agents, added up along a spanning tree.

    With w the same at every agent, r the penalty, B the sum of all Gauss-Newton matrices at w and U = G + r,

    ``D = argmin_v  grad G(w)'v + v'B v / 2 + tau/2 |v|^2 + r(w + v)``

    ``rho = (U(w) - U(w + D)) / -(grad G(w)'D + D'B D / 2 + r(w + D) - r(w))``

    ``w <- w + D,  tau <- tau max(1/3, 1 - (2 rho - 1)^3),  nu = 2``  if rho > 1e-4, else ``tau <- nu tau,  nu <- 2 nu``

    from ``tau = 1e-3 b`` ([1]_, eq. 2.5): exactly the centralised method ``CentralizedSCA(damping="lm")``. An iteration
    takes twice the radius of the graph in rounds (`dnnext.network.Network.sum`) and sends ``(P^2 + 3 P) / 2 + 1``
    numbers per link and way, taken back or not; nothing is mixed. It needs a fixed graph, and a model that forms
    Gauss-Newton matrices (`MLP`). A parent in the tree learns the sums of the agents below, and all learn the sums over
    all (:doc:`/planes`).

    Raises
    ------
    ValueError
        In a run, if the graph changes, or the model does not form such matrices.

    References
    ----------
    .. [1] H. B. Nielsen, Damping parameter in Marquardt's method, Report IMM-REP-1999-05, Technical University of
       Denmark (1999), with beta = 2, gamma = 3, p = 3.

    Examples
    --------
    >>> import numpy as np
    >>> from dnnext.algorithms import Newton
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import L2, MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> shards = [(x[0::2], x[0::2] ** 2), (x[1::2], x[1::2] ** 2)]
    >>> problem = Problem(MLP([1, 4, 1]), SquaredError(), L2(alpha=1e-4), shards=shards)
    >>> result = Newton().run(problem, Network(Topology.ring(2)), max_iter=30)
    >>> bool(result.history["objective"][-1] < 0.5 * result.history["objective"][0])
    True
    """

    needs = frozenset({"tree", "gauss_newton"})

    def __init__(self) -> None:
        self.surrogate, self.rule = PartialLinearization(curvature="exact"), NielsenRule()

    def start(self, problem: Problem, s: State) -> None:
        """tau = 1e-3 b."""
        self.rule.start(problem, self.surrogate, s)

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """Try a point; go there, or stay."""
        here = self._anchor(problem, network, s)
        w, tau, penalty = s.w[0].copy(), float(s.tau[0]), problem.penalty
        d = self._direction(problem, here, w, tau, s)
        z = w + d.astype(w.dtype)
        values, there = self._sums(problem, network, np.tile(z, (len(s.w), 1)), s.spare, is_trial=True)
        d = z.astype(np.float64) - w
        gain = here.value + penalty.value(w) - there.value - penalty.value(z)
        predicted = penalty.value(w) - penalty.value(z) - d @ (here.slope + here.matrix @ d / 2)
        slack, nu = slack_of(problem, here.value), float(s.memory["newton.nu"][0])
        s.is_tested = True
        s.is_refused = not (abs(gain) <= slack or (gain > 0 and gain > ACCEPT * predicted))
        s.w_old, s.y_old, s.z[...] = s.w, s.y, z
        if s.is_refused:
            tau, nu = self.rule.refused(tau, tau, nu), 2 * nu
        else:
            tau, nu = self.rule.accepted(tau, tau, gain_ratio(gain, predicted, slack), problem), 2.0
            s.grad, s.spare = s.spare, s.grad
            s.values, s.w = values, np.tile(z, (len(s.w), 1))
            s.y = np.tile((there.slope / problem.n_agents).astype(w.dtype), (len(s.w), 1))
            here = s.scratch[ANCHOR] = there
        s.measured = Measured(s.w[0].copy(), here.value, here.slope.astype(problem.dtype))
        s.tau = np.full_like(s.tau, bounded(tau, s.unit))
        s.memory["newton.nu"] = np.full(len(s.w), nu)
        s.disagreement, s.size = np.zeros(len(s.w)), row_norms(s.w)

    def _anchor(self, problem: Problem, network: Network, s: State) -> Sums:
        """The sums at s.w; a run that begins makes the weights equal first, one that goes on counts no round."""
        if s.is_fresh:
            s.w = np.tile(network.sum(s.w) / problem.n_agents, (len(s.w), 1)).astype(s.w.dtype)
        if ANCHOR not in s.scratch:
            counts = network.round, network.bytes
            s.values, s.scratch[ANCHOR] = self._sums(problem, network, s.w, s.grad)
            if SENT in s.memory:
                network.round, network.bytes = counts
            s.memory[SENT] = np.ones(len(s.w))
            s.y = np.tile((s.scratch[ANCHOR].slope / problem.n_agents).astype(s.w.dtype), (len(s.w), 1))
        s.is_fresh = False
        s.memory.setdefault("newton.nu", np.full(len(s.w), 2.0))
        return cast(Sums, s.scratch[ANCHOR])

    def _sums(
        self, problem: Problem, network: Network, w: Array, grad: Array, is_trial: bool = False
    ) -> tuple[Array, Sums]:
        """Own costs (n_local,) with the gradient into grad, and the sums over all agents, in float64.

        A trial where any number overflows costs `LOST`: it is refused, and other ranks refuse no message.
        """
        p, values = problem.n_params, problem.loss_grad(w, grad)
        rows = np.concatenate([values[:, None], grad, common.packed(problem, w)], axis=1, dtype=np.float64)
        if is_trial and not np.isfinite(rows).all():
            lost = ~np.isfinite(rows).all(axis=1)
            rows[lost], rows[lost, 0] = 0, LOST
        total = network.sum(rows)
        return values, Sums(float(total[0]), total[1 : p + 1], common.unpacked(total[p + 1 :], p))

    def _direction(self, problem: Problem, here: Sums, w: Array, tau: float, s: State) -> Array:
        """D of one agent, which is that of all."""
        one, y = w[None], (here.slope / problem.n_agents).astype(w.dtype)[None]
        at: Any = SimpleNamespace(
            w=one, y=y, tau=np.array([tau]), w_hat=s.w_hat[:1], scratch={common.MATRIX: here.matrix},
        )  # fmt: skip
        out = np.empty_like(one)
        blocks, inner_iter = self.surrogate.blocks(problem), self.surrogate.inner_iter
        common.CommonModel(self.surrogate, problem, at, blocks, inner_iter).argmin(out)
        s.w_hat[...] = out
        return np.asarray(out[0].astype(np.float64) - w)
