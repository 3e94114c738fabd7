"""One process without others: nothing to send."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from dnnext.runtime.communicator import Communicator, Messages, Tally

__all__ = ["Alone"]

Array = NDArray[Any]


class Alone(Communicator):
    """The communicator of one rank.

    Examples
    --------
    >>> alone = Alone()
    >>> alone.rank, alone.size, alone.texts("a")
    (0, 1, ['a'])
    """

    def __init__(self) -> None:
        self.rank, self.size, self.members, self.tally = 0, 1, (0,), Tally()

    def split(self, colour: int) -> "Alone":
        """Itself once more."""
        return Alone()

    def _begin(self, out: Messages, into: Messages) -> Callable[[], None]:
        for rank, _ in [*out, *into]:
            self._refuse(rank)
        return lambda: None

    def _send(self, a: Array, to: int) -> None:
        self._refuse(to)

    def _receive(self, a: Array, source: int) -> None:
        self._refuse(source)

    @staticmethod
    def _refuse(rank: int) -> None:
        raise ValueError(f"a peer must be another rank of the communicator, got {rank} where there is only rank 0.")
