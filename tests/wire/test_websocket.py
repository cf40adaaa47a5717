from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire.websocket import DATAGRAMS_LIMIT, MESSAGE_LIMIT, encode_train, parse_train


@given(st.integers(1, 2000), st.integers(1, DATAGRAMS_LIMIT), st.data())
def test_train_round_trips(segment: int, count: int, data: st.DataObject) -> None:
    last = data.draw(st.integers(1, segment))
    train = bytes(((count - 1) * segment + last) % 251 for _ in range((count - 1) * segment + last))[:65_507]
    view, size = parse_train(encode_train(train, segment))
    assert (bytes(view), size) == (train, min(segment, len(train)))


def test_message_has_its_documented_layout() -> None:
    assert encode_train(b"aaabb", 3) == b"\x00\x03aaabb"
    assert encode_train(b"ab", 1200) == b"\x00\x02ab", "a datagram on its own has one spelling"


MALFORMED = {
    "empty": b"",
    "no datagram": b"\x00\x01",
    "segment 0": b"\x00\x00a",
    "segment beyond the end": b"\x00\x03ab",
    "too many datagrams": b"\x00\x01" + bytes(DATAGRAMS_LIMIT + 1),
    "too long": b"\xff\xff" + bytes(MESSAGE_LIMIT - 1),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_message_is_refused(message: bytes) -> None:
    with pytest.raises(ParseError):
        parse_train(message)
