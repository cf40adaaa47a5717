"""Puts arriving bytes in order: for streams and for the CRYPTO stream."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from covey.base.errors import ParseError

__all__ = ["ReceiveBuffer"]


_MERGE: Final = 4096
"""Early pieces that touch are joined up to this size: many small messages behind one gap are few pieces."""
_PIECES_LIMIT: Final = 4096
"""Early pieces of one stream. A window of 16 MB with every fourth datagram lost has 3,000; more is an attack on our
memory, in which a byte could cost a hundred."""
_PIECE: Final = 32_768
"""A piece of this size is worth a `read` of its own."""


class ReceiveBuffer:
    """In-order bytes wait in `ready` for `read`; others by offset until the gap below them closes.

    The caller bounds offsets by its window before `insert`, so memory is bounded by that window: at most one copy of
    each byte is kept, and pieces are copies of their own, so that a small one cannot pin a large packet.
    """

    __slots__ = ("_at", "_offsets", "_pieces", "_ready", "available", "highest", "next")

    def __init__(self) -> None:
        self._ready: list[bytes] = []
        self._at = 0  # bytes of the first that were read
        self._offsets: list[int] = []
        self._pieces: list[bytes] = []
        self.available = 0
        """Bytes that `read` would give now."""
        self.next = 0
        """First offset that has not arrived."""
        self.highest = 0
        """One past the highest offset that has arrived."""

    def insert(self, offset: int, data: bytes | memoryview) -> bool:
        """Takes bytes at `offset`; what arrived before is ignored. True if `available` grew.

        ParseError: more early pieces than an honest sender makes.
        """
        size = len(data)
        stop = offset + size
        if offset == self.next and size and not self._offsets:
            # In order, and nothing waits behind a gap.
            self._ready.append(bytes(data))
            self.available += size
            self.next = stop
            if stop > self.highest:
                self.highest = stop
            return True
        if stop > self.highest:
            self.highest = stop
        if offset > self.next:
            self._keep(offset, bytes(data))
            return False
        if stop <= self.next:
            return False
        if offset < self.next:
            data = data[self.next - offset :]
        self._append(bytes(data))
        while self._offsets and self._offsets[0] <= self.next:
            offset, piece = self._offsets.pop(0), self._pieces.pop(0)
            if offset + len(piece) > self.next:
                self._append(piece[self.next - offset :])
        return True

    def read(self, limit: int = -1) -> bytes:
        """Up to `limit` bytes (all that is ready if negative), b"" if none is."""
        ready, at = self._ready, self._at
        if 0 <= limit < self.available:
            first = ready[0]
            end = at + limit
            if end < len(first):
                self._at = end
                self.available -= limit
                return first[at:end]
            parts: list[bytes | memoryview] = [memoryview(first)[at:]]
            end -= len(first)
            used = 1
            while end >= len(ready[used]):
                parts.append(ready[used])
                end -= len(ready[used])
                used += 1
            if end:
                parts.append(memoryview(ready[used])[:end])
            del ready[:used]
            self._at = end
            data = b"".join(parts)
        else:
            if len(ready) == 1:
                data = ready[0][at:]
            else:
                data = b"".join([memoryview(ready[0])[at:], *ready[1:]] if at else ready)
            ready.clear()
            self._at = 0
        self.available -= len(data)
        return data

    def read_piece(self) -> bytes:
        """What is ready, as it arrived if that was much: without a copy, and all of it only if it is little."""
        if not self._at and self._ready and len(self._ready[0]) >= _PIECE:
            data = self._ready.pop(0)
            self.available -= len(data)
            return data
        return self.read(min(self.available, 2 * _PIECE))

    def discard(self) -> None:
        """Drops everything that waits."""
        self._ready.clear()
        self._offsets.clear()
        self._pieces.clear()
        self.available = self._at = 0

    def _append(self, data: bytes) -> None:
        self._ready.append(data)
        self.available += len(data)
        self.next += len(data)

    def _keep(self, offset: int, data: bytes) -> None:
        """Stores an early piece, cut so that stored pieces never overlap."""
        offsets, pieces = self._offsets, self._pieces
        at = bisect_right(offsets, offset)
        if at > 0:
            covered = offsets[at - 1] + len(pieces[at - 1]) - offset
            if covered > 0:
                data = data[covered:]
                offset += covered
        while data and at < len(offsets):
            room = offsets[at] - offset
            if len(data) <= room:
                break
            if room > 0:
                at = self._place(at, offset, data[:room])
            skip = room + len(pieces[at])
            offset += skip
            data = data[skip:]
            at += 1
        if data:
            self._place(at, offset, data)

    def _place(self, at: int, offset: int, data: bytes) -> int:
        """Stores a piece that overlaps no other in front of piece `at`; the index of the one behind it."""
        offsets, pieces = self._offsets, self._pieces
        if at > 0 and offsets[at - 1] + len(pieces[at - 1]) == offset and len(pieces[at - 1]) + len(data) <= _MERGE:
            pieces[at - 1] += data
            return at
        if len(pieces) >= _PIECES_LIMIT:
            raise ParseError("a stream in too many pieces")
        offsets.insert(at, offset)
        pieces.insert(at, data)
        return at + 1
