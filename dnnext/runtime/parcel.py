"""What one rank hands over and hears in one round, laid out for one message per pair of ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.runtime.agents import ExchangePlan

__all__ = ["Parcel"]

Array = NDArray[Any]


class Parcel:
    """Two buffers of message rows ``[z_i | y_i | scalars_i]``, kept from round to round.

    Attributes
    ----------
    out : (rows to send, width)
        Peer after peer, as `ExchangePlan.send_rows` has them.
    heard : (n_ghost, width)
        Peer after peer, which is the order of the ghosts.
    given, wanted : lists of int
        Numbers to and from each peer.
    """

    def __init__(self) -> None:
        self.out: Array = np.empty((0, 0))
        self.heard: Array = self.out
        self.given: list[int] = []
        self.wanted: list[int] = []
        self._plan: ExchangePlan | None = None
        self._signature: list[Any] = []
        self._parts: list[tuple[int, Array, Array]] = []
        self._ghosts = slice(0)
        self._space: dict[Any, Array] = {}

    def pack(self, rows: Sequence[Array], plan: ExchangePlan) -> None:
        """Fill `out` with the rows that the peers need."""
        signature = [rows[0].dtype, *[array.shape[1] for array in rows]]
        if plan is not self._plan or signature != self._signature:
            self._bind(signature, plan)
        for place, out, _ in self._parts:
            out[...] = rows[place].take(plan.send_rows, 0)

    def unpack(self, rows: Sequence[Array]) -> None:
        """Put what was heard below the local rows."""
        for place, _, heard in self._parts:
            rows[place][self._ghosts] = heard

    def _bind(self, signature: list[Any], plan: ExchangePlan) -> None:
        """Lay the buffers out for another plan or another kind of message."""
        dtype, *widths = signature
        edges = np.cumsum([0, *widths]).tolist()
        self.out = self._room("out", len(plan.send_rows), edges[-1], dtype)
        self.heard = self._room("heard", plan.n_ghost, edges[-1], dtype)
        self.given = (plan.send_counts * edges[-1]).tolist()
        self.wanted = (plan.recv_counts * edges[-1]).tolist()
        columns = [(place, slice(*edges[place : place + 2])) for place, width in enumerate(widths) if width]
        self._parts = [(place, self.out[:, column], self.heard[:, column]) for place, column in columns]
        self._ghosts = slice(plan.n_local, plan.n_local + plan.n_ghost)
        self._plan, self._signature = plan, signature

    def _room(self, name: str, n_rows: int, width: int, dtype: Any) -> Array:
        held = self._space.get((name, dtype))
        if held is None or held.size < n_rows * width:
            held = self._space[name, dtype] = np.empty(n_rows * width, dtype=dtype)
        return held[: n_rows * width].reshape(n_rows, width)
