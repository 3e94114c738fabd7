"""A site's folder: its key and request, then the certificate that an authority has signed; the authority is any."""

import json
import os
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnnext.sites.relay import check_token
from dnnext.sites.sealing import Keyring, certificate_of

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    raise ImportError(f"sites need cryptography: `pip install cryptography`. Python reports: {error}") from error

__all__ = ["days_left", "folder_options", "join", "request"]


def request(folder: str | os.PathLike[str], name: str, hosts: Sequence[str] = ()) -> Path:
    """A private key, which never leaves the folder, and the request that an authority signs.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    name : str
        The site; it becomes the common name and a DNS name of the certificate.
    hosts : sequence of str
        More DNS names, for the relay.

    Returns
    -------
    Path
        The request, ``NAME.csr``.

    Raises
    ------
    ValueError
        If the name is unfit, or the folder has a key already.
    """
    check_token("name", name)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.key"
    if path.exists():
        raise ValueError(f"the folder must have no key yet, got {str(path)!r}: remove it to make another.")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(each) for each in (name, *hosts)])
    made = x509.CertificateSigningRequestBuilder(subject).add_extension(names, False).sign(key, hashes.SHA256())
    (place / f"{name}.csr").write_bytes(made.public_bytes(pem))
    return place / f"{name}.csr"


def join(
    folder: str | os.PathLike[str], certificate: Any, ca: Any, relay: str, sites: Sequence[str],
    relay_name: str | None = None,
) -> Path:  # fmt: skip
    """Put the signed certificate, the authority's and the consortium's data into the site's folder.

    Parameters
    ----------
    folder : path
        Where `request` made the key.
    certificate, ca : path
        PEM files: the signed certificate, and the authority's.
    relay : str
        Such as ``"tls://relay.example:4222"``.
    sites : sequence of str
        All sites, the same everywhere and in the same order.
    relay_name : str, optional
        The name in the relay's certificate, where it is not the host in `relay`.

    Returns
    -------
    Path
        The file site.toml.

    Raises
    ------
    ValueError
        If the certificate is not for this site's key, not valid or not of this authority.
    """
    place, names = Path(folder), [check_token("a site", name) for name in sites]
    mine = [name for name in names if (place / f"{name}.key").exists()]
    if len(mine) != 1:
        raise ValueError(f"the folder must hold the key of one of the sites {names}, got keys of {mine}.")
    name = mine[0]
    Keyring(certificate, place / f"{name}.key", ca, names, names.index(name), "join")
    (place / "site.pem").write_bytes(Path(certificate).read_bytes())
    (place / "ca.pem").write_bytes(Path(ca).read_bytes())
    values = {"site": name, "relay": relay, "sites": names} | ({} if relay_name is None else {"relay_name": relay_name})
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    (place / "site.toml").write_text(text, encoding="utf-8")
    return place / "site.toml"


def days_left(certificate: str | os.PathLike[str]) -> float:
    """Days until the certificate ends."""
    end: datetime = certificate_of(certificate).not_valid_after_utc
    return (end - datetime.now(UTC)).total_seconds() / 86400


def folder_options(folder: Any) -> dict[str, Any]:
    """Options in a site's folder: ``site.toml``, ``site.pem``, ``NAME.key``, ``ca.pem``, if any ``revoked.pem``.

    Raises
    ------
    ValueError
        If the folder has no ``site.toml``, or an unfit one.
    """
    place = Path(folder)
    try:
        found = tomllib.loads((place / "site.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"folder must hold site.toml as `dnnext site join` writes it, got {str(folder)!r} without it."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"folder must hold site.toml as `dnnext site join` writes it, got {error}.") from None
    options: dict[str, Any] = {name: found[name] for name in ("relay", "site", "sites", "relay_name") if name in found}
    key = place / f"{found.get('site', 'site')}.key"
    options |= {"cert": place / "site.pem", "key": key, "ca": place / "ca.pem"}
    return options | ({"revoked": place / "revoked.pem"} if (place / "revoked.pem").exists() else {})
