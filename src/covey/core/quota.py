"""What a relay passes on for one client: so many bytes a second, over all circuits and paths together.

A relay says its quota (RELAYING), and a client keeps to it: its paths over that relay send no faster, so that nothing
waits or gets lost there. That is back-pressure: it ends in `Stream.write`. The relay itself holds back what comes
faster all the same, for a moment, and drops what does not fit that moment (`relay_queue.py`).
"""

from __future__ import annotations

from typing import Final

__all__ = ["RATE_MIN", "Quota"]

RATE_MIN: Final = 16 * 1024
"""Bytes per second: who says less gets this much, so that a path that starves us shows as one that loses."""
BURST_SECONDS: Final = 0.05
BURST_MIN: Final = 65_536
"""Bytes: one train."""
_SHORTEST_SLEEP: Final = 0.001


class Quota:
    """A token bucket. `refill(now)` says what may leave now, `spend` takes it and may leave a debt."""

    __slots__ = ("_at", "burst", "left", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = max(rate, RATE_MIN)
        self.burst = max(self.rate * BURST_SECONDS, BURST_MIN)
        self.left = self.burst
        """Bytes, as of the last `refill`."""
        self._at = 0.0

    def refill(self, now: float) -> int:
        """Bytes that may leave now; negative while there is a debt."""
        self.left = min(self.left + (now - self._at) * self.rate, self.burst)
        self._at = now
        return int(self.left)

    def spend(self, size: int) -> None:
        self.left -= size

    def ready_at(self, now: float, size: int) -> float:
        """When `size` bytes may leave, seconds, at least a millisecond on. Call after `refill`."""
        return now + max((min(size, self.burst) + 1 - self.left) / self.rate, _SHORTEST_SLEEP)
