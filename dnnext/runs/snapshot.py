"""A run or a part of it, saved: one form for checkpoints, model files, the alarm and `partial_fit`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dnnext.problem import Problem

__all__ = ["Snapshot", "check_snapshot", "data_marks"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Snapshot:
    """What something depends on that goes on later: all that the next iteration needs, say, and the history so far.

    Attributes
    ----------
    agents : dict of name to array
        With one entry per local agent.
    shared : dict of name to array
        Equal on every rank.
    numbers : dict
        Plain values, equal on every rank, that JSON can hold.

    Examples
    --------
    >>> whole = Snapshot({"w": np.zeros((2, 3))}, {}, {"t": 7})
    >>> whole.add("watch", Snapshot({}, {}, {"best_iteration": 5}))
    >>> whole.numbers
    {'t': 7, 'watch.best_iteration': 5}
    >>> whole.below("watch").numbers
    {'best_iteration': 5}
    """

    agents: dict[str, Array] = field(default_factory=dict)
    shared: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Snapshot:
        """The same with arrays of its own."""
        agents, shared = ({k: np.array(v) for k, v in part.items()} for part in (self.agents, self.shared))
        return Snapshot(agents, shared, dict(self.numbers))

    def add(self, name: str, other: Snapshot) -> None:
        """Take another snapshot in, its entries as ``name.entry``."""
        self.agents |= {f"{name}.{key}": value for key, value in other.agents.items()}
        self.shared |= {f"{name}.{key}": value for key, value in other.shared.items()}
        self.numbers |= {f"{name}.{key}": value for key, value in other.numbers.items()}

    def below(self, name: str) -> Snapshot:
        """The entries ``name.entry`` as a snapshot of their own; empty if there are none."""
        start = f"{name}."
        return Snapshot(*[
            {key.removeprefix(start): value for key, value in part.items() if key.startswith(start)}
            for part in (self.agents, self.shared, self.numbers)
        ])  # fmt: skip


def data_marks(problem: Problem) -> Array:
    """A fingerprint of every local agent's rows, (n_local, 2) uint64: a run goes on with its own data only."""
    marks = np.zeros((problem.n_local, 2), dtype=np.uint64)
    parts = ((problem.x, problem.rows.offsets), (problem.target, problem.offsets), (problem.weight, problem.offsets))
    for i in range(problem.n_local):
        digest = hashlib.sha256()
        for array, cuts in parts:
            digest.update(b"-" if array is None else np.ascontiguousarray(array[cuts[i] : cuts[i + 1]]).tobytes())
        marks[i] = np.frombuffer(digest.digest()[:16], dtype=np.uint64)
    return marks


def check_snapshot(problem: Problem, saved: Snapshot) -> None:
    """The snapshot is of this problem, or a sentence on every rank."""
    with problem.runtime.together():
        if "w" not in saved.agents:
            raise ValueError("the checkpoint is damaged: it holds no weights.")
        w, wanted = saved.agents["w"], (problem.n_local, problem.n_params)
        if w.shape != wanted or w.dtype != problem.dtype:
            raise ValueError(
                f"the checkpoint holds weights {w.shape} {w.dtype}, but the problem has {wanted} {problem.dtype}; "
                "resume with the layers and the dtype it was written with."
            )
        if "data" in saved.agents:
            other = np.flatnonzero((saved.agents["data"] != data_marks(problem)).any(axis=1))
            if len(other):
                raise ValueError(
                    f"the rows of agent {problem.runtime.agents[other[0]]} are not those the checkpoint was "
                    "written with; resume with the same data in the same order."
                )
