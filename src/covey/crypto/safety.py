"""The safety number: what two people read to each other (PROTOCOL 8).

Each identity has its own half, so that grinding one half helps with no other::

    h_1     = SHA-256("covey safety 1\\0" || identity)
    h_{i+1} = SHA-256(h_i || identity)                     up to h_5200: 5,200 rounds
    group k = bytes 5k .. 5k+4 of h_5200, big-endian, modulo 100,000, five digits        k = 0 .. 5

Six groups are 30 digits: 99.7 bits. The half of the lower identity comes first, so both sides show the same.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from covey.base.types import IDENTITY_SIZE

__all__ = ["GROUPS", "ROUNDS", "safety_half", "safety_number"]

ROUNDS: Final = 5200
"""SHA-256 computations per identity (PROTOCOL 8): makes grinding a half 2^12.3 times dearer."""

GROUPS: Final = 6
"""Groups of five digits in a half."""

_CACHED: Final = 4096
"""Halves kept, 100 to 200 bytes each. A half costs some milliseconds."""


def safety_number(first: bytes, second: bytes) -> str:
    """Twelve groups of five digits, separated by spaces: the same whichever identity comes first."""
    low, high = sorted((bytes(first), bytes(second)))
    return f"{safety_half(low)} {safety_half(high)}"


@lru_cache(maxsize=_CACHED)
def safety_half(identity: bytes) -> str:
    """The six groups of one identity (32 bytes)."""
    if len(identity) != IDENTITY_SIZE:
        raise ValueError("an identity has 32 bytes")
    digest = hashlib.sha256(b"covey safety 1\0" + identity).digest()
    for _ in range(ROUNDS - 1):
        digest = hashlib.sha256(digest + identity).digest()
    groups = (int.from_bytes(digest[5 * k : 5 * k + 5], "big") % 100_000 for k in range(GROUPS))
    return " ".join(f"{group:05d}" for group in groups)
