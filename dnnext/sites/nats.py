"""Sites over NATS: one relay stores what sites send and delivers it again.

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
import json
import logging
import queue
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

from dnnext._checks import short
from dnnext.sites.connection import PAUSE, connect, tls_context
from dnnext.sites.links import Link
from dnnext.sites.relay import STREAM, check_token
from dnnext.sites.sealing import Keyring

__all__ = ["NatsLink"]

log = logging.getLogger("dnnext.sites")

START = 60.0  # seconds until all is open
STORING = 60.0  # seconds for which the relay may store nothing although the connection is there
WAITING = 1024  # messages that may wait before anybody takes them
PENDING = 64 << 20  # bytes that the client takes ahead
QUIET = 5.0  # seconds after which messages are read anew where an awaited one is missing
sessions: dict[tuple[str, ...], int] = {}  # how often this process has opened a run


class Trouble:
    """Since when the relay has stored nothing, and what it says to that."""

    def __init__(self) -> None:
        self.since, self.last = 0.0, "no answer"

    def is_over(self) -> None:
        """It stores messages, or the connection is down, which is another matter."""
        self.since, self.last = 0.0, "no answer"

    def note(self, refusal: str) -> None:
        """It has refused a message."""
        self.last = refusal

    def sentence(self, n_messages: int) -> str:
        """What to raise, or '' while there is hope."""
        now = time.monotonic()
        self.since = self.since or now
        if now - self.since < STORING:
            return ""
        return (
            f"the relay has stored none of {n_messages} messages for {now - self.since:.0f} s ({self.last}): its disk "
            "or its streams may be full. Make room there and start the site again"
        )


def _refusal(message: Any) -> str:
    """Why the relay has not stored a message; '' if it has."""
    try:
        answer = json.loads(message.data)
        return "" if "error" not in answer else str(answer["error"].get("description", "refused"))
    except (ValueError, TypeError, AttributeError):
        return "no stream takes it"


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
    revoked : path, optional
        PEM file: the authority's list of revoked certificates, whose holders are refused.

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
        relay_name: str | None = None, revoked: Any = None,
    ) -> None:  # fmt: skip
        self.names = tuple(check_token("a site", name) for name in sites)
        if len(set(self.names)) != len(self.names) or site not in self.names:
            raise ValueError(
                f"sites must have different names and {short(site)} among them, got {short(list(self.names))}."
            )
        self.rank, self.size = self.names.index(site), len(self.names)
        address = urlsplit(relay)
        if address.scheme != "tls" or not address.hostname:
            raise ValueError(f"relay must be an address like 'tls://host:4222', got {short(relay)}.")
        place = (relay, site, check_token("run", run))
        sessions[place] = sessions.get(place, 0) + 1
        self.run = f"{run}.{sessions[place]}"
        self._ranks = {name: rank for rank, name in enumerate(self.names)}
        self._mine = [*self.run.split("."), site]
        self._keys = Keyring(cert, key, ca, self.names, self.rank, self.run, revoked)
        self._box: queue.Queue[tuple[int, bytes] | Exception] = queue.Queue()
        self._hand: Callable[[int, bytes], None] = lambda *message: self._box.put(message)
        self._is_full: Callable[[], bool] = lambda: self._box.qsize() > WAITING
        self._outbox: deque[tuple[str, bytes, bool]] = deque()  # subject, data, whether it is stored
        self._is_sending = False
        self._unconfirmed: dict[str, bytes] = {}  # by subject
        self._numbers: dict[str, str] = {}  # subjects, by the number under which the relay confirms them
        self._inbox = f"_IN.{site}.{uuid.uuid4().hex}"
        self._trouble = Trouble()
        self._reader: Any = None
        self._guard: Any = None  # sends again what is not confirmed
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
        self._outbox.append((f"dn.{ends}.{name}", data, True) if stored else (f"dnc.{ends}", data, False))
        if not self._is_sending:  # else those to several sites leave together
            self._is_sending = True
            self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._send()))

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """The next message, from the stream or a question."""
        try:
            message = self._box.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(message, Exception):
            raise message
        return message

    def deliver(self, take: Callable[[int, bytes], None], is_full: Callable[[], bool]) -> None:
        """Call `take` on the thread of the connection, which spares two changes of threads per message."""
        self._call(self._deliver(take, is_full), START)

    async def _deliver(self, take: Callable[[int, bytes], None], is_full: Callable[[], bool]) -> None:
        def hand(source: int, data: bytes) -> None:
            try:
                take(source, data)
            except Exception as error:
                self._box.put(error)

        waiting = [self._box.get_nowait() for _ in range(self._box.qsize())]
        for message in waiting:
            if isinstance(message, Exception):
                self._box.put(message)
            else:
                hand(*message)
        self._hand, self._is_full = hand, is_full

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

        first = await connect(relay, context, me, tls_hostname=relay_name)  # a refusal is an error, not a retry
        await first.close()
        self._client = await connect(
            relay, context, me, tls_hostname=relay_name, allow_reconnect=True, max_reconnect_attempts=-1,
            reconnect_time_wait=PAUSE, ping_interval=5, max_outstanding_pings=2, error_cb=failed, disconnected_cb=down,
            reconnected_cb=up, pending_size=64 << 20,
        )  # fmt: skip
        self._stream = self._client.jetstream()
        await self._client.subscribe(f"{self._inbox}.>", cb=self._confirmed)
        await self._client.subscribe(f"dnc.{self.run}.{me}.>", cb=self._asked)
        try:
            await self._read()
        except Exception as error:
            raise ConnectionError(
                f"the relay has no stream {STREAM!r} that {me} may read: the hub opens it by `dnnext sites open` "
                f"({type(error).__name__}: {error})."
            ) from error

    async def _asked(self, message: Any) -> None:
        if not self._is_full():  # a question is asked again
            self._take(message)

    async def _stored(self, message: Any) -> None:
        while self._is_full() and not self._is_leaving:  # the relay keeps the rest
            await asyncio.sleep(PAUSE)
        self._sequence = max(self._sequence, message.metadata.sequence.stream)
        self._take(message)

    def _take(self, message: Any) -> None:
        kind, *place, sender = message.subject.split(".")[:5]
        if kind in ("dn", "dnc") and place == self._mine and sender in self._ranks:  # else not for this site and run
            self._hand(self._ranks[sender], message.data)

    async def _read(self) -> None:
        """A consumer of the messages to this site behind the last one; its name lets the relay check its filter."""
        mine = f"dn.{self.run}.{self.names[self.rank]}.>"
        config = ConsumerConfig(name=f"{self.names[self.rank]}-{uuid.uuid4().hex[:12]}", filter_subject=mine)
        if self._sequence:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._sequence + 1
        self._reader = await self._stream.subscribe(
            mine, stream=STREAM, cb=self._stored, ordered_consumer=True, config=config, pending_msgs_limit=1 << 20,
            pending_bytes_limit=PENDING,
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

    async def _send(self) -> None:
        self._is_sending = False  # first: what is put into the box from now on starts this again
        while self._outbox:
            subject, data, is_stored = self._outbox.popleft()
            if is_stored:
                await self._publish(subject, data)
                continue
            try:
                await self._client.publish(subject, data)
            except Exception as error:
                log.info("a question was not sent: %r", error)

    async def _publish(self, subject: str, data: bytes) -> None:
        """Publish a message; the next one need not wait for the relay to confirm it."""
        number = subject.rsplit(".", 3)[1:]  # receiver, sender, number
        self._unconfirmed[subject] = data
        self._numbers[".".join(number)] = subject
        if self._guard is None:
            self._guard = asyncio.ensure_future(self._watch())
        mark = {"Nats-Msg-Id": self._keys.mark(subject)}
        try:
            await self._client.publish(subject, data, reply=f"{self._inbox}.{'.'.join(number)}", headers=mark)
        except nats.errors.MaxPayloadError:
            self._box.put(ValueError(f"the relay takes no message of {len(data)} bytes: raise its max_payload"))
        except Exception as error:
            log.info("a message will be sent again: %r", error)

    async def _confirmed(self, message: Any) -> None:
        """What the relay says to a message that it should store."""
        number = message.subject[len(self._inbox) + 1 :]
        subject = self._numbers.get(number)
        if subject is None:  # confirmed before
            return
        refusal = _refusal(message)
        if refusal:
            self._trouble.note(refusal)
            return
        del self._numbers[number], self._unconfirmed[subject]
        self._trouble.is_over()

    async def _watch(self) -> None:
        """Send again what the relay refused or did not answer; after `STORING` seconds of that, give up."""
        while self._unconfirmed:
            before = set(self._unconfirmed)
            await asyncio.sleep(QUIET)
            left = [subject for subject in self._unconfirmed if subject in before]
            if not left or not self._client.is_connected:
                self._trouble.is_over()
                continue
            sentence = self._trouble.sentence(len(left))
            if sentence:
                self._box.put(ConnectionError(sentence))
                break
            for subject in left:
                if subject in self._unconfirmed:
                    await self._publish(subject, self._unconfirmed[subject])
        self._guard = None

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
