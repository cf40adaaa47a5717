"""The datagrams of Covey, told apart by their first byte.

========= ================= =======================================================================
first     name              layout
========= ================= =======================================================================
0x01      INITIATION        type 1, version 1, zero 2, sender index 4, psk tag 8, Noise message 1, mac1 16, mac2 16
0x02      RESPONSE          type 1, version 1, zero 2, sender index 4, receiver index 4, Noise message 2
0x03      COOKIE_REPLY      type 1, version 1, zero 2, reference 8, nonce 12, sealed cookie 32; 56 bytes
0x04      PACKET            type 1, path 1, epoch 2, receiver index 4, counter 8, sealed frames, tag 16
0x05      RELAYED           type 1, flags 1, zero 2, circuit 4, one of the other datagrams
0x06      RECORD_REQUEST    type 1, version 1, zero 2, nonce 8, identity 32, zeros, mac1 16, mac2 16; 1200 bytes
0x07      RECORD_RESPONSE   type 1, version 1, zero 2, nonce 8, record block16, log block16
0x0c      MIRROR_REQUEST    type 1, version 1, zero 2, nonce 8, elsewhere 1, zero 1, port 2, mac1 16; 32 bytes
0x0d      MIRROR_RESPONSE   type 1, version 1, zero 2, nonce 8, second port 2, masked port 2, masked IP 16; 32 bytes
========= ================= =======================================================================

Integers are big-endian. 0x08 to 0x0b are in `wire.introduction`.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import PROTOCOL_VERSION, RECORD_LIMIT
from covey.base.errors import ParseError
from covey.base.types import Endpoint

__all__ = [
    "COOKIE_REPLY",
    "COOKIE_REPLY_SIZE",
    "HEADER",
    "HEADER_SIZE",
    "INITIATION",
    "INITIATION_SIZE",
    "MAC_SIZE",
    "MIRROR_REQUEST",
    "MIRROR_RESPONSE",
    "MIRROR_SIZE",
    "PACKET",
    "PACKET_OVERHEAD",
    "RECORD_REQUEST",
    "RECORD_REQUEST_SIZE",
    "RECORD_RESPONSE",
    "RELAYED",
    "RELAY_HEADER",
    "RELAY_HEADER_SIZE",
    "RESPONSE",
    "TAG_SIZE",
    "CookieReply",
    "Initiation",
    "MirrorRequest",
    "MirrorResponse",
    "RecordRequest",
    "RecordResponse",
    "Response",
    "flow_of",
]

INITIATION: Final = 0x01
RESPONSE: Final = 0x02
COOKIE_REPLY: Final = 0x03
PACKET: Final = 0x04
RELAYED: Final = 0x05
RECORD_REQUEST: Final = 0x06
RECORD_RESPONSE: Final = 0x07
MIRROR_REQUEST: Final = 0x0C
MIRROR_RESPONSE: Final = 0x0D

HEADER: Final = struct.Struct(">BBHIQ")
"""PACKET header: type, path, epoch (low 16 bits), receiver index, counter. It is the AEAD's associated data."""
HEADER_SIZE: Final = HEADER.size
TAG_SIZE: Final = 16
PACKET_OVERHEAD: Final = HEADER_SIZE + TAG_SIZE

RELAY_HEADER: Final = struct.Struct(">BBHI")
"""RELAYED header: type, flags (zero), zero, circuit."""
RELAY_HEADER_SIZE: Final = RELAY_HEADER.size

MAC_SIZE: Final = 16
INITIATION_SIZE: Final = 1144
"""Every initiation has this size: Noise message 1 carries a payload padded to 1000 bytes. Not shorter than any
response, so that a forged source address gains nothing (DESIGN 4)."""
COOKIE_REPLY_SIZE: Final = 56
RECORD_REQUEST_SIZE: Final = 1200
MIRROR_SIZE: Final = 32
"""Of a request and of its answer: a forged source address gains nothing."""

_INITIATION: Final = struct.Struct(f">4sI8s{INITIATION_SIZE - 16 - 2 * MAC_SIZE}s{MAC_SIZE}s{MAC_SIZE}s")
_NO_MAC2: Final = bytes(MAC_SIZE)
_LOG_IN_RESPONSE_LIMIT: Final = 1024


