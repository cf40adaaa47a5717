"""Puts arriving bytes in order: for streams and for the CRYPTO stream."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from covey.base.errors import ParseError

__all__ = ["ReceiveBuffer"]


_MERGE: Final = 4096
"""Early pieces that touch are joined up to this size: many small messages behind one gap are few pieces."""
_RUNS_LIMIT: Final = 4096
"""Early runs of one stream, each behind a gap. A window of 16 MB with every fourth datagram lost has 3,000; more is an
attack on our memory, in which a byte could cost a hundred. Behind one gap any number of bytes may wait."""
_PIECE: Final = 32_768
"""A piece of this size is worth a `read` of its own."""


class ReceiveBuffer:
    """In-order bytes wait in `ready` for `read`; others by offset until the gap below them closes.

    The caller bounds offsets by its window before `insert`, so memory is bounded by that window: at most one copy of
    each byte is kept, and pieces are copies of their own, so that a small one cannot pin a large packet.
    """

    __slots__ = ("_at", "_ready", "_runs", "_starts", "_stops", "available", "highest", "next")

    def __init__(self) -> None:
        self._ready: list[bytes] = []
        self._at = 0  # bytes of the first that were read
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._runs: list[list[bytes]] = []
        self.available = 0
        """Bytes that `read` would give now."""
        self.next = 0
        """First offset that has not arrived."""
        self.highest = 0
        """One past the highest offset that has arrived."""

    def insert(self, offset: int, data: bytes | memoryview) -> bool:
        """Takes bytes at `offset`; what arrived before is ignored. True if `available` grew.

        ParseError: more early runs than an honest sender makes.
        """
        size = len(data)
        stop = offset + size
        if offset == self.next and size and not self._starts:
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
        while self._starts and self._starts[0] <= self.next:
            self._append_run()
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
        self._starts.clear()
        self._stops.clear()
        self._runs.clear()
        self.available = self._at = 0

    def _append(self, data: bytes) -> None:
        self._ready.append(data)
        self.available += len(data)
        self.next += len(data)

    def _append_run(self) -> None:
        """The first early run begins at, or before, what is missing next: the rest of it is in order."""
        skip = self.next - self._starts.pop(0)
        del self._stops[0]
        for piece in self._runs.pop(0):
            if skip < len(piece):
                self._append(piece[skip:] if skip > 0 else piece)
            skip -= len(piece)

    def _keep(self, offset: int, data: bytes) -> None:
        """Stores an early piece. Runs never touch each other, and no byte is stored twice."""
        starts, stops, runs = self._starts, self._stops, self._runs
        at = bisect_right(starts, offset) - 1
        if at >= 0 and stops[at] >= offset:
            data = data[stops[at] - offset :]
        elif not data:
            return
        else:
            if len(starts) >= _RUNS_LIMIT:
                raise ParseError("a stream in too many pieces")
            at += 1
            starts.insert(at, offset)
            stops.insert(at, offset)
            runs.insert(at, [])
        run = runs[at]
        while data:
            stop = stops[at]
            room = starts[at + 1] - stop if at + 1 < len(starts) else len(data)
            _join(run, data[:room])
            if len(data) < room or at + 1 == len(starts):
                stops[at] = stop + len(data)
                return
            # The gap up to the next run is closed; what lies beyond that run may go on.
            data = data[room + stops[at + 1] - starts[at + 1] :]
            stops[at] = stops[at + 1]
            behind = runs[at + 1]
            _join(run, behind[0])
            if len(run) < len(behind):
                behind[:1] = run
                run = runs[at] = behind
            else:
                run.extend(behind[1:])
            del starts[at + 1], stops[at + 1], runs[at + 1]


def _join(run: list[bytes], piece: bytes) -> None:
    """Appends; two pieces next to each other are together larger than `_MERGE`."""
    if run and len(run[-1]) + len(piece) <= _MERGE:
        run[-1] += piece
    elif piece:
        run.append(piece)
