"""Runs of full datagrams, sealed and opened without a statement of Python per datagram.

The packets of bulk traffic in one train differ in their counter and in the offset of their only frame, and both count
up by a fixed step. So one `struct` format reads or writes all of them, and `map` calls the AEAD over slices of buffers
that were cut before. An endpoint has one `TrainSealer` and one `TrainOpener` for all of its sessions.

Headers and frame heads are 16 bytes, here two 64-bit numbers each, `high` and `low`. Of a packet's header they are
(type, path, epoch, index) and the counter; of a STREAM frame's head (type, flags, stream, the upper 16 bits of the
offset) and (the rest of the offset, length).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice, repeat
from struct import Struct
from typing import Any, Final

from covey.crypto.packet import NONCE, InvalidTag
from covey.wire.datagram import HEADER_SIZE, PACKET_OVERHEAD, RELAY_HEADER_SIZE, RELAYED
from covey.wire.frames import STREAM_HEAD

__all__ = ["RUN_MINIMUM", "TRAIN_LIMIT", "TrainOpener", "TrainSealer", "numbers", "run_length"]

RUN_MINIMUM: Final = 4
"""Shorter runs are opened one by one: that is as fast."""
TRAIN_LIMIT: Final = 64
"""Datagrams opened at a time: what Linux joins at most."""
_BUFFER: Final = 65_536
_SHAPES: Final = 8
"""Ways of cutting a buffer that are kept: sizes of datagrams in use at a time."""
_HEAD: Final = STREAM_HEAD.size
_pack_nonce = NONCE.pack

Aead = Callable[[bytes, memoryview, memoryview, memoryview], Any]
"""`AESGCM.encrypt_into` or `decrypt_into`."""
Slices = list[memoryview]


@lru_cache(256)
def numbers(count: int, stride: int, words: int = 2) -> Struct:
    """The first `words` 64-bit numbers of `count` pieces `stride` bytes apart."""
    piece = f"{words}Q"
    return Struct(">" + f"{piece}{stride - 8 * words}x" * (count - 1) + piece)


def run_length(pairs: tuple[int, ...], first: int, step: int) -> int:
    """How many of `pairs`, from number `first` on, repeat its high number while the low one counts up by `step`."""
    high, low = pairs[2 * first : 2 * first + 2]
    if pairs[2 * first + 2 : 2 * first + 4] != (high, low + step):
        return 1
    highs, lows = pairs[2 * first :: 2], pairs[2 * first + 1 :: 2]
    count = len(highs)
    if highs.count(high) == count and lows == tuple(range(low, low + count * step, step)):
        return count
    length = 2
    while length < count and highs[length] == high and lows[length] == low + length * step:
        length += 1
    return length


class TrainSealer:
    """Writes runs of packets that carry one full STREAM frame each. `scratch` (65,536 bytes) is lent for every call."""

    __slots__ = ("_data", "_out", "_plain", "_scratch")

    def __init__(self, scratch: bytearray) -> None:
        self._scratch = scratch
        self._data = io.BytesIO()
        self._plain = _Cuts(memoryview(scratch))
        self._out = _Cuts(memoryview(b""))

    def seal(
        self,
        aead: Aead,
        out: memoryview,
        index: int,
        count: int,
        segment: int,
        circuit: int,
        header: int,
        counter: int,
        frame: int,
        pieces: Iterable[memoryview | bytearray],
    ) -> None:
        """Fills datagrams `index` ... of `out`, `count` of `segment` bytes, with packets `counter` ...

        `header` is the high number of all headers, `frame` both numbers of the first frame's head as one, and `pieces`
        are the stream's bytes for all of them. `out` should be the same object each time.
        """
        outer = RELAY_HEADER_SIZE if circuit else 0
        size = segment - outer - PACKET_OVERHEAD
        plain, bodies = self._plain.upto(count, size, (0, size), (_HEAD, size))
        if out is not self._out.buffer:
            self._out = _Cuts(out)
        after = outer + HEADER_SIZE
        heads, sealed = self._out.upto(index + count, segment, (outer, after), (after, segment))

        step = (size - _HEAD) << 16
        frames_end = frame + count * step
        words: list[int] = [frame >> 64] * (2 * count)
        if frame >> 64 == (frames_end - step) >> 64:
            low = frame & 0xFFFF_FFFF_FFFF_FFFF
            words[1::2] = range(low, low + count * step, step)
        else:
            words = [number for each in range(frame, frames_end, step) for number in divmod(each, 1 << 64)]
        numbers(count, size).pack_into(self._scratch, 0, *words)
        data = self._data
        data.seek(0)
        data.writelines(pieces)
        data.seek(0)
        deque(map(data.readinto, islice(bodies, count)), maxlen=0)

        counters = range(counter, counter + count)
        if outer:
            words = [(RELAYED << 56) + circuit, header, 0] * count
            words[2::3] = counters
            numbers(count, segment, 3).pack_into(out, index * segment, *words)
        else:
            words = [header] * (2 * count)
            words[1::2] = counters
            numbers(count, segment).pack_into(out, index * segment, *words)
        nonces = map(_pack_nonce, repeat(header >> 48 & 0xFF), counters)
        deque(map(aead, nonces, plain, islice(heads, index, None), islice(sealed, index, None)), maxlen=0)


class TrainOpener:
    """Opens runs of packets of one size with consecutive counters. What they say is there until the next call.

    Its buffers, 128 kB, are made for the first run: many endpoints never see one.
    """

    __slots__ = ("_bodies", "_plain", "_sealed", "heads", "plain")

    def __init__(self) -> None:
        self._sealed: _Cuts | None = None
        self._plain = _Cuts(memoryview(b""))
        self._bodies: Slices = []
        self.plain: Slices = []
        """What was in each packet; only as many as were opened are to be looked at."""
        self.heads: tuple[int, ...] = ()
        """High and low number of what each of the packets begins with."""

    def open(self, aead: Aead, run: memoryview, count: int, segment: int, outer: int, header: int, counter: int) -> int:
        """Opens packets `counter` ... that lie `segment` bytes apart in `run`: how many, up to the first that does not.

        `header` is the high number of all headers. A packet holds more than a STREAM frame's head.
        """
        body, size = outer + HEADER_SIZE, segment - outer - PACKET_OVERHEAD
        if self._sealed is None:
            self._sealed = _Cuts(memoryview(bytearray(_BUFFER)))
            self._plain = _Cuts(memoryview(bytearray(_BUFFER)))
        sealed, plain = self._sealed, self._plain
        sealed.buffer[: len(run)] = run
        heads, bodies = sealed.upto(count, segment, (outer, body), (body, segment))
        self.plain, self._bodies = plain.upto(count, size, (0, size), (_HEAD, size))
        counters = iter(range(counter, counter + count))
        nonces = map(_pack_nonce, repeat(header >> 48 & 0xFF), counters)
        try:
            deque(map(aead, nonces, bodies, heads, self.plain), maxlen=0)
        except InvalidTag:
            count = next(counters, counter + count) - counter - 1
        self.heads = numbers(count, size).unpack_from(plain.buffer) if count else ()
        return count

    def data(self, first: int, count: int) -> bytes:
        """What follows the STREAM frame's head in `count` packets from number `first` on, in one piece."""
        return b"".join(islice(self._bodies, first, first + count))


class _Cuts:
    """Slices of a buffer, made when first asked for."""

    __slots__ = ("_lists", "buffer")

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self._lists: dict[tuple[int, int], tuple[Slices, Slices]] = {}

    def upto(self, count: int, stride: int, one: tuple[int, int], two: tuple[int, int]) -> tuple[Slices, Slices]:
        """Of each of the first `count` pieces of `stride` bytes, or more, the parts `one` and `two`: (start, end)."""
        key = (stride, one[1])
        lists = self._lists.get(key)
        if lists is not None and len(lists[1]) >= count:
            return lists
        if lists is None:
            if len(self._lists) >= _SHAPES:
                self._lists.clear()
            lists = self._lists[key] = ([], [])
        buffer = self.buffer
        for slices, (start, end) in zip(lists, (one, two), strict=True):
            for at in range(len(slices) * stride, count * stride, stride):
                slices.append(buffer[at + start : at + end])
        return lists
