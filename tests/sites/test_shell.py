"""What people type: three hospitals on this machine, from the request for a certificate to the audit."""

import asyncio
import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("nats")
pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hub import issue
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning

import dnnext
from dnnext.algorithms import NEXT
from dnnext.cli import main
from dnnext.cli.site import _train
from dnnext.estimators.sites import check_same, job_of
from dnnext.local import PartialLinearization
from dnnext.sites.audit import Audit, summary
from dnnext.sites.enrolment import folder_options
from dnnext.sites.jobs import wait_for_job
from dnnext.sites.permission import Permission, read_permission, write_permission

NAMES = ("site-a", "site-b", "site-c")
JOB = """run = "{run}"
estimator = "DecentralizedMLPClassifier"

[parameters]
hidden_layer_sizes = [4]
topology = "complete"
max_iter = 5
tol = 0.0
random_state = 0
dtype = "float64"
"""


FIRST = "run = 'x'\nestimator = 'DecentralizedMLPClassifier'\n"


@pytest.fixture(scope="module")
def hospitals(hub, tmp_path_factory):
    """Three folders that have joined, with rows of their own."""
    pd = pytest.importorskip("pandas")
    frame = load_breast_cancer(as_frame=True).frame.iloc[:300, -6:]
    root = tmp_path_factory.mktemp("hospitals")
    for k, name in enumerate(NAMES):
        folder, rows = root / name, root / f"{name}.csv"
        frame.iloc[k::3].to_csv(rows, index=False)
        assert main(["site", "request", str(folder), "--name", name]) == 0
        wanted = x509.load_pem_x509_csr((folder / f"{name}.csr").read_bytes())
        signed = issue(folder, hub.authority, name, wanted.public_key())
        (folder / "signed.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        assert (folder / f"{name}.key").stat().st_mode & 0o777 == 0o600
        words = ["--certificate", str(folder / "signed.pem"), "--ca", str(hub.folder / "pki/ca.pem")]
        words += ["--relay", hub.url, "--sites", ",".join(NAMES)]
        assert main(["site", "join", str(folder), *words, "--data", str(rows)]) == 2  # and --target?
        words += ["--data", str(rows), "--target", "target", "--max-iter", "50"]
        assert main(["site", "join", str(folder), *words]) == 0
    assert pd.read_csv(root / "site-a.csv").shape == (100, 6)
    return root


def start(folder):
    command = [sys.executable, "-m", "dnnext", "site", "run", str(folder)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def check_clocks(folder, capsys, monkeypatch):
    """The clocks of one machine agree; one that is ahead by an hour is noticed."""
    assert main(["site", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "reached as site-a" in out
    assert float(re.search(r"clock +([0-9.]+) s (?:ahead of|behind) the relay's\n", out)[1]) < 20
    monkeypatch.setattr("dnnext.sites.connection.time", SimpleNamespace(time=lambda: time.time() + 3600))
    assert main(["site", "check", str(folder)]) == 0
    assert "ahead of the relay's: set it" in capsys.readouterr().out


def test_three_hospitals_train_one_model(hub, hospitals, tmp_path, capsys, monkeypatch):
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(run="trial-1"))
    pki = str(hub.folder / "pki")
    assert main(["sites", "submit", pki, str(job), "--relay", hub.url]) == 0
    assert main(["sites", "submit", pki, str(job), "--relay", hub.url]) == 2  # the run is no new name
    running = [start(hospitals / name) for name in NAMES]
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output.decode()
    models = [dnnext.load(hospitals / name / "trial-1.npz") for name in NAMES]
    frames = [np.loadtxt(hospitals / f"{name}.csv", delimiter=",", skiprows=1) for name in NAMES]
    private = NEXT(PartialLinearization(curvature="auto", share="nothing"))  # the default of sites
    options = {"topology": "complete", "max_iter": 5, "tol": 0.0, "random_state": 0, "algorithm": private}
    alone = dnnext.DecentralizedMLPClassifier((4,), **options)
    alone.fit_agents([(rows[:, :-1], rows[:, -1].astype(int)) for rows in frames])
    for model in models:
        for here, there in zip(model.coefs_, alone.coefs_, strict=True):
            np.testing.assert_array_equal(here, there)
    capsys.readouterr()
    assert main(["sites", "status", pki, "--relay", hub.url]) == 0
    assert capsys.readouterr().out == "trial-1: done at site-a, site-b, site-c\n"
    assert main(["sites", "fetch", pki, "trial-1", "--relay", hub.url, "--out", str(tmp_path / "model.npz")]) == 0
    assert (tmp_path / "model.npz").read_bytes() == (hospitals / "site-a" / "trial-1.npz").read_bytes()
    capsys.readouterr()
    assert main(["site", "audit", str(hospitals / "site-a")]) == 0
    words = capsys.readouterr().out
    assert "the trained model to the hub: 1 message" in words
    assert "weights and trackers to neighbours: 10 messages" in words  # five iterations, two neighbours
    assert "the lines are whole" in words
    first = (hospitals / "site-a" / "audit.jsonl").read_text().splitlines()[0]
    assert json.loads(first).items() >= {"job": "trial-1", "rows": len(frames[0])}.items()
    assert {"parameters", "versions"} <= set(json.loads(first))
    for name in NAMES:  # handed in, so not to be taken again
        assert (hospitals / name / "jobs" / "trial-1.done").exists()
    check_clocks(hospitals / "site-a", capsys, monkeypatch)


def test_warnings_of_a_job_are_notes(tmp_path, capsys):
    class Job:
        engine_options, n_iter_, status_ = {"run": "x"}, 5, "max_iter"

        def fit_sites(self):
            warnings.warn("Increase max_iter.", ConvergenceWarning, stacklevel=1)

        def set_params(self, **params):
            return self

        def save(self, path):
            assert path == tmp_path / "x.npz"

    _train(SimpleNamespace(out=None, folder=tmp_path), Job())
    assert capsys.readouterr().err == "dnnext: note: Increase max_iter.\n"


def test_a_changed_audit_is_noticed(tmp_path, capsys):
    path = tmp_path / "audit.jsonl"
    for k in range(4):
        Audit(path).message(to="site-b", operation=k, what="weights and trackers", data=bytes(k))
    assert main(["site", "audit", str(path)]) == 0
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert main(["site", "audit", str(path)]) == 2
    assert "line 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_iter": 4}, "max_iter must be at most 4, as the site allows, got 5"),
        (
            {"max_weights": 12},
            "must have at most max_weights=12 weights, as the site allows, got 13 or more",
        ),
        ({"allow": ("DecentralizedMLPRegressor",)}, "the estimator must be one that the site allows"),
        ({"min_rows": 101}, "must have min_rows=101 rows or more, got 100"),
        ({"target": "none"}, "target must be a column of"),
    ],
)
def test_a_site_refuses_what_it_does_not_allow(hospitals, tmp_path, changes, sentence):
    job = tmp_path / "job.toml"
    job.write_text(JOB.format(run="refused"))
    folder = tmp_path / "site-a"
    folder.mkdir()
    given = read_permission(hospitals / "site-a")
    write_permission(folder, Permission(**{**vars(given), **changes}))
    with pytest.raises(ValueError, match=sentence):
        job_of(job, folder).fit_sites()


