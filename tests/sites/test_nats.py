"""Sites over a relay on the loopback interface: certificates, curious sites, what the relay sees."""

import asyncio
import datetime as dt
import json
import threading
import time

import numpy as np
import pytest

pytest.importorskip("nats")
pytest.importorskip("cryptography")

import nats as client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hub import authority, issue
from nats.js.api import ConsumerConfig

from dnnext.runtime import RanksLost
from dnnext.sites import nats
from dnnext.sites.connection import tls_context
from dnnext.sites.over_sites import OverSites, run_sites
from dnnext.sites.sealing import Keyring, certificate_of, check_certificate
from dnnext.sites.wire import AGAIN, ALIVE, LEAVING, Head, pack_head

QUICK = {"late": 0.5, "away": 5.0, "timeout": 60.0}


def two(hub, run):
    sites = hub.sites[:2]
    return [hub.link(rank, run, sites=sites) for rank in range(2)]


def on_both(links):
    """The two sites of these links, opened together."""
    sites = [None, None]

    def start(rank):
        sites[rank] = OverSites(links[rank], **QUICK)

    threads = [threading.Thread(target=start, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sites


def test_a_second_fit_of_a_process_is_another_session(hub):
    for value in (1.0, 2.0):

        def program(comm, value=value):
            a = np.array([value])
            comm.allreduce(a)
            return float(a[0])

        assert run_sites(two(hub, "twice"), program, **QUICK) == [2 * value] * 2


def connect(hub, name, cert=None, ca="ca", context=None):
    """What becomes of a connection with this certificate, and of a message under another site's name."""

    async def work():
        errors = []

        async def note(error):
            errors.append(str(error))

        made = context or tls_context(**{**hub.files(cert or name), "ca": hub.folder / "pki" / f"{ca}.pem"})
        connection = await client.connect(
            hub.url,
            tls=made,
            tls_hostname="127.0.0.1",
            max_reconnect_attempts=1,
            allow_reconnect=False,
            reconnect_time_wait=0.05,
            connect_timeout=20,
            error_cb=note,
        )
        await connection.flush(5)
        await connection.publish("dn.r.1.site-b.site-c.1", b"x")
        await connection.flush(5)
        await asyncio.sleep(0.05)
        await connection.close()
        return errors

    return asyncio.run(asyncio.wait_for(work(), 60))


def test_six_certificates(hub):
    pki = hub.folder / "pki"
    stranger = authority(hub.folder / "stranger")
    issue(hub.folder / "stranger", stranger, "site-a")
    issue(pki, hub.authority, "site-a", end=-1.0, file="expired")
    assert connect(hub, "site-c") == []  # the right one, under its own name
    assert "permissions violation" in connect(hub, "site-a")[0]  # speaking as site-c
    wrong = {
        "another authority": tls_context(
            hub.folder / "stranger/site-a.pem", hub.folder / "stranger/site-a.key", pki / "ca.pem"
        ),
        "expired": tls_context(pki / "expired.pem", pki / "expired.key", pki / "ca.pem"),
        "an impostor of the relay": tls_context(pki / "site-a.pem", pki / "site-a.key", hub.folder / "stranger/ca.pem"),
    }
    none = tls_context(pki / "site-a.pem", pki / "site-a.key", pki / "ca.pem")
    bare = type(none)(none.protocol)
    bare.load_verify_locations(pki / "ca.pem")
    for context in [*wrong.values(), bare]:
        # the relay may close while a flush waits, which then waits in vain: its log below says why
        with pytest.raises(Exception, match=r"(?i)closed|certificate|ssl|eof|reset|no servers|lost|pipe|flush timeout"):
            connect(hub, "site-a", context=context)
    reasons = {"certificate has expired", "unknown authority", "client didn't provide a certificate"}
    until = time.monotonic() + 20
    while not all(reason in hub.log() for reason in reasons) and time.monotonic() < until:
        time.sleep(0.05)
    assert {reason for reason in reasons if reason in hub.log()} == reasons


def test_a_refused_site_reads_why(hub):
    pki = hub.folder / "pki"
    issue(pki, hub.authority, "site-a", end=-1.0, file="old")
    with pytest.raises(ValueError, match=r"the certificate of site-a must be valid now, got one for \d{4}-"):
        hub.link(0, "x", cert=pki / "old.pem", key=pki / "old.key")
    with pytest.raises(ValueError, match=r"must have the DNS name 'site-a', got \['site-b'\]"):
        hub.link(0, "x", **hub.files("site-b"))
    with pytest.raises(ValueError, match="key must belong to the certificate"):
        hub.link(0, "x", key=pki / "site-b.key")
    secret = hub.files("site-a")["key"].read_text()  # in place of the file's name
    with pytest.raises(ValueError, match="key must be the path of a PEM file, got the text of one") as caught:
        hub.link(0, "x", key=secret)
    assert secret.splitlines()[1] not in str(caught.value)
    with pytest.raises(ConnectionError, match=r"the relay tls://127\.0\.0\.1:1 cannot be reached as site-a"):
        hub.link(0, "x", relay="tls://127.0.0.1:1")
    with pytest.raises(ValueError, match="run must consist of letters"):
        hub.link(0, "x.y")


def test_a_curious_site_reads_nobody_elses_messages(hub):
    run_sites(two(hub, "secret"), lambda comm: comm.texts("x"), **QUICK)  # something to read

    async def work():
        got, refused = [], []

        async def note(error):
            refused.append(str(error))

        async def take(message):
            got.append(message.subject)

        connection = await client.connect(
            hub.url, tls=tls_context(**hub.files("site-a")), tls_hostname="127.0.0.1", error_cb=note,
            allow_reconnect=False, inbox_prefix=b"_IN.site-a",
        )  # fmt: skip
        stream = connection.jetstream(timeout=0.5)

        async def consume(subject, name="spy", body=None, **more):
            config = ConsumerConfig(name=name, filter_subject=body or subject, **more)
            await stream.subscribe(subject, stream="RUN", cb=take, ordered_consumer=True, config=config)

        async def create(token, body, **more):  # the request's subject names one filter, its body another
            config = {"deliver_subject": "_IN.site-a.spy", "ack_policy": "none", "name": "spy2", **body}
            await connection.subscribe("_IN.site-a.spy", cb=take)
            request = json.dumps({"stream_name": "RUN", "config": config}).encode()
            answer = await connection.request(f"$JS.API.CONSUMER.CREATE.RUN.spy2.{token}", request, timeout=1)
            assert "error" in json.loads(answer.data), answer.data
            raise PermissionError

        mine = "dn.*.*.site-a.>"
        attempts = {
            "a consumer of another site": lambda: consume("dn.*.*.site-b.>"),
            "a consumer of all": lambda: consume("dn.>"),
            "a body with another filter": lambda: create(mine, {"filter_subject": "dn.*.*.site-b.>"}),
            "a body with several filters": lambda: create(mine, {"filter_subjects": [mine, "dn.*.*.site-b.>"]}),
            "purging the stream": lambda: stream.purge_stream("RUN"),
            "deleting the stream": lambda: stream.delete_stream("RUN"),
            "reading one message": lambda: stream.get_msg("RUN", 1),
        }
        for attempt in attempts.values():
            with pytest.raises((TimeoutError, PermissionError, client.errors.Error)):
                await attempt()
        for subject in ("_IN.>", "dn.>", "dnc.>", "dnc.*.*.site-b.>"):
            await connection.subscribe(subject, cb=take)
        await connection.flush()
        await asyncio.sleep(0.2)
        assert got == []
        await consume(mine, name="own")
        await asyncio.sleep(0.2)
        assert got
        assert {subject.split(".")[3] for subject in got} == {"site-a"}
        await connection.close()
        return refused

    refused = asyncio.run(work())
    assert sum('for subscription to "' in sentence.lower() for sentence in refused) == 4
    assert sum('for publish to "' in sentence.lower() for sentence in refused) >= 5


def test_a_site_cannot_make_the_relay_drop_what_others_send(hub):
    run = "dropped"

    async def take_names():
        async with await client.connect(
            hub.url, tls=tls_context(**hub.files("site-c")), tls_hostname="127.0.0.1", inbox_prefix=b"_IN.site-c"
        ) as connection:
            for number in range(1, 4):
                subject = f"dn.{run}.1.site-b.site-a.{number}"
                own = f"dn.{run}.1.site-b.site-c.{number}"
                await connection.jetstream().publish(own, b"", headers={"Nats-Msg-Id": subject})

    asyncio.run(asyncio.wait_for(take_names(), 20))
    assert run_sites(two(hub, run), lambda comm: comm.texts("ab"[comm.rank]), **QUICK) == [["a", "b"]] * 2


def test_a_site_leaves_once_the_relay_has_what_it_sent(hub, caplog):
    sites = on_both(two(hub, "leaves"))
    hub.stop()
    try:
        sites[0].broadcast(np.ones(3), 0)  # the last message, and it does not wait
        closing = threading.Thread(target=sites[0].close, daemon=True)
        closing.start()
        closing.join(6.0)
        assert closing.is_alive()
    finally:
        hub.start()
    received = np.zeros(3)
    sites[1].broadcast(received, 0)
    np.testing.assert_array_equal(received, np.ones(3))
    closing.join(30)
    assert not closing.is_alive()
    sites[1].close()
    assert "has not confirmed" not in caplog.text
    assert "eof_received" not in caplog.text


def test_the_relay_sees_no_plain_rows(hub):
    seen, ready, done = [], threading.Event(), threading.Event()
    secret = np.arange(100.0) + 0.123456789

    def spy():
        async def work():
            async def take(message):
                seen.append(message.data)

            connection = await client.connect(
                hub.url, tls=tls_context(**hub.files("relay")), tls_hostname="127.0.0.1", allow_reconnect=False
            )
            await connection.subscribe(">", cb=take)
            await connection.flush()
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.02)
            await connection.close()

        asyncio.run(work())

    thread = threading.Thread(target=spy, daemon=True)
    thread.start()
    assert ready.wait(20)

    def program(comm):
        received = np.zeros(100)
        comm.exchange([(1 - comm.rank, secret)], [(1 - comm.rank, received)])
        np.testing.assert_array_equal(received, secret)
        if comm.rank == 0:
            comm._delivery.has_met = False  # in the open: the capture would show it
            comm.broadcast(secret + 1, 0)
        return

    def open_end(comm):
        program(comm)
        comm._delivery.close()

    try:
        run_sites(two(hub, "capture"), open_end, **QUICK)
        time.sleep(0.2)
    finally:
        done.set()
    thread.join(20)
    assert len(seen) > 4
    assert not any(secret.tobytes()[:64] in data for data in seen)
    assert any((secret + 1).tobytes()[:64] in data for data in seen)


def test_what_was_changed_on_the_way_is_refused(hub):
    rings = [Keyring(**hub.files(name), names=hub.sites, rank=rank, run="x") for rank, name in enumerate(hub.sites)]
    for ring in rings:
        ring.meet([other.introduction() for other in rings])
    head, body = b"head", b"rows of site-a"
    data = rings[0].seal(1, head, body)
    assert rings[1].unseal(0, head, data) == body
    for receiver, source, top, text in (
        (2, 0, head, data), (1, 3, head, data), (1, 0, b"Head", data), (1, 0, head, data[:-1] + b"\0"),
        (1, 0, head, b""),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="was not sealed by that site for this one, or was changed on the way"):
            rings[receiver].unseal(source, top, text)
    other = Keyring(**hub.files("site-a"), names=hub.sites, rank=0, run="y")
    other.meet([ring.introduction() for ring in rings])
    with pytest.raises(ValueError, match="was not sealed"):
        rings[1].unseal(0, head, other.seal(1, head, body))


def test_a_relay_cannot_ask_or_answer_in_the_name_of_a_site(hub):
    sites = on_both(two(hub, "forged"))

    def program(comm):
        total = np.ones(2)
        comm.allreduce(total)

    threads = [threading.Thread(target=program, args=(comm,), daemon=True) for comm in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    a, b = (comm._delivery for comm in sites)
    other = a.peers[1]
    before = other.last_sign, other.confirmed
    for kind in (AGAIN, ALIVE, LEAVING):
        for body in (b"", bytes(28)):
            a._sort(1, pack_head(Head(kind, "|u1", 0, 1, 0, 1 << 40, 0)) + body)
    assert (other.last_sign, other.confirmed, other.has_left) == (*before, False)
    b._control(0, LEAVING)  # the site itself
    until = time.monotonic() + 20
    while not other.has_left and time.monotonic() < until:
        time.sleep(0.01)
    assert other.has_left
    for comm in sites:
        comm._delivery.close(is_whole=False)


def test_certificates_of_others_are_checked(hub):
    folder = hub.folder / "others"
    stranger = authority(folder)
    issue(folder, stranger, "site-b")
    made = certificate_of(folder / "site-b.pem")
    ring = Keyring(**hub.files("site-a"), names=hub.sites, rank=0, run="x")
    with pytest.raises(ValueError, match="the certificate of site-b must be issued by the authority in ca"):
        check_certificate(made, ring.ca, "site-b")
    with pytest.raises(ValueError, match="must be in PEM form"):
        ring.meet([ring.introduction(), "none", "none", "none"])


def test_links_check_their_options(hub):
    with pytest.raises(ValueError, match="sites must have different names and 'site-a' among them"):
        hub.link(0, "x", sites=["site-b", "site-c"])
    with pytest.raises(ValueError, match=r"relay must be an address like 'tls://host:4222', got 'http://h'"):
        hub.link(0, "x", relay="http://h")


def test_a_revoked_certificate_is_refused(hub):
    certificate, key = hub.authority
    now, place = dt.datetime.now(dt.UTC), hub.folder / "revoked.pem"
    number = certificate_of(hub.files("site-b")["cert"]).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
    made = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject).last_update(now)
    made = made.next_update(now + dt.timedelta(days=1)).add_revoked_certificate(entry).sign(key, hashes.SHA256())
    place.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    options = {"names": hub.sites, "rank": 0, "run": "x"}
    others = [Keyring(**hub.files(name), **{**options, "rank": k}).introduction() for k, name in enumerate(hub.sites)]
    with pytest.raises(ValueError, match="the certificate of site-b must not be revoked"):
        Keyring(**hub.files("site-a"), **options, revoked=place).meet(others)
    stranger = authority(hub.folder / "another")[1]
    place.write_bytes(
        x509.CertificateRevocationListBuilder().issuer_name(certificate.subject).last_update(now)
        .next_update(now + dt.timedelta(days=1)).sign(stranger, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    with pytest.raises(ValueError, match="revoked must be signed by the authority in ca"):
        Keyring(**hub.files("site-a"), **options, revoked=place)


def test_a_relay_that_stores_nothing_ends_the_run_with_a_sentence(hub, monkeypatch):
    monkeypatch.setattr(nats, "QUIET", 0.2)
    monkeypatch.setattr(nats, "STORING", 0.5)
    sites = two(hub, "full")
    comms = on_both(sites)
    for link in sites:

        async def refuse(subject, data, reply="", link=link, **options):
            if reply:
                error = {"error": {"code": 503, "description": "maximum bytes exceeded"}}
                await link._confirmed(client.aio.msg.Msg(link._client, reply, data=json.dumps(error).encode()))

        link._client.publish = refuse
    with pytest.raises(RanksLost, match=r"stored none of 1 messages for .* \(maximum bytes exceeded\)"):
        comms[0].allreduce(np.ones(3))
    for link, comm in zip(sites, comms, strict=True):
        link._unconfirmed.clear()
        comm._delivery.close(is_whole=False)
