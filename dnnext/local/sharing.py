"""Which curvature the agents use: what the user allows to be sent, what the network can carry, how the inputs are.

# Design
# Whatever is asked here is equal on every rank: numbers of weights and agents, what the network offers, and sums over
# the agents. So every rank takes the same decision, and it is a sentence that a run shows. The limits were found on one
# list of runs and are held against another (`python -m bench.convergence.choice`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dnnext._checks import short
from dnnext.problem.synthetic import input_kind

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem

__all__ = ["SHARES", "Choice", "check_allowed", "choose_curvature"]

PAIRS = 5  # of steps and gradient changes, of the quasi-Newton correction
SHARES = ("nothing", "moments", "curvature")
EXACT_PARAMS = 400  # weights up to which P^2 / 2 numbers per link are worth the iterations they save
BINARY_SHARE = 0.5  # of the columns, from which synthetic inputs are too unlike
HEAVY = 8.0  # median kurtosis of the columns, from which they are
MOST_BYTES = 1e9  # of all agents' matrices, or of their covariances of inputs, in one process


LEAST = {"shared": "moments", "exact": "curvature"}  # what share= must allow


def check_allowed(curvature: str, share: str, kappa: Any, quasi_newton: int) -> None:
    """ValueError for curvature that sends more than `share` allows, or beside what has no effect on it."""
    if curvature in ("own", "exact") and quasi_newton not in (0, PAIRS):
        raise ValueError(
            f"quasi_newton corrects curvature='shared', and has no effect with curvature={curvature!r}, got "
            f"{short(quasi_newton)}: leave it out."
        )
    if SHARES.index(share) < SHARES.index(LEAST.get(curvature, SHARES[0])):
        raise ValueError(
            f"share must allow what curvature={curvature!r} sends, {LEAST[curvature]!r}, got {share!r}: use "
            "curvature='own' or 'auto', or leave share='curvature'."
        )
    if curvature in LEAST and not (isinstance(kappa, str) and kappa == "auto"):
        raise ValueError(
            f"kappa must be 'auto' with curvature={curvature!r}, which stands for everyone's as it is, got "
            f"{short(kappa)}; use curvature='own'."
        )


class Choice(NamedTuple):
    """A value of `PartialLinearization.curvature`, and why it was taken."""

    curvature: str
    why: str


def choose_curvature(problem: Problem, network: Network, share: str, inner_iter: int | None = None) -> Choice:
    """What ``curvature="auto"`` is on this problem and network.

    "exact" for at most 400 weights on a fixed graph where ``share="curvature"``; else "shared" where the inputs are
    near Gaussian, the curvature of the loss depends on inputs alone, and share is not "nothing"; else "own".

    Parameters
    ----------
    problem : Problem
    network : Network
    share : str
        What may be sent beside weights and trackers: "nothing"; "moments", mean and covariance of the inputs;
        "curvature", sums of Gauss-Newton matrices as well.
    inner_iter : int or None
        Inner iterations that the user asks for, which a factored matrix does not take: "own" then.

    Returns
    -------
    Choice

    Examples
    --------
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [1.0]), ([[2.0]], [0.0])])
    >>> choose_curvature(problem, Network(Topology.path(2)), "curvature").curvature
    'exact'
    >>> choose_curvature(problem, Network(Topology.path(2)), "nothing").why
    "share='nothing'"
    """
    model, loss = problem.model, problem.loss
    if problem.n_agents == 1:
        return Choice("own", "there is one agent")
    if share == "nothing":
        return Choice("own", "share='nothing'")
    if "memoryless" not in network.offers:
        return Choice("own", f"on {type(network).__name__} no iteration can be taken back")
    if "gauss_newton" not in model.offers:
        return Choice("own", "the model does not form Gauss-Newton matrices")
    n, p = problem.n_agents, problem.n_params
    fits = 12.0 * n * p * p <= MOST_BYTES
    if share == "curvature" and "tree" in network.offers and p <= EXACT_PARAMS and fits:
        if inner_iter is not None and problem.penalty.quadratic is not None:
            return Choice("own", "inner_iter asks for a solver that iterates")
        return Choice("exact", f"{p} weights, and a fixed graph")
    if loss.curvature_has_labels:
        return Choice("own", "the curvature of the loss depends on the targets")
    if problem.x.ndim != 2 or 8.0 * n * problem.x.shape[1] ** 2 > MOST_BYTES:
        return Choice("own", f"inputs of shape {problem.x.shape[1:]} are too many for their covariance at {n} agents")
    kind = input_kind(problem)
    if kind.binary > BINARY_SHARE:
        return Choice("own", f"{100 * kind.binary:.0f} % of the inputs have two values")
    if not kind.kurtosis < HEAVY:
        return Choice("own", f"the inputs have heavy tails (median kurtosis {kind.kurtosis:.1f})")
    why = f"{problem.n_params} weights" if share == "curvature" and "tree" in network.offers else "a graph that changes"
    return Choice("shared", "share='moments'" if share == "moments" else why)