def test_a_job_that_one_site_refuses_ends_at_all_and_is_not_taken_again(hub, hospitals, tmp_path):
    given = read_permission(hospitals / "site-b")
    write_permission(hospitals / "site-b", Permission(**{**vars(given), "max_iter": 4}))
    consent = (hospitals / "site-b" / "dnnext.toml").read_bytes()
    job = tmp_path / "job.toml"
    pki = str(hub.folder / "pki")
    for run in ("dnnext", "next"):  # the first has the name of the site's permission
        job.write_text(JOB.format(run=run))
        assert main(["sites", "submit", pki, str(job), "--relay", hub.url]) == 0
    running = [start(hospitals / name) for name in NAMES]
    outputs = [process.communicate(timeout=120)[0].decode() for process in running]
    assert [process.returncode for process in running] == [1, 2, 1]
    assert "max_iter must be at most 4, as the site allows, got 5" in outputs[1]
    for k in (0, 2):
        assert "ended the run: this site does not take part: its administrator knows why" in outputs[k]
    assert (hospitals / "site-b" / "dnnext.toml").read_bytes() == consent
    options = folder_options(hospitals / "site-b")
    kept = hospitals / "site-b" / "jobs"
    assert (kept / "dnnext.ended").read_text().startswith("max_iter must be at most 4")
    write_permission(hospitals / "site-b", given)
    known = [path.stem for path in (*kept.glob("*.done"), *kept.glob("*.ended"))]
    assert sorted(known) == ["dnnext", "trial-1"]
    assert wait_for_job(options, lambda name: name in known)[0] == "next"


