"""HKDF-SHA256 (RFC 5869), the one key derivation of Noise and the ratchet."""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["HASH_SIZE", "hkdf", "hkdf_secret"]

HASH_SIZE: Final = 32
"""Bytes of a SHA-256 digest."""

_SHA256 = SHA256()


def hkdf(salt: bytes, ikm: bytes, info: bytes = b"", size: int = HASH_SIZE) -> bytes:
    """`size` bytes (at most 8160): extract(`salt`, `ikm`), then expand(`info`). No salt is 32 zero bytes."""
    return HKDF(_SHA256, size, salt, info).derive(ikm)


def hkdf_secret(salt: bytes | bytearray, ikm: bytes | bytearray, info: bytes) -> bytearray:
    """As `hkdf`, 32 bytes that whoever keeps them can overwrite. No argument is copied.

    What lies in freed memory for a while is the extracted key, from which only this secret follows: it is old by the
    time the secret is.
    """
    secret = bytearray(HASH_SIZE)
    HKDFExpand(_SHA256, HASH_SIZE, info).derive_into(hmac.digest(salt, ikm, "sha256"), secret)
    return secret
