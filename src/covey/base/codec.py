"""The cursor codec: how every Covey structure becomes bytes and back.

Integers are big-endian and fixed-width; variable parts carry a length in front (one, two or four bytes). One value
has exactly one encoding, so whatever was signed can be stored and forwarded as the bytes it came in. A `Reader`
raises `ParseError` and nothing else, never reads past its end, and copies only what it hands out.
"""

from __future__ import annotations

import struct

from covey.base.errors import ParseError

__all__ = ["Reader", "Writer"]

Buffer = bytes | bytearray | memoryview

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class Reader:
    """A cursor over foreign bytes. Call the getters in the order of the format, then `done()`."""

    __slots__ = ("_end", "_pos", "_view")

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)
        self._pos = 0
        self._end = len(self._view)

    @property
    def position(self) -> int:
        """Bytes consumed so far."""
        return self._pos

    @property
    def remaining(self) -> int:
        """Bytes not yet consumed."""
        return self._end - self._pos

    def _advance(self, size: int) -> int:
        start = self._pos
        if size > self._end - start:
            raise ParseError(f"truncated: {size} bytes wanted, {self._end - start} left")
        self._pos = start + size
        return start

    def u8(self) -> int:
        return self._view[self._advance(1)]

    def u16(self) -> int:
        value: int = _U16.unpack_from(self._view, self._advance(2))[0]
        return value

    def u32(self) -> int:
        value: int = _U32.unpack_from(self._view, self._advance(4))[0]
        return value

    def u64(self) -> int:
        value: int = _U64.unpack_from(self._view, self._advance(8))[0]
        return value

    def take(self, size: int) -> bytes:
        """The next `size` bytes, copied."""
        start = self._advance(size)
        return bytes(self._view[start : start + size])

    def view(self, size: int) -> memoryview:
        """The next `size` bytes, not copied: valid only as long as the buffer below it."""
        start = self._advance(size)
        return self._view[start : start + size]

    def block8(self, limit: int = 255) -> bytes:
        """A block with a one-byte length, at most `limit` bytes long."""
        return self._block(self.u8(), limit)

    def block16(self, limit: int = 65_535) -> bytes:
        """A block with a two-byte length, at most `limit` bytes long."""
        return self._block(self.u16(), limit)

    def block32(self, limit: int) -> bytes:
        """A block with a four-byte length, at most `limit` bytes long."""
        return self._block(self.u32(), limit)

    def text8(self, limit: int = 255) -> str:
        """UTF-8 with a one-byte length."""
        return self._text(self.block8(limit))

    def text16(self, limit: int = 65_535) -> str:
        """UTF-8 with a two-byte length."""
        return self._text(self.block16(limit))

    def rest(self) -> bytes:
        """Everything that is left, copied."""
        return self.take(self.remaining)

    def done(self) -> None:
        """Raise unless every byte was consumed: trailing bytes would be a second encoding."""
        if self._pos != self._end:
            raise ParseError(f"{self._end - self._pos} bytes too many")

    def _block(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise ParseError(f"block of {size} bytes, at most {limit} allowed")
        return self.take(size)

    @staticmethod
    def _text(raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ParseError("text is not UTF-8") from error


class Writer:
    """Builds the bytes that `Reader` reads. Every method returns the writer, so that a format reads as one line.

    A value that does not fit its field is the caller's mistake: `ValueError`.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts = bytearray()

    def u8(self, value: int) -> Writer:
        self._parts.append(value)
        return self

    def u16(self, value: int) -> Writer:
        return self._fixed(value, 2)

    def u32(self, value: int) -> Writer:
        return self._fixed(value, 4)

    def u64(self, value: int) -> Writer:
        return self._fixed(value, 8)

    def raw(self, data: Buffer) -> Writer:
        """Bytes whose length the reader knows."""
        self._parts += data
        return self

    def block8(self, data: Buffer) -> Writer:
        return self._block(data, 1)

    def block16(self, data: Buffer) -> Writer:
        return self._block(data, 2)

    def block32(self, data: Buffer) -> Writer:
        return self._block(data, 4)

    def text8(self, text: str) -> Writer:
        return self._block(text.encode(), 1)

    def text16(self, text: str) -> Writer:
        return self._block(text.encode(), 2)

    def bytes(self) -> bytes:
        """What was written so far."""
        return bytes(self._parts)

    def _fixed(self, value: int, size: int) -> Writer:
        try:
            self._parts += value.to_bytes(size, "big")
        except OverflowError as error:
            raise ValueError(f"{value} does not fit {size} bytes") from error
        return self

    def _block(self, data: Buffer, size: int) -> Writer:
        self._fixed(len(data), size)
        self._parts += data
        return self
