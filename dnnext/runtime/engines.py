"""The engines by name: where the ranks are, and how a communicator over them is opened."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dnnext import _checks
from dnnext._checks import short
from dnnext.runtime.alone import Alone
from dnnext.runtime.communicator import Communicator

__all__ = ["ENGINES", "Engine", "check_engine", "decline", "open_communicator"]


class Engine(NamedTuple):
    """One way to run.

    Attributes
    ----------
    open : callable
        ``open(**options)`` is a `Communicator`.
    options : tuple of str
        The options it takes.
    has_ranks : bool
        Whether other processes may hold some of the agents.
    on_failure : tuple of str
        What the option on_failure may be.

    Examples
    --------
    >>> ENGINES["local"].open().size
    1
    """

    open: Callable[..., Communicator]
    options: tuple[str, ...]
    has_ranks: bool
    on_failure: tuple[str, ...] = ("stop", "shrink")


def _open_mpi(**options: Any) -> Communicator:
    from dnnext.runtime.mpi import MPICommunicator

    return MPICommunicator(**options)


def _nats_link(folder: Any, audit: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """The link, and what records the messages that leave; what is used of the options is taken out."""
    from pathlib import Path

    from dnnext.runtime.audit import Audit
    from dnnext.runtime.enrolment import folder_options
    from dnnext.runtime.nats import NatsLink
    from dnnext.runtime.permission import AUDIT, read_permission

    given = {name: options.pop(name) for name in LINK if name in options}
    found = given if folder is None else {**folder_options(folder), **given}
    missing = [name for name in LINK[:-1] if name not in found]
    if missing:
        raise ValueError(
            f"engine_options of engine='nats' must have {', '.join(missing)}, or a folder that holds them."
        )
    allowed = None if folder is None else read_permission(folder)
    if allowed is not None and audit is None:
        audit = Path(folder) / AUDIT
    most = None if allowed is None else allowed.max_bytes
    record = None if audit is None else Audit(audit, most).message
    return NatsLink(**found), record


def _open_nats(folder: Any = None, audit: Any = None, **options: Any) -> Communicator:
    from dnnext.runtime.sites import OverSites

    link, record = _nats_link(folder, audit, options)
    return OverSites(link, record=record, **options)


def decline(options: Mapping[str, Any], sentence: str) -> None:
    """Let the other sites of a run know that this one does not take part, so that they need not wait for it."""
    from dnnext.runtime.sites import decline as by_link

    rest = dict(options)
    by_link(*_nats_link(rest.pop("folder", None), rest.pop("audit", None), rest), sentence)


LINK = ("relay", "site", "sites", "run", "cert", "key", "ca", "relay_name")
SITES = ("timeout", "on_failure", "late", "away", "notice")

ENGINES = {
    "local": Engine(Alone, (), False),
    "mpi": Engine(_open_mpi, ("timeout", "on_failure", "comm"), True),
    "nats": Engine(_open_nats, ("folder", *LINK, *SITES, "audit"), True, ("wait", "stop", "shrink")),
}


def check_engine(name: Any, options: Mapping[str, Any] | None) -> Engine:
    """The engine of this name, if it takes these options.

    Raises
    ------
    ValueError
        If the engine is unknown, does not have such an option, or a value is unfit.

    Examples
    --------
    >>> check_engine("local", {"timeout": 3})
    Traceback (most recent call last):
    ValueError: engine_options must be None for engine='local', which has none, got {'timeout': 3}.
    """
    if not isinstance(name, str) or name not in ENGINES:
        raise ValueError(
            f"engine must be {' or '.join(map(repr, ENGINES))}, got {short(name)}.{_checks.nearest(name, ENGINES)}"
        )
    if not isinstance(options, Mapping | None):
        raise ValueError(f"engine_options must be None or a dict, got {short(options)}.")
    engine, options = ENGINES[name], options or {}
    if options and not engine.options:
        raise ValueError(
            f"engine_options must be None for engine={name!r}, which has none, got {short(dict(options))}."
        )
    for option in options:
        if option not in engine.options:
            raise ValueError(
                f"engine_options of engine={name!r} must be among {', '.join(engine.options)}, got {short(option)}."
            )
    for option in ("timeout", "late", "away"):
        try:
            _checks.check_positive(option, options.get(option, 1.0))
        except ValueError:
            raise ValueError(
                f"{option} in engine_options must be a number of seconds > 0, got {short(options[option])}."
            ) from None
    if not callable(options.get("notice") or print):
        raise ValueError(f"notice in engine_options must be a function, got {short(options['notice'])}.")
    if options.get("on_failure", "stop") not in engine.on_failure:
        words = " or ".join(map(repr, engine.on_failure))
        raise ValueError(f"on_failure in engine_options must be {words}, got {short(options['on_failure'])}.")
    return engine


def open_communicator(name: str, options: Mapping[str, Any] | None = None) -> Communicator:
    """The ranks of an engine.

    Examples
    --------
    >>> open_communicator("local").size
    1
    """
    return check_engine(name, options).open(**(options or {}))
