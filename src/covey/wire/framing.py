"""Messages on a stream: {length 4, kind 1, body}. What the services `trust`, `message` and `rendezvous` speak."""

from __future__ import annotations

from covey.base.errors import ParseError

__all__ = ["FrameReader", "encode_frame"]


def encode_frame(kind: int, body: bytes = b"") -> bytes:
    """`length` counts the kind and the body."""
    return (len(body) + 1).to_bytes(4, "big") + bytes([kind]) + body


class FrameReader:
    """Cuts the bytes of a stream into frames of at most `limit` bytes of body. Raises `ParseError`, then is useless."""

    __slots__ = ("_limit", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The complete frames, as (kind, body)."""
        pending = self._pending
        pending += data
        frames = []
        start = 0
        while len(pending) - start >= 5:
            length = int.from_bytes(pending[start : start + 4], "big")
            if not 0 < length <= self._limit + 1:
                raise ParseError("a frame of an impossible length")
            end = start + 4 + length
            if len(pending) < end:
                break
            frames.append((pending[start + 4], bytes(memoryview(pending)[start + 5 : end])))
            start = end
        if start:
            del pending[:start]
        return frames

    @property
    def empty(self) -> bool:
        """No part of a frame waits for its rest."""
        return not self._pending
