"""When to probe which pair: one round of challenges towards a peer's candidates (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from covey.core import limits
from covey.core.path import Route

__all__ = ["Challenge", "PunchRound"]

_SHORTEST_GAP: Final = 5.0
"""Seconds between two rounds at least."""
_EXPECTED_LIMIT: Final = 1024
_EXPECTED_SECONDS: Final = 10.0
"""An answer later than this is of no use."""


class Challenge(NamedTuple):
    """A challenge of ours that waits for its answer."""

    route: Route
    asked: float
    """When, seconds."""
    size: int
    """Bytes of its datagram."""


class PunchRound:
    """The schedule of one round, and the challenges that wait for their answers."""

    __slots__ = ("_delay", "_expected", "_next", "_not_before", "_wait", "_wanted", "retry_at", "started")

    def __init__(self) -> None:
        self.started: float | None = None
        """When the last round began, seconds."""
        self._delay = 0.0
        self._not_before = float("-inf")
        self._next = 0
        self._wanted = False
        self._wait = limits.PROBE_ROUND_SECONDS
        self.retry_at: float | None = None
        """When another round may be worth its probes, seconds; None before the first."""
        self._expected: dict[bytes, Challenge] = {}

    def start_soon(self, routes: list[Route], after: float = 0.0, *, elsewhere: bool = True) -> None:
        """Something changed: a new round `after` so many seconds, and once the last one is five seconds old.

        `elsewhere`: enough has changed that the next attempts may follow soon.
        """
        self._wanted = bool(routes)
        self._delay = max(self._delay, after)
        if elsewhere:
            self._wait = limits.PROBE_ROUND_SECONDS

    def start_again(self, now: float, routes: list[Route], after: float = 0.0) -> None:
        """Nothing changed: a new round `after` so many seconds, and longer until the next one."""
        self._wanted = bool(routes)
        self._delay = max(self._delay, after)
        self._wait = min(2 * self._wait, limits.PROBE_ROUND_LIMIT_SECONDS)
        self.retry_at = now + self._wait

    def expect(self, data: bytes, route: Route, now: float, size: int) -> None:
        """A challenge with these 8 bytes goes out on `route`, in a datagram of `size` bytes."""
        expected = self._expected
        expected[data] = Challenge(route, now, size)
        oldest = next(iter(expected))
        while len(expected) > _EXPECTED_LIMIT or expected[oldest].asked < now - _EXPECTED_SECONDS:
            del expected[oldest]
            oldest = next(iter(expected))

    def answered(self, data: bytes) -> Challenge | None:
        """The challenge that `data` answers, once; None if there was none."""
        return self._expected.pop(data, None)

    @property
    def running(self) -> bool:
        """Pairs are being probed, or will be."""
        return self._wanted or (self.started is not None and self._next < len(limits.PROBE_SCHEDULE))

    def deadline(self) -> float | None:
        if self._delay and self._wanted:
            return 0.0  # `due` turns it into a time
        times = [self._next_round()] if self._wanted else []
        if self.started is not None and self._next < len(limits.PROBE_SCHEDULE):
            times.append(self.started + limits.PROBE_SCHEDULE[self._next])
        return min(times, default=None)

    def due(self, now: float, routes: Callable[[], list[Route]]) -> list[Route]:
        """The routes to challenge now. `routes` gives those that are still unproven."""
        if self._delay:
            self._not_before = max(self._not_before, now + self._delay)
            self._delay = 0.0
        if self._wanted and now >= self._next_round():
            self._wanted = False
            self.started = now
            self._next = 0
            self.retry_at = now + self._wait
        if self.started is None or self._next >= len(limits.PROBE_SCHEDULE):
            return []
        if now < self.started + limits.PROBE_SCHEDULE[self._next]:
            return []
        self._next += 1
        return routes()

    def _next_round(self) -> float:
        return self._not_before if self.started is None else max(self._not_before, self.started + _SHORTEST_GAP)
