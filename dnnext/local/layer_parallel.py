"""Gradients of residual networks by multigrid in depth, with states and adjoints kept between iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dnnext import _checks
from dnnext._params import Parameters
from dnnext.kernels.residual_formulas import WHOLE
from dnnext.models.layer_parallel import Grid, Propagation
from dnnext.models.resnet import ResNet

if TYPE_CHECKING:
    from dnnext.problem import Problem
    from dnnext.runtime import Communicator

__all__ = ["LayerParallel"]

Array = np.ndarray[Any, np.dtype[Any]]

MOST_CYCLES = 4  # of either kind, before switch="auto" goes serial
STATES = "rows.layers.u", "rows.layers.adjoint"  # in memory, forgotten on other rows
SHARE = 0.02  # of the gradient's norm: the largest error that switch="auto" accepts


class LayerParallel(Parameters):
    """The gradient of a `ResNet` from a few multigrid cycles over its layers (one-shot training).

    States u and adjoints are kept from one iteration to the next; each call makes `forward_cycles` cycles on the
    states, `adjoint_cycles` on the adjoints, and takes the gradient from both [1]_. It is inexact, and near a minimum
    its error is systematic [2]_: the error is estimated by what the last cycles changed in the gradient, relative to
    its norm, and kept in the history as ``gradient_error``.

    Where an agent is a group of ranks (`dnnext.runtime.Grid`), each rank holds the states and adjoints of a contiguous
    part of the layers; every rank has all weights and rows of the agent, and one gradient of P numbers is gathered in a
    call. The numbers are those of one process, bit for bit.

    Parameters
    ----------
    forward_cycles, adjoint_cycles : int
        Cycles of one call; the first call makes one more of each.
    cf, nrelax0, nrelax, max_levels, min_coarse : int
        How the depth is coarsened: see `dnnext.models.MGRIT`.
    switch : {"auto", "never", "serial"}
        "auto": an agent whose estimate exceeds a fiftieth makes one cycle more of each kind at once and in later calls,
        up to four, and propagates exactly after that; "never" keeps the cycles; "serial" propagates exactly throughout.

    Raises
    ------
    ValueError
        If a number is unfit; when called, if the model has no layers to be cut (is no `ResNet`).

    References
    ----------
    .. [1] S. Guenther, L. Ruthotto, J. B. Schroder, E. C. Cyr, N. R. Gauger, Layer-parallel training of deep residual
       neural networks, SIAM J. Math. Data Sci. 2 (2020), section 4.
    .. [2] arXiv 2601.09026 (2026): the bias of inexact layer-parallel gradients.

    Examples
    --------
    >>> from dnnext.algorithms import NEXT
    >>> from dnnext.local import FullLinearization, LayerParallel
    >>> NEXT(FullLinearization(), oracle=LayerParallel(forward_cycles=1)).oracle
    LayerParallel(forward_cycles=1)
    """

    is_gradient = False
    needs = frozenset({"layers"})

    def __init__(
        self,
        forward_cycles: int = 2,
        adjoint_cycles: int = 2,
        cf: int = 4,
        nrelax0: int = 0,
        nrelax: int = 1,
        max_levels: int = 10,
        min_coarse: int = 4,
        switch: str = "auto",
    ) -> None:
        self.forward_cycles = _checks.check_count("forward_cycles", forward_cycles)
        self.adjoint_cycles = _checks.check_count("adjoint_cycles", adjoint_cycles)
        self.cf = _checks.check_count("cf", cf, 2)
        self.nrelax0 = _checks.check_count("nrelax0", nrelax0, 0)
        self.nrelax = _checks.check_count("nrelax", nrelax, 0)
        self.max_levels = _checks.check_count("max_levels", max_levels)
        self.min_coarse = _checks.check_count("min_coarse", min_coarse)
        self.switch = _checks.check_choice("switch", switch, ("auto", "never", "serial"))

    @property
    def grid(self) -> Grid:
        """How the depth is coarsened."""
        return Grid(self.cf, self.nrelax0, self.nrelax, self.max_levels, self.min_coarse)

    def __call__(self, problem: Problem, w: Array, out: Array, memory: dict[str, Array]) -> Array:
        """``g_i(w_i)`` of the propagated states, and the gradient from states and adjoints into out (n_local, P)."""
        self._model(problem)
        is_new = STATES[0] not in memory  # at the start, after an alarm, and on other rows
        if is_new:
            self._begin(problem, memory)
        values = np.zeros(problem.n_local)
        for i in range(problem.n_local):
            values[i] = self._agent(problem, w[i], out[i], memory, i, is_new)
        return values

    def _model(self, problem: Problem) -> ResNet:
        return cast(ResNet, problem.model)

    def _begin(self, problem: Problem, memory: dict[str, Array]) -> None:
        """Memory of every agent: as many rows for each as the largest has, on any rank."""
        model, n = self._model(problem), problem.n_local
        inner = problem.runtime.inner
        with inner.together():
            net = Propagation(model, np.zeros(model.layout.n_params), np.empty((0, 1)), self.grid, _group(inner))
        columns = -(-int(problem.agent_rows.max()) // WHOLE) * WHOLE
        rows = {"X": problem.x, "the targets": problem.target, "the sample weights": problem.weight}
        inner.agree_on({f"{name} of the agents": array for name, array in rows.items()})
        shape = (n, net.n_points, model.width, columns)
        for name in STATES:
            memory[name] = np.zeros(shape, problem.dtype)
        memory.setdefault("layers.extra", np.full(n, -1 if self.switch == "serial" else 0, np.int64))
        memory.setdefault("measure.gradient_error", np.zeros(n))

    def _agent(self, problem: Problem, row: Array, out: Array, memory: dict[str, Array], i: int, is_new: bool) -> float:
        """Value of agent i, gradient into out (P,)."""
        rows = slice(int(problem.offsets[i]), int(problem.offsets[i + 1]))
        x, n_rows = problem.x[rows], rows.stop - rows.start
        if n_rows == 0:
            out[...] = 0
            return 0.0
        model = self._model(problem)
        net = Propagation(model, row, x, self.grid, _group(problem.runtime.inner), problem.n_threads)
        columns = -(-n_rows // WHOLE) * WHOLE
        kept = [memory[name][i, ..., :columns] for name in STATES]
        u, adjoint = (np.ascontiguousarray(states) for states in kept)
        extra = int(memory["layers.extra"][i])
        cycles = [None if extra < 0 else own + extra + is_new for own in (self.forward_cycles, self.adjoint_cycles)]
        if is_new:
            u[...] = net.start()
        before, _ = _all_but_the_last(net.states, u, cycles[0])
        value, delta = loss_and_delta(problem, net.outputs(u), rows)
        if is_new and cycles[1] is not None:
            adjoint[...] = net.first_adjoint(u, delta)
        earlier, _ = _all_but_the_last(lambda a, n: net.adjoints(a, u, delta, n), adjoint, cycles[1])
        net.gradient(u, adjoint, delta, out)
        error, rough = 0.0, np.empty_like(out)
        if cycles[0] is not None:
            net.gradient(before, earlier, delta, rough)
            error = net.relative_change(out, rough)
        while self.switch == "auto" and not error <= SHARE:  # more cycles at once: no gradient known as bad leaves
            most = max(self.forward_cycles, self.adjoint_cycles) + extra
            extra = extra + 1 if most < MOST_CYCLES else -1
            more = 1 if extra > 0 else None
            net.states(u, more)
            value, delta = loss_and_delta(problem, net.outputs(u), rows)
            net.adjoints(adjoint, u, delta, more)
            rough[...] = out
            net.gradient(u, adjoint, delta, out)
            error = net.relative_change(out, rough) if extra > 0 else 0.0
        net.gather(out)
        memory["layers.extra"][i] = extra
        memory["measure.gradient_error"][i] = error
        kept[0][...], kept[1][...] = u, adjoint
        return value


def _group(inner: Communicator) -> Communicator | None:
    """The ranks that share the layers, if there are several."""
    return inner if inner.size > 1 else None


def _all_but_the_last(solve: Any, states: Array, n_cycles: int | None) -> tuple[Array, Array]:
    """All cycles on the states; a copy of them from before the last cycle, and the residuals."""
    if n_cycles is None:
        return states, solve(states, None)
    residuals = solve(states, n_cycles - 1) if n_cycles > 1 else np.zeros(0)
    before = states.copy()
    return before, np.concatenate([residuals, solve(states, 1)])


def loss_and_delta(problem: Problem, f: Array, rows: slice) -> tuple[float, Array]:
    """``sum_m c_m / N loss(d_m, f_m)`` and its derivative in f, of some of the problem's rows."""
    target = problem.target[rows]
    share = np.full(len(f), problem.scale, problem.dtype)
    if problem.weight is not None:
        share = share * problem.weight[rows]
    value = float(np.sum(share * problem.loss.value(f, target), dtype=np.float64))
    return value, np.asarray(problem.loss.grad(f, target) * share[:, None], problem.dtype)
