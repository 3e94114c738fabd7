"""Surrogates: the strongly convex model each agent minimises in step S.1.

# Design
# One formula covers them all (method of successive convex approximation; Scardapane & Di Lorenzo 2017, eq. 11-13;
# the scaling kappa is SONATA's, Scutari & Sun 2019):
#
#   w_hat_i = argmin_v kappa_i [L_i(v) - L_i(w_i) - grad_i'(v - w_i)] + G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v)
#   L_i(v)  = (1/N) sum_m c_m loss(d_m, f(w_i; x_m) + J_m (v - w_i)),       G_i = A y_i
#
# A surrogate decides kappa, the weight blocks and the solver; the solver (solvers.py) sees a convex subproblem only.
# `Surrogate.at` forms the model anchored where the run stands; the same object is then asked for its minimiser, and by
# the rule for tau for its curvature, so that the rule judges the model that was really used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext.local import common, exact, quasi_newton, solvers
from dnnext.local.full import FullLinearization, LinearModel
from dnnext.local.local_model import At, LocalModel, OneFactor, Surrogate
from dnnext.local.one_factor import one_factor
from dnnext.local.sharing import PAIRS, SHARES, Choice, check_allowed, choose_curvature
from dnnext.local.subproblem import CG_STEPS, SAMPLED_CG_STEPS
from dnnext.local.unit import mean_curvature, some_rows
from dnnext.problem import samples, synthetic
from dnnext.problem.curvature import RowCurvature, curvature_at, row_shares
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.network import Network
    from dnnext.problem import Problem

__all__ = ["FullLinearization", "LinearModel", "LocalModel", "PartialLinearization", "Surrogate", "mean_curvature"]

Array = np.ndarray[Any, np.dtype[Any]]

CURVATURES = ("own", "shared", "exact", "auto")  # their places are numbers in the history
BLOCKS = Kept[int, Array]()  # boundaries of the weight blocks, by their number
ROOTS = Kept[tuple[Any, ...], Array]()  # of quadratic losses, by what kappa depends on


class GaussNewtonModel(LocalModel):
    """``kappa_i/2 (v - w_i)'A_i(v - w_i) + G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v)``, A_i formed at w_i."""

    surrogate: PartialLinearization

    def __init__(self, surrogate: PartialLinearization, problem: Problem, s: At) -> None:
        super().__init__(surrogate, problem, s)
        self.sub = sub = surrogate.subproblem(problem, s)
        self.solver = solvers.choose(sub) if surrogate.solver == "auto" else surrogate.solver
        self.memory, self._last = s.memory, (self.w, self.w)  # a vector, and its product with the base
        self.correction = sub.correction = self._make_correction()

    def argmin(self, out: Array) -> None:
        """The minimiser of the model above, by the chosen solver."""
        if self.surrogate.exact:
            exact.best_response(self.sub, self.surrogate.kappas(self.problem), self.surrogate.solver, out)
        else:
            solvers.solve(self.sub, self.solver, out)

    def product(self, v: Array) -> Array:
        """``kappa_i A_i v_i`` with A_i, or its diagonal blocks, and what the correction adds."""
        product = self._base_product(v)
        return product if self.correction is None else np.asarray(product + self.correction.product(v))

    def learn(self, s: At) -> None:
        """A new pair for the quasi-Newton correction: the step, and the gradient change along it."""
        if self.correction is None:
            return
        step = s.z.astype(np.float64) - s.w_old
        change = self.problem.n_agents * (s.y.astype(np.float64) - s.y_old)
        quasi_newton.learn(s.memory, self.correction, step, change, self._base_product(step))

    def _base_product(self, v: Array) -> Array:
        """Also asked for once more by the rule for tau."""
        known, product = self._last
        if known is self.w or not np.array_equal(known, v):
            product = self.sub.problem.gauss_newton_product(self.w, self.sub.root, v, self.sub.blocks)
            if self.surrogate.is_shared:
                self._last = v.copy(), product
        return product

    def _make_correction(self) -> quasi_newton.Correction | None:
        """What `learn` has gathered, or None where there is no correction: the model is then the base alone."""
        surrogate = self.surrogate
        if not (surrogate.is_shared and surrogate.quasi_newton) or surrogate.n_blocks > 1 or self.solver == "dual":
            return None
        quasi_newton.begin(self.memory, self.w, surrogate.quasi_newton)
        keep_ridge = self.problem.penalty.quadratic is None  # descent asks for a positive definite B
        return quasi_newton.Correction(self.memory, self._base_product, keep_ridge)


