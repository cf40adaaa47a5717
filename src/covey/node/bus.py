"""Events for whoever follows this node: the local API's stream, the SDK, tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

__all__ = ["Bus"]

_QUEUE: Final = 1024
"""Events that may wait for a slow follower; then the oldest go, and it gets an `events.lost` with their number."""


class Bus:
    """`publish` never waits and never fails; every follower gets every event from when it began to follow."""

    def __init__(self) -> None:
        self._followers: set[_Follower] = set()

    def publish(self, event: str, time: float, **details: Any) -> None:
        for follower in self._followers:
            follower.put({"event": event, "time": time, **details})

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Registered at once, not at the first `anext`, so that nothing in between is missed."""
        follower = _Follower()
        self._followers.add(follower)
        return self._iterate(follower)

    def close(self) -> None:
        for follower in self._followers:
            follower.put(None)

    async def _iterate(self, follower: _Follower) -> AsyncIterator[dict[str, Any]]:
        try:
            while (event := await follower.get()) is not None:
                yield event
        finally:
            self._followers.discard(follower)


class _Follower:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._lost = 0

    def put(self, event: dict[str, Any] | None) -> None:
        if self._queue.qsize() >= _QUEUE:
            self._queue.get_nowait()
            self._lost += 1
        self._queue.put_nowait(event)

    async def get(self) -> dict[str, Any] | None:
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"event": "events.lost", "count": lost}
        return await self._queue.get()
