from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.base.types import Identity
from covey.wire import relay
from covey.wire.framing import FrameReader
from covey.wire.relay import Relaying

A, B, R = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
JURISDICTIONS = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,31}\Z") | st.just("")


@given(st.booleans(), st.integers(0, 2**64 - 1), JURISDICTIONS)
def test_relaying_round_trips(relays: bool, rate: int, jurisdiction: str) -> None:
    told = Relaying(relays, rate, jurisdiction)
    assert Relaying.parse(told.encode()) == told


def test_messages_have_their_documented_layout() -> None:
    assert Relaying(True, 1_000_000, "eu").encode().hex() == "0100000000000f4240026575"
    assert relay.encode_relays({b"b" * 8: 7, b"a" * 8: 70_000}).hex() == "02" + "61" * 8 + "ffff" + "62" * 8 + "0007"
    assert relay.encode_gone(5).hex() == "00000005"
    assert relay.encode_open(A).hex() == "00000021" + "01" + "01" * 32
    assert relay.encode_opened(5).hex() == "00000005" + "11" + "00000005"


@given(st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(0, 65_535), max_size=relay.RELAYS_LIMIT))
def test_relays_round_trip(round_trips: dict[bytes, int]) -> None:
    assert relay.parse_relays(relay.encode_relays(round_trips)) == round_trips


def test_service_round_trips() -> None:
    [frame] = FrameReader(relay.FRAME_LIMIT).feed(relay.encode_open(A))
    assert relay.parse_open(*frame) == A
    [frame] = FrameReader(relay.FRAME_LIMIT).feed(relay.encode_opened(9))
    assert relay.parse_opened(*frame) == 9


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (Relaying.parse, b""),
        (Relaying.parse, bytes([2]) + bytes(9)),
        (Relaying.parse, bytes([1]) + bytes(8) + b"\x02EU"),
        (Relaying.parse, bytes([1]) + bytes(8) + b"\x02-e"),
        (Relaying.parse, bytes([1]) + bytes(8) + b"\x21" + b"e" * 33),
        (Relaying.parse, bytes([1]) + bytes(8) + b"\x01e" + b"more"),
        (relay.parse_relays, bytes([17]) + bytes(170)),
        (relay.parse_relays, bytes([1]) + bytes(9)),
        (relay.parse_relays, bytes([2]) + bytes(20)),
        (relay.parse_relays, bytes([2]) + bytes([1] * 10) + bytes(10)),
        (relay.parse_gone, bytes(3)),
        (relay.parse_gone, bytes(5)),
    ],
)
def test_what_is_malformed_is_refused(parse: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(ParseError):
        parse(body)


@pytest.mark.parametrize("frame", [(0x02, bytes(32)), (0x01, bytes(31)), (0x11, bytes(4))])
def test_other_requests_are_refused(frame: tuple[int, bytes]) -> None:
    with pytest.raises(ParseError):
        relay.parse_open(*frame)


@pytest.mark.parametrize("frame", [(0x01, bytes(4)), (0x11, bytes(5)), (0x1F, b"")])
def test_other_answers_are_refused(frame: tuple[int, bytes]) -> None:
    with pytest.raises(ParseError):
        relay.parse_opened(*frame)


def test_a_tag_is_of_one_pair_and_one_direction() -> None:
    tags = {relay.relay_tag(*names) for names in ((A, B, R), (B, A, R), (A, R, B))}
    assert len(tags) == 3
    assert all(len(tag) == relay.TAG_SIZE for tag in tags)
