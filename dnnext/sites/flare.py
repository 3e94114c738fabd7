"""What NVIDIA FLARE runs of dnnext at its server, and the cells that carry messages; this file imports nvflare.

Design
------
* FLARE does TLS, certificates, roles, the start of jobs and the relay; here are a controller with two tasks, ``ready``
  and ``train``, and messages from site to site. They go as requests without an answer over the cells of the job, with
  ``secure=True``. (An aux message of nvflare 2.9 without an answer drops `secure`, so aux messages are not used.)
* The server hands out the job, which is a text of parameters, and takes the trained models; it relays messages, sealed.
* The task ``ready`` comes first because a cell drops messages for which it has no handler yet.
* Apache-2.0 software of NVIDIA, https://github.com/NVIDIA/NVFlare; used by its classes, nothing is copied.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dnnext._checks import short
from dnnext.sites.flare_link import FlareLink
from dnnext.sites.signed_keys import SignedKeys

try:
    from cryptography import x509
    from cryptography.x509.oid import NameOID
    from cryptography.x509.verification import VerificationError
    from nvflare.apis.controller_spec import TaskCompletionStatus
    from nvflare.apis.fl_constant import FLContextKey, ReturnCode
    from nvflare.apis.impl.controller import Controller, Task
    from nvflare.apis.shareable import Shareable
    from nvflare.fuel.f3.cellnet.core_cell import Message
    from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
    from nvflare.fuel.f3.cellnet.fqcn import FQCN
    from nvflare.lighter.utils import verify_cert_chain
except ImportError as error:
    raise ImportError(f"engine='flare' needs nvflare: `pip install nvflare`. Python reports: {error}") from error

__all__ = ["JOB", "MODEL", "READY", "SITES", "TRAIN", "Cells", "StartSites"]

log = logging.getLogger("dnnext.sites")

READY, TRAIN = "ready", "train"  # tasks
JOB, SITES, MODEL, REASON = "job", "sites", "model", "reason"  # what they carry
CHANNEL, TOPIC = "dnnext", "message"
TICK, GRACE = 0.1, 5.0  # seconds


class StartSites(Controller):
    """The server's part of a job: all sites are ready, then all train, then their models are kept.

    Parameters
    ----------
    job : str
        The job, a TOML text, as `escaped` writes it.
    sites : sequence of str
        All sites in rank order.
    start : int
        Seconds for all sites to be ready.
    """

    def __init__(self, job: str, sites: Sequence[str], start: int = 600) -> None:
        super().__init__()
        self.job, self.sites, self.start = unquote(job), list(sites), start
        self.reasons: dict[str, str] = {}

    def start_controller(self, fl_ctx: Any) -> None:
        """Nothing to prepare."""

    def stop_controller(self, fl_ctx: Any) -> None:
        """Nothing to put away."""

    def process_result_of_unknown_task(self, *args: Any, **options: Any) -> None:
        """A late answer: nothing to do."""

    def control_flow(self, abort_signal: Any, fl_ctx: Any) -> None:
        """Both tasks, one after the other."""
        if self._do(READY, self.start, abort_signal, fl_ctx):
            self._do(TRAIN, 0, abort_signal, fl_ctx)

    def _do(self, name: str, seconds: int, abort_signal: Any, fl_ctx: Any) -> bool:
        """Whether all sites did the task; else the job ends with a sentence."""
        data = Shareable()
        data[JOB], data[SITES] = self.job, self.sites
        answered: set[str] = set()

        def note(client_task: Any, fl_ctx: Any) -> None:
            site, result = client_task.client.name, client_task.result
            if result.get_return_code() != ReturnCode.OK:
                self.reasons[site] = str(result.get(REASON, result.get_return_code()))
            else:
                answered.add(site)
                if MODEL in result:
                    self._keep(site, result[MODEL], fl_ctx)

        task = Task(name, data, timeout=seconds, result_received_cb=note)
        self.broadcast(task=task, targets=self.sites, min_responses=len(self.sites), fl_ctx=fl_ctx)
        while task.completion_status is None and not abort_signal.triggered:
            time.sleep(TICK)
            if self.reasons:  # the others know why in a moment, if that site had joined them, else from here
                time.sleep(GRACE)
                self.cancel_task(task, fl_ctx=fl_ctx)
                break
        missing = [site for site in self.sites if site not in answered]
        if not missing or abort_signal.triggered:
            return not missing
        if task.completion_status == TaskCompletionStatus.TIMEOUT:
            what = f"did not answer within {seconds} s"
        else:
            what = "did not take part to the end"
        reasons = "".join(f"; {site}: {reason}" for site, reason in self.reasons.items())
        self.system_panic(f"{', '.join(missing)} {what}{reasons}", fl_ctx)
        return False

    def _keep(self, site: str, model: bytes, fl_ctx: Any) -> None:
        """Among the files of the job, which `dnnext sites fetch` downloads."""
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        folder = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / "models"
        folder.mkdir(exist_ok=True)
        (folder / f"{site}.npz").write_bytes(model)


class Cells:
    """Messages between the processes of one job at its sites.

    Parameters
    ----------
    engine : ClientEngineSpec
        Of the job's process.
    job_id : str
        Of the job.
    received : callable
        ``received(name, data)`` for every message and the site that sent it.
    """

    def __init__(self, engine: Any, job_id: str, received: Callable[[str, bytes], Any]) -> None:
        self.core, self.received = engine.get_cell().core_cell, received
        self.engine, self.job_id = engine, job_id
        self._places: dict[str, str] = {}  # by site
        self._names: dict[str, str] = {}  # by place
        self.core.register_request_cb(CHANNEL, TOPIC, self._take)

    def know(self, names: Sequence[str]) -> None:
        """Find the cells of these sites.

        Raises
        ------
        ValueError
            If a site is none of the job's.
        """
        for name in names:
            client = self.engine.get_client_from_name(name)
            if client is None:
                raise ValueError(
                    f"sites of a job must be connected to FLARE's server, got {short(name)}, which is not."
                )
            place = FQCN.join([client.get_fqcn(), self.job_id])
            self._places[name], self._names[place] = place, name

    @property
    def is_secure(self) -> bool:
        """Whether sites have certificates; FLARE's simulator has none."""
        return bool(self.core.supports_secure_messages())

    def post(self, name: str, data: bytes) -> None:
        """Send to a site; what is lost is asked for again by its receiver."""
        try:
            errors = self.core.fire_and_forget(
                CHANNEL, TOPIC, self._places[name], Message(payload=data), secure=self.is_secure, optional=True
            )
        except Exception as error:
            log.info("a message to %s was not sent: %r", name, error)
            return
        if any(errors.values()):
            log.info("a message to %s was not sent: %s", name, errors)

    def _take(self, message: Any) -> None:
        """Called by a thread of the cell."""
        name, data = self._names.get(message.get_header(MessageHeaderKey.ORIGIN, "")), message.payload
        if name is None:  # of no site of this job
            return
        # FLARE decodes objects, too; bytes(10**12), of an int, would take all memory
        self.received(name, bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"")


