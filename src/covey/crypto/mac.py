"""The keyed tags of the first packet: what keeps a node silent for those who do not know it.

`mac1` is keyed by something only an informed sender knows: the responder's transport key for an initiation,
the target's identity for a RECORD_REQUEST (PROTOCOL 5), the one-time code inside an introduction window
(PROTOCOL 14).
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

__all__ = ["MAC_SIZE", "NO_PSK_TAG", "PSK_TAG_SIZE", "mac1", "mac1_key", "psk_tag", "same"]

MAC_SIZE: Final = 16
"""Bytes of mac1 and mac2 (truncated HMAC-SHA256, RFC 2104 5)."""

PSK_TAG_SIZE: Final = 8
"""Bytes of the tag by which message 1 names its psk (PROTOCOL 13)."""

NO_PSK_TAG: Final = bytes(PSK_TAG_SIZE)
"""The tag of a handshake outside every enclave."""

Buffer = bytes | bytearray | memoryview


@lru_cache(maxsize=256)
def mac1_key(responder_public: bytes) -> bytes:
    """The 32-byte key of `mac1` for whoever is known by `responder_public`."""
    return hashlib.sha256(b"covey mac1 1\0" + responder_public).digest()


def mac1(key: bytes, data: Buffer) -> bytes:
    """The 16-byte tag over `data`: everything in the datagram before the tag."""
    return hmac.digest(key, data, "sha256")[:MAC_SIZE]


def psk_tag(psk: bytes, initiator_ephemeral: bytes) -> bytes:
    """The 8-byte tag that tells the responder which psk is meant, and nobody else anything (PROTOCOL 13)."""
    return hmac.digest(psk, initiator_ephemeral, "sha256")[:PSK_TAG_SIZE]


def same(left: Buffer, right: Buffer) -> bool:
    """Whether two tags are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(left, right)
