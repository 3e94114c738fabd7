"""What NVIDIA FLARE runs of dnnext at a site; this file imports nvflare."""

from __future__ import annotations

import logging
import tempfile
import threading
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import make_reply

from dnnext.estimators import sites
from dnnext.sites import flare_link
from dnnext.sites.audit import Audit
from dnnext.sites.flare import JOB, MODEL, READY, REASON, SITES, TRAIN, Cells, open_link
from dnnext.sites.permission import AUDIT

__all__ = ["SiteExecutor"]

log = logging.getLogger("dnnext.sites")

MOST_EARLY = 1000  # messages that are kept before this site has begun
TICK = 0.2  # seconds between two looks at whether FLARE ends the job


class SiteExecutor(Executor):
    """A site's part of a job: trains on the rows that its administrator has named in ``local/dnnext.toml``.

    The administrator allows it once: ``dnnext site allow WORKSPACE/local ...`` adds this class to `class_allow_list`
    in ``local/resources.json``. It takes no parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cells: Cells | None = None
        self._link: flare_link.FlareLink | None = None
        self._early: list[tuple[str, bytes]] = []  # messages that came before this site's own task
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        """Take messages from the start on."""
        if event_type == EventType.START_RUN:
            self._cells = Cells(fl_ctx.get_engine(), fl_ctx.get_job_id(), self._receive)

    def _receive(self, name: str, data: bytes) -> None:
        with self._lock:
            if self._link is None:
                if len(self._early) < MOST_EARLY:  # what is dropped is asked for again
                    self._early.append((name, data))
                return
        self._link.put(name, data)

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        """Do one task."""
        assert self._cells is not None
        me, names = fl_ctx.get_identity_name(), list(shareable[SITES])
        if task_name == READY:
            self._cells.know([name for name in names if name != me])
            return make_reply(ReturnCode.OK)
        if task_name != TRAIN:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            data = self._train(str(shareable[JOB]), names, me, fl_ctx, abort_signal)
        except Exception as error:  # why is for the administrator of this site
            log.exception("the job ended: %s", error)
            reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
            reply[REASON] = f"{type(error).__name__}, see the log of this site"
            return reply
        reply = make_reply(ReturnCode.OK)
        reply[MODEL] = data
        return reply

    def folder(self, fl_ctx: Any) -> Path:
        """Where dnnext.toml lies."""
        return Path(fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT).get_site_config_dir())

    def _train(self, text: str, names: list[str], me: str, fl_ctx: Any, abort_signal: Any) -> bytes:
        """What `work` returns, with a link to the other sites."""
        assert self._cells is not None
        folder, done = self.folder(fl_ctx), threading.Event()
        kit = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT).get_startup_kit_dir()
        link = open_link(self._cells, names, me, kit)
        with self._lock:
            self._link = link
            for message in self._early:
                link.put(*message)
            self._early.clear()

        def watch() -> None:
            while not done.wait(TICK):
                if abort_signal.triggered:
                    link.stop("FLARE has ended the job")
                    return

        threading.Thread(target=watch, name=f"{me} watches the job", daemon=True).start()
        flare_link.use(folder, link)
        try:
            return self.work(text, folder)
        finally:
            done.set()
            flare_link.use(folder, None)

    def work(self, text: str, folder: Path) -> bytes:
        """Train, with the link of the job in use; the bytes of the model's file, which goes to the server."""
        fitted = sites.train_job(text, folder)
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "model.npz"
            fitted.set_params(engine="local", engine_options=None, callbacks=None).save(out)
            data = out.read_bytes()
        Audit(folder / AUDIT).message(to="the hub", operation=0, what="model", data=data)
        return data