def open_link(cells: Cells, names: Sequence[str], site: str, kit: Any) -> FlareLink:
    """The link of a job at this site, sealed by its certificate where it has one.

    Parameters
    ----------
    cells : Cells
    names : sequence of str
        All sites in rank order.
    site : str
        This one.
    kit : path
        The folder ``startup`` of the site.
    """
    cells.know([name for name in names if name != site])
    if not cells.is_secure:
        log.warning("FLARE runs without certificates, as in its simulator: messages are not sealed")
        return FlareLink(names, site, cells.post)
    place = Path(kit)
    authority = x509.load_pem_x509_certificate((place / "rootCA.pem").read_bytes())

    def check(certificates: list[Any], name: str) -> None:
        check_certificates(certificates, name, authority)

    rank = list(names).index(site)
    cert, key = (place / "client.crt").read_bytes(), (place / "client.key").read_bytes()
    return FlareLink(names, site, cells.post, SignedKeys(cert, key, names, rank, cells.job_id, check))


def check_certificates(certificates: list[Any], name: str, authority: Any) -> None:
    """The first certificate was issued by the authority of the project to the site of this name, and is valid now.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    first = certificates[0]
    held = [attribute.value for attribute in first.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if held != [name]:
        raise ValueError(f"the certificate of {name} must have the common name {name!r}, got {short(held)}.")
    try:
        verify_cert_chain(first, certificates[1:], authority)
    except (ValueError, VerificationError) as error:
        raise ValueError(
            f"the certificate of {name} must be valid now and issued by the authority of the project, got: {error}."
        ) from None
