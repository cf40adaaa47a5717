"""The frames inside a packet. Fixed width, because `struct` beats variable-length integers in Python.

====== ================ ==================================================================================
type   name             fields after the type byte
====== ================ ==================================================================================
0x00   PADDING          the rest of the packet is zeros
0x01   PING             none
0x02   ACK              path 1, delay 2 (of 16 us), more 1, largest 8, first 4, then `more` times {gap 4, length 4}
0x03   CRYPTO           offset 4, length 2, bytes
0x04   STREAM           flags 1 (1 = last), stream 4, offset 8, length 2, bytes
0x05   RESET            stream 4, code 4, final offset 8
0x06   STOP             stream 4, code 4
0x07   MAX_DATA         limit 8
0x08   MAX_STREAM_DATA  stream 4, limit 8
0x09   MAX_STREAMS      limit 4
0x0a   DATAGRAM         stream 4, length 2, bytes
0x0b   PATH_CHALLENGE   data 8
0x0c   PATH_RESPONSE    data 8
0x0d   CLOSE            code 4, length 1, reason
====== ================ ==================================================================================

ACK: counters [largest - first + 1, largest] arrived; each further range lies `gap` counters below the one before
(gap >= 1 missing counters) and holds `length` of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from covey.base.errors import ParseError

__all__ = [
    "ACK",
    "ACK_DELAY_UNIT",
    "ACK_RANGES_LIMIT",
    "CLOSE",
    "CRYPTO",
    "CRYPTO_HEAD",
    "DATAGRAM",
    "DATAGRAM_HEAD",
    "MAX_DATA",
    "MAX_STREAMS",
    "MAX_STREAM_DATA",
    "PADDING",
    "PATH_CHALLENGE",
    "PATH_RESPONSE",
    "PING",
    "RESET",
    "STOP",
    "STREAM",
    "STREAM_FIN",
    "STREAM_HEAD",
    "AckFrame",
    "CloseFrame",
    "CryptoFrame",
    "DatagramFrame",
    "Frame",
    "LimitFrame",
    "PathFrame",
    "PingFrame",
    "ResetFrame",
    "StopFrame",
    "StreamFrame",
    "encode_ack",
    "encode_close",
    "encode_limit",
    "encode_path",
    "encode_reset",
    "encode_stop",
    "only_datagrams",
    "pack_whole_ack",
    "parse_frames",
]

PADDING: Final = 0x00
PING: Final = 0x01
ACK: Final = 0x02
CRYPTO: Final = 0x03
STREAM: Final = 0x04
RESET: Final = 0x05
STOP: Final = 0x06
MAX_DATA: Final = 0x07
MAX_STREAM_DATA: Final = 0x08
MAX_STREAMS: Final = 0x09
DATAGRAM: Final = 0x0A
PATH_CHALLENGE: Final = 0x0B
PATH_RESPONSE: Final = 0x0C
CLOSE: Final = 0x0D

STREAM_FIN: Final = 1
ACK_DELAY_UNIT: Final = 16e-6
"""Seconds per unit of an ACK's delay field."""
ACK_RANGES_LIMIT: Final = 32
"""Ranges in one ACK, newest first."""

STREAM_HEAD: Final = struct.Struct(">BBIQH")
CRYPTO_HEAD: Final = struct.Struct(">BIH")
DATAGRAM_HEAD: Final = struct.Struct(">BIH")
_ACK_FIRST_LIMIT: Final = 0xFFFF_FFFF
"""Counters that the first range of an ACK can name; a longer range is cut, what lies below was acknowledged before."""
ACK_HEAD: Final = struct.Struct(">BBHBQI")
_ACK_RANGE = struct.Struct(">II")
_RESET = struct.Struct(">BIIQ")
_STOP = struct.Struct(">BII")
_MAX_DATA = struct.Struct(">BQ")
_MAX_STREAM_DATA = struct.Struct(">BIQ")
_MAX_STREAMS = struct.Struct(">BI")
_PATH = struct.Struct(">B8s")
_CLOSE_HEAD = struct.Struct(">BIB")


@dataclass(frozen=True, slots=True)
class PingFrame:
    pass


