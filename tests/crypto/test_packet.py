from __future__ import annotations

import pytest

from covey.base.errors import CryptoError
from covey.crypto.packet import NONCE, TAG_SIZE, PacketKey

KEY = bytes(range(32))
HEADER = bytes(range(16))
PLAIN = bytes(range(256)) * 5


def seal(key: PacketKey, path: int, counter: int, header: bytes, plain: bytes) -> bytes:
    out = bytearray(len(plain) + TAG_SIZE)
    assert key.seal_into(path, counter, header, plain, out) == len(out)
    return bytes(out)


def test_nonce_is_zeros_path_and_counter() -> None:
    assert NONCE.pack(0xAB, 0x0102030405060708).hex() == "000000ab0102030405060708"
    assert NONCE.size == 12


@pytest.mark.parametrize(
    ("plain", "sealed"),
    [  # McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 and 14
        ("", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00" * 16, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ],
)
def test_packet_key_matches_the_gcm_paper(plain: str, sealed: str) -> None:
    assert seal(PacketKey(bytes(32)), 0, 0, b"", bytes.fromhex(plain)).hex() == sealed


@pytest.mark.parametrize("size", [0, 1, 64, 1400, 8872])
def test_open_gives_back_what_was_sealed(size: int) -> None:
    key, plain = PacketKey(KEY), (PLAIN * 8)[:size]
    sealed = seal(key, 3, 9, HEADER, plain)
    out = bytearray(size)
    assert key.open_into(3, 9, HEADER, sealed, out) == size
    assert out == plain
    assert key.open(3, 9, HEADER, sealed) == plain


def test_seal_works_inside_one_train_buffer() -> None:
    key, train = PacketKey(KEY), bytearray(4 * 116)
    view = memoryview(train)
    for at in range(4):
        view[at * 116 : at * 116 + 16] = HEADER
        header = view[at * 116 : at * 116 + 16]
        key.seal_into(0, at, header, PLAIN[:84], view[at * 116 + 16 : (at + 1) * 116])
    for at in range(4):
        datagram = train[at * 116 : (at + 1) * 116]
        assert key.open(0, at, datagram[:16], datagram[16:]) == PLAIN[:84]


def test_aead_inlined_is_the_same() -> None:
    key = PacketKey(KEY)
    assert key.aead.encrypt(NONCE.pack(1, 2), PLAIN, HEADER) == seal(key, 1, 2, HEADER, PLAIN)


def test_open_refuses_everything_else() -> None:
    key = PacketKey(KEY)
    sealed = seal(key, 1, 2, HEADER, PLAIN)
    cases = {
        "another path": (key, 2, 2, HEADER, sealed),
        "another counter": (key, 1, 3, HEADER, sealed),
        "another header": (key, 1, 2, HEADER[:-1] + b"\0", sealed),
        "another key": (PacketKey(KEY[::-1]), 1, 2, HEADER, sealed),
        "a flipped bit": (key, 1, 2, HEADER, bytes([sealed[0] ^ 1]) + sealed[1:]),
        "a flipped bit of the tag": (key, 1, 2, HEADER, sealed[:-1] + bytes([sealed[-1] ^ 128])),
        "cut short": (key, 1, 2, HEADER, sealed[:-1]),
        "only a tag": (key, 1, 2, HEADER, sealed[-16:]),
    }
    for with_key, path, counter, header, data in cases.values():
        with pytest.raises(CryptoError):
            with_key.open(path, counter, header, data)
        with pytest.raises(CryptoError):
            with_key.open_into(path, counter, header, data, bytearray(len(data) - TAG_SIZE))


@pytest.mark.parametrize("size", [0, 1, 15])
def test_open_refuses_less_than_a_tag(size: int) -> None:
    with pytest.raises(CryptoError):
        PacketKey(KEY).open(0, 0, HEADER, bytes(size))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_packet_key_refuses_another_length(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        PacketKey(bytes(size))


def test_into_refuses_an_output_of_another_size() -> None:
    key = PacketKey(KEY)
    with pytest.raises(ValueError, match="buffer"):
        key.seal_into(0, 0, HEADER, PLAIN, bytearray(len(PLAIN)))
    with pytest.raises(ValueError, match="buffer"):
        key.open_into(0, 0, HEADER, seal(key, 0, 0, HEADER, PLAIN), bytearray(len(PLAIN) + 1))


def test_a_key_that_rested_seals_and_opens_as_before() -> None:
    key = PacketKey(KEY)
    assert key.resting
    sealed = seal(key, 1, 2, HEADER, PLAIN)
    assert not key.resting
    key.rest()
    key.rest()
    assert key.resting
    assert key.open(1, 2, HEADER, sealed) == PLAIN
    assert seal(key, 1, 2, HEADER, PLAIN) == sealed
    with pytest.raises(AttributeError, match="other"):
        key.other  # noqa: B018
