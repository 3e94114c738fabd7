"""engine="flare" without nvflare: jobs, links, keys and folders; tests/flare runs them on NVIDIA FLARE itself."""

import contextlib
import datetime as dt
import json
import sys
import threading
import time
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography")
pytest.importorskip("pandas")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from sklearn.datasets import load_breast_cancer

import dnnext
from dnnext.algorithms import NEXT
from dnnext.cli import main
from dnnext.estimators import sites
from dnnext.estimators.job_file import LIMITS, read_job, write_job
from dnnext.estimators.sites import job_of, train_job
from dnnext.local import PartialLinearization
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime import AgentsLost
from dnnext.sites import flare_jobs, flare_link
from dnnext.sites.flare_link import FlareLink
from dnnext.sites.permission import Permission, write_permission
from dnnext.sites.signed_keys import SignedKeys

NAMES = ("site-a", "site-b", "site-c")
FRAME = load_breast_cancer(as_frame=True).frame.iloc[:180, -5:]
JOB = """run = "{run}"
estimator = "DecentralizedMLPClassifier"
checkpoint_every = 2
{more}
[parameters]
hidden_layer_sizes = [3]
max_iter = {max_iter}
tol = 0.0
random_state = 0
[limits]
away = 5
timeout = 60
"""


def _pem(key):
    parts = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*parts)


