"""An authority and one certificate of it, made for one run: rivals in Rust and Go verify whom they talk to."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Certificate", "make_certificate"]


class Certificate(NamedTuple):
    """Paths of PEM files."""

    authority: str
    chain: str
    key: str


def make_certificate(directory: str, address: str) -> Certificate:
    """P-256, as the baseline has it, for an IP address; the files stand in `directory`, 0600."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _signed("authority", authority_key.public_key(), "authority", authority_key, is_authority=True)
    certificate = _signed("server", key.public_key(), "authority", authority_key, address=address)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    here = Path(directory)
    found = Certificate(str(here / "authority.pem"), str(here / "chain.pem"), str(here / "key.pem"))
    for path, text in zip(found, (_pem(authority), _pem(certificate), private), strict=True):
        Path(path).touch(mode=0o600)
        Path(path).write_bytes(text)
    return found


def _signed(
    name: str,
    public: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
    address: str = "",
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