class PartialLinearization(Surrogate):
    """The network is linearised, the convex loss is kept (PL): a damped Gauss-Newton model of the whole cost.

    Agent i minimises, with ``A_i = (1/N) sum_m c_m J_m' H_m J_m`` its own generalised Gauss-Newton matrix,

    ``kappa_i/2 (v - w_i)' A_i (v - w_i) + G_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v)``

    which is the model of [1]_, eq. 11-12, itself for the squared error, and one (prox-)Newton step on it for other
    losses.

    Parameters
    ----------
    kappa : "auto" or float
        Weight of the own curvature, of no other. "auto" is ``N / N_i``, so that it stands for everyone's [2]_; 1 is
        the choice of [1]_.
    exact : bool
        Solve the convex subproblem with the true loss to rounding (1e-12 in float64) instead (research; dearer).
    inner_iter : int or None
        Most inner iterations of iterative solvers; None is 50 sweeps or FISTA steps, 10 steps of conjugate gradients, 5
        where the curvature is that of some rows.
    n_blocks : int
        The weights are cut into this many blocks, each solved with the others fixed at w_i (Jacobi), on its own core;
        only diagonal blocks of A_i are formed ([1]_, section 4).
    solver : {"auto", "primal", "dual", "cg", "fista"}
        How the subproblem is solved; "auto" takes the cheapest by the model of ``dnnext.local.solvers.choose``, where
        conjugate gradients, which are not exact, count 1.3 times as dear under the automatic rule for tau, else three
        times, and with curvature of some rows, l2 and one block "cg".
    curvature : {"own", "shared", "exact", "auto"}
        What stands for ``kappa_i A_i``. "own": the agent's own matrix. "shared": that of synthetic inputs with the mean
        and covariance of all inputs, the same at every agent (`dnnext.problem.synthetic`); every agent learns this mean
        and covariance. Not for losses whose curvature depends on the targets. "exact": the sum of all agents' matrices,
        added up along a spanning tree of the graph in every iteration at new weights, unless the rule for tau keeps it
        (`dnnext.network.Network.sum`): ``(P^2 + P) / 2`` numbers per link and way and twice the radius of the graph in
        rounds; on a way every agent learns the sum over the agents below it, and then all learn the whole sum. It needs
        a fixed graph and a model that forms such matrices (`MLP`). A run mixes to 0.01 with "shared" and "exact",
        unless the network was given a contraction of its own. "auto": the run chooses one of these when it begins
        (`dnnext.local.sharing.choose_curvature`); "own" in ``partial_fit``, whose rows change.
    quasi_newton : int
        Pairs of steps and gradient changes that correct "shared" curvature (`dnnext.local.quasi_newton`); 0 switches it
        off. With n_blocks > 1 and with the solver "dual" there is no correction.
    share : {"curvature", "moments", "nothing"}
        What may be sent beside weights and trackers: sums of Gauss-Newton matrices; moments of the d inputs (each
        agent's ``d + d^2`` sums, once); nothing. "auto" keeps to it, more is refused. Who learns what: :doc:`/planes`.
    curvature_rows : "all", "auto" or int
        Rows of every agent that its own curvature is taken from: all, ``max(128, n_i / 32)`` of its n_i rows and with
        `Softmax` at least 16 times the number of classes ("auto"), or this many; classes have the shares that they have
        of all rows (`dnnext.problem.samples`). kappa is that of the rows taken; gradients are always of all rows, so
        that the minimum is the same. On large data an iteration then takes little more than a gradient, and learns a
        little less.
    curvature_slices : {"fixed", "fresh"}
        Whether these rows are the same throughout a run, or others in every iteration, drawn by agent and iteration.

    Raises
    ------
    ValueError
        For a value outside of what is stated here.

    References
    ----------
    .. [1] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).
    .. [2] G. Scutari, Y. Sun, Distributed nonconvex constrained optimization over time-varying digraphs, Math. Prog.
       176 (2019).

    Examples
    --------
    >>> from dnnext.local import PartialLinearization
    >>> PartialLinearization(n_blocks=4)
    PartialLinearization(n_blocks=4)
    """

    growth, decay = 2.0, 2.0
    needs = frozenset({"gradient"})

    def __init__(
        self,
        kappa: str | float = "auto",
        exact: bool = False,
        inner_iter: int | None = None,
        n_blocks: int = 1,
        solver: str = "auto",
        curvature: str = "own",
        quasi_newton: int = PAIRS,
        share: str = "curvature",
        curvature_rows: str | int = "all",
        curvature_slices: str = "fixed",
    ) -> None:
        if not _checks.is_word(kappa, "auto"):
            _checks.check_positive("kappa", kappa, words=("auto",))
        if not isinstance(exact, bool | np.bool_):
            raise ValueError(f"exact must be True or False, got {short(exact)}.")
        if inner_iter is not None:
            _checks.check_count("inner_iter", inner_iter, words=(None,))
        _checks.check_count("n_blocks", n_blocks)
        _checks.check_choice("solver", solver, ("auto", *solvers.SOLVERS))
        self.kappa = kappa
        self.exact, self.inner_iter = bool(exact), inner_iter
        self.n_blocks = n_blocks
        self.solver = solver
        self.curvature = _checks.check_choice("curvature", curvature, CURVATURES)
        self.share = _checks.check_choice("share", share, SHARES)
        self.quasi_newton = _checks.check_count("quasi_newton", quasi_newton, 0)
        check_allowed(curvature, share, kappa, quasi_newton)
        self.is_open, self.is_shared = curvature == "auto", curvature in ("shared", "exact")
        self.usual_tau = {"shared": "signed", "exact": "ratio"}.get(curvature, "auto")
        self.columns = {"curvature": float(CURVATURES.index(curvature))}
        self.curvature_rows = samples.check_rows(curvature_rows)
        self.curvature_slices = _checks.check_choice("curvature_slices", curvature_slices, ("fixed", "fresh"))
        if curvature_slices == "fresh" and curvature_rows == "all":
            raise ValueError("curvature_rows must be 'auto' or a number with curvature_slices='fresh', got 'all'.")
        if curvature_rows != "all" and (exact or curvature != "own" or self.kappa != "auto"):
            raise ValueError(
                f"curvature_rows must be 'all' unless curvature='own', exact=False and kappa='auto', got "
                f"{short(curvature_rows)}."
            )
        if exact and self.is_shared:
            raise ValueError(f"exact=True needs the targets, which curvature={curvature!r} has not; use 'own'.")
        if self.is_shared or exact or n_blocks > 1 or curvature_rows != "all":
            self.needs |= {"whole_rows"}
        if curvature == "exact":
            self.needs |= {"tree", "gauss_newton"}
            self.first_tau, self.safeguard = 1.0, 0.1
            if n_blocks > 1 or solver not in ("auto", "primal"):
                raise ValueError(
                    f"curvature='exact' forms one whole matrix: leave n_blocks=1 and solver='auto', got {n_blocks} and "
                    f"{short(solver)}."
                )

    def safer(self) -> PartialLinearization:
        """The same with each agent's own curvature."""
        return PartialLinearization(
            self.kappa, self.exact, self.inner_iter, self.n_blocks, self.solver, curvature_rows=self.curvature_rows,
            curvature_slices=self.curvature_slices,
        )  # fmt: skip

    def chosen(self, problem: Problem, network: Network) -> tuple[PartialLinearization, str]:
        """The surrogate that a run on this problem and network uses, and a sentence if that was to be chosen."""
        if self.curvature != "auto":
            return self, ""
        choice = choose_curvature(problem, network, self.share, self.inner_iter)
        if self.exact or self.n_blocks > 1 or self.solver not in ("auto", "primal") or self.kappa != "auto":
            choice = Choice("own", "exact, n_blocks, solver or kappa ask for it")
        surrogate = PartialLinearization(
            self.kappa, self.exact, self.inner_iter, self.n_blocks, self.solver, choice.curvature,
            self.quasi_newton if choice.curvature == "shared" else PAIRS, self.share,
        )  # fmt: skip
        return surrogate, f"curvature='auto' is {choice.curvature!r}: {choice.why}."

    def rows(self, problem: Problem, t: int = 0) -> Problem:
        """The problem whose rows make the curvature of iteration t: own ones, some of them, or synthetic inputs."""
        if self.curvature == "shared":
            return synthetic.synthetic_problem(problem)
        if self.curvature_rows == "all":
            return problem
        n_classes = problem.loss.n_classes(problem.target.shape[1])
        n_rows = samples.most_rows(self.curvature_rows, problem.agent_rows, n_classes)
        if self.curvature_slices == "fresh":
            return samples.fresh_problem(problem, n_rows, t)
        return samples.sampled_problem(problem, n_rows)

    def kappas(self, problem: Problem) -> Array:
        """kappa_i (n_local,); 0 at agents without rows (relays)."""
        own = problem.agent_weight
        held = own > 0
        if self.is_shared:
            value = np.ones(len(own))  # a mean over synthetic inputs, or a sum, stands for everyone's as it is
        elif self.kappa == "auto":
            value = np.divide(problem.n_total, own, out=np.zeros(len(own)), where=held)
        else:
            value = np.full(len(own), self.kappa)
        return np.where(held, value, 0.0)

    def gather(self, problem: Problem, network: Network, s: At) -> None:
        """The sum of all agents' matrices, where the curvature is "exact"."""
        if self.curvature == "exact":
            common.gather(problem, network, s, self.inner_iter)

    def at(self, problem: Problem, s: At) -> LocalModel:
        """The Gauss-Newton model at s.w."""
        if self.curvature == "exact":
            return common.CommonModel(self, problem, s, self.blocks(problem), self.inner_iter)
        return GaussNewtonModel(self, problem, s)

    def in_one_call(self, problem: Problem, s: At) -> OneFactor | None:
        """Cholesky factors or conjugate gradients on each agent's own curvature, where the model is solved so."""
        if self.is_shared or self.exact or self.rows(problem) is not problem:
            return None
        return one_factor(
            problem, self.solver, lambda: self.subproblem(problem, s), lambda: row_shares(problem, self.kappas(problem))
        )

    def subproblem(self, problem: Problem, s: At) -> solvers.Subproblem:
        """What the solver is asked at s, not yet corrected."""
        rows = self.rows(problem, s.t)
        return solvers.Subproblem(
            rows,
            w=s.w,
            root=self.scaled_root(rows, s.w),
            slope=problem.n_agents * s.y,
            tau=s.tau.astype(s.w.dtype),
            blocks=self.blocks(problem),
            start=s.w_hat,
            inner_iter=None if self.exact else self.inner_iter,
            tol=exact.tolerance(s.w.dtype) if self.exact else solvers.TOLERANCE,
            cg_steps=CG_STEPS if self.is_shared or rows is problem else SAMPLED_CG_STEPS,
            takes_inexact=s.takes_inexact,
        )

    def blocks(self, problem: Problem) -> Array:
        """Boundaries of the weight blocks, cut once per problem."""
        layout, n_blocks = problem.model.layout, self.n_blocks
        return BLOCKS.once(problem, n_blocks, lambda: solvers.cut_blocks(layout, problem.penalty, n_blocks))

    def scaled_root(self, problem: Problem, w: Array) -> Array | RowCurvature:
        """Root of kappa_i c_m/N H_m, row by row: kappa_i A_i = sum_m J_m' root_m root_m' J_m.

        Of losses of very many outputs it is formed only for the solvers that cannot do without.
        """
        formed = self.exact or self.solver in ("primal", "dual")
        changes = self.curvature_slices == "fresh" and problem.weight is not None
        if problem.loss.is_quadratic and not problem.has_wide_root and not changes:  # the same at all weights
            key = self.kappa, self.is_shared
            return ROOTS.once(problem, key, lambda: curvature_at(problem, None, w, self.kappas(problem)))
        return curvature_at(problem, None, w, self.kappas(problem), formed)  # type: ignore[no-any-return]

    def scale(self, problem: Problem, w: Array) -> float:
        """``b = max_j kappa_j trace(A_j) / P``, or ``sum_j trace(A_j) / P`` if exact, see `mean_curvature`.

        With kappa="auto" and own curvature from at most 256 rows of every agent.
        """
        rows = self.rows(problem)
        if not self.is_shared and self.kappa == "auto":
            rows = some_rows(problem if self.curvature_slices == "fresh" else rows)
        return mean_curvature(rows, w, self.kappas(rows), added_up=self.curvature == "exact")
