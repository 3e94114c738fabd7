"""The configuration of the relay, a `nats-server`: mutual TLS, and rights under which no site reads another's rows."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dnnext._checks import short

__all__ = ["JOBS", "STREAM", "check_token", "relay_conf"]

STREAM, JOBS = "RUN", "JOBS"
TOKEN = re.compile(r"[A-Za-z0-9_-]+")

USER = """    {{ user: "{name}", permissions: {{
        publish: {{ allow: ["dn.*.*.*.{name}.>", "dnc.*.*.*.{name}",
                           "$JS.API.CONSUMER.CREATE.{stream}.*.dn.*.*.{name}.>", "$JS.FC.{stream}.>",
                           "done.*.{name}", "$JS.API.CONSUMER.CREATE.JOBS.*.job.>", "$JS.FC.JOBS.>"] }}
        subscribe: {{ allow: ["dnc.*.*.{name}.>", "_IN.{name}.>"] }} }} }}"""

CONF = """# A relay for dnnext: start it by `nats-server -c` and this file.
server_name: {hub}
listen: "{host}:{port}"
max_payload: {payload}
max_pending: 512MB
write_deadline: "30s"
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "{store}", max_memory_store: 64MB, max_file_store: {file} }}
tls {{
  cert_file: "{cert}"
  key_file: "{key}"
  ca_file: "{ca}"
  verify_and_map: true   # the user is the DNS name of the certificate
  timeout: 5
  min_version: "1.3"
}}
authorization {{ users: [
{users}
    {{ user: "{hub}", permissions: {{ publish: ">", subscribe: ">" }} }}
] }}
"""


def check_token(name: str, value: str) -> str:
    """A name of letters, digits, '-' and '_', so that it can be part of a subject.

    Raises
    ------
    ValueError
        If it is another.

    Examples
    --------
    >>> check_token("run", "trial-1")
    'trial-1'
    """
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise ValueError(f"{name} must consist of letters, digits, '-' and '_', got {short(value)}.")
    return value


def relay_conf(
    sites: Sequence[str], folder: str | os.PathLike[str], hub: str = "relay", host: str = "0.0.0.0", port: int = 4222,
    payload: str = "64MB", file: str = "4GB",
) -> str:  # fmt: skip
    """The text of the relay's configuration file.

    A site may publish messages that bear its own name as the sender, and nothing else; it may read messages to itself,
    and create consumers of the stream that are filtered to them. Foreign consumers, other inboxes and deleting are
    refused and logged by the server.

    Parameters
    ----------
    sites : sequence of str
        Their names, which are DNS names of their certificates.
    folder : path
        Where ``HUB.pem``, ``HUB.key`` and ``ca.pem`` lie and messages are stored.
    hub : str
        The relay's own name, with all rights: it creates the stream.
    host, port : str, int
        Where to listen.
    payload, file : str
        The largest message and the most that is stored.

    Returns
    -------
    str
        To be written to a file for ``nats-server -c``.

    Raises
    ------
    ValueError
        If a name is unfit or stands there twice.

    Examples
    --------
    >>> text = relay_conf(["site-a", "site-b"], "hub")
    >>> text.count("user:"), "verify_and_map: true" in text
    (3, True)
    """
    names = [check_token("a site", name) for name in sites]
    if len({*names, hub}) != len(names) + 1:
        raise ValueError(f"sites must have different names, other than {hub!r}, got {short(names)}.")
    place = Path(folder).resolve()
    users = "\n".join(USER.format(name=name, stream=STREAM) for name in names)
    return CONF.format(
        hub=check_token("hub", hub), host=host, port=port, payload=payload, file=file, users=users,
        store=place / "jetstream", cert=place / f"{hub}.pem", key=place / f"{hub}.key", ca=place / "ca.pem",
    )  # fmt: skip
