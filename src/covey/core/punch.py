"""When to probe which pair: one round of challenges towards a peer's candidates (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from covey.core import limits
from covey.core.path import Route

__all__ = ["PunchRound"]

_SHORTEST_GAP: Final = 5.0
"""Seconds between two rounds at least."""
_EXPECTED_LIMIT: Final = 9 * limits.PROBE_PAIRS


class PunchRound:
    """The schedule of one round, and the challenges that wait for their answers."""

    __slots__ = ("_expected", "_next", "_routes", "_start", "_wanted")

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._start: float | None = None
        self._next = 0
        self._wanted = False
        self._expected: dict[bytes, tuple[Route, float]] = {}

    def start_soon(self, routes: list[Route]) -> None:
        """A new round, with the next `due`; a round that runs goes on with the new routes."""
        self._routes = routes
        self._wanted = bool(routes)

    def expect(self, data: bytes, route: Route, now: float) -> None:
        """A challenge with these 8 bytes goes out on `route`."""
        self._expected[data] = (route, now)
        while len(self._expected) > _EXPECTED_LIMIT:
            self._expected.pop(next(iter(self._expected)))

    def answered(self, data: bytes) -> tuple[Route, float] | None:
        """The route and time of the challenge that `data` answers; None if there was none."""
        return self._expected.pop(data, None)

    @property
    def running(self) -> bool:
        """Pairs are being probed, or will be."""
        return self._wanted or (self._start is not None and self._next < len(limits.PROBE_SCHEDULE))

    def deadline(self) -> float | None:
        if self._wanted:
            if self._start is None:
                return 0.0
            return self._start + _SHORTEST_GAP
        if self._start is None or self._next >= len(limits.PROBE_SCHEDULE):
            return None
        return self._start + limits.PROBE_SCHEDULE[self._next]

    def due(self, now: float, routes: Callable[[], list[Route]]) -> list[Route]:
        """The routes to challenge now. `routes` gives those that are still unproven."""
        if self._wanted and (self._start is None or now >= self._start + _SHORTEST_GAP):
            self._wanted = False
            self._start = now
            self._next = 0
        if self._start is None or self._next >= len(limits.PROBE_SCHEDULE):
            return []
        if now < self._start + limits.PROBE_SCHEDULE[self._next]:
            return []
        self._next += 1
        self._routes = routes()
        return self._routes
