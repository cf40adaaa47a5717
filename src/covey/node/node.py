"""`Node`: one agent on the network, embedded in a program or run by the daemon."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec

from covey.base.constants import INTRODUCTION_LIMIT_SECONDS, INTRODUCTION_SECONDS
from covey.base.declared import Declared
from covey.base.errors import CoveyError, NotFoundError, RefusedError, StateError, UsageError
from covey.base.events import NameChanged, RecentEvents
from covey.base.path_rules import PathRules
from covey.base.paths import Home
from covey.base.schema import (
    IntroductionView,
    MessageType,
    MessageView,
    NameView,
    NetcheckView,
    NetworkView,
    NodeView,
    PathView,
    PeerView,
    PingView,
    SendView,
)
from covey.base.types import (
    CongestionControl,
    Endpoint,
    address_text,
    check_name,
    endpoint_text,
    identity_text,
    parse_endpoint,
)
from covey.core.connection import Connection
from covey.core.limits import SERVICE_LIMIT
from covey.core.traffic import Traffic
from covey.crypto.address import address
from covey.net.host import Host
from covey.net.real import RealHost
from covey.node import views
from covey.node.agent import RESERVED_SERVICES, Agent
from covey.node.bus import RING, Bus, Follower
from covey.node.findings import findings
from covey.node.introducer import Meeting
from covey.node.mail import encode_body
from covey.node.naming import made_up_name
from covey.node.netcheck import measure
from covey.node.profile import Files
from covey.node.prospects import netcheck_view, own_candidates, peer_reach
from covey.node.relays import RelayPolicy
from covey.node.services import ECHO, SINK, serve_echo, serve_sink
from covey.node.storage import DEFAULT_RETENTION, Peer, Retention, locate
from covey.node.transport import Handler, Stream
from covey.wire import trust
from covey.wire.ticket import Ticket

__all__ = ["Node"]

_TOLD_SECONDS: Final = 3.0
"""How long an answer about trust waits for the truth about where our word is."""
_ANY_ADDRESS: Final = ("0.0.0.0", 0)  # noqa: S104 - an agent must be reachable on every interface to meet others

_CALLED: Final = 32
"""Peers that `netcheck` calls at once, if they are not connected."""
_CROSSING_SECONDS: Final = 5.0
"""How long the two requests for trust that follow an introduction may take to cross."""


class Node:
    """One agent: identity, peers, messages and streams.

    ::

        async with covey.Node("aws-orchestrator", network="covey1...") as node:
            await node.handshake("azure-processor")
            await node.send("azure-processor", {"command": "process_batch"})
            async for message in node.inbox():
                ...

    `name` and `network` are remembered after the first start. `home` (or `profile`) says where its files are; one
    process per profile. `listen` is `IP:PORT`, by default any address and a free port. Wherever a peer is an argument
    it may be a name, an address, an identity, or eight or more characters of one. `trust_clock` takes this machine's
    clock as right although an earlier run was certain of a later time (`node.clock`). `retention` says how
    long messages that were read are kept. `congestion` is how fast we send: "cubic" by the losses, "bbr" by a model of
    the path (docs/howto.md says when). `relaying` says whether it relays for its peers, and which relays it uses.
    `port_mapping`: the router is asked to let peers in (PCP, NAT-PMP, UPnP).
    `birthday`: trusted peers that allow it too and we may look for a hard NAT's ports by trying many of them.
    `declared`: addresses and private lines at which peers reach this agent, that nobody could measure.
    `path_rules`: which ways to which peer are used, and in which order (`base.path_rules`).

    Every method raises CoveyError (`base.errors`) with a code and the next step; before `start` and after `close`
    that is StateError (`not-running`).
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
        trust_clock: bool = False,
        retention: Retention = DEFAULT_RETENTION,
        congestion: CongestionControl = "cubic",
        relaying: RelayPolicy | None = None,
        port_mapping: bool = True,
        birthday: bool = False,
        declared: Sequence[Declared] = (),
        path_rules: PathRules | None = None,
    ) -> None:
        self._wanted_name = check_name(name) if name else None
        self._wanted_ticket = Ticket.parse(network) if network else None
        self._listen: Endpoint = parse_endpoint(listen) if listen else _ANY_ADDRESS
        self.home = home or locate(profile)
        self._given_host = host
        self._durable = durable
        self._trust_clock = trust_clock
        self._retention = retention
        self._congestion = congestion
        self._relaying = relaying
        self._port_mapping = port_mapping
        self._birthday = birthday
        self._declared = tuple(declared)
        self._path_rules = path_rules or {}
        self._handlers: dict[str, Handler] = {SINK: serve_sink, ECHO: serve_echo}
        self._agent: Agent | None = None
        self._own_host: RealHost | None = None
        self._bus = Bus()
        self._started_at = 0.0

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Opens the files, binds the port and begins to meet others.

        Raises StateError (`profile-in-use`, `address-in-use`) and StorageError; then nothing is left open and it may
        be tried again.
        """
        if self._agent is not None:
            raise StateError("this node is running", code="already-started")
        host = self._given_host
        if host is None:
            host = self._own_host = RealHost()
        files: Files | None = None
        try:
            files = Files(self.home, host, durable=self._durable, retention=self._retention)
            name, ticket = files.remember(self._wanted_name, self._wanted_ticket)
            self._bus.begin(host.wall_us())
            agent = Agent(
                host,
                files,
                name=name,
                ticket=ticket,
                listen=self._listen,
                bus=self._bus,
                trust_clock=self._trust_clock,
                congestion=self._congestion,
                relaying=self._relaying,
                port_mapping=self._port_mapping,
                birthday=self._birthday,
                declared=self._declared,
                path_rules=self._path_rules,
            )
        except BaseException:
            if files is not None:
                files.close()
            self._close_host()
            raise
        self._started_at = host.wall_us() / 1e6
        self._agent = agent
        agent.start(self._handlers)

    async def close(self) -> None:
        """Says goodbye, commits what is under way, closes the files. What is queued goes on at the next start."""
        agent, self._agent = self._agent, None
        if agent is None:
            return
        try:
            await agent.close()
        finally:
            self._bus.close()
            self._close_host()

    def abandon(self) -> None:
        """Lets go of everything without a word, as a killed process does. For the simulator."""
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.abandon()

    def _close_host(self) -> None:
        if self._own_host is not None:
            self._own_host.close()
            self._own_host = None

    @property
    def _running(self) -> Agent:
        if self._agent is None:
            raise StateError("the node is not running", code="not-running", next_step="await node.start()")
        return self._agent

    # --- who we are ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._running.name

    @property
    def identity(self) -> str:
        """52 characters of base32."""
        return identity_text(self._running.credentials.identity)

    @property
    def address(self) -> str:
        """`7f3a.91c0.d2e4`."""
        credentials = self._running.credentials
        return address_text(address(credentials.identity, credentials.address_nonce))

    def view(self) -> NodeView:
        """What `covey status` shows."""
        agent = self._running
        peers = agent.book.all()
        live = [connection for peer in peers if (connection := agent.transport.live(peer.identity)) is not None]
        return NodeView(
            identity=self.identity,
            address=self.address,
            name=agent.name,
            version=views.version(),
            profile=self.home.profile,
            started=self._started_at,
            pid=views.pid(),
            listen=[endpoint_text(port.local) for _, port in agent.transport.ports],
            network=str(agent.ticket) if agent.ticket else "",
            rendezvous=[
                msgspec.structs.replace(
                    client.view(),
                    contradictions=agent.contradictions.count(client.identity),
                    home=client.identity in agent.announcement.homes,
                )
                for client in agent.clients
            ],
            relays=agent.relays.views(),
            relayed=agent.relays.relayed(),
            peers_trusted=sum(peer.trust == "trusted" for peer in peers),
            peers_connected=len(live),
            peers_direct=sum(each.session is not None and not each.session.active.route.relayed for each in live),
            peers_pending=sum(peer.trust == "pending" for peer in peers),
            inbox_unread=agent.mail.unread,
            outbox_queued=sum(agent.mail.queued.values()),
            findings=findings(agent),
        )

    def network_view(self) -> NetworkView:
        """What this node knows of the network it is in: who sees it where, what its NAT does, what peers are told."""
        agent = self._running
        return msgspec.structs.replace(agent.network.view(), port_mapping=agent.port_mapping.view())

    async def netcheck(self) -> NetcheckView:
        """Measures what the network around this machine allows, and how each trusted peer is reached and could be.

        Takes at most five seconds; peers that are not connected are called.
        """
        agent = self._running
        trusted = [peer for peer in agent.book.all() if peer.trust == "trusted"]
        found, _ = await asyncio.gather(
            measure(agent.host, agent.ticket), agent.connector.try_all([peer.identity for peer in trusted[:_CALLED]])
        )
        known = agent.transport.endpoint.candidates()
        view = netcheck_view(found, os.environ, network=self.network_view(), consents=known.consents)
        own = own_candidates(found, consents=known.consents)
        own = replace(own, items=known.items or own.items)
        peers = [peer_reach(self._peer_view(peer), own, agent.candidates_of(peer.identity)) for peer in trusted]
        return msgspec.structs.replace(view, peers=peers)

    def name_view(self) -> NameView:
        """This agent's name, and how many rendezvous hold it for us."""
        return self._running.naming.view(self._running.credentials.identity)

    async def set_name(self, name: str, *, wait: float = 5.0) -> NameView:
        """Takes another name and gives up the old one; waits up to `wait` seconds for the rendezvous to know.

        It is remembered for the next start. Peers that trust this agent keep the name they know it by.
        UsageError (`bad-name`); StateError (`name-taken`) if another agent of the network has it: nothing changes.
        """
        agent = self._running
        before = agent.name
        await agent.naming.change(name, wait)
        if name != before:
            self._bus.publish(NameChanged(name=name, before=before), agent.host.wall_us() / 1e6)
        return self.name_view()

    async def release_name(self, *, wait: float = 5.0) -> NameView:
        """Gives the chosen name up, so that another agent may have it, and goes by one made up from the identity."""
        return await self.set_name(made_up_name(self._running.credentials.identity), wait=wait)

    def subscribe(self, types: Iterable[str] = (), *, after: str | None = None) -> Follower:
        """Everything that changes from now on, or after the event with an id: an asynchronous iterator of `Event`s.

        `types` are names, or families as `message.*`; none means all (`base.events`). Who is too slow, or asks for
        what is forgotten, gets a `Gap`. It ends when the node closes. UsageError (`unknown-event`, `bad-event-id`).
        """
        return self._bus.follow(types, after)

    def recent_events(self, types: Iterable[str] = (), *, limit: int = RING) -> RecentEvents:
        """The newest `limit` events that are remembered, and where to `subscribe` for what follows."""
        return self._bus.recent(types, limit)

    # --- peers -----------------------------------------------------------------------------------------------------

    async def find(self, peer: str) -> PeerView:
        """One agent of the network. NotFoundError, UnreachableError."""
        return self._peer_view(await self._resolve(peer))

    def peers(self) -> list[PeerView]:
        """Everybody we have to do with: asked, asked by, trusted, rejected, or connected."""
        agent = self._running
        known = [peer for peer in agent.book.all() if peer.trust != "unknown" or agent.transport.live(peer.identity)]
        return [self._peer_view(peer) for peer in sorted(known, key=lambda peer: (peer.name, peer.identity))]

    def pending(self) -> list[PeerView]:
        """Those who ask for trust and wait for our answer."""
        return [self._peer_view(peer) for peer in self._running.book.all() if peer.trust == "pending"]

    async def handshake(self, peer: str, reason: str = "", wait: float = 0) -> PeerView:
        """Asks a peer for trust; if it asked us before, this is our yes. Waits up to `wait` seconds for its answer.

        The request is on our disk when this returns, and is brought to the peer whenever it can be reached. `told` of
        the result says where it is by then: with the peer, sealed at its rendezvous while it is away, or only here.
        """
        agent = self._running
        if len(reason) > trust.REASON_LIMIT:
            raise UsageError(f"a reason has at most {trust.REASON_LIMIT} characters", code="reason-too-long")
        found = await self._resolve(peer)
        if found.trust != "trusted":
            agent.key_logs.refuse_fork(found.identity)
            await agent.book.apply(found.identity, "local-request", reason)
        await agent.answers.told(found.identity, _TOLD_SECONDS)
        if wait > 0:
            await agent.answers.trust(found.identity, wait)
        return self._peer_view(agent.book.get(found.identity) or found)

    async def approve(self, peer: str) -> PeerView:
        """Says yes to a request. `peer` may also be the safety number."""
        return await self._answer(peer, "local-approve")

    async def reject(self, peer: str, reason: str = "") -> PeerView:
        """Says no to a request."""
        return await self._answer(peer, "local-reject", reason)

    async def untrust(self, peer: str) -> PeerView:
        """Takes trust back: what is open is cut, what is queued for the peer is refused."""
        return await self._answer(peer, "local-untrust")

    async def open_introduction(self, seconds: float = INTRODUCTION_SECONDS, *, ask: bool = False) -> IntroductionView:
        """Opens a window for somebody whom no network has told us of; the code in the answer is for them alone.

        Whoever enters it within `seconds` becomes a peer: trusted, because both sides meant each other, or with `ask`
        only once `approve` says so. One window at a time, one use; a restart forgets it.
        """
        if not 1.0 <= seconds <= INTRODUCTION_LIMIT_SECONDS:
            raise UsageError(f"a window is open for 1 to {INTRODUCTION_LIMIT_SECONDS:g} seconds", code="bad-window")
        window, code = await self._running.introducer.open(seconds, ask=ask)
        return self._introduction_view(window, code)

    async def await_introduction(self, seconds: float) -> IntroductionView:
        """What came of the newest window, waiting for it at most so long. StateError (`no-introduction`)."""
        window = self._newest_window()
        agent = self._running
        before = agent.host.now()
        await agent.introducer.wait(window, seconds)
        if window.outcome.done() and window.outcome.exception() is None and not window.ask:
            left = seconds - (agent.host.now() - before)
            await agent.answers.trust(window.outcome.result().identity, min(left, _CROSSING_SECONDS))
        return self._introduction_view(window)

    async def close_introduction(self) -> IntroductionView:
        """Closes the window, if one is open. StateError (`no-introduction`)."""
        window = self._newest_window()
        self._running.introducer.close()
        return self._introduction_view(window)

    async def introduce(self, invitation: str, seconds: float = 20.0, *, ask: bool = False) -> PeerView:
        """Meets whoever opened the window of this invitation (`CODE@PLACE,PLACE...`).

        UsageError (`bad-code`, `bad-invitation`), UnreachableError (`no-answer`: wrong, used, too old or elsewhere).
        """
        agent = self._running
        peer = await agent.introducer.enter(invitation, seconds, ask=ask)
        if not ask:
            await agent.answers.trust(peer.identity, _CROSSING_SECONDS)
        return self._peer_view(agent.book.get(peer.identity) or peer)

    def _newest_window(self) -> Meeting:
        window = self._running.introducer.window
        if window is None:
            raise StateError("no code was given out", code="no-introduction", next_step="covey introduce")
        return window

    def _introduction_view(self, window: Meeting, code: str = "") -> IntroductionView:
        agent = self._running
        outcome = window.outcome
        error = outcome.exception() if outcome.done() else None
        peer = agent.book.get(outcome.result().identity) if outcome.done() and error is None else None
        return views.introduction_view(
            window,
            expires=(agent.host.wall_us() / 1e6) + window.until - agent.host.now(),
            peer=self._peer_view(peer) if peer is not None else None,
            error=error if isinstance(error, CoveyError) else None,
            code=code,
        )

    async def ping(self, peer: str) -> PingView:
        """One round trip over the session with a trusted peer."""
        agent = self._running
        found = await self._trusted(peer)
        connection = await agent.connector.connect(found.identity)
        rtt = await agent.transport.ping(connection)
        return PingView(
            identity=identity_text(found.identity),
            name=found.name,
            rtt_ms=round(rtt * 1000, 3),
            path=next(path for path in self._paths(connection) if path.active),
        )

    async def _answer(
        self, peer: str, event: Literal["local-approve", "local-reject", "local-untrust"], reason: str = ""
    ) -> PeerView:
        found = await self._known(peer)
        if event == "local-approve":
            self._running.key_logs.refuse_fork(found.identity)
        agent = self._running
        applied = await agent.book.apply(found.identity, event, reason)
        await agent.answers.told(found.identity, _TOLD_SECONDS)
        return self._peer_view(agent.book.get(found.identity) or applied.peer)

    def _peer_view(self, peer: Peer) -> PeerView:
        agent = self._running
        connection = agent.transport.endpoint.connections.get(peer.identity)
        return views.peer_view(
            peer,
            agent.credentials.identity,
            connection,
            self._paths(connection) if connection is not None else [],
            queued=agent.mail.queued.get(peer.identity, 0),
            rendezvous=len(agent.clients),
            deposit=agent.deposits.of(peer),
            custodians={client.identity: client.view().endpoint for client in agent.clients},
            problem=agent.mail.problem(peer.identity),
            unreachable=agent.connector.problem(peer.identity),
        )

    def _paths(self, connection: Connection) -> list[PathView]:
        agent = self._running
        return views.paths(connection, agent.host.now(), agent.host.wall_us() / 1e6, agent.relay_at)

    async def _known(self, text: str) -> Peer:
        """Known here: by name, address, identity or safety number. NotFoundError."""
        agent = self._running
        digits = re.sub(r"\s", "", text)
        if len(digits) == 60 and digits.isdigit():
            for peer in agent.book.all():
                if views.safety_digits(peer.identity, agent.credentials.identity) == digits:
                    return peer
            raise NotFoundError("no peer has this safety number", code="unknown-peer", next_step="covey pending")
        return agent.book.find(text)

    async def _resolve(self, text: str) -> Peer:
        """Known here or found on the network, and not this agent itself."""
        agent = self._running
        if text in (agent.name, self.identity, self.address):
            raise UsageError("this is this agent itself", code="self")
        try:
            known = await self._known(text)
        except NotFoundError as error:
            # Several whom we remember by one name: the network says whose it is now.
            if error.code not in ("unknown-peer", "ambiguous-name"):
                raise
            return await agent.directory.find(text)
        if known.trust == "unknown" and text != identity_text(known.identity):
            # Remembered, but never agreed upon: the name or address is a hint that the network must confirm now.
            return await agent.directory.find(text)
        return known

    async def _trusted(self, text: str) -> Peer:
        """A peer that may be sent something, else RefusedError (`not-trusted`)."""
        peer = await self._resolve(text)
        if peer.trust == "trusted":
            return peer
        name = peer.name or text
        steps = {
            "pending": f"covey approve {name}",
            "requested": f"wait for its answer; on its side: covey approve {self.name}",
        }
        raise RefusedError(
            f"{name} and this agent do not trust each other (yet): {peer.trust}",
            code="not-trusted",
            next_step=steps.get(peer.trust, f"covey handshake {name}"),
        )

    # --- messages --------------------------------------------------------------------------------------------------

    async def send(
        self,
        peer: str,
        body: Any,
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
        kind, raw = encode_body(body, type)
        return (await self.send_many(peer, [raw], kind, [id] if id else None, ttl, wait))[0]

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
        return await self._running.mail.send(await self._trusted(peer), bodies, type, ids, ttl, wait)

    def inbox(self, *, acknowledge: bool = True) -> AsyncIterator[MessageView]:
        """The unread messages, then every new one as it arrives; ends when the node closes.

        A message counts as read (and is acknowledged) when the next one is asked for, so one that was being handled
        when the program died is given again.
        """
        return self._running.mail.follow(acknowledge)

    async def inbox_follow(self, position: str | None = None) -> AsyncIterator[tuple[str, MessageView | None]]:
        """The unread messages, then every new one, each with the position after it; nothing is acknowledged.

        First comes the position alone. With the last position that was handled it goes on exactly there, also in
        another run of the node. Ends when the node closes. UsageError (`bad-position`).
        """
        return await self._running.mail.follow_from(position)

    async def inbox_list(
        self, *, all: bool = False, limit: int = 100, after: int = 0, bodies: bool = True
    ) -> list[MessageView]:
        """Messages in the order of their arrival: the unread ones, or `all`."""
        return await self._running.mail.listing(all=all, limit=limit, after=after, bodies=bodies)

    async def inbox_get(self, number_or_id: str) -> MessageView:
        """One message, by its number or its id. NotFoundError (`no-such-message`)."""
        return await self._running.mail.get(number_or_id)

    async def inbox_acknowledge(self, numbers: list[int]) -> int:
        """Marks messages as read; how many were not before."""
        return await self._running.mail.acknowledge(numbers)

    async def inbox_clear(self, *, all: bool = False) -> int:
        """Removes the read messages, or `all`; how many."""
        return await self._running.mail.clear(all=all)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def open(self, peer: str, service: str, *, traffic: Traffic | str = Traffic.DEFAULT) -> Stream:
        """Opens a stream to a service of a trusted peer. UnreachableError; a refusal shows at the first read.

        `traffic` says how urgent what we write is: `interactive` goes before everything else to this peer, `bulk`
        after it, and `default` with the first while little of it is on its way, with the second otherwise.
        """
        agent = self._running
        _check_service(service)
        if traffic not in list(Traffic):
            raise UsageError(f"{traffic!r} is no class of traffic", code="bad-traffic", next_step=_TRAFFIC)
        found = await self._trusted(peer)
        connection = await agent.connector.connect(found.identity)
        return await agent.transport.open(connection, service, traffic=Traffic(traffic))

    def serve(self, service: str, handler: Handler) -> None:
        """Offers a service to trusted peers: `handler(stream)` runs for each stream they open.

        May be called before `start`. When the handler returns the stream is finished, when it raises it is reset.
        """
        _check_service(service)
        if service in RESERVED_SERVICES:
            raise UsageError(f"{service} is a service of Covey itself", code="reserved-service")
        self._handlers[service] = handler
        if self._agent is not None:
            self._agent.transport.serve(service, handler)


_TRAFFIC: Final = f"one of {', '.join(Traffic)}"


def _check_service(service: str) -> None:
    """A service is named by 1 to 128 printable ASCII characters without blanks. UsageError (`bad-service`)."""
    if not (0 < len(service) <= SERVICE_LIMIT and service.isascii() and service.isprintable() and " " not in service):
        raise UsageError(f"{service!r} cannot be the name of a service", code="bad-service")
