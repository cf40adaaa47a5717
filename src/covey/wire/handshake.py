"""What the Noise messages carry: who the sender is and by which certificates (PROTOCOL 10)."""

from __future__ import annotations

from dataclasses import dataclass

from covey.base.codec import Reader, Writer
from covey.base.constants import HANDSHAKE_PAYLOAD_LIMIT
from covey.base.errors import ParseError
from covey.base.types import IDENTITY_SIZE, Identity

__all__ = ["HandshakePayload"]


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
        writer = Writer().u64(self.timestamp).raw(self.half).raw(self.identity)
        writer.u32(self.log_sequence).raw(self.log_head)
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
        payload = cls(
            reader.u64(),
            reader.take(8),
            Identity(reader.take(IDENTITY_SIZE)),
            reader.u32(),
            reader.take(32),
            reader.block16(),
            reader.block16(),
            reader.block16(),
        )
        if any(reader.rest()):
            raise ParseError("padding is not zero")
        return payload
