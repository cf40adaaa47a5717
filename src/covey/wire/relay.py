"""What agents say to each other about relays, and what one asks of another that relays for it.

Three messages of the CRYPTO stream (`wire.control`), each said anew in every session:

====== ========= ================================================================================================
type   name      body
====== ========= ================================================================================================
0x07   RELAYING  flags 1 (bit 0: the sender relays for the receiver, no other), rate 8 (bytes per second that it
                 passes on for the receiver, 0: no limit), jurisdiction text8 (at most 32 bytes, "": not said)
0x08   RELAYS    count 1 (at most 16), then {tag 8, round trip 2 (ms; 65,535: longer, or not known)}: the relays
                 that the sender may use towards the receiver, ascending by tag
0x09   GONE      circuit 4: the relay that says so has closed it
====== ========= ================================================================================================

A *tag* names a relay to nobody but those who know its identity already: who is told which relays we use learns of no
agent by it. It is another one for every pair.

The service `relay` takes one request per stream, as frames of `wire.framing`:

====== ========= ================================================================================================
0x01   OPEN      identity 32: a circuit to that agent
0x11   OPENED    circuit 4; 0: that agent is not there, or not to be reached so
====== ========= ================================================================================================
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError
from covey.base.types import IDENTITY_SIZE, Identity, is_jurisdiction
from covey.wire.framing import encode_frame

__all__ = [
    "FRAME_LIMIT",
    "RELAYS_LIMIT",
    "SERVICE",
    "TAG_SIZE",
    "UNKNOWN_MS",
    "Relaying",
    "encode_gone",
    "encode_open",
    "encode_opened",
    "encode_relays",
    "parse_gone",
    "parse_open",
    "parse_opened",
    "parse_relays",
    "relay_tag",
]

SERVICE: Final = "relay"
FRAME_LIMIT: Final = 64
"""Bytes of the largest body of a frame of the service, and room to spare."""
RELAYS_LIMIT: Final = 16
TAG_SIZE: Final = 8
UNKNOWN_MS: Final = 0xFFFF

_RELAYS: Final = 1
"""The one flag of RELAYING."""
_OPEN: Final = 0x01
_OPENED: Final = 0x11


@dataclass(frozen=True, slots=True)
class Relaying:
    """Whether the sender relays for the receiver, and on which terms."""

    relays: bool
    rate: int = 0
    """Bytes per second; 0: no limit."""
    jurisdiction: str = ""
    """Where it is, in its own words; "" if it does not say."""

    def encode(self) -> bytes:
        return Writer().u8(_RELAYS if self.relays else 0).u64(self.rate).text8(self.jurisdiction).bytes()

    @classmethod
    def parse(cls, body: bytes) -> Relaying:
        """Raises `ParseError`."""
        reader = Reader(body)
        flags, rate, jurisdiction = reader.u8(), reader.u64(), reader.text8(32)
        reader.done()
        if flags & ~_RELAYS:
            raise ParseError("unknown flags of RELAYING")
        if jurisdiction and not is_jurisdiction(jurisdiction):
            raise ParseError("not a jurisdiction")
        return cls(flags == _RELAYS, rate, jurisdiction)


def relay_tag(sender: Identity, receiver: Identity, relay: Identity) -> bytes:
    """How `sender` names `relay` to `receiver`."""
    return hashlib.sha256(b"covey relay 1\0" + sender + receiver + relay).digest()[:TAG_SIZE]


def encode_relays(round_trips: dict[bytes, int]) -> bytes:
    """Round trips in milliseconds by tag."""
    writer = Writer().u8(len(round_trips))
    for tag in sorted(round_trips):
        writer.raw(tag).u16(min(round_trips[tag], UNKNOWN_MS))
    return writer.bytes()


def parse_relays(body: bytes) -> dict[bytes, int]:
    """Raises `ParseError`."""
    reader = Reader(body)
    count = reader.u8()
    if count > RELAYS_LIMIT:
        raise ParseError("too many relays")
    found = [(reader.take(TAG_SIZE), reader.u16()) for _ in range(count)]
    reader.done()
    if any(first[0] >= second[0] for first, second in pairwise(found)):
        raise ParseError("relays out of order")
    return dict(found)


def encode_gone(circuit: int) -> bytes:
    return circuit.to_bytes(4, "big")


def parse_gone(body: bytes) -> int:
    """Raises `ParseError`."""
    if len(body) != 4:
        raise ParseError("GONE of another length")
    return int.from_bytes(body, "big")


def encode_open(identity: Identity) -> bytes:
    return encode_frame(_OPEN, identity)


def parse_open(kind: int, body: bytes) -> Identity:
    """Raises `ParseError`."""
    if kind != _OPEN or len(body) != IDENTITY_SIZE:
        raise ParseError("not a request for a circuit")
    return Identity(body)


def encode_opened(circuit: int) -> bytes:
    return encode_frame(_OPENED, circuit.to_bytes(4, "big"))


def parse_opened(kind: int, body: bytes) -> int:
    """Raises `ParseError`."""
    if kind != _OPENED or len(body) != 4:
        raise ParseError("not the answer to a request for a circuit")
    return int.from_bytes(body, "big")