@pytest.mark.parametrize("name", ["/tmp/evil", "a/b"])
def test_the_name_of_a_job_is_no_path(monkeypatch, name):
    from dnnext.sites import jobs

    monkeypatch.setattr(jobs, "_run", lambda options, work: asyncio.run(work(None)))

    async def read(client, site, subject, take, is_open):
        take(f"job.{name}", b"")

    monkeypatch.setattr(jobs, "_read", read)
    with pytest.raises(ValueError, match="the name of a job must consist of letters, digits, '-' and '_', got '"):
        jobs.wait_for_job({"site": "site-a"}, lambda run: False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run = 1", "the job must have run"),
        ("run = 'x'\nestimator = 'load'", "estimator must be an estimator of dnnext"),
        (FIRST + "[parameters]\ncallbacks = []", "must not hold"),
        ("nonsense", "the job must be a TOML file"),
        (
            FIRST + "[parameters]\nnope = 1",
            "the job must have the parameters of Dec",
        ),
        (
            FIRST + "parameters = 1",
            r"must have a table \[parameters\], got 1",
        ),
    ],
)
def test_jobs_are_parameters_only(tmp_path, text, sentence):
    job = tmp_path / "job.toml"
    job.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        job_of(job, tmp_path)


def test_a_model_is_fetched_only_if_all_sites_have_the_same(tmp_path):
    files = {}
    for site, seed in (("site-a", 0), ("site-b", 0), ("site-c", 1)):
        made = dnnext.DecentralizedMLPRegressor((2,), max_iter=2, tol=0.0, random_state=seed, n_agents=2)
        made.fit(np.arange(40.0).reshape(20, 2), np.arange(20.0)).save(tmp_path / f"{site}.npz")
        files[site] = (tmp_path / f"{site}.npz").read_bytes()
    check_same({site: files[site] for site in ("site-a", "site-b")})
    with pytest.raises(ValueError, match="got another one at site-c than at site-a"):
        check_same(files)


def test_two_runs_share_an_audit(tmp_path):
    path = tmp_path / "audit.jsonl"
    runs = [Audit(path), Audit(path)]
    for k in (0, 1, 1, 0):
        runs[k].message(to="site-b", operation=1, what="exchange", data=b"rows")
    assert summary(path).startswith("4 lines, 4 messages, 16 bytes; the lines are whole.")


def test_the_largest_model_is_limited(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl", most=100)
    audit.message(to="site-b", operation=1, what="exchange", data=bytes(800), numbers=100)
    with pytest.raises(ValueError, match="a message to site-b must have at most 100 numbers, as max_weights"):
        audit.message(to="site-b", operation=2, what="exchange", data=bytes(404), numbers=101)  # in single precision
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1
