"""`dnnext site ...` at a site and `dnnext sites ...` at the hub: files, certificates, jobs."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from dnnext.cli.report import notes_on_stderr
from dnnext.sites import audit, flare_jobs, permission

FAR_OFF = 60.0  # seconds between two clocks


def _quiet():
    """No notes of asyncio on how connections close."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def request(args):
    """A key and a request."""
    from dnnext.sites import enrolment

    path = enrolment.request(args.folder, args.name, args.host)
    print(f"key     {path.with_suffix('.key')}  (stays here)")
    print(f"request {path}  (to the authority; what it signs goes to `dnnext site join`)")


def join(args):
    """The signed certificate into the folder, and what jobs may do where the rows are named."""
    from dnnext.sites import enrolment

    chosen = _chosen(args)
    if chosen and not {"data", "target"} <= set(chosen):
        raise ValueError(f"--data and --target must both be given with {', '.join(chosen)}, got only these.")
    path = enrolment.join(args.folder, args.certificate, args.ca, args.relay, args.sites.split(","), args.relay_name)
    print(f"joined  {path}; {enrolment.days_left(args.certificate):.0f} days are left of the certificate")
    if chosen:
        allow(args)


def allow(args):
    """What jobs may use and do."""
    from dnnext.estimators import sites

    chosen = permission.Permission(**_chosen(args))
    X, _ = sites.read_rows(chosen)
    folder = flare_jobs.site_folder(args.folder)
    print(f"allowed {permission.write_permission(folder, chosen)}: {X.shape[0]} rows, {X.shape[1]} columns")
    if flare_jobs.allow_class(folder):
        print(f"allowed {flare_jobs.EXECUTOR} in {folder / flare_jobs.RESOURCES}")


def _chosen(args):
    """What was given of the permission, by name."""
    names = [field.name for field in dataclasses.fields(permission.Permission)]
    chosen = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "data" in chosen:
        chosen["data"] = str(Path(chosen["data"]).resolve())
    if "allow" in chosen:
        chosen["allow"] = tuple(chosen["allow"].split(","))
    return chosen


def allow_hub(args):
    """FLARE's server may build the controller."""
    folder = flare_jobs.site_folder(args.folder)
    if not flare_jobs.allow_class(folder, flare_jobs.CONTROLLER):
        raise ValueError(f"FOLDER must be the workspace of a server of FLARE, got {args.folder!r}.")
    print(f"allowed {flare_jobs.CONTROLLER} in {folder / flare_jobs.RESOURCES}")


def _clock(ahead):
    if ahead is None:
        return "not compared: the hub has not opened its streams (`dnnext sites open`)"
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the relay's"
    return words + (": set it, certificates are valid by the clock" if abs(ahead) > FAR_OFF else "")


def check(args):
    """Certificate, relay, versions."""
    from dnnext._version import __version__
    from dnnext.runtime.machine import machine
    from dnnext.sites import enrolment

    _quiet()
    folder = flare_jobs.site_folder(args.folder)
    if folder == Path(args.folder):
        from dnnext.sites import connection

        options = enrolment.folder_options(args.folder)
        where = [options[name] for name in ("relay", "site", "cert", "key", "ca")]
        ahead = connection.reach(*where, options.get("relay_name"))
        print(f"relay       {options['relay']} reached as {options['site']}")
        print(f"clock       {_clock(ahead)}")
        certificate = options["cert"]
    else:
        print("relay       FLARE's server: `nvflare preflight-check -p FOLDER` tries it")
        print(f"executor    {'allowed' if flare_jobs.is_allowed(folder) else 'not allowed: `dnnext site allow`'}")
        certificate = folder.parent / "startup" / "client.crt"
    print(f"certificate {enrolment.days_left(certificate):.0f} days left")
    found = permission.read_permission(folder)
    rows = (
        "nothing: write dnnext.toml by `dnnext site allow`" if found is None else f"{found.data}, target {found.target}"
    )
    print(f"allowed     {rows}")
    for name, value in {"dnnext": __version__, **machine()}.items():
        print(f"{name:11s} {value}")


