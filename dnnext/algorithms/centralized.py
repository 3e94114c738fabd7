"""The centralised method: one agent that holds all the data, to compare with."""

from __future__ import annotations

from typing import Any, ClassVar

from dnnext import _checks
from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext.algorithms.base import Result
from dnnext.algorithms.damping import Damping
from dnnext.algorithms.next import NEXT
from dnnext.local import Oracle, Surrogate
from dnnext.network import Network, Topology
from dnnext.problem import Problem, row_parts


class CentralizedSCA(NEXT):
    """Successive convex approximation on the pooled data: NEXT with a single agent.

    The parameters are those of `NEXT`, and one more. `run` pools the shards of the problem, so it needs all of them in
    one process; of the network only the number of agents is looked at.

    Parameters
    ----------
    surrogate, tau, step, mu, order, oracle
        As for `NEXT`.
    damping : {"sca", "lm"}
        "sca": as `tau` says. "lm": the method of Levenberg and Marquardt with Nielsen's rule [2]_, eq. 2.5
        (`dnnext.algorithms.ratio.NielsenRule`), which takes back what does not lower the objective.

    Raises
    ------
    ValueError
        If the shards live on several ranks, or damping="lm" is given a tau.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017), section 3.
    .. [2] H. B. Nielsen, Damping parameter in Marquardt's method, Report IMM-REP-1999-05, Technical University of
       Denmark (1999).

    Examples
    --------
    >>> import numpy as np
    >>> from dnnext.algorithms import CentralizedSCA
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import L2, MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> problem = Problem(MLP([1, 3, 1]), SquaredError(), L2(alpha=1e-4), shards=[(x, x**2), (-x, x**2)])
    >>> CentralizedSCA().run(problem, Network(Topology.ring(2)), max_iter=5).w.shape
    (1, 10)
    """

    _kept: ClassVar[dict[str, str]] = NEXT._kept | {"damping": "damping_given"}

    def __init__(
        self,
        surrogate: Surrogate | None = None,
        tau: str | float | Damping = "auto",
        step: str | float = "auto",
        mu: float = 0.0,
        order: str = "auto",
        oracle: Oracle | None = None,
        damping: str = "sca",
    ) -> None:
        self.damping_given = _checks.check_choice("damping", damping, ("sca", "lm"))
        is_lm = damping == "lm"
        if is_lm and not (isinstance(tau, str) and tau == "auto"):
            raise ValueError(
                f"tau must be 'auto' with damping='lm', which is a rule for tau of its own, got {short(tau)}."
            )
        super().__init__(surrogate, "nielsen" if is_lm else tau, step, mu, order, oracle)
        self.tau = tau

    def run(self, problem: Problem, network: Network, *args: Any, **kwargs: Any) -> Result:
        """Minimise the pooled problem; arguments as for `Algorithm.run`."""
        offers = {"whole_rows"} if row_parts.shards(problem) is None else set[str]()
        check_needs(short(self), {"whole_rows"}, offers, {"model": problem.model})
        if problem.runtime.is_distributed:
            raise ValueError(
                "CentralizedSCA pools the data, but the shards live on several ranks. Use engine='local' for this "
                "baseline."
            )
        shard = (problem.x, problem.target, problem.weight)
        pooled = Problem(
            problem.model, problem.loss, problem.penalty, [shard],
            n_total=problem.n_total, n_threads=problem.n_threads, dtype=problem.dtype,
            tangents=problem.tangents,
        )  # fmt: skip
        return super().run(pooled, Network(Topology.complete(1)), *args, **kwargs)
