"""The running half of a node: every part, wired together, and what each does when something happens.

It exists from `open` to `close`. `Node` is its face.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from covey.base.declared import Declared
from covey.base.events import (
    IntroductionFailed,
    PeerConnected,
    PeerDisconnected,
    PeerIntroduced,
    RendezvousChanged,
    RendezvousContradiction,
    TrustChanged,
)
from covey.base.path_rules import PathRules
from covey.base.types import CongestionControl, Endpoint, Identity, identity_text
from covey.core import events
from covey.core.connection import Connection
from covey.core.stream import StreamCode
from covey.crypto.credentials import Credentials
from covey.net.host import Host
from covey.node.addressing import Addressing
from covey.node.announcement import Announcement, renew
from covey.node.answers import Answers, ask_where
from covey.node.background import Background
from covey.node.book import PeerBook
from covey.node.bus import Bus
from covey.node.clock import Clock
from covey.node.committer import Committer
from covey.node.connector import Connector
from covey.node.contradictions import Contradiction, Contradictions
from covey.node.deposits import Deposits
from covey.node.directory import Directory
from covey.node.introducer import Introducer
from covey.node.key_logs import Heads, KeyLogs
from covey.node.mail import Mail
from covey.node.mailbox import Mailbox
from covey.node.naming import Naming
from covey.node.nat import OwnNetwork
from covey.node.news import News
from covey.node.path_news import NetworkNews, PathNews
from covey.node.port_mapping import PortMapping
from covey.node.profile import LAST_TIMESTAMP, Files, bind, restore
from covey.node.relays import RelayPolicy, Relays
from covey.node.rendezvous_client import RendezvousClient
from covey.node.roaming import Roaming
from covey.node.services import MessageService, TrustService
from covey.node.storage import Applied, Peer
from covey.node.storage.settings import BORN, RELAYS, WALL_CLOCK
from covey.node.transport import Handler, Transport
from covey.node.upkeep import Upkeep
from covey.node.waits import Waits
from covey.wire import messages, relay, rendezvous, trust
from covey.wire.control import Candidates
from covey.wire.ticket import Ticket

__all__ = ["RESERVED_SERVICES", "Agent"]

_log = logging.getLogger(__name__)

_KNOWN_CANDIDATES: Final = 4
RESERVED_SERVICES: Final = frozenset((trust.SERVICE, messages.SERVICE, rendezvous.SERVICE, relay.SERVICE))


class Agent:
    """All parts of a running node. Make it inside the running loop; then `start`, in the end `close`."""

    def __init__(
        self,
        host: Host,
        files: Files,
        *,
        name: str,
        ticket: Ticket | None,
        listen: Endpoint,
        bus: Bus,
        trust_clock: bool = False,
        congestion: CongestionControl = "cubic",
        relaying: RelayPolicy | None = None,
        port_mapping: bool = True,
        birthday: bool = False,
        declared: tuple[Declared, ...] = (),
        path_rules: PathRules | None = None,
    ) -> None:
        store = files.store
        self.host = host
        self.files = files
        self.ticket = ticket
        self._reached = 0
        """Rendezvous that were connected at their last change."""
        self._saved_timestamp = 0
        self.clock = Clock(host, store.settings.get_int(WALL_CLOCK), trust_wall=trust_clock)
        self.now_us = self.clock.now_us
        if trust_clock:
            store.settings.set(WALL_CLOCK, self.clock.certain_us)
        store.maintain(self.now_us(), self.clock.certain_us)  # what expired while we were down is not sent now
        self._waits = Waits()
        credentials = renew(files.credentials, files.home, host, self.now_us())
        self.committer = Committer(host, store.database)
        self.transport = Transport(
            host,
            credentials,
            allow=self._allow,
            on_event=self._on_event,
            wall=self.now_us,
            congestion=congestion,
        )
        self.background = Background(self.transport)
        self.book = PeerBook(store, self.committer, self.now_us, self._on_trust, path_rules)
        restore(self.transport.endpoint, store, self.book)
        self.news = News(bus, host, self.book, lambda identity: self._client(identity) is not None)
        self.key_logs = KeyLogs(self.transport, self.book, self.news, self.background)
        self.path_news = PathNews(self.transport, self.relay_at, self.news.tell_of)
        self.announcement = Announcement(self.transport, name=name, ticket=ticket, now_us=self.now_us)
        self.relays = Relays(
            self.transport,
            self.book,
            relaying or RelayPolicy(),
            rendezvous=[entry.identity for entry in (ticket.entries if ticket else ())],
            remembered=store.settings.get(RELAYS) or b"",
            on_common=self._on_common_relay,
            on_learnt=lambda relays: self._save(lambda: store.settings.set(RELAYS, relays)),
        )
        self.announcement.consents = birthday
        self.announcement.declared = declared
        self.clients = [
            RendezvousClient(
                self.transport,
                entry,
                signed=self.announcement.signed,
                on_present=self._on_present,
                on_change=self._on_rendezvous_change,
                on_mail=self._on_mail,
                on_draining=self._on_draining,
                on_routes=self.relays.use_server,
            )
            for entry in (ticket.entries if ticket else ())
        ]
        self.announcement.clients = self.clients
        self.network = OwnNetwork(self.transport, self.announcement, self.clients, self._on_network_change)
        self._network_news = NetworkNews(self.news.tell)
        self.contradictions = Contradictions(host.now, self._on_contradiction)
        self.directory = Directory(
            host,
            self.transport.endpoint,
            self.book,
            self.clients,
            self.now_us,
            self.contradictions,
            self.key_logs.on_served,
        )
        self.heads = Heads(host, self.book, self.directory)
        born_us = store.settings.get_int(BORN)
        self.addressing = Addressing(self.directory, self.book, born_us, host.now)
        self.naming = Naming(self.announcement, self.directory, self.clients, self.committer, store.settings)
        self.connector = Connector(self.transport, self.book, self.directory, self.clients, self.relays)
        self.introducer = Introducer(
            transport=self.transport,
            book=self.book,
            directory=self.directory,
            clients=self.clients,
            announcement=self.announcement,
            now_us=self.now_us,
            may_trust=self.key_logs.refuse_fork,
            on_met=lambda identity: self.news.tell_of(PeerIntroduced(), identity),
            on_failed=lambda reason: self.news.tell(IntroductionFailed(reason=reason)),
        )
        self.deposits = Deposits(
            self.transport.endpoint,
            self.book,
            self.clients,
            self.committer,
            store,
            random=host.random,
            now_us=self.now_us,
            own_name=lambda: self.name,
        )
        self.mail = Mail(
            own_name=lambda: self.name,
            transport=self.transport,
            book=self.book,
            connector=self.connector,
            deposits=self.deposits,
            committer=self.committer,
            store=store,
            now_us=self.now_us,
            publish=self.news.tell_of,
            on_told=self._waits.look,
        )
        self.answers = Answers(self.book, self.deposits, self.mail, self._waits)
        self._trust_service = TrustService(self.transport, self.book, self.directory, self.key_logs.is_forked)
        self.mailbox = Mailbox(
            host, files.home, self.transport.endpoint, self.directory, self._trust_service, self.now_us
        )
        self.announcement.mailbox_key_id = self.mailbox.key_id
        self.port_mapping = PortMapping(
            self.transport, self.announcement, self.clients, store.settings, enabled=port_mapping
        )
        self.upkeep = Upkeep(
            host=host,
            files=files,
            clock=self.clock,
            transport=self.transport,
            announcement=self.announcement,
            clients=self.clients,
            addressing=self.addressing,
            mail=self.mail,
            mailbox=self.mailbox,
            keep_ways=self._keep_ways,
        )
        self.roaming = Roaming(host, self._remotes, self._on_roamed, self.network.changed)
        try:  # last: from here on there is something to close
            bind(self.transport, store.settings, listen)
            self.network.listen_on_ipv6()
        except BaseException:
            self.transport.driver.close()
            raise

    @property
    def credentials(self) -> Credentials:
        return self.transport.endpoint.credentials

    @property
    def name(self) -> str:
        return self.announcement.name

    def start(self, handlers: Mapping[str, Handler]) -> None:
        """Begins to serve and to meet others."""
        for service, handler in handlers.items():
            self.transport.serve(service, handler)
        self.transport.serve(trust.SERVICE, self._trust_service.serve)
        self.transport.serve(messages.SERVICE, MessageService(self.mail).serve)
        if self.relays.table is not None:
            self.transport.serve(relay.SERVICE, self.relays.serve)
        self.announcement.keep_fresh()
        self.port_mapping.begin()
        for client in self.clients:
            self.transport.spawn(client.run(), "rendezvous client")
            self.transport.spawn(self.mailbox.attend(client), "mailbox")
        self.transport.spawn(self.network.run(), "own network")
        self.transport.spawn(self.roaming.run(), "roaming")
        self.transport.spawn(self.upkeep.run(), "upkeep")
        self.transport.spawn(self.heads.run(), "compare log heads")
        self.mail.start()

    async def close(self) -> None:
        """Says goodbye and commits what is under way."""
        self.background.stop()
        try:
            self.introducer.stop()
            await self.connector.close()
            self.mail.close()
            await self.transport.close()
            await self.port_mapping.close()
            await self.committer.drain()
        finally:  # also when whoever closes is cancelled: the profile must be free again
            self.port_mapping.stop()
            self.transport.driver.close()
            self.files.close()

    def abandon(self) -> None:
        """Lets go of everything without a word, as a killed process does. For the simulator."""
        self.background.stop()
        self.port_mapping.stop()
        self.transport.driver.close()
        self.files.close()

    def candidates_of(self, identity: Identity) -> Candidates | None:
        """What a peer told of its addresses and its NAT; None if there is no session with it."""
        connection = self.transport.live(identity)
        if connection is None or connection.session is None:
            return None
        paths = connection.session.paths
        return Candidates(paths.remote_candidates, paths.remote_traits, paths.remote_consents)

    def relay_at(self, endpoint: Endpoint) -> str:
        """`rendezvous`, or the name of the peer that relays there."""
        relay = self.transport.endpoint.relays.get(endpoint)
        known = self.book.get(relay) if relay is not None else None
        if relay is None or known is None:
            return "rendezvous"
        return known.name or identity_text(relay)[:8]

    # --- what happens ----------------------------------------------------------------------------------------------

    def _allow(self, connection: Connection, service: str) -> bool:
        """Default deny: a stranger reaches exactly one service (DESIGN 8)."""
        return service == trust.SERVICE or self.book.trusts(connection.peer)

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.ConnectionLive(connection, resumed):
                self._on_live(connection)
                self.news.tell_of(PeerConnected(resumed=resumed), connection.peer)
                if self.book.trusts(connection.peer):
                    self.path_news.look(connection)
            case events.LastPathSuspected(connection):
                client = self._client(connection.peer)
                if client is not None:
                    client.on_suspected()
            case events.ConnectionStalled(connection):
                self._on_stalled(connection)
            case events.ConnectionClosed(connection, _, reason):
                client = self._client(connection.peer)
                if client is not None and client.relay is not None:
                    self.transport.endpoint.relays_used.forget(client.relay)
                self.relays.on_closed(connection)
                self.network.forget(connection.peer)
                self.path_news.forget(connection.peer)
                self.news.tell_of(PeerDisconnected(reason=reason), connection.peer)
            case events.HandshakeConfirmed(identity, key, timestamp):
                settings = self.files.store.settings
                self._save(lambda: settings.set_handshake_timestamp(identity, key, timestamp))
            case events.LogLearnt(log):
                self.key_logs.on_learnt(log)
            case events.SeenByPeer(connection, route, seen):
                self.network.on_seen(connection.peer, route, seen)
            case events.Reflected(route, seen):
                self.network.on_reflected(route, seen)
            case events.RecordReceived(identity, _, _):
                client = self._client(identity)
                if client is not None:
                    client.on_record(event)
                elif self.book.get(identity) is not None:
                    self.background.start(lambda: self._learn_record(event))
            case events.Introduced() | events.IntroductionFailed():
                self.introducer.on_event(event)
            case events.PathsChanged(connection):
                self._on_paths(connection)
            case events.RoundAhead():
                self.network.freshen()
            case events.AddressInDoubt(connection, host):
                self.background.start(lambda: ask_where(self.transport, self.clients, connection, host))
            case events.RelayingTold(connection, relaying):
                if self.relays.on_relaying(connection, relaying) and self._client(connection.peer) is not None:
                    self._seek_again()
            case events.RelaysTold(connection, round_trips):
                self.relays.on_relays(connection, round_trips)

    def _on_live(self, connection: Connection) -> None:
        if self.book.trusts(connection.peer):
            connection.set_rule(self.book.path_rule(connection.peer))
            connection.admit()
            self.network.freshen()
            self.relays.greet(connection)
            self.connector.keep_reserve(connection)
            self.background.start(lambda: self.heads.compare(connection.peer))
        self.mail.hope(connection.peer)
        timestamp, settings = self.transport.endpoint.handshakes.last_timestamp, self.files.store.settings
        if timestamp != self._saved_timestamp:  # it is of our own initiations: strangers have nothing written
            self._saved_timestamp = timestamp
            self._save(lambda: settings.set(LAST_TIMESTAMP, timestamp))

    async def _learn_record(self, event: events.RecordReceived) -> None:
        if await self.directory.learn(event):
            self.connector.hope(event.identity)

    def _on_contradiction(self, found: Contradiction) -> None:
        client = self._client(found.rendezvous)
        peer = self.book.get(found.peer) if found.peer is not None else None
        event = RendezvousContradiction(
            rendezvous=identity_text(found.rendezvous),
            endpoint=client.view().endpoint if client is not None else "",
            kind=found.kind,
            peer=identity_text(found.peer) if found.peer is not None else "",
            name=peer.name if peer is not None else "",
            count=found.count,
        )
        self.news.tell(event)

    def _on_stalled(self, connection: Connection) -> None:
        client = self._client(connection.peer)
        if client is not None:
            client.on_stalled()
        elif self.book.trusts(connection.peer):
            self.connector.revive(connection)

    def _on_paths(self, connection: Connection) -> None:
        client = self._client(connection.peer)
        if client is not None:
            client.on_paths()
        session = connection.session
        if session is None or not self.book.trusts(connection.peer):
            return
        self.relays.on_paths(connection)
        direct = [path.route.remote for path in session.paths if not path.route.relayed]
        if direct:
            self.background.start(lambda: self.book.remember_candidates(connection.peer, direct[-_KNOWN_CANDIDATES:]))
        self.connector.keep_reserve(connection)
        self.path_news.look(connection)

    def _on_trust(self, applied: Applied) -> None:
        peer = applied.peer
        trusted = peer.trust == "trusted"
        self.transport.endpoint.pin(peer.identity, pinned=trusted)
        connection = self.transport.endpoint.connections.get(peer.identity)
        if trusted and connection is not None:
            connection.set_rule(self.book.path_rule(connection.peer))
            connection.admit()
            self.network.freshen()
            self.relays.greet(connection)
            self.connector.keep_reserve(connection)
            self.transport.wake()
        if applied.changed:
            self.news.tell_of(TrustChanged(state=peer.trust, reason=peer.reason), peer.identity)
            if trusted and connection is not None:
                self.path_news.look(connection)
            self._waits.look(peer.identity)
            if not trusted:
                self._cut(peer)
        if peer.action is None:
            self.background.start(lambda: self.deposits.settled(peer.identity))
        if applied.decision.action is not None or trusted:
            courier = self.mail.courier(peer.identity)
            courier.wake()
            courier.hope()

    def _cut(self, peer: Peer) -> None:
        """Trust is gone: streams end, and what is queued is refused."""
        connection = self.transport.endpoint.connections.get(peer.identity)
        if connection is not None:
            self.relays.part(connection)
            connection.direct = False
            self.transport.cut(connection, StreamCode.REFUSED, spare=trust.SERVICE)
        self.background.start(lambda: self.mail.refuse_all(peer.identity))

    def _on_present(self, identity: Identity) -> None:
        self.connector.hope(identity)
        self.mail.hope(identity)

    def _on_rendezvous_change(self) -> None:
        if not self.background.stopped:
            self.announcement.refresh_candidates()
            self.network.look()
            self._network_news.look(self.network)
            self.port_mapping.look()
            self._settle_homes()
            self.mailbox.on_change()
            before, self._reached = self._reached, sum(client.connected for client in self.clients)
            if self._reached > before:
                self._seek_again()
            elif not self._reached and all(client.tried for client in self.clients):
                self._keep_relays()
            changed = RendezvousChanged(connected=self._reached, rendezvous=len(self.clients))
            self.news.tell(changed)

    def _keep_ways(self) -> None:
        self._keep_relays()
        self._settle_homes()
        self._keep_reserves()

    def _keep_relays(self) -> None:
        """Relays among our peers are kept while they are used, and looked for while no rendezvous is there."""
        alone = bool(self.clients) and not self._reached
        self.relays.settle(alone=alone)
        if alone:
            self.connector.attach()

    def _settle_homes(self) -> None:
        if self.announcement.settle_homes(self.clients):
            for client in self.clients:
                client.publish_soon()

    def _seek_again(self) -> None:
        """There is a relay that was none: for those we could not reach, and as a reserve."""
        self.mail.hope()
        self._keep_reserves()

    def _remotes(self) -> Iterator[Endpoint]:
        """The endpoints that we depend on."""
        yield from (client.endpoint for client in self.clients if client.endpoint is not None)
        now = self.host.now()
        for connection in self.transport.endpoint.connections.values():
            if connection.session is not None and connection.in_use(now):
                yield connection.session.active.route.remote

    def _on_roamed(self) -> None:
        """This machine is somewhere else, or slept: everybody who is in touch with us hears from us at once."""
        self.transport.endpoint.network_changed(self.host.now())
        self.announcement.refresh_candidates()
        self.network.changed()
        self.port_mapping.recheck()
        self.transport.wake()
        for client in self.clients:
            client.on_network_change()
        self.connector.on_network_change()
        self.mail.hope()

    def _keep_reserves(self) -> None:
        now = self.host.now()
        for connection in list(self.transport.endpoint.connections.values()):
            session = connection.session
            if session is not None and (session.active.route.relayed or connection.in_use(now)):
                self.connector.keep_reserve(connection)

    def _on_network_change(self) -> None:
        if not self.background.stopped:
            self._network_news.look(self.network)

    def _on_mail(self, rendezvous: Identity) -> None:
        self.mailbox.on_mail(rendezvous)

    def _on_common_relay(self, connection: Connection) -> None:
        self.connector.keep_reserve(connection)

    async def _on_draining(self, client: RendezvousClient) -> bool:
        """A rendezvous is about to stop: what it relays for us goes another way first."""
        return await self.connector.move_away(client)

    def _client(self, identity: Identity) -> RendezvousClient | None:
        return next((client for client in self.clients if client.identity == identity), None)

    def _save(self, job: Callable[[], Any]) -> None:
        self.background.start(lambda: self.committer.run(job))
