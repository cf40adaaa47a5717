"""When to probe which pair: one round of challenges towards a peer's candidates (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from covey.core import limits
from covey.core.path import Route

__all__ = ["Challenge", "PunchRound"]

_SHORTEST_GAP: Final = 5.0
"""Seconds between two rounds at least."""
_EXPECTED_LIMIT: Final = 9 * limits.PROBE_PAIRS


class Challenge(NamedTuple):
    """A challenge of ours that waits for its answer."""

    route: Route
    asked: float
    """When, seconds."""
    size: int
    """Bytes of its datagram."""


class PunchRound:
    """The schedule of one round, and the challenges that wait for their answers."""

    __slots__ = ("_expected", "_next", "_start", "_wait", "_wanted", "retry_at")

    def __init__(self) -> None:
        self._start: float | None = None
        self._next = 0
        self._wanted = False
        self._wait = limits.PROBE_ROUND_SECONDS
        self.retry_at: float | None = None
        """When another round may be worth its probes, seconds; None before the first."""
        self._expected: dict[bytes, Challenge] = {}

    def start_soon(self, routes: list[Route]) -> None:
        """Something changed: a new round as soon as the last one is five seconds old."""
        self._wanted = bool(routes)
        self._wait = limits.PROBE_ROUND_SECONDS

    def start_again(self, now: float, routes: list[Route]) -> None:
        """Nothing changed: a new round, and longer until the next one."""
        self._wanted = bool(routes)
        self._wait = min(2 * self._wait, limits.PROBE_ROUND_LIMIT_SECONDS)
        self.retry_at = now + self._wait

    def expect(self, data: bytes, route: Route, now: float, size: int) -> None:
        """A challenge with these 8 bytes goes out on `route`, in a datagram of `size` bytes."""
        self._expected[data] = Challenge(route, now, size)
        while len(self._expected) > _EXPECTED_LIMIT:
            self._expected.pop(next(iter(self._expected)))

    def answered(self, data: bytes) -> Challenge | None:
        """The challenge that `data` answers, once; None if there was none."""
        return self._expected.pop(data, None)

    @property
    def running(self) -> bool:
        """Pairs are being probed, or will be."""
        return self._wanted or (self._start is not None and self._next < len(limits.PROBE_SCHEDULE))

    def deadline(self) -> float | None:
        if self._start is None:
            return 0.0 if self._wanted else None
        times = [self._start + _SHORTEST_GAP] if self._wanted else []
        if self._next < len(limits.PROBE_SCHEDULE):
            times.append(self._start + limits.PROBE_SCHEDULE[self._next])
        return min(times, default=None)

    def due(self, now: float, routes: Callable[[], list[Route]]) -> list[Route]:
        """The routes to challenge now. `routes` gives those that are still unproven."""
        if self._wanted and (self._start is None or now >= self._start + _SHORTEST_GAP):
            self._wanted = False
            self._start = now
            self._next = 0
            self.retry_at = now + self._wait
        if self._start is None or self._next >= len(limits.PROBE_SCHEDULE):
            return []
        if now < self._start + limits.PROBE_SCHEDULE[self._next]:
            return []
        self._next += 1
        return routes()
