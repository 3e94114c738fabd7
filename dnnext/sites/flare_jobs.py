"""Jobs of NVIDIA FLARE: the folder that is submitted, and what a person asks the server; parameters only.

Design
------
A job holds two JSON files, which name one class each, and its own text as the controller's argument. No code travels:
dnnext is installed at the server and at the sites, and sites have allowed the class that runs there.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnnext._checks import short

__all__ = [
    "CONTROLLER", "EXECUTOR", "allow_class", "connected", "escaped", "fetch", "is_allowed", "is_kit", "session",
    "site_folder", "status", "submit", "wait", "write_folder",
]  # fmt: skip

EXECUTOR, CONTROLLER = "dnnext.estimators.flare.SiteExecutor", "dnnext.sites.flare.StartSites"
PERSON = Path("startup", "fed_admin.json")  # in a person's startup kit
RESOURCES = "resources.json"  # in the folder `local` of a site or server


def escaped(text: str) -> str:
    """The text without braces, which FLARE would replace by variables of its server's environment.

    Examples
    --------
    >>> escaped("a = {b = 1}")
    'a = %7Bb = 1%7D'
    """
    for mark in "%{}":
        text = text.replace(mark, f"%{ord(mark):02X}")
    return text


def is_kit(folder: Any) -> bool:
    """Whether the folder is a person's startup kit of FLARE."""
    return (Path(folder) / PERSON).exists()


def site_folder(folder: Any) -> Path:
    """Where a site's dnnext.toml lies: in the folder `local` of a workspace of FLARE, else in the folder itself."""
    local = Path(folder) / "local"
    return local if any((local / f"{RESOURCES}{end}").exists() for end in ("", ".default")) else Path(folder)


def write_folder(folder: Any, run: str, text: str, sites: Sequence[str], limits: Mapping[str, float]) -> Path:
    """The folder of a job, as FLARE takes it.

    Parameters
    ----------
    folder : path
        Where to write it.
    run, text : str
        The job's name and TOML text.
    sites : sequence of str
        All sites in rank order.
    limits : mapping
        Seconds: start, dead, answer.

    Returns
    -------
    Path
        The folder of this job.
    """
    place = Path(folder) / run
    config = place / "app" / "config"
    config.mkdir(parents=True)
    answer = {"get_task_timeout": limits["answer"], "submit_task_result_timeout": limits["answer"]}
    server = {
        "format_version": 2,
        "dead_client_grace_period": limits["dead"],
        "workflows": [
            {
                "id": "dnnext",
                "path": CONTROLLER,
                "args": {"job": escaped(text), "sites": list(sites), "start": int(limits["start"])},
            }
        ],
        "components": [],
    }
    client = {
        "format_version": 2, **answer,
        "executors": [{"tasks": ["*"], "executor": {"path": EXECUTOR, "args": {}}}],
        "task_result_filters": [], "task_data_filters": [], "components": [],
    }  # fmt: skip
    meta = {
        "name": run, "resource_spec": {}, "deploy_map": {"app": ["@ALL"]} if not sites else {"app": ["server", *sites]},
        "min_clients": max(1, len(sites)), "mandatory_clients": list(sites),
    }  # fmt: skip
    for path, content in (
        (config / "config_fed_server.json", server), (config / "config_fed_client.json", client),
        (place / "meta.json", meta),
    ):  # fmt: skip
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return place


@contextlib.contextmanager
def session(kit: Any) -> Iterator[Any]:
    """A session of a person with FLARE's server.

    Parameters
    ----------
    kit : path
        The person's startup kit; its folder has the person's name, or the name of a file in it.

    Raises
    ------
    ImportError
        If nvflare is missing.
    ValueError
        If the kit is none, or what is asked of the server in the session is refused.
    ConnectionError
        If the server is not reached.
    """
    try:
        from nvflare.fuel.flare_api.flare_api import new_secure_session
    except ImportError as error:
        raise ImportError(f"engine='flare' needs nvflare: `pip install nvflare`. Python reports: {error}") from error
    place = Path(kit)
    try:
        name = json.loads((place / PERSON).read_text(encoding="utf-8"))["admin"]["username"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"kit must be the folder of a person's startup kit of FLARE, got {short(str(kit))}: {error}."
        ) from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it connects
            open_session = new_secure_session(name, str(place))
    except Exception as error:
        raise ConnectionError(f"FLARE's server cannot be reached as {name}, or refused: {error}.") from error
    try:
        yield open_session
    except Exception as error:
        if not type(error).__module__.startswith("nvflare"):
            raise
        raise ValueError(f"FLARE's server refused: {type(error).__name__}: {error}.") from error
    finally:
        open_session.close()


