"""What arrived on the peer's paths, and which of it must be acknowledged when."""

from __future__ import annotations

from typing import Final

from covey.core.limits import PROBE_PATH
from covey.core.received import ReceivedCounters
from covey.core.rtt import MAX_ACK_DELAY
from covey.wire import frames

__all__ = ["ACK_ROOM", "Acks"]

ACK_ROOM: Final = 300
"""Bytes that the largest ACK frame may need."""
_PATHS_REMEMBERED: Final = 16
"""Paths of the peer of which gaps are remembered, those it used last: it has 255 ids, and each could cost 16 kB."""


class Acks:
    """One `ReceivedCounters` per path id of the peer, and one moment for all acknowledgements.

    Every second ack-eliciting packet, and every one out of order, is acknowledged at once; a single one may wait
    5 ms for data to travel with. One ACK per path and train, however many packets it covers.
    """

    __slots__ = ("_due", "_eliciting", "at", "received")

    def __init__(self) -> None:
        self.received: dict[int, ReceivedCounters] = {}
        self._due: dict[int, None] = {}
        self._eliciting = 0
        self.at: float | None = None
        """When acknowledgements must leave, seconds; None if nothing waits."""

    def counters(self, path_id: int) -> ReceivedCounters:
        received = self.received.get(path_id)
        if received is None:
            received = self.received[path_id] = ReceivedCounters()
            self._forget_oldest(path_id)
        return received

    def _forget_oldest(self, newest: int) -> None:
        remembered = [
            each for number, each in self.received.items() if each.limit > 1 and number not in (newest, PROBE_PATH)
        ]
        if len(remembered) >= _PATHS_REMEMBERED:
            min(remembered, key=lambda each: each.newest_at).shorten()

    def note(self, now: float, path_id: int, *, at_once: bool, count: int = 1) -> None:
        """An ack-eliciting packet was taken, or `count` of them."""
        self._eliciting += count
        self._due[path_id] = None
        if at_once or self._eliciting >= 2:
            self.at = now
        elif self.at is None:
            self.at = now + MAX_ACK_DELAY

    def compose(self, now: float, scratch: bytearray, at: int, capacity: int) -> int:
        """Writes what is due to `scratch[at:capacity]`; the new end. What does not fit stays due."""
        due = self._due
        if not due:
            return at
        if len(due) == 1 and capacity - at >= ACK_ROOM:
            (path_id,) = due
            received = self.received[path_id]
            if len(received.highs) == 1:
                # Hot path: nothing is missing on the only path that the peer uses.
                delay = int((now - received.newest_at) / frames.ACK_DELAY_UNIT)
                frames.pack_whole_ack(scratch, at, path_id, delay, received.lows[0], received.highs[0])
                due.clear()
                self.at = None
                self._eliciting = 0
                return at + frames.ACK_HEAD.size
        for path_id in list(self._due):
            if capacity - at < ACK_ROOM:
                return at
            received = self.received[path_id]
            delay = int(max(now - received.newest_at, 0.0) / frames.ACK_DELAY_UNIT)
            encoded = frames.encode_ack(path_id, delay, received.ranges())
            scratch[at : at + len(encoded)] = encoded
            at += len(encoded)
            del self._due[path_id]
        self.at = None
        self._eliciting = 0
        return at
