"""What a model must offer: a function ``f(w; x)`` of one flat row of weights per agent, and its derivatives."""

from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from dnnext.models.layout import Layout

__all__ = ["Curved", "Model", "Rows"]

Array = NDArray[Any]


class Rows(NamedTuple):
    """The inputs of several agents; agent i has the rows ``offsets[i] : offsets[i + 1]``.

    Attributes
    ----------
    x : (M, ...) array
        Images stay images.
    offsets : (n + 1,) int64
        Of n agents, from 0 to M.
    n_threads : int
        Threads of the kernels; they change who computes, never what.

    Examples
    --------
    >>> import numpy as np
    >>> Rows(np.zeros((3, 2)), np.array([0, 1, 3])).n_agents
    2
    """

    x: Array
    offsets: NDArray[Any]
    n_threads: int = 1

    @property
    def n_agents(self) -> int:
        """How many agents hold these rows."""
        return len(self.offsets) - 1


class Model(Protocol):
    """A differentiable function ``f(w; x)``; one flat row of weights per agent, or one row for all of them.

    Wherever a method takes `w`, it is (n, P) or (1, P), C-contiguous, in the precision of ``rows.x``. Results are equal
    bit for bit over threads, and over ranks that hold the same agents. `out`, where given, is written and returned.

    Attributes
    ----------
    layout : Layout
        Where each parameter lies.
    n_inputs : int or tuple of int
        Shape of one row of x: an int is the number of columns.
    n_outputs : int
        ``Q``.
    offers : frozenset of str
        What the model can do besides: ``"gauss_newton"`` for the methods of `Curved`.
    """

    layout: Layout
    n_outputs: int
    offers: frozenset[str]

    def sized(self, n_inputs: Any, n_outputs: int) -> "Model":
        """The same model with its open ends closed: a model given to an estimator may leave inputs and outputs open."""

    def init(self, random_state: Any = None) -> Array:
        """A start (P,)."""

    def forward(self, w: Array, rows: Rows, out: Array | None = None) -> Array:
        """``f(w_i; x_m)``, (M, Q)."""

    def jvp(self, w: Array, rows: Rows, v: Array, out: Array | None = None) -> Array:
        """``J_m(w_i) v_i``: v (n, P) -> (M, Q)."""

    def vjp(self, w: Array, rows: Rows, u: Array, out: Array | None = None) -> Array:
        """``sum_m J_m(w_i)' u_m`` over the rows of each agent: u (M, Q) -> (n, P)."""

    def fingerprint(self) -> str:
        """Class and all parameters, equal for equal models: what ranks compare, never `repr`."""


class Curved(Model, Protocol):
    """A model with kernels for its Gauss-Newton matrix; all others get CG and FISTA from `jvp` and `vjp` alone."""

    def gauss_newton(self, w: Array, rows: Rows, root: Array, blocks: Array, out: Array) -> Array:
        """Diagonal blocks of ``A_i = sum_m J_m' root_m root_m' J_m``, packed: (n, sum_b P_b^2)."""

    def gauss_newton_product(self, w: Array, rows: Rows, root: Array, v: Array, blocks: Array, out: Array) -> Array:
        """``A_i v_i``, or block by block: v (n, P) -> (n, P)."""
