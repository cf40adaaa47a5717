"""A token bucket that spreads what may leave over time (RFC 9002, 7.7; PROTOCOL 28)."""

from __future__ import annotations

from typing import Final

__all__ = ["BURST_MAX", "BURST_SECONDS", "Pacer"]

BURST_SECONDS: Final = 0.002
"""Credit: what the rate sends in this time, because asyncio cannot sleep much shorter."""
_BURST_MIN_DATAGRAMS: Final = 10
_BURST_MIN_BYTES: Final = 10 * 1472
"""Ten of a datagram of Ethernet; of larger ones a single one, or a slow line with jumbo frames loses each burst."""
BURST_MAX: Final = 4 * 1024 * 1024
"""Bytes: half of what a socket of ours holds (`net/udp.py`)."""
_SHORTEST_SLEEP: Final = 0.001


class Pacer:
    """`credit(now, ...)` says how many bytes may leave now, `spend(size)` takes them, `ready_at(now)` when to look."""

    __slots__ = ("_datagram", "_rate", "_updated", "left")

    def __init__(self) -> None:
        self.left = float(BURST_MAX)
        """Bytes of credit, without what has come since `credit` was asked for."""
        self._rate = 0.0
        self._datagram = 0
        self._updated = 0.0

    def credit(self, now: float, rate: float, datagram: int) -> int:
        """Bytes that may leave now, for a rate (bytes per second) and a datagram size."""
        self._rate = rate
        most = min(
            max(rate * BURST_SECONDS, min(_BURST_MIN_DATAGRAMS * datagram, _BURST_MIN_BYTES), datagram), BURST_MAX
        )
        self.left = min(self.left + (now - self._updated) * rate, most)
        self._updated = now
        self._datagram = datagram
        return int(self.left)

    def spend(self, size: int) -> None:
        self.left -= size

    def worthwhile(self, train: int) -> int:
        """Bytes that are worth waiting for if there are more to send: what the rate gives in the shortest sleep, from
        one datagram up to a `train`. Call after `credit`."""
        return max(self._datagram, min(train, int(self._rate * _SHORTEST_SLEEP)))

    def ready_at(self, now: float, size: int) -> float:
        """When there will be credit for `size` bytes, at least a millisecond on. Call after `credit`."""
        # One byte more, or rounding would ask for another look a millisecond later.
        return now + max((size + 1 - self.left) / self._rate, _SHORTEST_SLEEP)
