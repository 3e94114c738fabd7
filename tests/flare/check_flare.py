"""engine="flare" on NVIDIA FLARE itself: sites of provisioned projects; .ci/full makes the environment."""

import io
import json
import socket
import ssl
import subprocess
import sys
import time

import numpy as np
import pytest
from project import ROOT, Cut, Project, certificates
from sklearn.datasets import load_breast_cancer

import dnnext
from dnnext.algorithms import NEXT
from dnnext.cli import main
from dnnext.local import PartialLinearization
from dnnext.runtime import InProcess
from dnnext.sites import flare_jobs

sys.path.append(str(ROOT / "tests" / "sites"))
from site_job import GRAPHS, train

pytestmark = pytest.mark.timeout(900)
NAMES = ("site-a", "site-b", "site-c")
FRAME = load_breast_cancer(as_frame=True).frame
JOB = """run = "{run}"
estimator = "DecentralizedMLPClassifier"
checkpoint_every = 10
{more}
[parameters]
hidden_layer_sizes = [5]
topology = "ring"
max_iter = {max_iter}
tol = 0.0
monitor_every = 10
random_state = 0
"""


def make(max_iter, **options):
    return dnnext.DecentralizedMLPClassifier(
        (5,), topology="ring", max_iter=max_iter, tol=0.0, monitor_every=10, random_state=0, **options
    )


def in_process(max_iter):
    X, y = FRAME.drop(columns="target"), FRAME["target"].to_numpy()
    private = NEXT(PartialLinearization(curvature="auto", share="nothing"))  # the default of sites
    return make(max_iter, algorithm=private).fit_agents([(X.iloc[k::3], y[k::3]) for k in range(3)])


