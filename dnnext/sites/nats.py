"""Sites over NATS: one relay stores what sites send and delivers it again; only jobs.py imports nats beside this file.

Design
------
* Messages to be kept go to subjects ``dn.RUN.SESSION.RECEIVER.SENDER.NUMBER`` of a JetStream stream; questions go to
  ``dnc.RUN.SESSION.RECEIVER.SENDER`` and are not stored. The relay lets a site publish under its own name only, so the
  sender in a subject is the one of its certificate.
* A site that is started again with the same rows and parameters makes the same calls; what it waits for is in the
  stream, and what it sends a second time is dropped. So it goes on with the same bits.
* After a lost connection the site reads on behind the last message that it has, and sends what was not acknowledged.
* A process that opens a run again (a second `fit`) is in the next session of it.
"""

import asyncio
import logging
import queue
import ssl
import threading
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from dnnext.sites.links import Link
from dnnext.sites.relay import JOBS, STREAM, check_token
from dnnext.sites.sealing import Keyring

try:
    import nats
    from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig
except ImportError as error:
    raise ImportError(
        f"engine='nats' needs nats-py and cryptography: `pip install nats-py cryptography`. Python reports: {error}"
    ) from error

__all__ = ["NatsLink", "open_stream", "tls_context"]

log = logging.getLogger("dnnext.sites")

WEEK = 7 * 86400.0
PATIENCE = 20.0  # seconds for the first connection
START = 60.0  # seconds until all is open
PAUSE = 0.2  # seconds between two attempts to reach the relay
QUIET = 5.0  # seconds after which messages are read anew where an awaited one is missing
sessions: dict[tuple[str, ...], int] = {}  # how often this process has opened a run


def tls_context(cert: Any, key: Any, ca: Any) -> ssl.SSLContext:
    """TLS 1.3 with this certificate, towards servers of this authority.

    Raises
    ------
    ValueError
        If a file is missing or unfit.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(str(cert), str(key))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"cert, key and ca must be PEM files that belong together, got {error}.") from None
    return context


async def _connect(relay: str, context: ssl.SSLContext, name: str, **options: Any) -> Any:
    """A connection, or a sentence that says why not."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(f"{type(error).__name__}: {error}".strip(": "))

    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": PAUSE}  # 0 is without end
    options = {"error_cb": note, "connect_timeout": 10, **once, **options}
    inbox = f"_IN.{name}".encode()
    try:
        client = await asyncio.wait_for(
            nats.connect(relay, tls=context, name=name, inbox_prefix=inbox, **options), PATIENCE
        )
        await client.flush(10)
    except Exception as error:
        reason = "; ".join(dict.fromkeys([*errors, f"{type(error).__name__}: {error}".strip(": ")]))
        raise ConnectionError(
            f"the relay {relay} cannot be reached as {name}, or refused its certificate: {reason}."
        ) from error
    return client


