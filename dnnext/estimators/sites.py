"""Training on the rows that a site's administrator has named and allowed: `fit_sites`.

# Design:
#   The person who starts a job names no paths and sends no code: the job is parameters. What the site trains on, with
#   which estimators, how large and how long, stands in the file dnnext.toml of the site's folder.
"""

from __future__ import annotations

import logging
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dnnext._checks import short
from dnnext._version import __version__
from dnnext.estimators.files import load
from dnnext.estimators.job_file import FIELDS, LIMITS, OF_SITES, read_job, write_job
from dnnext.estimators.resuming import resume
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import AgentsLost
from dnnext.runtime.machine import machine
from dnnext.sites import check_engine, decline, flare_jobs
from dnnext.sites.audit import Audit
from dnnext.sites.permission import AUDIT, Permission, read_permission

log = logging.getLogger("dnnext.sites")


def fit_sites(estimator: Any, fit: Any = None) -> Any:
    """The estimator, trained on the rows of this site and of the others; fit(X, y) other than its own fit_local."""
    check_engine(estimator.engine, estimator.engine_options)
    options = estimator.engine_options or {}
    if estimator.engine == "flare" and options.get("kit"):
        return submit_and_wait(estimator, options)
    if estimator.engine not in ("nats", "flare") or not options.get("folder"):
        raise ValueError(
            "fit_sites needs engine='nats' and engine_options={'folder': ..., 'run': ...} with the folder of the site, "
            "or engine='flare' and engine_options={'kit': ..., 'run': ...} with the startup kit of a person, got "
            f"engine={estimator.engine!r} and engine_options={estimator.engine_options!r}."
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
        _decline(estimator.engine, options)
        raise
    Audit(Path(options["folder"]) / AUDIT).note(
        job=options.get("run"), estimator=type(estimator).__name__, rows=len(X), data=permission.data,
        versions={"dnnext": __version__, **machine()},
        parameters={k: repr(v) for k, v in estimator.get_params(deep=False).items()},
    )  # fmt: skip
    return (fit or estimator.fit_local)(X, y)


def train_job(text: str, folder: Any) -> Any:
    """The estimator of a job of FLARE, trained by this site and the others; a job may go on from an earlier one."""
    job = read_job(text)
    options = {"folder": str(folder), "run": job.run, **job.options()}
    kept = Path(folder) / "checkpoints"
    if (kept / job.run).exists():  # else a job that goes on from this one might take up the earlier one
        _decline("flare", options)
        raise ValueError(f"run must be a new name, got {job.run!r}, of which this site keeps checkpoints.")
    callbacks = [Checkpoint(kept / job.run, job.checkpoint_every)] if job.checkpoint_every else None
    estimator = job.made(engine="flare", engine_options=options, callbacks=callbacks)
    if not job.resume:
        return fit_sites(estimator)
    changed = {**job.parameters, "max_iter": estimator.max_iter, "engine": "flare", "engine_options": options}

    def go_on(X: Any, y: Any) -> Any:
        kind = checkpoint.notes_of(kept / job.resume)[1].get("class")
        if kind != job.estimator:  # what the site allows was compared with the job
            raise ValueError(f"estimator must be {kind}, as in the run {job.resume!r}, got {job.estimator}.")
        return resume(kept / job.resume, X, y, callbacks=callbacks or [], **changed)

    return fit_sites(estimator, go_on)


def submit_and_wait(estimator: Any, options: Any) -> Any:
    """The estimator, as the sites of a FLARE project have trained it; this process is no site."""
    given = {name: options[name] for name in FIELDS if name in options}
    limits = {name: options[name] for name in OF_SITES if name in options}
    unused = set(options) - {"kit", "run", *given, *limits}
    if unused:
        raise ValueError(f"engine_options with a kit must not hold {sorted(unused)}, which a site decides.")
    text = write_job(estimator, options.get("run"), limits=limits, **given)
    job_id = submit_job(options["kit"], text)
    log.info("submitted %s as %s", options["run"], job_id)
    state = flare_jobs.wait(options["kit"], job_id)
    found = flare_jobs.fetch(options["kit"], job_id)
    if not found:
        raise AgentsLost(f"the sites handed in no model: FLARE says {state} of job {job_id}, and its log says why.")
    check_same(found)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(min(found.items())[1])
        fitted = load(path)
    own = estimator.get_params(deep=False)
    vars(estimator).update(vars(fitted))
    return estimator.set_params(**own)


def submit_job(kit: Any, text: str) -> str:
    """The id of a job that was submitted to FLARE's server with the startup kit of a person."""
    job = read_job(text)
    job.made()  # refuses what the sites would refuse
    return flare_jobs.submit(kit, job.run, text, job.sites, {**LIMITS, **job.limits})


def check_same(models: dict[str, bytes]) -> None:
    """All sites have handed in the same weights, to the bit; models: files by site.

    Raises
    ------
    ValueError
        Naming a site with other weights and the largest difference.
    """
    weights = {}
    with tempfile.TemporaryDirectory() as folder:
        for site, data in sorted(models.items()):
            path = Path(folder) / "model.npz"
            path.write_bytes(data)
            weights[site] = load(path)._network.row
    first = min(weights)
    for site, row in weights.items():
        if row.shape != weights[first].shape or not np.array_equal(row, weights[first]):
            by = f"{np.max(np.abs(row - weights[first])):.2g}" if row.shape == weights[first].shape else "their number"
            raise ValueError(
                f"the models must be equal at all sites, got another one at {site} than at {first} (the weights differ "
                f"by {by}): machines that round otherwise differ in the last digits; choose one by `dnnext sites "
                "fetch` with --site."
            )


def _decline(engine: str, options: Any) -> None:
    """The others end at once; why is for the administrator of this site alone."""
    try:
        decline(engine, options, "this site does not take part: its administrator knows why")
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
            f"fit_sites reads files by pandas: `pip install pandas pyarrow`. Python reports: {error}"
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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"the job must be a TOML file, got {short(str(path))}: {error}.") from None
    job = read_job(text)
    if job.sites or job.checkpoint_every or job.resume or job.limits:
        raise ValueError("sites, checkpoint_every, resume and [limits] must not be in a job that goes over NATS.")
    return job.made(engine="nats", engine_options={"folder": str(folder), "run": job.run})