def _opening(reader: Reader, kind: int) -> None:
    if reader.u8() != kind:
        raise ParseError("another kind of datagram")
    if reader.u8() != PROTOCOL_VERSION:
        raise ParseError("unknown protocol version")
    if reader.u16() != 0:
        raise ParseError("reserved bytes are not zero")


def flow_of(train: memoryview, at: int) -> bytes:
    """What the datagram at `at` belongs to: session and path. Datagrams of different flows may overtake each other.

    Unauthenticated and never an error: what is no packet is one flow. An epoch counts for itself; packets of two may
    be in any order.
    """
    if train[at] == RELAYED:
        return bytes(train[at + 4 : at + RELAY_HEADER_SIZE + 8])
    return bytes(train[at + 1 : at + 8]) if train[at] == PACKET else b""


@dataclass(frozen=True, slots=True)
class Initiation:
    """Handshake message 1 on the wire. `authenticated` is what mac1 covers: everything before it. mac2 covers both."""

    sender_index: int
    psk_tag: bytes
    noise: bytes
    mac1: bytes
    mac2: bytes
    authenticated: bytes

    @staticmethod
    def prefix(sender_index: int, psk_tag: bytes, noise: bytes) -> bytes:
        """The bytes that mac1 is computed over."""
        writer = Writer().u8(INITIATION).u8(PROTOCOL_VERSION).u16(0)
        return writer.u32(sender_index).raw(psk_tag).raw(noise).bytes()

    @staticmethod
    def finish(message: bytes, mac2: bytes = _NO_MAC2) -> bytes:
        """The datagram: `message` is the prefix and its mac1."""
        return message + mac2

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Initiation:
        if len(data) != INITIATION_SIZE:
            raise ParseError("an initiation of a wrong size")
        opening, sender_index, psk_tag, noise, mac1, mac2 = _INITIATION.unpack(data)
        _opening(Reader(opening), INITIATION)
        return cls(sender_index, psk_tag, noise, mac1, mac2, bytes(data[: -2 * MAC_SIZE]))


@dataclass(frozen=True, slots=True)
class Response:
    """Handshake message 2 on the wire."""

    sender_index: int
    receiver_index: int
    noise: bytes

    def encode(self) -> bytes:
        writer = Writer().u8(RESPONSE).u8(PROTOCOL_VERSION).u16(0)
        return writer.u32(self.sender_index).u32(self.receiver_index).raw(self.noise).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Response:
        if len(data) > INITIATION_SIZE:
            raise ParseError("a response longer than an initiation")
        reader = Reader(data)
        _opening(reader, RESPONSE)
        return cls(reader.u32(), reader.u32(), reader.rest())


@dataclass(frozen=True, slots=True)
class CookieReply:
    """Answers an INITIATION or a RECORD_REQUEST of a sender that must prove where it is (PROTOCOL 15)."""

    reference: bytes
    """Bytes 4 to 11 of what it answers: the sender index and half the psk tag, or the nonce."""
    nonce: bytes
    sealed: bytes

    def encode(self) -> bytes:
        writer = Writer().u8(COOKIE_REPLY).u8(PROTOCOL_VERSION).u16(0)
        return writer.raw(self.reference).raw(self.nonce).raw(self.sealed).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> CookieReply:
        if len(data) != COOKIE_REPLY_SIZE:
            raise ParseError("a cookie of a wrong size")
        reader = Reader(data)
        _opening(reader, COOKIE_REPLY)
        return cls(reader.take(8), reader.take(12), reader.rest())


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """Asks an agent, known by identity only, for its current record (PROTOCOL 5)."""

    nonce: bytes
    identity: bytes
    mac1: bytes
    mac2: bytes
    authenticated: bytes

    @staticmethod
    def prefix(nonce: bytes, identity: bytes) -> bytes:
        writer = Writer().u8(RECORD_REQUEST).u8(PROTOCOL_VERSION).u16(0).raw(nonce).raw(identity)
        body = writer.bytes()
        return body + bytes(RECORD_REQUEST_SIZE - 2 * MAC_SIZE - len(body))

    @staticmethod
    def finish(message: bytes, mac2: bytes = _NO_MAC2) -> bytes:
        """The datagram: `message` is the prefix and its mac1."""
        return message + mac2

    @classmethod
    def parse(cls, data: bytes | memoryview) -> RecordRequest:
        if len(data) != RECORD_REQUEST_SIZE:
            raise ParseError("a record request of a wrong size")
        reader = Reader(data)
        _opening(reader, RECORD_REQUEST)
        nonce, identity = reader.take(8), reader.take(32)
        if any(reader.view(reader.remaining - 2 * MAC_SIZE)):
            raise ParseError("padding is not zero")
        mac1, mac2 = reader.take(MAC_SIZE), reader.take(MAC_SIZE)
        return cls(nonce, identity, mac1, mac2, bytes(data[: -2 * MAC_SIZE]))


