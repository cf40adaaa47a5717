"""The bytes of a stream that were written and are not yet acknowledged."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from covey.core.ranges import RangeSet

__all__ = ["SendBuffer"]

_COALESCE: Final = 16_384
"""Writes smaller than this share a chunk up to this size, larger ones are kept by reference: a stream of tiny
messages costs one object per 16 KiB, a bulk write is never copied before the AEAD's input."""


class SendBuffer:
    """Offsets [acked, end) are held; [sent, end) was never sent; `lost` is to be sent again."""

    __slots__ = ("_acked_beyond", "_chunks", "_growing", "_starts", "acked", "end", "lost", "sent")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._chunks: list[memoryview | bytearray] = []
        self._growing: bytearray | None = None  # the last chunk, if it may grow
        self._acked_beyond = RangeSet()
        self.lost = RangeSet()
        self.acked = 0
        self.sent = 0
        self.end = 0

    @property
    def held(self) -> int:
        """Bytes kept in memory for this stream."""
        return self.end - self.acked

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends. `bytes`, and views of them, are kept by reference; anything that may change under us is copied."""
        size = len(data)
        if size == 0:
            return
        if size < _COALESCE:
            if self._growing is not None and len(self._growing) + size <= _COALESCE:
                self._growing += data
            else:
                self._starts.append(self.end)
                self._growing = bytearray(data)
                self._chunks.append(self._growing)
        else:
            self._starts.append(self.end)
            self._chunks.append(memoryview(data if _cannot_change(data) else bytes(data)))
            self._growing = None
        self.end += size

    def extend(self, data: bytes) -> bool:
        """`write`, if the last chunk takes it. Hot path of small messages."""
        growing = self._growing
        size = len(data)
        if growing is None or len(growing) + size > _COALESCE:
            return False
        growing += data
        self.end += size
        return True

    def stop_growing(self) -> None:
        """`extend` is over until the next `write`."""
        self._growing = None

    def piece(self, offset: int, limit: int) -> memoryview | bytearray:
        """Up to `limit` bytes from `offset` that lie in one chunk (at least one byte)."""
        at = bisect_right(self._starts, offset) - 1
        start = offset - self._starts[at]
        return self._chunks[at][start : start + limit]

    def tail(self, offset: int) -> memoryview | bytearray | None:
        """[offset, end) if it lies in the last chunk."""
        start = self._starts[-1]
        return self._chunks[-1][offset - start :] if offset >= start else None

    def pieces(self, offset: int, size: int) -> Iterator[memoryview | bytearray]:
        """[offset, offset + size) in order, as it is kept."""
        while size > 0:
            piece = self.piece(offset, size)
            yield piece
            offset += len(piece)
            size -= len(piece)

    def copy_into(self, target: bytearray | memoryview, at: int, offset: int, size: int) -> None:
        """Copies [offset, offset + size) to target[at:]."""
        for piece in self.pieces(offset, size):
            target[at : at + len(piece)] = piece
            at += len(piece)

    def next_range(self, limit: int) -> tuple[int, int]:
        """(offset, size) of what to send next: lost bytes first, then new ones up to offset `limit`; size may be 0."""
        if self.lost:
            start, stop = self.lost.first
            return start, stop - start
        return self.sent, min(self.end, limit) - self.sent

    def on_sent(self, offset: int, size: int) -> None:
        if offset + size > self.sent:
            self.sent = offset + size
        if self.lost:
            self.lost.remove(offset, offset + size)

    def on_acked(self, offset: int, size: int) -> None:
        stop = offset + size
        if stop == self.end and offset <= self.acked and not self.lost.starts and not self._acked_beyond.starts:
            # Everything arrived: the end of every answer.
            self.acked = stop
            self._growing = None
            self._chunks.clear()
            self._starts.clear()
            return
        if self.lost:
            self.lost.remove(offset, stop)
        if offset <= self.acked:
            if stop <= self.acked:
                return
            self.acked = stop
        else:
            self._acked_beyond.add(offset, stop)
        while self._acked_beyond and self._acked_beyond.first[0] <= self.acked:
            start, beyond = self._acked_beyond.first
            self.acked = max(self.acked, beyond)
            self._acked_beyond.remove(start, beyond)
        self._release()

    def on_lost(self, offset: int, size: int) -> None:
        """Marks for sending again what was not acknowledged in the meantime."""
        stop = offset + size
        offset = max(offset, self.acked)
        if offset >= stop:
            return
        self.lost.add(offset, stop)
        for low, high in list(self._acked_beyond):
            self.lost.remove(low, high)

    def discard(self) -> None:
        """Forgets everything: the stream was reset. `end` becomes what was sent, the final size to tell the peer."""
        self._starts.clear()
        self._chunks.clear()
        self._growing = None
        self.lost.clear()
        self._acked_beyond.clear()
        self.acked = self.end = self.sent

    def _release(self) -> None:
        chunks, starts = self._chunks, self._starts
        if self.acked == self.end:
            self._growing = None
            chunks.clear()
            starts.clear()
            return
        drop = 0
        while drop < len(chunks) and starts[drop] + len(chunks[drop]) <= self.acked:
            drop += 1
        if drop:
            del chunks[:drop], starts[:drop]


def _cannot_change(data: bytes | bytearray | memoryview) -> bool:
    """Whether these are bytes that nobody can alter while we hold on to them."""
    if isinstance(data, memoryview):
        return isinstance(data.obj, bytes) and data.c_contiguous and data.itemsize == 1
    return isinstance(data, bytes)
