"""The agent's side of one rendezvous: keeps a session with it, publishes, asks, and hears what it pushes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final, TypeVar

from covey.base.errors import CoveyError, ParseError, StateError, UnreachableError
from covey.base.schema import RendezvousView
from covey.base.types import Endpoint as Address
from covey.base.types import Identity, endpoint_text, identity_text, parse_endpoint
from covey.core.events import RecordReceived
from covey.core.handshake import Target
from covey.core.path import Route
from covey.node.comeback import Comeback
from covey.node.rendezvous_ways import RendezvousWays
from covey.node.transport import Stream, Transport
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader
from covey.wire.ticket import TicketEntry

__all__ = ["RendezvousClient", "may_see"]

_KEEPALIVE: Final = 25.0
"""Seconds between pings on an otherwise silent session: below the 30 s after which the quickest NATs forget."""
_CALL_SECONDS: Final = 5.0
_PUBLISH_SECONDS: Final = 3600.0
"""What changes is published at once, and so is everything to a rendezvous that we connect with; this is for one that
lost its cache and not its sessions. Records live 24 h."""
_PUBLISH_PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Waits after a publication that failed; the last repeats."""
_PATIENCE_SECONDS: Final = 1.0
"""A request unanswered for this long, or three PTOs, makes a rendezvous silent: the other one is relied upon. The same
as what makes a path dead (PROTOCOL 29), and far below the keepalive."""
_PATIENCE_LIMIT: Final = 2.0
"""One that is farther away than this is asked, but the others' answers must do."""
_HANGS_SECONDS: Final = 10.0
"""One that has been silent for so long, and is again, may have lost the thread: a session from its beginning."""
_OBSERVED_SECONDS: Final = 5.0
"""Least time between two changes of what it says our address is: each is told to every peer."""
_UNASKED_LIMIT: Final = 256
_UNASKED_SECONDS: Final = 60.0
"""So many messages that answer nothing we are waiting for are taken in so much time: pushes, and answers too late."""

M = TypeVar("M", bound=wire.Message)