class NatsLink(Link):
    """A site's link to the others over one relay, with mutual TLS, outbound only; messages are sealed end to end.

    Parameters
    ----------
    relay : str
        Such as ``"tls://relay.example:4222"``.
    site : str
        This site.
    sites : sequence of str
        All sites in rank order, the same everywhere.
    run : str
        Names the run, the same everywhere and new for every run.
    cert, key, ca : path
        PEM files: this site's certificate and private key, and the authority's certificate.
    relay_name : str, optional
        The name in the relay's certificate; default: the host in `relay`.

    Raises
    ------
    ValueError
        If a parameter is unfit.
    ConnectionError
        If the relay is not reached, is not the one it should be, or refuses this site.
    """

    keeps = True

    def __init__(
        self, relay: str, site: str, sites: Sequence[str], run: str, cert: Any, key: Any, ca: Any,
        relay_name: str | None = None,
    ) -> None:  # fmt: skip
        self.names = tuple(check_token("a site", name) for name in sites)
        if len(set(self.names)) != len(self.names) or site not in self.names:
            raise ValueError(f"sites must have different names and {site!r} among them, got {list(self.names)}.")
        self.rank, self.size = self.names.index(site), len(self.names)
        address = urlsplit(relay)
        if address.scheme != "tls" or not address.hostname:
            raise ValueError(f"relay must be an address like 'tls://host:4222', got {relay!r}.")
        place = (relay, site, check_token("run", run))
        sessions[place] = sessions.get(place, 0) + 1
        self.run = f"{run}.{sessions[place]}"
        self._ranks = {name: rank for rank, name in enumerate(self.names)}
        self._mine = [*self.run.split("."), site]
        self._keys = Keyring(cert, key, ca, self.names, self.rank, self.run)
        self._box: queue.Queue[tuple[int, bytes] | Exception] = queue.Queue()
        self._unconfirmed: dict[str, bytes] = {}
        self._reader: Any = None
        self._work: Any = None  # reading on after a lost connection
        self._sequence, self._is_reading, self._is_leaving = 0, False, False
        self._last = 0.0  # when the engine was asked to read anew
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{site} over NATS", daemon=True)
        self._thread.start()
        try:
            self._call(self._open(relay, tls_context(cert, key, ca), relay_name or address.hostname), START)
        except TimeoutError as error:
            self._stop()
            raise ConnectionError(f"the relay {relay} must answer {site} within {START:g} s, got no answer.") from error
        except BaseException:
            self._stop()
            raise

    # Link

    def send(self, to: int, name: str, data: bytes, stored: bool = True) -> None:
        """Publish the message; one to be kept is published until the relay has confirmed it."""
        ends = f"{self.run}.{self.names[to]}.{self.names[self.rank]}"
        self._start(self._publish(f"dn.{ends}.{name}", data) if stored else self._ask(f"dnc.{ends}", data))

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message, from the stream or a question."""
        try:
            message = self._box.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(message, Exception):
            raise message
        return message

    def again(self) -> None:
        """Read on from the last message, at most every few seconds."""
        now = self._loop.time()
        if now - self._last > QUIET:
            self._last = now
            self._start(self._read_on())

    def close(self, patience: float = 5.0) -> None:
        """Leave, once the relay has confirmed what was sent; a warning if it has not after so many seconds."""
        try:
            self._call(self._leave(patience), patience + 30)
        except Exception as error:
            log.info("the link to the relay was closed with %s", error)
        self._stop()

    def introduction(self) -> str:
        """The certificate of this site."""
        return self._keys.introduction()

    def meet(self, introductions: Sequence[str]) -> None:
        """Check the other sites' certificates and derive keys from them."""
        self._keys.meet(introductions)

    def seal(self, to: int, head: bytes, body: bytes) -> bytes:
        """As `Keyring.seal`."""
        return self._keys.seal(to, head, body)

    def unseal(self, source: int, head: bytes, body: bytes) -> bytes:
        """As `Keyring.unseal`."""
        return self._keys.unseal(source, head, body)

    # On the loop of its own thread

    def _start(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _call(self, work: Coroutine[Any, Any, Any], seconds: float) -> Any:
        return self._start(work).result(seconds)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if not self._loop.is_running():
            self._loop.close()

    async def _open(self, relay: str, context: ssl.SSLContext, relay_name: str) -> None:
        me = self.names[self.rank]

        async def failed(error: Exception) -> None:
            log.info("%s: the relay or the link reports %r", me, error)
            if "permissions violation" in str(error).lower():
                self._box.put(ConnectionError(f"the relay refused what {me} may not do: {error}"))

        async def down() -> None:
            if not self._is_leaving:
                log.warning("%s: the connection to the relay is down; trying again", me)

        async def up() -> None:
            log.warning("%s: connected to the relay again", me)
            self._work = asyncio.ensure_future(self._read_on())

        first = await _connect(relay, context, me, tls_hostname=relay_name)  # a refusal is an error, not a retry
        await first.close()
        self._client = await _connect(
            relay, context, me, tls_hostname=relay_name, allow_reconnect=True, max_reconnect_attempts=-1,
            reconnect_time_wait=PAUSE, ping_interval=5, max_outstanding_pings=2, error_cb=failed, disconnected_cb=down,
            reconnected_cb=up, pending_size=64 << 20,
        )  # fmt: skip
        self._stream = self._client.jetstream(publish_async_max_pending=4096)
        await self._client.subscribe(f"dnc.{self.run}.{me}.>", cb=self._asked)
        try:
            await self._read()
        except Exception as error:
            raise ConnectionError(
                f"the relay has no stream {STREAM!r} that {me} may read: the hub opens it by `dnnext sites open` "
                f"({type(error).__name__}: {error})."
            ) from error

    async def _asked(self, message: Any) -> None:
        self._take(message)

    async def _stored(self, message: Any) -> None:
        self._sequence = max(self._sequence, message.metadata.sequence.stream)
        self._take(message)

    def _take(self, message: Any) -> None:
        kind, *place, sender = message.subject.split(".")[:5]
        if kind in ("dn", "dnc") and place == self._mine and sender in self._ranks:  # else not for this site and run
            self._box.put((self._ranks[sender], message.data))

    async def _read(self) -> None:
        """A consumer of the messages to this site behind the last one; its name lets the relay check its filter."""
        mine = f"dn.{self.run}.{self.names[self.rank]}.>"
        config = ConsumerConfig(name=f"{self.names[self.rank]}-{uuid.uuid4().hex[:12]}", filter_subject=mine)
        if self._sequence:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._sequence + 1
        self._reader = await self._stream.subscribe(
            mine, stream=STREAM, cb=self._stored, ordered_consumer=True, config=config, pending_msgs_limit=1 << 20,
            pending_bytes_limit=1 << 30,
        )  # fmt: skip

    async def _read_on(self) -> None:
        """Read on, and publish what was not confirmed."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while not self._client.is_closed:
                try:
                    if self._reader is not None:
                        reader, self._reader = self._reader, None
                        await reader.unsubscribe()
                    await self._read()
                    for subject, data in list(self._unconfirmed.items()):
                        await self._publish(subject, data)
                    return
                except Exception as error:
                    log.info("%s: reading on failed with %r; trying again", self.names[self.rank], error)
                    await asyncio.sleep(PAUSE)
        finally:
            self._is_reading = False

    async def _ask(self, subject: str, data: bytes) -> None:
        try:
            await self._client.publish(subject, data)
        except Exception as error:
            log.info("a question was not sent: %r", error)

    async def _publish(self, subject: str, data: bytes) -> None:
        self._unconfirmed[subject] = data
        mark = {"Nats-Msg-Id": self._keys.mark(subject)}
        try:
            confirmed = await self._stream.publish_async(subject, data, headers=mark, wait_stall=5)
        except nats.errors.MaxPayloadError:
            self._box.put(ValueError(f"the relay takes no message of {len(data)} bytes: raise its max_payload"))
            return
        except Exception as error:
            log.info("a message will be sent again: %r", error)
            return

        def note(answer: Any) -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._unconfirmed.pop(subject, None)

        confirmed.add_done_callback(note)

    async def _leave(self, patience: float) -> None:
        begin = sent = self._loop.time()
        while self._unconfirmed and self._loop.time() < begin + patience:
            await asyncio.sleep(0.05)
            if self._loop.time() > sent + QUIET:
                sent = self._loop.time()
                self._work = asyncio.ensure_future(self._read_on())
        if self._unconfirmed:
            log.warning(
                "%s leaves although the relay has not confirmed %d messages: others may wait for them",
                self.names[self.rank], len(self._unconfirmed),
            )  # fmt: skip
        self._is_leaving = True
        await self._client.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def open_stream(relay: str, cert: Any, key: Any, ca: Any, hub: str = "relay", relay_name: str | None = None,
                max_age: float = WEEK, max_bytes: int = 2 << 30) -> None:  # fmt: skip
    """Create the streams that keep the messages of runs, and jobs, once, with the relay's own certificate.

    Parameters
    ----------
    relay : str
        Such as ``"tls://relay.example:4222"``.
    cert, key, ca : path
        The hub's certificate and key, and the authority's certificate.
    hub : str
        The hub's name.
    relay_name : str, optional
        The name in the relay's certificate; default: the host in `relay`.
    max_age, max_bytes : float, int
        Seconds and bytes for which messages are kept.

    Raises
    ------
    ConnectionError
        If the relay is not reached.
    """

    async def work() -> None:
        host = relay_name or urlsplit(relay).hostname
        client = await _connect(relay, tls_context(cert, key, ca), hub, tls_hostname=host)
        config = StreamConfig(name=STREAM, subjects=["dn.>"], max_age=max_age, max_bytes=max_bytes)
        await client.jetstream().add_stream(config)
        await client.jetstream().add_stream(StreamConfig(name=JOBS, subjects=["job.>", "done.>"], max_bytes=max_bytes))
        await client.close()

    asyncio.run(work())


def reach(relay: str, site: str, cert: Any, key: Any, ca: Any, relay_name: str | None = None) -> None:
    """Connect to the relay once.

    Raises
    ------
    ConnectionError
        If it is not reached, is not the one it should be, or refuses this site.
    """

    async def work() -> None:
        host = relay_name or urlsplit(relay).hostname
        await (await _connect(relay, tls_context(cert, key, ca), site, tls_hostname=host)).close()

    asyncio.run(work())