@dataclass(frozen=True, slots=True)
class RecordResponse:
    """The answer: a signed record, and the key-event log (empty if both do not fit the size of a request)."""

    nonce: bytes
    record: bytes
    log: bytes

    def encode(self) -> bytes:
        writer = Writer().u8(RECORD_RESPONSE).u8(PROTOCOL_VERSION).u16(0).raw(self.nonce)
        head = writer.block16(self.record).bytes()
        fits = len(head) + 2 + len(self.log) <= RECORD_REQUEST_SIZE
        return head + Writer().block16(self.log if fits else b"").bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> RecordResponse:
        reader = Reader(data)
        _opening(reader, RECORD_RESPONSE)
        response = cls(reader.take(8), reader.block16(RECORD_LIMIT), reader.block16(_LOG_IN_RESPONSE_LIMIT))
        reader.done()
        return response


@dataclass(frozen=True, slots=True)
class MirrorRequest:
    """Asks a rendezvous where this datagram comes from."""

    nonce: bytes
    elsewhere: bool
    """The answer shall come from the other one of its two ports."""
    port: int
    """The answer shall go to this port of the sender's address; 0: to the one it came from."""
    mac1: bytes
    authenticated: bytes

    @staticmethod
    def prefix(nonce: bytes, *, elsewhere: bool = False, port: int = 0) -> bytes:
        """The bytes that mac1 is computed over. With mac1 behind them they are the datagram."""
        writer = Writer().u8(MIRROR_REQUEST).u8(PROTOCOL_VERSION).u16(0).raw(nonce)
        return writer.u8(elsewhere).u8(0).u16(port).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> MirrorRequest:
        if len(data) != MIRROR_SIZE:
            raise ParseError("a mirror request of a wrong size")
        reader = Reader(data)
        _opening(reader, MIRROR_REQUEST)
        nonce, elsewhere = reader.take(8), reader.u8()
        if elsewhere > 1 or reader.u8() != 0:
            raise ParseError("reserved bytes are not zero")
        return cls(nonce, bool(elsewhere), reader.u16(), reader.take(MAC_SIZE), bytes(data[:-MAC_SIZE]))


@dataclass(frozen=True, slots=True)
class MirrorResponse:
    """The answer: where the request came from.

    Address (IPv4 as ::ffff:a.b.c.d) and port travel masked with the nonce: there are boxes that translate whatever
    looks like an address of theirs.
    """

    nonce: bytes
    second_port: int
    """The other port at which the rendezvous answers; 0 for none."""
    seen: Endpoint

    def encode(self) -> bytes:
        address = ipaddress.ip_address(self.seen[0])
        packed = bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
        writer = Writer().u8(MIRROR_RESPONSE).u8(PROTOCOL_VERSION).u16(0).raw(self.nonce).u16(self.second_port)
        return writer.raw(_masked(self.seen[1].to_bytes(2, "big") + packed, self.nonce)).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> MirrorResponse:
        if len(data) != MIRROR_SIZE:
            raise ParseError("a mirror response of a wrong size")
        reader = Reader(data)
        _opening(reader, MIRROR_RESPONSE)
        nonce, second_port = reader.take(8), reader.u16()
        plain = _masked(reader.rest(), nonce)
        address, port = ipaddress.IPv6Address(plain[2:]), int.from_bytes(plain[:2], "big")
        if port == 0 or address.is_unspecified or address.is_multicast:
            raise ParseError("an endpoint nobody can be seen at")
        mapped = address.ipv4_mapped
        if mapped is not None and (mapped.is_unspecified or mapped.is_multicast):
            raise ParseError("an endpoint nobody can be seen at")
        return cls(nonce, second_port, (str(address if mapped is None else mapped), port))


def _masked(data: bytes, nonce: bytes) -> bytes:
    """`data` with the nonce, again and again, on top; twice is nothing."""
    return bytes(byte ^ nonce[at % len(nonce)] for at, byte in enumerate(data))
