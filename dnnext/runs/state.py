"""The agents' numbers, and where a run stands."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnnext import kernels
from dnnext.kernels.sums import row_norms
from dnnext.local.oracles import Backprop, Oracle
from dnnext.problem.row_parts import shards
from dnnext.runs.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runtime import Communicator

Array = np.ndarray[Any, np.dtype[Any]]

RETURNED = ("w", "y", "grad", "values")  # what an iteration is undone with
# What the next iteration may depend on, beside `memory`; the rest of a state is made anew by every iteration.
LASTING = ("w", "w_hat", "y", "grad", "values", "tau", "beta", "received", "disagreement")
FLAGS = ("is_fresh", "is_refused", "takes_inexact")


class Measured(NamedTuple):
    """G and its gradient at the mean of the weights, (P,); equal on every rank.

    spread : (n_agents, 2) or None
        ``|w_i - w_bar|^2`` and ``|A y_i - grad G(w_bar)|^2`` of all agents, from a recipe that has one tau and one step
        for all.
    """

    w_bar: Array
    value: float
    slope: Array
    spread: Array | None = None


@dataclass
class State:
    """The local agents' numbers, one row each (n_local, P), and where the run stands.

    Attributes
    ----------
    w, w_hat, z, y, grad : (n_local, P)
        Weights, best response, weights after the step, tracker, own gradient.
    values : (n_local,)
        Own cost, ``g_i(w_i)``.
    tau, beta, received : (n_local,)
        Proximal weight, the curvature that the model missed, and the largest beta that the neighbours sent.
    disagreement : (n_local,)
        Of the first mixing round, relative to `size`.
    unit : float
        b, the scale of tau.
    step : float or (n_local,)
        The last step size, or one per agent.
    t : int
        Iterations done.
    size, squares : (n_local,) or None
        Norm of what the last iteration mixed, and ``|w_i|^2 + |y_i|^2``, where it had them at hand.
    mixed : (n_local, k) or None
        Numbers of the rule for tau, mixed with the last message.
    w_old, y_old, spare : (n_local, P)
        Weights and tracker of the iteration before; a buffer for the next gradient.
    n_threads : int
        Threads of the kernels.
    memory : dict of arrays (n_local, ...)
        What surrogate and oracle keep from iteration to iteration.
    is_fresh : bool
        Whether the agents stand at a common start, y = grad.
    is_refused : bool
        Whether the last iteration was taken back at every agent, so that w is where it was.
    takes_inexact : bool
        Whether the rule for tau does as well with a point near the minimiser of step S.1.
    is_tested : bool
        Whether the last iteration counts only because it did not raise the objective at the mean of the weights.
    has_new_rows : bool
        Whether the iteration under way is the first on other rows, as in ``partial_fit``: trackers then change by more
        than curvature.
    measured : Measured or None
        G and its gradient at the mean of the weights w, where the last iteration had them at hand.
    is_due : bool
        Whether the loop measures the iteration that is under way.
    votes : function or None
        Returns the votes of the local agents on this iteration (n_local, k). A recipe that gathers numbers of all
        agents after its last message can send them along, and leaves those of all agents in `all_votes` (n_agents, k);
        it then has to refuse whatever is not finite. Else the loop sends them.
    all_votes : (n_agents, k) or None
        See `votes`.
    scratch : dict
        What the recipe can form again from the rest: not saved.
    shards : Communicator or None
        The ranks that together hold a row, where rows are spread over ranks (`dnnext.problem.row_parts`).

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
    received: Array
    disagreement: Array
    w_old: Array
    y_old: Array
    spare: Array
    unit: float = 1.0
    step: float | Array = 1.0
    t: int = 0
    n_threads: int = 1
    size: Array | None = None
    squares: Array | None = None
    mixed: Array | None = None
    memory: dict[str, Array] = field(default_factory=dict)
    is_fresh: bool = True
    is_refused: bool = False
    takes_inexact: bool = False
    is_tested: bool = False
    has_new_rows: bool = False
    measured: Measured | None = None
    is_due: bool = True
    votes: Callable[[], Array] | None = None
    all_votes: Array | None = None
    scratch: dict[str, Any] = field(default_factory=dict)
    shards: Communicator | None = None

    @classmethod
    def at(cls, problem: Problem, w: Array, oracle: Oracle | None = None) -> State:
        """The start: y_i = grad_i at the given w (n_local, P), from the oracle or by backpropagation."""
        w = np.array(w, dtype=problem.dtype, order="C")
        grad, memory = np.empty_like(w), dict[str, Array]()
        values = (oracle or Backprop())(problem, w, grad, memory)
        n = len(w)
        return cls(
            w=w, w_hat=w.copy(), z=w.copy(), y=grad.copy(), grad=grad, values=values, tau=np.ones(n), beta=np.zeros(n),
            received=np.zeros(n), disagreement=np.zeros(n), w_old=w, y_old=grad, spare=np.empty_like(w),
            memory=memory, n_threads=problem.n_threads, shards=shards(problem),
        )  # fmt: skip

    def snapshot(self) -> Snapshot:
        """What the next iteration depends on; the arrays are the state's own, copy or write them at once."""
        arrays = {name: getattr(self, name) for name in LASTING}
        arrays |= {f"memory.{name}": kept for name, kept in self.memory.items()}
        numbers = {"unit": float(self.unit), "t": int(self.t)}
        return Snapshot(arrays, {}, numbers | {name: bool(getattr(self, name)) for name in FLAGS})

    def resume(self, saved: Snapshot) -> None:
        """Go on from another state's `snapshot`; its arrays are copied."""
        for name in LASTING:
            setattr(self, name, np.array(saved.agents[name]))
        numbers, memory = saved.numbers, saved.below("memory").agents
        self.unit, self.t = float(numbers["unit"]), int(numbers["t"])
        for name in FLAGS:
            setattr(self, name, bool(numbers.get(name)))
        self.memory = {name: np.array(kept) for name, kept in memory.items()}

    def move(self, step: float) -> None:
        """z_i = w_i + step (w_hat_i - w_i)."""
        self.step = step
        np.subtract(self.w_hat, self.w, out=self.z)
        self.z *= step
        self.z += self.w

    def mix(self, network: Network, numbers: Array | None = None) -> None:
        """w_i <- sum_j c_ij z_j and y_i <- sum_j c_ij y_j in one message that takes beta, or mixes numbers, along."""
        self.w_old, self.y_old = self.w, self.y
        if numbers is None:
            mixed = network.mix(self.z, self.y, scalars=self.beta, t=self.t)
            self.w, self.y = mixed.arrays
        else:
            mixed = network.mix(self.z, numbers.astype(self.z.dtype), self.y, t=self.t)
            self.w, self.mixed, self.y = mixed.arrays
        self.received = mixed.received.astype(np.float64)
        self.differ(mixed.disagreement, row_norms(self.z) if mixed.size is None else mixed.size)

    def differ(self, disagreement: Array, size: Array) -> None:
        """disagreement and size (n_local,) of what was mixed here, from which those of whole rows follow."""
        self.disagreement, self.size = disagreement, size
        if self.shards is not None:
            squares = np.square([disagreement * size, size])
            self.shards.allreduce(squares)
            change, self.size = np.sqrt(squares)
            self.disagreement = np.divide(change, self.size, out=np.zeros_like(change), where=self.size != 0)

    def track(self, values: Array) -> None:
        """y_i <- y_i + spare_i - grad_i, grad_i <- spare_i: the new gradient lies in spare, its costs are `values`."""
        self.values = values
        self.y, self.squares = np.ascontiguousarray(self.y, self.grad.dtype), np.empty(len(self.w))
        w = np.ascontiguousarray(self.w, self.grad.dtype)
        kernels.tracker_update(self.y, self.squares, self.spare, self.grad, w, self.n_threads)
        self.grad, self.spare = self.spare, self.grad

    def copy(self) -> State:
        """A state of its own with the same numbers; the scratch is empty."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(twin, name, value.copy())
        twin.memory, twin.scratch = {name: np.array(kept) for name, kept in self.memory.items()}, {}
        return twin

    def trade(self, other: State) -> None:
        """Take all that the other has, and give it all that was here; nothing is copied."""
        mine = dict(vars(self))
        vars(self).update(vars(other))
        vars(other).update(mine)

    def keep(self) -> Snapshot:
        """Copies of what `undo` puts back."""
        return Snapshot({name: getattr(self, name).copy() for name in RETURNED}, {}, {"t": self.t})

    def undo(self, before: Snapshot) -> None:
        """Take an iteration back, whatever the recipe did: w, y, grad and values as `keep` found them."""
        for name in RETURNED:
            setattr(self, name, before.agents[name])
        self.t, self.measured = before.numbers["t"], None
        self.scratch.clear()

    def forget_rows(self) -> None:
        """What was found on other rows is forgotten: entries ``rows.*`` of the memory, and the scratch."""
        self.memory = {name: kept for name, kept in self.memory.items() if not name.startswith("rows.")}
        self.is_refused, self.measured = False, None
        self.scratch.clear()

    def restart(self, problem: Problem, w: Array, tau: Array, oracle: Oracle) -> None:
        """Go back to w with fresh trackers y_i = grad_i; all agents together, or the tracking invariant is lost."""
        self.w = w.copy()
        self.w_hat[...] = w
        self.memory.clear()
        self.values = oracle(problem, self.w, self.grad, self.memory)
        self.y = self.grad.copy()
        self.tau = tau.copy()
        self.beta, self.received = np.zeros_like(self.beta), np.zeros_like(self.received)
        self.is_fresh, self.is_refused, self.measured = True, False, None
        self.scratch.clear()
