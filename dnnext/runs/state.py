"""The agents' numbers, where a run stands, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import kernels
from dnnext.local.oracles import Backprop, Oracle

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]
Callback = Callable[["State", dict[str, float]], "bool | None"]

# The rest of a state is made anew by every iteration.
LASTING = ("w", "w_hat", "z", "y", "grad", "values", "tau", "beta", "heard", "disagreement")


class ConvergenceWarning(UserWarning):
    """A run ended before it converged, or had to be tamed on the way.

    The estimators issue scikit-learn's warning of the same name instead.

    Examples
    --------
    >>> import warnings
    >>> from dnnext.algorithms import ConvergenceWarning
    >>> warnings.simplefilter("ignore", ConvergenceWarning)
    """


@dataclass
class State:
    """The local agents' numbers, one row each (n_local, P), and where the run stands.

    Attributes
    ----------
    w, w_hat, z, y, grad : (n_local, P)
        Weights, best response, weights after the step, tracker, own gradient.
    values : (n_local,)
        Own cost, ``g_i(w_i)``.
    tau, beta, heard : (n_local,)
        Proximal weight, the curvature that the model missed, and the neighbours' largest beta.
    disagreement : (n_local,)
        Of the first mixing round, relative.
    unit : float
        b, the scale of tau.
    step : float or (n_local,)
        The last step size, or one per agent.
    t : int
        Iterations done.
    root : array or None
        The curvature root of the last model.
    size, squares : (n_local,) or None
        ``|z_i|`` and ``|w_i|^2 + |y_i|^2``, where the last iteration had them at hand.
    correction : object or None
        What a surrogate added to that curvature.
    told : (n_local, k) or None
        Numbers of the rule for tau, mixed with the last message.
    memory : dict of arrays (n_local, ...)
        What surrogate and oracle keep from iteration to iteration.
    is_fresh : bool
        Whether the agents stand at a common start, y = grad.
    has_retreated : bool
        Whether the recipe fell back to its safer form.

    Examples
    --------
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [1.0]), ([[2.0]], [0.0])])
    >>> s = State.at(problem, np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> s.y.tolist(), s.values.tolist()
    ([[0.0, 0.0], [2.0, 1.0]], [0.0, 1.0])
    """

    w: Array
    w_hat: Array
    z: Array
    y: Array
    grad: Array
    values: Array
    tau: Array
    beta: Array
    heard: Array
    disagreement: Array
    w_old: Array
    y_old: Array
    spare: Array
    unit: float = 1.0
    step: float | Array = 1.0
    t: int = 0
    root: Array | None = None
    size: Array | None = None
    squares: Array | None = None
    correction: Any = None
    told: Array | None = None
    memory: dict[str, Array] = field(default_factory=dict)
    is_fresh: bool = True
    has_retreated: bool = False

    @classmethod
    def at(cls, problem: Problem, w: Array, oracle: Oracle | None = None) -> State:
        """The start: y_i = grad_i at the given w (n_local, P), from the oracle or by backpropagation."""
        w = np.array(w, dtype=problem.dtype, order="C")
        grad, memory = np.empty_like(w), dict[str, Array]()
        values = (oracle or Backprop())(problem, w, grad, memory)
        n = len(w)
        return cls(
            w=w, w_hat=w.copy(), z=w.copy(), y=grad.copy(), grad=grad, values=values, tau=np.ones(n), beta=np.zeros(n),
            heard=np.zeros(n), disagreement=np.zeros(n), w_old=w, y_old=grad, spare=np.empty_like(w),
            memory=memory,
        )  # fmt: skip

    def resume(self, agents: dict[str, Array], numbers: dict[str, Any]) -> None:
        """Go on from the lasting part of another state, see `lasting`."""
        for name in LASTING:
            setattr(self, name, np.array(agents[name]))
        self.unit, self.t = float(numbers["unit"]), int(numbers["t"])
        self.is_fresh, self.has_retreated = bool(numbers.get("is_fresh")), bool(numbers.get("has_retreated"))
        self.memory = {k.removeprefix("memory."): np.array(v) for k, v in agents.items() if k.startswith("memory.")}

    def lasting(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What the next iteration depends on: arrays of the local agents, and plain numbers."""
        arrays = {name: getattr(self, name) for name in LASTING}
        arrays |= {f"memory.{name}": kept for name, kept in self.memory.items()}
        flags = {"is_fresh": bool(self.is_fresh), "has_retreated": bool(self.has_retreated)}
        return arrays, {"unit": float(self.unit), "t": int(self.t)} | flags

    def mix_w_y(self, network: Network, told: Array | None = None) -> None:
        """w_i <- sum_j c_ij z_j and y_i <- sum_j c_ij y_j in one message that carries beta along, or mixes told."""
        self.w_old, self.y_old = self.w, self.y
        if told is None:
            mixed = network.mix(self.z, self.y, scalars=self.beta, t=self.t)
            self.w, self.y = mixed.arrays
        else:
            mixed = network.mix(self.z, told.astype(self.z.dtype), self.y, t=self.t)
            self.w, self.told, self.y = mixed.arrays
        self.heard, self.disagreement, self.size = mixed.heard.astype(np.float64), mixed.disagreement, mixed.size

    def update_gradient(self, problem: Problem, oracle: Oracle) -> None:
        """grad_i <- grad g_i(w_i), y_i <- y_i + grad_i(new) - grad_i(old)."""
        self.values = oracle(problem, self.w, self.spare, self.memory)
        self.y, self.squares = np.ascontiguousarray(self.y, self.grad.dtype), np.empty(len(self.w))
        w = np.ascontiguousarray(self.w, self.grad.dtype)
        kernels.tracker_update(self.y, self.squares, self.spare, self.grad, w, problem.n_threads)
        self.grad, self.spare = self.spare, self.grad

    def undo(self, problem: Problem) -> None:
        """Take the last iteration back: w and y of before, and their gradient."""
        self.w, self.y, self.t = self.w_old, self.y_old, self.t - 1
        self.grad, self.spare = self.spare, self.grad
        self.values = problem.local_values(self.w)

    def restart(self, problem: Problem, w: Array, tau: Array, oracle: Oracle) -> None:
        """Go back to w with fresh trackers y_i = grad_i; all agents together, or the tracking invariant is lost."""
        self.w = w.copy()
        self.w_hat[...] = w
        self.memory.clear()
        self.values = oracle(problem, self.w, self.grad, self.memory)
        self.y = self.grad.copy()
        self.tau = tau.copy()
        self.beta[:] = 0
        self.heard[:] = 0
        self.is_fresh = True


@dataclass
class Snapshot:
    """All that the next iteration depends on, and the history so far.

    Attributes
    ----------
    agents : dict of name to array
        With one entry per local agent.
    shared : dict of name to array
        Equal on every rank.
    numbers : dict
        Plain values, equal on every rank, that JSON can hold.

    Examples
    --------
    >>> whole = Snapshot({"w": np.zeros((2, 3))}, {}, {"t": 7})
    >>> whole.add("watch", Snapshot({}, {}, {"best_iteration": 5}))
    >>> whole.numbers
    {'t': 7, 'watch.best_iteration': 5}
    >>> whole.below("watch").numbers
    {'best_iteration': 5}
    """

    agents: dict[str, Array]
    shared: dict[str, Array]
    numbers: dict[str, Any]

    def add(self, name: str, other: Snapshot) -> None:
        """Take another snapshot in, its entries as ``name.entry``."""
        self.agents |= {f"{name}.{key}": value for key, value in other.agents.items()}
        self.shared |= {f"{name}.{key}": value for key, value in other.shared.items()}
        self.numbers |= {f"{name}.{key}": value for key, value in other.numbers.items()}

    def below(self, name: str) -> Snapshot:
        """The entries ``name.entry`` as a snapshot of their own; empty if there are none."""
        start = f"{name}."
        return Snapshot(*[
            {key.removeprefix(start): value for key, value in part.items() if key.startswith(start)}
            for part in (self.agents, self.shared, self.numbers)
        ])  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """When a run ends (see `Algorithm.run`)."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    monitor_every: int
    max_time: float | None


@dataclass
class Result:
    """What a run returns.

    Attributes
    ----------
    w, y : (n_local, P)
        The local agents' weights and trackers.
    w_bar : (P,)
        Mean of the weights over all agents, equal on every rank.
    history : dict of name to array
        Equal-length columns, one entry per measured iteration.
    n_iter : int
        Iterations done.
    converged : bool
        Whether a stopping rule ended the run.
    status : str
        "converged", "max_iter", "max_time", "callback", "interrupted" or "diverged".
    warning : str or None
        A sentence for the user.
    state : State or None
        Where the run stood at its end.
    problem, network, agents
        Those the run ended with, and the first numbers of its agents: fewer if some were lost.

    Examples
    --------
    >>> from dnnext.algorithms import NEXT
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [1.0]), ([[2.0]], [0.0])])
    >>> result = NEXT().run(problem, Network(Topology.path(2)), max_iter=3)
    >>> result.status, result.n_iter, result.w.shape, result.history["iteration"].tolist()
    ('max_iter', 3, (2, 2), [0, 1, 2, 3])
    """

    w: Array
    y: Array
    w_bar: Array
    history: dict[str, Array]
    n_iter: int
    converged: bool
    status: str
    warning: str | None = None
    state: State | None = field(default=None, repr=False)
    problem: Problem | None = field(default=None, repr=False)
    network: Network | None = field(default=None, repr=False)
    agents: Array | None = field(default=None, repr=False)
