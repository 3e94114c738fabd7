"""Messages that only their receiver can read, by keys made for one run and signed by the keys of certificates.

Design
------
Certificates of NVIDIA FLARE hold RSA keys, which sign but give no common secret. So every site makes an X25519 key for
the run and signs it (authenticated Diffie-Hellman with ephemeral keys); from there on it is as in `Keyring`. A site
that is started again has other keys: an engine that stores messages for it needs `Keyring`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from dnnext.sites.sealing import Keyring

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
except ImportError as error:
    raise ImportError(
        f"sites need cryptography to seal messages: `pip install cryptography`. Python reports: {error}"
    ) from error

__all__ = ["SignedKeys"]

PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)


class SignedKeys(Keyring):
    """The keys that one site shares with each other site in one run.

    Parameters
    ----------
    cert, key : bytes
        This site's certificate (followed by those between it and the authority, if any) and private key, in PEM form.
    names : sequence of str
        The sites in rank order.
    rank : int
        This one.
    run : str
        Names the run.
    check : callable
        ``check(certificates, name)`` raises a ValueError unless the certificates, this site's or another one's, show
        that the authority knows the first of them as the site of this name.

    Raises
    ------
    ValueError
        If certificate or key is unfit.
    """

    def __init__(
        self, cert: bytes, key: bytes, names: Sequence[str], rank: int, run: str, check: Callable[[list[Any], str], Any]
    ) -> None:
        self.names, self.rank, self.run, self._check = tuple(names), rank, run, check
        self._chain = cert.decode()
        self._own_key: Any = serialization.load_pem_private_key(key, None)
        if self._own_key.public_key() != self._check_site(self._chain, names[rank]):
            raise ValueError(f"the key of {names[rank]} must belong to its certificate, got another one.")
        self._private = X25519PrivateKey.generate()
        self._public = self._private.public_key().public_bytes_raw()
        self._out: dict[int, Any] = {}
        self._into: dict[int, Any] = {}

    def _check_site(self, chain: str, name: str) -> Any:
        """The public key of a site's certificate."""
        try:
            certificates = x509.load_pem_x509_certificates(chain.encode())
        except ValueError as error:
            raise ValueError(f"the certificate of {name} must be in PEM form, got: {error}.") from None
        self._check(certificates, name)
        return certificates[0].public_key()

    def _signed(self, name: str, public: bytes) -> bytes:
        return f"dnnext 1|{self.run}|{name}|".encode() + public

    def introduction(self) -> str:
        """The certificate of this site, its key for the run, and the signature of that key."""
        text = self._signed(self.names[self.rank], self._public)
        if isinstance(self._own_key, rsa.RSAPrivateKey):
            signature = self._own_key.sign(text, PSS, hashes.SHA256())
        else:
            signature = self._own_key.sign(text, ec.ECDSA(hashes.SHA256()))
        return json.dumps({"certificate": self._chain, "key": self._public.hex(), "signature": signature.hex()})

    def meet(self, introductions: Sequence[str]) -> None:
        """Check certificates and signatures of all sites and derive the keys.

        Raises
        ------
        ValueError
            Naming the site whose certificate or signature is unfit.
        """
        for rank, introduction in enumerate(introductions):
            if rank == self.rank:
                continue
            name = self.names[rank]
            try:
                found = json.loads(introduction)
                chain, public = found["certificate"], bytes.fromhex(found["key"])
                signature = bytes.fromhex(found["signature"])
                secret = self._private.exchange(X25519PublicKey.from_public_bytes(public))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"the introduction of {name} must hold a certificate, a key and a signature, got {error}."
                ) from None
            self._verify(self._check_site(chain, name), signature, self._signed(name, public), name)
            self._out[rank] = self._derive(secret, self.names[self.rank], name)
            self._into[rank] = self._derive(secret, name, self.names[self.rank])

    @staticmethod
    def _verify(key: Any, signature: bytes, text: bytes, name: str) -> None:
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, text, PSS, hashes.SHA256())
            else:
                key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, AttributeError, TypeError):
            raise ValueError(
                f"the key of {name} for this run must be signed by the key of its certificate, got another signature."
            ) from None

    def mark(self, subject: str) -> str:
        """Not offered: these keys do not outlive the process.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError("keys that are made for one run name no messages to a relay.")
