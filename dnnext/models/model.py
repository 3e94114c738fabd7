"""What a model must offer: a function ``f(w; x)`` of one flat row of weights per agent, and its derivatives.

# Design
# Whatever a model can do besides `Model` stands in its `offers` (`dnnext._needs`): one sentence says what is missing
# and what needs it. Nothing asks which class a model is.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext._checks import short
from dnnext.models.layout import Layout

__all__ = ["Curved", "Fused", "Model", "Rows", "check_model", "input_shape"]

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
        Threads of the kernels; their number never changes a result.

    Examples
    --------
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

    @staticmethod
    def of(x: ArrayLike, dtype: Any = np.float64, n_threads: int = 1) -> "Rows":
        """All rows of x (M, ...) as those of one agent."""
        x = np.ascontiguousarray(x, dtype=dtype)
        return Rows(x, np.array([0, len(x)], dtype=np.int64), n_threads)

    def some(self, agents: slice) -> "Rows":
        """The rows of neighbouring agents, a slice of step 1."""
        first, last, _ = agents.indices(self.n_agents)
        last = max(first, last)
        start, stop = self.offsets[first], self.offsets[last]
        return Rows(self.x[start:stop], self.offsets[first : last + 1] - start, self.n_threads)


class Model(Protocol):
    """A differentiable function ``f(w; x)``; one flat row of weights per agent, or one row for all of them.

    Wherever a method takes `w`, it is (n, P) or (1, P), C-contiguous, in the precision of ``rows.x``. Results are equal
    bit for bit over threads, and over ranks that hold the same agents. `out`, where given, is written and returned. An
    agent without rows adds nothing: its row of `vjp` is zero.

    Attributes
    ----------
    layout : Layout
        Where each parameter lies.
    n_inputs : int or tuple of int
        Shape of one row of x: an int is the number of columns.
    n_outputs : int
        ``Q``.
    offers : frozenset of str
        What the model can do besides: ``"gauss_newton"``, ``"cg"`` and ``"dual"``, the methods of `Curved`;
        ``"loss_grad"``, that of `Fused`; ``"next_step"``, a whole iteration in one kernel call
        (`dnnext.algorithms.one_call`); ``"hidden_layers"``: its attribute ``chain`` is the model as a `Chain`, whose
        arrays lie in the same places of a flat row; ``"feedback"`` and ``"tangent_kernel"``: kernels for what
        `dnnext.local.Feedback` and `dnnext.models.NeuralTangentKernel` do with any other model in Python, in methods
        like those of `MLP`; ``"coefs"``: rows of x are tables (n, d), and ``unpack`` gives a matrix of
        weights and biases per layer, as that of `MLP`. Models without "coefs" may take images.
    """

    @property
    def layout(self) -> Layout:
        """Where each parameter lies."""

    @property
    def n_inputs(self) -> Any:
        """The shape of one row of x: an int is the number of columns."""

    @property
    def n_outputs(self) -> int:
        """``Q``."""

    @property
    def offers(self) -> frozenset[str]:
        """What the model can do besides."""

    @classmethod
    def examples(cls) -> "list[Any]":
        """Small models of the class, all different, on which the contract tests run."""

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


class Costs(NamedTuple):
    """Nanoseconds of one core for every agent, (n,): `gauss_newton_product`, a step of `cg_solve`, and so on."""

    product: Array
    step: Array
    formed: Array
    dual: Array


class Curved(Model, Protocol):
    """A model with kernels for its Gauss-Newton matrix; all others get CG and FISTA from `jvp` and `vjp` alone.

    ``A_i = sum_m J_m' root_m root_m' J_m`` with root (M, Q), diagonals, or (M, Q, R); blocks (n_blocks + 1,) cut
    ``0 : P``. "gauss_newton" in `offers` promises the first three methods, "cg" and "dual" the others; with "cg" the
    product of one block takes ``centred=True``, too: root is then q (M, Q), ``H_m = diag(q_m) - q_m q_m' / sum(q_m)``.
    """

    def gauss_newton(self, w: Array, rows: Rows, root: Array, blocks: Array, out: Array) -> Array:
        """The diagonal blocks of every ``A_i``, packed one after another: (n, sum_b P_b^2)."""

    def gauss_newton_product(
        self, w: Array, rows: Rows, root: Array, v: Array, blocks: Array, out: Array, centred: bool = False
    ) -> Array:
        """``A_i v_i``, or block by block ``A_i,bb v_i,b``: v (n, P) -> (n, P)."""

    def costs(self, n_rows: Array, blocks: Array, columns: int, is_diagonal: bool, has_gram: bool) -> Costs:
        """What the other methods take for agents with so many rows; equal on every rank."""

    def cg_solve(
        self, w: Array, rows: Rows, root: Array, diag: Array, rhs: Array, n_iter: int, tol: float, out: Array,
        centred: bool = False,
    ) -> Array:  # fmt: skip
        """``(A_i + diag(diag_i)) out_i = rhs_i`` by conjugate gradients from 0, n_iter steps at most: (n, P).

        An agent ends when ``|residual_i| <= tol |rhs_i|``.
        """

    def gram(self, rows: Rows) -> Array:
        """What `dual_solve` needs of the inputs alone, ``X_i X_i'``, one after another: (sum_i rows_i^2,)."""

    def dual_solve(
        self, w: Array, rows: Rows, root: Array, gram: Array | None, tau: Array, l2: Array, rhs: Array, blocks: Array,
        out: Array,
    ) -> Array:  # fmt: skip
        """``(A_i + tau_i I + diag(l2)) out_i = rhs_i`` block by block, A never formed.

        tau (n,), l2 (P,), rhs and out (n, P). Returned (n,) int64: 0, or 1 + the first block without a finite solution,
        which is 0.
        """


class Fused(Model, Protocol):
    """A model that evaluates losses with a kernel in one pass over the data: "loss_grad" in `offers`."""

    def loss_grad(
        self, w: Array, rows: Rows, target: Array, weight: Array | None, loss: int, param: float, scale: float,
        value: Array, out: Array | None,
    ) -> None:  # fmt: skip
        """value_i = scale sum_m c_m loss(d_m, f(w_i; x_m)), (n,) float64, and its gradient into out (n, P) or None.

        target d (M, Q); weight c (M,) or None for ones; loss and param: the code of its kernel and its one number.
        """


NAMES = ("layout", "n_inputs", "n_outputs", "offers", "init", "forward", "jvp", "vjp", "fingerprint")


def check_model(model: Any) -> Any:
    """The model given, if it has all that `Model` asks for and no open ends.

    Raises
    ------
    ValueError
        In a sentence that names what is missing.
    """
    missing = [name for name in NAMES if not hasattr(model, name)] if not isinstance(model, type) else list(NAMES)
    if missing:
        raise ValueError(
            f"model must be an object with {', '.join(NAMES)}, got {short(model)} without {', '.join(missing)}."
        )
    if not isinstance(model.layout, Layout):
        raise ValueError(f"layout of {model!r} must be a Layout, got {short(model.layout)}.")
    return model


def input_shape(model: Model) -> tuple[int, ...]:
    """The shape of one row of x: ``(n_inputs,)`` where that is a number."""
    shape = model.n_inputs
    return tuple(shape) if isinstance(shape, tuple) else (shape,)
