"""Callers that wait until something is known about a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from covey.base.types import Identity

__all__ = ["Waits"]


class Waits:
    """`until` waits for a condition about a peer; `look` says that it may hold now."""

    def __init__(self) -> None:
        self._waiting: dict[Identity, set[asyncio.Event]] = {}

    async def until(self, identity: Identity, condition: Callable[[], bool], seconds: float) -> None:
        """Returns when `condition()` holds, or after `seconds`."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(identity, set())
        waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await event.wait()
                    event.clear()
        except TimeoutError:
            return
        finally:
            waiting.discard(event)
            if not waiting and self._waiting.get(identity) is waiting:
                del self._waiting[identity]

    def look(self, identity: Identity) -> None:
        """Something about this peer has changed."""
        for event in self._waiting.get(identity, ()):
            event.set()