def run(args):
    """Take part in a job."""
    from dnnext.estimators import sites

    _quiet()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.job is not None:
        _train(args, sites.job_of(args.job, args.folder))
        return
    from dnnext.sites import enrolment, jobs

    place, options = Path(args.folder), enrolment.folder_options(args.folder)
    kept = place / "jobs"  # apart from dnnext.toml and site.toml, which no job may replace
    kept.mkdir(exist_ok=True)
    name, text = jobs.wait_for_job(
        options, lambda name: (kept / f"{name}.done").exists() or (kept / f"{name}.ended").exists()
    )
    job = kept / f"{name}.toml"
    job.write_text(text, encoding="utf-8")
    try:
        estimator = sites.job_of(job, args.folder)
        if estimator.engine_options["run"] != name:
            raise ValueError(f"run in the job {name!r} must be {name!r}, got {estimator.engine_options['run']!r}.")
        out = place / f"{name}.npz"
        if args.out is not None or not out.exists():  # else only handing in is left to do
            out = _train(args, estimator)
    except ConnectionError:
        raise
    except Exception as error:
        job.with_suffix(".ended").write_text(f"{error}\n", encoding="utf-8")  # else it would be the next job for ever
        raise
    data = out.read_bytes()
    audit.Audit(place / permission.AUDIT).message(to="the hub", operation=0, what="model", data=data)
    jobs.hand_in(options, name, data)
    job.with_suffix(".done").touch()


def _train(args, estimator):
    """The file of the model."""
    run = estimator.engine_options["run"]
    with notes_on_stderr():
        estimator.fit_sites()
    out = Path(args.out or Path(args.folder) / f"{run}.npz")
    estimator.set_params(engine="local", engine_options=None).save(out)
    print(f"{estimator.n_iter_} iterations, {estimator.status_}; the model: {out}")
    return out


def show_audit(args):
    """What left the site."""
    path = flare_jobs.site_folder(args.file)
    print(audit.summary(path / permission.AUDIT if path.is_dir() else path))


def relay(args):
    """The relay's configuration."""
    from dnnext.sites.relay import relay_conf

    path = Path(args.folder) / "relay.conf"
    path.write_text(relay_conf(args.sites.split(","), args.folder, args.name, args.host, args.port), encoding="utf-8")
    print(f"written {path}: start `nats-server -c {path}`, then `dnnext sites open`")


def open_stream(args):
    """The stream that keeps messages."""
    from dnnext.sites.connection import open_stream

    _quiet()
    place = Path(args.folder)
    files = place / f"{args.name}.pem", place / f"{args.name}.key", place / "ca.pem"
    open_stream(args.relay, *files, hub=args.name, relay_name=args.relay_name)
    print(f"the relay {args.relay} keeps messages for 7 days or 2 GB")


def _hub(args):
    """Where the relay is, and the hub's certificate."""
    from dnnext.sites import jobs

    if args.relay is None:
        raise ValueError(
            f"--relay must be given, unless FOLDER is a person's startup kit of FLARE, got {args.folder!r} without it."
        )
    return jobs.hub_options(args.folder, args.relay, args.name, args.relay_name)


def submit(args):
    """A job for all sites."""
    from dnnext.estimators import sites

    _quiet()
    if flare_jobs.is_kit(args.folder):
        job_id = sites.submit_job(args.folder, Path(args.job).read_text(encoding="utf-8"))
        print(f"submitted job {job_id} of FLARE")
        return
    from dnnext.sites import jobs

    run = sites.job_of(args.job, args.folder).engine_options["run"]
    jobs.submit(_hub(args), run, Path(args.job).read_text(encoding="utf-8"))
    print(f"submitted {run}; sites take it by `dnnext site run FOLDER`")


def status(args):
    """Jobs, and the sites that are done."""
    _quiet()
    if flare_jobs.is_kit(args.folder):
        for job_id, run, state in flare_jobs.status(args.folder):
            print(f"{run}: {state}, job {job_id}")
        return
    from dnnext.sites import jobs

    options = _hub(args)
    for run in jobs.jobs(options):
        done = sorted(jobs.results(options, run))
        print(f"{run}: {'done at ' + ', '.join(done) if done else 'not done yet'}")


def fetch(args):
    """The model of a run, if all sites have the same."""
    from dnnext.estimators import sites

    _quiet()
    if flare_jobs.is_kit(args.folder):
        found = flare_jobs.fetch(args.folder, args.run)
    else:
        from dnnext.sites import jobs

        found = jobs.results(_hub(args), args.run)
    if not found:
        raise ValueError(f"run must be one that a site has finished, got {args.run!r}.")
    site = args.site or min(found)
    if site not in found:
        raise ValueError(f"--site must be a site that is done, one of {sorted(found)}, got {site!r}.")
    if args.site is None:
        sites.check_same(found)
    same = "the same weights" if args.site is None else "weights that were not compared"
    data = found[site]
    out = Path(args.out or f"{args.run}.npz")
    out.write_bytes(data)
    print(f"written {out}, the model of {site}; {len(found)} sites are done, with {same}")
