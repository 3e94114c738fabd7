"""How the engines between sites are opened; nothing that they need is imported before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnnext.runtime.communicator import Communicator

__all__ = ["JOB", "LINK", "SITES", "decline", "open_flare", "open_nats"]

LINK = ("relay", "site", "sites", "run", "cert", "key", "ca", "relay_name", "revoked")
JOB = ("kit", "run", "sites", "checkpoint_every", "resume")  # what is said of a job of FLARE when it is submitted
SITES = ("timeout", "on_failure", "late", "away", "notice")


def _nats_link(folder: Any, audit: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """The link, and what records the messages that leave; what is used of the options is taken out."""
    from dnnext.sites.audit import Audit
    from dnnext.sites.enrolment import folder_options
    from dnnext.sites.nats import NatsLink
    from dnnext.sites.permission import AUDIT, read_permission

    given = {name: options.pop(name) for name in LINK if name in options}
    found = given if folder is None else {**folder_options(folder), **given}
    missing = [name for name in LINK[:-2] if name not in found]
    if missing:
        raise ValueError(
            f"engine_options of engine='nats' must have {', '.join(missing)}, or a folder that holds them."
        )
    allowed = None if folder is None else read_permission(folder)
    if allowed is not None and audit is None:
        audit = Path(folder) / AUDIT
    most = None if allowed is None else allowed.max_numbers
    record = None if audit is None else Audit(audit, most).message
    return NatsLink(**found), record


def open_nats(folder: Any = None, audit: Any = None, **options: Any) -> Communicator:
    """The sites of a run, joined over NATS."""
    from dnnext.sites.over_sites import OverSites

    link, record = _nats_link(folder, audit, options)
    return OverSites(link, record=record, **options)


def _flare_link(folder: Any, audit: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """The link of the job that runs in this process, and what records the messages that leave."""
    from dnnext.sites.audit import Audit
    from dnnext.sites.flare_link import link_of
    from dnnext.sites.permission import AUDIT, read_permission

    for name in JOB:
        options.pop(name, None)
    link, allowed = link_of(folder), read_permission(folder)
    return link, Audit(audit or Path(folder) / AUDIT, None if allowed is None else allowed.max_numbers).message


def open_flare(folder: Any = None, audit: Any = None, **options: Any) -> Communicator:
    """The sites of a job of NVIDIA FLARE, in the process that FLARE has started at this site."""
    from dnnext.sites.over_sites import OverSites

    link, record = _flare_link(folder, audit, options)
    return OverSites(link, record=record, **options)


def decline(engine: str, options: Mapping[str, Any], sentence: str) -> None:
    """Let the other sites of a run know that this one does not take part, so that they need not wait for it."""
    from dnnext.sites.over_sites import decline as by_link

    rest = dict(options)
    link = {"nats": _nats_link, "flare": _flare_link}[engine]
    by_link(*link(rest.pop("folder", None), rest.pop("audit", None), rest), sentence)
