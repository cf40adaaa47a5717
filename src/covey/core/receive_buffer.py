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
_SMALL: Final = 512
"""Pieces below this are copied out of their packet, so that a byte cannot pin 1,400 others."""


class ReceiveBuffer:
    """In-order bytes wait in `ready` for `read`; others by offset until the gap below them closes.

    The caller bounds offsets by its window before `insert`, so memory is bounded by that window: at most one copy of
    each byte is kept, and pieces that arrive out of order are kept as copies, so that a small piece cannot pin a
    large packet.
    """

    __slots__ = ("_offsets", "_pieces", "_ready", "available", "highest", "next")

    def __init__(self) -> None:
        self._ready: list[bytes | memoryview] = []
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
            self._ready.append(bytes(data) if size < _SMALL else data)
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
        self._append(data)
        while self._offsets and self._offsets[0] <= self.next:
            offset, piece = self._offsets.pop(0), self._pieces.pop(0)
            if offset + len(piece) > self.next:
                self._append(piece[self.next - offset :])
        return True

    def read(self, limit: int = -1) -> bytes:
        """Up to `limit` bytes (all that is ready if negative), b"" if none is."""
        ready = self._ready
        if limit < 0 or limit >= self.available:
            data = bytes(ready[0]) if len(ready) == 1 else b"".join(ready)
            ready.clear()
        else:
            parts: list[bytes | memoryview] = []
            missing, used = limit, 0
            while missing > 0:
                piece = ready[used]
                if len(piece) > missing:
                    ready[used] = memoryview(piece)[missing:]
                    piece = memoryview(piece)[:missing]
                else:
                    used += 1
                parts.append(piece)
                missing -= len(piece)
            del ready[:used]
            data = b"".join(parts)
        self.available -= len(data)
        return data

    def discard(self) -> None:
        """Drops everything that waits."""
        self._ready.clear()
        self._offsets.clear()
        self._pieces.clear()
        self.available = 0

    def _append(self, data: bytes | memoryview) -> None:
        if len(data) < _SMALL:
            data = bytes(data)
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
