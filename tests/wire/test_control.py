from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.declared import LABEL
from covey.base.errors import ParseError
from covey.wire import control
from covey.wire.control import (
    Candidate,
    CandidateKind,
    Candidates,
    ControlReader,
    Filtering,
    Mapping,
    NatTraits,
    Ports,
    encode_control,
    encode_seen,
    parse_seen,
)

MESSAGES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8)
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
    st.ip_addresses(v=6).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
).map(str)
LABELS = st.from_regex(LABEL, fullmatch=True) | st.just("")
CANDIDATE = st.builds(
    Candidate,
    st.sampled_from(CandidateKind),
    st.tuples(ADDRESSES, st.integers(1, 65_535)),
    st.integers(0, 255),
    LABELS,
)
STEPS = st.integers(-32_768, 32_767).filter(bool)
TRAITS = st.builds(
    lambda mapping, filtering, ports, step: NatTraits(
        mapping, filtering, ports, step if ports is Ports.SEQUENTIAL else 0
    ),
    *(st.sampled_from(each) for each in (Mapping, Filtering, Ports)),
    STEPS,
)
CANDIDATES = st.builds(
    Candidates, st.lists(CANDIDATE, max_size=control.CANDIDATES_LIMIT).map(tuple), TRAITS, st.booleans()
)


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


@given(CANDIDATES)
def test_candidates_round_trip(candidates: Candidates) -> None:
    assert Candidates.parse(candidates.encode()) == candidates


def test_candidates_have_their_documented_layout() -> None:
    items = (
        Candidate(CandidateKind.HOST, ("192.0.2.1", 4000)),
        Candidate(CandidateKind.INTERCONNECT, ("2001:db8::1", 1), 9, "az-1"),
    )
    traits = NatTraits(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_DEPENDENT, Ports.SEQUENTIAL, -2)
    head = "04 03 02 fffe 01 02"
    expected = f"{head} 01 00 00 04c00002010fa0 05 09 04 617a2d31 0620010db80000000000000000000000010001"
    assert Candidates(items, traits, consents=True).encode() == bytes.fromhex(expected)


def test_the_largest_candidates_fit_a_message() -> None:
    longest = Candidate(CandidateKind.INTERCONNECT, ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65_535), 255, "x" * 32)
    body = Candidates((longest,) * control.CANDIDATES_LIMIT).encode()
    assert ControlReader().feed(encode_control(control.CANDIDATES, body)) == [(control.CANDIDATES, body)]


PLAIN = "00 00 00 0000 00"
ONE = "01 00 00 04c00002010fa0"
MALFORMED = {
    "nothing": "",
    "no count": PLAIN,
    "too many": f"{PLAIN} 21" + ONE * 33,
    "fewer than said": f"{PLAIN} 02 {ONE}",
    "more than said": f"{PLAIN} 01 {ONE} 00",
    "cut": f"{PLAIN} 01 {ONE[:-2]}",
    "unknown mapping": "06 00 00 0000 00 00",
    "unknown filtering": "00 05 00 0000 00 00",
    "unknown ports": "00 00 04 0000 00 00",
    "a sequence without a step": "00 00 02 0000 00 00",
    "a step without a sequence": "00 00 03 0001 00 00",
    "unknown flag": "00 00 00 0000 02 00",
    "kind zero": f"{PLAIN} 01 00 00 00 04c00002010fa0",
    "unknown kind": f"{PLAIN} 01 06 00 00 04c00002010fa0",
    "label too long": f"{PLAIN} 01 01 00 21" + "61" * 33 + "04c00002010fa0",
    "label that is no text": f"{PLAIN} 01 01 00 01ff 04c00002010fa0",
    "label that moves a cursor": f"{PLAIN} 01 01 00 021b63 04c00002010fa0",
    "unknown family": f"{PLAIN} 01 01 00 00 05c00002010fa0",
    "port zero": f"{PLAIN} 01 01 00 00 04c00002010000",
    "unspecified": f"{PLAIN} 01 01 00 00 04000000000fa0",
    "multicast": f"{PLAIN} 01 01 00 00 04e00000010fa0",
    "unspecified, IPv6": f"{PLAIN} 01 01 00 00 06" + "00" * 16 + "0fa0",
    "multicast, IPv6": f"{PLAIN} 01 01 00 00 06ff02" + "00" * 14 + "0fa0",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_candidates_are_refused(body: str) -> None:
    with pytest.raises(ParseError):
        Candidates.parse(bytes.fromhex(body))


@given(st.binary(max_size=200))
def test_candidates_raise_parse_error_and_nothing_else(body: bytes) -> None:
    try:
        found = Candidates.parse(body)
    except ParseError:
        return
    assert found.encode() == body


@given(st.tuples(ADDRESSES, st.integers(1, 65_535)))
def test_seen_round_trips(endpoint: tuple[str, int]) -> None:
    assert parse_seen(encode_seen(endpoint)) == endpoint


@pytest.mark.parametrize(
    "body", ["", "04c0000201", "04c00002010000", "04000000000fa0", "05c00002010fa0", "04c00002010fa000"]
)
def test_malformed_seen_is_refused(body: str) -> None:
    with pytest.raises(ParseError):
        parse_seen(bytes.fromhex(body))


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_control_reader_raises_parse_error_and_nothing_else(pieces: list[bytes]) -> None:
    reader = ControlReader()
    for piece in pieces:
        try:
            reader.feed(piece)
        except ParseError:
            return
