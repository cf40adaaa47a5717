from __future__ import annotations

import hashlib

import pytest

from covey.crypto.address import address

IDENTITY = bytes(range(32))


def test_address_is_the_first_48_bits_of_the_labelled_hash() -> None:
    assert address(IDENTITY, 0) == hashlib.sha256(b"covey address 1" + IDENTITY + b"\0").digest()[:6]
    assert address(IDENTITY, 255) == hashlib.sha256(b"covey address 1" + IDENTITY + b"\xff").digest()[:6]


def test_nonces_give_different_addresses() -> None:
    assert len({address(IDENTITY, nonce) for nonce in range(256)}) == 256


@pytest.mark.parametrize("bits", [1, 8, 12, 16, 47, 48])
def test_fewer_bits_keep_the_top_and_clear_the_rest(bits: int) -> None:
    full = int.from_bytes(address(IDENTITY, 0), "big")
    short = int.from_bytes(address(IDENTITY, 0, bits), "big")
    assert short >> (48 - bits) == full >> (48 - bits)
    assert short % (1 << (48 - bits)) == 0


@pytest.mark.parametrize(
    ("identity", "nonce", "bits"),
    [(IDENTITY[1:], 0, 48), (IDENTITY, 256, 48), (IDENTITY, -1, 48), (IDENTITY, 0, 0), (IDENTITY, 0, 49)],
)
def test_address_refuses_values_out_of_range(identity: bytes, nonce: int, bits: int) -> None:
    with pytest.raises(ValueError):
        address(identity, nonce, bits)
