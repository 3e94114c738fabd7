"""A link between the sites of one job of NVIDIA FLARE; without nvflare, which `dnnext.sites.flare` joins to it."""

import contextlib
import queue
from collections.abc import Callable, Sequence
from typing import Any

from dnnext._checks import short
from dnnext.sites.links import Link

__all__ = ["FlareLink", "link_of", "use"]

WAITING = 1024  # messages that may wait before anybody takes them

links: dict[str, "FlareLink"] = {}  # the link of the job that this process runs, by the folder of its site


class FlareLink(Link):
    """One site's way to the others of a job.

    Parameters
    ----------
    names : sequence of str
        The sites in rank order.
    site : str
        This one.
    post : callable
        ``post(name, data)`` gives bytes to the engine for the site of this name; it may lose them.
    keys : SignedKeys, optional
        Seals messages; None where sites have no certificates (FLARE's simulator, tests).

    Raises
    ------
    ValueError
        If the site is not among the names, or two have one name.

    Examples
    --------
    >>> sent = []
    >>> link = FlareLink(["a", "b"], "a", lambda name, data: sent.append((name, data)))
    >>> link.send(1, "1", b"rows")
    >>> sent
    [('b', b'rows')]
    >>> link.put("b", b"more")
    >>> link.receive(1.0)
    (1, b'more')
    """

    def __init__(self, names: Sequence[str], site: str, post: Callable[[str, bytes], Any], keys: Any = None) -> None:
        if len(set(names)) != len(names) or site not in names:
            raise ValueError(f"sites must have different names and {site!r} among them, got {short(list(names))}.")
        self.names, self.size, self.rank = tuple(names), len(names), list(names).index(site)
        self._post, self._keys = post, keys
        self._ranks = {name: rank for rank, name in enumerate(names)}
        self._box: queue.Queue[tuple[int, bytes]] = queue.Queue(WAITING)
        self._ended = ""

    def put(self, name: str, data: bytes) -> None:
        """A message of the site that the engine has authenticated under this name; others are dropped."""
        if name in self._ranks and name != self.names[self.rank]:
            with contextlib.suppress(queue.Full):  # it is asked for again
                self._box.put_nowait((self._ranks[name], data))

    def stop(self, sentence: str) -> None:
        """The engine ends the job: the next `receive` raises."""
        self._ended = sentence

    def send(self, to: int, name: str, data: bytes, stored: bool = True) -> None:
        """Give the message to the engine; what it loses is sent again when it is asked for."""
        self._post(self.names[to], data)

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message.

        Raises
        ------
        ConnectionError
            If the engine has ended the job.
        """
        if self._ended:
            raise ConnectionError(self._ended)
        try:
            return self._box.get(timeout=seconds)
        except queue.Empty:
            return None

    def introduction(self) -> str:
        """The certificate of this site and its key for the run."""
        return "" if self._keys is None else str(self._keys.introduction())

    def meet(self, introductions: Sequence[str]) -> None:
        """Check the other sites' certificates and derive keys."""
        if self._keys is not None:
            self._keys.meet(introductions)

    def seal(self, to: int, head: bytes, body: bytes) -> bytes:
        """As `Keyring.seal`, if there are keys."""
        return body if self._keys is None else bytes(self._keys.seal(to, head, body))

    def unseal(self, source: int, head: bytes, body: bytes) -> bytes:
        """As `Keyring.unseal`, if there are keys."""
        return body if self._keys is None else bytes(self._keys.unseal(source, head, body))


def use(folder: Any, link: FlareLink | None) -> None:
    """Name the link of the job that runs for the site of this folder; None when it has ended."""
    if link is None:
        links.pop(str(folder), None)
    else:
        links[str(folder)] = link


def link_of(folder: Any) -> FlareLink:
    """The link of the job that runs for the site of this folder.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = links.get(str(folder))
    if found is None:
        raise ValueError(
            "engine='flare' must run in a job of NVIDIA FLARE: submit one by `dnnext sites submit KIT JOB.toml`, or by "
            "fit_sites() with engine_options={'kit': ...}; got a process without one."
        )
    return found
