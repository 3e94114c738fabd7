"""A job: which estimator the sites train, with which parameters, for how long; a TOML text, nothing in it is code.

    run = "trial-1"
    estimator = "DecentralizedMLPClassifier"
    [parameters]
    hidden_layer_sizes = [5]

Besides, for a job of NVIDIA FLARE: ``sites`` (their names in rank order; default: all that are connected),
``checkpoint_every`` (iterations), ``resume`` (the run to go on from) and a table ``[limits]`` in seconds.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnext import _checks
from dnnext._checks import short
from dnnext.sites.relay import check_token

__all__ = ["FIELDS", "LIMITS", "OF_SITES", "Job", "read_job", "write_job"]

# Seconds: an awaited site is asked; is away; is lost. Until all sites have started; until a site that FLARE does not
# see any more counts as dead; for an answer of the server.
LIMITS = {"late": 2.0, "away": 30.0, "timeout": 86400.0, "start": 600.0, "dead": 120.0, "answer": 300.0}
OF_SITES = ("late", "away", "timeout")  # what is for the messages between sites
FIELDS = ("sites", "checkpoint_every", "resume")  # of a job, beside run, estimator, parameters and limits
FORBIDDEN = {"engine", "engine_options", "callbacks"}


@dataclass(frozen=True)
class Job:
    """What a job says.

    Parameters
    ----------
    run : str
        Its name, new for every job.
    estimator : str
        The class.
    parameters : dict
        Of the estimator.
    sites : tuple of str
        In rank order; empty: all.
    checkpoint_every : int
        Iterations between two checkpoints at every site; 0: none.
    resume : str
        The run from whose checkpoints to go on; "": from the start.
    limits : dict
        As `LIMITS`.

    Raises
    ------
    ValueError
        If a value is unfit.
    """

    run: str
    estimator: str
    parameters: dict[str, Any] = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    checkpoint_every: int = 0
    resume: str = ""
    limits: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import dnnext

        check_token("run", self.run)
        if not isinstance(self.parameters, dict):
            raise ValueError(f"the job must have a table [parameters], got {short(self.parameters)}.")
        forbidden = FORBIDDEN & set(self.parameters)
        if forbidden:
            raise ValueError(f"the parameters of a job must not hold {sorted(forbidden)}: the site decides these.")
        if self.estimator not in dnnext.__all__ or not self.estimator.startswith("Decentralized"):
            raise ValueError(f"estimator must be an estimator of dnnext, got {short(self.estimator)}.")
        if len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites must have different names, got {list(self.sites)}.")
        for name in self.sites:
            check_token("a site", name)
        if self.checkpoint_every != 0:
            _checks.check_count("checkpoint_every", self.checkpoint_every)
        if self.resume:
            check_token("resume", self.resume)
        if not isinstance(self.limits, dict) or not set(self.limits) <= set(LIMITS):
            raise ValueError(f"[limits] of a job must be among {', '.join(LIMITS)}, got {short(self.limits)}.")
        for name, value in self.limits.items():
            _checks.check_positive(name, value)

    def made(self, **options: Any) -> Any:
        """The estimator.

        Raises
        ------
        ValueError
            If it has no such parameter.
        """
        import dnnext

        try:
            return getattr(dnnext, self.estimator)(**self.parameters).set_params(**options)
        except TypeError as error:
            raise ValueError(f"the job must have the parameters of {self.estimator}, got {error}.") from None

    def options(self) -> dict[str, float]:
        """The limits of messages between sites, as options of the engine."""
        return {name: value for name, value in {**LIMITS, **self.limits}.items() if name in OF_SITES}


def read_job(text: str) -> Job:
    r"""The job in a TOML text.

    Raises
    ------
    ValueError
        If the text is unfit.

    Examples
    --------
    >>> read_job('run = "a"\nestimator = "DecentralizedMLPClassifier"').run
    'a'
    """
    try:
        found = tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"the job must be a TOML file, got {short(text)}: {error}.") from None
    known = set(Job.__dataclass_fields__)
    if not set(found) <= known or not all(isinstance(found.get(name), str) for name in ("run", "estimator")):
        raise ValueError(
            f"the job must have run = '...', estimator = '...', and only {', '.join(sorted(known))}, got "
            f"{sorted(found)}."
        )
    if "sites" in found:
        if not isinstance(found["sites"], list):
            raise ValueError(f"sites must be a list of names, got {short(found['sites'])}.")
        found["sites"] = tuple(found["sites"])
    return Job(**found)


def write_job(estimator: Any, run: Any, limits: Mapping[str, float] | None = None, **fields: Any) -> str:
    """The TOML text of a job that trains this estimator; parameters that are the default stay out.

    Parameters
    ----------
    estimator : estimator
        Of dnnext.
    run : str
        The name of the job.
    limits : mapping, optional
        As `LIMITS`.
    **fields
        As `FIELDS`.

    Raises
    ------
    ValueError
        If a parameter is an object, which no text can hold, or a name is unfit.

    Examples
    --------
    >>> from dnnext import DecentralizedMLPClassifier
    >>> print(write_job(DecentralizedMLPClassifier((5,), max_iter=7), "trial-1"))
    run = "trial-1"
    estimator = "DecentralizedMLPClassifier"
    [parameters]
    hidden_layer_sizes = [5]
    max_iter = 7
    """
    if estimator.callbacks:
        raise ValueError(f"callbacks must be None in a job, as no code travels, got {short(estimator.callbacks)}.")
    check_token("run", run)
    kind = type(estimator)
    default, parameters = kind().get_params(deep=False), {}
    for name, value in estimator.get_params(deep=False).items():
        if name in FORBIDDEN or (type(value) is type(default[name]) and value == default[name]):
            continue
        value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
        if isinstance(value, (tuple, list)):
            value = list(value)
        try:
            parameters[name] = _written(value)
        except TypeError:
            raise ValueError(
                f"the parameters of a job must be numbers, texts or lists of them, got {name}={short(value)}."
            ) from None
    lines = [f"run = {json.dumps(run)}", f"estimator = {json.dumps(kind.__name__)}"]
    lines += [f"{name} = {_written(list(v) if isinstance(v, tuple) else v)}" for name, v in fields.items()]
    lines += ["[parameters]", *(f"{name} = {text}" for name, text in parameters.items())]
    lines += ["[limits]", *(f"{name} = {_written(float(v))}" for name, v in limits.items())] if limits else []
    return "\n".join(lines)


def _written(value: Any) -> str:
    if value is None or not isinstance(value, (bool, int, float, str, list)):
        raise TypeError
    if isinstance(value, list):
        return f"[{', '.join(_written(v) for v in value)}]"
    return repr(value) if isinstance(value, float) else json.dumps(value)
