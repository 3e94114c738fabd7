"""The contracts of step S.1: a surrogate, and the convex model of all local agents that it forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from dnnext._params import Parameters

if TYPE_CHECKING:
    from dnnext.local.oracles import Oracle
    from dnnext.network import Network
    from dnnext.problem import Problem

__all__ = ["At", "LocalModel", "OneFactor", "Surrogate"]

Array = np.ndarray[Any, np.dtype[Any]]


class At(Protocol):
    """What a surrogate sees of a run: one row per local agent (n_local, P), in front of step S.1 and after S.3.

    t: iterations done; w, y: weights and tracker; grad: own gradient; z: the point before mixing; w_old, y_old: those
    of the iteration before; tau (n_local,) and unit, its scale; w_hat: the last minimiser, where solvers start; memory:
    arrays of the surrogate's own with one entry per local agent, kept in checkpoints; scratch: what it can form again;
    is_refused: whether the last iteration was taken back, so that w is where it was; takes_inexact: whether the rule
    for tau does as well with a point near the minimiser.
    """

    t: int
    w: Array
    y: Array
    grad: Array
    z: Array
    w_old: Array
    y_old: Array
    tau: Array
    unit: float
    w_hat: Array
    memory: dict[str, Array]
    scratch: dict[str, Any]
    is_refused: bool
    takes_inexact: bool


class OneFactor(NamedTuple):
    """How the kernel `next_step` does step S.1.

    Attributes
    ----------
    root : array or None
        Of the curvature, for one Cholesky factor per agent and block; None is one proximal step, unless there is share.
    group : int
        How many agents' matrices are formed together.
    share : array or None
        In place of the root, where it is another at other weights: the share of every row in that of the loss.
    steps, tol : int, float
        Of conjugate gradients, in place of the factor; no steps: the factor.
    blocks : array or None
        Boundaries of the blocks of weights that are solved on their own; None is one.
    """

    root: Array | None = None
    group: int = 1
    share: Array | None = None
    steps: int = 0
    tol: float = 0.0
    blocks: Array | None = None


class LocalModel(ABC):
    """The convex models of all local agents, anchored at their weights: what `Surrogate.at` returns.

    Parameters
    ----------
    surrogate : Surrogate
        Whose model it is.
    problem : Problem
        What is minimised.
    s : At
        Where the run stands, such as its State.

    Attributes
    ----------
    surrogate, problem : Surrogate, Problem
        As above.
    w, y, tau, w_hat : arrays
        Those of the run where the model is anchored.

    Examples
    --------
    >>> from dnnext.local import FullLinearization
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> from dnnext.runs.state import State
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [0.0])])
    >>> model = FullLinearization().at(problem, State.at(problem, np.array([[1.0, 0.0]])))
    >>> out = np.empty((1, 2))
    >>> model.argmin(out)  # w - A y / tau
    >>> out, model.product(out)
    (array([[ 0., -1.]]), None)
    """

    def __init__(self, surrogate: Surrogate, problem: Problem, s: At) -> None:
        self.surrogate, self.problem = surrogate, problem
        self.w, self.y, self.tau, self.w_hat = s.w, s.y, s.tau, s.w_hat

    @abstractmethod
    def argmin(self, out: Array) -> None:
        """out_i = w_hat_i, the minimiser of agent i's model (step S.1); out (n_local, P) may be `w_hat`."""

    def product(self, v: Array) -> Array | None:
        """``kappa_i A_i v_i`` (n_local, P), the curvature of the model along v; None where it has none."""
        return None

    def coordinates(self, w: Array, y: Array) -> tuple[Array, Array]:
        """Weights and tracked gradients as the rule for tau measures them: in coordinates where the metric is I."""
        return w, y

    def learn(self, s: At) -> None:  # noqa: B027 - most models have nothing to learn
        """Look at an iteration from s.w_old, s.y_old over s.z to s.w, s.y."""


class Surrogate(Parameters, ABC):
    """A strongly convex model of the whole cost, built from what one agent knows.

    A subclass states two constants of the automatic rule for `tau` (`growth`: tau >= growth * curvature misfit;
    `decay`: tau may shrink by this factor per iteration) and implements `at` and `scale`.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017): what a surrogate must satisfy.

    Examples
    --------
    Full linearisation that moves no weight by more than 0.1:

    >>> import numpy as np
    >>> from dnnext.local import FullLinearization
    >>> from dnnext.local.surrogates import LinearModel
    >>> class CautiousModel(LinearModel):
    ...     def argmin(self, out):
    ...         super().argmin(out)
    ...         out[...] = self.w + np.clip(out - self.w, -0.1, 0.1)
    >>> class Cautious(FullLinearization):
    ...     def at(self, problem, s):
    ...         return CautiousModel(self, problem, s)
    >>> Cautious().growth, Cautious().decay
    (3.0, 1.2)
    """

    growth: float
    decay: float
    needs: frozenset[str] = frozenset()  # what the other parts of a run must offer, see `dnnext._needs`
    is_shared = False  # whether all agents' models have (nearly) the same curvature
    is_open = False  # whether a run chooses among several, see `chosen`
    columns: dict[str, float] = {}  # noqa: RUF012 - of the history, where it was chosen; never written to
    oracle: Oracle | None = None  # that its gradients come from, where the recipe names none
    usual_tau = "auto"  # the rule that tau="auto" is in order "pre"
    first_tau, safeguard = 3.0, 0.15  # of tau="ratio": in units of `scale`, and the share of the norm rule

    def safer(self) -> Surrogate:
        """What to go on with where a shared model diverges."""
        return self

    def chosen(self, problem: Problem, network: Network) -> tuple[Surrogate, str]:
        """The surrogate that a run uses, and a sentence if it had to choose: itself, and none."""
        return self, ""

    def gather(self, problem: Problem, network: Network, s: At) -> None:
        """What the model at s.w needs from other agents, by messages of its own; called in front of `at`."""

    def in_one_call(self, problem: Problem, s: At) -> OneFactor | None:
        """How the kernel `next_step` does step S.1 throughout a run that begins at s; None where it cannot."""
        return None

    @abstractmethod
    def at(self, problem: Problem, s: At) -> LocalModel:
        """The model of every local agent at s.w, with s.y, s.grad and s.tau."""

    @abstractmethod
    def scale(self, problem: Problem, w: Array) -> float:
        """b: the size of the curvature at the common start w (n_local, P), equal at every agent; the unit of tau."""
