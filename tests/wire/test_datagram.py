from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.wire import datagram
from covey.wire.datagram import (
    COOKIE_REPLY_SIZE,
    HEADER,
    INITIATION_SIZE,
    MAC_SIZE,
    RECORD_REQUEST_SIZE,
    RELAY_HEADER,
    CookieReply,
    Initiation,
    MirrorRequest,
    MirrorResponse,
    RecordRequest,
    RecordResponse,
    Response,
)

NOISE_1 = 1144 - 4 - 4 - 8 - 2 * MAC_SIZE
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
    st.ip_addresses(v=6).filter(lambda ip: not ip.is_multicast and ip.ipv4_mapped is None and not ip.is_unspecified),
).map(str)
U32 = st.integers(0, 2**32 - 1)


def initiation(index: int = 7, tag: bytes = bytes(8), noise: bytes = bytes(NOISE_1)) -> bytes:
    return Initiation.finish(Initiation.prefix(index, tag, noise) + b"m" * 16)


def request(nonce: bytes = b"n" * 8, identity: bytes = b"i" * 32) -> bytes:
    return RecordRequest.finish(RecordRequest.prefix(nonce, identity) + b"m" * 16)


PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "initiation": (Initiation.parse, initiation()),
    "response": (Response.parse, Response(1, 2, b"noise").encode()),
    "cookie reply": (CookieReply.parse, CookieReply(b"r" * 8, b"n" * 12, b"c" * 32).encode()),
    "record request": (RecordRequest.parse, request()),
    "mirror request": (MirrorRequest.parse, MirrorRequest.prefix(b"n" * 8, port=7) + b"m" * 16),
    "mirror response": (MirrorResponse.parse, MirrorResponse(b"n" * 8, 4041, ("192.0.2.1", 4040)).encode()),
    "record response": (RecordResponse.parse, RecordResponse(b"n" * 8, b"record", b"log").encode()),
}


def test_headers_have_their_documented_layout() -> None:
    assert HEADER.pack(4, 1, 0x0203, 0x04050607, 0x08090A0B0C0D0E0F).hex() == "040102030405060708090a0b0c0d0e0f"
    assert RELAY_HEADER.pack(5, 0, 0, 0x01020304).hex() == "0500000001020304"
    assert (datagram.HEADER_SIZE, datagram.PACKET_OVERHEAD, datagram.RELAY_HEADER_SIZE) == (16, 32, 8)


@given(U32, st.binary(min_size=8, max_size=8), st.binary(min_size=NOISE_1, max_size=NOISE_1))
def test_initiation_round_trips(index: int, tag: bytes, noise: bytes) -> None:
    raw = initiation(index, tag, noise)
    assert len(raw) == INITIATION_SIZE
    parsed = Initiation.parse(memoryview(raw))
    assert (parsed.sender_index, parsed.psk_tag, parsed.noise) == (index, tag, noise)
    assert (parsed.mac1, parsed.mac2) == (b"m" * 16, bytes(16))
    assert parsed.authenticated == raw[:-32]


@given(U32, U32, st.binary(max_size=800))
def test_response_round_trips(sender: int, receiver: int, noise: bytes) -> None:
    response = Response(sender, receiver, noise)
    assert Response.parse(memoryview(response.encode())) == response


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_record_request_round_trips(nonce: bytes, identity: bytes) -> None:
    raw = request(nonce, identity)
    assert len(raw) == RECORD_REQUEST_SIZE
    parsed = RecordRequest.parse(memoryview(raw))
    assert (parsed.nonce, parsed.identity, parsed.mac1) == (nonce, identity, b"m" * 16)
    assert parsed.mac2 == bytes(16)
    assert parsed.authenticated == raw[:-32]


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=1000), st.binary(max_size=170))
def test_record_response_round_trips(nonce: bytes, record: bytes, log: bytes) -> None:
    response = RecordResponse(nonce, record, log)
    raw = response.encode()
    parsed = RecordResponse.parse(memoryview(raw))
    assert (parsed.nonce, parsed.record, parsed.log) == (nonce, record, log)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=12, max_size=12), st.binary(min_size=32, max_size=32))
def test_cookie_reply_round_trips(reference: bytes, nonce: bytes, sealed: bytes) -> None:
    reply = CookieReply(reference, nonce, sealed)
    assert CookieReply.parse(memoryview(reply.encode())) == reply
    assert len(reply.encode()) == COOKIE_REPLY_SIZE


