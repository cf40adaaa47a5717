"""Relays among the agents themselves: being one for trusted peers, and using those that trusted peers are (DESIGN 6.5).

Whoever relays says so to every peer it trusts (RELAYING). Two peers tell each other which of these relays they may use
(RELAYS): under tags, so that neither learns of an agent it does not know, and with the round trip, so that both know
which is the nearest. Either asks one that both know for a circuit (service `relay`), and that becomes a path like any
other: it is proven, and used when it is the best there is.

A member relays only between agents it trusts, and takes part in nothing else of theirs: it sees who speaks with whom,
when and how much, as a rendezvous does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from covey.base.errors import CoveyError, LimitError, ParseError, UnreachableError
from covey.base.schema import RelayedView, RelayView
from covey.base.types import IDENTITY_SIZE, Identity, identity_text
from covey.base.types import Endpoint as Address
from covey.core.connection import Connection
from covey.core.path import Path, Route
from covey.core.rates import Rates
from covey.core.relay import RelayTable
from covey.node.asking import Asked
from covey.node.book import PeerBook
from covey.node.transport import Stream, Transport
from covey.wire import control
from covey.wire.framing import FrameReader
from covey.wire.relay import (
    FRAME_LIMIT,
    RELAYS_LIMIT,
    SERVICE,
    UNKNOWN_MS,
    Relaying,
    encode_open,
    encode_opened,
    encode_relays,
    parse_open,
    parse_opened,
    relay_tag,
)

__all__ = ["KEEPALIVE", "MemberRelay", "RelayPolicy", "RelaySource", "Relays"]

_ASK_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 1.0
KEEPALIVE: Final = 25.0
"""Seconds between pings to a relay that we use: as to a rendezvous."""
_OPEN_RATE: Final = 1.0
_OPEN_BURST: Final = 64.0
"""Circuits a second, and at once, that one peer may ask us for."""
_WORDS_RATE: Final = 0.5
_WORDS_BURST: Final = 32.0
"""How often, and how often at once, a peer may change what it says: each time all sessions are looked at."""
_CLIENTS_LIMIT: Final = 4096
_TELL_AGAIN_MS: Final = 10
_TELL_AGAIN_SHARE: Final = 0.5
"""A round trip that changed by so much is told again, the larger of the two."""


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """What an agent does about relays: the settings `relay`, `relay_rate`, `jurisdiction` and `relay_jurisdictions`."""

    serves: Literal["off", "trusted"] = "off"
    """Whom it relays for."""
    rate: int = 0
    """Bytes per second that it passes on for each of them; 0: no limit."""
    jurisdiction: str = ""
    """Where it is: told to those it relays for."""
    jurisdictions: frozenset[str] = frozenset()
    """Only relays that say they are in one of these are used; empty: any relay."""

    def allows(self, relaying: Relaying | None) -> bool:
        """Whether a relay on these terms (None: it has not said them yet) may carry our traffic."""
        return not self.jurisdictions or (relaying is not None and relaying.jurisdiction in self.jurisdictions)


class RelaySource(Asked, Protocol):
    """Whoever can be asked for a circuit: a rendezvous, or a peer that relays."""

    @property
    def relay(self) -> Address | None:
        """Where it relays from, as far as we know."""

    async def introduce(self, identity: Identity) -> Route | None:
        """A relayed route to an agent, if it is connected there. UnreachableError if there is no answer."""


class MemberRelay:
    """A trusted peer that relays for us. Lasts as long as our connection with it says so."""

    silent = False
    patience = _PATIENCE_SECONDS

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        self.addresses: set[Address] = set()
        """Where its datagrams come from."""
        self._transport = transport
        self._rtt = UNKNOWN_MS / 1000

    @property
    def identity(self) -> Identity:
        return self.connection.peer

    @property
    def connected(self) -> bool:
        """Whether it can relay now: a relay that is relayed to itself is none."""
        return self._transport.live(self.identity) is self.connection and self.path() is not None

    @property
    def relay(self) -> Address | None:
        path = self.path()
        return None if path is None else path.route.remote

    @property
    def rtt(self) -> float:
        """Seconds: measured now, or when it was last connected."""
        path = self.path()
        if path is not None and path.recovery.rtt.sampled:
            self._rtt = path.recovery.rtt.smoothed
        return self._rtt

    async def introduce(self, identity: Identity) -> Route | None:
        """A circuit to a peer over it; None if it has not got that peer, or does not trust it."""
        path = self.path()
        if path is None:
            raise UnreachableError("the relay is not connected", code="no-relay")
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                async with await self._transport.open(self.connection, SERVICE) as stream:
                    await stream.write(encode_open(identity))
                    await stream.finish()
                    circuit = parse_opened(*await _frame(stream))
        except TimeoutError:
            raise UnreachableError("the relay does not answer", code="no-relay") from None
        return Route(path.route.local, path.route.remote, circuit) if circuit else None

    def path(self) -> Path | None:
        """The way to it that is not relayed itself."""
        session = self.connection.session
        if session is None:
            return None
        if not session.active.route.relayed:
            return session.active
        return next((path for path in session.paths if not path.route.relayed and not path.suspect), None)


class Relays:
    """Both sides of it for one node. `on_common(connection)` hears of a peer that another relay may lead to,
    `on_learnt` what to remember of relays for the next start: `remembered`."""

    def __init__(
        self,
        transport: Transport,
        book: PeerBook,
        policy: RelayPolicy,
        *,
        rendezvous: Iterable[Identity],
        remembered: bytes,
        on_common: Callable[[Connection], None],
        on_learnt: Callable[[bytes], None],
    ) -> None:
        self.policy = policy
        self.remembered = [
            Identity(remembered[at : at + IDENTITY_SIZE])
            for at in range(0, len(remembered) - IDENTITY_SIZE + 1, IDENTITY_SIZE)
        ]
        """The peers that relay for us, as far as we know, the latest first: also those that are not connected."""
        self._on_learnt = on_learnt
        self._learnt = asyncio.Event()
        self._servers: dict[Identity, set[Address]] = {identity: set() for identity in rendezvous}
        """The rendezvous of the network, and from where they relay."""
        self._terms: dict[Identity, Relaying] = {}
        """What they said about it."""
        self._transport = transport
        self._book = book
        self._on_common = on_common
        self._told: dict[Connection, Relaying] = {}
        """What others said about relaying for us, whether we trust them or not."""
        self._named: dict[Connection, dict[bytes, int]] = {}
        """The relays that others may use towards us."""
        self._members: dict[Identity, MemberRelay] = {}
        self._said: dict[Identity, int] = {}
        """The round trips that we told last, ms."""
        self._words = Rates(_WORDS_RATE, _WORDS_BURST, _CLIENTS_LIMIT)
        self._requests = Rates(_OPEN_RATE, _OPEN_BURST, _CLIENTS_LIMIT)
        if policy.serves != "off":
            transport.endpoint.relay = RelayTable(transport.driver.pass_on, rate=policy.rate)

    @property
    def table(self) -> RelayTable | None:
        """The circuits that we relay; None if we relay none."""
        return self._transport.endpoint.relay

    def members(self) -> list[MemberRelay]:
        """The peers that relay for us, the nearest first."""
        return sorted(self._members.values(), key=lambda relay: relay.rtt)

    def common(self, identity: Identity) -> list[MemberRelay]:
        """Those of them that this peer may use, too, by the whole way to it; the nearest first."""
        connection = self._transport.endpoint.connections.get(identity)
        named = self._named.get(connection) if connection is not None else None
        if not named:
            return []
        own = self._transport.endpoint.credentials.identity
        found = []
        for relay in self._members.values():
            rest = named.get(relay_tag(identity, own, relay.identity))
            if rest is not None:
                found.append((relay.rtt + rest / 1000, relay.identity, relay))
        return [relay for _, _, relay in sorted(found, key=lambda each: each[:2])]

    def views(self) -> list[RelayView]:
        """The same, for people."""
        found = []
        for relay in self.members():
            peer, path, terms = self._book.get(relay.identity), relay.path(), self._told.get(relay.connection)
            rtt = path.recovery.rtt if path is not None else None
            found.append(
                RelayView(
                    identity=identity_text(relay.identity),
                    name=peer.name if peer is not None else "",
                    connected=relay.connected,
                    rtt_ms=round(rtt.smoothed * 1000, 3) if rtt is not None and rtt.sampled else None,
                    rate=terms.rate if terms is not None else 0,
                    jurisdiction=terms.jurisdiction if terms is not None else "",
                )
            )
        return found

    def relayed(self) -> RelayedView | None:
        """What we relay for others."""
        table = self.table
        if table is None:
            return None
        return RelayedView(len(table), table.forwarded_bytes, table.dropped_bytes, table.rate, self.policy.jurisdiction)

    @property
    def refused(self) -> list[Identity]:
        """Those that would relay for us, if we let relays there: rendezvous, and peers."""
        told = [
            *self._terms.items(),
            *(
                (connection.peer, terms)
                for connection, terms in self._told.items()
                if self._book.trusts(connection.peer)
            ),
        ]
        return [identity for identity, terms in told if terms.relays and not self.policy.allows(terms)]

    # --- what happens ----------------------------------------------------------------------------------------------

    def greet(self, connection: Connection) -> None:
        """A peer that we trust is there: it hears what we have to say about relays."""
        if self.policy.serves != "off":
            connection.say(control.RELAYING, Relaying(True, self.policy.rate, self.policy.jurisdiction).encode())
        self._name_relays(connection)
        self._judge(connection)

    def part(self, connection: Connection) -> None:
        """A peer is not trusted any more."""
        if control.RELAYING in connection.words:
            connection.say(control.RELAYING, Relaying(False).encode())
        if control.RELAYS in connection.words:
            connection.say(control.RELAYS, encode_relays({}))
        if self.table is not None:
            self.table.forget(connection)
        self._judge(connection)

    def on_relaying(self, connection: Connection, relaying: Relaying) -> bool:
        """Whether it was heard: nobody changes its mind so often."""
        if not self._words.take(self._transport.host.now(), connection.peer):
            return False
        if connection.peer in self._servers:
            self._terms[connection.peer] = relaying
            self._transport.endpoint.relays_used.set_quota(connection.peer, relaying.rate)
            self.use_server(connection.peer, self._servers[connection.peer])
            return True
        self._told[connection] = relaying
        self._judge(connection)
        return True

    def allows(self, rendezvous: Identity) -> bool:
        """Whether this rendezvous may carry our traffic."""
        terms = self._terms.get(rendezvous)
        return self.policy.allows(terms) and (terms is None or terms.relays)

    def use_server(self, rendezvous: Identity, addresses: Iterable[Address]) -> None:
        """Where it is now. What it relays is taken if it may."""
        endpoint, known = self._transport.endpoint, self._servers[rendezvous]
        known.update(addresses)
        for address in known:
            if self.allows(rendezvous):
                endpoint.relays[address] = rendezvous
            elif endpoint.relays.pop(address, None) is not None:
                endpoint.relays_used.forget(address)

    def on_relays(self, connection: Connection, round_trips: dict[bytes, int]) -> None:
        if not self._words.take(self._transport.host.now(), connection.peer):
            return
        self._named[connection] = round_trips
        if self._book.trusts(connection.peer) and self.common(connection.peer):
            self._on_common(connection)

    def on_paths(self, connection: Connection) -> None:
        if connection.peer in self._members:
            self._judge(connection)

    def on_closed(self, connection: Connection) -> None:
        self._told.pop(connection, None)
        self._named.pop(connection, None)
        self._judge(connection)

    def _judge(self, connection: Connection) -> None:
        """Whether this peer relays for us now, and from where."""
        identity, endpoint = connection.peer, self._transport.endpoint
        relaying = self._told.get(connection)
        member = self._members.get(identity)
        if member is not None and member.connection is not connection:
            return
        usable = relaying is not None and relaying.relays and self.policy.allows(relaying)
        if relaying is None or not usable or not self._book.trusts(identity):
            if member is not None:
                del self._members[identity]
                endpoint.relays_used.set_quota(identity, 0)
                self._settle_addresses(member, set())
                self._name_relays_to_all()
            return
        if member is None:
            member = self._members[identity] = MemberRelay(self._transport, connection)
            self._remember(identity)
        session = connection.session
        direct = (
            {path.route.remote for path in session.paths if not path.route.relayed} if session is not None else set()
        )
        self._settle_addresses(member, direct or member.addresses)
        endpoint.relays_used.set_quota(identity, relaying.rate)
        self._name_relays_to_all()
        if member.connected:
            for each in endpoint.connections.values():
                if member in self.common(each.peer):
                    self._on_common(each)

    def _remember(self, identity: Identity) -> None:
        self._learnt.set()
        self._learnt.clear()
        if self.remembered[:1] != [identity]:
            others = [each for each in self.remembered if each != identity]
            self.remembered = [identity, *others][:RELAYS_LIMIT]
            self._on_learnt(b"".join(self.remembered))

    def _settle_addresses(self, member: MemberRelay, addresses: set[Address]) -> None:
        endpoint = self._transport.endpoint
        for new in addresses - member.addresses:
            endpoint.relays.setdefault(new, member.identity)
        path = member.path()
        if path is not None and addresses:  # it may have moved: its circuits lead on from where it is now
            endpoint.relays_used.move(self._transport.host.now(), member.identity, path.route.local, path.route.remote)
        for gone in member.addresses - addresses:
            if endpoint.relays.get(gone) == member.identity:
                if not addresses:
                    endpoint.relays_used.forget(gone)
                del endpoint.relays[gone]
        member.addresses = addresses

    def absent(self) -> list[Identity]:
        """Peers that relay for us as far as we know, and are not connected; the latest that did first."""
        return [
            identity
            for identity in self.remembered
            if self._transport.live(identity) is None and self._book.trusts(identity)
        ]

    async def learnt(self) -> None:
        """Until a peer says that it relays for us."""
        await self._learnt.wait()

    def settle(self, *, alone: bool) -> None:
        """Now and then: relays that we use, or have instead of any rendezvous (`alone`), are kept awake."""
        used = {
            path.route.remote
            for connection in self._transport.endpoint.connections.values()
            if connection.session is not None
            for path in connection.session.paths
            if path.route.relayed
        }
        for member in self._members.values():
            member.connection.keepalive = KEEPALIVE if alone or used & member.addresses else None
        self._name_relays_to_all()

    # --- what we say -----------------------------------------------------------------------------------------------

    def _name_relays_to_all(self) -> None:
        found = {relay.identity: _milliseconds(relay.rtt) for relay in self.members()[:RELAYS_LIMIT]}
        if found.keys() == self._said.keys() and all(not _differ(ms, self._said[each]) for each, ms in found.items()):
            return
        self._said = found
        for connection in self._transport.endpoint.connections.values():
            if self._book.trusts(connection.peer):
                self._name_relays(connection)

    def _name_relays(self, connection: Connection) -> None:
        own, peer = self._transport.endpoint.credentials.identity, connection.peer
        named = {relay_tag(own, peer, relay): ms for relay, ms in self._said.items() if relay != peer}
        if named or control.RELAYS in connection.words:
            connection.say(control.RELAYS, encode_relays(named))

    # --- being one -------------------------------------------------------------------------------------------------

    async def serve(self, stream: Stream) -> None:
        """The service `relay`: whoever reaches it is trusted."""
        target = parse_open(*await _frame(stream))
        host, table = self._transport.host, self.table
        if not self._requests.take(host.now(), stream.peer):
            raise LimitError("too many circuits asked for", code="too-many-requests")
        asker, other = (self._transport.live(identity) for identity in (stream.peer, target))
        circuit = 0
        if table is not None and asker is not None and other is not None and self._book.trusts(target):
            try:
                circuit = table.open(host.now(), asker, other, int.from_bytes(host.random(4), "big"))
            except LimitError:
                raise
            except CoveyError:  # one of them is only relayed to us
                circuit = 0
        await stream.write(encode_opened(circuit))


async def _frame(stream: Stream) -> tuple[int, bytes]:
    """The one frame of a stream of the service."""
    reader = FrameReader(FRAME_LIMIT)
    frames: list[tuple[int, bytes]] = []
    while not frames:
        data = await stream.read()
        if not data:
            raise ParseError("a relay stream that ends without a frame")
        frames = reader.feed(data)
    return frames[0]


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), UNKNOWN_MS)


def _differ(one: int, two: int) -> bool:
    return abs(one - two) > max(_TELL_AGAIN_MS, _TELL_AGAIN_SHARE * max(one, two))
