"""The service `message`: an outbox on one side, an inbox on the other (PROTOCOL 22).

The sender opens one stream per connection and keeps it. Messages go in the order of their numbers; the receiver
answers once what it says is true on its disk. Frames as in `wire.framing`:

====== ========= =================================================================================================
kind   name      body
====== ========= =================================================================================================
0x01   OPENING   incarnation 8; the first frame of the stream
0x02   MESSAGE   number 8, lowest alive 8, id 16, type 1 (1 text, 2 json, 3 binary), expires 8 (us, 0 never), body
0x03   SKIP      lowest alive 8, count 2, numbers 8 each: these, and all below the lowest alive, are dead
0x11   SETTLED   number 8: every number up to this is settled (stored, or refused before)
0x12   REFUSED   number 8, reason text8: this number will not be stored, and never will
0x13   RESUME    watermark 8: the receiver's first frame; everything up to this is settled already
====== ========= =================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import ParseError
from covey.wire.framing import encode_frame

__all__ = [
    "FRAME_LIMIT",
    "MESSAGE",
    "OPENING",
    "REFUSED",
    "RESUME",
    "SERVICE",
    "SETTLED",
    "SKIP",
    "SKIPS_LIMIT",
    "TYPES",
    "MessageFrame",
    "encode_number",
    "encode_refused",
    "encode_skip",
    "parse_number",
    "parse_refused",
    "parse_skip",
]

SERVICE: Final = "message"
OPENING: Final = 0x01
MESSAGE: Final = 0x02
SKIP: Final = 0x03
SETTLED: Final = 0x11
REFUSED: Final = 0x12
RESUME: Final = 0x13

TYPES: Final = {"text": 1, "json": 2, "binary": 3}
_TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
_HEAD: Final = 8 + 8 + 16 + 1 + 8
SKIPS_LIMIT: Final = 4096
"""Numbers in one SKIP: the recipient's gap set holds no more (PROTOCOL 22)."""
FRAME_LIMIT: Final = _HEAD + MESSAGE_LIMIT


@dataclass(frozen=True, slots=True)
class MessageFrame:
    number: int
    lowest_alive: int
    id: bytes
    type: str
    expires_us: int
    body: bytes

    def encode(self) -> bytes:
        writer = Writer().u64(self.number).u64(self.lowest_alive).raw(self.id)
        return encode_frame(MESSAGE, writer.u8(TYPES[self.type]).u64(self.expires_us).raw(self.body).bytes())

    @classmethod
    def parse(cls, body: bytes) -> MessageFrame:
        """Raises `ParseError`."""
        reader = Reader(body)
        number, lowest, message_id, kind, expires = (
            reader.u64(),
            reader.u64(),
            reader.take(16),
            reader.u8(),
            reader.u64(),
        )
        if kind not in _TYPE_NAMES or number == 0 or lowest > number:
            raise ParseError("impossible message")
        return cls(number, lowest, message_id, _TYPE_NAMES[kind], expires, reader.rest())


def encode_number(kind: int, number: int) -> bytes:
    """OPENING, SETTLED and RESUME."""
    return encode_frame(kind, Writer().u64(number).bytes())


def encode_skip(lowest_alive: int, numbers: Sequence[int]) -> bytes:
    """At most `SKIPS_LIMIT` numbers."""
    writer = Writer().u64(lowest_alive).u16(len(numbers))
    for number in numbers:
        writer.u64(number)
    return encode_frame(SKIP, writer.bytes())


def parse_skip(body: bytes) -> tuple[int, list[int]]:
    """(lowest alive, dead numbers above it). Raises `ParseError`."""
    reader = Reader(body)
    lowest, count = reader.u64(), reader.u16()
    if count > SKIPS_LIMIT:
        raise ParseError("too many skips")
    numbers = [reader.u64() for _ in range(count)]
    reader.done()
    return lowest, numbers


def parse_number(body: bytes) -> int:
    """Raises `ParseError`."""
    reader = Reader(body)
    number = reader.u64()
    reader.done()
    return number


def encode_refused(number: int, reason: str) -> bytes:
    return encode_frame(REFUSED, Writer().u64(number).text8(reason).bytes())


def parse_refused(body: bytes) -> tuple[int, str]:
    """Raises `ParseError`."""
    reader = Reader(body)
    number, reason = reader.u64(), reader.text8()
    reader.done()
    return number, reason
