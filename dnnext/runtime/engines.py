"""The engines by name: where the ranks are, and how a communicator over them is opened; `sites` adds its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dnnext import _checks
from dnnext._checks import short
from dnnext.runtime.alone import Alone
from dnnext.runtime.communicator import Communicator

__all__ = ["ENGINES", "Engine", "check_engine", "open_communicator"]


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


ENGINES = {
    "local": Engine(Alone, (), False),
    "mpi": Engine(_open_mpi, ("timeout", "on_failure", "comm"), True),
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
