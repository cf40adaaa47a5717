from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError, UsageError
from covey.base.types import Identity
from covey.wire.ticket import Ticket, TicketEntry

ENDPOINTS = st.builds(
    lambda host, port: f"{host}:{port}",
    st.sampled_from(["192.0.2.1", "[2001:db8::1]", "rendezvous.example", "a"]),
    st.integers(1, 65_535),
)
ENTRIES = st.builds(
    TicketEntry,
    st.binary(min_size=32, max_size=32).map(Identity),
    st.lists(ENDPOINTS, min_size=1, max_size=4).map(tuple),
    st.lists(ENDPOINTS, max_size=4).map(tuple),
)
EXAMPLE = Ticket((TicketEntry(Identity(bytes(32)), ("192.0.2.1:4040",)),))
BOTH = Ticket((TicketEntry(Identity(bytes(32)), ("192.0.2.1:4040",), ("rv:443",)),))


def sealed(body: bytes) -> str:
    raw = body + hashlib.sha256(body).digest()[:4]
    return "covey1" + base64.b32encode(raw).decode().rstrip("=").lower()


@given(st.lists(ENTRIES, min_size=1, max_size=16, unique_by=lambda entry: entry.identity).map(tuple))
def test_ticket_round_trips(entries: tuple[TicketEntry, ...]) -> None:
    ticket = Ticket(entries)
    assert Ticket.parse(f"  {ticket}\n") == ticket


def test_ticket_that_names_a_rendezvous_twice_is_refused() -> None:
    """It would count as two witnesses."""
    with pytest.raises(ParseError, match="twice"):
        Ticket.parse(str(Ticket(EXAMPLE.entries * 2)))


def test_tickets_are_joined_each_rendezvous_once_and_the_newer_endpoints_count() -> None:
    moved = TicketEntry(EXAMPLE.entries[0].identity, ("192.0.2.9:1",))
    second = TicketEntry(Identity(b"\x01" * 32), ("192.0.2.2:4040",))
    assert EXAMPLE.joined(Ticket((second, moved))) == Ticket((moved, second))
    many = Ticket(tuple(TicketEntry(Identity(bytes([number]) * 32), ("a:1",)) for number in range(1, 17)))
    with pytest.raises(UsageError) as full:
        EXAMPLE.joined(many)
    assert full.value.code == "too-many-rendezvous"


def test_ticket_has_its_documented_layout() -> None:
    assert str(EXAMPLE) == sealed(b"\x01\x01" + bytes(32) + b"\x01\x0e192.0.2.1:4040\x00")
    assert str(BOTH) == sealed(b"\x01\x01" + bytes(32) + b"\x01\x0e192.0.2.1:4040\x01\x06rv:443")


@given(st.data())
def test_ticket_with_a_wrong_missing_or_added_character_is_refused(data: st.DataObject) -> None:
    text = str(EXAMPLE)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz234567").filter(lambda character: character != text[at])
    )
    for changed in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]):
        with pytest.raises(ParseError) as info:
            Ticket.parse(changed)
        assert info.value.code == "bad-ticket"
        assert info.value.next_step


ENTRY = bytes(32) + b"\x01\x0e192.0.2.1:4040\x00"

MALFORMED = {
    "empty": "",
    "another prefix": "covey2" + str(EXAMPLE)[6:],
    "prefix alone": "covey1",
    "upper case": "covey1" + str(EXAMPLE)[6:].upper(),
    "not base32": "covey1!!!!",
    "not ASCII": "covey1é",
    "padded": str(EXAMPLE) + "=",
    "newer version": sealed(b"\x02\x01" + ENTRY),
    "no entry": sealed(b"\x01\x00"),
    "too many entries": sealed(b"\x01\x11" + ENTRY * 17),
    "no endpoint": sealed(b"\x01\x01" + bytes(32) + b"\x00"),
    "too many endpoints": sealed(b"\x01\x01" + bytes(32) + b"\x05" + b"\x0e192.0.2.1:4040" * 5 + b"\x00"),
    "too many WebSockets": sealed(b"\x01\x01" + ENTRY[:-1] + b"\x05" + b"\x06rv:443" * 5),
    "WebSocket at port 0": sealed(b"\x01\x01" + ENTRY[:-1] + b"\x01\x04rv:0"),
    "port 0": sealed(b"\x01\x01" + bytes(32) + b"\x01\x0b192.0.2.1:0\x00"),
    "no port": sealed(b"\x01\x01" + bytes(32) + b"\x01\x09192.0.2.1\x00"),
    "endpoint not UTF-8": sealed(b"\x01\x01" + bytes(32) + b"\x01\x02\xff\xfe\x00"),
    "trailing bytes": sealed(b"\x01\x01" + ENTRY + b"\x00"),
    "cut": sealed(b"\x01\x01" + ENTRY[:-1]),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_ticket_is_refused(text: str) -> None:
    with pytest.raises(ParseError) as info:
        Ticket.parse(text)
    assert info.value.code == "bad-ticket"


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80).map(sealed)))
def test_ticket_raises_parse_error_and_nothing_else(text: str) -> None:
    try:
        Ticket.parse(text)
    except ParseError:
        return