def test_every_answer_is_shorter_than_what_it_answers() -> None:
    assert COOKIE_REPLY_SIZE < INITIATION_SIZE < RECORD_REQUEST_SIZE


def test_record_response_is_never_longer_than_its_request() -> None:
    raw = RecordResponse(b"n" * 8, bytes(1000), bytes(800)).encode()
    assert len(raw) <= RECORD_REQUEST_SIZE
    assert RecordResponse.parse(raw).log == b""


@pytest.mark.parametrize(("parse", "raw"), PARSERS.values(), ids=PARSERS.keys())
@pytest.mark.parametrize(
    ("at", "value"), [(0, 0x7F), (1, 2), (1, 0), (2, 1), (3, 1)], ids=["kind", "version 2", "version 0", "zero", "zero"]
)
def test_opening_bytes_are_fixed(parse: Callable[[bytes], object], raw: bytes, at: int, value: int) -> None:
    parse(raw)
    with pytest.raises(ParseError):
        parse(raw[:at] + bytes([value]) + raw[at + 1 :])


@pytest.mark.parametrize(("parse", "raw"), PARSERS.values(), ids=PARSERS.keys())
def test_cut_datagrams_are_refused(parse: Callable[[bytes], object], raw: bytes) -> None:
    # The rest of a response is Noise's to judge: it may be any length.
    least = 12 if parse == Response.parse else len(raw)
    for size in range(least):
        with pytest.raises(ParseError):
            parse(raw[:size])


@pytest.mark.parametrize("name", ["initiation", "cookie reply", "record request", "record response"])
def test_longer_datagrams_are_refused(name: str) -> None:
    parse, raw = PARSERS[name]
    with pytest.raises(ParseError):
        parse(raw + b"\0")


def test_response_longer_than_an_initiation_is_refused() -> None:
    Response.parse(Response(1, 2, bytes(INITIATION_SIZE - 12)).encode())
    with pytest.raises(ParseError):
        Response.parse(Response(1, 2, bytes(INITIATION_SIZE - 11)).encode())


def test_record_request_with_something_in_its_padding_is_refused() -> None:
    raw = bytearray(request())
    raw[100] = 1
    with pytest.raises(ParseError):
        RecordRequest.parse(bytes(raw))


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=1300))
def test_parsers_raise_parse_error_and_nothing_else(name: str, raw: bytes) -> None:
    parse, good = PARSERS[name]
    for candidate in (raw, good[:4] + raw, good[: len(good) - len(raw)] + raw):
        try:
            parse(candidate)
        except ParseError:
            continue


def test_mirror_datagrams_have_their_documented_layout() -> None:
    request = MirrorRequest.prefix(b"\1\2\3\4\5\6\7\10", elsewhere=True, port=0x1FC8) + b"m" * 16
    assert request.hex() == "0c010000010203040506070801001fc8" + "6d" * 16
    assert MirrorRequest.parse(request).elsewhere
    response = MirrorResponse(bytes(8), 0x0FC9, ("192.0.2.1", 0x0FC8)).encode()
    assert response.hex() == "0d01000000000000000000000fc90fc8" + "00" * 10 + "ffffc0000201"
    # Masked: two bytes of port and sixteen of address, with the nonce again and again on top.
    masked = MirrorResponse(b"\1\2\3\4\5\6\7\10", 0, ("2001:db8::1", 1)).encode()
    assert masked.hex() == "0d010000010203040506070800000103230508be070801020304050607080103"


@given(ADDRESSES, st.integers(1, 65_535), st.binary(min_size=8, max_size=8), st.integers(0, 65_535))
def test_mirror_responses_round_trip(host: str, port: int, nonce: bytes, second: int) -> None:
    response = MirrorResponse(nonce, second, (host, port))
    assert MirrorResponse.parse(response.encode()) == response


@pytest.mark.parametrize("seen", [("192.0.2.1", 0), ("0.0.0.0", 1), ("224.0.0.1", 1), ("::", 1), ("ff02::1", 1)])
def test_nobody_is_seen_at_an_endpoint_that_cannot_be(seen: tuple[str, int]) -> None:
    with pytest.raises(ParseError):
        MirrorResponse.parse(MirrorResponse(bytes(8), 0, seen).encode())