def connected(opened: Any) -> list[str]:
    """The sites that are connected to the server, sorted."""
    return sorted(client.name for client in opened.get_system_info().client_info)


def submit(kit: Any, run: str, text: str, sites: Sequence[str], limits: Mapping[str, float]) -> str:
    """Submit a job; its id.

    Raises
    ------
    ValueError
        If a site is not connected, or none is, or there is a job of this name.
    """
    with session(kit) as opened, tempfile.TemporaryDirectory() as folder:
        if run in [str(job.get("job_name")) for job in opened.list_jobs(detailed=False)]:
            raise ValueError(f"run must be a new name, got {short(run)}, which was submitted before.")
        here = connected(opened)
        missing = [site for site in sites if site not in here]
        if missing or not here:
            raise ValueError(
                f"sites must be connected to FLARE's server, got {short(missing or 'none')}; connected: {short(here)}."
            )
        return str(opened.submit_job(str(write_folder(folder, run, text, list(sites) or here, limits))))


def status(kit: Any) -> list[tuple[str, str, str]]:
    """(id, name, state) of every job, oldest first."""
    with session(kit) as opened:
        found = sorted(opened.list_jobs(detailed=False), key=lambda job: str(job.get("submit_time", "")))
        return [(str(job["job_id"]), str(job.get("job_name", "")), str(job.get("status", ""))) for job in found]


def wait(kit: Any, job_id: str) -> str:
    """The state of a job once it has ended."""
    with session(kit) as opened:
        opened.monitor_job(job_id)
        return str(opened.get_job_meta(job_id).get("status"))


def fetch(kit: Any, job: str) -> dict[str, bytes]:
    """What the sites of a job, named by its id or run, handed in, by site.

    Raises
    ------
    ValueError
        If there is no such job.
    """
    found = [each for each, name, _ in status(kit) if job in (each, name)]
    if not found:
        raise ValueError(f"run must be the name or id of a job of FLARE, got {short(job)}.")
    with session(kit) as opened, tempfile.TemporaryDirectory() as folder:
        place = opened.download_job_result(found[-1], folder)
        return {path.stem: path.read_bytes() for path in sorted(Path(place).glob("**/models/*.npz"))}


def is_allowed(folder: Any, name: str = EXECUTOR) -> bool:
    """Whether FLARE may build a class at the site or server of this folder ``local``."""
    file = Path(folder) / RESOURCES
    return file.exists() and name in json.loads(file.read_text(encoding="utf-8")).get("class_allow_list", [])


def allow_class(folder: Any, name: str = EXECUTOR) -> bool:
    """Add a class to those that FLARE may build at this site or server; whether the folder is one of FLARE's.

    Parameters
    ----------
    folder : path
        The folder ``local`` of the workspace.
    name : str
        `EXECUTOR` at a site, `CONTROLLER` at the server.

    Raises
    ------
    ValueError
        If its file is unfit.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "resources.json").write_text('{"class_allow_list": []}')
    ...     allow_class(folder), json.loads((Path(folder) / "resources.json").read_text())["class_allow_list"]
    (True, ['dnnext.estimators.flare.SiteExecutor'])
    """
    place = Path(folder)
    files = [place / RESOURCES, place / f"{RESOURCES}.default"]
    source = next((file for file in files if file.exists()), None)
    if source is None:
        return False
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        allowed = content.setdefault("class_allow_list", [])
        if name not in allowed:
            allowed.append(name)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{str(source)!r} must be a JSON file of FLARE with class_allow_list, got {error}.") from None
    part = place / f"{RESOURCES}.part"
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, place / RESOURCES)
    return True
