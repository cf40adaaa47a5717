"""`Node`: one agent on the network, embedded in a program or run by the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import msgspec

from covey.base.constants import MESSAGE_LIMIT, TRANSPORT_KEY_ROTATE_SECONDS
from covey.base.errors import (
    CoveyError,
    LimitError,
    NotFoundError,
    RefusedError,
    StateError,
    UsageError,
)
from covey.base.paths import Home
from covey.base.schema import MessageType, MessageView, NodeView, PeerView, PingView, SendView
from covey.base.types import (
    Endpoint,
    Identity,
    address_text,
    check_name,
    endpoint_text,
    identity_text,
    parse_endpoint,
)
from covey.core import events
from covey.core.connection import Connection
from covey.crypto.address import address
from covey.crypto.credentials import Credentials
from covey.crypto.record import RECORD_LIFE_US, Home as RecordHome, Record
from covey.node import views
from covey.node.book import PeerBook
from covey.node.bus import Bus
from covey.node.committer import Committer
from covey.node.connector import Connector
from covey.node.courier import Courier
from covey.node.directory import Directory
from covey.node.rendezvous_client import RendezvousClient
from covey.node.services import SINK, MessageService, TrustService, serve_sink
from covey.node.storage import Applied, Draft, Lock, Peer, Store, load_or_create, locate, prepare, save
from covey.node.storage.outbox import ID_SIZE
from covey.node.storage.settings import NAME, NETWORK
from covey.node.storage.store import MAINTENANCE_SECONDS
from covey.node.transport import Handler, Stream, Transport
from covey.net.host import Host
from covey.wire import trust
from covey.wire.control import CANDIDATE_HOST, CANDIDATE_REFLEXIVE, Candidate
from covey.wire.rendezvous import Signed
from covey.wire.ticket import Ticket

__all__ = ["Node"]

_log = logging.getLogger(__name__)

_LAST_TIMESTAMP: Final = "handshake-timestamp"
_DELEGATION_MARGIN_US: Final = 10 * 24 * 3600 * 1_000_000
"""A delegation with less life left is renewed, if the root is at hand."""
_KNOWN_CANDIDATES: Final = 4
_ANY_ADDRESS: Final = ("0.0.0.0", 0)  # noqa: S104 - an agent must be reachable on every interface to meet others directly


class Node:
    """One agent: identity, peers, messages and streams.

    ::

        async with covey.Node("aws-orchestrator", network="covey1...") as node:
            await node.handshake("azure-processor")
            await node.send("azure-processor", {"command": "process_batch"})
            async for message in node.inbox():
                ...

    `name` and `network` are remembered after the first start. `home` (or `profile`) says where its files are; one
    process per profile. `listen` is `IP:PORT`, by default any address and a free port.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        network: str | None = None,
        listen: str | None = None,
        profile: str | None = None,
        home: Home | None = None,
        host: Host | None = None,
        durable: bool = True,
    ) -> None:
        self._wanted_name = check_name(name) if name else None
        self._wanted_network = Ticket.parse(network) if network else None
        self._listen: Endpoint = parse_endpoint(listen) if listen else _ANY_ADDRESS
        self.home = home or locate(profile)
        self._given_host = host
        self._durable = durable
        self._started = False
        self._closing = False
        self._handlers: dict[str, Handler] = {SINK: serve_sink}
        self._couriers: dict[Identity, Courier] = {}
        self._waiting: dict[tuple[Identity, bytes], list[asyncio.Future[str]]] = {}
        self._trust_waits: dict[Identity, list[asyncio.Future[None]]] = {}
        self._arrivals: set[asyncio.Event] = set()
        self._clients: list[RendezvousClient] = []
        self._queued: dict[Identity, int] = {}
        self._unread = 0
        self._lock: Lock | None = None
        self.name = ""
        self.ticket: Ticket | None = None
        self.bus = Bus()

    # --- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Opens the files, binds the port and begins to meet others.

        Raises StateError (`profile-in-use`, `address-in-use`), StorageError, UsageError (`no-name`).
        """
        if self._started:
            raise StateError("this node was started before", code="already-started")
        self._started = True
        self.host = self._given_host or _real_host()
        try:
            prepare(self.home)
            self._lock = Lock(self.home.lock_file)
            self._lock.acquire()
            self.credentials = load_or_create(self.home, self.host.random, self.host.wall_us())
            self.store = Store.open(self.home, self.host.random, durable=self._durable)
            self._open()
        except BaseException:
            self._release()
            raise

    def _open(self) -> None:
        store, host = self.store, self.host
        self._remember_settings()
        self._wall_floor = store.settings.clock(host.wall_us())
        self.started_at = host.wall_us() / 1e6
        self.committer = Committer(host, store.database)
        self.outbox, self.inbox_store = store.outbox, store.inbox
        self._renew_keys()
        self.transport = Transport(host, self.credentials, allow=self._allow, on_event=self._on_event, wall=self.now_us)
        endpoint = self.transport.endpoint
        endpoint.last_timestamp = store.settings.get_int(_LAST_TIMESTAMP)
        endpoint.timestamps = {
            (Identity(identity), key): at for (identity, key), at in store.settings.handshake_timestamps().items()
        }
        self.book = PeerBook(store, self.committer, self.now_us, self._on_trust)
        for peer in self.book.all():
            if peer.trust == "trusted":
                endpoint.pin(peer.identity)
            if peer.log:
                endpoint.add_log(views.known_log(peer), pinned=peer.trust == "trusted")
        self.transport.bind(self._listen)
        for service, handler in self._handlers.items():
            self.transport.serve(service, handler)
        if self.ticket is not None:
            self._clients += [
                RendezvousClient(
                    self.transport,
                    entry,
                    signed=self._signed,
                    on_present=self._on_present,
                    on_change=self._on_rendezvous_change,
                )
                for entry in self.ticket.entries
            ]
        self.directory = Directory(endpoint, self.book, self._clients, self.now_us)
        self.connector = Connector(self.transport, self.book, self.directory, self._clients)
        self.transport.serve("trust", TrustService(self).serve)
        self.transport.serve("message", MessageService(self).serve)
        self._refresh_candidates()
        for client in self._clients:
            self.transport.spawn(client.run(), "rendezvous")
        self.transport.spawn(self._maintain(), "maintain")
        self._unread = store.inbox.counts().unread
        for identity in {*store.outbox.recipients(), *(peer.identity for peer in store.peers.actions())}:
            self._queued[identity] = store.outbox.counts(identity).messages
            self._courier(identity)

    async def close(self) -> None:
        """Says goodbye, commits what is under way, closes the files. What is queued goes on at the next start."""
        if not self._started or self._closing:
            return
        self._closing = True
        if hasattr(self, "transport"):
            await self.connector.close()
            await self.transport.close()
            await self.committer.drain()
        self.bus.close()
        for event in self._arrivals:
            event.set()
        self._release()

    def abandon(self) -> None:
        """Lets go of the files without a word, as a killed process does. For the simulator."""
        self._closing = True
        if hasattr(self, "transport"):
            self.transport.driver.close()
        self._release()

    def _release(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        if self._lock is not None:
            self._lock.release()
        close = getattr(self.host, "close", None)
        if self._given_host is None and close is not None:
            close()

    def _remember_settings(self) -> None:
        settings = self.store.settings
        self.name = self._wanted_name or settings.get_text(NAME)
        if not self.name:
            # Random enough not to collide on a network, and plainly not chosen by anybody.
            self.name = f"agent-{identity_text(self.credentials.identity)[:8]}"
        remembered = settings.get_text(NETWORK)
        self.ticket = self._wanted_network or (Ticket.parse(remembered) if remembered else None)
        with self.store.database.transaction():
            settings.set(NAME, self.name)
            if self.ticket is not None:
                settings.set(NETWORK, str(self.ticket))

    def now_us(self) -> int:
        """Wall time in microseconds that a clock set back does not turn back beyond the last start (PROTOCOL 9)."""
        return max(self.host.wall_us(), self._wall_floor)

    # --- who we are ------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """52 characters of base32."""
        return identity_text(self.credentials.identity)

    @property
    def address(self) -> str:
        """`7f3a.91c0.d2e4`."""
        return address_text(address(self.credentials.identity, self.credentials.address_nonce))

    def view(self) -> NodeView:
        """`covey status`."""
        peers = self.book.all()
        return NodeView(
            identity=self.identity,
            address=self.address,
            name=self.name,
            version=views.version(),
            profile=self.home.profile,
            started=self.started_at,
            pid=views.pid(),
            listen=[endpoint_text(port.local) for _, port in self.transport.ports],
            network=str(self.ticket) if self.ticket else "",
            rendezvous=[client.view() for client in self._clients],
            peers_trusted=sum(peer.trust == "trusted" for peer in peers),
            peers_connected=sum(self.transport.live(peer.identity) is not None for peer in peers),
            peers_pending=sum(peer.trust == "pending" for peer in peers),
            inbox_unread=self._unread,
            outbox_queued=sum(self._queued.values()),
            problems=self._problems(),
            notes=self._notes(),
        )

    def _problems(self) -> list[str]:
        problems = []
        if not self._clients:
            problems.append("this agent belongs to no network; give it a ticket once: covey up --network covey1...")
        for client in self._clients:
            if not client.connected:
                endpoint = client.view().endpoint
                problems.append(f"the rendezvous at {endpoint} is not connected ({client.problem}); trying again")
            elif client.name_taken:
                problems.append(
                    f"the name {self.name} belongs to another agent of this network: others find us by address or "
                    "identity only; choose another with: covey up --hostname NAME"
                )
        return problems

    def _notes(self) -> list[str]:
        if len(self._clients) != 1:
            return []
        return [
            "one rendezvous: a first contact is protected by the safety number alone, and while it is away only peers "
            "that were met before are reached"
        ]

    # --- peers -----------------------------------------------------------------------------------------------------

    async def find(self, peer: str) -> PeerView:
        """One agent of the network, by name, address or identity. NotFoundError, UnreachableError."""
        return self._peer_view(await self._resolve(peer))

    def peers(self) -> list[PeerView]:
        """Everybody we have to do with: asked, asked by, trusted, or rejected."""
        known = [peer for peer in self.book.all() if peer.trust != "unknown" or self.transport.live(peer.identity)]
        return [self._peer_view(peer) for peer in sorted(known, key=lambda peer: (peer.name, peer.identity))]

    def pending(self) -> list[PeerView]:
        """Those who ask for trust and wait for our answer."""
        return [self._peer_view(peer) for peer in self.book.all() if peer.trust == "pending"]

    async def handshake(self, peer: str, reason: str = "", wait: float = 0) -> PeerView:
        """Asks a peer for trust; if it asked us before, this is our yes. Waits up to `wait` seconds for its answer.

        The request is on our disk when this returns, and is brought to the peer whenever it can be reached.
        """
        if len(reason) > trust.REASON_LIMIT:
            raise UsageError(f"a reason has at most {trust.REASON_LIMIT} characters", code="reason-too-long")
        found = await self._resolve(peer)
        self._not_self(found.identity)
        if found.trust != "trusted" or found.action is not None:
            await self.book.apply(found.identity, "local-request", reason)
        if wait > 0:
            await self._await_trust(found.identity, wait)
        return self._peer_view(self.book.get(found.identity) or found)

    async def approve(self, peer: str) -> PeerView:
        """Says yes to a request. `peer` may be a name, an address, an identity or the safety number."""
        return await self._answer(peer, "local-approve")

    async def reject(self, peer: str, reason: str = "") -> PeerView:
        """Says no to a request."""
        return await self._answer(peer, "local-reject", reason)

    async def untrust(self, peer: str) -> PeerView:
        """Takes trust back: what is open is cut, what is queued for the peer is refused."""
        return await self._answer(peer, "local-untrust")

    async def _answer(self, peer: str, event: Any, reason: str = "") -> PeerView:
        found = await self._known(peer)
        applied = await self.book.apply(found.identity, event, reason)
        return self._peer_view(applied.peer)

    async def ping(self, peer: str) -> PingView:
        """One round trip over the session with a trusted peer."""
        found = await self._trusted(peer)
        connection = await self.connector.connect(found.identity)
        rtt = await self.transport.ping(connection)
        return PingView(
            identity=identity_text(found.identity),
            name=found.name,
            rtt_ms=round(rtt * 1000, 3),
            path=next(path for path in views.paths(connection) if path.active),
        )

    def _peer_view(self, peer: Peer) -> PeerView:
        connection = self.transport.endpoint.connections.get(peer.identity)
        warning = ""
        if peer.trust in ("pending", "requested") and len(self._clients) < 2:
            warning = "first contact: compare the safety number with the other side before you rely on it"
        return views.peer_view(
            peer, self.credentials.identity, connection, self._queued.get(peer.identity, 0), warning
        )

    async def _resolve(self, text: str) -> Peer:
        """Known here or found on the network."""
        try:
            return await self._known(text)
        except NotFoundError as error:
            if error.code != "unknown-peer":
                raise
        if text == self.name or text == self.identity or text == self.address:
            raise UsageError("this is this agent itself", code="self")
        return await self.directory.find(text)

    async def _known(self, text: str) -> Peer:
        """Known here: by name, address, identity or safety number."""
        digits = re.sub(r"\s", "", text)
        if len(digits) == 60 and digits.isdigit():
            for peer in self.book.all():
                if re.sub(r"\s", "", views.safety(peer, self.credentials.identity)) == digits:
                    return peer
            raise NotFoundError("no peer has this safety number", code="unknown-peer", next_step="covey pending")
        return await self.book.find(text)

    async def _trusted(self, text: str) -> Peer:
        peer = await self._resolve(text)
        self._not_self(peer.identity)
        if peer.trust != "trusted":
            name = peer.name or text
            steps = {
                "pending": f"covey approve {name}",
                "requested": f"wait for its answer; there: covey approve {self.name}",
            }
            raise RefusedError(
                f"{name} and this agent do not trust each other (yet): {peer.trust}",
                code="not-trusted",
                next_step=steps.get(peer.trust, f"covey handshake {name}"),
            )
        return peer

    def _not_self(self, identity: Identity) -> None:
        if identity == self.credentials.identity:
            raise UsageError("this is this agent itself", code="self")

    async def _await_trust(self, identity: Identity, wait: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._trust_waits.setdefault(identity, []).append(future)
        peer = self.book.get(identity)
        if peer is not None and peer.trust == "requested":
            await asyncio.wait((future,), timeout=wait)

    # --- messages --------------------------------------------------------------------------------------------------

    async def send(
        self,
        peer: str,
        body: bytes | str | Any,
        type: MessageType | None = None,
        *,
        id: str | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> SendView:
        """Sends one message; `delivered` if the peer has it on disk within `wait` seconds, else `queued`.

        `bytes` are sent as `binary`, `str` as `text`, anything else as `json`, unless `type` says otherwise. A repeat
        with the same `id` (32 hex digits) is the same message. `ttl` is seconds until it expires undelivered.
        """
        kind, raw = _encode(body, type)
        views_ = await self.send_many(peer, [raw], kind, [id] if id else None, ttl, wait)
        return views_[0]

    async def send_many(
        self,
        peer: str,
        bodies: list[bytes],
        type: MessageType = "text",
        ids: list[str] | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> list[SendView]:
        """Sends messages in this order. They are all on disk here, or none is, before anything is waited for."""
        begun = self.host.now()
        found = await self._trusted(peer)
        for body in bodies:
            _check_body(body, type)
        if ids is not None and len(ids) != len(bodies):
            raise UsageError("as many ids as messages, please", code="usage")
        raw_ids = [_parse_id(text) for text in ids] if ids else [self.host.random(ID_SIZE) for _ in bodies]
        now_us = self.now_us()
        expires = None if ttl is None else now_us + int(ttl * 1e6)
        drafts = [Draft(id, type, body, expires) for id, body in zip(raw_ids, bodies, strict=True)]
        recipient = found.identity

        def append() -> tuple[int, list[str | None]]:
            self.outbox.append_many(recipient, drafts, now_us)
            known = [self.outbox.state(draft.id, recipient) for draft in drafts]
            results = [f"{state.result} {state.reason}" if state and state.result != "queued" else None for state in known]
            return self.outbox.counts(recipient).messages, results

        futures = [self._result(recipient, id) for id in raw_ids]
        try:
            self._queued[recipient], results = await self.committer.run(append)
            self._courier(recipient).wake()
            open_ = [future for future, result in zip(futures, results, strict=True) if result is None]
            if open_ and wait > 0:
                await asyncio.wait(open_, timeout=wait)
        finally:
            for id, future in zip(raw_ids, futures, strict=True):
                self._forget_result(recipient, id, future)
        elapsed = round((self.host.now() - begun) * 1000, 3)
        return [
            views.send_view(id, found, result or (future.result() if future.done() else "queued "), elapsed)
            for id, future, result in zip(raw_ids, futures, results, strict=True)
        ]

    async def inbox(self, *, acknowledge: bool = True) -> AsyncIterator[MessageView]:
        """The unread messages, then every new one as it arrives; ends when the node closes.

        A message counts as read (and is acknowledged) when the next one is asked for, so one that was being handled
        when the program died is given again.
        """
        after = 0
        arrival = asyncio.Event()
        self._arrivals.add(arrival)
        try:
            while not self._closing:
                arrival.clear()
                start = after
                rows = await self.committer.run(lambda: self.inbox_store.listing(unread=True, limit=100, after=start))  # noqa: B023 - run at once
                for row in rows:
                    yield self._message_view(row)
                    after = row.number
                    if acknowledge:
                        await self.inbox_acknowledge([row.number])
                if not rows:
                    await arrival.wait()
        finally:
            self._arrivals.discard(arrival)

    async def inbox_list(
        self, *, all: bool = False, limit: int = 100, after: int = 0, bodies: bool = True
    ) -> list[MessageView]:
        """Messages in the order of their arrival: the unread ones, or `all`."""
        rows = await self.committer.run(
            lambda: self.inbox_store.listing(unread=not all, limit=limit, after=after, bodies=bodies)
        )
        return [self._message_view(row) for row in rows]

    async def inbox_get(self, number_or_id: str) -> MessageView:
        """One message, by its number or its id. NotFoundError (`no-such-message`)."""
        if number_or_id.isdigit() and len(number_or_id) < 20:
            number = int(number_or_id)
            return self._message_view(await self.committer.run(lambda: self.inbox_store.get(number)))
        wanted = _parse_id(number_or_id)
        return self._message_view(await self.committer.run(lambda: self.inbox_store.by_id(wanted)))

    async def inbox_acknowledge(self, numbers: list[int]) -> int:
        """Marks messages as read; how many were not before."""

        def acknowledge() -> tuple[int, int]:
            return self.inbox_store.acknowledge(numbers), self.inbox_store.counts().unread

        count, self._unread = await self.committer.run(acknowledge)
        return count

    async def inbox_clear(self, *, all: bool = False) -> int:
        """Removes the read messages, or `all`; how many."""

        def clear() -> tuple[int, int]:
            return self.inbox_store.clear(everything=all), self.inbox_store.counts().unread

        count, self._unread = await self.committer.run(clear)
        return count

    def _message_view(self, row: Any) -> MessageView:
        sender = self.book.get(row.sender)
        return views.message_view(row, sender.name if sender is not None else "")

    def _result(self, recipient: Identity, id: bytes) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((recipient, id), []).append(future)
        return future

    def _forget_result(self, recipient: Identity, id: bytes, future: asyncio.Future[str]) -> None:
        waiting = self._waiting.get((recipient, id), [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop((recipient, id), None)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def open(self, peer: str, service: str) -> Stream:
        """Opens a stream to a service of a trusted peer. UnreachableError; a refusal shows at the first read."""
        found = await self._trusted(peer)
        connection = await self.connector.connect(found.identity)
        return await self.transport.open(connection, service)

    def serve(self, service: str, handler: Handler) -> None:
        """Offers a service to trusted peers: `handler(stream)` runs for each stream they open."""
        if service in ("trust", "message", "rendezvous"):
            raise UsageError(f"{service} is a service of Covey itself", code="reserved-service")
        self._handlers[service] = handler
        if hasattr(self, "transport"):
            self.transport.serve(service, handler)

    def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        """Everything that changes from now on, as {"event": ..., "time": ..., ...}."""
        return self.bus.follow()

    # --- for the couriers and services -----------------------------------------------------------------------------

    def settled(self, recipient: Identity, ids: list[bytes]) -> None:
        self._finished(recipient, ids, "delivered ", "message.delivered")

    def refused(self, recipient: Identity, ids: list[bytes], reason: str) -> None:
        self._finished(recipient, ids, f"refused {reason}", "message.refused")

    def arrived(self, sender: Identity, count: int) -> None:
        self._unread += count
        for event in self._arrivals:
            event.set()
        peer = self.book.get(sender)
        self._publish("message.received", sender, name=peer.name if peer else "", count=count)

    def _finished(self, recipient: Identity, ids: list[bytes], result: str, event: str) -> None:
        self._queued[recipient] = max(0, self._queued.get(recipient, 0) - len(ids))
        for id in ids:
            for future in self._waiting.get((recipient, id), ()):
                if not future.done():
                    future.set_result(result)
            self._publish(event, recipient, id=id.hex())

    def _courier(self, identity: Identity) -> Courier:
        courier = self._couriers.get(identity)
        if courier is None:
            courier = self._couriers[identity] = Courier(self, identity)
            self.transport.spawn(courier.run(), "courier")
        return courier

    # --- what happens ----------------------------------------------------------------------------------------------

    def _allow(self, connection: Connection, service: str) -> bool:
        return service == "trust" or self.book.trusts(connection.peer)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.ConnectionLive(connection, resumed):
                self._on_live(connection)
                self._publish("peer.connected", connection.peer, resumed=resumed)
            case events.ConnectionStalled(connection):
                client = self._client(connection.peer)
                if client is not None:
                    client.on_stalled()
                elif self.book.trusts(connection.peer):
                    self.connector.revive(connection)
            case events.ConnectionClosed(connection, _, reason):
                self._publish("peer.disconnected", connection.peer, reason=reason)
            case events.HandshakeConfirmed(identity, key, timestamp):
                self._save(lambda: self.store.settings.set_handshake_timestamp(identity, key, timestamp))
            case events.LogLearnt(log):
                self._spawn(self.book.remember_log(log))
            case events.RecordReceived(identity, _, _):
                client = self._client(identity)
                if client is not None:
                    client.on_record(event)
            case events.PathsChanged(connection):
                self._on_paths(connection)

    def _on_live(self, connection: Connection) -> None:
        identity = connection.peer
        if self.book.trusts(identity):
            connection.admit()
        courier = self._couriers.get(identity)
        if courier is not None:
            courier.hope()
        timestamp = self.transport.endpoint.last_timestamp
        self._save(lambda: self.store.settings.set(_LAST_TIMESTAMP, timestamp))

    def _on_paths(self, connection: Connection) -> None:
        if not self.book.trusts(connection.peer) or connection.session is None:
            return
        direct = [path.route.remote for path in connection.session.paths if not path.route.relayed]
        if direct:
            self._spawn(self.book.remember_candidates(connection.peer, direct[-_KNOWN_CANDIDATES:]))
        self._publish(
            "peer.path", connection.peer, direct=bool(direct), remote=endpoint_text(connection.session.active.route.remote)
        )

    def _on_trust(self, applied: Applied) -> None:
        peer = applied.peer
        endpoint = self.transport.endpoint
        trusted = peer.trust == "trusted"
        endpoint.pin(peer.identity, pinned=trusted)
        connection = endpoint.connections.get(peer.identity)
        if trusted and connection is not None:
            connection.admit()
            self.transport.wake()
        if applied.changed:
            self._publish("trust.changed", peer.identity, state=peer.trust, name=peer.name, reason=peer.reason)
            if peer.trust != "requested":
                for future in self._trust_waits.pop(peer.identity, []):
                    if not future.done():
                        future.set_result(None)
            if not trusted:
                self._cut(peer)
        if applied.decision.action is not None or trusted:
            self._courier(peer.identity).wake()

    def _cut(self, peer: Peer) -> None:
        """Trust is gone: streams end, and what is queued is refused."""
        connection = self.transport.endpoint.connections.get(peer.identity)
        if connection is not None:
            for stream in list(connection.streams.values()):
                if stream.service != trust.SERVICE:
                    stream.reset(1)
            self.transport.wake()
        if self._queued.get(peer.identity):
            self._spawn(self._refuse_queued(peer.identity))

    async def _refuse_queued(self, identity: Identity) -> None:
        def refuse() -> list[bytes]:
            ids = []
            while batch := self.outbox.next_batch(identity, 0, 1 << 20):
                for message in batch:
                    id = self.outbox.mark_refused(identity, message.number, "not-trusted", self.now_us())
                    ids += [id] if id else []
            return ids

        self.refused(identity, await self.committer.run(refuse), "not-trusted")

    def _on_present(self, identity: Identity) -> None:
        self.connector.hope(identity)
        courier = self._couriers.get(identity)
        if courier is not None:
            courier.hope()

    def _on_rendezvous_change(self) -> None:
        if not self._closing:
            self._refresh_candidates()
            for courier in self._couriers.values():
                courier.hope()
            self.bus.publish("rendezvous.changed", self.host.wall_us() / 1e6)

    def _client(self, identity: Identity) -> RendezvousClient | None:
        return next((client for client in self._clients if client.identity == identity), None)

    def _publish(self, event: str, identity: Identity, **details: Any) -> None:
        if self._client(identity) is None:
            self.bus.publish(event, self.host.wall_us() / 1e6, peer=identity_text(identity), **details)

    # --- our own record, keys and candidates -------------------------------------------------------------------------

    def _signed(self) -> Signed:
        """Our record as of now, and our log."""
        credentials = self.credentials
        now_us = self.now_us()
        self._record_sequence = max(now_us, getattr(self, "_record_sequence", 0) + 1)
        homes = [RecordHome(entry.identity) for entry in (self.ticket.entries[:2] if self.ticket else ())]
        record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=self._record_sequence,
            expires_us=min(now_us + RECORD_LIFE_US, credentials.current.certificate.until_us),
            homes=homes,
            name=self.name,
        )
        self.transport.endpoint.record = record.raw
        return Signed(record.raw, credentials.log.raw)

    def _renew_keys(self) -> bool:
        """Makes the keys that are due: a transport key every 16 hours, a delegation in its last ten days."""
        now_us = self.now_us()
        credentials: Credentials = self.credentials.live(now_us)
        if not credentials.transport_keys or now_us - credentials.current.certificate.from_us > (
            TRANSPORT_KEY_ROTATE_SECONDS * 1_000_000
        ):
            credentials = credentials.rotate_transport(self.host.random(32), now_us)
        if credentials.root is not None and credentials.delegation.until_us - now_us < _DELEGATION_MARGIN_US:
            credentials = credentials.delegate(credentials.root, self.host.random(32), now_us)
        if credentials is self.credentials:
            return False
        save(self.home, credentials)
        self.credentials = credentials
        return True

    def _refresh_candidates(self) -> None:
        """Where others may reach us: the address we use towards each rendezvous, and how it sees us."""
        candidates: dict[Candidate, None] = {}
        for _, port in self.transport.ports:
            host, number = port.local
            for client in self._clients:
                if client.endpoint is None or (":" in client.endpoint[0]) != (":" in host):
                    continue
                source = host if host not in ("0.0.0.0", "::") else self.host.source_address(client.endpoint)  # noqa: S104
                if source is not None:
                    candidates[Candidate(CANDIDATE_HOST, (source, number))] = None
                if client.observed is not None:
                    candidates[Candidate(CANDIDATE_REFLEXIVE, client.observed)] = None
        self.transport.endpoint.set_candidates(list(candidates))
        self.transport.wake()

    async def _maintain(self) -> None:
        """Once a minute: expire, persist the clock, renew keys."""
        while True:
            next_expiry = await self.committer.run(self.outbox.next_expiry)
            pause = float(MAINTENANCE_SECONDS)
            if next_expiry is not None:
                pause = min(pause, max(0.05, (next_expiry - self.now_us()) / 1e6))
            await asyncio.sleep(pause)
            expired = await self.committer.run(lambda: self.store.maintain(self.host.wall_us()))
            for recipient, id in [key for key in self._waiting if key[1] in set(expired)]:
                for future in self._waiting[recipient, id]:
                    if not future.done():
                        future.set_result("expired ")
            if expired:
                for identity in list(self._queued):
                    self._queued[identity] = await self.committer.run(
                        lambda identity=identity: self.outbox.counts(identity).messages  # type: ignore[misc]
                    )
                    self._courier(identity).wake()
            if self._renew_keys():
                self.transport.endpoint.credentials = self.credentials
                for client in self._clients:
                    client.publish_soon()

    def _save(self, job: Any) -> None:
        self._spawn(self._run_quietly(job))

    async def _run_quietly(self, job: Any) -> None:
        await self.committer.run(job)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if self._closing:
            coroutine.close()
            return
        self.transport.spawn(_only_log(coroutine), "background")


async def _only_log(coroutine: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await coroutine
        except CoveyError as error:
            _log.warning("background work failed: %s (%s)", error.message, error.code)


def _real_host() -> Host:
    from covey.net.real import RealHost

    return RealHost()


def _encode(body: Any, type: MessageType | None) -> tuple[MessageType, bytes]:
    if isinstance(body, bytes | bytearray | memoryview):
        return type or "binary", bytes(body)
    if isinstance(body, str):
        return type or "text", body.encode()
    if type not in (None, "json"):
        raise UsageError(f"{body.__class__.__name__} can be sent as json only", code="bad-body")
    return "json", msgspec.json.encode(body)


def _check_body(body: bytes, type: MessageType) -> None:
    if len(body) > MESSAGE_LIMIT:
        raise LimitError(
            f"a message has at most {MESSAGE_LIMIT} bytes, this one has {len(body)}",
            code="message-too-large",
            next_step="send it as a stream, or in parts",
        )
    try:
        if type == "json":
            msgspec.json.decode(body)
        elif type == "text":
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not {type}: {error}", code=f"bad-{type}") from error


def _parse_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_SIZE:
        raise UsageError("a message id has 32 hexadecimal digits", code="bad-id")
    return raw

