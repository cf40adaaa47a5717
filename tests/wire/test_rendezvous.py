from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.constants import LOG_LIMIT, MAILBOX_KEY_LIMIT, RECORD_LIMIT, SEALED_LIMIT
from covey.base.errors import ParseError
from covey.base.types import Identity, endpoint_text
from covey.wire import rendezvous
from covey.wire.framing import FrameReader
from covey.wire.rendezvous import (
    DEPOSIT_ID_SIZE,
    LETTERS_LIMIT,
    AskBox,
    Box,
    Clear,
    Collect,
    Deposit,
    Done,
    Failed,
    Found,
    Introduce,
    Introduced,
    Letters,
    Lookup,
    Mail,
    Message,
    Observed,
    OpenBox,
    Present,
    Publish,
    Published,
    Restarting,
    Signed,
    Stored,
    Vouch,
    Vouched,
    Watch,
    encode,
    parse,
)

NUMBERS = st.integers(0, 2**32 - 1)
IDENTITIES = st.binary(min_size=32, max_size=32).map(Identity)
SIGNED = st.builds(Signed, st.binary(max_size=RECORD_LIMIT), st.binary(max_size=2000))
TEXTS = st.text(max_size=40)
HOSTS = st.ip_addresses().filter(lambda ip: not (ip.is_unspecified or ip.is_multicast)).map(str)
ENDPOINTS = st.tuples(HOSTS, st.integers(1, 65_535)).map(endpoint_text)
KEYS = st.binary(max_size=MAILBOX_KEY_LIMIT)
SEALED = st.binary(max_size=300)
LETTER_NUMBERS = st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=5).map(sorted)
MESSAGES = st.one_of(
    st.builds(Publish, NUMBERS, SIGNED),
    st.builds(Lookup, NUMBERS, st.just(rendezvous.BY_IDENTITY), IDENTITIES),
    st.builds(Lookup, NUMBERS, st.just(rendezvous.BY_ADDRESS), st.binary(min_size=6, max_size=6)),
    st.builds(Lookup, NUMBERS, st.just(rendezvous.BY_NAME), st.binary(min_size=1, max_size=63)),
    st.builds(Introduce, NUMBERS, IDENTITIES),
    st.builds(Watch, NUMBERS, IDENTITIES),
    st.builds(Vouch, NUMBERS, IDENTITIES, HOSTS),
    st.builds(Vouched, NUMBERS, st.booleans()),
    st.builds(Published, NUMBERS, st.integers(0, 2)),
    st.builds(Found, NUMBERS, st.lists(SIGNED, max_size=4).map(tuple)),
    st.builds(Introduced, NUMBERS, NUMBERS),
    st.builds(Done, NUMBERS),
    st.builds(Failed, NUMBERS, st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True), TEXTS),
    st.builds(Observed, NUMBERS, ENDPOINTS),
    st.builds(Present, NUMBERS, IDENTITIES),
    st.builds(Restarting, NUMBERS, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(OpenBox, NUMBERS, KEYS),
    st.builds(AskBox, NUMBERS, IDENTITIES),
    st.builds(Deposit, NUMBERS, st.binary(min_size=16, max_size=16), IDENTITIES, SEALED),
    st.builds(Collect, NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(Clear, NUMBERS, LETTER_NUMBERS.map(tuple)),
    st.builds(Box, NUMBERS, KEYS),
    st.builds(Stored, NUMBERS),
    st.builds(Letters, NUMBERS, st.booleans(), LETTER_NUMBERS.map(lambda numbers: tuple((n, b"x") for n in numbers))),
    st.builds(Mail, NUMBERS),
)


def opened(frame: bytes) -> tuple[int, bytes]:
    ((kind, body),) = FrameReader(rendezvous.FRAME_LIMIT).feed(frame)
    return kind, body


@given(MESSAGES)
def test_messages_round_trip(message: Message) -> None:
    assert parse(*opened(encode(message))) == message


def test_every_kind_is_documented_and_parsed() -> None:
    documented = {
        int(line.split()[0], 16): line.split()[1]
        for line in (rendezvous.__doc__ or "").splitlines()
        if line.startswith("0x")
    }
    known = {kind: each.__name__.upper() for kind, each in rendezvous._KINDS.items()}
    assert known == documented


def test_largest_answer_fits_a_frame() -> None:
    claims = (Signed(bytes(RECORD_LIMIT), bytes(LOG_LIMIT)),) * 7
    assert parse(*opened(encode(Found(1, claims)))) == Found(1, claims)


def test_largest_letters_fit_their_frames() -> None:
    deposit = Deposit(1, bytes(DEPOSIT_ID_SIZE), Identity(bytes(32)), bytes(SEALED_LIMIT))
    assert parse(*opened(encode(deposit))) == deposit
    clear = Clear(1, tuple(range(LETTERS_LIMIT)))
    assert parse(*opened(encode(clear))) == clear


MALFORMED = {
    "unknown kind": (0x77, bytes(4)),
    "no number": (0x14, b"\0\0\0"),
    "too much": (0x14, bytes(5)),
    "failure without a code": (0x1F, bytes(4) + b"\0" + bytes(2)),
    "failure whose code moves the cursor": (0x1F, bytes(4) + b"\x06\x1b[2Jno" + bytes(2)),
    "record too long": (0x01, bytes(4) + b"\x03\xe9" + bytes(1001) + bytes(4)),
    "log too long": (0x01, bytes(4) + bytes(2) + b"\x00\x01\x00\x01" + bytes(65_537)),
    "look-up by nothing": (0x02, bytes(4) + b"\x00\x00"),
    "look-up by something else": (0x02, bytes(4) + b"\x04\x01a"),
    "look-up by a short identity": (0x02, bytes(4) + b"\x01\x1f" + bytes(31)),
    "look-up by a long address": (0x02, bytes(4) + b"\x02\x07" + bytes(7)),
    "look-up by an empty name": (0x02, bytes(4) + b"\x03\x00"),
    "look-up by a long name": (0x02, bytes(4) + b"\x03\x40" + bytes(64)),
    "short identity": (0x03, bytes(4) + bytes(31)),
    "unknown name outcome": (0x11, bytes(4) + b"\x03"),
    "too many claims": (0x12, bytes(4) + b"\x11" + bytes(6 * 17)),
    "mailbox key too long": (0x08, bytes(4) + b"\x05\xdd" + bytes(1501)),
    "deposit without an id": (0x0A, bytes(4) + bytes(15)),
    "deposit too long": (0x0A, bytes(4) + bytes(48) + b"\x00\x01\x00\x01" + bytes(65_537)),
    "clearing too many": (0x0C, bytes(4) + b"\x81" + bytes(8 * 129)),
    "more or less": (0x1A, bytes(4) + b"\x02\x00"),
    "too many letters": (0x1A, bytes(4) + b"\x00\x81" + bytes(12 * 129)),
    "letters not ascending": (0x1A, bytes(4) + b"\x00\x02" + bytes(24)),
    "code that is not UTF-8": (0x1F, bytes(4) + b"\x01\xff\x00\x00"),
    "message too long": (0x1F, bytes(4) + b"\x00\x03\xe9" + b"x" * 1001),
}


@pytest.mark.parametrize(("kind", "body"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_message_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(ParseError):
        parse(kind, body)


@given(st.sampled_from([*rendezvous._KINDS, 0x55]), st.binary(max_size=300))
def test_messages_raise_parse_error_and_nothing_else(kind: int, body: bytes) -> None:
    try:
        message = parse(kind, body)
    except ParseError:
        return
    assert opened(encode(message)) == (kind, body)


@pytest.mark.parametrize(
    "endpoint",
    ["", "x", "rendezvous.example:9", "10.0.0.1:0", "0.0.0.0:9", "224.0.0.1:9", "[::]:1", "[ff02::1]:5", "10.0.0.1"],
)
def test_observed_endpoint_that_nobody_can_have_is_refused(endpoint: str) -> None:
    """Told on to a peer, it would end the session with that peer."""
    frame = rendezvous.encode(Observed(0, endpoint))
    ((kind, body),) = FrameReader(rendezvous.FRAME_LIMIT).feed(frame)
    with pytest.raises(ParseError):
        rendezvous.parse(kind, body)


@pytest.mark.parametrize("endpoint", ["203.0.113.7:4040", "[2001:db8::7]:1", "[fe80::1%2]:9", "127.0.0.1:65535"])
def test_observed_endpoint_is_an_address_and_a_port(endpoint: str) -> None:
    ((kind, body),) = FrameReader(rendezvous.FRAME_LIMIT).feed(rendezvous.encode(Observed(0, endpoint)))
    assert rendezvous.parse(kind, body) == Observed(0, endpoint)
