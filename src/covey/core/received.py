"""Which counters of one path have arrived: the replay window and the source of acknowledgements in one structure."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

__all__ = ["REPLAY_WINDOW", "ReceivedCounters"]

REPLAY_WINDOW: Final = 8192
"""Counters below the highest that may still arrive, per path (DESIGN 4)."""

_RANGES_LIMIT: Final = 256
"""Ranges remembered. When there are more, the lowest gap is given up: what is missing there counts as seen, so it
can be refused but never accepted twice."""


class ReceivedCounters:
    """The counters of one peer path that were authenticated.

    Order of calls per packet: `fresh(counter)` before opening (cheap refusal of replays), `add(counter)` only after
    the packet authenticated. Bounded: at most 256 ranges, a window of 8192 counters.
    """

    __slots__ = ("floor", "highs", "limit", "lows", "newest_at")

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.highs: list[int] = []
        self.floor = 0
        """Counters below this are refused."""
        self.newest_at = 0.0
        """When the highest counter arrived, seconds."""
        self.limit = _RANGES_LIMIT
        """Ranges that are remembered."""

    def shorten(self) -> None:
        """Nobody uses this path any more: of what is missing nothing is awaited, now or later."""
        self.limit = 1
        if self.highs:
            self._slide(self.highs[-1])

    @property
    def highest(self) -> int:
        """-1 before the first packet."""
        return self.highs[-1] if self.highs else -1

    def fresh(self, counter: int) -> bool:
        """True if `counter` was not seen and is not too old to tell."""
        if counter < self.floor:
            return False
        at = bisect_right(self.lows, counter) - 1
        return at < 0 or counter > self.highs[at]

    def add(self, counter: int, now: float) -> bool:
        """Records an authenticated counter. True if it came in order (no gap below the new highest)."""
        highs = self.highs
        if highs and counter == highs[-1] + 1:
            highs[-1] = counter
            self.newest_at = now
            if counter - self.floor > 2 * REPLAY_WINDOW:
                self._slide(counter)
            return len(highs) == 1
        return self._add_slowly(counter, now)

    def add_run(self, first: int, last: int, now: float) -> bool:
        """`add` of every counter from `first`, which is above the highest, to `last`."""
        self.add(first, now)
        self.highs[-1] = last
        if last - self.floor > 2 * REPLAY_WINDOW:
            self._slide(last)
        return len(self.highs) == 1

    def ranges(self) -> list[tuple[int, int]]:
        """[first, last] inclusive, newest first: what an ACK says."""
        if len(self.lows) == 1:
            return [(self.lows[0], self.highs[0])]
        return list(zip(reversed(self.lows), reversed(self.highs), strict=True))

    def _add_slowly(self, counter: int, now: float) -> bool:
        lows, highs = self.lows, self.highs
        at = bisect_right(lows, counter)
        joins_below = at > 0 and highs[at - 1] == counter - 1
        joins_above = at < len(lows) and lows[at] == counter + 1
        if joins_below and joins_above:
            highs[at - 1] = highs[at]
            del lows[at], highs[at]
        elif joins_below:
            highs[at - 1] = counter
        elif joins_above:
            lows[at] = counter
        else:
            lows.insert(at, counter)
            highs.insert(at, counter)
        if counter == highs[-1]:
            self.newest_at = now
        self._slide(highs[-1])
        return len(lows) == 1 and counter == highs[-1]

    def _slide(self, highest: int) -> None:
        lows, highs = self.lows, self.highs
        self.floor = max(self.floor, highest - REPLAY_WINDOW + 1)
        drop = 0
        while drop < len(highs) - 1 and (highs[drop] < self.floor or len(highs) - drop > self.limit):
            self.floor = max(self.floor, highs[drop] + 1)
            drop += 1
        if drop:
            del lows[:drop], highs[:drop]
