"""Messages that only their receiver can read, by the keys of the sites' certificates.

Design
------
Every pair of sites has a common secret by Diffie-Hellman between the keys of their certificates (NIST SP 800-56A,
static unified model); HKDF makes one AES-256-GCM key for each direction and run of it. The nonce of a message is
random. The head travels in the open and is authenticated. A site that is started again finds the same keys, so it can
read what the relay has stored; for the same reason there is no forward secrecy: keep the keys of certificates secret.
"""

import hmac
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnnext._checks import short

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.x509 import verification
except ImportError as error:
    raise ImportError(
        f"sites need cryptography to seal messages: `pip install nats-py cryptography`. Python reports: {error}"
    ) from error

__all__ = ["Keyring", "certificate_of", "check_certificate"]

NONCE = 12  # bytes


def _read(name: str, path: Any) -> bytes:
    """The bytes of a file; a message never shows a key that was given in place of the file that holds it."""
    shown = os.fsdecode(path)
    if "-----BEGIN" in shown:
        raise ValueError(f"{name} must be the path of a PEM file, got the text of one.")
    try:
        return Path(shown).read_bytes()
    except OSError as error:
        raise ValueError(f"{name} must be the path of a PEM file, got {short(shown)}: {error.strerror}.") from None


def certificate_of(path: str | os.PathLike[str]) -> Any:
    """The certificate in a PEM file.

    Raises
    ------
    ValueError
        If there is none.
    """
    data = _read("cert", path)
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise ValueError(f"cert must be a PEM file with a certificate, got {os.fspath(path)!r}: {error}") from None


def revocation_list(path: Any, ca: Sequence[Any]) -> Any:
    """The authority's list of revoked certificates, in a PEM file.

    Raises
    ------
    ValueError
        If there is none, or another authority has signed it.
    """
    data = _read("revoked", path)
    try:
        found = x509.load_pem_x509_crl(data)
    except ValueError as error:
        raise ValueError(f"revoked must be a PEM file with a list, got {os.fspath(path)!r}: {error}") from None
    if not any(found.is_signature_valid(issuer.public_key()) for issuer in ca):
        raise ValueError(f"revoked must be signed by the authority in ca, got {os.fspath(path)!r} of another one.")
    return found


def check_certificate(certificate: Any, ca: Sequence[Any], name: str, at: datetime | None = None) -> None:
    """The certificate was issued by the authority to the site of this name, is valid now and can seal.

    Parameters
    ----------
    certificate : cryptography.x509.Certificate
    ca : list of cryptography.x509.Certificate
        The authority's.
    name : str
        The site's name, a DNS name of the certificate.
    at : datetime, optional
        Default: now.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    now = datetime.now(UTC) if at is None else at
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        held = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        held = []
    if name not in held:
        raise ValueError(f"the certificate of {name} must have the DNS name {name!r}, got {short(held)}.")
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        raise ValueError(
            f"the certificate of {name} must be valid now, got one for {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} "
            "UTC: ask the authority for a new one, and look at "
            "this machine's clock."
        )
    if not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
        raise ValueError(f"the certificate of {name} must have an elliptic-curve key, got another kind.")
    try:
        verification.PolicyBuilder().store(verification.Store(list(ca))).time(now).build_client_verifier().verify(
            certificate, []
        )
    except verification.VerificationError as error:
        raise ValueError(f"the certificate of {name} must be issued by the authority in ca, got: {error}.") from None


class Keyring:
    """The keys that one site shares with each other site in one run.

    Parameters
    ----------
    cert, key, ca : path
        PEM files: this site's certificate, its private key, the authority's certificate.
    names : sequence of str
        The sites in rank order.
    rank : int
        This one.
    run : str
        Names the run; other runs have other keys.
    revoked : path, optional
        PEM file: the authority's list of revoked certificates.

    Raises
    ------
    ValueError
        If a file is unfit, or certificate and key do not belong together.
    """

    def __init__(
        self, cert: Any, key: Any, ca: Any, names: Sequence[str], rank: int, run: str, revoked: Any = None
    ) -> None:
        self.names, self.rank, self.run = tuple(names), rank, run
        data = _read("ca", ca)
        try:
            self.ca = x509.load_pem_x509_certificates(data)
        except ValueError as error:
            raise ValueError(f"ca must be a PEM file with certificates, got {os.fspath(ca)!r}: {error}") from None
        self.revoked = None if revoked is None else revocation_list(revoked, self.ca)
        self.certificate = certificate_of(cert)
        data = _read("key", key)
        try:
            self._key: Any = serialization.load_pem_private_key(data, None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"key must be a PEM file with a private key, got {os.fspath(key)!r}: {error}") from None
        if self._key.public_key() != self.certificate.public_key():
            raise ValueError(f"key must belong to the certificate, got {os.fspath(key)!r} for {os.fspath(cert)!r}.")
        check_certificate(self.certificate, self.ca, names[rank])
        parts = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        info = f"dnnext 1|{run}|marks".encode()
        self._marks = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(self._key.private_bytes(*parts))
        self._out: dict[int, Any] = {}
        self._into: dict[int, Any] = {}

    def introduction(self) -> str:
        """The certificate of this site."""
        return str(self.certificate.public_bytes(serialization.Encoding.PEM).decode())

    def meet(self, introductions: Sequence[str]) -> None:
        """Check the certificates of all sites and derive the keys.

        Raises
        ------
        ValueError
            Naming the site whose certificate is unfit.
        """
        for rank, text in enumerate(introductions):
            if rank == self.rank:
                continue
            name = self.names[rank]
            try:
                certificate = x509.load_pem_x509_certificate(text.encode())
            except ValueError as error:
                raise ValueError(f"the certificate of {name} must be in PEM form, got: {error}.") from None
            check_certificate(certificate, self.ca, name)
            number = certificate.serial_number
            if self.revoked is not None and self.revoked.get_revoked_certificate_by_serial_number(number) is not None:
                raise ValueError(
                    f"the certificate of {name} must not be revoked, got one that the authority's list has."
                )
            public: Any = certificate.public_key()
            if public.curve.name != self._key.curve.name:
                raise ValueError(
                    f"the certificate of {name} must have a key on the curve {self._key.curve.name}, as this site's "
                    f"has, got {public.curve.name}."
                )
            secret = self._key.exchange(ec.ECDH(), public)
            self._out[rank] = self._derive(secret, self.names[self.rank], name)
            self._into[rank] = self._derive(secret, name, self.names[self.rank])

    def _derive(self, secret: bytes, sender: str, receiver: str) -> Any:
        info = f"dnnext 1|{self.run}|{sender}|{receiver}".encode()
        return AESGCM(HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(secret))

    def mark(self, subject: str) -> str:
        """What names a message to the relay: the same after a new start, and no other site can find it beforehand."""
        return hmac.digest(self._marks, subject.encode(), "sha256").hex()[:32]

    def seal(self, to: int, head: bytes, body: bytes) -> bytes:
        """Nonce and ciphertext; the head is authenticated."""
        nonce = os.urandom(NONCE)
        return nonce + bytes(self._out[to].encrypt(nonce, body, head))

    def unseal(self, source: int, head: bytes, body: bytes) -> bytes:
        """The body.

        Raises
        ------
        ValueError
            If it was not sealed by that site for this one, or was changed on the way.
        """
        try:
            return bytes(self._into[source].decrypt(body[:NONCE], body[NONCE:], head))
        except (InvalidTag, ValueError, KeyError):
            raise ValueError("was not sealed by that site for this one, or was changed on the way") from None
