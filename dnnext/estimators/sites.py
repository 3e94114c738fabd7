"""Training on the rows that a site's administrator has named and allowed: `fit_sites`.

# Design:
#   The person who starts a job names no paths and sends no code: the job is parameters. What the site trains on, with
#   which estimators, how large and how long, stands in the file dnnext.toml of the site's folder.
"""

from __future__ import annotations

import logging
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dnnext._checks import short
from dnnext.sites import check_engine, decline
from dnnext.sites.audit import Audit
from dnnext.sites.permission import AUDIT, Permission, read_permission

log = logging.getLogger("dnnext.sites")


def fit_sites(estimator: Any) -> Any:
    """The estimator, trained on the rows of this site and of the others."""
    check_engine(estimator.engine, estimator.engine_options)
    options = estimator.engine_options or {}
    if estimator.engine != "nats" or not options.get("folder"):
        raise ValueError(
            "fit_sites needs engine='nats' and engine_options={'folder': ..., 'run': ...} with the folder of the site, "
            f"got engine={estimator.engine!r} and engine_options={estimator.engine_options!r}."
        )
    permission = read_permission(options["folder"])
    if permission is None:
        raise ValueError(
            f"the folder {str(options['folder'])!r} must hold dnnext.toml: write it by `dnnext site allow`."
        )
    try:
        check_allowed(estimator, permission)
        X, y = read_rows(permission)
    except Exception:
        _decline(options)
        raise
    Audit(Path(options["folder"]) / AUDIT).note(
        job=options.get("run"), estimator=type(estimator).__name__, rows=len(X), data=permission.data,
        parameters={k: repr(v) for k, v in estimator.get_params(deep=False).items()},
    )  # fmt: skip
    return estimator.fit_local(X, y)


def _decline(options: Any) -> None:
    """The others end at once; why is for the administrator of this site alone."""
    try:
        decline(options, "this site does not take part: its administrator knows why")
    except Exception as error:
        log.warning("the other sites do not know yet that this one does not take part: %s", error)


def check_allowed(estimator: Any, permission: Permission) -> None:
    """The site allows this estimator, so many iterations and, as far as is known before the rows, so many weights.

    Raises
    ------
    ValueError
        Naming the line of dnnext.toml.
    """
    name = type(estimator).__name__
    if name not in permission.allow:
        raise ValueError(f"the estimator must be one that the site allows, {list(permission.allow)}, got {name}.")
    if not isinstance(estimator.max_iter, (int, float)) or not estimator.max_iter <= permission.max_iter:
        raise ValueError(
            f"max_iter must be at most {permission.max_iter}, as the site allows, got {estimator.max_iter}."
        )
    units = np.atleast_1d(getattr(estimator, "hidden_layer_sizes", 1)).tolist()
    if all(isinstance(n, int) and n > 0 for n in units):  # else the estimator refuses them
        least = sum((a + 1) * b for a, b in pairwise([1, *units, 1]))  # of one input and one output
        if least > permission.max_weights:
            raise ValueError(
                f"the model must have at most max_weights={permission.max_weights} weights, as the site allows, got "
                f"{least} or more with hidden_layer_sizes={units}."
            )


def read_rows(permission: Permission) -> tuple[Any, Any]:
    """X and y of the site's file, CSV or Parquet.

    Raises
    ------
    ValueError
        If the file lacks the target or has too few rows.
    ImportError
        If pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"fit_sites reads files by pandas: `pip install 'dnnext[table]'`. Python reports: {error}"
        ) from error
    is_parquet = permission.data.endswith((".parquet", ".pq"))
    frame = (pd.read_parquet if is_parquet else pd.read_csv)(permission.data)
    if permission.target not in frame.columns:
        raise ValueError(f"target must be a column of {permission.data}, got {short(permission.target)}.")
    if len(frame) < permission.min_rows:
        raise ValueError(f"{permission.data} must have min_rows={permission.min_rows} rows or more, got {len(frame)}.")
    X, y = frame.drop(columns=permission.target), frame[permission.target].to_numpy()
    if all(np.issubdtype(kind, np.number) for kind in X.dtypes if isinstance(kind, np.dtype)):
        X = X.astype(np.float64)
    return X, y


def job_of(path: str | Path, folder: str | Path) -> Any:
    """The estimator of a job file: ``run``, ``estimator`` and a table ``[parameters]``; nothing in it is code.

    Raises
    ------
    ValueError
        If the file is unfit, or the estimator is none of dnnext.
    """
    import dnnext

    try:
        job = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the job must be a TOML file, got {short(str(path))}: {error}.") from None
    unknown = set(job) - {"run", "estimator", "parameters"}
    if unknown or not isinstance(job.get("run"), str) or not isinstance(job.get("estimator"), str):
        raise ValueError(f"the job must have run = '...', estimator = '...' and [parameters], got {sorted(job)}.")
    parameters = job.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ValueError(f"the job must have a table [parameters], got {short(parameters)}.")
    forbidden = {"engine", "engine_options", "callbacks"} & set(parameters)
    if forbidden:
        raise ValueError(f"the parameters of a job must not hold {sorted(forbidden)}: the site decides these.")
    if job["estimator"] not in dnnext.__all__ or not job["estimator"].startswith("Decentralized"):
        raise ValueError(f"estimator must be an estimator of dnnext, got {short(job['estimator'])}.")
    try:
        made = getattr(dnnext, job["estimator"])(**parameters)
    except TypeError as error:
        raise ValueError(f"the job must have the parameters of {job['estimator']}, got {error}.") from None
    return made.set_params(engine="nats", engine_options={"folder": str(folder), "run": job["run"]})
