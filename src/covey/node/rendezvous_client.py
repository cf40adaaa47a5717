"""The agent's side of one rendezvous: keeps a session with it, publishes, asks, and hears what it pushes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from covey.base.errors import CoveyError, ParseError, StateError, UnreachableError
from covey.base.schema import RendezvousView
from covey.base.types import Endpoint as Address
from covey.base.types import Identity, endpoint_text, identity_text, parse_endpoint
from covey.core.events import RecordReceived
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.node.transport import Stream, Transport
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader
from covey.wire.ticket import TicketEntry

__all__ = ["RendezvousClient"]

_KEEPALIVE: Final = 20.0
"""Seconds between pings on an otherwise silent session: below the 30 s after which the quickest NATs forget."""
_CALL_SECONDS: Final = 5.0
_ASK_SECONDS: Final = (0.25, 0.5, 1.0, 2.0)
"""Waits after each record request."""
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to reach it; the last repeats."""
_PUBLISH_SECONDS: Final = 300.0

M = TypeVar("M", bound=wire.Message)


class RendezvousClient:
    """One entry of the ticket. Run `run()` as a task; it never ends by itself.

    `signed()` gives what to publish (None: nothing yet). `on_present(identity)` hears of a watched agent that
    appeared, `on_change()` that `view()` gives something else than before.
    """

    def __init__(
        self,
        transport: Transport,
        entry: TicketEntry,
        *,
        signed: Callable[[], wire.Signed | None],
        on_present: Callable[[Identity], None],
        on_change: Callable[[], None],
    ) -> None:
        self.identity = entry.identity
        self.observed: Address | None = None
        """Our own endpoint as this rendezvous sees it."""
        self.name_outcome = wire.NAME_NONE
        """What became of the name in the record published last."""
        self.problem = "not reached yet"
        self.endpoint: Address | None = None
        self._entry = entry
        self._transport = transport
        self._signed = signed
        self._on_present = on_present
        self._on_change = on_change
        self._stream: Stream | None = None
        self._target: Target | None = None
        self._calls: dict[int, asyncio.Future[wire.Message]] = {}
        self._number = 0
        self._records: asyncio.Queue[RecordReceived] = asyncio.Queue(16)
        self._publish = asyncio.Event()
        self._published = asyncio.Event()
        self._stalled = asyncio.Event()
        self._connected = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._stream is not None and self._transport.live(self.identity) is not None

    async def wait_connected(self) -> None:
        await self._connected.wait()

    async def wait_published(self) -> None:
        """Until it has our present record."""
        await self._published.wait()

    def view(self) -> RendezvousView:
        connection = self._transport.live(self.identity)
        session = connection.session if connection is not None else None
        rtt = session.active.recovery.rtt if session is not None else None
        return RendezvousView(
            identity=identity_text(self.identity),
            endpoint=endpoint_text(self.endpoint) if self.endpoint else self._entry.endpoints[0],
            connected=self.connected,
            rtt_ms=round(rtt.smoothed * 1000, 3) if rtt is not None and rtt.sampled else None,
            observed=endpoint_text(self.observed) if self.observed else "",
            problem="" if self.connected else self.problem,
        )

    def publish_soon(self) -> None:
        """Our record changed."""
        self._published.clear()
        self._publish.set()

    def on_record(self, event: RecordReceived) -> None:
        if event.identity == self.identity and not self._records.full():
            self._records.put_nowait(event)

    def on_stalled(self) -> None:
        self._stalled.set()

    # --- requests --------------------------------------------------------------------------------------------------

    async def lookup(self, by: int, key: bytes) -> tuple[wire.Signed, ...]:
        """Whoever claims this identity, address or name here; unverified."""
        return (await self._call(wire.Lookup(self._next(), by, key), wire.Found)).claims

    async def introduce(self, identity: Identity) -> Route | None:
        """A relayed route to an agent, if it is connected here."""
        answer = await self._call(wire.Introduce(self._next(), identity), wire.Introduced)
        if answer.circuit == 0:
            return None
        # Where our own packets to the rendezvous go is where it relays from.
        connection = self._transport.live(self.identity)
        if connection is None or connection.session is None:
            return None
        route = connection.session.active.route
        return Route(route.local, route.remote, answer.circuit)

    async def watch(self, identity: Identity) -> None:
        """Asks for one `on_present` when the agent is (or already was) connected here."""
        await self._call(wire.Watch(self._next(), identity), wire.Done)

    async def _call(self, message: wire.Message, kind: type[M]) -> M:
        stream = self._stream
        if stream is None:
            raise UnreachableError("the rendezvous is not connected", code="no-rendezvous", next_step="covey status")
        future: asyncio.Future[wire.Message] = asyncio.get_running_loop().create_future()
        self._calls[message.number] = future
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await stream.write(wire.encode(message))
                answer = await future
        except TimeoutError:
            raise UnreachableError("the rendezvous does not answer", code="no-rendezvous") from None
        finally:
            self._calls.pop(message.number, None)
        if isinstance(answer, wire.Failed):
            raise UnreachableError(f"the rendezvous refuses: {answer.message}", code=answer.code)
        if not isinstance(answer, kind):
            raise ParseError("the rendezvous answered something else")
        return answer

    def _next(self) -> int:
        self._number = self._number % 0xFFFFFFFF + 1
        return self._number

    # --- the session -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        tries = 0
        while True:
            try:
                await self._attend()
                tries = 0
            except CoveyError as error:
                if self._connected.is_set():
                    tries = 0
                self.problem = error.message
            finally:
                self._disconnected()
            jitter = self._transport.host.random(1)[0] / 256
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)] * (0.5 + jitter))
            tries += 1

    async def _attend(self) -> None:
        """One session from beginning to end; raises what ended it."""
        transport = self._transport
        routes = await self._routes()
        if self._target is None:
            self._target = await self._ask_target(routes)
        connection = transport.connect(self._target, routes)
        try:
            connection = await transport.wait_live(self.identity)
        except UnreachableError:
            self._target = None  # perhaps its key is another one by now
            raise
        connection.admit(direct=False)
        connection.keepalive = _KEEPALIVE
        self._stalled.clear()
        stream = self._stream = await transport.open(connection, wire.SERVICE)
        watcher = transport.spawn(self._revive(routes), "rendezvous revive")
        publisher = transport.spawn(self._keep_publishing(), "rendezvous publish")
        try:
            await self._read(stream)
        finally:
            watcher.cancel()
            publisher.cancel()
            stream.abort()

    async def _routes(self) -> list[Route]:
        transport = self._transport
        found: list[Address] = []
        for text in self._entry.endpoints:
            found += await transport.host.resolve(*parse_endpoint(text))
        routes = [route for route in (transport.route(address) for address in found) if route is not None]
        if not routes:
            raise UnreachableError(
                f"none of {', '.join(self._entry.endpoints)} is of an address family this machine has",
                code="no-route",
            )
        transport.endpoint.relays.update(route.remote for route in routes)
        self.endpoint = routes[0].remote
        return routes

    async def _ask_target(self, routes: list[Route]) -> Target:
        """Its present transport key, from its own signed record (PROTOCOL 5)."""
        transport = self._transport
        while not self._records.empty():
            self._records.get_nowait()
        for wait in _ASK_SECONDS:
            for route in routes:
                transport.endpoint.request_record(self.identity, route)
            transport.wake()
            try:
                async with asyncio.timeout(wait):
                    while True:
                        target = self._check_record(await self._records.get())
                        if target is not None:
                            return target
            except TimeoutError:
                continue
        raise UnreachableError(
            f"the rendezvous at {', '.join(self._entry.endpoints)} does not answer",
            code="no-rendezvous",
            next_step="check that it runs and that UDP to it is allowed",
        )

    def _check_record(self, event: RecordReceived) -> Target | None:
        try:
            record = Record.parse(event.record)
            if record.identity != self.identity:
                return None
            if event.log:
                log = KeyLog.parse(event.log)
                record.verify(log, self._transport.host.wall_us())
                self._transport.endpoint.add_log(log)
            # Without the log the key is only a claim; the session fetches the log before anything else counts.
        except CoveyError:
            return None
        return Target(self.identity, record.certificate.public)

    async def _revive(self, routes: list[Route]) -> None:
        """When nothing answers any more, new keys over the same connection: its stream and calls go on."""
        while True:
            await self._stalled.wait()
            self._stalled.clear()
            self._on_change()
            if self._target is not None:
                self._transport.connect(self._target, routes)
                try:
                    await self._transport.wait_live(self.identity)
                except UnreachableError:
                    self._stalled.set()
            self._on_change()

    async def _keep_publishing(self) -> None:
        while True:
            self._publish.clear()
            signed = self._signed()
            if signed is not None:
                try:
                    answer = await self._call(wire.Publish(self._next(), signed), wire.Published)
                    self.name_outcome = answer.name
                    if not self._publish.is_set():  # else it changed again meanwhile
                        self._published.set()
                    self.problem = ""
                    self._connected.set()
                    self._on_change()
                except CoveyError as error:
                    self.problem = f"{error.message} ({error.code})"
                    await asyncio.sleep(1.0)
                    continue
            try:
                async with asyncio.timeout(_PUBLISH_SECONDS):
                    await self._publish.wait()
            except TimeoutError:
                continue

    async def _read(self, stream: Stream) -> None:
        reader = FrameReader(wire.FRAME_LIMIT)
        while data := await stream.read():
            for kind, body in reader.feed(data):
                self._on_message(wire.parse(kind, body))
        raise StateError("the rendezvous closed the session", code="no-rendezvous")

    def _on_message(self, message: wire.Message) -> None:
        future = self._calls.get(message.number) if message.number else None
        if future is not None:
            if not future.done():
                future.set_result(message)
        elif isinstance(message, wire.Observed):
            observed = parse_endpoint(message.endpoint)
            if observed != self.observed:
                self.observed = observed
                self._on_change()
        elif isinstance(message, wire.Present):
            self._on_present(message.identity)
        elif isinstance(message, wire.Draining):
            raise StateError("the rendezvous is stopping", code="rendezvous-draining")

    def _disconnected(self) -> None:
        self._stream = None
        self.problem = self.problem or "the connection was lost"
        self._connected.clear()
        self._published.clear()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(UnreachableError("the rendezvous was lost", code="no-rendezvous"))
                future.exception()
        self._on_change()
