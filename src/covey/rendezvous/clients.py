"""Who is connected, what they wait for, and what they are told unasked."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from covey.base.errors import CoveyError
from covey.base.types import Identity, endpoint_text
from covey.core.connection import Connection
from covey.core.rates import network
from covey.core.session import CloseCode
from covey.core.stream import StreamCode
from covey.node.transport import Stream, Transport
from covey.rendezvous.bucket import TokenBucket
from covey.rendezvous.limits import Limits
from covey.rendezvous.watches import Watches
from covey.wire import rendezvous as wire

__all__ = ["Client", "Clients"]


class Client:
    """One client: its connection, its stream of the service (None while it has none open), its share of us.

    Lasts as long as the connection.
    """

    __slots__ = (
        "bucket",
        "connection",
        "knows_store",
        "network",
        "observed",
        "stream",
        "streamless_at",
        "streams",
        "told_mail",
        "writing",
    )

    def __init__(self, connection: Connection, source: bytes, limits: Limits, now: float) -> None:
        self.connection = connection
        self.network = source
        """Where it was when it came: whose share of the places it takes."""
        self.bucket = TokenBucket(limits.requests_per_second, limits.requests_burst, now)
        self.stream: Stream | None = None
        self.streamless_at = now
        self.streams = 0
        """How many are being served: the present one, and older ones that still wait for tokens."""
        self.observed = ""
        """The endpoint that was pushed last on this stream."""
        self.knows_store = False
        """The log that the cache holds of it was merged into what the endpoint knows."""
        self.told_mail = False
        """It was told of mail and has not collected since: who fills its box does not fill its stream."""
        self.writing = asyncio.Lock()

    @property
    def identity(self) -> Identity:
        return self.connection.peer

    @property
    def endpoint(self) -> str:
        """Where its packets come from now, "" if nowhere, or where nobody else could send any: from a WebSocket."""
        session = self.connection.session
        if session is None or session.active.route.websocket:
            return ""
        return endpoint_text(session.active.route.remote)

    @property
    def absent_since(self) -> float | None:
        """Since when nothing can be done for it; None if it is there."""
        if self.connection.session is None:
            return float("-inf")
        times = [self.connection.stalled_at, None if self.stream is not None else self.streamless_at]
        return min((time for time in times if time is not None), default=None)

    async def send(self, stream: Stream, message: wire.Message) -> None:
        """One frame, whole, also when a push and an answer meet. Raises as `Stream.write`."""
        async with self.writing:
            await stream.write(wire.encode(message))


class Clients:
    """The clients of one rendezvous, by identity. Calls come from the transport's events and the service."""

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.watches = Watches(limits.watches, limits.watches_total)
        self._transport = transport
        self._limits = limits
        self._clients: dict[Identity, Client] = {}
        self._networks: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def admit(self, connection: Connection) -> Client | None:
        """The client on this connection; None while there is no room for it."""
        client = self._clients.get(connection.peer)
        if client is not None and client.connection is connection:
            return client
        session = connection.session
        if connection.closed or session is None or len(self._clients) >= self._limits.clients:
            return None
        source = network(session.active.route.remote)
        if self._networks[source] >= self._limits.clients_per_network:
            return None
        # Not `connection.admit()`: a stranger's 256 KiB of window are plenty for this service, and the 64 MiB
        # of a trusted peer, times ten thousand clients, are too much. Being admitted keeps strangers from
        # taking its place.
        connection.admitted = True
        connection.keepalive = self._limits.keepalive_seconds
        if client is not None:
            self._leave(client)
        client = self._clients[connection.peer] = Client(connection, source, self._limits, self._transport.host.now())
        self._networks[source] += 1
        return client

    def closed(self, connection: Connection) -> None:
        """A connection is gone, and its client unless that has another by now."""
        client = self._clients.get(connection.peer)
        if client is not None and client.connection is connection:
            self._leave(client)
            self.watches.forget(connection.peer)

    def attach(self, client: Client, stream: Stream) -> None:
        """Its stream of the service from now on; an older one is given up, with what it was waiting for."""
        older, client.stream = client.stream, stream
        if older is not None:
            self.watches.forget(client.identity)
            older.abort()
        client.observed = ""
        client.told_mail = False
        self._observe(client)

    def detach(self, client: Client, stream: Stream) -> None:
        """This stream has ended."""
        if client.stream is stream:
            client.stream = None
            client.streamless_at = self._transport.host.now()
            self.watches.forget(client.identity)

    def live(self, identity: Identity) -> Client | None:
        """A client that answers, as far as we know."""
        client = self._clients.get(identity)
        if client is None or self._transport.live(identity) is not client.connection:
            return None
        return client

    def present(self, identity: Identity) -> None:
        """Tells those who wait for it, if it is there."""
        if identity in self.watches and self.live(identity) is not None:
            for watcher in self.watches.take(identity):
                client = self._clients.get(watcher)
                if client is not None:
                    self._push(client, wire.Present(0, identity))

    def mail(self, identity: Identity) -> None:
        """A letter waits for this agent: tells it, if it is there."""
        client = self.live(identity)
        if client is not None and not client.told_mail:
            client.told_mail = True
            self._push(client, wire.Mail(0))

    def moved(self, connection: Connection) -> None:
        """The paths of a connection changed: perhaps its client has another address."""
        client = self._clients.get(connection.peer)
        if client is not None:
            self._observe(client)

    def sweep(self) -> None:
        """Lets those go that are not there any more: the core would keep their streams for a day."""
        now = self._transport.host.now()
        for client in self:
            since = client.absent_since
            if since is not None and now - since >= self._limits.absent_seconds:
                self._transport.close_connection(client.connection, CloseCode.LOST_STATE, "absent")

    def _leave(self, client: Client) -> None:
        del self._clients[client.identity]
        self._networks[client.network] -= 1
        if not self._networks[client.network]:
            del self._networks[client.network]

    def _observe(self, client: Client) -> None:
        endpoint = client.endpoint
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
            self._transport.spawn(_send_quietly(client, stream, message), "rendezvous push")


async def _send_quietly(client: Client, stream: Stream, message: wire.Message) -> None:
    """A push to a client that may be going away."""
    with contextlib.suppress(CoveyError):
        await client.send(stream, message)
