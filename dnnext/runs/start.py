"""Before the first iteration: whether the parts of a run fit each other, and the weights it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext.problem import row_parts

if TYPE_CHECKING:
    from dnnext.network.mixer import Mixer
    from dnnext.problem import Problem
    from dnnext.runs.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]


def check_parts(recipe: Recipe, problem: Problem, network: Mixer) -> None:
    """What recipe, surrogate, rule for tau and oracle need is offered by the parts around them.

    Raises
    ------
    ValueError
        Naming the first part that lacks something (`dnnext._needs`).
    """
    surrogate, tangents = getattr(recipe, "surrogate", None), problem.tangents
    offers = {*network.offers, *problem.model.offers, *problem.penalty.offers}
    known = {
        "whole_rows": row_parts.shards(problem) is None,
        "square": problem.penalty.quadratic is not None,
        "gradient": recipe.oracle.is_gradient,
        "alike": problem.n_agents == 1 or getattr(surrogate, "is_shared", False),
        "no_tangents": tangents is None,
    }
    offers |= {word for word, holds in known.items() if holds}
    asking = {"surrogate": surrogate, "tau": getattr(recipe, "damping", None), "oracle": recipe.oracle}
    parts = {"network": network, "model": problem.model, "penalty": problem.penalty, "tangents": tangents, **asking}
    check_needs(short(recipe), getattr(recipe, "needs", ()), offers, parts)
    for name, part in asking.items():
        check_needs(f"{name}={short(part)}", getattr(part, "needs", ()), offers, parts)


def starting_weights(problem: Problem, w0: Array | None, random_state: Any) -> Array:
    """The local agents' first weights (n_local, P)."""
    n_agents, n_params = problem.n_agents, problem.n_params
    if w0 is None:
        w0 = problem.model.init(_common_seed(problem, random_state))
        if not np.isfinite(row_parts.one_number(problem.penalty, w0)):  # forbidden: begin with the nearest allowed
            w0 = problem.prox(w0[None].astype(problem.dtype), np.ones(1, problem.dtype))[0]
    w0 = np.asarray(w0)
    if w0.dtype.kind not in "fiu":
        raise ValueError(f"w0 must hold real numbers, got {w0.dtype}.")
    if w0.shape == (n_agents, n_params):
        w0 = w0[problem.runtime.agents.start : problem.runtime.agents.stop]
    elif w0.shape != (n_params,):
        raise ValueError(
            f"w0 must have shape ({n_params},) for a common start or ({n_agents}, {n_params}), got {w0.shape}."
        )
    if not np.all(np.isfinite(w0)):
        raise ValueError("w0 must hold finite numbers, got NaN or infinite ones.")
    if (
        problem.model.layout.n_layers > 1
        and not row_parts.largest(problem, np.atleast_2d(w0 * problem.model.layout.mask)).any()
    ):
        raise ValueError(
            "w0 must not have zero weights only, an exact saddle: hidden units that are all alike stay alike. "
            "Choose random weights."
        )
    if not np.isfinite(problem.penalty.value(np.ravel(w0[:1]) if w0.ndim == 2 else w0)):
        raise ValueError(f"the penalty {problem.penalty!r} is infinite at w0; choose weights that it allows.")
    return np.array(np.broadcast_to(w0, (problem.n_local, n_params)), dtype=problem.dtype)


def _common_seed(problem: Problem, random_state: Any) -> int:
    """One seed for all ranks: the number given, or what the first agent's rank drew."""
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    drawn = _checks.check_random_state(random_state).generate_state(1)[0].astype(np.int64)
    return int(problem.runtime.all_ranks(str(drawn))[0])
