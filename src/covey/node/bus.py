"""Events for whoever follows this node: the local API's stream, the SDK, tests."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Any, Final

__all__ = ["Bus"]

_QUEUE: Final = 1024
"""Events that may wait for a slow follower; then the oldest go, and it gets an `events.lost` with their number."""


class Bus:
    """`publish` never waits and never fails; every follower gets every event from when it began to follow."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[_Follower]] = []
        """Weak, in the order of their calls: one that is dropped, even before its first event, is gone."""

    def publish(self, event: str, time: float, **details: Any) -> None:
        for follower in self._followers:
            follower.put({"event": event, "time": time, **details})

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Registered at once, not at the first `anext`, so that nothing in between is missed."""
        follower = _Follower()
        self._references.append(weakref.ref(follower))
        return follower

    def close(self) -> None:
        for follower in self._followers:
            follower.put(None)

    @property
    def _followers(self) -> list[_Follower]:
        alive = [(reference, reference()) for reference in self._references]
        self._references = [reference for reference, follower in alive if follower is not None]
        return [follower for _, follower in alive if follower is not None]


class _Follower:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._lost = 0
        self._lost_at = 0.0
        self._ended = False

    def __aiter__(self) -> _Follower:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"event": "events.lost", "time": self._lost_at, "count": lost}
        event = None if self._ended else await self._queue.get()
        if event is None:
            self._ended = True
            raise StopAsyncIteration
        return event

    def put(self, event: dict[str, Any] | None) -> None:
        if self._queue.qsize() >= _QUEUE:
            oldest = self._queue.get_nowait()
            if oldest is not None:
                self._lost += 1
                self._lost_at = oldest["time"]
        self._queue.put_nowait(event)