def _issue(name, key, authority_key):
    now = dt.datetime.now(dt.UTC)
    who = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "authority")]
    made = x509.CertificateBuilder(who[1], who[0], key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    return made.sign(authority_key, hashes.SHA256())


@pytest.fixture(scope="module")
def kits():
    """(certificate, key) in PEM form by site, and what checks certificates; RSA, as FLARE makes them."""
    authority = rsa.generate_private_key(65537, 2048)
    made = {}
    for name in NAMES:
        key = rsa.generate_private_key(65537, 2048)
        made[name] = _issue(name, key, authority).public_bytes(serialization.Encoding.PEM), _pem(key)

    def check(certificates, name):
        first = certificates[0]
        authority.public_key().verify(
            first.signature, first.tbs_certificate_bytes, padding.PKCS1v15(), first.signature_hash_algorithm
        )
        if first.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value != name:
            raise ValueError(f"the certificate of {name} is of another site")

    return made, check


def keys_of(kits, run="x"):
    made, check = kits
    return [SignedKeys(*made[name], NAMES, rank, run, check) for rank, name in enumerate(NAMES)]


class Post:
    """Joins links of this process; keeps what passes."""

    def __init__(self, kits, run):
        self.seen = []
        self.links = {
            name: FlareLink(NAMES, name, lambda to, data, me=name: self.post(me, to, data), keys)
            for name, keys in zip(NAMES, keys_of(kits, run), strict=True)
        }

    def post(self, sender, to, data):
        self.seen.append(data)
        self.links[to].put(sender, data)


@pytest.fixture
def folders(tmp_path):
    for k, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        FRAME.iloc[k::3].to_csv(tmp_path / f"{name}.csv", index=False)
        write_permission(tmp_path / name, Permission(str(tmp_path / f"{name}.csv"), "target"))
    return {name: tmp_path / name for name in NAMES}


def train(kits, folders, text, run, stop_after=None):
    """What every site makes of a job: the estimator, or its error; and what passed between them."""
    post, outcome = Post(kits, run), {}

    def work(name):
        flare_link.use(folders[name], post.links[name])
        try:
            outcome[name] = train_job(text, folders[name])
        except Exception as error:
            outcome[name] = error
        finally:
            flare_link.use(folders[name], None)

    threads = [threading.Thread(target=work, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    if stop_after is not None:
        until = time.monotonic() + 60
        while not list(folders["site-b"].glob(stop_after)) and time.monotonic() < until:
            time.sleep(0.005)
        for link in post.links.values():
            link.stop("FLARE has ended the job")
    for thread in threads:
        thread.join(90)
    return outcome, post.seen


def in_process(max_iter):
    X, y = FRAME.drop(columns="target"), FRAME["target"].to_numpy()
    private = NEXT(PartialLinearization(curvature="auto", share="nothing"))  # the default of sites
    clf = dnnext.DecentralizedMLPClassifier((3,), algorithm=private, max_iter=max_iter, tol=0.0, random_state=0)
    return clf.fit_agents([(X.iloc[k::3], y[k::3]) for k in range(3)])


def assert_same(outcome, expected):
    for name in NAMES:
        assert not isinstance(outcome[name], Exception), outcome[name]
        found = outcome[name].coefs_ + outcome[name].intercepts_
        for a, b in zip(found, expected.coefs_ + expected.intercepts_, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_job_gives_the_bits_of_one_process_and_what_passes_cannot_be_read(kits, folders, monkeypatch):
    plain, seal = [], SignedKeys.seal

    def noted(keys, to, head, body):
        plain.append(body)
        return seal(keys, to, head, body)

    monkeypatch.setattr(SignedKeys, "seal", noted)
    outcome, seen = train(kits, folders, JOB.format(run="first", more="", max_iter=4), "first")
    assert_same(outcome, in_process(4))
    passed = b"".join(seen)
    assert len(plain) > 50
    assert b"BEGIN CERTIFICATE" in passed  # the introductions are open
    assert not [body for body in plain if len(body) >= 16 and body in passed]
    lines = [json.loads(line) for line in (folders["site-a"] / "audit.jsonl").read_text().splitlines()]
    assert lines[0]["job"] == "first"
    assert sum("sha256" in line for line in lines) == len(lines) - 1 > 20


def test_a_job_that_was_ended_goes_on_as_a_new_job_with_the_same_bits(kits, folders):
    text = JOB.format(run="broken", more="", max_iter=1000)
    outcome, _ = train(kits, folders, text, "broken", stop_after="checkpoints/broken/000002*")
    assert all(isinstance(outcome[name], AgentsLost) for name in NAMES), outcome
    assert any("FLARE has ended the job" in str(error) for error in outcome.values())
    reached = max(int(path.name[:6]) for path in folders["site-b"].glob("checkpoints/broken/*.npz"))
    max_iter = 2 * reached + 5
    text = JOB.format(run="again", more='resume = "broken"', max_iter=max_iter)
    outcome, _ = train(kits, folders, text, "again")
    assert_same(outcome, in_process(max_iter))


def test_a_site_that_does_not_allow_a_job_ends_it_for_all(kits, folders):
    write_permission(folders["site-c"], Permission(str(folders["site-c"]) + ".csv", "target", max_iter=3))
    outcome, _ = train(kits, folders, JOB.format(run="refused", more="", max_iter=4), "refused")
    assert "max_iter must be at most 3, as the site allows, got 4" in str(outcome["site-c"])
    for name in NAMES[:2]:
        assert "its administrator knows why" in str(outcome[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda found: {**found, "key": found["key"][::-1]}, "must be signed by the key of its certificate"),
        (lambda found: {**found, "signature": "00"}, "must be signed by the key of its certificate"),
        (lambda found: {"certificate": found["certificate"]}, "must hold a certificate, a key and a signature"),
        (lambda found: {**found, "certificate": "?"}, "must be in PEM form"),
        (lambda found: None, "must hold a certificate"),
    ],
)
def test_an_introduction_that_was_changed_is_refused_by_name(kits, change, sentence):
    keys = keys_of(kits)
    introductions = [each.introduction() for each in keys]
    introductions[1] = json.dumps(change(json.loads(introductions[1])))
    with pytest.raises(ValueError, match=f"of site-b.*{sentence}"):
        keys[0].meet(introductions)


def test_a_site_under_the_name_of_another_is_refused_and_so_are_keys_of_another_run(kits):
    keys, other = keys_of(kits), keys_of(kits, "y")
    introductions = [each.introduction() for each in keys]
    with pytest.raises(ValueError, match="the certificate of site-b is of another site"):
        keys[0].meet([introductions[0], introductions[2], introductions[2]])
    with pytest.raises(ValueError, match="the key of site-c for this run must be signed"):
        keys[0].meet([introductions[0], introductions[1], other[2].introduction()])
    for each in keys:
        each.meet(introductions)
    sealed = keys[0].seal(1, b"head", b"body")
    assert keys[1].unseal(0, b"head", sealed) == b"body"
    for rank, source, head in ((2, 0, b"head"), (1, 2, b"head"), (1, 0, b"deah")):
        with pytest.raises(ValueError, match="was not sealed by that site"):
            keys[rank].unseal(source, head, sealed)


def test_a_key_of_another_site_is_refused(kits):
    made, check = kits
    with pytest.raises(ValueError, match="the key of site-a must belong to its certificate"):
        SignedKeys(made["site-a"][0], made["site-b"][1], NAMES, 0, "x", check)


def test_a_run_has_a_new_name(kits, folders, tmp_path, monkeypatch):
    for name in NAMES:
        (folders[name] / "checkpoints" / "old").mkdir(parents=True)
    outcome, _ = train(kits, folders, JOB.format(run="old", more="", max_iter=4), "old")
    for name in NAMES:
        assert "run must be a new name, got 'old', of which this site keeps checkpoints" in str(outcome[name])

    server = SimpleNamespace(list_jobs=lambda detailed: [{"job_name": "old"}])
    monkeypatch.setattr(flare_jobs, "session", lambda kit: contextlib.nullcontext(server))
    with pytest.raises(ValueError, match="run must be a new name, got 'old', which was submitted before"):
        flare_jobs.submit(tmp_path, "old", "", NAMES, LIMITS)


def test_a_job_goes_on_with_the_estimator_that_the_site_has_allowed(kits, folders):
    X, y = FRAME.drop(columns="target"), FRAME["target"].to_numpy(float)
    for name in NAMES:
        kept = Checkpoint(folders[name] / "checkpoints" / "old", every=1)
        dnnext.DecentralizedMLPRegressor((3,), max_iter=1, tol=0.0, n_agents=3, callbacks=[kept]).fit(X, y)
    outcome, _ = train(kits, folders, JOB.format(run="new", more='resume = "old"', max_iter=4), "new")
    for name in NAMES:
        assert "estimator must be DecentralizedMLPRegressor, as in the run 'old'" in str(outcome[name])


def test_a_model_that_differs_at_one_site_is_not_returned(tmp_path, monkeypatch):
    X, y, files = FRAME.drop(columns="target"), FRAME["target"].to_numpy(), {}
    for name, alpha in zip(NAMES, (0.1, 0.1, 0.2), strict=True):
        clf = dnnext.DecentralizedMLPClassifier((3,), alpha=alpha, max_iter=2, tol=0.0, random_state=0).fit(X, y)
        clf.save(tmp_path / "model.npz")
        files[name] = (tmp_path / "model.npz").read_bytes()
    monkeypatch.setattr(sites, "submit_job", lambda kit, text: "1")
    monkeypatch.setattr(flare_jobs, "wait", lambda kit, job: "FINISHED:COMPLETED")
    monkeypatch.setattr(flare_jobs, "fetch", lambda kit, job: files)
    clf = dnnext.DecentralizedMLPClassifier((3,), engine="flare", engine_options={"kit": "alice", "run": "first"})
    with pytest.raises(ValueError, match="got another one at site-c than at site-a"):
        clf.fit_sites()
    files["site-c"] = files["site-a"]
    assert clf.fit_sites().n_iter_ == 2


def test_messages_of_sites_that_are_not_in_the_job_are_dropped():
    link = FlareLink(["a", "b"], "a", lambda *_: None)
    for name in ("c", "a"):
        link.put(name, b"x")
    assert link.receive(0.0) is None
    with pytest.raises(ValueError, match="sites must have different names"):
        FlareLink(["a", "a"], "a", lambda *_: None)


PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "hidden_layer_sizes": st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        "max_iter": st.integers(1, 99),
        "tol": st.floats(0, 1),
        "alpha": st.floats(0, 1e300),
        "activation": st.sampled_from(["tanh", "relu"]),
        "early_stopping": st.booleans(),
    },
)


@given(PARAMETERS)
def test_a_job_says_what_the_estimator_says(parameters):
    wanted = dnnext.DecentralizedMLPClassifier(**parameters).get_params(deep=False)
    wanted["hidden_layer_sizes"] = list(wanted["hidden_layer_sizes"])
    job = read_job(write_job(dnnext.DecentralizedMLPClassifier(**parameters), "run-1", {"away": 3}, sites=("a", "b")))
    assert (job.run, job.sites, job.limits) == ("run-1", ("a", "b"), {"away": 3.0})
    made = job.made().get_params(deep=False)
    made["hidden_layer_sizes"] = list(made["hidden_layer_sizes"])
    assert made == wanted


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run = ", "must be a TOML file"),
        ("run = 'x'\nestimator = 'os.system'", "estimator must be an estimator of dnnext, got 'os.system'"),
        ("run = '../x'\nestimator = 'DecentralizedMLPClassifier'", "run must consist of letters"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\nresume = '../y'", "resume must consist of letters"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\ndata = 'rows.csv'", r"and only .*got \['data'"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\nsites = 'a'", "sites must be a list of names"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\nsites = ['a', 'a']", "sites must have different names"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\ncheckpoint_every = -1", "checkpoint_every must be"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\n[limits]\nsoon = 1", r"\[limits\] of a job must be"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\n[limits]\naway = 0", "away must be"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\n[parameters]\nengine = 'mpi'", "the site decides these"),
        ("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\n[parameters]\nwidth = 1", "must have the parameters of"),
    ],
)
def test_jobs_that_are_unfit_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_job(text).made()


