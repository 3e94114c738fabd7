"""Oracles: where an agent takes the direction of step S.3 from.

# Design
# The recipes ask one object for the value and the direction of every agent at its weights. `Backprop` answers with the
# gradient. An oracle that is cheaper, or needs less of the network, says with `is_gradient = False` that its direction
# is none; what stands on a true gradient then refuses it (`check_oracle`). What an oracle keeps from one iteration to
# the next it keeps in `memory`, which is cleared where a run goes back, and written into checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext._params import Parameters

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["Backprop", "Oracle", "check_oracle"]

Array = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class Oracle(Protocol):
    """Value and direction of every local agent at its weights, from its own rows.

    Attributes
    ----------
    is_gradient : bool
        Whether the direction is ``grad g_i(w_i)``. Where it is not, partial linearisation and line searches refuse.

    Examples
    --------
    The signs of the gradient:

    >>> from dnnext.local.oracles import Backprop, Oracle
    >>> class Signs(Backprop):
    ...     is_gradient = False
    ...     def __call__(self, problem, w, out, memory):
    ...         values = super().__call__(problem, w, out, memory)
    ...         np.sign(out, out=out)
    ...         return values
    >>> isinstance(Signs(), Oracle)
    True
    """

    is_gradient: bool

    def __call__(self, problem: Problem, w: Array, out: Array, memory: dict[str, Array]) -> Array:
        """``g_i(w_i)`` (n_local,) float64; the direction at w (n_local, P) is written into out (n_local, P).

        memory: arrays with one entry per local agent, the oracle's own names with a dot in front (``"feedback.b"``).
        It is empty at the start of a run and after an alarm; names that begin with ``"rows."`` are forgotten when
        `partial_fit` brings other rows.
        """

    def fingerprint(self) -> str:
        """Class and parameters: what ranks compare."""


class Backprop(Parameters):
    """The gradient ``grad g_i(w_i)`` by backpropagation.

    Examples
    --------
    >>> from dnnext.local.oracles import Backprop
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [0.0])])
    >>> out = np.empty((1, 2))
    >>> Backprop()(problem, np.array([[1.0, 0.0]]), out, {}), out
    (array([0.5]), array([[1., 1.]]))
    """

    is_gradient = True
    in_one_call = True  # see `dnnext.algorithms.one_call`

    def __call__(self, problem: Problem, w: Array, out: Array, memory: dict[str, Array]) -> Array:
        """``g_i(w_i)`` and, into out, ``grad g_i(w_i)``, in one pass."""
        return problem.loss_grad(w, out)


def check_oracle(oracle: Any, surrogate: Any = None) -> Oracle:
    """The oracle; for None the surrogate's own, or `Backprop()`.

    Raises
    ------
    ValueError
        If it is no oracle, or no gradient although the surrogate needs one; if the surrogate has one of its own.

    Examples
    --------
    >>> check_oracle(None)
    Backprop()
    """
    own = getattr(surrogate, "oracle", None)
    if oracle is None:
        return Backprop() if own is None else own
    if own is not None:
        raise ValueError(f"oracle must be None with surrogate={surrogate!r}, which stands for {own!r}, got {oracle!r}.")
    if not isinstance(oracle, Oracle) or isinstance(oracle, type):
        raise ValueError(f"oracle must be None or an Oracle object, such as Backprop(), got {short(oracle)}.")
    needs = {"gradient"} & set(getattr(surrogate, "needs", ()))
    check_needs(f"surrogate={surrogate!r}", needs, {"gradient"} if oracle.is_gradient else (), {"oracle": oracle})
    return oracle
