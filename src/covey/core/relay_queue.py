"""What a relay could not pass on at once: short, and in turn between the clients that sent it.

Deficit round robin (Shreedhar and Varghese, 1995): each client may send `QUANTUM` bytes, then it is the turn of the
next. So nobody waits behind a client that sends more than leaves, whatever the size of its datagrams or the number of
its circuits. When there is no room, whoever has less than an equal share still finds some: what is dropped is the
traffic that fills the queue, and its sender's congestion control hears of it.

A client that used up its quota is held back until it may send again; others take its turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heappop, heappush
from typing import Final, NamedTuple

from covey.base.types import Identity
from covey.core.path import Route

__all__ = ["Forward", "RelayQueue"]

QUEUE_BYTES: Final = 2 * 1024 * 1024
"""Waiting for all clients; a short queue, because late packets are worse than lost ones."""
QUANTUM: Final = 65_536
"""Bytes of one client's turn: the largest run."""
_OVERHEAD: Final = 256
"""Bytes that the smallest run costs us in memory."""


class Forward(NamedTuple):
    """A run of datagrams to pass on unchanged."""

    route: Route
    data: bytes
    segment: int


class _Line:
    __slots__ = ("credit", "runs", "size")

    def __init__(self) -> None:
        self.runs: deque[Forward] = deque()
        self.size = 0
        self.credit = QUANTUM


class RelayQueue:
    """`put` what a client sent, `take` what is to leave next. `turn` says whose it is, and `hold` puts that one aside
    until a time; `release` brings back those whose time has come."""

    __slots__ = ("_held", "_lines", "_size", "_waiting")

    def __init__(self) -> None:
        self._lines: OrderedDict[Identity, _Line] = OrderedDict()
        self._waiting: dict[Identity, _Line] = {}
        """Lines that are held back."""
        self._held: list[tuple[float, Identity]] = []
        """When each of them may go on; a heap."""
        self._size = 0

    def __bool__(self) -> bool:
        """Whether something may leave now."""
        return bool(self._lines)

    def has(self, client: Identity) -> bool:
        """Whether something of this client waits."""
        return client in self._lines or client in self._waiting

    def put(self, client: Identity, forward: Forward, most: float = QUEUE_BYTES) -> bool:
        """False: there is no room for it. Of one client at most `most` bytes may wait, or one run."""
        lines = self._lines
        line = lines.get(client) or self._waiting.get(client)
        size = len(forward.data) + _OVERHEAD
        if line is not None and line.size + size > most:
            return False
        if self._size + size > QUEUE_BYTES:
            share = QUEUE_BYTES // (len(lines) + len(self._waiting) + (line is None))
            if self._size + size > 2 * QUEUE_BYTES or size + (0 if line is None else line.size) > share:
                return False
        if line is None:
            line = lines[client] = _Line()
        line.runs.append(forward)
        line.size += size
        self._size += size
        return True

    def turn(self) -> Identity | None:
        """Whose run `take` gives."""
        return next(iter(self._lines), None)

    def hold(self, client: Identity, until: float) -> None:
        """Nothing of this client leaves before `until`, seconds."""
        self._waiting[client] = self._lines.pop(client)
        heappush(self._held, (until, client))

    def deadline(self) -> float | None:
        """When `release` is due."""
        return self._held[0][0] if self._held else None

    def release(self, now: float) -> None:
        """Those whose time has come wait no longer."""
        while self._held and self._held[0][0] <= now:
            _, client = heappop(self._held)
            line = self._waiting.pop(client, None)
            if line is not None:
                line.credit = QUANTUM
                self._lines[client] = line

    def forget(self, client: Identity) -> int:
        """This client is gone, and what waits with it; the bytes of it."""
        line = self._lines.pop(client, None) or self._waiting.pop(client, None)
        if line is None:
            return 0
        self._size -= line.size
        return sum(len(forward.data) for forward in line.runs)

    def take(self) -> Forward | None:
        if not self._lines:
            return None
        client, line = next(iter(self._lines.items()))
        forward = line.runs.popleft()
        size = len(forward.data) + _OVERHEAD
        self._size -= size
        line.size -= size
        line.credit -= size
        if not line.runs:
            del self._lines[client]
        elif line.credit <= 0:
            line.credit += QUANTUM
            self._lines.move_to_end(client)
        return forward
