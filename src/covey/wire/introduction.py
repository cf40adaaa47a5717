"""The four datagrams by which two agents meet that know of each other by a one-time code only (PROTOCOL 14).

========= ============= ==================================================================================
first     name          layout
========= ============= ==================================================================================
0x08      GREETING      type 1, version 1, zero 2, sender index 4, Noise message 1, mac1 16
0x09      REPLY         type 1, version 1, zero 2, sender index 4, receiver index 4, Noise message 2
0x0a      PROOF         type 1, version 1, zero 2, receiver index 4, Noise message 3
0x0b      CONFIRMATION  type 1, version 1, zero 2, receiver index 4, tag 16
========= ============= ==================================================================================

Each kind has one size, none is longer than the one it answers, and all fit the first packet of a relayed path: sizes
tell nothing about who meets. Messages 2 and 3 carry the sender's record, message 1 only zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import PROTOCOL_VERSION, RECORD_LIMIT
from covey.base.errors import ParseError
from covey.wire.datagram import INITIATION_SIZE, MAC_SIZE, TAG_SIZE

__all__ = [
    "CONFIRMATION",
    "CONFIRMATION_HEADER_SIZE",
    "CONFIRMATION_SIZE",
    "GREETING",
    "GREETING_PAYLOAD",
    "GREETING_SIZE",
    "INTRODUCTION_KINDS",
    "PROOF",
    "PROOF_SIZE",
    "REPLY",
    "REPLY_SIZE",
    "Confirmation",
    "Greeting",
    "Proof",
    "Reply",
    "decode_record",
    "encode_record",
]

GREETING: Final = 0x08
REPLY: Final = 0x09
PROOF: Final = 0x0A
CONFIRMATION: Final = 0x0B
INTRODUCTION_KINDS: Final = frozenset((GREETING, REPLY, PROOF, CONFIRMATION))

_KEY_SIZE: Final = 32
_PAYLOAD_SIZE: Final = 2 + RECORD_LIMIT
GREETING_SIZE: Final = INITIATION_SIZE
REPLY_SIZE: Final = 12 + _KEY_SIZE + _KEY_SIZE + TAG_SIZE + _PAYLOAD_SIZE + TAG_SIZE
PROOF_SIZE: Final = 8 + _KEY_SIZE + TAG_SIZE + _PAYLOAD_SIZE + TAG_SIZE
CONFIRMATION_HEADER_SIZE: Final = 8
CONFIRMATION_SIZE: Final = CONFIRMATION_HEADER_SIZE + TAG_SIZE

GREETING_PAYLOAD: Final = bytes(GREETING_SIZE - 8 - _KEY_SIZE - TAG_SIZE - MAC_SIZE)
"""What message 1 carries: nothing, at length."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Message 1. `authenticated` is what mac1 covers: everything before it."""

    sender_index: int
    noise: bytes
    mac1: bytes
    authenticated: bytes

    @staticmethod
    def prefix(sender_index: int, noise: bytes) -> bytes:
        """The bytes that mac1 is computed over; mac1 follows them."""
        return _head(GREETING).u32(sender_index).raw(noise).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Greeting:
        reader = _reader(data, GREETING, GREETING_SIZE)
        sender_index, noise = reader.u32(), reader.take(reader.remaining - MAC_SIZE)
        return cls(sender_index, noise, reader.take(MAC_SIZE), bytes(data[:-MAC_SIZE]))


@dataclass(frozen=True, slots=True)
class Reply:
    """Message 2: the record of whoever opened the window."""

    sender_index: int
    receiver_index: int
    noise: bytes

    def encode(self) -> bytes:
        return _head(REPLY).u32(self.sender_index).u32(self.receiver_index).raw(self.noise).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Reply:
        reader = _reader(data, REPLY, REPLY_SIZE)
        return cls(reader.u32(), reader.u32(), reader.rest())


@dataclass(frozen=True, slots=True)
class Proof:
    """Message 3: the record of whoever entered the code."""

    receiver_index: int
    noise: bytes

    def encode(self) -> bytes:
        return _head(PROOF).u32(self.receiver_index).raw(self.noise).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Proof:
        reader = _reader(data, PROOF, PROOF_SIZE)
        return cls(reader.u32(), reader.rest())


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Message 3 was understood: an empty transport message; `header` is its associated data."""

    receiver_index: int
    header: bytes
    tag: bytes

    @staticmethod
    def head(receiver_index: int) -> bytes:
        """The 8 bytes that the tag covers; the tag follows them."""
        return _head(CONFIRMATION).u32(receiver_index).bytes()

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Confirmation:
        reader = _reader(data, CONFIRMATION, CONFIRMATION_SIZE)
        return cls(reader.u32(), bytes(data[:CONFIRMATION_HEADER_SIZE]), reader.rest())


def encode_record(record: bytes) -> bytes:
    """The payload of messages 2 and 3: a signed record, filled up to one size."""
    if len(record) > RECORD_LIMIT:
        raise ValueError(f"a record of {len(record)} bytes")
    return Writer().block16(record).bytes().ljust(_PAYLOAD_SIZE, b"\0")


def decode_record(payload: bytes) -> bytes:
    """The record in such a payload, unverified."""
    reader = Reader(payload)
    record = reader.block16(RECORD_LIMIT)
    if len(payload) != _PAYLOAD_SIZE or any(reader.rest()):
        raise ParseError("not the payload of an introduction")
    return record


def _head(kind: int) -> Writer:
    return Writer().u8(kind).u8(PROTOCOL_VERSION).u16(0)


def _reader(data: bytes | memoryview, kind: int, size: int) -> Reader:
    if len(data) != size:
        raise ParseError("a datagram of an introduction with a wrong size")
    reader = Reader(data)
    if reader.take(4) != bytes((kind, PROTOCOL_VERSION, 0, 0)):
        raise ParseError("another kind or version of datagram")
    return reader
