from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire import trust
from covey.wire.framing import FrameReader
from covey.wire.trust import ACTIONS, STATES, TrustAction, TrustLetter, encode_receipt, parse_receipt


def opened(frame: bytes) -> tuple[int, bytes]:
    ((kind, body),) = FrameReader(trust.FRAME_LIMIT).feed(frame)
    return kind, body


@given(
    st.sampled_from(sorted(ACTIONS)),
    st.integers(0, trust.NUMBER_LIMIT),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=63),
    st.text(max_size=trust.REASON_LIMIT),
)
def test_action_round_trips(action: str, number: int, name: str, reason: str) -> None:
    sent = TrustAction(action, number, name, reason)
    assert TrustAction.parse(*opened(sent.encode())) == sent
    letter = TrustLetter(action, name, reason, number)
    assert TrustLetter.parse(letter.encode()) == letter


def test_action_has_its_documented_layout() -> None:
    frame = TrustAction("approve", 9, "me", "ok").encode().hex()
    assert frame == "00000010020000000000000009026d6500026f6b"


def test_letter_has_its_documented_layout() -> None:
    assert TrustLetter("approve", "me", "ok", 9).encode().hex() == "02026d6500026f6b0000000000000009"


@pytest.mark.parametrize("state", STATES)
def test_receipt_round_trips(state: str) -> None:
    assert parse_receipt(*opened(encode_receipt(state))) == state


MALFORMED = {
    "unknown action": (5, b"\x00\x00\x00"),
    "action 0": (0, b"\x00\x00\x00"),
    "cut": (1, b"\x00"),
    "more": (1, b"\x00\x00\x00\x00"),
    "long name": (1, b"\x40" + b"a" * 64 + b"\x00\x00"),
    "name that is not UTF-8": (1, b"\x01\xff\x00\x00"),
    "reason of too many bytes": (1, b"\x00\x04\x01" + b"a" * 1025),
    "reason of too many characters": (1, b"\x00\x01\x01" + b"a" * 257),
}


@pytest.mark.parametrize(("kind", "body"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_action_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(ParseError):
        TrustAction.parse(kind, bytes(8) + body)
    with pytest.raises(ParseError):
        TrustLetter.parse(bytes([kind]) + body + bytes(8))


def test_impossible_number_is_refused() -> None:
    with pytest.raises(ParseError):
        TrustAction.parse(1, b"\x80" + bytes(7) + bytes(3))
    with pytest.raises(ParseError):
        TrustLetter.parse(b"\1" + bytes(3) + b"\x80" + bytes(7))


@pytest.mark.parametrize(
    ("kind", "body"), [(0x80, b"\x00"), (0x81, b""), (0x81, b"\x00\x00"), (0x81, bytes([len(STATES)]))]
)
def test_malformed_receipt_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(ParseError):
        parse_receipt(kind, body)


@given(st.integers(0, 255), st.binary(max_size=100))
def test_parsers_raise_parse_error_and_nothing_else(kind: int, body: bytes) -> None:
    for read in (TrustAction.parse, parse_receipt, lambda kind, body: TrustLetter.parse(bytes([kind]) + body)):
        try:
            read(kind, body)
        except ParseError:
            continue
