"""The problem, ``U(w) = G(w) + r(w)`` with ``G = sum_i g_i``, and the part of it that the agents held here know."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext._needs import check_needs
from dnnext._params import fingerprint
from dnnext.models.model import Curved, Fused, Model
from dnnext.problem import products, row_parts, tangent_terms
from dnnext.problem.curvature import RowCurvature
from dnnext.problem.losses import Loss
from dnnext.problem.passes import Passes
from dnnext.problem.penalties import NoPenalty, Penalty
from dnnext.problem.shards import Held, Stack, check_dtype, check_parts, check_shard, check_stack, count_shards, stack
from dnnext.problem.tangents import Tangents
from dnnext.runtime import InProcess, Runtime

__all__ = ["Problem"]

Array = NDArray[Any]

STATE_ROWS = 16  # rows of P numbers per agent that a run holds at least: state, buffers of mixing, saved iterations
# Packed Gauss-Newton matrices of a group of agents stay below this many bytes (or hold one agent per thread): little
# beside the state of a run, and enough work for a call.
MEMORY_BUDGET = 4 * 2**20


class Problem(Passes):
    """What all agents minimise together, and the part of it that the agents held here know.

    ``minimise U(w) = G(w) + r(w)``,  ``G(w) = sum_i g_i(w)``,
    ``g_i(w) = (1/N) sum_{m in S_i} c_m loss(d_m, f(w; x_m))``,  ``N = sum of all c_m of all agents``.

    Wherever a method takes weights `w`, these are one row per local agent, (n_local, P), or one row for all of them,
    (P,) or (1, P).

    Parameters
    ----------
    model : Model
        ``f(w; x)``, such as `MLP`.
    loss : Loss
        Convex in the raw output.
    penalty : Penalty or None
        ``r(w)``; bound to the model's layout here. None is no penalty.
    shards : sequence of (X_i, D_i) or (X_i, D_i, c_i)
        The data of the agents held here, in agent order: X_i (rows, d), or (rows, ...) as the model takes it, targets
        D_i (rows,) or (rows, Q), sample weights c_i (rows,) >= 0 or None for ones. An agent without rows is a relay:
        its gradient is zero.
    n_total : float, optional
        ``N``, if it is not the sum of all sample weights.
    runtime : Runtime, optional
        Where the agents live; all of them here by default.
    n_threads : int, default=1
        Threads of the kernels; their number never changes a result.
    dtype : {"float64", "float32"}, default="float64"
        Precision of data and iterates; losses are added up in float64.
    tangents : Tangents or None
        A term ``mu R`` of derivatives along directions of the inputs, which every ``g_i`` then contains.

    Attributes
    ----------
    model, loss, penalty, runtime, n_threads, dtype
        As above, the penalty bound.
    x, target, weight, offsets : arrays
        The stacked rows (M, ...), (M, Q), (M,) or None; the rows of local agent i are ``offsets[i] : offsets[i + 1]``.
    rows : Rows
        x, offsets and n_threads, as the model takes them. Where the weights are spread over the ranks of an agent, x is
        this rank's tile of the inputs and target, weight and offsets are those of the rows that it holds.
    n_local, n_agents, n_params, n_samples : int
        Agents held here, agents in all, ``P``, and ``M``.
    agent_weight : (n_local,) float64
        ``N_i``, the sum of the sample weights of each local agent.
    agent_rows : (n_agents,) int64
        Rows of every agent of the network.
    n_total, scale : float
        ``N`` and ``1/N``.

    Raises
    ------
    ValueError
        If a shard, the number of shards, n_total, n_threads or dtype is unfit; the sentence names agent and argument.

    References
    ----------
    S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks, Neural Networks
    91 (2017), section 2; here divided by N, so that doubling the data changes nothing.

    Examples
    --------
    >>> from dnnext.problem import L2, MLP, Problem, SquaredError
    >>> shards = [([[1.0]], [1.0]), ([[2.0]], [0.0])]
    >>> problem = Problem(MLP([1, 1]), SquaredError(), L2(alpha=1.0), shards)
    >>> problem.local_values(np.array([1.0, 0.0])), problem.value(np.array([1.0, 0.0]))
    (array([0., 1.]), 1.5)
    """

    in_one_call = True  # see `dnnext.algorithms.one_call`

    def __init__(
        self,
        model: Model,
        loss: Loss,
        penalty: Penalty | None,
        shards: Sequence[Any],
        *,
        n_total: float | None = None,
        runtime: Runtime | None = None,
        n_threads: int = 1,
        dtype: Any = "float64",
        tangents: Tangents | None = None,
    ) -> None:
        self._args = (model, loss, penalty)
        self.model, self.loss, self.dtype = model, loss, check_dtype(dtype)
        check_parts(model, loss, penalty)
        self.tangents = tangent_terms.check_tangents(tangents, model)
        self.fused = cast(Fused, model) if "loss_grad" in getattr(model, "offers", ()) else None
        self.n_threads = _checks.check_count("n_threads", n_threads)
        self.runtime = InProcess(count_shards(shards)) if runtime is None else runtime
        self.n_params = model.layout.n_params
        self._check_memory()
        bound = NoPenalty() if penalty is None else penalty
        self.penalty = row_parts.bind_penalty(self, bound)
        self.n_agents, self.n_local = self.runtime.n_agents, len(self.runtime.agents)
        data = self._gather(shards)
        self.agent_weight = data.agent_weight
        self.agent_rows, summed = self._what_all_hold(data) if data.held is None else data.held
        self.rows, self.target, self.weight, self.offsets = row_parts.keep_rows(self, data)
        self.x, self.n_samples = self.rows.x, len(self.target)
        what = "the sum of the sample weights of all agents" if n_total is None else "n_total"
        self.n_total = _checks.check_positive(what, summed if n_total is None else n_total)
        self.scale = 1 / self.n_total
        with self.runtime.together():
            self.directions, self.beta = tangent_terms.look_along(self)
        prints = (model.fingerprint(), loss.fingerprint(), bound.fingerprint(), str(self.dtype), self.n_total)
        self.runtime.agree(
            "the problem (model, loss, penalty, dtype, n_total, tangents)", (*prints, fingerprint(tangents))
        )

    def _check_memory(self) -> None:
        n_local = len(self.runtime.agents)
        what = f"a state of {n_local} agents with {self.n_params} parameters each"
        with self.runtime.together():
            n_bytes = STATE_ROWS * n_local * self.n_params * self.dtype.itemsize
            _checks.check_memory(what, n_bytes, "use fewer agents per process, fewer units, or float32")

    def with_shards(self, shards: Sequence[Any], *, n_total: float | None = None) -> Self:
        """The same problem on other data: model, loss, penalty, runtime, threads and precision stay.

        Parameters
        ----------
        shards, n_total
            As for the class.
        """
        options: dict[str, Any] = {"runtime": self.runtime, "n_threads": self.n_threads, "dtype": self.dtype}
        options["tangents"] = self.tangents
        return type(self)(*self._args, shards, n_total=n_total, **options)

    # What the local agents know.

    def local_values(self, w: Array) -> NDArray[np.float64]:
        """``g_i(w_i)`` of every local agent, without the penalty: (n_local,) float64."""
        return self._loss_grad(self._weights(w), None)

    def loss_grad(self, w: Array, out: Array) -> NDArray[np.float64]:
        """``g_i(w_i)``, (n_local,) float64, and its gradient, written into out (n_local, P), in one pass."""
        return self._loss_grad(self._weights(w), out)

    def grad(self, w: Array, out: Array | None = None) -> Array:
        """``grad g_i(w_i) = (1/N) sum_m c_m J_m' loss'(d_m, f(w_i; x_m))``: (n_local, P), zero for a relay."""
        out = np.empty((self.n_local, self.n_params), self.dtype) if out is None else out
        self._loss_grad(self._weights(w), out)
        return out

    def tangent_terms(self, w: Array) -> NDArray[np.float64]:
        """What `tangents` adds to ``g_i(w_i)``, (n_local,) float64; zeros without any."""
        return tangent_terms.terms(self, self._weights(w))

    # What all agents together minimise; equal on every rank.

    def value(self, w_bar: Array) -> float:
        """``U(w_bar) = G(w_bar) + r(w_bar)`` over all agents; w_bar (P,)."""
        self._check_one_row(w_bar)
        return float(self.runtime.sum_agents(self.local_values(w_bar))) + row_parts.penalty_value(self, w_bar)

    def smooth_value_grad(self, w_bar: Array) -> tuple[float, Array]:
        """``G(w_bar)`` and ``grad G(w_bar)`` (P,) over all agents, added up in float64 in agent order; w_bar (P,)."""
        total = self.runtime.sum_agents(self.smooth_parts(w_bar))
        return float(total[0]), total[1:].astype(self.dtype)

    def smooth_parts(self, w_bar: Array) -> NDArray[np.float64]:
        """What the local agents add to `smooth_value_grad`: their ``g_i`` and its gradient, (n_local, 1 + P)."""
        self._check_one_row(w_bar)
        parts = np.empty((self.n_local, 1 + self.n_params))
        grad = np.empty((self.n_local, self.n_params), self.dtype)
        parts[:, 0] = self.loss_grad(w_bar, grad)
        parts[:, 1:] = grad
        return parts

    def prox(self, v: Array, s: Array) -> Array:
        """``argmin_u 1/2 ||u - v_i||^2 + s_i r(u)`` of every row, in the problem's precision: v (A, P), s (A,).

        Raises
        ------
        ValueError
            If a penalty written in Python returns another shape.
        """
        out = np.ascontiguousarray(self.penalty.prox(v, s), dtype=self.dtype)
        if out.shape != v.shape:
            raise ValueError(f"prox of {self.penalty!r} must return the shape of v, {v.shape}, got {out.shape}.")
        return out

    # The curvature of the linearised network: A_i = (1/N) sum_m c_m J_m' S_m S_m' J_m.

    def gauss_newton(
        self, w: Array, root: Array, blocks: Array | None = None, agents: slice = slice(None), out: Array | None = None
    ) -> Array:
        """The diagonal blocks of ``A_i = sum_m J_m' root_m root_m' J_m``, packed one after another.

        Parameters
        ----------
        w : (n_local, P), (1, P) or (P,)
        root : what `root` returned
        blocks : (n_blocks + 1,) int64, optional
            Boundaries that cut ``0 : P``; one block by default.
        agents : slice, default all
            The local agents wanted.
        out : (agents, sum_b P_b^2), optional

        Returns
        -------
        (agents, sum_b P_b^2)
        """
        first, last, step = agents.indices(self.n_local)
        if step != 1:
            raise ValueError(f"agents must be a slice of step 1, got {_checks.short(agents)}.")
        model = self._curved("the Gauss-Newton matrix (solver 'primal')", "gauss_newton")
        cuts, weights = self._blocks(blocks), self._weights(w)
        if out is None:
            shape = max(last - first, 0), sum(int(size) ** 2 for size in np.diff(cuts))
            what = f"{shape[0]} Gauss-Newton matrices of {self.n_params} parameters"
            n_bytes = shape[0] * shape[1] * self.dtype.itemsize
            _checks.check_memory(what, n_bytes, "use solver='cg', more blocks (n_blocks), or surrogate='full'")
            out = np.empty(shape, self.dtype)
        own = weights if len(weights) == 1 else weights[first:last]
        root = root[self.offsets[first] : self.offsets[max(first, last)]]
        return model.gauss_newton(own, self.rows.some(agents), root, cuts, out)

    def gauss_newton_product(
        self, w: Array, root: Array | RowCurvature, v: Array, blocks: Array | None = None, out: Array | None = None
    ) -> Array:
        """``A_i v_i``, or block by block ``A_i,bb v_i,b``, without keeping A: v (n_local, P) -> (n_local, P).

        For a `RowCurvature` without weights, or with blocks, or with a model without "gauss_newton", it is
        ``J'(H (J v))`` by `jvp` and `vjp`.
        """
        out = np.empty((self.n_local, self.n_params), self.dtype) if out is None else out
        v, cuts = np.ascontiguousarray(v, self.dtype), self._blocks(blocks)
        model = cast(Curved, self.model)
        if isinstance(root, RowCurvature):
            if len(cuts) == 2 and "cg" in model.offers and root.weights is not None:
                return model.gauss_newton_product(self._weights(w), self.rows, root.weights, v, cuts, out, centred=True)
        elif "gauss_newton" in model.offers:
            return model.gauss_newton_product(self._weights(w), self.rows, root, v, cuts, out)
        return products.gauss_newton_product(self, w, root, v, cuts, out)

    def gauss_newton_diagonal(self, w: Array, root: Array) -> Array:
        """The diagonal of every ``A_i``: (n_local, P)."""
        return self.gauss_newton(w, root, np.arange(self.n_params + 1, dtype=np.int64))

    def gauss_newton_trace(self, w: Array, root: Array | RowCurvature) -> NDArray[np.float64]:
        """The trace of every ``A_i``, (n_local,) float64; estimated where `gauss_newton_product` takes two passes."""
        if "gauss_newton" in self.model.offers and not isinstance(root, RowCurvature):
            return np.asarray(self.gauss_newton_diagonal(w, root).sum(axis=1, dtype=np.float64))
        return products.gauss_newton_trace(self, w, root)

    @cached_property
    def keeps_gram(self) -> bool:
        """Whether `gram` is kept: if it is no larger than the state at any agent, so that every rank decides alike."""
        return int(self.agent_rows.max()) ** 2 <= STATE_ROWS * self.n_params

    @cached_property
    def gram(self) -> Array | None:
        """``X_i X_i'`` of every local agent, one after another, (sum_i rows_i^2,); None where it outgrows the state."""
        return self._curved("the matrix X X'", "dual").gram(self.rows) if self.keeps_gram else None

    def cg_solve(
        self, w: Array, root: Array | RowCurvature, diag: Array, rhs: Array, n_iter: int, tol: float, out: Array
    ) -> Array:
        """``(A_i + diag(diag_i)) out_i = rhs_i`` in one call: see `dnnext.models.Curved.cg_solve`.

        A `RowCurvature` must have weights.
        """
        model = self._curved("all steps of conjugate gradients at once", "cg")
        q = root.weights if isinstance(root, RowCurvature) else root
        if q is None:
            raise ValueError(f"conjugate gradients in one call need the weights of {self.loss!r}, which has none.")
        centred = isinstance(root, RowCurvature)
        return model.cg_solve(self._weights(w), self.rows, q, diag, rhs, n_iter, tol, out, centred)

    def dual_solve(self, w: Array, root: Array, tau: Array, l2: Array, rhs: Array, blocks: Array, out: Array) -> Array:
        """``(A_i + tau_i I + diag(l2)) out_i = rhs_i`` in the space of rows: see `dnnext.models.Curved.dual_solve`."""
        model = self._curved("solver 'dual'", "dual")
        return model.dual_solve(self._weights(w), self.rows, root, self.gram, tau, l2, rhs, blocks, out)

    def agent_groups(self, numbers_per_agent: int) -> list[slice]:
        """Slices of the local agents, in order, whose work arrays fit 4 MB, each of a multiple of n_threads agents.

        Parameters
        ----------
        numbers_per_agent : int
            Numbers of this problem's precision that one agent needs, say ``sum_b P_b^2``.
        """
        fit = MEMORY_BUDGET // max(1, numbers_per_agent * self.dtype.itemsize)
        size = max(fit - fit % self.n_threads, self.n_threads)  # no thread stands idle at the end of a group
        return [slice(k, min(k + size, self.n_local)) for k in range(0, self.n_local, size)]

    def __repr__(self) -> str:
        return f"Problem({self.model!r}, {self.loss!r}, {self.penalty!r}, n_agents={self.n_agents}, N={self.n_total:g})"

    # Inside.

    def _gather(self, shards: Sequence[Any]) -> Stack:
        """The shards checked and stacked; an unfit shard is refused on every rank, so that none waits for another.

        A `Stack` is taken as it is, without a copy.
        """
        with self.runtime.together():
            if isinstance(shards, Stack):
                return check_stack(shards, self.runtime.agents, self.model, self.loss, self.dtype)
            if len(shards) != self.n_local:
                raise ValueError(f"shards must hold one shard per agent held here ({self.n_local}), got {len(shards)}.")
            checked = [
                check_shard(shard, agent, self.model, self.loss, self.dtype)
                for agent, shard in zip(self.runtime.agents, shards, strict=True)
            ]
        return stack(checked, self.model, self.dtype)

    def _what_all_hold(self, data: Stack) -> Held:
        get_rows = self.runtime.later_agents(data.n_rows)
        weight = float(self.runtime.sum_agents(self.agent_weight))
        return Held(get_rows(), weight)

    def _check_one_row(self, w_bar: Array) -> None:
        if np.shape(w_bar) != (self.n_params,):
            raise ValueError(
                f"w_bar must be one row of weights, shape ({self.n_params},), got {np.shape(w_bar)}; take the mean."
            )

    def _blocks(self, blocks: Array | None) -> NDArray[np.int64]:
        """Block boundaries as int64, one block if None."""
        if blocks is None:
            return np.array([0, self.n_params], dtype=np.int64)
        return np.ascontiguousarray(blocks, dtype=np.int64)

    def _loss_grad(self, w: Array, out: Array | None) -> NDArray[np.float64]:
        """Values of all local agents, gradients into out unless None; one pass where both parts have a kernel."""
        return tangent_terms.loss_grad(self, w, out)

    def _curved(self, name: str, need: str) -> Curved:
        """The model, if it offers what `name` needs."""
        check_needs(name, {need}, self.model.offers, {"model": self.model})
        return cast(Curved, self.model)