def assert_same(found, expected):
    for a, b in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Sites a and b have allowed jobs of dnnext; c has not yet."""
    folder = tmp_path_factory.mktemp("flare")
    project = Project(folder, NAMES)
    assert main(["sites", "allow", str(project.kits / "localhost")]) == 0
    for k, name in enumerate(NAMES):
        FRAME.iloc[k::3].to_csv(folder / f"{name}.csv", index=False)
    for name in NAMES[:2]:
        allow(project, name)
    project.cut = Cut(project.port)
    project.retarget("site-a", project.cut.port)
    try:
        spy = ROOT / "tests" / "flare" / "spy"
        project.spied = {"PYTHONPATH": f"{spy}:{ROOT}", "DNNEXT_SPY": str(folder / "spy.txt")}
        project.start_all(**project.spied)
        yield project
    finally:
        project.stop()


def allow(project, name):
    words = ["site", "allow", str(project.kits / name), "--data", str(project.folder / f"{name}.csv")]
    assert main([*words, "--target", "target"]) == 0


def submit(project, run, max_iter, more=""):
    path = project.folder / f"{run}.toml"
    path.write_text(JOB.format(run=run, max_iter=max_iter, more=more))
    assert main(["sites", "submit", str(project.kit), str(path)]) == 0
    return [job for job, name, _ in flare_jobs.status(project.kit) if name == run][-1]


def finish(project, job):
    """The state of a job once it has ended, and its models."""
    state = flare_jobs.wait(project.kit, job)
    return state, flare_jobs.fetch(project.kit, job)


def assert_goes_on(project, run, site):
    """A new job goes on from the last checkpoint of `run`, and ends with the bits of one process."""
    kept = project.kits / "site-b" / "local" / "checkpoints" / run
    max_iter = 10 * max(int(path.name[:6]) for path in kept.glob("*.npz")) + 20
    state, models = finish(project, submit(project, f"{run}-again", max_iter, f'resume = "{run}"'))
    assert state == "FINISHED:COMPLETED"
    (project.folder / f"{run}.npz").write_bytes(models[site])
    assert_same(dnnext.load(project.folder / f"{run}.npz"), in_process(max_iter))


def test_a_site_that_has_not_allowed_dnnext_takes_no_part(project):
    state, models = finish(project, submit(project, "early", 5))
    assert "COMPLETED" not in state
    assert not models
    allow(project, "site-c")


def test_a_job_gives_the_bits_of_one_process_and_the_server_cannot_read_what_it_relays(project, capsys):
    (project.folder / "spy.txt").unlink(missing_ok=True)
    job = submit(project, "first", 20)
    state, models = finish(project, job)
    assert state == "FINISHED:COMPLETED"
    assert sorted(models) == sorted(NAMES)
    out = project.folder / "fetched.npz"
    assert main(["sites", "fetch", str(project.kit), "first", "--out", str(out)]) == 0
    assert main(["sites", "status", str(project.kit)]) == 0
    assert f"first: FINISHED:COMPLETED, job {job}" in capsys.readouterr().out
    assert_same(dnnext.load(out), in_process(20))
    lines = (project.folder / "spy.txt").read_text().split("\n")[:-1]
    assert len(lines) > 100
    assert all(line.startswith("1 ") for line in lines)  # FLARE's encryption from end to end
    assert not any(b"BEGIN CERTIFICATE".hex() in line for line in lines)
    assert main(["site", "audit", str(project.kits / "site-a")]) == 0
    assert "weights and trackers to neighbours" in capsys.readouterr().out


def test_a_killed_site_ends_the_job_and_a_new_job_goes_on_with_the_same_bits(project):
    job = submit(project, "broken", 1000)
    kept = project.kits / "site-b" / "local" / "checkpoints" / "broken"
    project.until(lambda: list(kept.glob("000004*")), 120, "no checkpoint")
    project.worker("site-b").kill()
    begin = time.monotonic()
    state, models = finish(project, job)
    print(f"{state} {time.monotonic() - begin:.1f} s after the kill")
    assert not models
    assert_goes_on(project, "broken", "site-b")


def test_a_site_whose_connection_is_cut_for_seconds_goes_on_with_the_same_bits(project):
    job = submit(project, "cut", 200)
    kept = project.kits / "site-b" / "local" / "checkpoints" / "cut"
    project.until(lambda: list(kept.glob("000003*")), 120, "no checkpoint")
    project.cut.cut()
    time.sleep(3)
    assert project.cut.dropped > 0
    reached, begin = max(kept.glob("*.npz")), time.monotonic()
    project.cut.join()
    project.until(lambda: max(kept.glob("*.npz")) > reached, 120, "no new checkpoint")
    print(f"a new checkpoint {time.monotonic() - begin:.1f} s after the cut")
    state, models = finish(project, job)
    assert state == "FINISHED:COMPLETED"
    (project.folder / "cut.npz").write_bytes(models["site-a"])
    assert_same(dnnext.load(project.folder / "cut.npz"), in_process(200))


def test_the_server_is_killed_and_comes_back_and_a_new_job_goes_on_with_the_same_bits(project):
    submit(project, "served", 1000)
    kept = project.kits / "site-b" / "local" / "checkpoints" / "served"
    project.until(lambda: list(kept.glob("000004*")), 120, "no checkpoint")
    project.kill("localhost")  # and with it the server's part of the job
    begin = time.monotonic()
    project.start(**project.spied)
    project.until_connected()
    project.until(lambda: not any(project.worker(name) for name in NAMES), 300, "the job goes on without its server")
    print(f"the sites were connected, and without a job, {time.monotonic() - begin:.1f} s after the server was killed")
    assert_goes_on(project, "served", "site-c")


def test_only_certificates_of_the_project_that_are_valid_open_a_connection(project):
    wrong = certificates(project, "site-a")
    kit = project.kits / "site-a" / "startup"
    assert answer(project, kit / "client.crt", kit / "client.key")
    for name, (cert, key) in {"none": (None, None), **wrong}.items():
        assert not answer(project, cert, key), name
    assert sorted(wrong) == ["another authority", "expired"]


def answer(project, cert, key):
    """What the server says first to who shows this certificate; nothing if it refuses."""
    context = ssl.create_default_context(cafile=project.kits / "site-a" / "startup" / "rootCA.pem")
    context.set_alpn_protocols(["h2"])
    if cert is not None:
        context.load_cert_chain(cert, key)
    try:
        bare = socket.create_connection(("localhost", project.port), 20)
        with context.wrap_socket(bare, server_hostname="localhost") as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return connection.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


CASES = [["star", 8, "f8"], ["schedule", 8, "f4"], ["ring", 11, "f4"]]  # graph, agents, which may be uneven, precision


def test_eight_sites_with_other_graphs_schedules_float32_and_uneven_agents(tmp_path, monkeypatch):
    monkeypatch.setattr(flare_jobs, "EXECUTOR", "runs.RunsExecutor")
    project = Project(tmp_path, [f"site-{letter}" for letter in "abcdefgh"])
    flare_jobs.allow_class(project.kits / "localhost" / "local", flare_jobs.CONTROLLER)
    for name in project.names:
        flare_jobs.allow_class(project.kits / name / "local", flare_jobs.EXECUTOR)
    try:
        places = ":".join(str(ROOT / "tests" / name) for name in ("flare", "sites"))
        project.start_all({"PYTHONPATH": f"{places}:{ROOT}"})
        limits = {"start": 300, "dead": 300, "answer": 300}
        state, found = finish(
            project, flare_jobs.submit(project.kit, "eight", json.dumps(CASES), project.names, limits)
        )
        assert state == "FINISHED:COMPLETED", project.errors()
        results = [np.load(io.BytesIO(found[name])) for name in project.names]
    finally:
        project.stop()
    for k, (graph, n_agents, dtype) in enumerate(CASES):
        alone = train(InProcess(n_agents), GRAPHS[graph](n_agents), np.dtype(dtype).type)
        np.testing.assert_array_equal(np.concatenate([result[f"w{k}"] for result in results]), alone.w)
        assert results[0][f"w{k}"].dtype == dtype


def test_fit_sites_with_the_kit_of_a_person_returns_the_model(project):
    clf = make(10, engine="flare", engine_options={"kit": str(project.kit), "run": "fitted", "sites": NAMES})
    assert clf.fit_sites() is clf
    assert_same(clf, in_process(10))
    assert clf.engine == "flare"


def test_an_error_at_a_site_ends_the_job_for_all(project):
    job = submit(project, "large", 5000)
    state, models = finish(project, job)
    assert "COMPLETED" not in state
    assert not models


def test_nvflare_is_not_imported_by_dnnext():
    code = "import sys, dnnext.estimators, dnnext.sites, dnnext.cli; print('nvflare' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "False\n"
