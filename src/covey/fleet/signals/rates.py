"""From counters to rates."""

from __future__ import annotations

from typing import Final

__all__ = ["MOST", "Rate"]

MOST: Final = 1e15
"""Of any number that a source says: more is a mistake, and sums and rates of such numbers stay finite."""


class Rate:
    """The rate of one counter, between this value and the last. A smaller value means that it began anew at 0."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def next(self, value: float | None, now: float) -> float | None:
        """Per second; None while there is nothing to compare with."""
        last = self._last
        if value is None:
            self._last = None
            return None
        if last is not None and now <= last[1]:
            return None
        self._last = (value, now)
        if last is None:
            return None
        grown = value - last[0] if value >= last[0] else value
        return grown / (now - last[1])
