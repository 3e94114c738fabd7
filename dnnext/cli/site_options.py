"""The options of `dnnext site` and `dnnext sites`; light, as the command line is built before any work."""

from __future__ import annotations

from dnnext.sites import permission


def add(commands, shared):
    """The commands on the command line."""
    site = commands.add_parser("site", help="a site among others: certificate, permission, jobs, audit")
    verbs = site.add_subparsers(title="commands", required=True, metavar="COMMAND")
    p = _verb(verbs, shared, "request", "make a key and a request for a certificate", "FOLDER")
    p.add_argument("--name", required=True, help="the site, such as site-a")
    p.add_argument("--host", action="append", default=[], help="a DNS name of the relay (repeatable)")
    p = _verb(verbs, shared, "join", "take the signed certificate; with --data, allow as well", "FOLDER")
    p.add_argument("--certificate", required=True, metavar="PEM", help="what the authority has signed")
    p.add_argument("--ca", required=True, metavar="PEM", help="the authority's certificate")
    p.add_argument("--relay", required=True, metavar="tls://HOST:PORT", help="the relay")
    p.add_argument("--sites", required=True, metavar="A,B,...", help="all sites, the same everywhere")
    p.add_argument("--relay-name", metavar="NAME", help="in the relay's certificate (default: the host)")
    _allowed(p, False)
    _allowed(_verb(verbs, shared, "allow", "name the rows and what jobs may do", "FOLDER"), True)
    _verb(verbs, shared, "check", "certificate, relay, permission, versions", "FOLDER")
    p = _verb(verbs, shared, "run", "take part in a job", "FOLDER")
    p.add_argument("job", metavar="JOB.toml", nargs="?", help="a file (default: wait for the next one of the hub)")
    p.add_argument("--out", metavar="MODEL.npz", help="(default: in the folder, by the name of the run)")
    p = verbs.add_parser("audit", parents=[shared], help="sum up what left the site, and check the file")
    p.add_argument("file", metavar="FOLDER", help="the site's folder, or the file")
    p.set_defaults(command="site:show_audit")
    hub = commands.add_parser("sites", help="the hub: the relay of all sites")
    verbs = hub.add_subparsers(title="commands", required=True, metavar="COMMAND")
    p = _verb(verbs, shared, "relay", "write the configuration of nats-server", "FOLDER")
    p.add_argument("--sites", required=True, metavar="A,B,...", help="who may connect")
    p.add_argument("--name", default="relay", help="in the hub's certificate (default: %(default)s)")
    p.add_argument("--host", default="0.0.0.0", help="where to listen (default: all interfaces)")
    p.add_argument("--port", type=int, default=4222, help="(default: %(default)s)")
    _at_relay(_verb(verbs, shared, "open", "once: make the relay keep messages", "FOLDER", "open_stream"), True)
    _verb(verbs, shared, "allow", "once, over NVIDIA FLARE: its server may run jobs of dnnext", "FOLDER", "allow_hub")
    p = _at_relay(_verb(verbs, shared, "submit", "a job for all sites", "FOLDER"))
    p.add_argument("job", metavar="JOB.toml", help="run, estimator, [parameters]")
    _at_relay(_verb(verbs, shared, "status", "jobs, and the sites that are done", "FOLDER"))
    p = _at_relay(_verb(verbs, shared, "fetch", "the model of a run", "FOLDER"))
    p.add_argument("run", help="its name")
    p.add_argument("--site", metavar="NAME", help="whose model, where they differ (default: all must be equal)")
    p.add_argument("--out", metavar="MODEL.npz", help="(default: by the name of the run)")


def _allowed(p, required):
    """What jobs may use and do: `allow` needs it, `join` may take it at once."""
    base = permission.Permission("file", "column")
    p.add_argument("--data", required=required, metavar="FILE", help="CSV or Parquet; it never leaves")
    p.add_argument("--target", required=required, metavar="COLUMN", help="the column to predict")
    p.add_argument("--min-rows", type=int, help=f"(default: {base.min_rows})")
    p.add_argument("--allow", metavar="CLASS,...", help=f"(default: {','.join(base.allow)})")
    p.add_argument("--max-weights", type=int, help=f"largest model (default: {base.max_weights})")
    p.add_argument("--max-iter", type=int, help=f"of one job (default: {base.max_iter})")


def _at_relay(p, required=False):
    words = "the relay" if required else "the relay; without it FOLDER is a person's startup kit of NVIDIA FLARE"
    p.add_argument("--relay", required=required, metavar="tls://HOST:PORT", help=words)
    p.add_argument("--name", default="relay", help="in the hub's certificate (default: %(default)s)")
    p.add_argument("--relay-name", metavar="NAME", help="(default: the host)")
    return p


def _verb(verbs, shared, name, words, place, function=None):
    p = verbs.add_parser(name, parents=[shared], help=words)
    p.add_argument("folder", metavar=place, help="with key and certificates, or of NVIDIA FLARE")
    p.set_defaults(command=f"site:{function or name}")
    return p
