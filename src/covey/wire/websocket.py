"""Trains as messages of a WebSocket: {segment 2, datagrams}.

One binary message holds one train: datagrams of `segment` bytes back to back, the last may be shorter. A datagram on
its own has its length as segment, so that there is one spelling.
"""

from __future__ import annotations

from typing import Final

from covey.base.errors import ParseError

__all__ = ["DATAGRAMS_LIMIT", "MESSAGE_LIMIT", "PATH", "SUBPROTOCOL", "encode_train", "parse_train"]

PATH: Final = "/covey"
"""What the opening handshake asks for."""
SUBPROTOCOL: Final = "covey.1"
"""`Sec-WebSocket-Protocol`; the number changes with the messages."""

_SEGMENT_SIZE: Final = 2
DATAGRAMS_LIMIT: Final = 64
"""Datagrams in one message (PROTOCOL 27)."""
TRAIN_BYTES: Final = 65_507
"""Bytes of all of them, as in one UDP train."""
MESSAGE_LIMIT: Final = _SEGMENT_SIZE + TRAIN_BYTES


def encode_train(train: memoryview | bytes, segment: int) -> bytes:
    """`train` in datagrams of `segment` bytes (1 to 65,507), of which the last may be shorter."""
    return min(segment, len(train)).to_bytes(_SEGMENT_SIZE, "big") + train


def parse_train(message: bytes | bytearray) -> tuple[memoryview, int]:
    """The datagrams, as a view of `message`, and the bytes of each. Raises ParseError."""
    size = len(message) - _SEGMENT_SIZE
    if not 0 < size <= TRAIN_BYTES:
        raise ParseError("a message without datagrams, or with too many bytes")
    segment = int.from_bytes(message[:_SEGMENT_SIZE], "big")
    if not 0 < segment <= size or (size - 1) // segment >= DATAGRAMS_LIMIT:
        raise ParseError("a message whose datagrams have an impossible size")
    return memoryview(message)[_SEGMENT_SIZE:], segment
