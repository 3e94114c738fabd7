"""Jobs over the relay: the hub publishes them, sites read them and hand in their results; parameters and files only.

Design
------
A second stream, JOBS, keeps ``job.RUN``, which the hub alone may publish, and ``done.RUN.SITE``, which only that site
may. The hub can read what sites hand in: the model that all of them have.
"""

import asyncio
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nats.errors import ConnectionClosedError, FlushTimeoutError, NoRespondersError
from nats.js.api import ConsumerConfig, Header
from nats.js.errors import BadRequestError

from dnnext._checks import short
from dnnext.sites.connection import connect, tls_context
from dnnext.sites.relay import JOBS, check_token

__all__ = ["hand_in", "hub_options", "jobs", "results", "submit", "wait_for_job"]

NOT_NEW = 10071  # the server's code where a subject has a message already
STALL = 20.0  # seconds for one stored message


def hub_options(folder: Any, relay: str, name: str = "relay", relay_name: str | None = None) -> dict[str, Any]:
    """Where the hub's certificate lies, as options of the functions here."""
    place = Path(folder)
    files = {"cert": place / f"{name}.pem", "key": place / f"{name}.key", "ca": place / "ca.pem"}
    return {"relay": relay, "site": name, "relay_name": relay_name, **files}


def _run(options: dict[str, Any], work: Callable[[Any], Any]) -> Any:
    async def connected() -> Any:
        context = tls_context(options["cert"], options["key"], options["ca"])
        host = options.get("relay_name") or urlsplit(options["relay"]).hostname
        client = await connect(options["relay"], context, options["site"], tls_hostname=host)
        try:
            return await work(client)
        except (ConnectionClosedError, NoRespondersError, FlushTimeoutError) as error:
            raise ConnectionError(
                f"the connection to the relay {options['relay']} was lost ({type(error).__name__}): start the command "
                "again."
            ) from error
        finally:
            await client.close()

    return asyncio.run(connected())


async def _read(client: Any, site: str, subject: str, done: Callable[[str, bytes], bool], is_open: bool) -> None:
    """Stored messages until `done` says yes; if open, also those to come.

    Raises
    ------
    ConnectionError
        If a stored message does not come.
    """
    config = ConsumerConfig(name=f"{site}-{uuid.uuid4().hex[:12]}", filter_subject=subject)
    reader = await client.jetstream().subscribe(subject, stream=JOBS, ordered_consumer=True, config=config)
    left = math.inf
    if not is_open:
        found = await reader.consumer_info()
        left = found.num_pending + found.delivered.consumer_seq
    while left > 0:
        try:
            message = await reader.next_msg(timeout=STALL)
        except TimeoutError:
            if is_open:
                continue
            raise ConnectionError(f"the relay sent no message for {STALL:g} s, of which {left} are left.") from None
        left -= 1
        if done(message.subject, message.data):
            return


def submit(options: dict[str, Any], run: str, text: str) -> None:
    """Publish a job; a run is a new name.

    Raises
    ------
    ValueError
        If there is a job of this name, or the name is unfit.
    """
    check_token("run", run)
    new = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: "0"}
    try:
        _run(options, lambda client: client.jetstream().publish(f"job.{run}", text.encode(), headers=new))
    except BadRequestError as error:
        if error.err_code != NOT_NEW:
            raise
        raise ValueError(f"run must be a new name, got {short(run)}, which was submitted before.") from None


def jobs(options: dict[str, Any]) -> list[str]:
    """The runs that were submitted."""
    found: list[str] = []

    def note(subject: str, data: bytes) -> bool:
        found.append(subject.split(".")[1])
        return False

    _run(options, lambda client: _read(client, options["site"], "job.>", note, False))
    return found


def wait_for_job(options: dict[str, Any], known: Callable[[str], bool]) -> tuple[str, str]:
    """(run, text) of the first job that is not known yet; waits for one."""
    found: list[tuple[str, str]] = []

    def take(subject: str, data: bytes) -> bool:
        run = check_token("the name of a job", subject.split(".")[1])  # it becomes the name of a file
        if not known(run):
            found.append((run, data.decode()))
        return bool(found)

    _run(options, lambda client: _read(client, options["site"], "job.>", take, True))
    return found[0]


def hand_in(options: dict[str, Any], run: str, data: bytes) -> None:
    """A site's result of a run."""
    _run(options, lambda client: client.jetstream().publish(f"done.{run}.{options['site']}", data))


def results(options: dict[str, Any], run: str) -> dict[str, bytes]:
    """What the sites handed in, by site."""
    found: dict[str, bytes] = {}

    def take(subject: str, data: bytes) -> bool:
        found[subject.split(".")[2]] = data
        return False

    _run(options, lambda client: _read(client, options["site"], f"done.{check_token('run', run)}.>", take, False))
    return found