def test_a_job_with_fields_of_flare_is_refused_over_nats(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text("run = 'x'\nestimator = 'DecentralizedMLPClassifier'\nresume = 'y'\n")
    with pytest.raises(ValueError, match="must not be in a job that goes over NATS"):
        job_of(path, tmp_path)


def test_objects_and_callbacks_do_not_travel():
    with pytest.raises(ValueError, match="numbers, texts or lists of them, got penalty="):
        write_job(dnnext.DecentralizedClassifier(penalty=dnnext.problem.L2(0.1)), "x")
    with pytest.raises(ValueError, match="callbacks must be None in a job"):
        write_job(dnnext.DecentralizedMLPClassifier(callbacks=[print]), "x")


def test_the_folder_of_a_job_holds_parameters_and_two_classes_of_dnnext(tmp_path):
    text = JOB.format(run="first", more="", max_iter=4) + "# 100 % of {$HOME}"
    place = flare_jobs.write_folder(tmp_path, "first", text, NAMES, {**LIMITS, "answer": 7.0})
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert files == ["app/config/config_fed_client.json", "app/config/config_fed_server.json", "meta.json"]
    client, server, meta = (json.loads((place / file).read_text()) for file in files)
    assert client["executors"] == [{"tasks": ["*"], "executor": {"path": flare_jobs.EXECUTOR, "args": {}}}]
    assert client["get_task_timeout"] == client["submit_task_result_timeout"] == 7.0
    args = server["workflows"][0]["args"]
    assert args == {"job": flare_jobs.escaped(text), "sites": list(NAMES), "start": 600}
    assert not set("{}") & set(args["job"])  # FLARE would put variables of its server there
    assert unquote(args["job"]) == text
    assert meta["mandatory_clients"] == list(NAMES)


def test_without_nvflare_or_a_job_the_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvflare", None)
    with pytest.raises(ImportError, match="engine='flare' needs nvflare: `pip install nvflare`"):
        flare_jobs.status(tmp_path)
    X, y = FRAME.drop(columns="target"), FRAME["target"]
    clf = dnnext.DecentralizedMLPClassifier(engine="flare", engine_options={"folder": str(tmp_path)})
    with pytest.raises(ValueError, match="must run in a job of NVIDIA FLARE: submit one by"):
        clf.fit_local(X, y)
    clf.set_params(engine_options={"kit": str(tmp_path), "folder": "x", "run": "y"})
    with pytest.raises(ValueError, match=r"with a kit must not hold \['folder'\]"):
        clf.fit_sites()


def test_what_administrators_type(tmp_path, capsys, kits):
    """Consent at a site and at the server of FLARE; only the class that runs there is added to the list."""
    rows = tmp_path / "rows.csv"
    FRAME.to_csv(rows, index=False)
    for name in ("site", "server"):
        (tmp_path / name / "local").mkdir(parents=True)
        (tmp_path / name / "local" / "resources.json.default").write_text('{"class_allow_list": ["a.B"]}')
    assert main(["site", "allow", str(tmp_path / "site"), "--data", str(rows), "--target", "target"]) == 0
    (tmp_path / "site" / "startup").mkdir()
    (tmp_path / "site" / "startup" / "client.crt").write_bytes(kits[0]["site-a"][0])
    capsys.readouterr()
    assert main(["site", "check", str(tmp_path / "site")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"executor    allowed", "certificate 1 days left", f"allowed     {rows}, target target"} <= set(lines)
    assert main(["sites", "allow", str(tmp_path / "server")]) == 0
    assert (tmp_path / "site" / "local" / "dnnext.toml").exists()
    for name, added in (("site", flare_jobs.EXECUTOR), ("server", flare_jobs.CONTROLLER)):
        found = json.loads((tmp_path / name / "local" / "resources.json").read_text())
        assert found["class_allow_list"] == ["a.B", added]
    assert main(["sites", "allow", str(tmp_path)]) == 2
    assert main(["sites", "status", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "FOLDER must be the workspace of a server of FLARE" in printed.err
    assert "--relay must be given, unless FOLDER is a person's startup kit" in printed.err
