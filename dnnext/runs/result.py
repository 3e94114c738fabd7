"""When a run ends, and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext._checks import short

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State

__all__ = ["Callback", "ConvergenceWarning", "Limits", "Result", "is_callback", "wish"]

Array = np.ndarray[Any, np.dtype[Any]]
SHOWN = ("objective", "stationarity", "disagreement")  # measures of the last iteration in a repr
Callback = Callable[["State", dict[str, float]], "bool | None"]


def is_callback(value: Any) -> bool:
    """Whether a value can be called with (state, metrics); a class is not yet an object."""
    if not callable(value) or isinstance(value, type):
        return False
    try:
        inspect.signature(value).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a function that does not show its arguments
        pass
    return True


def wish(name: str, answer: Any) -> bool:
    """Whether a callback that returned this asks to end; ValueError for what is no answer, such as a measure."""
    if answer is None:
        return False
    whole = isinstance(answer, bool | int | np.integer)
    if not (whole or (getattr(answer, "dtype", None) == np.bool_ and np.ndim(answer) == 0)):
        raise ValueError(f"the callback {name} must return True to end the run, False or None, got {short(answer)}.")
    return bool(answer)


class ConvergenceWarning(UserWarning):
    """A run ended before it converged, or was taken back on the way.

    The estimators issue scikit-learn's warning of the same name instead.

    Examples
    --------
    >>> import warnings
    >>> from dnnext.algorithms import ConvergenceWarning
    >>> warnings.simplefilter("ignore", ConvergenceWarning)
    """


@dataclass(frozen=True)
class Limits:
    """When a run ends (see `Algorithm.run`)."""

    max_iter: int
    tol: float
    n_iter_no_change: int
    monitor_every: int
    max_time: float | None


@dataclass(repr=False)
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
    retreats : int
        How often the run went on with a safer recipe.

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
    retreats: int = 0

    def __repr__(self) -> str:
        last = [f"{name} {self.history[name][-1]:.4g}" for name in SHOWN if len(self.history.get(name, ()))]
        shape = "{} x {}".format(*self.w.shape) if np.ndim(self.w) == 2 else np.shape(self.w)
        return f"Result({self.status!r} after {self.n_iter} iterations: {', '.join([*last, f'w {shape}'])})"
