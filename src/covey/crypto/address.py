"""An agent's 48-bit locator, derived from its identity (DESIGN 3, PROTOCOL 6)."""

from __future__ import annotations

import hashlib
from typing import Final

from covey.base.types import ADDRESS_SIZE, IDENTITY_SIZE, Address

__all__ = ["ADDRESS_BITS", "address"]

ADDRESS_BITS: Final = 48
"""Bits of a full address. Tests use 16, so that collisions are exercised all the time."""


def address(identity: bytes, nonce: int, bits: int | None = None) -> Address:
    """The first 48 bits of SHA-256("covey address 1" || identity || nonce), the bits after the first `bits`
    cleared (None: `ADDRESS_BITS`).

    `nonce` is one byte, bumped when a fresh claimant finds its address taken. `ValueError` for values out of
    range.
    """
    bits = ADDRESS_BITS if bits is None else bits
    if len(identity) != IDENTITY_SIZE or not 0 < bits <= 8 * ADDRESS_SIZE:
        raise ValueError("an address needs a 32-byte identity and 1 to 48 bits")
    digest = hashlib.sha256(b"covey address 1" + identity + bytes((nonce,))).digest()
    spare = 8 * ADDRESS_SIZE - bits
    value = int.from_bytes(digest[:ADDRESS_SIZE], "big") >> spare << spare
    return Address(value.to_bytes(ADDRESS_SIZE, "big"))
