"""The rendezvous on any host: its life, its own record and keys (DESIGN 7, PROTOCOL 25).

It keeps sessions with its clients like any agent, serves one service on them (`service.py`), pushes what they
should know (`clients.py`) and forwards between them (`core.relay`). Everything it tells is somebody's signed
word, or advice that the client checks by using it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from covey.base.constants import RECORD_LIFE_SECONDS
from covey.base.errors import CoveyError
from covey.base.types import Endpoint, Identity, endpoint_text, parse_endpoint
from covey.core import events
from covey.core.connection import Connection
from covey.core.mirror import Mirror
from covey.core.relay import RelayTable
from covey.core.session import CloseCode
from covey.crypto.certificates import CLOCK_SKEW_US, SECOND_US
from covey.crypto.credentials import Credentials
from covey.crypto.record import Record
from covey.crypto.renewal import renewed
from covey.net.host import Host, UdpPort
from covey.node.clock import Clock
from covey.node.transport import Transport
from covey.rendezvous.cache import Cache
from covey.rendezvous.clients import Client, Clients
from covey.rendezvous.custodian import Custodian
from covey.rendezvous.limits import LOOK_SECONDS, Limits
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.service import Service
from covey.rendezvous.store import RendezvousStore
from covey.wire import control
from covey.wire import rendezvous as wire
from covey.wire.relay import Relaying
from covey.wire.ticket import Ticket, TicketEntry

if TYPE_CHECKING:
    from covey.net.websocket import WebSocketPort
    from covey.net.websocket_server import WebSocketListener

__all__ = ["Counts", "Rendezvous"]

_log = logging.getLogger(__name__)

RECORD_SECONDS: Final = 300.0
"""Our own record is signed anew this often, as agents do (PROTOCOL 3), with keys that are not due yet."""

HOUSEKEEPING_SECONDS: Final = 3600.0
"""How often the cache is looked after."""

RESTART_SECONDS: Final = 0.25
TRY_SECONDS: Final = 60.0
RETURNS_PER_SECOND: Final = 500.0
"""What clients are told when we stop: try again after so long, so many of them a second, for so long. A restart takes
no longer, and whoever goes on trying asks no more often than anybody else."""

CLOSE_BATCH: Final = 32
"""Connections closed between two turns of the driver, which sends at most 64 trains in one."""

FULL_SECONDS: Final = 0.05
"""How long a full socket is waited for at the end."""

_LAST_PORT: Final = 65_535
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_ELSEWHERE: Final = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}
"""Documentation addresses (RFC 5737, RFC 3849): the way to them is the default route."""
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}

Save = Callable[[Credentials], None]


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
    boxes: int
    letters: int


class Rendezvous:
    """One rendezvous. `start`, then `close`, once each, inside a running loop.

    `listen` is an IP literal and a port (0: any). `advertise` are the endpoints of the ticket, `HOST:PORT`;
    None: derived from `listen`. `save` makes changed credentials durable before they are used; it runs on the
    host's writer thread, as everything that touches `store` and `mailboxes` does. Both are the caller's, who closes
    them. `relaying` is what clients are told: the bytes per second that are passed on for each, and where we are.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials,
        store: RendezvousStore,
        mailboxes: MailboxStore,
        *,
        listen: Endpoint,
        advertise: Sequence[str] | None = None,
        save: Save | None = None,
        limits: Limits | None = None,
        relaying: Relaying = Relaying(True),  # noqa: B008 - frozen
        websockets: Callable[..., WebSocketListener] | None = None,
        advertise_websockets: Sequence[str] = (),
    ) -> None:
        self.credentials = credentials
        self.listening: Endpoint = listen
        """Where it listens; after `start` with the real port."""
        limits = limits if limits is not None else Limits()
        self._host = host
        self._advertise = advertise
        self._save = save
        self._limits = limits
        self._cache = Cache(host, store)
        self._custodian = Custodian(host, mailboxes, limits)
        # Creating it opens nothing.
        self._clock = Clock(host)
        self._transport = Transport(
            host, credentials, allow=self._allow, on_event=self._on_event, wall=self._clock.now_us
        )
        self.relay = RelayTable(
            self._transport.driver.pass_on, rate=relaying.rate, press=self._transport.websockets.press
        )
        self._relaying = relaying.encode()
        self._clients = Clients(self._transport, limits)
        self._service = Service(self._transport, self._clients, self._cache, self._custodian, self.relay, limits)
        self._listener = (
            websockets(on_open=self._on_websocket, is_used=self._uses_websocket) if websockets is not None else None
        )
        self._advertise_websockets = advertise_websockets
        self._websockets: dict[UdpPort, int] = {}
        """The index of each."""
        self._users: dict[int, Connection] = {}
        """The client that was seen on each last, by index."""
        self._last_record = 0
        self._serving = False

    @property
    def identity(self) -> Identity:
        return self.credentials.identity

    async def start(self) -> Ticket:
        """Serve; the ticket of a network that has this rendezvous only. Raises as `Host.udp`."""
        await self._renew()
        transport = self._transport
        self.listening = transport.bind(self.listening).local
        self._listen_on_ipv6()
        if self._listener is not None:
            self._listener.start()
        transport.endpoint.relay = self.relay
        transport.endpoint.mirror = self._mirror()
        transport.serve(wire.SERVICE, self._service.serve)
        await self._sign_record()
        for seconds, work in (
            (RECORD_SECONDS, self._stay_current),
            (HOUSEKEEPING_SECONDS, self._keep_house),
            (self._limits.sweep_seconds, self._sweep),
        ):
            transport.spawn(self._every(seconds, work), "rendezvous upkeep")
        self._serving = True
        return Ticket((TicketEntry(self.identity, self.endpoints(), self.websockets()),))

    def endpoints(self) -> tuple[str, ...]:
        """Where agents are told to find it, best first."""
        if self._advertise:
            return tuple(self._advertise)
        host, port = self.listening
        if host not in _ANY:
            return (endpoint_text((host, port)),)
        families = [6] if ":" in host else [4]
        if any(each.local == (_ANY[1], port) for _, each in self._transport.ports[1:]):
            families.append(6)
        ways = [self._host.source_address(_ELSEWHERE[family]) for family in families]
        found = tuple(endpoint_text((way, port)) for way in ways if way is not None)
        return found or (endpoint_text((_LOOPBACK[families[0]], port)),)

    @property
    def websocket_port(self) -> int:
        """TCP port of the WebSockets; 0 if there are none."""
        return 0 if self._listener is None else self._listener.address[1]

    def websockets(self) -> tuple[str, ...]:
        """Where agents without UDP are told to find it: unless told, the hosts of `endpoints`."""
        if self._listener is None or self._advertise_websockets:
            return tuple(self._advertise_websockets)
        number = self.websocket_port
        # Of those that were not given the first is of the family that it listens at.
        known = self.endpoints() if self._advertise else self.endpoints()[:1]
        hosts = dict.fromkeys(parse_endpoint(endpoint)[0] for endpoint in known)
        return tuple(endpoint_text((host, number)) for host in hosts)

    def _listen_on_ipv6(self) -> None:
        """Who listens at every IPv4 address does so at every IPv6 address, too, if this machine has any."""
        host, number = self.listening
        if host == _ANY[0] and any(":" in address for address in self._host.local_addresses()):
            with contextlib.suppress(CoveyError):
                self._transport.bind((_ANY[1], number))

    def _mirror(self) -> Mirror:
        """At the port that we listen on, and at a second one: the next, if it is free, or any (PROTOCOL 24)."""
        transport = self._transport
        others: dict[int, tuple[int, int]] = {}
        for first, port in transport.ports[:]:
            host, number = port.local
            for wanted in (number + 1 if number < _LAST_PORT else 0, 0):
                with contextlib.suppress(CoveyError):
                    second = transport.bind((host, wanted)).local[1]
                    index = transport.ports[-1][0]
                    others |= {first: (index, second), index: (first, number)}
                    break
        return Mirror(self.identity, others, transport.endpoint.send)

    async def counts(self) -> Counts:
        """Figures for a log line."""
        relay = self.relay
        return Counts(
            len(self._clients),
            len(self._clients.watches),
            len(relay),
            relay.forwarded_bytes,
            relay.dropped_bytes,
            self._service.requests,
            self._service.turned_away,
            *await self._cache.counts(),
            *await self._custodian.counts(),
        )

    async def close(self, drain: float = 2.0) -> None:
        """Tell every client to go elsewhere, relay and answer until all have gone, and end.

        That takes `drain` seconds or so at most. What was answered is on the disk. Calling it twice is fine.
        """
        if not self._serving:
            await self._transport.close()
            await self._stop_listening()
            return
        self._serving = False
        self._service.draining = True
        until = self._host.now() + drain
        telling = [
            self._transport.spawn(self._say_restarting(client, number), "drain")
            for number, client in enumerate(self._clients)
        ]
        if telling:
            await asyncio.wait(telling, timeout=drain)
        await self._drained(until)
        for number, connection in enumerate(list(self._transport.endpoint.connections.values()), 1):
            self._transport.close_connection(connection, CloseCode.SHUTDOWN, "the rendezvous stops")
            if number % CLOSE_BATCH == 0:
                await self._sent()
        await self._sent()
        await self._transport.close()
        await self._stop_listening()
        await self._cache.drain()
        await self._custodian.drain()

    async def _say_restarting(self, client: Client, number: int) -> None:
        """They do not all come back at once."""
        if client.stream is not None:
            after = RESTART_SECONDS + number / RETURNS_PER_SECOND
            with contextlib.suppress(CoveyError):
                await client.send(client.stream, wire.Restarting(0, round(1000 * after), round(1000 * TRY_SECONDS)))

    async def _drained(self, until: float) -> None:
        """Wait until every client that is there has left and all requests are answered; until then at most.

        A client that has no other way for what we relay for it stays as long as we do.
        """
        while self._service.answering or any(client.absent_since is None for client in self._clients):
            if self._host.now() >= until:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _sent(self) -> None:
        """Let one turn of the driver pass, and a full socket drain for a moment."""
        await asyncio.sleep(0)
        until = self._host.now() + FULL_SECONDS
        while self._transport.driver.blocked:
            if self._host.now() >= until:
                return
            await asyncio.sleep(FULL_SECONDS / 10)

    # --- WebSockets --------------------------------------------------------------------------------------------------

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            await self._listener.close()

    def _on_websocket(self, port: WebSocketPort) -> None:
        index = self._transport.websockets.add(port, lambda: self._lost_websocket(port))
        self._websockets[port] = index

    def _lost_websocket(self, port: WebSocketPort) -> None:
        self._users.pop(self._websockets.pop(port, -1), None)
        if self._listener is not None:
            self._listener.forget(port)

    def _uses_websocket(self, port: WebSocketPort) -> bool:
        """Whether a client is at the other end of this connection."""
        index = self._websockets.get(port, -1)
        connection = self._users.get(index)
        session = connection.session if connection is not None else None
        return session is not None and any(path.route.local == index for path in session.paths)

    def _meet(self, connection: Connection) -> None:
        """A client's paths changed: on which of the WebSockets is it?"""
        if connection.session is not None:
            for path in connection.session.paths:
                if path.route.websocket:
                    self._users[path.route.local] = connection

    # --- what happens ------------------------------------------------------------------------------------------------

    def _allow(self, connection: Connection, service: str) -> bool:
        return self._serving and service == wire.SERVICE

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.ConnectionLive(connection, _):
                connection.say(control.RELAYING, self._relaying)
                self._meet(connection)
                self._clients.admit(connection)
                self._clients.present(connection.peer)
            case events.ConnectionClosed(connection, _, _):
                self._clients.closed(connection)
            case events.PathsChanged(connection):
                self._meet(connection)
                self._clients.moved(connection)
            case _:
                pass

    # --- upkeep ------------------------------------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except CoveyError as error:
                _log.error("upkeep failed", extra={"fields": {"code": error.code, "reason": error.message}})

    async def _sweep(self) -> None:
        self._clients.sweep()

    async def _stay_current(self) -> None:
        self._clock.settle()
        await self._renew()
        await self._sign_record()

    async def _keep_house(self) -> None:
        if self._clock.jumped_us:
            return  # what a clock that is ahead calls expired need not be; it is settled within a day
        await self._cache.expire()
        await self._custodian.expire()

    async def _renew(self) -> None:
        """Keys that are due, durable before they are used."""
        fresh = renewed(self.credentials, self._host.random, self._clock.now_us())
        if fresh is self.credentials:
            return
        if self._save is not None:
            await self._host.blocking(partial(self._save, fresh))
        self.credentials = fresh
        self._transport.endpoint.adopt(self._host.now(), fresh)

    async def _sign_record(self) -> None:
        """What we answer to whoever has only our identity, from a ticket.

        It names no homes: the ticket has our endpoints, and record and log must fit one datagram together.
        """
        now_us = self._clock.now_us()
        ahead = self._last_record > now_us + CLOCK_SKEW_US  # the clock was, and others refused it
        self._last_record = now_us if ahead else max(now_us, self._last_record + 1)
        credentials = self.credentials
        self._transport.endpoint.record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=self._last_record,
            expires_us=self._last_record + RECORD_LIFE_SECONDS * SECOND_US,
        ).raw
