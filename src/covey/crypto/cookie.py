"""Cookies: proof that whoever starts a handshake hears what is sent to where it says it is (PROTOCOL 15).

    cookie = HMAC-SHA256(secret of this time, source)[:16]             the responder remembers none of them
    sealed = AES-256-GCM(key = HKDF(salt = "", ikm = responder, info = "covey cookie 1"),
                         nonce = 96 random bits, plaintext = cookie, AAD = mac1 of what was received)
    mac2   = HMAC-SHA256(cookie, everything before mac2)[:16]

`responder` is what mac1 was keyed by: a transport public key, or an identity for a record request. So a cookie is read
only by those who could compute mac1, and answers exactly the datagram whose mac1 it was sealed with.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey.base.errors import CryptoError
from covey.crypto.kdf import hkdf
from covey.crypto.mac import MAC_SIZE, same

__all__ = [
    "COOKIE_NONCE_SIZE",
    "COOKIE_SECONDS",
    "COOKIE_SIZE",
    "SEALED_COOKIE_SIZE",
    "CookieJar",
    "cookie_key",
    "mac2",
    "open_cookie",
    "seal_cookie",
]

COOKIE_SIZE: Final = 16
COOKIE_NONCE_SIZE: Final = 12
SEALED_COOKIE_SIZE: Final = COOKIE_SIZE + 16
COOKIE_SECONDS: Final = 120
"""How long a secret makes cookies; for as long again it still accepts them. An initiator uses a cookie this long."""

NO_PROOF: Final = bytes(MAC_SIZE)
"""The mac2 of who has no cookie."""

Buffer = bytes | bytearray | memoryview


class CookieJar:
    """The responder's side, without memory: secrets follow from one and the time, cookies from a secret and a source.

    `now` is seconds on a clock that never goes back; `secret` 32 random bytes, new in every process.
    """

    __slots__ = ("_period", "_root", "_secrets")

    def __init__(self, secret: bytes) -> None:
        self._root = secret
        self._period = -1
        self._secrets = (b"", b"")

    def cookie(self, now: float, source: bytes) -> bytes:
        """The cookie for `source`, good for 120 to 240 seconds."""
        return _cookie(self._at(now)[0], source)

    def proves(self, now: float, source: bytes, authenticated: Buffer, tag: Buffer) -> bool:
        """Whether `tag`, the mac2 over `authenticated`, was made with a cookie that `source` was sent lately."""
        if tag == NO_PROOF:
            return False
        return any(same(mac2(_cookie(secret, source), authenticated), tag) for secret in self._at(now))

    def _at(self, now: float) -> tuple[bytes, bytes]:
        period = int(now // COOKIE_SECONDS)
        if period != self._period:
            self._period = period
            self._secrets = (self._secret(period), self._secret(period - 1))
        return self._secrets

    def _secret(self, period: int) -> bytes:
        return hmac.digest(self._root, period.to_bytes(8, "big", signed=True), "sha256")


@lru_cache(maxsize=64)
def cookie_key(responder: bytes) -> bytes:
    """The 32-byte key of cookies from whoever is known by `responder` (32 bytes)."""
    return hkdf(b"", responder, b"covey cookie 1")


def seal_cookie(key: bytes, nonce: bytes, cookie: bytes, mac1: Buffer) -> bytes:
    """The cookie, 32 bytes, for the sender of the datagram with this mac1. `nonce`: 12 random bytes."""
    return AESGCM(key).encrypt(nonce, cookie, bytes(mac1))


def open_cookie(key: bytes, nonce: bytes, sealed: bytes, mac1: bytes) -> bytes:
    """The inverse of `seal_cookie`. `CryptoError` if it was not made for our datagram."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, mac1)
    except InvalidTag:
        raise CryptoError("this cookie does not open") from None


def mac2(cookie: bytes, authenticated: Buffer) -> bytes:
    """The 16-byte tag over everything before it, mac1 included."""
    return hmac.digest(cookie, authenticated, "sha256")[:MAC_SIZE]


def _cookie(secret: bytes, source: bytes) -> bytes:
    return hmac.digest(secret, source, "sha256")[:COOKIE_SIZE]
