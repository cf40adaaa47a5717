from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import ParseError
from covey.wire import messages
from covey.wire.framing import FrameReader
from covey.wire.messages import (
    MessageFrame,
    encode_number,
    encode_refused,
    encode_skip,
    parse_number,
    parse_refused,
    parse_skip,
)

U64 = st.integers(0, 2**64 - 1)
ID = bytes(range(16))


def opened(frame: bytes) -> tuple[int, bytes]:
    ((kind, body),) = FrameReader(messages.FRAME_LIMIT).feed(frame)
    return kind, body


@given(
    st.tuples(st.integers(1, 2**64 - 1), U64).filter(lambda pair: pair[1] <= pair[0]),
    st.binary(min_size=16, max_size=16),
    st.sampled_from(["text", "json", "binary"]),
    U64,
    st.binary(max_size=500),
)
def test_message_round_trips(numbers: tuple[int, int], message_id: bytes, kind: str, expires: int, body: bytes) -> None:
    frame = MessageFrame(numbers[0], numbers[1], message_id, kind, expires, body)
    number, encoded = opened(frame.encode())
    assert number == messages.MESSAGE
    assert MessageFrame.parse(encoded) == frame


def test_message_has_its_documented_layout() -> None:
    frame = MessageFrame(5, 3, ID, "json", 9, b"{}")
    head = "0000002c02"
    body = "00000000000000050000000000000003" + ID.hex() + "0200000000000000097b7d"
    assert frame.encode().hex() == head + body


def test_largest_message_fits_a_frame() -> None:
    frame = MessageFrame(1, 1, ID, "binary", 0, bytes(MESSAGE_LIMIT))
    assert MessageFrame.parse(opened(frame.encode())[1]) == frame


@given(U64, st.lists(U64, max_size=50))
def test_skip_round_trips(lowest: int, numbers: list[int]) -> None:
    kind, body = opened(encode_skip(lowest, numbers))
    assert (kind, parse_skip(body)) == (messages.SKIP, (lowest, numbers))


@given(st.sampled_from([messages.OPENING, messages.SETTLED, messages.RESUME]), U64)
def test_number_round_trips(kind: int, number: int) -> None:
    found, body = opened(encode_number(kind, number))
    assert (found, parse_number(body)) == (kind, number)


@given(U64, st.text(max_size=60))
def test_refused_round_trips(number: int, reason: str) -> None:
    kind, body = opened(encode_refused(number, reason))
    assert (kind, parse_refused(body)) == (messages.REFUSED, (number, reason))


def head(number: int = 5, lowest: int = 3, kind: int = 1) -> bytes:
    return number.to_bytes(8, "big") + lowest.to_bytes(8, "big") + ID + bytes([kind]) + bytes(8)


MALFORMED: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "message cut": (MessageFrame.parse, head()[:-1]),
    "message number 0": (MessageFrame.parse, head(0, 0)),
    "message below the lowest alive": (MessageFrame.parse, head(5, 6)),
    "message of type 0": (MessageFrame.parse, head(kind=0)),
    "message of type 4": (MessageFrame.parse, head(kind=4)),
    "skip cut": (parse_skip, bytes(8) + b"\x00\x02" + bytes(15)),
    "skip with more": (parse_skip, bytes(8) + b"\x00\x01" + bytes(9)),
    "skip of too many": (parse_skip, bytes(8) + b"\x10\x01" + bytes(8 * 4097)),
    "number cut": (parse_number, bytes(7)),
    "number with more": (parse_number, bytes(9)),
    "refusal cut": (parse_refused, bytes(8)),
    "refusal that is not UTF-8": (parse_refused, bytes(8) + b"\x01\xff"),
    "refusal with more": (parse_refused, bytes(8) + b"\x00\x00"),
}


@pytest.mark.parametrize(("read", "body"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_body_is_refused(read: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(ParseError):
        read(body)


@given(st.sampled_from([MessageFrame.parse, parse_skip, parse_number, parse_refused]), st.binary(max_size=100))
def test_parsers_raise_parse_error_and_nothing_else(read: Callable[[bytes], object], body: bytes) -> None:
    try:
        read(body)
    except ParseError:
        return
