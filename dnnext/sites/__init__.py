"""Institutions that only reach out: the engines between them, what their messages look like, and what a site allows.

Design
------
`runtime.engines` holds the registry; importing this package adds the engines between sites to it.
"""

from dnnext.runtime.engines import ENGINES, Engine, check_engine, open_communicator
from dnnext.sites.opening import JOB, LINK, SITES, decline, open_flare, open_nats

__all__ = ["ENGINES", "check_engine", "decline", "open_communicator"]

ENGINES["nats"] = Engine(open_nats, ("folder", *LINK, *SITES, "audit"), True, ("wait", "stop", "shrink"))
ENGINES["flare"] = Engine(open_flare, ("folder", *JOB, *SITES, "audit"), True, ("wait", "stop", "shrink"))
