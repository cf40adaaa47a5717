from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import HANDSHAKE_PAYLOAD_LIMIT
from covey.base.errors import ParseError
from covey.base.types import Identity
from covey.wire.handshake import HandshakePayload

PAYLOADS = st.builds(
    HandshakePayload,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=32, max_size=32).map(Identity),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.binary(max_size=400),
)
EXAMPLE = HandshakePayload(1, b"h" * 8, Identity(b"i" * 32), 2, b"d" * 32, b"delegation", b"certificate")


@given(PAYLOADS, st.sampled_from([0, 900, HANDSHAKE_PAYLOAD_LIMIT]))
def test_payload_round_trips_with_and_without_padding(payload: HandshakePayload, size: int) -> None:
    raw = payload.encode(size)
    assert len(raw) >= size
    assert HandshakePayload.parse(raw) == payload


def test_payload_has_its_documented_layout() -> None:
    expected = (
        "0000000000000001"
        + "68" * 8
        + "69" * 32
        + "00000002"
        + "64" * 32
        + "000a"
        + b"delegation".hex()
        + "000b"
        + b"certificate".hex()
        + "0000"
    )
    assert EXAMPLE.encode().hex() == expected


def test_payload_over_the_limit_is_our_own_mistake() -> None:
    too_long = HandshakePayload(1, bytes(8), Identity(bytes(32)), 0, bytes(32), bytes(500), bytes(500))
    with pytest.raises(ValueError, match="1090 bytes"):
        too_long.encode()


def test_payload_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(ParseError):
        HandshakePayload.parse(EXAMPLE.encode(HANDSHAKE_PAYLOAD_LIMIT) + b"\0")


def test_payload_with_something_in_its_padding_is_refused() -> None:
    with pytest.raises(ParseError):
        HandshakePayload.parse(EXAMPLE.encode(500) + b"\x01")


def test_payload_cut_short_is_refused() -> None:
    raw = EXAMPLE.encode()
    for size in range(len(raw)):
        with pytest.raises(ParseError):
            HandshakePayload.parse(raw[:size])


@given(st.binary(max_size=1100))
def test_payload_raises_parse_error_and_nothing_else(raw: bytes) -> None:
    try:
        HandshakePayload.parse(raw)
    except ParseError:
        return
