"""What the Noise messages carry: who the sender is and by which certificates (PROTOCOL 10)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import HANDSHAKE_PAYLOAD_LIMIT
from covey.base.errors import ParseError
from covey.base.types import IDENTITY_SIZE, Identity

__all__ = ["HandshakePayload"]


_HEAD: Final = struct.Struct(f">Q8s{IDENTITY_SIZE}sI32s")
"""Timestamp, half, identity, sequence and head of the log."""


@dataclass(frozen=True, slots=True)
class HandshakePayload:
    """Payload of messages 1 and 2.

    ``timestamp`` is wall time in microseconds in message 1 and zero in message 2. ``half`` is the sender's 64-bit half
    of the connection id: two handshakes between the same halves belong to the same connection, however they cross,
    and a half that changed says that the other side lost its state. ``enclave`` is at most one certificate chain.
    """

    timestamp: int
    half: bytes
    identity: Identity
    log_sequence: int
    log_head: bytes
    delegation: bytes
    certificate: bytes
    enclave: bytes = b""

    def encode(self, padded_size: int = 0) -> bytes:
        """The payload, zero-padded to `padded_size` bytes. ValueError above 1000 bytes: our own fault."""
        writer = Writer().raw(_HEAD.pack(self.timestamp, self.half, self.identity, self.log_sequence, self.log_head))
        writer.block16(self.delegation).block16(self.certificate).block16(self.enclave)
        body = writer.bytes()
        if len(body) > HANDSHAKE_PAYLOAD_LIMIT:
            raise ValueError(f"handshake payload of {len(body)} bytes")
        return body.ljust(padded_size, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> HandshakePayload:
        if len(data) > HANDSHAKE_PAYLOAD_LIMIT:
            raise ParseError("handshake payload too long")
        reader = Reader(data)
        timestamp, half, identity, sequence, head = _HEAD.unpack(reader.take(_HEAD.size))
        blocks = reader.block16(), reader.block16(), reader.block16()
        payload = cls(timestamp, half, Identity(identity), sequence, head, *blocks)
        if any(reader.rest()):
            raise ParseError("padding is not zero")
        return payload
