"""What carries bytes between sites: the contract of a link, and links in memory that lose, copy and reorder for tests.

A link knows nothing of ranks' programs: it sends bytes to a site and hands over what came, with the sender as the
engine has authenticated it. It may lose, copy and reorder; `Delivery` puts that right.
"""

import queue
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from dnnext import _checks

__all__ = ["Link", "MemoryLink", "memory_links"]


class Link(ABC):
    """One site's way to the others.

    Attributes
    ----------
    rank, size : int
        This site, and how many there are.
    names : tuple of str
        The names of the sites in rank order.
    keeps : bool
        Whether the engine stores messages and delivers them again to a site that was started again.

    Examples
    --------
    >>> a, b = memory_links(2)
    >>> a.send(1, "1", b"rows")
    >>> b.receive(1.0)
    (0, b'rows')
    """

    rank: int
    size: int
    names: tuple[str, ...]
    keeps: bool = False

    @abstractmethod
    def send(self, to: int, name: str, data: bytes, stored: bool = True) -> None:
        """Send bytes to a site; it may return before they have left.

        Parameters
        ----------
        to : int
            The receiver.
        name : str
            Unique among the stored messages to this receiver; the same message is sent again under the same name.
        data : bytes
            What to send.
        stored : bool
            False for a question that is worth nothing later.
        """

    @abstractmethod
    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message of any site and its authenticated sender; None after so many seconds without one."""

    def deliver(self, take: Callable[[int, bytes], None], is_full: Callable[[], bool]) -> None:
        """Call ``take(sender, data)`` for every message from now on, where that is quicker than to wait in `receive`.

        It is called by one thread at a time, and not while ``is_full()``. Errors still come from `receive`.
        """
        return

    def again(self) -> None:
        """Messages may be missing: look whether the engine still has some. Called from any thread."""
        return

    def close(self, patience: float = 5.0) -> None:
        """Leave, once what was sent is safe, at the latest after so many seconds."""
        return

    # Sealing, for engines whose relay could read

    def introduction(self) -> str:
        """What the other sites must know to seal messages to this one; sent in the open."""
        return ""

    def meet(self, introductions: Sequence[str]) -> None:
        """Learn the keys of all sites; from here on `seal` and `unseal` are used."""
        return

    def seal(self, to: int, head: bytes, body: bytes) -> bytes:
        """The body as only that site can read it; the head stays open and is protected against changes."""
        return body

    def unseal(self, source: int, head: bytes, body: bytes) -> bytes:
        """What `seal` closed.

        Raises
        ------
        ValueError
            If it was not sealed by that site for this one, or was changed on the way.
        """
        return body


class MemoryLink(Link):
    """A link to sites of this process; `memory_links` makes them.

    Parameters
    ----------
    boxes : list of queue.Queue
        Where the messages of each site arrive.
    rank : int
        This site.
    faults : random.Random, optional
        Draws what is lost, copied or held back.
    lost, copied, held : float
        Shares of the messages; those held back arrive after the next one.

    Examples
    --------
    >>> links = memory_links(3)
    >>> links[2].names
    ('site-0', 'site-1', 'site-2')
    """

    def __init__(
        self, boxes: "list[queue.Queue[tuple[int, bytes]]]", rank: int, faults: random.Random | None = None,
        lost: float = 0.0, copied: float = 0.0, held: float = 0.0,
    ) -> None:  # fmt: skip
        self.rank, self.size = rank, len(boxes)
        self.names = tuple(f"site-{r}" for r in range(len(boxes)))
        self._boxes, self._faults, self._shares = boxes, faults, (lost, copied, held)
        self._held: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        self.is_cut = False  # set it to drop everything, both ways

    def send(self, to: int, name: str, data: bytes, stored: bool = True) -> None:
        """Put the message in the receiver's box."""
        with self._lock:
            waiting, self._held = self._held, []
            lost, copied, held = self._shares
            draw = 1.0 if self._faults is None else self._faults.random()
            if self.is_cut or draw < lost:
                messages = []
            elif draw < lost + copied:
                messages = [(to, data)] * 2
            elif draw < lost + copied + held:
                messages, self._held = [], [(to, data)]
            else:
                messages = [(to, data)]
            for receiver, message in [*messages, *waiting]:
                self._boxes[receiver].put((self.rank, message))

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message in the box."""
        try:
            message = self._boxes[self.rank].get(timeout=seconds)
        except queue.Empty:
            return None
        return None if self.is_cut else message


def memory_links(
    n_sites: int, seed: int | None = None, lost: float = 0.0, copied: float = 0.0, held: float = 0.0
) -> list[MemoryLink]:
    """Links between sites that are threads of this process.

    Parameters
    ----------
    n_sites : int
        How many.
    seed : int, optional
        Of the faults; default: none.
    lost, copied, held : float
        Shares of the messages that are lost, arrive twice, or arrive after the next one.

    Returns
    -------
    list of MemoryLink
        In rank order.

    Examples
    --------
    >>> [link.rank for link in memory_links(2)]
    [0, 1]
    """
    n_sites = _checks.check_count("n_sites", n_sites)
    boxes: list[queue.Queue[tuple[int, bytes]]] = [queue.Queue() for _ in range(n_sites)]
    draws = [None if seed is None else random.Random(f"{seed} {rank}") for rank in range(n_sites)]
    return [MemoryLink(boxes, rank, draws[rank], lost, copied, held) for rank in range(n_sites)]
