"""What one rank sends and receives in one round, laid out for one message per pair of ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.runtime.blocks import ExchangePlan

__all__ = ["Parcel"]

Array = NDArray[Any]


class Parcel:
    """Two buffers of message rows ``[z_i | y_i | scalars_i]``, kept from round to round.

    Attributes
    ----------
    out : (rows to send, width)
        Peer after peer, as `ExchangePlan.send_rows` has them.
    received : (n_ghost, width)
        Peer after peer, which is the order of the ghosts.
    to_peers, from_peers : lists of (rank, array)
        The rows of `out` and of `received` that go to and come from each peer.
    """

    def __init__(self) -> None:
        self.out: Array = np.empty((0, 0))
        self.received: Array = self.out
        self.to_peers: list[tuple[int, Array]] = []
        self.from_peers: list[tuple[int, Array]] = []
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
        """Put what was received below the local rows."""
        for place, _, received in self._parts:
            rows[place][self._ghosts] = received

    def _bind(self, signature: list[Any], plan: ExchangePlan) -> None:
        """Lay the buffers out for another plan or another kind of message."""
        dtype, *widths = signature
        edges = np.cumsum([0, *widths]).tolist()
        self.out = self._space_for("out", len(plan.send_rows), edges[-1], dtype)
        self.received = self._space_for("received", plan.n_ghost, edges[-1], dtype)
        self.to_peers = _per_peer(self.out, plan.peers, plan.send_counts)
        self.from_peers = _per_peer(self.received, plan.peers, plan.recv_counts)
        columns = [(place, slice(*edges[place : place + 2])) for place, width in enumerate(widths) if width]
        self._parts = [(place, self.out[:, column], self.received[:, column]) for place, column in columns]
        self._ghosts = slice(plan.n_local, plan.n_local + plan.n_ghost)
        self._plan, self._signature = plan, signature

    def _space_for(self, name: str, n_rows: int, width: int, dtype: Any) -> Array:
        held = self._space.get((name, dtype))
        if held is None or held.size < n_rows * width:
            held = self._space[name, dtype] = np.empty(n_rows * width, dtype=dtype)
        return held[: n_rows * width].reshape(n_rows, width)


def _per_peer(rows: Array, peers: Sequence[int], counts: Array) -> list[tuple[int, Array]]:
    """The rows of each peer that has any."""
    stops = np.cumsum(counts).tolist()
    return [(r, rows[stop - n : stop]) for r, n, stop in zip(peers, counts.tolist(), stops, strict=True) if n]