class RendezvousClient:
    """One entry of the ticket. Run `run()` as a task; it never ends by itself.

    `signed()` gives what to publish (None: nothing yet). `on_present(identity)` hears of a watched agent that
    appeared, `on_change()` that `view()` gives something else than before. `on_draining(client)` is awaited when the
    rendezvous says that it is about to stop; when it returns True we leave it at once, else when it goes. `on_mail` is
    told the rendezvous' identity when it says that a letter waits, `on_routes` the endpoints that it is reached at.

    What it pushes is advice, and a rendezvous may lie: an appearance counts if we asked for it, an address if packets
    could come from there, and neither oftener than an honest one would say it.
    """

    def __init__(
        self,
        transport: Transport,
        entry: TicketEntry,
        *,
        signed: Callable[[], wire.Signed | None],
        on_present: Callable[[Identity], None],
        on_change: Callable[[], None],
        on_mail: Callable[[Identity], None],
        on_draining: Callable[[RendezvousClient], Awaitable[bool]],
        on_routes: Callable[[Identity, Sequence[Address]], None],
    ) -> None:
        self.identity = entry.identity
        self.observed: Address | None = None
        """Our own endpoint as this rendezvous sees it."""
        self.name_outcome = wire.NAME_NONE
        """What became of the name in the record published last."""
        self.silent = False
        """It left a request unanswered for longer than our patience, and has said nothing since."""
        self.draining = False
        """It said that it is about to stop."""
        self.problem = "not reached yet"
        self._entry = entry
        self._transport = transport
        self._signed = signed
        self._on_present = on_present
        self._on_change = on_change
        self._on_mail = on_mail
        self._on_draining = on_draining
        self._stream: Stream | None = None
        self._calls: dict[int, asyncio.Future[wire.Message]] = {}
        self._number = 0
        self._messages = 0
        """How many it has sent, ever."""
        self._publish = asyncio.Event()
        self._published = asyncio.Event()
        self._stalled = asyncio.Event()
        self._connected = asyncio.Event()
        self._tried = asyncio.Event()
        self._leaving = asyncio.Event()
        self._hangs = asyncio.Event()
        self._hope = asyncio.Event()
        self._silent_since = 0.0
        self._watched: set[Identity] = set()
        self._comeback = Comeback(transport.host.now, transport.host.random)
        self._said_endpoint: Address | None = None
        self._observing: asyncio.TimerHandle | None = None
        self._unasked = 0
        self._unasked_since = 0.0
        self._ways = RendezvousWays(transport, entry, on_way=self._on_way, on_routes=on_routes)

    @property
    def connected(self) -> bool:
        return self._stream is not None and self._transport.live(self.identity) is not None

    @property
    def tried(self) -> bool:
        """We know whether it can be reached: the first attempt came to an end, good or bad."""
        return self._tried.is_set()

    @property
    def attachment(self) -> object:
        """Another object with every new stream to it; None while there is none."""
        return self._stream

    @property
    def endpoint(self) -> Address | None:
        """Where its sessions begin by UDP, as an IP literal."""
        return self._ways.endpoint

    @property
    def relay(self) -> Address | None:
        """Where it relays from, as far as we know."""
        return self.endpoint if self._ways.route is None else self._ways.route.remote

    @property
    def by_websocket(self) -> bool:
        """Connected, and by a WebSocket: no answer came over UDP."""
        return self.connected and self._ways.by_websocket

    @property
    def rtt(self) -> float:
        """Smoothed round trip, seconds; the initial guess of the core before it was measured."""
        connection = self._transport.live(self.identity)
        return connection.session.active.recovery.rtt.smoothed if connection and connection.session else 0.0

    @property
    def measured_rtt(self) -> float | None:
        """Smoothed round trip, seconds; None before it was measured."""
        connection = self._transport.live(self.identity)
        rtt = connection.session.active.recovery.rtt if connection and connection.session else None
        return rtt.smoothed if rtt is not None and rtt.sampled else None

    @property
    def patience(self) -> float:
        """How long a request may stay unanswered before it is silent, seconds."""
        connection = self._transport.live(self.identity)
        if connection is None or connection.session is None:
            return _PATIENCE_SECONDS
        return min(max(_PATIENCE_SECONDS, 3 * connection.session.active.recovery.rtt.pto()), _PATIENCE_LIMIT)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the ticket says that it listens, `HOST:PORT`."""
        return self._entry.endpoints

    async def wait_connected(self) -> None:
        await self._connected.wait()

    async def wait_tried(self) -> None:
        """Until `tried`."""
        await self._tried.wait()

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
            problem="" if self.connected and not self.silent else self.problem,
            silent=self.silent,
            name=wire.NAME_OUTCOMES[self.name_outcome] if self.connected else "",
            transport="websocket" if self.by_websocket else "udp",
        )

    def publish_soon(self) -> None:
        """Our record changed."""
        self._published.clear()
        self._publish.set()

    def rename(self) -> None:
        """Our record changed, and with it our name: what became of the old one counts no more."""
        self.name_outcome = wire.NAME_NONE
        self.publish_soon()

    def on_record(self, event: RecordReceived) -> None:
        self._ways.on_record(event)

    def on_paths(self) -> None:
        """The paths of the session with it changed."""
        self._ways.on_paths()

    def on_suspected(self) -> None:
        """Its session has no way left that answers, as far as can be seen by now."""
        self._ways.on_trouble()

    def on_stalled(self) -> None:
        self._stalled.set()

    def on_network_change(self) -> None:
        """Our own network is another one: no pause between attempts makes sense any more."""
        self._hope.set()

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
        route = self._ways.look()
        return None if route is None else Route(route.local, route.remote, answer.circuit)

    async def watch(self, identity: Identity) -> None:
        """Asks for one `on_present` when the agent is (or already was) connected here."""
        self._watched.add(identity)
        await self._call(wire.Watch(self._next(), identity), wire.Done)

    async def vouch(self, identity: Identity, host: str) -> bool:
        """Whether the agent is connected here from this address."""
        return (await self._call(wire.Vouch(self._next(), identity, host), wire.Vouched)).seen

    async def open_box(self, key: bytes) -> None:
        """From now on it takes sealed letters for us. Our record must have been published."""
        await self._call(wire.OpenBox(self._next(), key), wire.Done)

    async def ask_box(self, identity: Identity) -> bytes:
        """The mailbox key of an agent, unverified; b"" if it takes no letters for it."""
        return (await self._call(wire.AskBox(self._next(), identity), wire.Box)).key

    async def deposit(self, deposit_id: bytes, recipient: Identity, sealed: bytes) -> None:
        """Returns when it says that the letter is on its disk."""
        await self._call(wire.Deposit(self._next(), deposit_id, recipient, sealed), wire.Stored)

    async def collect(self, after: int) -> wire.Letters:
        """Our letters above a number of its own."""
        return await self._call(wire.Collect(self._next(), after), wire.Letters)

    async def clear(self, numbers: Sequence[int]) -> None:
        """These letters are settled."""
        for start in range(0, len(numbers), wire.LETTERS_LIMIT):
            part = tuple(numbers[start : start + wire.LETTERS_LIMIT])
            await self._call(wire.Clear(self._next(), part), wire.Done)

    async def _call(self, message: wire.Message, kind: type[M]) -> M:
        stream = self._stream
        if stream is None:
            raise UnreachableError("the rendezvous is not connected", code="no-rendezvous", next_step="covey status")
        future: asyncio.Future[wire.Message] = asyncio.get_running_loop().create_future()
        self._calls[message.number] = future
        # Also when whoever asks stops waiting: it was asked.
        impatient = asyncio.get_running_loop().call_later(self.patience, self._fell_silent, stream, self._messages)
        answered = False
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await stream.write(wire.encode(message))
                answer = await future
                answered = True
        except TimeoutError:
            raise UnreachableError("the rendezvous does not answer", code="no-rendezvous") from None
        finally:
            if answered:
                impatient.cancel()
            self._calls.pop(message.number, None)
        if isinstance(answer, wire.Failed):
            raise UnreachableError(f"the rendezvous refuses: {answer.message}", code=answer.code)
        if not isinstance(answer, kind):
            raise ParseError("the rendezvous answered something else")
        return answer

    def _next(self) -> int:
        self._number = self._number % 0xFFFFFFFF + 1
        return self._number

    def _fell_silent(self, stream: Stream, messages: int) -> None:
        """It has said nothing since the request, when there had been so many `messages`."""
        if stream is not self._stream or messages != self._messages:
            return
        now = self._transport.host.now()
        if self.silent and now - self._silent_since >= _HANGS_SECONDS:
            self._hangs.set()
        elif not self.silent:
            self._silent_since = now
            self.silent = True
            self.problem = "it does not answer"
            self._on_change()

    def _heard(self) -> None:
        self._messages += 1
        if self.silent:
            self.silent = False
            self.problem = ""
            self._on_change()

    # --- the session -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            self._comeback.begin()
            try:
                await self._attend()
            except CoveyError as error:
                self.problem = error.message
            finally:
                self._disconnected()
            self._hope.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._comeback.pause()):
                    await self._hope.wait()

    async def _attend(self) -> None:
        """One session from beginning to end; raises what ended it."""
        transport = self._transport
        target = await self._ways.find()
        connection = await self._ways.connect(target, self._comeback.patience)
        self._comeback.connected()
        connection.admit(direct=False)
        connection.keepalive = _KEEPALIVE
        self._stalled.clear()
        self._leaving.clear()
        self._hangs.clear()
        stream = self._stream = await transport.open(connection, wire.SERVICE)
        work = (
            self._read(stream),
            self._revive(target),
            self._ways.return_to_udp(connection),
            self._keep_publishing(),
            self._leave(),
            self._give_up(),
        )
        parts = [asyncio.ensure_future(part) for part in work]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            stream.abort()
            if self._leaving.is_set():
                transport.close_connection(connection)

    async def _give_up(self) -> None:
        await self._hangs.wait()
        raise UnreachableError("the rendezvous does not answer", code="no-rendezvous")

    async def _revive(self, target: Target) -> None:
        """When nothing answers any more, new keys over the same connection: its stream and calls go on.

        If that fails too, it may have another address or key by now: UnreachableError, and we begin at the beginning.
        """
        while True:
            await self._stalled.wait()
            self._stalled.clear()
            self._on_change()
            self._ways.on_trouble()
            await self._ways.connect(target)
            self._on_change()

    async def _leave(self) -> None:
        """Ends the session when the rendezvous is about to stop and we need it no more."""
        await self._leaving.wait()
        under_way = list(self._calls.values())
        if under_way:
            await asyncio.wait(under_way, timeout=_PATIENCE_SECONDS)
        raise StateError("the rendezvous is stopping", code="rendezvous-draining")

    async def _keep_publishing(self) -> None:
        failures = 0
        while True:
            self._publish.clear()
            signed = self._signed()
            if signed is not None:
                try:
                    answer = await self._call(wire.Publish(self._next(), signed), wire.Published)
                except CoveyError as error:
                    self.problem = f"{error.message} ({error.code})"
                    await asyncio.sleep(_PUBLISH_PAUSES[min(failures, len(_PUBLISH_PAUSES) - 1)])
                    failures += 1
                    continue
                failures = 0
                self.name_outcome = answer.name
                if not self._publish.is_set():  # else it changed again meanwhile
                    self._published.set()
                self.problem = ""
                self._tried.set()
                self._connected.set()
                self._on_change()
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
        self._heard()
        future = self._calls.get(message.number) if message.number else None
        if future is not None:
            if not future.done():
                future.set_result(message)
            return
        self._count_unasked()
        if isinstance(message, wire.Observed):
            self._on_observed(parse_endpoint(message.endpoint))
        elif isinstance(message, wire.Present):
            if message.identity in self._watched:
                self._watched.remove(message.identity)
                self._on_present(message.identity)
        elif isinstance(message, wire.Mail):
            self._on_mail(self.identity)
        elif isinstance(message, wire.Restarting) and not self.draining:
            self._comeback.restarting(message.after_ms / 1000, message.for_ms / 1000)
            self.draining = True
            self._transport.spawn(self._move_away(), "leave the rendezvous")
            self._on_change()

    def _count_unasked(self) -> None:
        now = self._transport.host.now()
        if now - self._unasked_since > _UNASKED_SECONDS:
            self._unasked, self._unasked_since = 0, now
        self._unasked += 1
        if self._unasked > _UNASKED_LIMIT:
            raise StateError("the rendezvous says too much that nobody asked for", code="rendezvous-floods")

    async def _move_away(self) -> None:
        if await self._on_draining(self) and self.draining:
            self._leaving.set()

    def _on_way(self, route: Route) -> None:
        if route.websocket:
            self.observed = self._said_endpoint = None  # where a connection comes from, nobody can send packets to
        self._on_change()

    def _on_observed(self, endpoint: Address) -> None:
        """It says where our packets come from. An address that cannot be is not believed (PROTOCOL 25)."""
        if self._ways.by_websocket:
            return
        if self.endpoint is None or not may_see(self.endpoint, endpoint):
            return
        self._said_endpoint = endpoint
        if self._observing is None:
            self._take_observed()

    def _take_observed(self) -> None:
        self._observing = None
        if self._said_endpoint != self.observed:
            self.observed = self._said_endpoint
            self._observing = asyncio.get_running_loop().call_later(_OBSERVED_SECONDS, self._take_observed)
            self._on_change()

    def _disconnected(self) -> None:
        self._stream = None
        self._ways.ended()
        self.problem = self.problem or "the connection was lost"
        self.silent = self.draining = False
        self._tried.set()
        self.name_outcome = wire.NAME_NONE
        self._connected.clear()
        self._published.clear()
        self._watched.clear()
        if self._observing is not None:
            self._observing.cancel()
            self._observing = None
        for future in self._calls.values():
            if not future.done():
                future.set_exception(UnreachableError("the rendezvous was lost", code="no-rendezvous"))
                future.exception()
        self._on_change()


def may_see(from_endpoint: Address, observed: Address) -> bool:
    """Whether a server there can receive packets from such an address, and anybody else send any to it.

    It is of the same family, and of this machine alone only if the server is on this machine. A scope (fe80::1%2) means
    nothing elsewhere.
    """
    if "%" in observed[0]:
        return False
    theirs, ours = ip_address(from_endpoint[0].partition("%")[0]), ip_address(observed[0])
    return theirs.version == ours.version and (theirs.is_loopback or not ours.is_loopback)
