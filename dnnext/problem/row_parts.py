"""Numbers of whole rows of weights, and rows of data, also where each rank of an agent holds a part of them only.

A model whose rows are spread over ranks has three attributes: `shards`, the communicator of the ranks that together
hold a row, each number once, `cut`, this rank's part of a whole row, and `tiled`, its part of rows of data. For all
other models the functions here need no message. What acts number by number (steps, mixing, tracking, the prox of most
penalties) needs none in either case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnnext._checks import short
from dnnext._needs import check_needs
from dnnext.kernels.sums import row_dots
from dnnext.models.model import Rows
from dnnext.problem.spread_groups import SpreadGroups
from dnnext.runtime import Communicator

if TYPE_CHECKING:
    from dnnext.problem.passes import Passes
    from dnnext.problem.penalty import Penalty
    from dnnext.problem.shards import Stack

__all__ = [
    "add_up",
    "bind_penalty",
    "cut",
    "dots",
    "keep_rows",
    "largest",
    "n_params",
    "norms",
    "penalty_value",
    "shards",
]

Array = NDArray[Any]


def shards(problem: Passes) -> Communicator | None:
    """The ranks that together hold a row of weights; None where every row is whole."""
    return problem.shards


def keep_rows(problem: Passes, data: Stack) -> tuple[Rows, Array, Array | None, NDArray[np.int64]]:
    """(rows, target, weight, offsets) that this rank keeps of the rows of its agents, which all ranks of an agent have.

    Where rows of weights are spread, so are these: inputs in tiles, targets and sample weights row by row.
    """
    rows, comm = Rows(data.x, data.offsets, problem.n_threads), shards(problem)
    if comm is None:
        return rows, data.target, data.weight, data.offsets
    comm.agree_on({"the targets of the agent": data.target, "the sample weights of the agent": data.weight})
    held = problem.model.tiled(rows)  # type: ignore[attr-defined]
    weight = None if data.weight is None else held.cut(data.weight, data.offsets)
    return held, held.cut(data.target, data.offsets), weight, held.own_offsets


def dots(problem: Passes, u: Array, v: Array) -> NDArray[np.float64]:
    """``u_i'v_i`` of every row: (n, P), (n, P) -> (n,)."""
    found = row_dots(u, v)
    add_up(problem, found)
    return found


def add_up(problem: Passes, found: NDArray[np.float64]) -> None:
    """What was summed over the part of every row held here becomes the sum over the whole row, in place: (n,)."""
    comm = shards(problem)
    if comm is not None:
        comm.allreduce(found)


def norms(problem: Passes, u: Array) -> NDArray[np.float64]:
    """``||u_i||`` of every row: (n, P) -> (n,)."""
    return np.asarray(np.sqrt(dots(problem, u, u)))


def largest(problem: Passes, u: Array) -> NDArray[np.float64]:
    """The largest ``|u_ip|`` of every row: (n, P) -> (n,)."""
    comm = shards(problem)
    found: NDArray[np.float64] = np.max(np.abs(u), axis=1, initial=0).astype(np.float64)
    if comm is not None:
        comm.allreduce(found, "max")
    return found


def one_number(penalty: Penalty, w: Array) -> Array:
    """``r(w)`` of the part held here, which a penalty written in Python might return as several numbers."""
    found = np.array(penalty.value(w), dtype=np.float64)
    if found.ndim:
        raise ValueError(f"value of {penalty!r} must be one number, got shape {found.shape}.")
    return found


def penalty_value(problem: Passes, w: Array) -> float:
    """``r(w)`` of one row (P,)."""
    found, comm = one_number(problem.penalty, w), shards(problem)
    if comm is not None:
        comm.allreduce(found)
    return float(found)


def n_params(problem: Passes) -> int:
    """Parameters of a whole row."""
    comm = shards(problem)
    return problem.n_params if comm is None else int(problem.model.n_whole)  # type: ignore[attr-defined]


def cut(problem: Passes, row: Array) -> Array:
    """The part held here of a whole row (n_params,)."""
    return row if shards(problem) is None else np.asarray(problem.model.cut(row))  # type: ignore[attr-defined]


def bind_penalty(problem: Passes, penalty: Penalty) -> Penalty:
    """The penalty bound to the layout of the model.

    Raises
    ------
    ValueError
        If rows are spread over ranks and the penalty acts neither number by number nor on groups of a built-in kind.
    """
    options: dict[str, Any] = {"dtype": problem.dtype, "n_threads": problem.n_threads}
    if shards(problem) is not None and "by_number" not in penalty.offers:
        if "terms" in penalty.offers:
            return SpreadGroups(penalty, problem.model).bind(problem.model.layout, **options)
        check_needs(f"model={short(problem.model)}", {"by_number"}, penalty.offers, {"penalty": penalty})
    return penalty.bind(problem.model.layout, **options)
