"""NEXT: in-network successive convex approximation with gradient tracking."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dnnext import _checks
from dnnext._checks import short
from dnnext.algorithms.base import Algorithm
from dnnext.algorithms.damping import Damping
from dnnext.algorithms.one_call import one_call
from dnnext.algorithms.order import Order, Post, Pre
from dnnext.algorithms.rules import make_damping
from dnnext.algorithms.step_sizes import StepSize
from dnnext.local import Oracle, PartialLinearization, Surrogate
from dnnext.local.oracles import check_oracle

if TYPE_CHECKING:
    from dnnext.local import LocalModel
    from dnnext.network import Network
    from dnnext.problem import Problem
    from dnnext.runs.state import State


ONE_CALL = "next.one_call"  # in the scratch of a state
SHARED_CONTRACTION = 0.01  # shared curvature is worth what agents agree on


class NEXT(Algorithm):
    """Successive convex approximation over a network.

    Every agent i repeats, with the doubly stochastic weights c_ij of the current graph ([1]_, Algorithm 1; [2]_,
    Algorithm 2),

    ``S.1  w_hat_i = argmin_v  model_i(v; w_i) + pi_i'(v - w_i) + tau_i/2 |v - w_i|^2 + r(v),  pi_i = A y_i - grad_i``

    ``     z_i = w_i + step (w_hat_i - w_i)``

    ``S.2  w_i <- sum_j c_ij z_j``

    ``S.3  y_i <- sum_j c_ij y_j + grad_i(new) - grad_i(old)``

    Parameters
    ----------
    surrogate : Surrogate or None
        The convex model; None is `PartialLinearization()`.
    tau : "auto", "ratio", "nielsen", float or Damping
        Strength of the proximal term; "auto" is the secant rule (`dnnext.algorithms.damping.SecantRule`), "signed"
        with shared and "ratio" with exact curvature. "ratio", for shared and exact curvature, tests every iteration and
        takes back what does not lower the objective (`dnnext.algorithms.ratio.RatioRule`); "nielsen" does so with the
        damping of the method of Levenberg and Marquardt (`NielsenRule`). On networks that keep messages, such as those
        with faults, nothing can be taken back, and the two are refused.
    step : "auto" or float
        Step size in (0, 1]; "auto" is 1.
    mu : float
        Diminishing steps ``step[t] = step[t-1] (1 - mu step[t-1])``; 0 keeps the step.
    order : {"auto", "post", "pre"}
        "post" is the order above; "pre" takes the gradient at z before mixing (`dnnext.algorithms.order.Pre`), which
        "auto" does with shared curvature, where tau="auto" is then the signed rule (`dnnext.algorithms.signed`).
    oracle : Oracle or None
        Gives the gradient of S.3 (`dnnext.local.oracles`); None is `Backprop()`, or what the surrogate asks for.

    Raises
    ------
    ValueError
        For a value outside of what is stated here.

    Notes
    -----
    The fast pair: ``NEXT(step=0.5)`` on ``Network(topology, mixing_rounds=1)`` reaches the same gap in about half the
    rounds where data and graph are easy. It is not the default: its objective is not monotone, and it is unsafe on
    stars, with failing links, or where ``sigma_2 > 0.9``.

    References
    ----------
    .. [1] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, IEEE TSIPN 2 (2016).
    .. [2] S. Scardapane, P. Di Lorenzo, A framework for parallel and distributed training of neural networks,
       Neural Networks 91 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from dnnext.algorithms import NEXT
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import L2, MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> shards = [(x[0::2], x[0::2] ** 2), (x[1::2], x[1::2] ** 2)]
    >>> problem = Problem(MLP([1, 4, 1]), SquaredError(), L2(alpha=1e-4), shards=shards)
    >>> result = NEXT().run(problem, Network(Topology.ring(2)), max_iter=30)
    >>> bool(result.history["objective"][-1] < 0.5 * result.history["objective"][0])
    True
    """

    in_one_call = True  # see `dnnext.algorithms.one_call`

    def __init__(
        self,
        surrogate: Surrogate | None = None,
        tau: str | float | Damping = "auto",
        step: str | float = "auto",
        mu: float = 0.0,
        order: str = "auto",
        oracle: Oracle | None = None,
    ) -> None:
        self.surrogate = PartialLinearization() if surrogate is None else surrogate
        if not isinstance(self.surrogate, Surrogate):
            raise ValueError(
                "surrogate must be a Surrogate object, such as PartialLinearization() or FullLinearization(), got "
                f"{short(surrogate)}."
            )
        self.oracle_given, self.oracle = oracle, check_oracle(oracle, self.surrogate)
        self.tau, self.first_step, self.mu, self.order = tau, step, mu, order
        _checks.check_choice("order", order, ("auto", "pre", "post"))
        is_shared = self.surrogate.is_shared
        wants_pre = isinstance(tau, str) and (
            tau in ("ratio", "nielsen") or (tau == "signed" and self.surrogate.is_open)
        )
        is_pre = order == "pre" or (order == "auto" and (is_shared or wants_pre))
        usual = self.surrogate.usual_tau if is_pre else "auto"
        self.damping = make_damping(usual if isinstance(tau, str) and tau == "auto" else tau)
        self._order: Order = Pre(takes_back=self._takes_back) if is_pre else Post()
        if self.damping.needs_pre and not is_pre:
            raise ValueError(
                f"order must be 'pre' with tau={tau!r}, a rule that looks at z before mixing, got {short(order)}. "
                "Choose that, or tau='auto'."
            )
        self.contract_to = SHARED_CONTRACTION if is_shared else Algorithm.contract_to
        is_auto = _checks.is_word(step, "auto")
        self.step_size = StepSize(1.0 if is_auto else _checks.check_positive("step", step, words=("auto",)), mu)
        if self.step_size.step > 1:
            raise ValueError(f"step must be in (0, 1], got {step}: NEXT moves at most to the best response.")

    def chosen(self, problem: Problem, network: Network) -> NEXT:
        """The recipe with the curvature that suits the problem and network, where it is "auto"."""
        surrogate, why = self.surrogate.chosen(problem, network)
        if surrogate is self.surrogate:
            return self
        given = self.get_params(deep=False) | {"surrogate": surrogate}
        is_tested, is_signed = self._takes_back, isinstance(self.tau, str) and self.tau == "signed"
        if surrogate.is_shared and self.order == "post":  # the recipe of the papers was asked for
            given["surrogate"], why = surrogate.safer(), "curvature='auto' is 'own': order='post'."
        elif surrogate.is_shared and isinstance(self.tau, str) and self.tau == "auto":
            given["tau"] = "ratio"
        elif not surrogate.is_shared and ((is_tested and problem.n_agents > 1) or (is_signed and self.order == "auto")):
            given["tau"] = "auto"
            why += f" tau='auto': tau={self.tau!r} needs models that agree."
        recipe = type(self)(**given)
        recipe.why, recipe.columns = why, recipe.surrogate.columns
        return recipe

    def start(self, problem: Problem, s: State) -> None:
        """tau at the common start."""
        s.takes_inexact = self.damping.takes_inexact
        self.damping.start(problem, self.surrogate, s)

    def step(self, problem: Problem, network: Network, s: State) -> None:
        """One iteration of NEXT."""
        model = self._model(problem, network, s)
        if self.damping.only_mixes(s):
            s.w_hat[...] = s.w
        else:
            model.argmin(out=s.w_hat)  # S.1
        s.move(self.step_size(s.t))
        self._order.move(problem, network, s, self.oracle, partial(self.damping.numbers, s, model))  # S.2, S.3
        model.learn(s)
        self.damping.update(s, model)

    def _model(self, problem: Problem, network: Network, s: State) -> LocalModel:
        """The convex model at s.w, after the messages that the order and the curvature need before it."""
        self._order.begin(network, s)
        self.surrogate.gather(problem, network, s)
        return self.surrogate.at(problem, s)

    def fast_step(self, problem: Problem, network: Network, s: State) -> bool:
        """The same in one kernel call, where every part is built in and the network is small."""
        if s.has_new_rows:
            return False
        if ONE_CALL not in s.scratch:
            others = self, self._order, self.oracle
            s.scratch[ONE_CALL] = one_call(problem, network, self.surrogate, self.damping, others, s)
        call = s.scratch[ONE_CALL]
        return call is not None and call(s, self.step_size(s.t))

    def retreat(self) -> NEXT | None:
        """From shared to own curvature, after the last alarm: the order, the rule and the model of the paper."""
        if not self.surrogate.is_shared:
            return None
        tau = "auto" if self.damping.needs_pre else self.tau  # what goes with "pre" alone
        own = NEXT(self.surrogate.safer(), tau, self.first_step, self.mu, "post", self.oracle_given)
        own.columns = own.surrogate.columns if self.columns else {}
        return own

    @property
    def _takes_back(self) -> bool:
        """Whether the rule for tau may take an iteration back."""
        return "memoryless" in self.damping.needs

    @property
    def title(self) -> str:
        """What messages call this recipe."""
        return repr(self) if self.surrogate.is_shared else "each agent's own curvature"
