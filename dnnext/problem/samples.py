"""Some rows of every agent: what a curvature, or the first iterations, can do with instead of all rows.

# Design
# An agent sorts its rows by target, equal ones in an order drawn from a seed and its number, and takes rows at even
# distances: so classes, and ranges of a regression's targets, keep the shares that they have of all rows. What is taken
# depends on the agent alone, never on processes or threads. A problem of these rows is made once and kept as long as
# the problem.
# Fresh slices draw one row from every stretch of this order, by seed, agent and iteration. Their problem is one, too,
# whose rows are overwritten: to make one anew the ranks would have to agree on it, by messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks
from dnnext.problem import row_parts
from dnnext.problem.kept import Kept

if TYPE_CHECKING:
    from dnnext.problem.objective import Problem

__all__ = ["LEAST_ROWS", "auto_rows", "check_rows", "fresh_problem", "most_rows", "order_of_rows", "sampled_problem"]

Array = NDArray[Any]

ROWS = ("all", "auto")
LEAST_ROWS, SHARE, PER_CLASS = 128, 32, 16  # "auto": a 32nd of an agent's rows, but 128, and 16 times the classes
SEED = 7
SAMPLES: Kept[tuple[Any, ...], Problem] = Kept()
SLICES: Kept[bytes, Slices] = Kept()


def check_rows(value: Any) -> str | int:
    """A positive count of rows, "all" or "auto", named curvature_rows."""
    if _checks.is_word(value, *ROWS):
        return str(value)
    return _checks.check_count("curvature_rows", value, words=ROWS)


def auto_rows(rows: Array, n_classes: int = 0) -> Array:
    """``max(128, n_i / 32, 16 n_classes)`` for agents of rows (n,), rounded up.

    Examples
    --------
    >>> auto_rows(np.array([0, 500, 32000]))
    array([ 128,  128, 1000])
    """
    return np.asarray(np.maximum(max(LEAST_ROWS, PER_CLASS * n_classes), -(-rows // SHARE)))


def most_rows(wanted: str | int, held: Array, n_classes: int = 0) -> Array:
    """How many rows are taken of agents that hold `held` rows (n,): that many, or `auto_rows`."""
    return auto_rows(held, n_classes) if isinstance(wanted, str) else np.full_like(held, min(wanted, int(held.max())))


def order_of_rows(target: Array, agent: int) -> Array:
    """Positions of the rows (n,) of an agent by target (n, Q), equal targets in an order from the agent's number.

    Of several outputs the largest one, and its value, are what counts.

    Examples
    --------
    >>> target = np.array([[1.0], [0.0], [1.0], [0.0]])
    >>> target[order_of_rows(target, 3)].ravel()
    array([0., 0., 1., 1.])
    """
    drawn = np.random.default_rng([SEED, agent]).permutation(len(target))
    if len(target) == 0:
        return drawn
    mixed = target[drawn]
    return drawn[np.lexsort((mixed.max(axis=1), mixed.argmax(axis=1)))]


def sampled_problem(problem: Problem, rows: Array, keep_total: bool = True) -> Problem:
    """The problem in which agent i of the network has at most ``rows_i`` of its rows, none of weight zero among them.

    Parameters
    ----------
    problem : Problem
    rows : (n_agents,) int array
        Equal on every rank.
    keep_total : bool
        Whether N is as before, so that ``kappa_i = N / N_i`` counts the weights ``N_i`` of the rows that were taken;
        else N is what all rows taken weigh.

    Returns
    -------
    Problem
        The problem itself, where no agent has more rows; else it is made once and kept.
    """
    if np.all(problem.agent_rows <= rows) or row_parts.shards(problem) is not None:
        return problem
    return SAMPLES.once(problem, (rows.tobytes(), keep_total), lambda: _sampled(problem, rows, keep_total))


def fresh_problem(problem: Problem, rows: Array, t: int) -> Problem:
    """`sampled_problem` with rows drawn for iteration t; good until it is asked for another iteration.

    Returns
    -------
    Problem
        The problem itself, where no agent has more rows.
    """
    if np.all(problem.agent_rows <= rows) or row_parts.shards(problem) is not None:
        return problem
    return SLICES.once(problem, rows.tobytes(), lambda: Slices(problem, rows)).at(problem, t)


class Slices:
    """A problem of some rows of every agent, which are others in each iteration; it keeps no reference to the whole.

    Parameters
    ----------
    problem : Problem
        Of all rows.
    rows : (n_agents,) int array
        How many of every agent of the network.
    """

    def __init__(self, problem: Problem, rows: Array) -> None:
        self.some, self.t = _sampled(problem, rows, True), -1
        cuts = zip(problem.offsets[:-1], problem.offsets[1:], problem.runtime.agents, strict=True)
        self.orders = [_order(problem, slice(a, b), agent) for a, b, agent in cuts]

    def at(self, problem: Problem, t: int) -> Problem:
        """The problem with the rows of iteration t."""
        if t == self.t:
            return self.some
        some, self.t = self.some, t
        for i, (agent, order) in enumerate(zip(problem.runtime.agents, self.orders, strict=True)):
            own = slice(some.offsets[i], some.offsets[i + 1])
            size = own.stop - own.start
            if len(order) <= size:  # all of them, already there
                continue
            ends = np.arange(size + 1) * len(order) // size
            drawn = np.random.default_rng([SEED, agent, t]).random(size)
            taken = problem.offsets[i] + np.sort(order[ends[:-1] + (drawn * np.diff(ends)).astype(np.int64)])
            some.x[own], some.target[own] = problem.x[taken], problem.target[taken]
            if some.weight is not None and problem.weight is not None:
                some.weight[own] = problem.weight[taken]
                some.agent_weight[i] = some.weight[own].sum(dtype=np.float64)
        vars(some).pop("gram", None)  # of the rows before
        return some


def _sampled(problem: Problem, rows: Array, keep_total: bool) -> Problem:
    shards = []
    for i, agent in enumerate(problem.runtime.agents):
        own = slice(problem.offsets[i], problem.offsets[i + 1])
        taken = _taken(problem, own, int(rows[agent]), agent)
        weight = None if problem.weight is None else problem.weight[own][taken]
        shards.append((problem.x[own][taken], problem.target[own][taken], weight))
    return problem.with_shards(shards, n_total=problem.n_total if keep_total else None)


def _taken(problem: Problem, own: slice, most: int, agent: int) -> Array:
    """Which of an agent's rows: all of them if they are not more, in their own order."""
    order = _order(problem, own, agent)
    if len(order) > most:
        order = order[(2 * np.arange(most) + 1) * len(order) // (2 * most)]
    return np.sort(order)


def _order(problem: Problem, own: slice, agent: int) -> Array:
    """`order_of_rows` of an agent, without rows of weight zero."""
    order = order_of_rows(problem.target[own], agent)
    return order if problem.weight is None else order[problem.weight[own][order] > 0]
