"""Connections to the relay: TLS, refusals as sentences, and what the hub does once."""

import asyncio
import json
import logging
import ssl
import time
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from dnnext.sites.relay import JOBS, STREAM

try:
    import nats
    from nats.errors import NoRespondersError
    from nats.js.api import StreamConfig
except ImportError as error:
    raise ImportError(
        f"engine='nats' needs nats-py and cryptography: `pip install nats-py cryptography`. Python reports: {error}"
    ) from error

__all__ = ["PAUSE", "connect", "open_stream", "reach", "tls_context"]

WEEK = 7 * 86400.0
PATIENCE = 20.0  # seconds for the first connection
PAUSE = 0.2  # seconds between two attempts to reach the relay


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


def _not_of_eof(record: logging.LogRecord) -> bool:
    """False for asyncio's remark on how nats-py ends a connection by TLS, which no user can do anything about."""
    return "eof_received() has no effect" not in str(record.msg)


async def connect(relay: str, context: ssl.SSLContext, name: str, **options: Any) -> Any:
    """A connection, or a sentence that says why not."""
    errors: list[str] = []
    logging.getLogger("asyncio").addFilter(_not_of_eof)  # once, however often it is asked for

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
        client = await connect(relay, tls_context(cert, key, ca), hub, tls_hostname=host)
        config = StreamConfig(name=STREAM, subjects=["dn.>"], max_age=max_age, max_bytes=max_bytes)
        await client.jetstream().add_stream(config)
        await client.jetstream().add_stream(StreamConfig(name=JOBS, subjects=["job.>", "done.>"], max_bytes=max_bytes))
        await client.close()

    asyncio.run(work())


def reach(relay: str, site: str, cert: Any, key: Any, ca: Any, relay_name: str | None = None) -> float | None:
    """Connect to the relay once, and compare clocks.

    Returns
    -------
    float or None
        Seconds by which this machine's clock is ahead of the relay's, to within the time of a message; None if the hub
        has not opened its streams yet.

    Raises
    ------
    ConnectionError
        If it is not reached, is not the one it should be, or refuses this site.
    """

    async def work() -> float | None:
        host = relay_name or urlsplit(relay).hostname
        client = await connect(relay, tls_context(cert, key, ca), site, tls_hostname=host)
        try:
            return await _clock_ahead(client)
        finally:
            await client.close()

    return asyncio.run(work())


async def _clock_ahead(client: Any) -> float | None:
    # Sites may ask for little else than a reader of jobs, which the relay forgets after a second; the answer is dated.
    name = uuid.uuid4().hex
    config = {"name": name, "filter_subject": "job.>", "ack_policy": "none", "deliver_policy": "new"}
    wish = {"stream_name": JOBS, "config": {**config, "mem_storage": True, "inactive_threshold": 10**9}}
    begin = time.time()
    try:
        subject = f"$JS.API.CONSUMER.CREATE.{JOBS}.{name}.job.>"
        answer = json.loads((await client.request(subject, json.dumps(wish).encode(), timeout=10)).data)
    except NoRespondersError:
        return None
    end = time.time()
    if "error" in answer:
        return None
    there = datetime.fromisoformat(answer.get("ts", answer["created"])[:26].rstrip("Z") + "+00:00").timestamp()
    return (begin + end) / 2 - there
