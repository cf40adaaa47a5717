from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import RECORD_LIMIT
from covey.base.errors import ParseError
from covey.wire import introduction as wire
from covey.wire.introduction import Confirmation, Greeting, Proof, Reply

GREETING = Greeting.prefix(7, b"n" * 1120) + b"m" * 16
REPLY = Reply(8, 7, b"n" * 1098).encode()
PROOF = Proof(8, b"n" * 1066).encode()
CONFIRMATION = Confirmation.head(7) + b"t" * 16

PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "greeting": (Greeting.parse, GREETING),
    "reply": (Reply.parse, REPLY),
    "proof": (Proof.parse, PROOF),
    "confirmation": (Confirmation.parse, CONFIRMATION),
}


def test_datagrams_have_their_documented_layout() -> None:
    assert GREETING.hex() == "08010000" + "00000007" + "6e" * 1120 + "6d" * 16
    assert REPLY.hex() == "09010000" + "00000008" + "00000007" + "6e" * 1098
    assert PROOF.hex() == "0a010000" + "00000008" + "6e" * 1066
    assert CONFIRMATION.hex() == "0b010000" + "00000007" + "74" * 16


def test_datagrams_are_read_back() -> None:
    assert Greeting.parse(GREETING) == Greeting(7, b"n" * 1120, b"m" * 16, GREETING[:-16])
    assert Reply.parse(REPLY) == Reply(8, 7, b"n" * 1098)
    assert Proof.parse(PROOF) == Proof(8, b"n" * 1066)
    assert Confirmation.parse(CONFIRMATION) == Confirmation(7, CONFIRMATION[:8], b"t" * 16)


def test_no_datagram_is_longer_than_the_one_it_answers() -> None:
    assert [len(raw) for _, raw in PARSERS.values()] == [1144, 1110, 1074, 24]
    assert wire.GREETING_SIZE >= wire.REPLY_SIZE
    assert wire.PROOF_SIZE >= wire.CONFIRMATION_SIZE


@pytest.mark.parametrize("name", PARSERS)
def test_datagrams_of_another_size_kind_or_version_are_refused(name: str) -> None:
    parse, raw = PARSERS[name]
    for bad in (raw[:-1], raw + b"\0", b"\x01" + raw[1:], raw[:1] + b"\2" + raw[2:], raw[:3] + b"\1" + raw[4:], b""):
        with pytest.raises(ParseError):
            parse(bad)


@pytest.mark.parametrize("size", [0, 1, 500, RECORD_LIMIT])
def test_records_of_every_size_make_payloads_of_one(size: int) -> None:
    payload = wire.encode_record(b"r" * size)
    assert len(payload) == 1002
    assert wire.decode_record(payload) == b"r" * size


def test_record_over_the_limit_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="1001 bytes"):
        wire.encode_record(bytes(RECORD_LIMIT + 1))


@pytest.mark.parametrize(
    "payload",
    [b"", wire.encode_record(b"r")[:-1], wire.encode_record(b"r") + b"\0", wire.encode_record(b"r")[:-1] + b"x"],
)
def test_payload_of_another_size_or_with_something_behind_the_record_is_refused(payload: bytes) -> None:
    with pytest.raises(ParseError):
        wire.decode_record(payload)


@given(st.sampled_from(sorted(PARSERS)), st.data())
def test_parsers_raise_only_parse_errors(name: str, data: st.DataObject) -> None:
    parse, raw = PARSERS[name]
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    changed = changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed
    try:
        parse(bytes(changed))
    except ParseError:
        return
    assert len(changed) == len(raw)
