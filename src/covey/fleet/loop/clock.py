"""The controller's clock: the time of day, without its jumps.

A clock that is set forward by an hour would make every agent silent for an hour and every launch late; one that is set
back would hold everything. So time goes on as the monotonic clock does, from the time of day at the start, and follows
the time of day slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["SteadyClock"]

SLEW: Final = 0.05
"""Seconds per second by which it runs faster or slower until it is right again: an hour takes 20."""


class SteadyClock:
    """Call it. Never goes back."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = monotonic()
        self._now = wall()

    def __call__(self) -> float:
        at = self._monotonic()
        passed = max(0.0, at - self._last)
        self._last = at
        wrong = self._wall() - (self._now + passed)
        self._now += passed + max(-SLEW * passed, min(SLEW * passed, wrong))
        return self._now
