"""How far a peer may send ahead of the program that reads: windows that grow for readers who keep pace.

A window grows when half of it was read within two round trips: then it, and not the reader or the path, may have been
the limit (a sender that it stops gets half of it a round trip). So it comes to four to eight times what the path holds,
of which half is there for the sender, and that of a slow reader stays as it is. What connections were promised beyond
their first window comes out of one budget of the node.
"""

from __future__ import annotations

from typing import Final

__all__ = ["WINDOW_BUDGET", "Budget", "grown"]

WINDOW_BUDGET: Final = 256 * 1024 * 1024
"""Bytes that all connections of a node may be promised beyond their first windows: one at 10 Gbit/s x 100 ms."""
_SHORTEST: Final = 0.001
"""Seconds. A round trip is taken for no shorter: both sides work in turns of a millisecond (`net/turn.py`)."""


class Budget:
    """Bytes that may still be promised. Whoever took some gives them back when its connection ends."""

    __slots__ = ("left",)

    def __init__(self, size: int = WINDOW_BUDGET) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """False, and nothing is taken, if there is less."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        self.left += size


def grown(window: int, elapsed: float, round_trip: float, most: int) -> int:
    """The size of a window of which half was read in `elapsed` seconds; `most` is its limit."""
    return min(2 * window, most) if elapsed < 2 * max(round_trip, _SHORTEST) and window < most else window
