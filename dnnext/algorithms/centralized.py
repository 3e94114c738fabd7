"""The centralised method: one agent that holds all the data, to compare with."""

from __future__ import annotations

from typing import Any

from dnnext.algorithms.base import Result
from dnnext.algorithms.next import NEXT
from dnnext.network import Network, Topology
from dnnext.problem import Problem


class CentralizedSCA(NEXT):
    """Successive convex approximation on the pooled data: NEXT with a single agent.

    The parameters are those of `NEXT`. `run` pools the shards of the problem, so it needs all of them in one process;
    of the network only the number of agents is looked at.

    Raises
    ------
    ValueError
        If the shards live on several ranks.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017), section 3.

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

    def run(self, problem: Problem, network: Network, *args: Any, **kwargs: Any) -> Result:
        """Minimise the pooled problem; arguments as for `Algorithm.run`."""
        if problem.runtime.is_distributed:
            raise ValueError(
                "CentralizedSCA pools the data, but the shards live on several ranks. Use engine='local' for this "
                "baseline."
            )
        shard = (problem.x, problem.target, problem.weight)
        pooled = Problem(
            problem.model, problem.loss, problem.penalty, [shard],
            n_total=problem.n_total, n_threads=problem.n_threads, dtype=problem.dtype,
        )  # fmt: skip
        return super().run(pooled, Network(Topology.complete(1)), *args, **kwargs)
