"""Waiting before the next try: longer each time, shorter when there is a reason to hope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["LONGEST", "LONGEST_WATCHED", "Retry"]

_FIRST: Final = 0.25
LONGEST: Final = 15.0
"""Seconds between tries while nobody would tell us that the peer is back ..."""
LONGEST_WATCHED: Final = 300.0
"""... and while a rendezvous does (it was asked to: WATCH)."""


_HOPED_SECOND: Final = 0.02
_HOPED_LONGEST: Final = 5.0
"""From the second time on there is a pause in spite of hope, seconds. It doubles: deceit cannot drive us."""


class Retry:
    """`await pause()` between tries; `hope()` cuts a running pause short; `reset()` after a success."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._delay = _FIRST
        self._hoped = 0.0
        self._hope = asyncio.Event()

    def hope(self) -> None:
        self._hope.set()

    def reset(self) -> None:
        self._delay = _FIRST
        self._hoped = 0.0
        self._hope.clear()

    async def pause(self, longest: float = LONGEST) -> None:
        """The delay doubles up to `longest` seconds, times 0.5 to 1: who failed together need not return together."""
        delay = min(self._delay, longest) * (0.5 + self._random(1)[0] / 510)
        self._delay = min(2 * self._delay, longest)
        try:
            async with asyncio.timeout(delay):
                await self._hope.wait()
                hoped, self._hoped = self._hoped, min(max(2 * self._hoped, _HOPED_SECOND), _HOPED_LONGEST)
                await asyncio.sleep(hoped)
        except TimeoutError:
            return
        finally:
            self._hope.clear()
