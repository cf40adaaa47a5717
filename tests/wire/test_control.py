from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire import control
from covey.wire.control import Candidate, ControlReader, encode_candidates, encode_control, parse_candidates

MESSAGES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8)
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
    st.ip_addresses(v=6).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
).map(str)
CANDIDATES = st.builds(Candidate, st.integers(0, 255), st.tuples(ADDRESSES, st.integers(1, 65_535)))


@given(MESSAGES, st.lists(st.integers(1, 50), min_size=1))
def test_control_messages_are_found_however_they_are_cut(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_control(kind, body) for kind, body in messages)
    reader, found, at = ControlReader(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == messages


def test_control_has_its_documented_layout() -> None:
    assert encode_control(control.OFFER, b"ab").hex() == "0100026162"
    assert encode_control(control.WANT_REKEY).hex() == "030000"


@pytest.mark.parametrize(("length", "fits"), [(8192, True), (8193, False), (65_535, False)])
def test_control_messages_are_bounded(length: int, fits: bool) -> None:
    head = bytes([control.LOG]) + length.to_bytes(2, "big")
    if fits:
        assert ControlReader().feed(head) == []
    else:
        with pytest.raises(ParseError):
            ControlReader().feed(head)


def test_a_piece_of_log_fits_a_message() -> None:
    body = bytes(1 + control.LOG_PIECE)
    assert ControlReader().feed(encode_control(control.LOG, body)) == [(control.LOG, body)]


@given(st.lists(CANDIDATES, max_size=control.CANDIDATES_LIMIT))
def test_candidates_round_trip(candidates: list[Candidate]) -> None:
    assert parse_candidates(encode_candidates(candidates)) == candidates


def test_candidates_have_their_documented_layout() -> None:
    candidates = [Candidate(1, ("192.0.2.1", 4000)), Candidate(2, ("2001:db8::1", 1))]
    expected = "020104c00002010fa0020620010db80000000000000000000000010001"
    assert encode_candidates(candidates).hex() == expected


MALFORMED = {
    "nothing": "",
    "too many": "21" + "0104c00002010fa0" * 33,
    "fewer than said": "02 0104c00002010fa0",
    "more than said": "01 0104c00002010fa0 00",
    "unknown family": "01 0105c00002010fa0",
    "port zero": "01 0104c00002010000",
    "unspecified": "01 0104000000000fa0",
    "multicast": "01 0104e00000010fa0",
    "unspecified, IPv6": "01 0106" + "00" * 16 + "0fa0",
    "multicast, IPv6": "01 0106ff02" + "00" * 14 + "0fa0",
    "cut": "01 0104c00002010f",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_candidates_are_refused(body: str) -> None:
    with pytest.raises(ParseError):
        parse_candidates(bytes.fromhex(body))


@given(st.binary(max_size=200))
def test_candidates_raise_parse_error_and_nothing_else(body: bytes) -> None:
    try:
        found = parse_candidates(body)
    except ParseError:
        return
    assert parse_candidates(encode_candidates(found)) == found


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_control_reader_raises_parse_error_and_nothing_else(pieces: list[bytes]) -> None:
    reader = ControlReader()
    for piece in pieces:
        try:
            reader.feed(piece)
        except ParseError:
            return