@dataclass(frozen=True, slots=True)
class AckFrame:
    """`ranges`: [first, last] of arrived counters, both inclusive, newest range first."""

    path: int
    delay: int
    ranges: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class CryptoFrame:
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class StreamFrame:
    stream: int
    offset: int
    data: memoryview
    fin: bool


@dataclass(frozen=True, slots=True)
class ResetFrame:
    stream: int
    code: int
    final: int


@dataclass(frozen=True, slots=True)
class StopFrame:
    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class LimitFrame:
    """MAX_DATA, MAX_STREAM_DATA or MAX_STREAMS, by `kind`; `stream` is 0 where it has none."""

    kind: int
    stream: int
    limit: int


@dataclass(frozen=True, slots=True)
class DatagramFrame:
    stream: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class PathFrame:
    """PATH_CHALLENGE or PATH_RESPONSE, by `kind`."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseFrame:
    code: int
    reason: str


Frame = (
    PingFrame
    | AckFrame
    | CryptoFrame
    | StreamFrame
    | ResetFrame
    | StopFrame
    | LimitFrame
    | DatagramFrame
    | PathFrame
    | CloseFrame
)


def encode_ack(path: int, delay: int, ranges: list[tuple[int, int]]) -> bytes:
    """`ranges` as in `AckFrame`, at most `ACK_RANGES_LIMIT` are written."""
    first, largest = ranges[0]
    first = max(first, largest - _ACK_FIRST_LIMIT + 1)
    more = min(len(ranges), ACK_RANGES_LIMIT) - 1
    head = ACK_HEAD.pack(ACK, path, min(delay, 0xFFFF), more, largest, largest - first + 1)
    if not more:
        return head
    parts = [head]
    for low, high in ranges[1 : more + 1]:
        parts.append(_ACK_RANGE.pack(first - high - 1, high - low + 1))
        first = low
    return b"".join(parts)


def pack_whole_ack(out: bytearray, at: int, path: int, delay: int, low: int, high: int) -> None:
    """The ACK of one range, [low, high], written to `out[at:]`: `ACK_HEAD.size` bytes."""
    delay = min(max(delay, 0), 0xFFFF)
    ACK_HEAD.pack_into(out, at, ACK, path, delay, 0, high, min(high - low + 1, _ACK_FIRST_LIMIT))


def encode_reset(stream: int, code: int, final: int) -> bytes:
    return _RESET.pack(RESET, stream, code, final)


def encode_stop(stream: int, code: int) -> bytes:
    return _STOP.pack(STOP, stream, code)


def encode_limit(kind: int, stream: int, limit: int) -> bytes:
    if kind == MAX_DATA:
        return _MAX_DATA.pack(kind, limit)
    if kind == MAX_STREAM_DATA:
        return _MAX_STREAM_DATA.pack(kind, stream, limit)
    return _MAX_STREAMS.pack(kind, limit)


def encode_path(kind: int, data: bytes) -> bytes:
    return _PATH.pack(kind, data)


def encode_close(code: int, reason: str) -> bytes:
    """The reason is cut to 200 bytes of UTF-8."""
    raw = reason.encode()[:200].decode("utf-8", "ignore").encode()
    return _CLOSE_HEAD.pack(CLOSE, code, len(raw)) + raw


def only_datagrams(plain: bytes) -> list[tuple[int, bytes]] | None:
    """(stream, bytes) of each frame of a packet that holds DATAGRAM frames and padding; None if there is more to it."""
    found = []
    at, size = 0, len(plain)
    while at < size and plain[at] == DATAGRAM:
        body = at + DATAGRAM_HEAD.size
        if body > size:
            return None
        _, stream, length = DATAGRAM_HEAD.unpack_from(plain, at)
        at = body + length
        if at > size:
            return None
        found.append((stream, plain[body:at]))
    return found if plain.count(0, at) == size - at else None


def parse_frames(packet: bytes) -> Iterator[Frame]:
    """The frames of one opened packet, in order. Raises `ParseError` where the packet stops making sense.

    Data in frames is a view of `packet`. The session reads the lone STREAM frame of bulk traffic itself
    (`core.session`); everything else comes through here.
    """
    view = memoryview(packet)
    pos, end = 0, len(packet)
    try:
        while pos < end:
            kind = packet[pos]
            if kind == PADDING:
                if packet.count(0, pos) != end - pos:
                    raise ParseError("padding is not zero")
                return
            size, frame = _PARSERS[kind](view, pos)
            if size > end - pos:
                raise ParseError("a frame longer than its packet")
            pos += size
            yield frame
    except (IndexError, KeyError, struct.error) as error:
        raise ParseError("malformed frame") from error


def _ping(view: memoryview, pos: int) -> tuple[int, Frame]:
    return 1, PingFrame()


def _ack(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, path, delay, more, largest, count = ACK_HEAD.unpack_from(view, pos)
    size = ACK_HEAD.size
    low = largest - count + 1
    if count == 0 or low < 0 or more >= ACK_RANGES_LIMIT:
        raise ParseError("impossible ACK")
    ranges = [(low, largest)]
    for _ in range(more):
        gap, count = _ACK_RANGE.unpack_from(view, pos + size)
        size += _ACK_RANGE.size
        high = low - gap - 1
        low = high - count + 1
        if gap == 0 or count == 0 or low < 0:
            raise ParseError("impossible ACK")
        ranges.append((low, high))
    return size, AckFrame(path, delay, ranges)


def _crypto(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, offset, length = CRYPTO_HEAD.unpack_from(view, pos)
    start = pos + CRYPTO_HEAD.size
    return CRYPTO_HEAD.size + length, CryptoFrame(offset, view[start : start + length])


def _stream(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, flags, stream, offset, length = STREAM_HEAD.unpack_from(view, pos)
    if flags & ~STREAM_FIN:
        raise ParseError("unknown stream flag")
    start = pos + STREAM_HEAD.size
    return STREAM_HEAD.size + length, StreamFrame(stream, offset, view[start : start + length], flags == STREAM_FIN)


def _reset(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, stream, code, final = _RESET.unpack_from(view, pos)
    return _RESET.size, ResetFrame(stream, code, final)


def _stop(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, stream, code = _STOP.unpack_from(view, pos)
    return _STOP.size, StopFrame(stream, code)


def _max_data(view: memoryview, pos: int) -> tuple[int, Frame]:
    kind, limit = _MAX_DATA.unpack_from(view, pos)
    return _MAX_DATA.size, LimitFrame(kind, 0, limit)


def _max_stream_data(view: memoryview, pos: int) -> tuple[int, Frame]:
    kind, stream, limit = _MAX_STREAM_DATA.unpack_from(view, pos)
    return _MAX_STREAM_DATA.size, LimitFrame(kind, stream, limit)


def _max_streams(view: memoryview, pos: int) -> tuple[int, Frame]:
    kind, limit = _MAX_STREAMS.unpack_from(view, pos)
    return _MAX_STREAMS.size, LimitFrame(kind, 0, limit)


def _datagram(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, stream, length = DATAGRAM_HEAD.unpack_from(view, pos)
    start = pos + DATAGRAM_HEAD.size
    return DATAGRAM_HEAD.size + length, DatagramFrame(stream, view[start : start + length])


def _path(view: memoryview, pos: int) -> tuple[int, Frame]:
    kind, data = _PATH.unpack_from(view, pos)
    return _PATH.size, PathFrame(kind, data)


def _close(view: memoryview, pos: int) -> tuple[int, Frame]:
    _, code, length = _CLOSE_HEAD.unpack_from(view, pos)
    start = pos + _CLOSE_HEAD.size
    raw = bytes(view[start : start + length])
    try:
        return _CLOSE_HEAD.size + length, CloseFrame(code, raw.decode())
    except UnicodeDecodeError as error:
        raise ParseError("reason is not UTF-8") from error


_PARSERS: Final = {
    PING: _ping,
    ACK: _ack,
    CRYPTO: _crypto,
    STREAM: _stream,
    RESET: _reset,
    STOP: _stop,
    MAX_DATA: _max_data,
    MAX_STREAM_DATA: _max_stream_data,
    MAX_STREAMS: _max_streams,
    DATAGRAM: _datagram,
    PATH_CHALLENGE: _path,
    PATH_RESPONSE: _path,
    CLOSE: _close,
}
