"""The WebSocket to one rendezvous, for when UDP does not reach it (DESIGN 6, tier B).

UDP has a head start. If nothing has answered by then, the WebSocket is opened beside it, and tried again for as long as
somebody needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from covey.base.errors import CoveyError
from covey.base.types import parse_endpoint
from covey.core.path import Route
from covey.node.transport import Transport

__all__ = ["HEAD_START", "Fallback"]

HEAD_START: Final = 0.5
"""Seconds without an answer by UDP until TCP is tried, too: two record requests, twice the round trip to anywhere."""
_PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Waits after an attempt that failed; the last repeats."""


class Fallback:
    """`need` it, and `on_open(route)` follows as soon as the WebSocket is open; `stop` it when it is needed no more.

    `needed()` is asked when the head start is over: perhaps there was an answer.

    `endpoints` are those of the ticket; without any, `need` does nothing.
    """

    def __init__(
        self,
        transport: Transport,
        endpoints: Sequence[str],
        needed: Callable[[], bool],
        on_open: Callable[[Route], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.route: Route | None = None
        """Over the WebSocket, while it is open."""
        self.problem = ""
        """Why there is none, if that was tried."""
        self._transport = transport
        self._endpoints = endpoints
        self._needed = needed
        self._on_open = on_open
        self._on_lost = on_lost
        self._opening: asyncio.Task[None] | None = None

    @property
    def possible(self) -> bool:
        return bool(self._endpoints)

    def need(self, head_start: float = HEAD_START) -> None:
        """Opens it after `head_start` seconds, unless it is open or that is under way."""
        if self._endpoints and self.route is None and self._opening is None:
            self._opening = self._transport.spawn(self._open(head_start), "open WebSocket")

    def stop(self) -> None:
        """Closes it, or stops trying to open it."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.route is not None:
            index, self.route = self.route.local, None
            self._transport.websockets.remove(index)
        self.problem = ""

    async def _open(self, head_start: float) -> None:
        await asyncio.sleep(head_start)
        if not self._needed():
            self._opening = None
            return
        tries = 0
        while not await self._try():
            jitter = self._transport.host.random(1)[0] / 256
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)] * (0.5 + jitter))
            tries += 1

    async def _try(self) -> bool:
        for text in self._endpoints:
            try:
                port = await self._transport.host.websocket(parse_endpoint(text))
            except CoveyError as error:
                self.problem = error.message
                continue
            index = self._transport.websockets.add(port, self._lost)
            self.route = Route(index, port.remote)
            self.problem = ""
            self._opening = None
            self._on_open(self.route)
            return True
        return False

    def _lost(self) -> None:
        self.route = None
        self._on_lost()
