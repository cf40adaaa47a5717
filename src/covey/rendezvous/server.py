"""The rendezvous on any host: who is connected, what they ask, and the circuits between them (DESIGN 7, PROTOCOL 25).

It keeps sessions with its clients like any agent and serves one service on them, `rendezvous`
(`wire/rendezvous.py`). Everything it answers is somebody's signed word, or advice that the client checks by using it:

========== ===========================================================================================================
PUBLISH    verified, put into the cache together with whatever else waits for the disk, answered when it is committed
LOOKUP     exact: identity, address or name. Nothing lists anything
INTRODUCE  a circuit of the relay if the other is connected here now, else 0
WATCH      one PRESENT when the other is there, perhaps at once
pushes     OBSERVED when the stream opens and when the client's address changes, PRESENT, DRAINING
========== ===========================================================================================================

A request that cannot be granted gets FAILED with the code of the error; bytes that are no request reset the stream. A
client is read at the pace of its token bucket and of its own reading (`limits.py`), so its memory here is bounded by
its flow-control window, one frame and its unacknowledged answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn

from covey.base.constants import RECORD_LIFE_SECONDS
from covey.base.errors import CoveyError, ParseError, StateError, StorageError, UsageError
from covey.base.types import Endpoint, Identity, endpoint_text
from covey.core import events
from covey.core.connection import Connection
from covey.core.relay import RelayTable
from covey.core.session import CloseCode
from covey.core.stream import StreamCode
from covey.crypto.certificates import SECOND_US
from covey.crypto.credentials import Credentials
from covey.crypto.record import Record
from covey.net.host import Host
from covey.node.transport import Stream, Transport
from covey.rendezvous.cache import Cache
from covey.rendezvous.client import Client
from covey.rendezvous.limits import LOG_BYTES_PER_TOKEN, REQUEST_BYTES, Limits
from covey.rendezvous.publication import check_publication
from covey.rendezvous.renewal import renewed
from covey.rendezvous.store import RendezvousStore
from covey.rendezvous.watches import Watches
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader
from covey.wire.ticket import Ticket, TicketEntry

__all__ = ["Counts", "Rendezvous"]

_log = logging.getLogger(__name__)

Save = Callable[[Credentials], None]

RECORD_SECONDS: Final = 300.0
"""Our own record is signed anew this often, as agents do (PROTOCOL 3)."""
HOUSEKEEPING_SECONDS: Final = 3600.0
"""How often keys and the cache are looked after."""
LOOK_FOR_ACKS_SECONDS: Final = 0.05
"""How often a client that is behind is looked at; it costs one timer, and only while it is behind."""
CLOSE_BATCH: Final = 32
"""Connections closed between two turns of the driver, which sends at most 64 trains in one."""
ERROR_TEXT_LIMIT: Final = 200
_ELSEWHERE: Final = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}
"""Documentation addresses (RFC 5737, 3849): the way to them is the default route."""
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


class Counts(NamedTuple):
    """What there is to say about a rendezvous without saying anything about a client."""

    clients: int
    watches: int
    circuits: int
    forwarded_bytes: int
    dropped_bytes: int
    requests: int
    turned_away: int
    records: int
    names: int


class Rendezvous:
    """One rendezvous. `start`, then `close`, once each, from a running loop.

    `listen` is an IP literal and a port (0: any). `advertise` are the endpoints of the ticket, `HOST:PORT`; None:
    derived from `listen`. `save` makes changed credentials durable before they are used; it runs on the host's writer
    thread, as everything that touches `store` does. The store stays open: it is the caller's.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials,
        store: RendezvousStore,
        *,
        listen: Endpoint,
        advertise: Sequence[str] | None = None,
        save: Save | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.credentials = credentials
        self.relay = RelayTable()
        self.listening: Endpoint = listen
        """Where it listens; after `start` with the real port."""
        self._host = host
        self._cache = Cache(host, store)
        self._advertise = advertise
        self._save = save
        self._limits = limits if limits is not None else Limits()
        self._transport: Transport | None = None
        self._clients: dict[Identity, Client] = {}
        self._watches = Watches(self._limits.watches)
        self._last_record = 0
        self._answering = 0
        self._draining = False
        self._requests = 0
        self._turned_away = 0

    @property
    def identity(self) -> Identity:
        return self.credentials.identity

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> Ticket:
        """Serves; the ticket of a network that has only this rendezvous. Raises as `Host.udp`; try another port then
        with another object."""
        if self._transport is not None:
            raise StateError("a rendezvous starts once")
        await self._renew()
        transport = Transport(self._host, self.credentials, allow=self._allow, on_event=self._on_event)
        self.listening = transport.bind(self.listening).local
        self._transport = transport
        transport.endpoint.relay = self.relay
        transport.serve(wire.SERVICE, self._serve)
        await self._sign_record()
        transport.spawn(self._every(RECORD_SECONDS, self._sign_record), "rendezvous record")
        transport.spawn(self._every(HOUSEKEEPING_SECONDS, self._keep_house), "rendezvous housekeeping")
        transport.spawn(self._every(self._limits.sweep_seconds, self._sweep), "rendezvous sweep")
        transport.wake()
        return Ticket((TicketEntry(self.identity, self.endpoints()),))

    def endpoints(self) -> tuple[str, ...]:
        """Where agents are told to find it, best first."""
        if self._advertise:
            return tuple(self._advertise)
        host, port = self.listening
        if host in _ANY:
            family = 6 if ":" in host else 4
            host = self._host.source_address(_ELSEWHERE[family]) or _LOOPBACK[family]
        return (endpoint_text((host, port)),)

    async def counts(self) -> Counts:
        """Figures for a log line."""
        records, names = await self._cache.counts()
        relay = self.relay
        return Counts(
            len(self._clients),
            len(self._watches),
            len(relay),
            relay.forwarded_bytes,
            relay.dropped_bytes,
            self._requests,
            self._turned_away,
            records,
            names,
        )

    async def close(self, drain: float = 2.0) -> None:
        """Tells every client to go elsewhere, answers what it was asked, and ends; at most `drain` seconds for it.

        Nothing is cut short that the disk has: what was answered is committed.
        """
        transport = self._transport
        if transport is None or self._draining:
            return
        self._draining = True
        streams = []
        for client in list(self._clients.values()):
            if client.stream is not None:
                streams.append(client.stream)
                with contextlib.suppress(CoveyError):
                    await client.send(client.stream, wire.Draining(0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while self._answering or any(stream.unsent for stream in streams):
                    await asyncio.sleep(LOOK_FOR_ACKS_SECONDS)
        for number, connection in enumerate(list(transport.endpoint.connections.values()), 1):
            transport.close_connection(connection, CloseCode.SHUTDOWN, "the rendezvous stops")
            if number % CLOSE_BATCH == 0:
                await asyncio.sleep(0)
        await transport.close()
        await self._cache.drain()

    def abandon(self) -> None:
        """Stops without a word, as a killed process does. For the simulator."""
        if self._transport is not None:
            self._transport.driver.close()

    # --- clients ---------------------------------------------------------------------------------------------------

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.ConnectionLive(connection, _):
                self._admit(connection)
                self._present(connection.peer)
            case events.ConnectionClosed(connection, _, _):
                client = self._clients.get(connection.peer)
                if client is not None and client.connection is connection:
                    del self._clients[connection.peer]
                    self._watches.forget(connection.peer)
            case events.PathsChanged(connection):
                client = self._clients.get(connection.peer)
                if client is not None:
                    self._observe(client)
            case _:
                pass

    def _admit(self, connection: Connection) -> Client | None:
        """The client on this connection; None while there is no room for it."""
        client = self._clients.get(connection.peer)
        if client is not None and client.connection is connection:
            return client
        if connection.closed or self._draining or len(self._clients) >= self._limits.clients:
            return None
        # Not `connection.admit()`: a stranger's 256 KiB of window are plenty for this service, and the 64 MiB of a
        # trusted peer times ten thousand clients are not. Being admitted keeps it from making room for strangers.
        connection.admitted = True
        connection.keepalive = self._limits.keepalive_seconds
        client = self._clients[connection.peer] = Client(connection, self._limits, self._host.now())
        return client

    def _allow(self, connection: Connection, service: str) -> bool:
        return service == wire.SERVICE and not self._draining

    def _live(self, identity: Identity) -> Client | None:
        """A client that answers, as far as we know."""
        client = self._clients.get(identity)
        return client if client is not None and self._running.live(identity) is client.connection else None

    def _present(self, identity: Identity) -> None:
        """Tells those who wait for it, if it is there."""
        if identity in self._watches and self._live(identity) is not None:
            for watcher in self._watches.take(identity):
                client = self._clients.get(watcher)
                if client is not None:
                    self._push(client, wire.Present(0, identity))

    def _observe(self, client: Client) -> None:
        """Tells a client where its packets come from, if it is not what it was told before."""
        endpoint = client.endpoint()
        if client.stream is not None and endpoint and endpoint != client.observed:
            client.observed = endpoint
            self._push(client, wire.Observed(0, endpoint))

    def _push(self, client: Client, message: wire.Message) -> None:
        stream = client.stream
        if stream is None:
            return
        if stream.unsent > self._limits.untaken_bytes:
            stream.abort(StreamCode.LIMIT)
        else:
            self._running.spawn(_send_quietly(client, stream, message), "rendezvous push")

    async def _sweep(self) -> None:
        """Lets clients go that are not there any more: the core itself would keep their streams for a day."""
        now = self._host.now()
        for client in list(self._clients.values()):
            since = client.absent_since
            if since is not None and now - since >= self._limits.absent_seconds:
                self._running.close_connection(client.connection, CloseCode.IDLE, "absent")

    # --- the service -----------------------------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        """One stream of one client, from beginning to end. A newer one takes its place."""
        connection = self._running.endpoint.connections.get(stream.peer)
        client = None if connection is None else self._admit(connection)
        if client is None:
            self._turned_away += 1
            await self._turn_away(stream)
            return
        older, client.stream = client.stream, stream
        if older is not None:
            self._watches.forget(client.identity)
            older.abort()
        client.observed = ""
        self._observe(client)
        try:
            await self._answer_all(client, stream)
        finally:
            if client.stream is stream:
                client.stream = None
                client.streamless_at = self._host.now()
                self._watches.forget(client.identity)

    async def _answer_all(self, client: Client, stream: Stream) -> None:
        reader = FrameReader(REQUEST_BYTES)
        while data := await _read(stream):
            if client.identity in self._watches:
                self._present(client.identity)
            for kind, body in reader.feed(data):
                request = wire.parse(kind, body)
                if request.number == 0:
                    raise ParseError("a request without a number")
                pause = client.bucket.take(self._host.now(), self._cost(client, request))
                if pause:
                    await asyncio.sleep(pause)
                self._answering += 1
                try:
                    await client.send(stream, await self._answer(client, request))
                except StateError:
                    return  # the stream ended meanwhile
                finally:
                    self._answering -= 1
                if isinstance(request, wire.Watch):
                    self._present(request.identity)
                if not await self._taken(stream):
                    stream.abort(StreamCode.LIMIT)
                    return

    def _cost(self, client: Client, request: wire.Message) -> float:
        """Tokens: one, and more for a log that has to be verified."""
        if not isinstance(request, wire.Publish):
            return 1.0
        known = self._running.endpoint.log_of(client.identity)
        if known is not None and known.raw == request.signed.log:
            return 1.0
        return 1.0 + len(request.signed.log) / LOG_BYTES_PER_TOKEN

    async def _taken(self, stream: Stream) -> bool:
        """Waits while too many of our answers are unacknowledged. False: for too long."""
        if stream.unsent <= self._limits.untaken_bytes:
            return True
        until = self._host.now() + self._limits.untaken_seconds
        while stream.unsent > self._limits.untaken_bytes:
            if self._host.now() >= until:
                return False
            await asyncio.sleep(LOOK_FOR_ACKS_SECONDS)
        return True

    async def _answer(self, client: Client, request: wire.Message) -> wire.Message:
        """The answer. ParseError only for what a client may not say."""
        number = request.number
        self._requests += 1
        try:
            match request:
                case wire.Publish(_, signed):
                    return wire.Published(number, await self._publish(client, signed))
                case wire.Lookup(_, by, key):
                    return wire.Found(number, await self._cache.look_up(by, key))
                case wire.Introduce(_, identity):
                    return wire.Introduced(number, self._introduce(client, identity))
                case wire.Watch(_, identity):
                    self._watches.add(client.identity, identity)
                    return wire.Done(number)
        except StorageError as error:
            _log.error("the cache fails", extra={"fields": {"code": error.code, "reason": error.message}})
            return wire.Failed(number, error.code, "the rendezvous cannot use its cache now")
        except CoveyError as error:
            return wire.Failed(number, error.code, error.message[:ERROR_TEXT_LIMIT])
        raise ParseError("not a request")

    async def _turn_away(self, stream: Stream) -> None:
        """There is no room for this client: says so in answer to its first request."""
        reader = FrameReader(REQUEST_BYTES)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.turned_away_seconds):
                while data := await _read(stream):
                    for kind, body in reader.feed(data):
                        number = wire.parse(kind, body).number
                        failed = wire.Failed(number, "busy", "this rendezvous serves all the clients it can")
                        with contextlib.suppress(CoveyError):
                            await stream.write(wire.encode(failed))
                        return
        stream.abort(StreamCode.LIMIT)

    # --- requests --------------------------------------------------------------------------------------------------

    async def _publish(self, client: Client, signed: wire.Signed) -> int:
        endpoint = self._running.endpoint
        if not client.knows_store:
            # A log that was longer before our last restart still rules: the thief of an old root cannot roll an
            # identity back here.
            held = await self._cache.log_of(client.identity)
            if held is not None:
                endpoint.add_log(held)
            client.knows_store = True
        known = endpoint.log_of(client.identity)
        publication = check_publication(signed, client.identity, known, self._host.wall_us())
        endpoint.add_log(publication.log)
        return await self._cache.publish(publication)

    def _introduce(self, client: Client, identity: Identity) -> int:
        if identity == client.identity:
            raise UsageError("an agent needs no introduction to itself", code="self")
        if client.connection.closed:
            raise StateError("the connection is closed", code="connection-closed")
        other = self._live(identity)
        if other is None:
            return 0
        number = int.from_bytes(self._host.random(4), "big")
        return self.relay.open(self._host.now(), client.connection, other.connection, number)

    # --- ourselves -------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> Transport:
        if self._transport is None:
            raise StateError("the rendezvous was not started")
        return self._transport

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except CoveyError as error:
                _log.error("upkeep failed", extra={"fields": {"code": error.code, "reason": error.message}})

    async def _keep_house(self) -> None:
        await self._renew()
        await self._sign_record()
        await self._cache.expire()

    async def _renew(self) -> None:
        """Keys that are due, durable before they are used."""
        fresh = renewed(self.credentials, self._host.random, self._host.wall_us())
        if fresh is self.credentials:
            return
        if self._save is not None:
            await self._host.blocking(partial(self._save, fresh))
        self.credentials = fresh
        if self._transport is not None:
            self._transport.endpoint.credentials = fresh

    async def _sign_record(self) -> None:
        """What we answer to whoever has only our identity, from a ticket. Its homes are left out: the ticket has our
        endpoints, and record and log must fit one datagram together."""
        now_us = self._host.wall_us()
        self._last_record = max(now_us, self._last_record + 1)
        credentials = self.credentials
        self._running.endpoint.record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=self._last_record,
            expires_us=self._last_record + RECORD_LIFE_SECONDS * SECOND_US,
        ).raw


async def _read(stream: Stream) -> bytes:
    """What the client says; b"" when it is done or gone."""
    try:
        return await stream.read()
    except CoveyError:
        return b""


async def _send_quietly(client: Client, stream: Stream, message: wire.Message) -> None:
    """A push to a client that may be going away."""
    with contextlib.suppress(CoveyError):
        await client.send(stream, message)
