"""HKDF-SHA256 (RFC 5869), the one key derivation of Noise and the ratchet."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["HASH_SIZE", "hkdf"]

HASH_SIZE: Final = 32
"""Bytes of a SHA-256 digest."""

_SHA256 = SHA256()


def hkdf(salt: bytes, ikm: bytes, info: bytes = b"", size: int = HASH_SIZE) -> bytes:
    """`size` bytes (at most 8160): extract(`salt`, `ikm`), then expand(`info`). No salt is 32 zero bytes."""
    return HKDF(_SHA256, size, salt, info).derive(ikm)
