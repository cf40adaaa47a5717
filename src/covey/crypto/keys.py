"""The two kinds of key pair: Ed25519 for signing, X25519 for agreeing.

Every signature covers `b"covey " + label + b" 1\\0" + body` (PROTOCOL 1), so that a signature over one kind
of object is never one over another. Private halves are made from bytes the caller drew; nothing here draws
its own.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from covey.base.errors import CryptoError, VerifyError

__all__ = ["KEY_SIZE", "SIGNATURE_SIZE", "SigningKey", "TransportKey", "signed_bytes", "verify"]

KEY_SIZE: Final = 32
"""Bytes of every Ed25519 and X25519 key, public or private (RFC 8032 5.1.5, RFC 7748 5)."""

AGREED_LIMIT: Final = 1024
"""Static keys of others for which a static key remembers what it agreed with them."""

SIGNATURE_SIZE: Final = 64
"""Bytes of an Ed25519 signature (RFC 8032 5.1.6)."""


def signed_bytes(label: str, body: bytes) -> bytes:
    """What a signature over `body`, an object of the kind `label`, covers (PROTOCOL 1)."""
    return b"covey " + label.encode("ascii") + b" 1\0" + body


def verify(public: bytes, label: str, body: bytes, signature: bytes) -> None:
    """Return if the holder of `public` (32 bytes) made this 64-byte `signature`, else `VerifyError`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed_bytes(label, body))
    except (InvalidSignature, ValueError) as error:
        raise VerifyError(f"the signature on this {label} does not hold", code="bad-signature") from error


class SigningKey:
    """An Ed25519 key pair (RFC 8032), made from its 32-byte seed. `ValueError` for another length."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed: Final = bytes(seed)
        self.public: Final = self._key.public_key().public_bytes_raw()

    def sign(self, label: str, body: bytes) -> bytes:
        """The 64-byte signature over `signed_bytes(label, body)`; the same every time (RFC 8032 5.1.6)."""
        return self._key.sign(signed_bytes(label, body))


class TransportKey:
    """An X25519 key pair (RFC 7748) made from 32 private bytes. `ValueError` for another length."""

    __slots__ = ("_agreed", "_key", "private", "public")

    def __init__(self, private: bytes) -> None:
        self._agreed: dict[bytes, bytes] = {}
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.private: Final = bytes(private)
        self.public: Final = self._key.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The 32-byte shared secret with `public` (32 bytes).

        `CryptoError` for a low-order point, whose result would be all zeros (RFC 7748 6.1), and for a wrong
        length.
        """
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise CryptoError("the peer's X25519 key is refused", code="bad-key") from error

    def exchange_static(self, public: bytes) -> bytes:
        """`exchange` with a key that is met again: what was agreed with the last thousand is remembered (25 us each).

        It says no more than this private key, and goes with it.
        """
        shared = self._agreed.get(public)
        if shared is None:
            shared = self.exchange(public)
            if len(self._agreed) >= AGREED_LIMIT:
                del self._agreed[next(iter(self._agreed))]
            self._agreed[public] = shared
        return shared
