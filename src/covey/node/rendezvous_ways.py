"""The ways to one rendezvous: by UDP, and by a WebSocket when that does not answer; and the one its session takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Final

from covey.base.errors import CoveyError, UnreachableError
from covey.base.types import Endpoint as Address
from covey.base.types import Identity, parse_endpoint
from covey.core.connection import Connection
from covey.core.events import RecordReceived
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.node.fallback import HEAD_START, Fallback
from covey.node.transport import Transport
from covey.wire.ticket import TicketEntry

__all__ = ["RendezvousWays"]

_ASK_SECONDS: Final = (0.25, 0.5, 1.0, 2.0)
"""Waits after each record request."""
_UDP_PAUSES: Final = (1.0, 4.0, 15.0, 60.0, 300.0)
"""Waits between attempts to get back from a WebSocket to UDP; the last repeats."""
_OVERLAP_SECONDS: Final = 2.0
"""How long a WebSocket stays open after UDP works again: for what is under way, and for circuits to follow."""


class RendezvousWays:
    """`find` them, then `connect`; run `return_to_udp` as long as the session lasts, and call `ended` after it.

    Between, tell `on_record`, `on_paths` and `on_trouble`. `on_way(route)` hears that the session takes another way,
    `on_routes` the endpoints that the rendezvous is reached at.
    """

    def __init__(
        self,
        transport: Transport,
        entry: TicketEntry,
        *,
        on_way: Callable[[Route], None],
        on_routes: Callable[[Identity, Sequence[Address]], None],
    ) -> None:
        self.route: Route | None = None
        """The way that its session takes."""
        self.endpoint: Address | None = None
        """Where its sessions begin by UDP, as an IP literal."""
        self.udp: list[Route] = []
        self._transport = transport
        self._entry = entry
        self._on_way = on_way
        self._on_routes = on_routes
        self._target: Target | None = None
        self._records: asyncio.Queue[RecordReceived] = asyncio.Queue(16)
        self._changed = asyncio.Event()
        self._fallback = Fallback(
            transport, entry.websockets, self._in_trouble, self._on_websocket, self._on_websocket_lost
        )

    @property
    def by_websocket(self) -> bool:
        """Its session takes a WebSocket."""
        return self.route is not None and self.route.websocket

    def look(self) -> Route | None:
        """The way that its session takes at this moment."""
        connection = self._transport.live(self._entry.identity)
        if connection is None or connection.session is None:
            return None
        route = connection.session.active.route
        if not route.websocket:
            self.endpoint = route.remote
        return route

    # --- to a session ----------------------------------------------------------------------------------------------

    async def find(self) -> Target:
        """Where it is, and its transport key."""
        await self._find_udp()
        self._fallback.need(HEAD_START if self.udp else 0.0)
        if self._target is None:
            self._target = await self._ask_target()
        return self._target

    async def connect(self, target: Target, patience: float | None = None) -> Connection:
        """A session with new keys, over the connection that there is if there is one; within `patience` seconds.

        UnreachableError if nothing answers. It may have another address or key by now: begin with `find`.
        """
        transport = self._transport
        connection = transport.connect(target, self._routes)
        try:
            async with asyncio.timeout(patience):
                connection = await transport.wait_live(self._entry.identity)
        except UnreachableError:
            self._target = None
            raise
        except TimeoutError:
            transport.close_connection(connection)  # a new attempt asks sooner than this one would again
            raise UnreachableError("the rendezvous restarts", code="no-rendezvous") from None
        self._settle()
        return connection

    def ended(self) -> None:
        """There is no session with it any more."""
        self.route = None

    @property
    def _routes(self) -> list[Route]:
        """All ways to it that there are now."""
        return self.udp if self._fallback.route is None else [*self.udp, self._fallback.route]

    async def _find_udp(self) -> None:
        """Where it is by UDP. Who has a WebSocket to fall back to can do without, as behind a proxy without DNS."""
        transport = self._transport
        found: list[Address] = []
        for text in self._entry.endpoints:
            try:
                found += await transport.host.resolve(*parse_endpoint(text))
            except UnreachableError:
                if not self._fallback.possible:
                    raise
        self.udp = [route for route in (transport.route(address) for address in found) if route is not None]
        if self.udp:
            self._on_routes(self._entry.identity, [route.remote for route in self.udp])
            self.endpoint = self.udp[0].remote
        elif not self._fallback.possible:
            raise UnreachableError(
                f"none of {', '.join(self._entry.endpoints)} is of an address family this machine has",
                code="no-route",
            )

    async def _ask_target(self) -> Target:
        """Its present transport key, from its own signed record (PROTOCOL 5)."""
        transport = self._transport
        while not self._records.empty():
            self._records.get_nowait()
        for wait in _ASK_SECONDS:
            for route in self._routes:
                transport.endpoint.request_record(self._entry.identity, route)
            transport.wake()
            try:
                async with asyncio.timeout(wait):
                    while True:
                        target = self._check_record(await self._records.get())
                        if target is not None:
                            return target
            except TimeoutError:
                continue
        also = f"; {self._fallback.problem}" if self._fallback.problem else ""
        raise UnreachableError(
            f"the rendezvous at {', '.join(self._entry.endpoints)} does not answer{also}",
            code="no-rendezvous",
            next_step="check that it runs and that UDP to it is allowed",
        )

    def on_record(self, event: RecordReceived) -> None:
        if event.identity == self._entry.identity and not self._records.full():
            self._records.put_nowait(event)

    def _check_record(self, event: RecordReceived) -> Target | None:
        try:
            record = Record.parse(event.record)
            if record.identity != self._entry.identity:
                return None
            if event.log:
                log = KeyLog.parse(event.log)
                record.verify(log, self._transport.host.wall_us())
                self._transport.endpoint.add_log(log)
            # Without the log the key is only a claim; the session fetches the log before anything else counts.
        except CoveyError:
            return None
        return Target(self._entry.identity, record.certificate.public)

    # --- UDP, or a WebSocket -----------------------------------------------------------------------------------------

    def on_paths(self) -> None:
        """The paths of the session with it changed."""
        route = self.look()
        if route is None or route == self.route:
            return
        self.route = route
        transport = self._transport
        transport.endpoint.relays_used.move(transport.host.now(), self._entry.identity, route.local, route.remote)
        self._changed.set()
        self._on_way(route)

    def on_trouble(self) -> None:
        """As far as can be seen by now, no way that its session has answers any more."""
        self._fallback.need()

    def _in_trouble(self) -> bool:
        connection = self._transport.live(self._entry.identity)
        return connection is None or connection.session is None or connection.session.active.suspect

    def _on_websocket(self, route: Route) -> None:
        """It is open: whatever is being tried is tried that way, too."""
        transport = self._transport
        self._on_routes(self._entry.identity, [route.remote])
        if self._target is None:
            transport.endpoint.request_record(self._entry.identity, route)
            transport.wake()
            return
        connection = transport.live(self._entry.identity)
        if connection is None:
            transport.connect(self._target, [route])
        else:
            transport.endpoint.offer_routes(transport.host.now(), connection, [route])
            transport.wake()
            self._changed.set()

    def _on_websocket_lost(self) -> None:
        self._changed.set()

    def _settle(self) -> None:
        """A session is live: by UDP, then the WebSocket is not needed."""
        self.on_paths()
        if self.route is not None and not self.route.websocket:
            self._fallback.stop()

    async def return_to_udp(self, connection: Connection) -> None:
        """While its session takes the WebSocket: tries UDP from time to time, and goes back to it."""
        transport = self._transport
        while True:
            self._changed.clear()
            for pause in chain(_UDP_PAUSES, repeat(_UDP_PAUSES[-1])):
                if not self.by_websocket:
                    break
                transport.endpoint.offer_routes(transport.host.now(), connection, self.udp)
                transport.wake()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                self._changed.clear()
            if self._fallback.route is not None:
                # What is relayed for us follows, and so does the rendezvous as soon as it hears of us there.
                if connection.session is not None:
                    connection.session.keep_alive()
                transport.wake()
                await asyncio.sleep(_OVERLAP_SECONDS)
                self._settle()
            await self._changed.wait()
